//! Controls from other endpoints.

use model::{Now, QueueId, RequestId, ShardId};

use super::machine::Shard;
use crate::mesh::control::{Control, QueueAnswer, QueueRequest};
use crate::mesh::enqueue::Awaiting;
use crate::queues::LateAnswer;

impl Shard {
    pub(crate) fn control(&mut self, from: ShardId, control: Control, now: Now) {
        let Some(control) = self.answer_to_command(control, now) else { return };
        let (sessions, mut broker) = self.parts(now);
        match control {
            Control::Answer(ticket, answer) => sessions.answered(ticket, answer, &mut broker),
            Control::Apply(version, change) => {
                sessions.apply(version, &change, &mut broker);
                self.bring_history(&change, now);
                self.applied(version);
            }
            Control::Settled(version) => sessions.settle_topology(version),
            Control::Alarm(alarms) => sessions.set_alarms(alarms),
            Control::QueueAnswer(ticket, answer) => {
                sessions.queue_answered(ticket, answer, &mut broker);
            }
            Control::ChannelReleased(channel) => sessions.channel_released(channel, now),
            Control::Limited(conn, channel) => {
                sessions.limit_applied(conn, channel, &mut broker);
            }
            Control::Unfit(unfit) => sessions.close_unfit(unfit, &mut broker),
            Control::Overdue(overdue) => sessions.close_overdue(overdue, &mut broker),
            Control::Stuck(conn) => sessions.connections().stuck(conn),
            Control::ConsumerGone(conn, channel, consumer) => {
                sessions.connections().consumer_gone(conn, channel, consumer);
            }
            Control::Refused(enqueue) => {
                let refused = broker.peers.get(from).refused(enqueue);
                if let Some(letter) = refused.filter(Awaiting::is_dead_letter) {
                    broker.letters.refused(letter.publish);
                } else if let Some(of) = refused {
                    sessions.connections().refuse(of.conn, of.channel, of.publish);
                }
            }
            Control::Held(enqueue) => broker.peers.get(from).held_there(enqueue),
            Control::Finished(ended) => broker.finished(sessions.connections(), from, &ended),
            Control::Left => self.stopping.peer_left(),
            control => self.home_control(from, control, now),
        }
    }

    /// Controls for this shard as a home of queues.
    fn home_control(&mut self, from: ShardId, control: Control, now: Now) {
        let (queues, mut output) = self.home();
        match control {
            Control::Create(vhost, spec) => {
                let id = spec.id;
                queues.create(vhost, spec, &mut output);
                self.tell(from, Control::Created(id));
            }
            Control::Reconfigure(queue, arguments) => {
                queues.reconfigure(queue, &arguments, &mut output);
                self.tell(from, Control::Reconfigured(queue));
            }
            Control::Freeze { queue, if_unused, if_empty } => {
                if let Some(frozen) = queues.freeze(queue, if_unused, if_empty, &mut output) {
                    self.frozen(from, queue, frozen);
                }
            }
            Control::Drop(queue) => queues.delete(queue, &mut output),
            Control::QueueAsk(ticket, queue, request) => {
                self.queue_asked(from, ticket, queue, request, now);
            }
            Control::ChannelGone(channel) => {
                if queues.channel_gone(channel, &mut output) {
                    self.tell(from, Control::ChannelReleased(channel));
                }
            }
            Control::Limit(conn, channel, limited) => {
                if queues.limit((conn, channel), limited, &mut output) {
                    self.tell(from, Control::Limited(conn, channel));
                }
            }
            Control::ConnGone(conn) => queues.forget_connection(conn),
            // The coordinator is told, and nobody else.
            _ => debug_assert!(false, "{control:?} is for the coordinator"),
        }
    }

    fn queue_asked(
        &mut self,
        from: ShardId,
        ticket: RequestId,
        queue: QueueId,
        request: QueueRequest,
        _now: Now,
    ) {
        let (queues, mut output) = self.home();
        if let Some(answer) = queues.request(ticket, queue, request, &mut output) {
            output.peers.get(from).out.control(Control::QueueAnswer(ticket, answer));
        }
        // What a new consumer gets comes behind its consume-ok.
        queues.dispatch(queue, &mut output);
    }

    /// Goes on with what the queues do in pieces, and answers what has waited for that.
    pub(super) fn go_on_with_queues(&mut self, now: Now) {
        let (queues, mut output) = self.home();
        queues.go_on(&mut output);
        loop {
            let (queues, mut output) = self.home();
            let Some(answer) = queues.next_answer(&mut output) else { return };
            self.answer_late(answer, now);
        }
    }

    fn answer_late(&mut self, answer: LateAnswer, now: Now) {
        let me = self.me;
        match answer {
            LateAnswer::Request(ticket, answer, queue) => {
                self.answer(ticket, answer, now);
                let (queues, mut output) = self.home();
                queues.dispatch(queue, &mut output);
            }
            LateAnswer::Frozen(queue, frozen) => {
                let coordinator = self.peers.coordinator();
                self.frozen(coordinator, queue, frozen);
            }
            LateAnswer::Released(channel) if channel.origin() == me => {
                self.sessions.channel_released(channel, now);
            }
            LateAnswer::Released(channel) => {
                self.tell(channel.origin(), Control::ChannelReleased(channel));
            }
            LateAnswer::Limited(conn, channel) if conn.origin() == me => {
                let (sessions, mut broker) = self.parts(now);
                sessions.limit_applied(conn, channel, &mut broker);
            }
            LateAnswer::Limited(conn, channel) => {
                self.tell(conn.origin(), Control::Limited(conn, channel));
            }
        }
    }

    /// Answers a request to a queue of this shard.
    pub(super) fn answer(&mut self, ticket: RequestId, answer: QueueAnswer, now: Now) {
        let there = ticket.origin();
        let answer = Control::QueueAnswer(ticket, answer);
        if there != self.me {
            return self.tell(there, answer);
        }
        // A command's request is answered like a client's.
        if let Some(Control::QueueAnswer(ticket, answer)) = self.answer_to_command(answer, now) {
            let (sessions, mut broker) = self.parts(now);
            sessions.queue_answered(ticket, answer, &mut broker);
        }
    }
}
