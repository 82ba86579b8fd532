//! The write-ahead log of a shard: batches in segments, one write in flight at a time.
//!
//! ```text
//!   enqueue, settle ──▶ filling ──▶ in flight ──▶ durable
//!                       batch n+1   batch n       batches 1 .. n-1
//!
//!   segments:  [ 1 .. 40 ] [ 41 .. 75 ] [ 76 .. n ]     the oldest is removed once nothing in it
//!                                                       is live
//! ```
//!
//! Records that arrive while a write is in flight form the next batch: one write and one sync for
//! all of them, however many queues they are for.

mod batches;
mod results;
mod segments;

use std::collections::VecDeque;

use model::mutant::{self, Mutant};
use model::queue::Expiry;
use model::{Message, QueueId, Stored};

use self::batches::{Filling, InFlight};
use self::results::LogSync;
use self::segments::LogSegment;
use super::config::StoreConfig;
use super::format::batch;
use super::op::FileName;

/// Microseconds after which an operation that lacked a resource is tried again.
const RETRY_US: u64 = 100_000;

/// The log.
#[derive(Debug)]
pub(super) struct MessageLog {
    config: StoreConfig,
    segments: VecDeque<LogSegment>,
    /// The number of the next segment.
    next_number: u32,
    filling: Filling,
    /// The number of the batch being filled.
    batch: u64,
    /// Batches up to this one count as durable.
    durable: u64,
    in_flight: Option<InFlight>,
    /// Batches up to this one are on stable storage. Less than `durable` only if the log is
    /// relaxed.
    synced: u64,
    /// The syncs of a relaxed log that are in flight, oldest first.
    syncing: VecDeque<LogSync>,
    /// When a relaxed log last asked for a sync.
    synced_us: u64,
    /// The oldest segment stays until this batch is on stable storage: the batch holds records
    /// copied out of old segments.
    barrier: u64,
    /// Bytes copied from old segments into new ones since the last request to shrink, and between
    /// that one and the one before. Each request covers the older half, so the sum is what cannot
    /// be removed. Copying that again and again would gain nothing.
    copied: (u64, u64),
    /// Bytes and batches written since the last look for a backlog.
    unexamined: (u64, u64),
    /// The operation that removes the oldest segment.
    removing: Option<u64>,
    /// The message logged last may enter another queue.
    same_message: bool,
    stopping: bool,
    /// The first error of operations that lack a resource, until all of them have succeeded.
    lack: Option<String>,
    /// Errors after which the contents of the disk are unknown.
    fatal: VecDeque<String>,
}

impl MessageLog {
    pub fn new(config: StoreConfig) -> Self {
        Self {
            config,
            segments: VecDeque::new(),
            next_number: 0,
            filling: Filling::default(),
            batch: 1,
            durable: 0,
            in_flight: None,
            synced: 0,
            syncing: VecDeque::new(),
            synced_us: 0,
            barrier: 0,
            copied: (0, 0),
            unexamined: (0, 0),
            removing: None,
            same_message: false,
            stopping: false,
            lack: None,
            fatal: VecDeque::new(),
        }
    }

    // Calls of queues.

    #[inline]
    pub fn next_message(&mut self) {
        self.same_message = false;
    }

    /// Adds a message that enters a queue.
    #[inline]
    pub fn enqueue(
        &mut self,
        queue: QueueId,
        seq: u64,
        expiry: Expiry,
        message: Message<'_>,
    ) -> Stored {
        let records = &mut self.filling.records;
        if std::mem::replace(&mut self.same_message, true) {
            batch::write_also(records, queue, seq);
        } else {
            batch::write_enqueue(records, queue, seq, message);
        }
        if expiry != Expiry::NEVER {
            batch::write_expires(records, queue, seq, expiry);
        }
        self.filling.live += 1;
        Stored::logged(self.batch)
    }

    /// Copies a message out of an old segment into the batch being filled.
    pub fn copy_here(
        &mut self,
        queue: QueueId,
        seq: u64,
        expiry: Expiry,
        message: Message<'_>,
    ) -> Stored {
        self.same_message = false;
        let before = self.filling.bytes();
        let stored = self.enqueue(queue, seq, expiry, message);
        self.copied.0 += (self.filling.bytes() - before) as u64;
        self.same_message = false;
        self.barrier = self.batch;
        stored
    }

    /// Adds messages that a queue has settled.
    #[inline]
    pub fn settle(&mut self, queue: QueueId, from: u64, to: u64) {
        match self.filling.settles.last_mut() {
            Some((last, _, end)) if *last == queue && *end + 1 == from => *end = to,
            _ => self.filling.settles.push((queue, from, to)),
        }
    }

