//! Messages on disk, as a pure machine: the write-ahead log of a shard, and segments with what its
//! queues spilled. It hands out operations on files and takes their results.
//!
//! ```text
//!   log, settled ──▶ MessageLog ──▶ batches, one at a time ──────┐
//!                       ▲ left                                   ├─▶ ops ──▶ disk ──▶ done
//!   spill, fetch ──▶ Spill ───────▶ chunks in segments by queue ─┘
//!   bypass_log ────▶ both: bytes to the segment, durable with the batch
//! ```
//!
//! This room must not know: opening files; a queue as more than its id.

mod config;
mod effects;
pub mod format;
mod gather;
mod log;
pub mod meta;
pub mod op;
mod ops;
mod queue_files;
mod ranges;
mod recover;
#[cfg(test)]
mod sample;
mod scan;
#[cfg(test)]
mod sim;
mod spill;

pub use model::queue::{DropSpilled, DroppedSpilled, Expiry, Spilled};
use model::{Message, Now, QueueId, Stored};

pub use self::config::{StoreConfig, SyncPolicy};
pub use self::effects::{Loaded, Relief, StoreError};
use self::log::MessageLog;
pub use self::op::{Cause, DiskError, Done, FileName, Files, Op, Work};
use self::ops::Ops;
pub use self::queue_files::RecoveredQueue;
pub use self::recover::{Recovered, RecoveryError, recover};
pub use self::scan::walk;
use self::spill::Spill;

/// Settles that have to be logged again are at most one part in so many of the log.
const SETTLES_SHARE: u64 = 4;

/// The store of one shard.
#[derive(Debug)]
pub struct Store {
    log: MessageLog,
    spill: Spill,
    ops: Ops,
    strict: bool,
    /// Queues were asked to leave batches before this one.
    asked: u64,
    /// The caller knows that operations lack a resource.
    lacking: bool,
}

impl Default for Store {
    fn default() -> Self {
        Self::new(StoreConfig::default())
    }
}

impl Store {
    /// An empty store.
    #[must_use]
    pub fn new(config: StoreConfig) -> Self {
        let (log, spill) = (MessageLog::new(config), Spill::new(config));
        let strict = config.durability == SyncPolicy::Strict;
        Self { log, spill, ops: Ops::default(), strict, asked: 0, lacking: false }
    }

    /// Takes over what recovery found of a queue, before any other call for it.
    pub fn adopt(&mut self, queue: QueueId, found: RecoveredQueue) {
        self.spill.adopt(queue, found);
    }

    // Calls of queues.

    /// Begins another message. Until the next call, [`Self::log`] takes the same message for
    /// several queues and writes it once.
    #[inline]
    pub fn next_message(&mut self) {
        self.log.next_message();
    }

    /// Logs a persistent message that entered a durable queue.
    // Kept out of line so the transient path stays small.
    #[inline(never)]
    pub fn log(
        &mut self,
        queue: QueueId,
        seq: u64,
        expiry: Expiry,
        message: Message<'_>,
    ) -> Stored {
        self.log.enqueue(queue, seq, expiry, message)
    }

    /// Copies a message from an old batch or segment into the batch being filled.
    pub fn log_again(
        &mut self,
        queue: QueueId,
        seq: u64,
        (stored, expiry): (Stored, Expiry),
        message: Message<'_>,
    ) -> Stored {
        self.let_go(stored);
        self.log.copy_here(queue, seq, expiry, message)
    }

    /// Notes that a queue settled a message.
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

    /// Forgets a message of a queue that is being deleted. Nothing is logged.
    pub fn let_go(&mut self, stored: Stored) {
        if let Some(batch) = stored.batch() {
            self.log.left(batch, 1);
        }
    }

    /// Lets a queue that has spilled everything behind its head use [`Self::bypass_log`]. Ends by
    /// itself when batches bring it little.
    pub fn begin_bypass(&mut self, queue: QueueId) {
        // Without a sync for each confirm, the log is as fast.
        if self.strict {
            self.spill.begin_bypass(queue);
        }
    }

    /// Takes a persistent message of a durable queue that does not stay in memory: it is spilled
    /// instead of logged, and becomes durable with the batch being filled. False if the queue may
    /// not; then the message has to be logged.
    pub fn bypass_log(
        &mut self,
        queue: QueueId,
        seq: u64,
        expiry: Expiry,
        message: Message<'_>,
    ) -> bool {
        let bytes = self.spill.bypass_log(queue, seq, expiry, message);
        self.log.bypassed(bytes.unwrap_or(0));
        bytes.is_some()
    }

    /// Takes a message out of a queue's memory. Sequence numbers increase.
    pub fn spill(&mut self, queue: QueueId, what: Spilled<'_>) {
        self.spill.spill(queue, what);
    }

    /// Limits what one queue reads at once to so many bytes, its share of the memory.
    pub fn share(&mut self, bytes: usize) {
        self.spill.share(bytes);
    }

    /// Reads the next spilled messages of a queue. [`Self::next_loaded`] returns them later.
    pub fn fetch(&mut self, queue: QueueId) {
        self.spill.fetch(queue);
    }

    /// Settles all spilled messages of a queue that were not loaded: the queue is purged. A read in
    /// flight returns nothing.
    pub fn purge(&mut self, queue: QueueId) {
        self.spill.purge(queue, &mut self.log);
    }

