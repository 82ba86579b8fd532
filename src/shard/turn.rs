//! What arrives from peers, and the end of a turn.

use model::mutant::{self, Mutant};
use model::{ConnId, Now, ShardId};

use super::batch::{Batch, Record, Watermark};
use super::conn::{OUTPUT_MARK, pause};
use super::home::{Settlement, cost, cost_of_copies};
use super::machine::Shard;
use super::message::Control;

/// The coordinator is told of memory in steps of this many octets.
const MEMORY_STEP: usize = 1024 * 1024;

impl Shard {
    /// A batch arrived from a peer; it is left empty.
    pub fn mesh(&mut self, from: ShardId, batch: &mut Batch, now: Now) {
        let mut at = 0;
        while let Some(record) = batch.next(&mut at) {
            self.record(from, record, now);
        }
        batch.clear();
    }

    #[inline(always)]
    fn record(&mut self, from: ShardId, record: Record<'_>, now: Now) {
        match record {
            Record::Enqueue { queues, carried, urgent } => {
                let message = carried.message();
                let became = self.push_all(queues.iter(), message);
                let dead = |queue| !self.home.queues.contains_key(&queue);
                let unanswered = mutant::active(Mutant::DeadEnqueueUnanswered);
                if !(unanswered && queues.iter().any(dead)) {
                    let cost = cost_of_copies(message, queues.count());
                    if urgent {
                        self.peers.get(from).progress.urgent();
                    }
                    self.peers.get(from).progress.applied(cost);
                }
                if !became.nothing() {
                    self.peers.get(from).became(became);
                }
            }
            Record::Mandatory { queue, publisher, carried } => {
                self.mandatory_arrived(from, queue, publisher, carried.message());
            }
            Record::Returned { publisher: (conn, channel), carried } => {
                self.clients.returned(conn, channel, carried.message());
            }
            Record::Deliver { to, carried } => {
                let message = carried.message();
                if !self.clients.deliver(from, to, message) {
                    self.peers.get(from).out.credit(to.conn, cost(message));
                    self.permits_back(to.conn, to.channel, 0);
                }
            }
            Record::Got { ticket, remaining, to, carried } => {
                self.clients.got(from, ticket, remaining, to, carried.message());
            }
            Record::Settle { queue, channel, number, up_to, how } => {
                self.settle_here(Settlement { queue, channel, number, up_to, how });
            }
            Record::Credit { conn, octets } => self.credit(conn, octets),
            Record::Ask(queue, ask) => self.asked(from, queue, ask),
            Record::Permit(queue, permit) => self.permitted(from, queue, permit),
            Record::Unused { conn, channel, count } => self.permits_back(conn, channel, count),
            Record::Watermark(mark) => self.watermark(from, mark),
            Record::Fence => {
                self.fence(from);
                self.peers.get(from).progress.applied(0);
            }
            Record::Control(control) => self.control(from, control, now),
        }
    }

    /// A home has applied more of what this shard sent it.
    fn watermark(&mut self, home: ShardId, mark: Watermark) {
        self.peers.get(home).answered(mark);
        while let Some(done) = self.peers.get(home).confirmed() {
            self.clients.confirm(done.conn, done.channel, done.publish);
        }
        let crowded = home == self.me && self.crowded;
        if !crowded && self.peers.relaxed(home) {
            let peer = self.peers.get(home);
            self.clients.committing.append(&mut peer.commits);
            for id in std::mem::take(&mut peer.stalled) {
                self.unpause(id, pause::WINDOW);
            }
        }
    }

    /// Flow credit of a connection returned: queues that waited for it go on.
    fn credit(&mut self, conn: ConnId, octets: u64) {
        for queue in self.home.credit(conn, octets) {
            self.with_queue(queue, |queue, door| queue.reopen(conn, door));
        }
    }

    /// Returns credit for deliveries that have left for the socket.
    pub(super) fn pay(&mut self, id: ConnId) {
        while let Some(owed) = self.clients.get(id).and_then(super::conn::Conn::paid) {
            if owed.home != self.me && mutant::active(Mutant::CreditNotReturned) {
                continue;
            }
            if owed.home == self.me {
                self.credit(id, owed.octets);
            } else {
                self.peers.get(owed.home).out.credit(id, owed.octets);
            }
        }
    }

    /// Reads a connection on when its output has shrunk.
    pub(super) fn resume_output(&mut self, id: ConnId) {
        let Some(conn) = self.clients.get(id).filter(|conn| conn.unsent() <= OUTPUT_MARK / 2)
        else {
            return;
        };
        let commits = std::mem::take(&mut conn.commits);
        self.clients.committing.extend(commits.into_iter().map(|channel| (id, channel)));
        self.unpause(id, pause::OUTPUT);
    }

    /// Ends a turn: what its events led to goes to the outboxes and batches.
    pub fn end_turn(&mut self, now: Now) {
        loop {
            self.go_on(now);
            if self.load() {
                continue;
            }
            self.confirm_own();
            if !self.go_on_with_commits() {
                break;
            }
        }
        self.copied = 0;
        self.clients.committing.append(&mut self.later);
        self.page();
        self.crowded = self.store.full();
        self.tell_sources();
        self.stop();
        self.clients.tell_confirms();
        self.mark_sent(now);
        self.watch_receiving(now);
        self.tell_memory();
        self.store.end_turn(now);
    }

    /// Whether there is something to do in another turn although nothing happens until then.
    #[must_use]
    pub fn unfinished(&self) -> bool {
        !self.resumed.is_empty() || !self.clients.committing.is_empty() || self.paging.unfinished()
    }

    /// This shard's own queues have applied everything it sent them.
    fn confirm_own(&mut self) {
        self.crowded = self.store.full();
        self.peers.get(self.me).apply_all();
        self.advance_durable(self.me);
        let mark = self.peers.get(self.me).progress.done();
        self.watermark(self.me, mark);
    }

    fn tell_sources(&mut self) {
        let (me, crowded) = (self.me, self.crowded);
        for source in (0..self.peers.shards()).map(ShardId).filter(|source| *source != me) {
            self.advance_durable(source);
            let peer = self.peers.get(source);
            if let Some(mark) = peer.news(crowded) {
                peer.out.watermark(mark);
            }
        }
    }

    /// Notes when output was made, and stops reading connections that do not take theirs.
    fn mark_sent(&mut self, now: Now) {
        for id in &self.clients.dirty {
            let Some(conn) = self.clients.conns.get_mut(id) else {
                continue;
            };
            conn.sent_us = now.monotonic_us;
            conn.pause_over_mark();
        }
    }

    fn tell_memory(&mut self) {
        let pinned = self.pinned();
        if pinned.abs_diff(self.memory_told) >= MEMORY_STEP {
            self.memory_told = pinned;
            let coordinator = self.coordinator();
            self.peers.get(coordinator).out.control(Control::Memory(pinned as u64));
        }
    }
}
