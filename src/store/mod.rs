//! Where messages are that are not, or not only, in a queue's memory: the log and the segments of
//! the queues, as a pure machine. Operations on files are handed out, their answers come back.
//!
//! ```text
//!   log, settled ──▶ Log ────▶ batches, one after the other ─┐
//!                     ▲ left                                 ├─▶ ops ──▶ disk ──▶ done
//!   spill, fetch ──▶ Spill ──▶ chunks in segments by queue ──┘
//!   write_through ──▶ both: octets to the segment, durable with the batch
//! ```
//!
//! Absent by design: opening files, knowing a queue as more than an identity.

mod files;
pub mod format;
mod gather;
mod log;
pub mod meta;
pub mod op;
mod ops;
mod ranges;
mod recover;
#[cfg(test)]
mod sample;
mod scan;
#[cfg(test)]
mod sim;
mod spill;

use std::collections::BTreeMap;

use model::mutant::{self, Mutant};
pub use model::queue::Spilled;
use model::{Message, Now, QueueId, Stored};

use self::files::{Chunk, Segment};
use self::log::Log;
pub use self::op::{Done, Failure, FileName, Files, Op, Work};
use self::ops::Ops;
use self::ranges::Ranges;
pub use self::recover::{Recovered, Unrecoverable, recover};
pub use self::scan::walk;
use self::spill::Spill;

/// What a store is started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreConfig {
    /// The shard.
    pub shard: u16,
    /// How many shards there are.
    pub shards: u16,
    /// Which start of the process this is.
    pub boot: u32,
    /// What a confirm means.
    pub durability: Durability,
    /// Octets of a segment of the log.
    pub segment_octets: u64,
    /// Octets of all segments of this shard's log; beyond it the oldest is emptied.
    pub log_max: u64,
    /// So many octets waiting for the disk stop publishers; half as many waiting for the log.
    pub waiting_max: usize,
    /// Octets of a chunk; a read brings up to two. See [`Store::share`].
    pub chunk_octets: usize,
    /// A queue that had to spill so many octets at once may write through. See
    /// [`Store::write_through`].
    pub write_through_min: usize,
    /// It may not for long where batches bring it less than so many octets.
    pub write_through_batch: usize,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            shard: 0,
            shards: 1,
            boot: 1,
            durability: Durability::Strict,
            segment_octets: 32 * 1024 * 1024,
            log_max: 256 * 1024 * 1024,
            waiting_max: 64 * 1024 * 1024,
            chunk_octets: 256 * 1024,
            write_through_min: 1024 * 1024,
            write_through_batch: 64 * 1024,
        }
    }
}

/// When a message counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// When it is on stable storage.
    Strict,
    /// When it was handed to the operating system, which is told to sync every so many
    /// milliseconds: a power loss takes what came since.
    Relaxed {
        /// Milliseconds between syncs.
        every_ms: u64,
    },
}

/// What recovery found of a queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveredQueue {
    /// Messages, all in segments.
    pub messages: u64,
    /// Greater than every sequence number there was.
    pub next_seq: u64,
    chunks: Vec<Chunk>,
    segments: BTreeMap<u32, Segment>,
    settled: Ranges,
    delivered: Ranges,
}

/// What a queue is asked to do so that disk space comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relief {
    /// All queues: no message stays in a batch of the log before this one. See
    /// [`model::Queue::leave_log`].
    Log {
        /// The first batch that may stay.
        before: u64,
    },
    /// All queues: those with so many octets behind their heads spill them and write through. See
    /// [`Store::write_through`].
    Backlog {
        /// Octets.
        octets: u64,
    },
    /// One queue: none of these messages stays in its segment. See [`model::Queue::leave_segment`].
    Segment {
        /// The queue.
        queue: QueueId,
        /// The first sequence number.
        from: u64,
        /// The last.
        to: u64,
    },
}

/// What the store cannot cope with by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// A write or a sync of the log failed: what is on disk is not known any more. The process has
    /// to end.
    Poisoned(String),
    /// There is no room on the disk (`true`), or again some.
    Full(bool),
    /// The messages of a queue cannot be read back.
    Unreadable(QueueId, String),
}

/// Messages that were fetched, in order.
#[derive(Debug)]
pub struct Loaded {
    /// The queue that asked.
    pub queue: QueueId,
    entries: Vec<format::chunk::Entry>,
}