    /// Settles spilled messages of a queue without reading them, the first ones first, as many as
    /// whole chunks allow and a bounded number of chunks. No read is in flight.
    pub fn drop_spilled(&mut self, queue: QueueId, what: DropSpilled) -> DroppedSpilled {
        self.spill.drop_spilled(queue, what, &mut self.log)
    }

    /// Deletes a queue. Its messages in memory were passed to [`Self::let_go`] before.
    pub fn forget_queue(&mut self, queue: QueueId) {
        self.spill.forget(queue, &mut self.log, &mut self.ops);
    }

    /// The next messages that [`Self::fetch`] asked for; none once the stop has begun, since one
    /// that expires when it is loaded would be logged.
    pub fn next_loaded(&mut self) -> Option<Loaded> {
        if self.log.is_stopping() { None } else { self.spill.next_loaded() }
    }

    // Durability.

    /// The batch being filled, or the last one if that is empty: all that was logged is in it or
    /// before it.
    #[must_use]
    pub fn batch(&self) -> u64 {
        self.log.batch()
    }

    /// Batches up to this one count as durable.
    #[must_use]
    pub fn durable(&self) -> u64 {
        match self.log.written() {
            Some(batch) if !self.spill.awaits() => batch,
            _ => self.log.durable(),
        }
    }

    /// True if every logged message is settled or durable, and no [`Self::fence`] is open.
    #[must_use]
    pub fn is_settled_or_durable(&self) -> bool {
        self.log.is_settled_or_durable()
    }

    /// Has the batch being filled written as soon as the disk is free: a confirm waits for it.
    #[inline]
    pub fn request_flush(&mut self) {
        self.log.request_flush();
    }

    /// As [`Self::request_flush`], for settles: the batch is needed even if all its messages are
    /// settled.
    pub fn fence(&mut self) {
        self.log.fence();
    }

    /// True if so much waits for the disk that publishers have to wait too.
    #[must_use]
    pub fn full(&self) -> bool {
        self.log.is_full() || self.spill.is_full()
    }

    /// Bytes of memory it holds.
    #[must_use]
    pub fn pinned(&self) -> usize {
        self.log.waiting() + self.spill.waiting()
    }

    // Disk space and errors.

    /// What queues have to do so that disk space can be freed. To be called at the end of a turn
    /// until it returns `None`, each carried out before [`Self::end_turn`].
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
            && let Some(bytes) = self.log.backlog()
        {
            return Some(Relief::Backlog { bytes });
        }
        self.spill.relief(&self.log)
    }

    /// The next error that the store cannot handle by itself.
    pub fn next_error(&mut self) -> Option<StoreError> {
        self.log.next_fatal().map(StoreError::Fatal).or_else(|| self.spill.next_error())
    }

    /// Returns the first error when operations begin to lack disk space, descriptors or memory, and
    /// `Some(None)` when all of them have succeeded. They are tried again until then. `None` if
    /// nothing has changed since the last call.
    #[inline]
    pub fn take_lack(&mut self) -> Option<Option<String>> {
        let lack = self.log.lack().or_else(|| self.spill.lack());
        let changed = lack.is_some() != std::mem::replace(&mut self.lacking, lack.is_some());
        changed.then(|| lack.map(str::to_owned))
    }

    // The disk.

    /// Ends a turn: hands out operations.
    #[inline]
    pub fn end_turn(&mut self, now: Now) {
        // The case of a shard without persistent messages whose queues fit into memory.
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
            let bypassed = self.spill.flush(&mut self.ops);
            self.log.write(bypassed, &mut self.ops);
        }
    }

    /// Completes the batch in flight if all of it is on stable storage.
    fn complete(&mut self) {
        if self.log.written().is_some() && !self.spill.awaits() {
            self.log.complete();
        }
    }

    /// Removes the oldest segment of the log if nothing needs it.
    fn remove_oldest(&mut self) {
        if self.log.is_stopping() || !self.spill.removes_nothing() {
            return;
        }
        let Some(last) = self.log.oldest_to_remove() else { return };
        // If it wrote about as much as it frees, it would never end.
        if SETTLES_SHARE * self.spill.settles_to_log_again(last) > self.log.bytes() {
            return;
        }
        self.spill.log_settles_again(last, &mut self.log);
        // What was logged again has to be on the disk first.
        if self.log.oldest_to_remove().is_some() {
            self.log.remove_oldest(&mut self.ops);
        }
    }

    /// When a turn is due although nothing happens, in microseconds of the monotonic clock.
    #[must_use]
    pub fn deadline_us(&self) -> Option<u64> {
        [self.log.deadline_us(), self.spill.deadline_us()].into_iter().flatten().min()
    }

    /// The next operation to carry out.
    pub fn next_op(&mut self) -> Option<Op> {
        self.ops.next()
    }

    /// Takes the result of an operation.
    pub fn done(&mut self, done: Done, now: Now) {
        if !self.log.done(done.id, &done.result, now) {
            self.spill.done(done.id, done.result, &mut self.log, now);
        }
        self.complete();
    }

    /// Begins a clean stop. Nothing is logged after this. `delivered` are the messages that were
    /// delivered and are still in their queues, ordered by queue and sequence number. The stop is
    /// complete when [`Self::is_idle`] is true.
    pub fn stop(&mut self, delivered: impl Iterator<Item = (QueueId, u64)>) {
        self.log.stop(delivered);
    }

    /// True if nothing waits for the disk.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.log.is_idle() && self.spill.is_idle()
    }
}
