//! Questions to the coordinator and to queues' homes, and what follows their answers.

use amqp::Method;
use model::mutant::{self, Mutant};
use model::{ChannelId, ConnId, Fault, Now, QueueId, Refusal, ShardId, Ticket};

use super::clients::{Then, Waiting};
use super::machine::Shard;
use super::message::{Answer, Control, QueueAnswer, QueueRequest, Request};

/// A method being obeyed: whose it is, and its payload to do it over later.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub conn: ConnId,
    pub number: u16,
    pub channel: ChannelId,
    pub payload: &'a [u8],
}

impl Shard {
    /// Asks the coordinator; the channel waits for the answer.
    pub(super) fn ask(&mut self, call: Call<'_>, request: Request, then: Then) {
        let ticket = self.wait(call, then);
        let coordinator = self.coordinator();
        self.peers.get(coordinator).out.control(Control::Ask(ticket, request));
    }

    /// Asks a queue's home, which may be here; the channel waits for the answer.
    pub(super) fn ask_queue(
        &mut self,
        call: Call<'_>,
        (queue, home): (QueueId, ShardId),
        request: QueueRequest,
        then: Then,
        now: Now,
    ) {
        let ticket = self.wait(call, then);
        if home != self.me {
            self.peers.get(home).out.control(Control::QueueAsk(ticket, queue, request));
            return;
        }
        if let Some(answer) = self.queue_request(ticket, queue, request) {
            self.queue_answer(ticket, answer, now);
        }
        self.with_queue(queue, |queue, door| queue.dispatch(door));
    }

    pub(super) fn wait(&mut self, call: Call<'_>, then: Then) -> Ticket {
        let ticket: Ticket = self.ids.fresh();
        let Call { conn, number, channel, payload } = call;
        let waiting = Waiting { conn, number, channel, method: payload.to_vec(), then };
        self.clients.tickets.insert(ticket, waiting);
        let channel = self.clients.get(conn).and_then(|conn| conn.channel(number));
        if let Some(channel) = channel {
            channel.barrier = (!mutant::active(Mutant::NoBarrier)).then_some(ticket);
        }
        ticket
    }

    /// The coordinator has answered.
    pub(super) fn answered(&mut self, ticket: Ticket, answer: Answer, now: Now) {
        let Some(waiting) = self.clients.answered(ticket) else {
            return;
        };
        let (id, number) = (waiting.conn, waiting.number);
        match (waiting.then.clone(), answer) {
            (Then::Login, answer) => self.login_answered(id, &answer, now),
            (Then::OpenVhost(vhost), answer) => self.vhost_answered(id, vhost, &answer, now),
            (Then::SecretUpdated, answer) => self.secret_answered(id, &answer, now),
            (Then::Released, _) => self.released_one(id),
            (_, Answer::Refused(refusal)) => self.refuse(&waiting, &refusal, now),
            (Then::OpenChannel, _) => {
                self.clients.send(id, number, &Method::ChannelOpenOk { channel_id: &[] });
            }
            (Then::Again, _) => self.again(&waiting, now),
            (Then::Reply(reply), _) => {
                if let Some(method) = reply.method() {
                    self.clients.send(id, number, &method);
                }
            }
            (Then::Declared(name), _) => self.declared(waiting.call(), name, (0, 0)),
            (Then::Deleted { nowait }, Answer::Deleted(message_count)) if !nowait => {
                self.clients.send(id, number, &Method::QueueDeleteOk { message_count });
            }
            _ => {}
        }
    }

    /// A queue's home has answered.
    pub(super) fn queue_answer(&mut self, ticket: Ticket, answer: QueueAnswer, now: Now) {
        let Some(waiting) = self.clients.answered(ticket) else {
            return;
        };
        let (id, number) = (waiting.conn, waiting.number);
        match (waiting.then.clone(), answer) {
            (Then::RepliesDeclared(name), answer) => {
                self.replies_declared(&waiting, name, &answer, now);
            }
            (_, QueueAnswer::Refused(refusal)) => self.refuse(&waiting, &refusal, now),
            (_, QueueAnswer::Frozen(_)) if mutant::active(Mutant::FrozenNotFound) => {
                self.refuse(&waiting, &Refusal::NotFound(model::Resource::queue("/", "")), now);
            }
            (_, QueueAnswer::Frozen(frozen)) => self.wait_deleted(&waiting, frozen),
            (Then::Declared(name), QueueAnswer::Counts(messages, consumers)) => {
                self.declared(waiting.call(), name, (messages, consumers));
            }
            (Then::Consuming { tag, nowait: false, .. }, _) => {
                let method = Method::BasicConsumeOk { consumer_tag: &tag };
                self.clients.send(id, number, &method);
            }
            (Then::Cancelled { consumer, nowait }, _) => self.cancelled(&waiting, consumer, nowait),
            (Then::Got, _) => {
                self.clients.send(id, number, &Method::BasicGetEmpty { cluster_id: "" });
            }
            (Then::Purged { nowait: false }, QueueAnswer::Purged(message_count)) => {
                self.clients.send(id, number, &Method::QueuePurgeOk { message_count });
            }
            _ => {}
        }
    }

    /// The queue is on its way out: the method is done over when it is gone everywhere.
    fn wait_deleted(&mut self, waiting: &Waiting, queue: QueueId) {
        if let Then::Consuming { consumer, .. } = waiting.then {
            self.forget_consumer(waiting.conn, waiting.channel, consumer);
        }
        let call = waiting.call();
        self.ask(call, Request::AwaitDeleted(queue), Then::Again);
    }

    fn again(&mut self, waiting: &Waiting, now: Now) {
        // It was read once before, so it reads.
        if let Ok(method) = Method::read(&waiting.method) {
            self.method(waiting.conn, waiting.number, &method, &waiting.method, now);
        }
    }

    pub(super) fn refuse(&mut self, waiting: &Waiting, refusal: &Refusal, now: Now) {
        if let Then::Consuming { consumer, .. } = waiting.then {
            self.forget_consumer(waiting.conn, waiting.channel, consumer);
        }
        let fault: Fault = refusal.fault(waiting.method_id());
        self.fail(waiting.conn, waiting.number, &fault, now);
    }
}

impl Waiting {
    pub(super) fn call(&self) -> Call<'_> {
        let Waiting { conn, number, channel, ref method, .. } = *self;
        Call { conn, number, channel, payload: method }
    }

    fn method_id(&self) -> (u16, u16) {
        Method::read(&self.method).map_or((0, 0), |method| method.id())
    }
}