impl Loaded {
    /// Goes through them.
    pub fn each(&self, mut take: impl FnMut(Spilled<'_>)) {
        for entry in &self.entries {
            let stored = if entry.durable { Stored::SPILLED_DURABLE } else { Stored::SPILLED };
            let (seq, redelivered, message) = (entry.seq, entry.redelivered, entry.message());
            take(Spilled { seq, redelivered, stored, message });
        }
    }

    fn octets(&self) -> usize {
        self.entries.iter().map(|entry| entry.message().record().len()).sum()
    }
}

/// What has to be told again of settled messages is at most one part in so many of the log.
const TOLD_SHARE: u64 = 4;

/// The store of one shard.
#[derive(Debug)]
pub struct Store {
    log: Log,
    spill: Spill,
    ops: Ops,
    strict: bool,
    /// Queues were asked to leave the batches in front of this one.
    asked: u64,
}

impl Default for Store {
    fn default() -> Self {
        Self::new(StoreConfig::default())
    }
}

impl Store {
    /// A store without anything in it.
    #[must_use]
    pub fn new(config: StoreConfig) -> Self {
        let (log, spill) = (Log::new(config), Spill::new(config));
        let strict = config.durability == Durability::Strict;
        Self { log, spill, ops: Ops::default(), strict, asked: 0 }
    }

    /// Takes over what recovery found of a queue, before anything else is done with it.
    pub fn adopt(&mut self, queue: QueueId, found: RecoveredQueue) {
        self.spill.adopt(queue, found);
    }

    // What queues do.

    /// What is logged next is another message: before this, the same one may enter several queues,
    /// and is written once.
    #[inline]
    pub fn next_message(&mut self) {
        self.log.next_message();
    }

    /// A persistent message entered a durable queue.
    // Never inlined: the path of messages that are not logged is not to pay for it.
    #[inline(never)]
    pub fn log(&mut self, queue: QueueId, seq: u64, message: Message<'_>) -> Stored {
        self.log.enqueue(queue, seq, message)
    }

    /// A message moves out of an old batch or segment into the batch that is being filled.
    pub fn log_again(
        &mut self,
        queue: QueueId,
        seq: u64,
        stored: Stored,
        message: Message<'_>,
    ) -> Stored {
        self.let_go(stored);
        self.log.move_here(queue, seq, message)
    }

    /// A queue has settled a message.
    #[inline(never)]
    pub fn settled(&mut self, queue: QueueId, seq: u64, stored: Stored) {
        match stored.batch() {
            Some(batch) => {
                self.log.left(batch, 1);
                self.log.settle(queue, seq, seq);
            }
            None if stored != Stored::NOWHERE => {
                self.spill.settled(queue, seq, stored, &mut self.log);
            }
            None => {}
        }
    }

    /// A queue that is being deleted lets go of a message: there is nothing to be logged.
    pub fn let_go(&mut self, stored: Stored) {
        if let Some(batch) = stored.batch() {
            self.log.left(batch, 1);
        }
    }

    /// The queue has spilled all that is behind its head: its messages may be handed over by
    /// [`Self::write_through`] from now on. That ends by itself.
    pub fn begin_to_write_through(&mut self, queue: QueueId) {
        // Where a confirm does not mean a sync, the log is as good.
        if self.strict {
            self.spill.begin_to_write_through(queue);
        }
    }

    /// A persistent message entered a durable queue and is in nobody's memory: it is spilled and
    /// not logged, and durable with the batch that is being filled. False if it is to be logged.
    pub fn write_through(&mut self, queue: QueueId, seq: u64, message: Message<'_>) -> bool {
        let octets = self.spill.write_through(queue, seq, message);
        self.log.pass_by(octets.unwrap_or(0));
        octets.is_some()
    }

    /// Takes a message out of a queue's memory; its sequence number is greater than those before.
    pub fn spill(&mut self, queue: QueueId, what: Spilled<'_>) {
        self.spill.spill(queue, what);
    }

    /// What one queue reads at once is to be no more than so many octets: its share of the memory.
    pub fn share(&mut self, octets: usize) {
        self.spill.share(octets);
    }

    /// Is to bring the next messages that the queue spilled; [`Self::next_loaded`] has them later.
    pub fn fetch(&mut self, queue: QueueId) {
        self.spill.fetch(queue);
    }

    /// All that a queue has spilled and not been brought is settled: it was purged. What is on its
    /// way will not come.
    pub fn purge(&mut self, queue: QueueId) {
        self.spill.purge(queue, &mut self.log);
    }

    /// The queue is deleted. What it had in memory it has let go of by [`Self::let_go`].
    pub fn forget_queue(&mut self, queue: QueueId) {
        self.spill.forget(queue, &mut self.log, &mut self.ops);
    }

    /// The next messages that were fetched.
    pub fn next_loaded(&mut self) -> Option<Loaded> {
        self.spill.next_loaded()
    }

    // What waits for the disk.

    /// The batch of the log that is being filled, or the last one: what was logged so far is in it
    /// or before.
    #[must_use]
    pub fn batch(&self) -> u64 {
        self.log.batch()
    }

