//! Routes the output of this shard's queues: into a connection here, or to another shard.

use model::queue::{Delivery, EnqueueEnd, EnqueueId, Overdue, Unfit};
use model::{Ask, ChannelId, ConnId, ConsumerId, QueueId, RequestId, ShardId};

use crate::mesh::control::{Control, QueueAnswer};
use crate::mesh::peers::Peers;
use crate::queues::HomeOutput;
use crate::sessions::Connections;

/// What queues do to the rest of the broker.
pub(crate) struct RoutedOutput<'a> {
    pub me: ShardId,
    pub connections: &'a mut Connections,
    pub peers: &'a mut Peers,
}

impl HomeOutput for RoutedOutput<'_> {
    fn ask(&mut self, queue: QueueId, ask: Ask) -> Option<u32> {
        let there = ask.conn.origin();
        if there == self.me {
            // A channel here is asked for one permit at a time: consumers take turns.
            return Some(self.connections.permits(self.me, queue, Ask { count: 1, ..ask }));
        }
        self.peers.get(there).out.ask(queue, ask);
        None
    }

    #[inline]
    fn deliver(&mut self, Delivery { to, message }: Delivery<'_>) {
        let there = to.conn.origin();
        if there == self.me {
            self.connections.deliver(self.me, to, message);
        } else {
            self.peers.get(there).out.deliver(to, message);
        }
    }

    fn got(&mut self, ticket: RequestId, remaining: u32, Delivery { to, message }: Delivery<'_>) {
        let there = ticket.origin();
        if there == self.me {
            self.connections.got(self.me, ticket, remaining, to, message);
        } else {
            self.peers.get(there).out.got(ticket, remaining, to, message);
        }
    }

    fn empty(&mut self, ticket: RequestId) {
        if ticket.origin() == self.me {
            self.connections.got_nothing(ticket);
        } else {
            let answer = Control::QueueAnswer(ticket, QueueAnswer::Empty);
            self.peers.get(ticket.origin()).out.control(answer);
        }
    }

    fn unfit(&mut self, unfit: Unfit) {
        let there = unfit.conn.origin();
        if there == self.me {
            self.connections.cannot_take(unfit);
        } else {
            self.peers.get(there).out.control(Control::Unfit(unfit));
        }
    }

    fn overdue(&mut self, overdue: Overdue) {
        let there = overdue.conn.origin();
        if there == self.me {
            self.connections.too_slow(overdue);
        } else {
            self.peers.get(there).out.control(Control::Overdue(overdue));
        }
    }

    fn stuck(&mut self, conn: ConnId) {
        let there = conn.origin();
        if there == self.me {
            self.connections.stuck(conn);
        } else {
            self.peers.get(there).out.control(Control::Stuck(conn));
        }
    }

    fn consumer_gone(&mut self, conn: ConnId, channel: ChannelId, consumer: ConsumerId) {
        let there = conn.origin();
        if there == self.me {
            self.connections.consumer_gone(conn, channel, consumer);
        } else {
            let gone = Control::ConsumerGone(conn, channel, consumer);
            self.peers.get(there).out.control(gone);
        }
    }

    fn hold(&mut self, source: ShardId) -> EnqueueId {
        let number = self.peers.get(source).hold(source == self.me);
        EnqueueId { source, number }
    }

    fn finish(&mut self, enqueue: EnqueueId, end: EnqueueEnd) {
        self.peers.get(enqueue.source).held.finish(enqueue.number, end);
    }

    fn unused(&mut self, queue: QueueId) {
        let coordinator = self.peers.coordinator();
        self.peers.get(coordinator).out.control(Control::Unused(queue));
    }
}