    /// Copies a settle out of an old segment into the batch being filled.
    pub fn settle_again(&mut self, queue: QueueId, from: u64, to: u64) {
        self.settle(queue, from, to);
        self.barrier = self.batch;
    }

    /// Notes that so many messages of a batch are settled, or safe elsewhere on the disk.
    #[inline]
    pub fn left(&mut self, batch: u64, count: u64) {
        if batch == self.batch {
            self.filling.live -= count;
            return;
        }
        if let Some(in_flight) = self.in_flight.as_mut().filter(|one| one.batch == batch) {
            in_flight.live -= count;
        }
        let at = self.segments.partition_point(|segment| segment.first_batch <= batch);
        if let Some(segment) = at.checked_sub(1).and_then(|at| self.segments.get_mut(at)) {
            segment.live -= count;
        }
    }

    /// Counts a message of so many bytes that bypassed the log: the batch being filled waits for
    /// it.
    pub fn bypassed(&mut self, bytes: usize) {
        self.filling.bypassed += bytes;
    }

    /// Has the batch being filled written as soon as the disk is free.
    pub fn request_flush(&mut self) {
        self.filling.flush_requested |= !self.filling.is_empty();
    }

    /// As [`Self::request_flush`], and the batch is needed even if all its messages are settled.
    pub fn fence(&mut self) {
        if !self.filling.is_empty() {
            self.filling.flush_requested = true;
            self.filling.fenced = !mutant::active(Mutant::FenceNotFlushed);
        } else if let Some(in_flight) = &mut self.in_flight {
            in_flight.fenced = true;
        }
    }

    /// Notes at a clean stop which messages have been delivered, and that this is the end.
    pub fn stop(&mut self, delivered: impl Iterator<Item = (QueueId, u64)>) {
        self.stopping = true;
        let mut range: Option<(QueueId, u64, u64)> = None;
        let records = &mut self.filling.records;
        for (queue, seq) in delivered {
            match &mut range {
                Some((last, _, end)) if *last == queue && *end + 1 == seq => *end = seq,
                _ => {
                    if let Some((queue, from, to)) = range.replace((queue, seq, seq)) {
                        batch::write_delivered(records, queue, from, to);
                    }
                }
            }
        }
        if let Some((queue, from, to)) = range {
            batch::write_delivered(records, queue, from, to);
        }
        // Settles of the same batch are written behind the mark: a batch is read whole or not.
        batch::write_clean(records, self.config.shards);
        self.filling.flush_requested = true;
    }

    // Queries.

    /// The last batch that has something in it.
    pub fn batch(&self) -> u64 {
        if self.filling.is_empty() { self.batch - 1 } else { self.batch }
    }

    /// The batch in which what is settled now will be.
    pub fn next_batch(&self) -> u64 {
        self.batch
    }

    /// The last batch that counts as durable.
    pub fn durable(&self) -> u64 {
        if mutant::active(Mutant::ConfirmBeforeSync) { self.batch } else { self.durable }
    }

    /// The last batch on stable storage.
    pub fn synced(&self) -> u64 {
        self.synced
    }

    /// True if every message of a batch that is not durable is settled, and no fence needs one.
    pub fn is_settled_or_durable(&self) -> bool {
        let settled = |one: &InFlight| one.live == 0 && one.bypassed == 0 && !one.fenced;
        let filling = &self.filling;
        let settled = self.in_flight.as_ref().is_none_or(settled) && filling.live == 0;
        settled && filling.bypassed == 0 && !filling.fenced
    }

    /// True if so much waits for the disk that publishers have to wait too.
    pub fn is_full(&self) -> bool {
        let bypassed = self.in_flight.as_ref().map_or(0, |one| one.bypassed);
        let waiting = self.waiting() + bypassed + self.filling.bypassed;
        waiting > self.config.waiting_max / 2
    }

    /// Bytes of memory that wait for the disk.
    pub fn waiting(&self) -> usize {
        self.filling.bytes() + self.in_flight.as_ref().map_or(0, |one| one.bytes)
    }

    /// True if the end of a turn has nothing to do here.
    #[inline]
    pub fn is_resting(&self) -> bool {
        let nothing_waits = self.filling.is_empty() && self.in_flight.is_none();
        nothing_waits && self.segments.len() <= 1 && self.synced == self.durable
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// True if nothing waits for the disk.
    pub fn is_idle(&self) -> bool {
        let nothing_waits = self.filling.is_empty() && self.in_flight.is_none();
        nothing_waits && self.removing.is_none() && self.synced == self.durable
    }

    fn file(&self, number: u32) -> FileName {
        FileName::Log { boot: self.config.boot, shard: self.config.shard, number }
    }
}
