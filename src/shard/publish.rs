//! One routed publish: into queues of this shard, or to their homes.

use model::mutant::{self, Mutant};
use model::{ChannelId, ConnId, Message, QueueId, ShardId};

use crate::mesh::enqueue::{Awaiting, EnqueueOutcome, cost, cost_of_copies};
use crate::sessions::{Connections, Published, Publisher, QueueAt, pause};
use crate::shard::broker::ShardBroker;

impl ShardBroker<'_> {
    /// Sends a message to its queues.
    #[inline(always)]
    pub(super) fn send(
        &mut self,
        connections: &mut Connections,
        publisher: Publisher,
        message: Message<'_>,
        queues: &mut [QueueAt],
    ) -> Published {
        let mut published = match queues {
            [] => Published::default(),
            [(queue, home)] => {
                let reply = publisher.mandatory && queue.is_direct_reply();
                let sent = if reply {
                    self.mandatory_reply(connections, publisher, (*queue, *home), message)
                } else {
                    None
                };
                // Not a closure: whether that is inlined would depend on what else changes.
                match sent {
                    Some(published) => published,
                    None => {
                        let queue = std::iter::once(*queue);
                        self.enqueue(connections, publisher, *home, queue, message)
                    }
                }
            }
            many => {
                many.sort_unstable_by_key(|(queue, home)| (*home, *queue));
                self.enqueue_many(connections, publisher, many, message)
            }
        };
        if mutant::active(Mutant::ConfirmByFirst) {
            published.waits = published.waits.min(1);
        }
        published
    }

    fn enqueue_many(
        &mut self,
        connections: &mut Connections,
        publisher: Publisher,
        by_home: &[QueueAt],
        message: Message<'_>,
    ) -> Published {
        let mut all = Published::default();
        for queues in by_home.chunk_by(|one, other| one.1 == other.1) {
            let home = queues.first().map(|(_, home)| *home).unwrap_or_default();
            let ids = queues.iter().map(|(queue, _)| *queue);
            let published = self.enqueue(connections, publisher, home, ids, message);
            all.waits += published.waits;
            all.refused |= published.refused;
        }
        all
    }

    /// Puts a message into queues of one home.
    #[inline(always)]
    fn enqueue(
        &mut self,
        connections: &mut Connections,
        publisher: Publisher,
        home: ShardId,
        queues: impl ExactSizeIterator<Item = QueueId>,
        message: Message<'_>,
    ) -> Published {
        let copies = queues.len();
        let flush_requested = message.persistent() && (publisher.confirms || publisher.tx);
        let mut refused = false;
        if home == self.me {
            let (own, mut output) = self.home(connections);
            let outcome = own.push_all(queues, message, home, &mut output);
            if !outcome.is_plain() {
                refused = self.entered(publisher, outcome);
            }
            if self.intake.backpressure {
                self.stall(connections, publisher.conn, home);
            }
            if copies > 1 {
                self.count_copies(connections, publisher.conn, cost_of_copies(message, copies));
            }
            if flush_requested {
                self.peers.get(home).progress.request_flush();
            } else if !outcome.held() {
                return Published { waits: 0, refused };
            }
        } else {
            self.peers.get(home).out.enqueue(queues, message, flush_requested);
        }
        let bytes = cost_of_copies(message, copies);
        let waits = self.sent(connections, publisher, home, bytes, message.persistent());
        Published { waits, refused }
    }

    /// The outcome of a message that a connection of this shard published to its own queues; true
    /// if the publisher is told that it was refused.
    fn entered(&mut self, publisher: Publisher, outcome: EnqueueOutcome) -> bool {
        if outcome.logged() {
            self.peers.get(self.me).progress.logged();
            self.intake.backpressure |= self.queues.backpressure();
        }
        outcome.refused() && (publisher.confirms || publisher.tx)
    }

    /// Counts what was sent to a home; 1 if the confirm waits for that.
    #[inline(always)]
    pub(super) fn sent(
        &mut self,
        connections: &mut Connections,
        publisher: Publisher,
        home: ShardId,
        bytes: u64,
        persistent: bool,
    ) -> u16 {
        let here = home == self.me;
        let early = mutant::active(Mutant::ConfirmTooEarly) && !here;
        let confirms = publisher.confirms && !early;
        let Publisher { conn, channel, .. } = publisher;
        let peer = self.peers.get(home);
        let enqueue = peer.send(bytes);
        if confirms {
            let publish = connections.next_publish(publisher);
            let awaiting = Awaiting { enqueue, conn, channel, publish };
            let durable = persistent && !mutant::active(Mutant::ConfirmByApplied);
            peer.wait(awaiting, durable);
        } else if publisher.tx && (!here || peer.holds(enqueue)) {
            peer.committed(Awaiting { enqueue, conn, channel, publish: 0 });
        }
        if !here && self.peers.full(home) {
            self.stall(connections, conn, home);
        }
        u16::from(confirms)
    }

    /// What goes to many queues is small to send and large to keep: beyond a window's bytes the
    /// rest waits for the next turn, so that others have theirs and an alarm can come between.
    fn count_copies(&mut self, connections: &mut Connections, id: ConnId, bytes: u64) {
        self.intake.copied += bytes;
        if self.intake.copied_enough() {
            self.stall(connections, id, self.me);
        }
    }

    /// The connection published more to a home than that has applied: it is not read for now.
    fn stall(&mut self, connections: &mut Connections, id: ConnId, home: ShardId) {
        if connections.pause(id, pause::WINDOW) {
            self.peers.get(home).stalled.push(id);
            connections.touch(id);
        }
    }

    /// Sends a mandatory reply, which comes back if its consumer is gone. `None`: the consumer is
    /// here, and the reply not sent.
    #[cold]
    fn mandatory_reply(
        &mut self,
        connections: &mut Connections,
        publisher: Publisher,
        (queue, home): QueueAt,
        message: Message<'_>,
    ) -> Option<Published> {
        if home != self.me {
            let (conn, channel) = (publisher.conn, publisher.channel);
            self.peers.get(home).out.mandatory(queue, (conn, channel), message);
            let (bytes, persistent) = (cost(message), message.persistent());
            let waits = self.sent(connections, publisher, home, bytes, persistent);
            return Some(Published { waits, refused: false });
        }
        if self.queues.contains(queue) {
            return None;
        }
        let returned = connections.give_back(publisher, message);
        Some(Published { waits: 0, refused: publisher.confirms && !returned })
    }

    /// A mandatory message from another shard for a reply consumer of this one.
    pub(super) fn mandatory_arrived(
        &mut self,
        connections: &mut Connections,
        from: ShardId,
        queue: QueueId,
        publisher: (ConnId, ChannelId),
        message: Message<'_>,
    ) {
        let peer = self.peers.get(from);
        peer.progress.applied(cost(message));
        if message.persistent() {
            // It is not logged, but its confirm may wait behind what is.
            peer.progress.request_flush();
        }
        if self.queues.contains(queue) {
            let (queues, mut output) = self.home(connections);
            queues.push(queue, message, from, &mut output);
        } else {
            peer.out.returned(publisher, message);
        }
    }
}
