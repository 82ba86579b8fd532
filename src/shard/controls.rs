//! Controls from other endpoints, and this shard's part as a home of queues.

use amqp::Method;
use model::mutant::{self, Mutant};
use model::queue::Get;
use model::{ChannelId, ConsumerSpec, Now, QueueId, Refusal, ShardId, Ticket};

use super::conn::pause;
use super::machine::Shard;
use super::message::{Alarms, Control, QueueAnswer, QueueRequest};

impl Shard {
    pub(super) fn control(&mut self, from: ShardId, control: Control, now: Now) {
        match control {
            Control::Answer(ticket, answer) => self.answered(ticket, answer, now),
            Control::Apply(version, change) => {
                self.topology.apply(version, &change);
                self.peers.get(from).out.control(Control::Applied(version));
            }
            Control::Settled(version) => self.settled = version,
            Control::Create(vhost, spec) => {
                let id = spec.id;
                self.home.create(vhost, spec);
                self.peers.get(from).out.control(Control::Created(id));
            }
            Control::Freeze { queue, if_unused, if_empty } => {
                let frozen = self.home.freeze(queue, if_unused, if_empty);
                self.with_queue(queue, |queue, door| queue.dispatch(door));
                self.peers.get(from).out.control(Control::Frozen(queue, frozen));
            }
            Control::Drop(queue) => self.drop_queue(queue),
            Control::Alarm(alarms) => self.set_alarms(alarms),
            Control::QueueAsk(ticket, queue, request) => {
                self.queue_asked(from, ticket, queue, request);
            }
            Control::QueueAnswer(ticket, answer) => self.queue_answer(ticket, answer, now),
            Control::ChannelGone(channel) => {
                self.channel_gone(channel);
                self.peers.get(from).out.control(Control::ChannelReleased(channel));
            }
            Control::ChannelReleased(channel) => self.channel_released(channel),
            Control::Limit(conn, channel, limited) => {
                self.limit_here(channel, limited);
                self.peers.get(from).out.control(Control::Limited(conn, channel));
            }
            Control::Limited(conn, channel) => self.limit_applied(conn, channel),
            Control::ConnGone(conn) => {
                self.home.links.remove(&conn);
            }
            Control::ConsumerGone(conn, channel, consumer) => {
                self.consumer_gone(conn, channel, consumer);
            }
            Control::Refused(enqueue) => {
                if let Some(of) = self.peers.get(from).refused(enqueue) {
                    self.clients.refuse(of.conn, of.channel, of.publish);
                }
            }
            Control::Left => self.peer_left(),
            // These go to the coordinator only.
            Control::Ask(..)
            | Control::Applied(_)
            | Control::Created(_)
            | Control::Frozen(..)
            | Control::Unused(_)
            | Control::Memory(_)
            | Control::ConnectionLeft(_)
            | Control::ChannelLeft(_) => {}
        }
    }

    fn queue_asked(&mut self, from: ShardId, ticket: Ticket, queue: QueueId, what: QueueRequest) {
        if let Some(answer) = self.queue_request(ticket, queue, what) {
            self.peers.get(from).out.control(Control::QueueAnswer(ticket, answer));
        }
        // What a new consumer gets comes behind its consume-ok.
        self.with_queue(queue, |queue, door| queue.dispatch(door));
    }

    /// Does what was asked of a queue of this shard. `None`: the answer comes by itself.
    pub(super) fn queue_request(
        &mut self,
        ticket: Ticket,
        id: QueueId,
        request: QueueRequest,
    ) -> Option<QueueAnswer> {
        let kept = self.home.queues.get(&id).filter(|kept| !kept.queue.frozen());
        let cancels = matches!(request, QueueRequest::Cancel(_));
        let Some(kept) = kept else {
            // A consumer of a queue that goes away gets nothing more in any case.
            let cancelled = cancels.then_some(QueueAnswer::Cancelled);
            return Some(cancelled.unwrap_or(QueueAnswer::Frozen(id)));
        };
        let takes = matches!(request, QueueRequest::Consume(_) | QueueRequest::Get { .. });
        if takes && kept.queue.broken() {
            return Some(QueueAnswer::Refused(Refusal::Broken(kept.resource())));
        }
        match request {
            QueueRequest::Count => {
                let consumers = kept.queue.consumers().len();
                Some(QueueAnswer::Counts(kept.queue.ready(), consumers as u32))
            }
            QueueRequest::Consume(consumer) => Some(self.add_consumer(id, consumer)),
            QueueRequest::Cancel(consumer) => {
                if mutant::active(Mutant::CancelKeepsConsumer) {
                    return Some(QueueAnswer::Cancelled);
                }
                let unused = self.with_queue(id, |queue, _| queue.cancel(consumer));
                self.tell_unused(id, unused);
                Some(QueueAnswer::Cancelled)
            }
            QueueRequest::Get { conn, channel, no_ack } => {
                self.home.involve(channel, id);
                let get = Get { ticket, conn, channel, no_ack };
                self.with_queue(id, |queue, door| queue.get(get, door));
                None
            }
            QueueRequest::Purge => {
                self.with_queue(id, |queue, door| queue.purge(door)).map(QueueAnswer::Purged)
            }
        }
    }

