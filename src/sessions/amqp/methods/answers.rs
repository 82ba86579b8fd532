//! What follows the answers that methods wait for.

use amqp::Method;
use model::access::Access;
use model::mutant::{self, Mutant};
use model::{QueueId, Refusal, Resource};

use crate::mesh::control::{Answer, QueueAnswer, Request};
use crate::sessions::amqp::pending::{MethodStep, PendingMethod};
use crate::sessions::amqp::send::MethodCall;
use crate::sessions::broker::BrokerAccess;
use crate::sessions::connections::ChannelRef;
use crate::sessions::state::Sessions;

impl Sessions {
    /// The coordinator has answered a method.
    pub(in crate::sessions) fn method_answered(
        &mut self,
        at: ChannelRef,
        method: PendingMethod,
        answer: Answer,
        broker: &mut impl BrokerAccess,
    ) {
        let call = MethodCall { at, payload: &method.payload };
        match (&method.step, answer) {
            (MethodStep::Login(attempt), answer) => {
                self.login_answered(at.conn, attempt, &answer, broker);
            }
            (MethodStep::OpenVhost(vhost), answer) => {
                self.vhost_answered(at.conn, vhost.clone(), &answer, broker);
            }
            (MethodStep::SecretUpdated, answer) => self.secret_answered(at.conn, &answer, broker),
            (MethodStep::Permitted, Answer::Permitted(answers)) => {
                self.remember_rights(at, answers);
                self.again(at, &method, broker);
            }
            (MethodStep::PublishPermitted, Answer::Permitted(answers)) => {
                self.remember_rights(at, answers);
                self.publish_permitted(at, broker);
            }
            // RabbitMQ names no method here.
            (MethodStep::OpenChannel, Answer::Refused(refusal)) => {
                self.fail(at.conn, at.number, &refusal.fault((0, 0)), broker);
            }
            (_, Answer::Refused(refusal)) => self.refuse(at, &method, &refusal, broker),
            (MethodStep::OpenChannel, _) => {
                self.connections.reply(at, &Method::ChannelOpenOk { channel_id: &[] });
            }
            (MethodStep::Again, _) => self.again(at, &method, broker),
            (MethodStep::Reply(reply), _) => {
                if let Some(reply) = reply.method() {
                    self.connections.reply(at, &reply);
                }
            }
            (MethodStep::Declared(name), _) => self.declared(call, name.clone(), (0, 0)),
            (MethodStep::Deleted { nowait }, Answer::Deleted(message_count)) if !nowait => {
                self.connections.reply(at, &Method::QueueDeleteOk { message_count });
            }
            _ => {}
        }
    }

    fn remember_rights(&mut self, at: ChannelRef, answers: Vec<(Access, bool)>) {
        if let Some(conn) = self.connections.get(at.conn) {
            conn.access.answered(answers.into_iter());
        }
    }

    /// A queue has answered a method.
    pub(in crate::sessions) fn method_queue_answered(
        &mut self,
        at: ChannelRef,
        method: PendingMethod,
        answer: QueueAnswer,
        broker: &mut impl BrokerAccess,
    ) {
        let call = MethodCall { at, payload: &method.payload };
        match (&method.step, answer) {
            (MethodStep::RepliesDeclared(name), answer) => {
                self.replies_declared(at, &method, name.clone(), &answer, broker);
            }
            (_, QueueAnswer::Refused(refusal)) => self.refuse(at, &method, &refusal, broker),
            (_, QueueAnswer::Frozen(_)) if mutant::active(Mutant::FrozenNotFound) => {
                let refusal = Refusal::NotFound(Resource::queue("/", ""));
                self.refuse(at, &method, &refusal, broker);
            }
            (_, QueueAnswer::Frozen(frozen)) => self.wait_deleted(at, &method, frozen, broker),
            (MethodStep::Declared(name), QueueAnswer::Counts(messages, consumers)) => {
                self.declared(call, name.clone(), (messages, consumers));
            }
            (MethodStep::Consuming { tag, nowait: false, .. }, _) => {
                self.connections.reply(at, &Method::BasicConsumeOk { consumer_tag: tag });
            }
            (MethodStep::Cancelled { consumer, nowait }, _) => {
                self.cancelled(call, *consumer, *nowait);
            }
            (MethodStep::Got, _) => {
                if let Some(conn) = self.connections.get(at.conn) {
                    conn.got_nothing(at.number);
                    self.connections.touch(at.conn);
                }
            }
            (MethodStep::Purged { nowait: false }, QueueAnswer::Purged(message_count)) => {
                self.connections.reply(at, &Method::QueuePurgeOk { message_count });
            }
            _ => {}
        }
    }

    /// The queue is on its way out: the method is done over when it is gone everywhere.
    fn wait_deleted(
        &mut self,
        at: ChannelRef,
        method: &PendingMethod,
        queue: QueueId,
        broker: &mut impl BrokerAccess,
    ) {
        self.forget_consumer(at, &method.step);
        let call = MethodCall { at, payload: &method.payload };
        self.ask_for(call, Request::AwaitDeleted(queue), MethodStep::Again, broker);
    }

    fn again(&mut self, at: ChannelRef, pending: &PendingMethod, broker: &mut impl BrokerAccess) {
        let method = Method::read(&pending.payload);
        debug_assert!(method.is_ok(), "it was read once before");
        if let Ok(method) = method {
            self.method(at.conn, at.number, &method, &pending.payload, broker);
        }
    }

    /// The request of a method was refused.
    pub(super) fn refuse(
        &mut self,
        at: ChannelRef,
        method: &PendingMethod,
        refusal: &Refusal,
        broker: &mut impl BrokerAccess,
    ) {
        self.forget_consumer(at, &method.step);
        self.fail(at.conn, at.number, &refusal.fault(method.id()), broker);
    }

    /// A consumer that its queue did not take.
    fn forget_consumer(&mut self, at: ChannelRef, step: &MethodStep) {
        if let MethodStep::Consuming { consumer, .. } = step
            && let Some((_, channel)) = self.connections.channel_by_id(at.conn, at.channel)
        {
            channel.remove_consumer(*consumer);
        }
    }
}
