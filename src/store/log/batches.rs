//! Batches of the log: filled, handed out as one write, synced.

use model::mutant::{self, Mutant};
use model::{Now, QueueId};

use super::MessageLog;
use super::results::{BatchWrite, LogSync};
use super::segments::LogSegment;
use crate::store::config::SyncPolicy;
use crate::store::format::batch::{self, BatchHeader};
use crate::store::gather::Gather;
use crate::store::op::Work;
use crate::store::ops::Ops;

/// A batch of so many bytes is written even if no confirm waits for it.
const EAGER: usize = 256 * 1024;
/// A smaller one is written after so many microseconds.
const LAZY_US: u64 = 100_000;
/// Bytes of a settle in a batch.
const SETTLE_BYTES: usize = 25;

/// The batch that is being filled.
#[derive(Debug, Default)]
pub(super) struct Filling {
    pub records: Gather,
    /// Ranges of settled messages, added to `records` when the batch is handed out.
    pub settles: Vec<(QueueId, u64, u64)>,
    /// Messages in it that are not settled.
    pub live: u64,
    /// Bytes of messages that belong to it but are only in segments of their queues.
    pub bypassed: usize,
    /// A confirm or a commit waits for it.
    pub flush_requested: bool,
    /// It is needed even if all its messages are settled.
    pub fenced: bool,
    /// When the first turn with a record of it ended.
    pub since_us: Option<u64>,
}

impl Filling {
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.settles.is_empty() && self.bypassed == 0
    }

    pub fn bytes(&self) -> usize {
        self.records.len() + SETTLE_BYTES * self.settles.len()
    }
}

/// A batch on its way to the disk.
#[derive(Debug)]
pub(super) struct InFlight {
    pub batch: u64,
    pub bytes: usize,
    /// As in [`Filling`].
    pub live: u64,
    pub bypassed: usize,
    pub fenced: bool,
    /// `None`: it is written, or there was nothing to write.
    pub write: Option<BatchWrite>,
}

impl MessageLog {
    /// Ends a turn. True if it is time to [`Self::write`] the batch being filled.
    pub fn end_turn(&mut self, now: Now, ops: &mut Ops) -> bool {
        self.same_message = false;
        self.retry(now, ops);
        self.sync_relaxed(now, ops);
        if self.filling.is_empty() {
            return false;
        }
        let since = *self.filling.since_us.get_or_insert(now.monotonic_us);
        let due = self.filling.flush_requested
            || self.stopping
            || self.filling.bytes() + self.filling.bypassed >= EAGER
            || now.monotonic_us >= since + LAZY_US;
        due && self.in_flight.is_none()
    }

    /// Hands the batch out. With `bypassed`, part of it is on its way into segments of queues,
    /// which [`Self::written`] does not include; then there may be nothing to write here.
    pub fn write(&mut self, bypassed: bool, ops: &mut Ops) {
        let mut filling = std::mem::take(&mut self.filling);
        for (queue, from, to) in filling.settles.drain(..) {
            batch::write_settle(&mut filling.records, queue, from, to);
        }
        let bytes = filling.records.len();
        let nothing = bypassed && bytes == 0;
        let write = if nothing { None } else { self.write_records(&mut filling, ops) };
        let Filling { live, bypassed, fenced, .. } = filling;
        let batch = self.batch;
        self.in_flight = Some(InFlight { batch, bytes, live, bypassed, fenced, write });
        self.batch += 1;
    }

    fn write_records(&mut self, filling: &mut Filling, ops: &mut Ops) -> Option<BatchWrite> {
        let len = batch::sealed_len(filling.records.len()) as u64;
        let create = self.begin_segment_if_full(len, ops);
        let segment = self.segments.back_mut()?;
        let header = BatchHeader {
            shard: self.config.shard,
            boot: self.config.boot,
            segment: segment.number,
            batch: self.batch,
            synced: self.synced,
        };
        let at = segment.bytes;
        segment.bytes += len;
        segment.live += filling.live;
        self.unexamined = (self.unexamined.0 + len, self.unexamined.1 + 1);
        let file = self.file(header.segment);
        let pieces = batch::seal(header, &mut filling.records);
        let sync = self.config.durability == SyncPolicy::Strict;
        let sync = sync && !mutant::active(Mutant::SyncSkipped);
        let work = Work::Write { at, pieces, create, sync };
        let op = ops.hand_out(file, work.clone());
        Some(BatchWrite { op, file, work, lacks: false, retry_us: None })
    }

    /// Begins a new segment if the batch does not fit into the last one. True if it did.
    fn begin_segment_if_full(&mut self, len: u64, ops: &mut Ops) -> bool {
        let max = self.config.segment_bytes;
        if self.segments.back().is_some_and(|last| last.bytes + len <= max) {
            return false;
        }
        if self.synced < self.durable {
            // Syncs of the new segment do not cover the last one.
            self.sync_last(ops);
        }
        let number = self.next_number;
        self.next_number += 1;
        self.segments.push_back(LogSegment { number, first_batch: self.batch, bytes: 0, live: 0 });
        true
    }

    /// Hands out the periodic sync of a relaxed log when it is due.
    fn sync_relaxed(&mut self, now: Now, ops: &mut Ops) {
        let Some(due_us) = self.sync_due_us() else { return };
        if self.stopping || now.monotonic_us >= due_us {
            self.synced_us = now.monotonic_us;
            self.sync_last(ops);
        }
    }

    fn sync_last(&mut self, ops: &mut Ops) {
        if let Some(last) = self.segments.back() {
            let file = self.file(last.number);
            let op = Some(ops.hand_out(file, Work::Sync));
            let (batch, lacks, retry_us) = (self.durable, false, None);
            self.syncing.push_back(LogSync { op, file, batch, lacks, retry_us });
        }
    }

    fn sync_due_us(&self) -> Option<u64> {
        let SyncPolicy::Relaxed { every_ms } = self.config.durability else { return None };
        let waits = self.synced < self.durable && self.syncing.is_empty();
        waits.then_some(self.synced_us + every_ms * 1000)
    }

    /// When a turn is due although nothing happens, in microseconds of the monotonic clock.
    pub fn deadline_us(&self) -> Option<u64> {
        let lazy = self.filling.since_us.filter(|_| self.in_flight.is_none());
        let lazy = lazy.map(|since| since + LAZY_US);
        [self.retry_due_us(), lazy, self.sync_due_us()].into_iter().flatten().min()
    }
}