    /// This batch and all before it count as durable.
    #[must_use]
    pub fn durable(&self) -> u64 {
        match self.log.written() {
            Some(batch) if !self.spill.awaits() => batch,
            _ => self.log.durable(),
        }
    }

    /// Whether everything in the log that is not durable is settled already, and nobody waits for
    /// it in spite of that.
    #[must_use]
    pub fn owes_nothing(&self) -> bool {
        self.log.owes_nothing()
    }

    /// Somebody waits for a message that was logged: the batch is written as soon as the disk is
    /// free.
    #[inline]
    pub fn hurry(&mut self) {
        self.log.hurry();
    }

    /// Somebody waits for what was settled so far: as [`Self::hurry`], and the batch is owed.
    pub fn fence(&mut self) {
        self.log.fence();
    }

    /// Whether so much waits for the disk that publishers have to wait too.
    #[must_use]
    pub fn full(&self) -> bool {
        self.log.full() || self.spill.full()
    }

    /// Octets of memory it holds.
    #[must_use]
    pub fn pinned(&self) -> usize {
        self.log.waiting() + self.spill.waiting()
    }

    // Space and trouble.

    /// What would bring disk space back. To be asked for at the end of a turn until there is
    /// nothing, and carried out before [`Self::end_turn`].
    pub fn relief(&mut self) -> Option<Relief> {
        if self.log.is_stopping() {
            return None;
        }
        if let Some(before) = self.log.stays_from().filter(|before| *before > self.asked) {
            self.asked = before;
            self.log.shrinks();
            return Some(Relief::Log { before });
        }
        if self.strict
            && let Some(octets) = self.log.backlog()
        {
            return Some(Relief::Backlog { octets });
        }
        self.spill.relief(&self.log)
    }

    /// What the store cannot cope with by itself.
    pub fn trouble(&mut self) -> Option<Trouble> {
        self.log.news().map(spill::trouble_of).or_else(|| self.spill.trouble())
    }

    // The disk.

    /// Ends a turn: what waits may be handed out as operations.
    #[inline]
    pub fn end_turn(&mut self, now: Now) {
        // As it is as long as nothing is persistent and all fits into memory.
        if !(self.log.is_resting() && self.spill.is_resting()) {
            self.work(now);
        }
    }

    #[inline(never)]
    fn work(&mut self, now: Now) {
        self.complete();
        self.spill.end_turn(now, &mut self.log, &mut self.ops);
        if self.asked > 0 {
            self.spill.sync(self.asked, &mut self.ops);
        }
        self.remove_oldest();
        if self.log.end_turn(now, &mut self.ops) {
            let through = self.spill.flush(&mut self.ops);
            self.log.write(through, &mut self.ops);
        }
    }

    /// Ends the batch under way if all of it is on stable storage.
    fn complete(&mut self) {
        if self.log.written().is_some() && !self.spill.awaits() {
            self.log.complete();
        }
    }

    /// Removes the oldest segment of the log if nothing needs it.
    fn remove_oldest(&mut self) {
        if self.log.is_stopping() || !self.spill.is_settled() {
            return;
        }
        let Some(last) = self.log.oldest_to_go() else { return };
        // Where that would write about as much as it frees, there is no end of it.
        if TOLD_SHARE * self.spill.to_tell_again(last) > self.log.octets() {
            return;
        }
        self.spill.tell_again(last, &mut self.log);
        // What was told again has to be on the disk first.
        if self.log.oldest_to_go().is_some() {
            self.log.remove_oldest(&mut self.ops);
        }
    }

    /// When there is something to hand out even if nothing happens until then, in microseconds of
    /// the monotonic clock.
    #[must_use]
    pub fn deadline_us(&self) -> Option<u64> {
        [self.log.deadline_us(), self.spill.deadline_us()].into_iter().flatten().min()
    }

    /// The next operation.
    pub fn next_op(&mut self) -> Option<Op> {
        self.ops.next()
    }

    /// The disk's answer to an operation.
    pub fn done(&mut self, done: Done, now: Now) {
        if !self.log.done(done.id, &done.result, now) {
            self.spill.done(done.id, done.result, &mut self.log, now);
        }
        self.complete();
    }

    /// The process ends: nothing is logged after this. These messages, which are still in their
    /// queues, have been delivered before; in the order of queues and sequence numbers. It is over
    /// when [`Self::is_idle`] says so.
    pub fn stop(&mut self, delivered: impl Iterator<Item = (QueueId, u64)>) {
        self.log.stop(delivered);
    }

    /// Whether nothing waits for the disk.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.log.is_idle() && self.spill.is_idle()
    }
}

/// Whether checksums are not looked at, which is a deliberate fault.
fn unchecked() -> bool {
    mutant::active(Mutant::CrcUnchecked)
}