    pub(super) fn add_consumer(&mut self, id: QueueId, consumer: ConsumerSpec) -> QueueAnswer {
        let Some(kept) = self.home.queues.get(&id) else {
            return QueueAnswer::Frozen(id);
        };
        if !kept.queue.admits(consumer.exclusive) {
            return QueueAnswer::Refused(Refusal::ExclusiveUse(kept.resource()));
        }
        self.home.involve(consumer.channel, id);
        self.home.link(consumer.conn);
        self.with_queue(id, |queue, door| {
            queue.consume(consumer);
            if mutant::active(Mutant::DeliverBeforeConsumeOk) {
                queue.dispatch(door);
            }
        });
        QueueAnswer::Consuming
    }

    /// An auto-delete queue whose last consumer went asks for its end.
    fn tell_unused(&mut self, id: QueueId, unused: Option<bool>) {
        if unused == Some(true) && !mutant::active(Mutant::AutoDeleteNever) {
            let coordinator = self.coordinator();
            self.peers.get(coordinator).out.control(Control::Unused(id));
        }
    }

    /// Takes back what a channel has not settled, and its consumers.
    pub(super) fn channel_gone(&mut self, channel: ChannelId) {
        for id in self.home.channels.remove(&channel).unwrap_or_default() {
            let unused = self.with_queue(id, |queue, door| {
                if mutant::active(Mutant::ChannelKeepsUnacked) {
                    return false;
                }
                let unused = queue.channel_gone(channel, door);
                queue.dispatch(door);
                unused
            });
            self.tell_unused(id, unused);
            if self.is_reply_queue(id) {
                self.drop_queue(id);
            }
        }
    }

    pub(super) fn drop_queue(&mut self, id: QueueId) {
        self.with_queue(id, |queue, door| queue.let_go(door));
        self.store.forget_queue(id);
        let consumers = self.home.drop_queue(id);
        self.consumers_gone(consumers);
    }

    /// A queue has given these consumers up.
    pub(super) fn consumers_gone(&mut self, consumers: Vec<ConsumerSpec>) {
        for ConsumerSpec { id: consumer, conn, channel, .. } in consumers {
            let there = conn.origin();
            if there == self.me {
                self.consumer_gone(conn, channel, consumer);
            } else {
                let gone = Control::ConsumerGone(conn, channel, consumer);
                self.peers.get(there).out.control(gone);
            }
        }
    }

    fn set_alarms(&mut self, alarms: Alarms) {
        self.alarms = alarms;
        if alarms.any() {
            // Who was told of one before is not told of another, as in RabbitMQ.
            return;
        }
        let mut ids: Vec<_> = self.clients.conns.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            self.unpause(id, pause::ALARM);
            let Some(conn) = self.clients.get(id) else {
                continue;
            };
            if std::mem::take(&mut conn.blocked) {
                self.clients.send(id, 0, &Method::ConnectionUnblocked {});
            }
        }
    }

    /// Stops reading a publisher because something is short, and tells it once.
    pub(super) fn block(&mut self, id: model::ConnId) {
        let reason = self.alarms.reason();
        let Some(conn) = self.clients.get(id) else { return };
        conn.paused |= pause::ALARM;
        if conn.handshake.capabilities().blocked && !conn.blocked {
            conn.blocked = true;
            self.clients.send(id, 0, &Method::ConnectionBlocked { reason });
        }
        self.clients.touch(id);
    }
}
