//! The write-ahead log of a shard: batches in segments, one write under way at a time.
//!
//! ```text
//!   log, settle ──▶ filling ──▶ under way ──▶ durable
//!                   batch n+1   batch n       batches 1 .. n-1
//!
//!   segments:  [ 1 .. 40 ] [ 41 .. 75 ] [ 76 .. n ]     the oldest goes once nothing in it lives
//! ```
//!
//! What arrives while a write is under way becomes the next batch: one write and one sync for all
//! of it, however many queues it is for.

use std::collections::VecDeque;

use bytes::Bytes;
use model::mutant::{self, Mutant};
use model::{Message, Now, QueueId, Stored};

use super::format::batch::{self, Header};
use super::gather::Gather;
use super::op::{Failure, FileName, Work};
use super::ops::Ops;
use super::{Durability, StoreConfig};

/// So many octets are written even if nobody waits for them,
const EAGER: usize = 256 * 1024;
/// and fewer after so many microseconds.
const LAZY_US: u64 = 100_000;
/// A write for which there was no room is tried again after so many microseconds.
const RETRY_US: u64 = 100_000;

/// A segment of the log.
#[derive(Debug)]
struct Segment {
    number: u32,
    first_batch: u64,
    /// Octets written or being written.
    octets: u64,
    /// Messages in it that are not settled and nowhere else on the disk.
    live: u64,
}

/// The batch that is being filled.
#[derive(Debug, Default)]
struct Filling {
    records: Gather,
    settles: Vec<(QueueId, u64, u64)>,
    /// Messages in it that no queue has settled.
    live: u64,
    /// Somebody waits for it.
    hurried: bool,
    /// Somebody waits for it whatever becomes of its messages.
    owed: bool,
    /// When its first record came, once a turn has ended with it.
    since_us: Option<u64>,
}

impl Filling {
    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.settles.is_empty()
    }

    fn octets(&self) -> usize {
        self.records.len() + 25 * self.settles.len()
    }
}

/// A batch on its way to the disk.
#[derive(Debug)]
struct UnderWay {
    op: u64,
    batch: u64,
    octets: usize,
    live: u64,
    owed: bool,
    file: FileName,
    /// What it takes to try it again.
    work: Work,
    /// There was no room: when it is tried again.
    retry_us: Option<u64>,
}

/// The log.
#[derive(Debug)]
pub(super) struct Log {
    config: StoreConfig,
    segments: VecDeque<Segment>,
    next_number: u32,
    filling: Filling,
    /// Its number.
    batch: u64,
    durable: u64,
    under_way: Option<UnderWay>,
    /// The last batch that is on stable storage: the same, unless the log is relaxed.
    synced: u64,
    /// The syncs of a relaxed log that are under way: each operation until it is done, and the
    /// batch up to which it counts.
    syncing: VecDeque<(Option<u64>, u64)>,
    synced_us: u64,
    /// The oldest segment may not go before this batch is on stable storage: it holds what has
    /// moved out of old ones.
    barrier: u64,
    /// Octets that have moved out of old segments into new ones since the log was last asked to
    /// shrink, and between that and the time before: each time the older half is asked, so both
    /// together is what cannot go. To move that again and again would be no gain.
    moved: (u64, u64),
    /// The oldest segment is being removed.
    removing: Option<u64>,
    /// The message that was logged last may enter another queue.
    same: bool,
    stopping: bool,
    full: bool,
    /// What is left to be told.
    news: VecDeque<News>,
}

/// What others have to know.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    Poisoned(String),
    Full(bool),
}

impl Log {
    pub fn new(config: StoreConfig) -> Self {
        Self {
            config,
            segments: VecDeque::new(),
            next_number: 0,
            filling: Filling::default(),
            batch: 1,
            durable: 0,
            under_way: None,
            synced: 0,
            syncing: VecDeque::new(),
            synced_us: 0,
            barrier: 0,
            moved: (0, 0),
            removing: None,
            same: false,
            stopping: false,
            full: false,
            news: VecDeque::new(),
        }
    }

    // What queues do.

    #[inline]
    pub fn next_message(&mut self) {
        self.same = false;
    }

    /// Adds a message that enters a queue.
    #[inline]
    pub fn enqueue(&mut self, queue: QueueId, seq: u64, message: Message<'_>) -> Stored {
        let records = &mut self.filling.records;
        if std::mem::replace(&mut self.same, true) {
            batch::write_also(records, queue, seq);
        } else {
            batch::write_enqueue(records, queue, seq, message);
        }
        self.filling.live += 1;
        Stored::logged(self.batch)
    }

    /// Adds a message that moves out of an old segment.
    pub fn move_here(&mut self, queue: QueueId, seq: u64, message: Message<'_>) -> Stored {
        self.same = false;
        let before = self.filling.octets();
        let stored = self.enqueue(queue, seq, message);
        self.moved.0 += (self.filling.octets() - before) as u64;
        self.same = false;
        self.barrier = self.batch;
        stored
    }

    /// Adds once more what is settled, since the segment that says so goes.
    pub fn settle_again(&mut self, queue: QueueId, from: u64, to: u64) {
        self.settle(queue, from, to);
        self.barrier = self.batch;
    }

    /// Adds messages that a queue has settled.
    #[inline]
    pub fn settle(&mut self, queue: QueueId, from: u64, to: u64) {
        match self.filling.settles.last_mut() {
            Some((last, _, end)) if *last == queue && *end + 1 == from => *end = to,
            _ => self.filling.settles.push((queue, from, to)),
        }
    }

    /// So many messages in that batch are settled, or elsewhere on the disk.
    #[inline]
    pub fn left(&mut self, batch: u64, count: u64) {
        if batch == self.batch {
            self.filling.live -= count;
            return;
        }
        if let Some(under_way) = self.under_way.as_mut().filter(|one| one.batch == batch) {
            under_way.live -= count;
        }
        let at = self.segments.partition_point(|segment| segment.first_batch <= batch);
        if let Some(segment) = at.checked_sub(1).and_then(|at| self.segments.get_mut(at)) {
            segment.live -= count;
        }
    }

    pub fn hurry(&mut self) {
        self.filling.hurried |= !self.filling.is_empty();
    }

    pub fn fence(&mut self) {
        if !self.filling.is_empty() {
            self.filling.hurried = true;
            self.filling.owed = !mutant::active(Mutant::FenceNotOwed);
        } else if let Some(under_way) = &mut self.under_way {
            under_way.owed = true;
        }
    }

    // What others want to know.

    /// The last batch that has something in it.
    pub fn batch(&self) -> u64 {
        if self.filling.is_empty() { self.batch - 1 } else { self.batch }
    }

    /// The last batch that counts as durable.
    pub fn durable(&self) -> u64 {
        if mutant::active(Mutant::ConfirmBeforeSync) { self.batch } else { self.durable }
    }

    pub fn owes_nothing(&self) -> bool {
        let under_way = self.under_way.as_ref().is_none_or(|one| one.live == 0 && !one.owed);
        under_way && self.filling.live == 0 && !self.filling.owed
    }

    pub fn full(&self) -> bool {
        self.waiting() > self.config.waiting_max / 2
    }

    /// Octets waiting for the disk.
    pub fn waiting(&self) -> usize {
        self.filling.octets() + self.under_way.as_ref().map_or(0, |one| one.octets)
    }

    /// The last batch on stable storage.
    pub fn synced(&self) -> u64 {
        self.synced
    }

    /// The batch in which what is settled now will be.
    pub fn next_batch(&self) -> u64 {
        self.batch
    }

    /// Whether there is nothing to do at the end of a turn.
    #[inline]
    pub fn is_resting(&self) -> bool {
        let nothing_waits = self.filling.is_empty() && self.under_way.is_none();
        nothing_waits && self.segments.len() <= 1 && self.synced == self.durable
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    pub fn is_idle(&self) -> bool {
        let nothing_waits = self.filling.is_empty() && self.under_way.is_none();
        nothing_waits && self.removing.is_none() && self.synced == self.durable
    }

    pub fn news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    /// Octets in all segments.
    pub fn octets(&self) -> u64 {
        self.segments.iter().map(|segment| segment.octets).sum()
    }

    // Space.

    /// The first batch that may stay when the log is to shrink: over its limit, the older half
    /// goes; and a segment with next to nothing live in it does not keep those behind it.
    pub fn stays_from(&self) -> Option<u64> {
        let closed = self.segments.len().checked_sub(1)?;
        if self.octets() > self.config.log_max + 2 * (self.moved.0 + self.moved.1) {
            let half = self.segments.len().div_ceil(2).min(closed);
            return self.segments.get(half).map(|segment| segment.first_batch);
        }
        let oldest = self.segments.front()?;
        let behind = self.segments.iter().skip(1).take(closed.saturating_sub(1));
        let freed = behind.take_while(|segment| segment.live == 0).count();
        // A pinned oldest segment in front of two that could go.
        (oldest.live > 0 && freed >= 2)
            .then(|| self.segments.get(1).map(|next| next.first_batch))?
    }

    /// The log is being asked to shrink.
    pub fn shrinks(&mut self) {
        self.moved = (0, self.moved.0);
    }

    /// The last batch of the oldest segment, if nothing live is in it and it may go.
    pub fn oldest_to_go(&self) -> Option<u64> {
        let oldest = self.segments.front().filter(|_| self.removing.is_none())?;
        let next = self.segments.get(1)?.first_batch;
        let settled = oldest.live == 0 || mutant::active(Mutant::LogGoesTooEarly);
        let moved = self.barrier <= self.synced;
        (settled && moved && next <= self.synced + 1).then_some(next - 1)
    }

    /// Removes the oldest segment.
    pub fn remove_oldest(&mut self, ops: &mut Ops) {
        if let Some(oldest) = self.segments.front() {
            let file = self.file(oldest.number);
            self.removing = Some(ops.hand_out(file, Work::Delete { sync: true }));
        }
    }

    fn file(&self, number: u32) -> FileName {
        FileName::Log { boot: self.config.boot, shard: self.config.shard, number }
    }

    // Writing.

    /// Hands the next batch out if it is time.
    pub fn flush(&mut self, now: Now, ops: &mut Ops) {
        self.same = false;
        self.retry(now, ops);
        self.sync_relaxed(now, ops);
        if self.filling.is_empty() {
            return;
        }
        let since = *self.filling.since_us.get_or_insert(now.monotonic_us);
        let due = self.filling.hurried
            || self.stopping
            || self.filling.octets() >= EAGER
            || now.monotonic_us >= since + LAZY_US;
        if due && self.under_way.is_none() {
            self.write(ops);
        }
    }

    fn write(&mut self, ops: &mut Ops) {
        let mut filling = std::mem::take(&mut self.filling);
        for (queue, from, to) in filling.settles.drain(..) {
            batch::write_settle(&mut filling.records, queue, from, to);
        }
        let octets = filling.records.len();
        let len = batch::sealed_len(octets) as u64;
        let create = self.make_room(len, ops);
        let Some(segment) = self.segments.back_mut() else { return };
        let header = Header {
            shard: self.config.shard,
            boot: self.config.boot,
            segment: segment.number,
            batch: self.batch,
            synced: self.synced,
        };
        let at = segment.octets;
        segment.octets += len;
        segment.live += filling.live;
        let file = self.file(header.segment);
        let pieces = batch::seal(header, &mut filling.records);
        let sync = self.config.durability == Durability::Strict;
        let sync = sync && !mutant::active(Mutant::SyncSkipped);
        let work = Work::Write { at, pieces, create, sync };
        self.under_way = Some(UnderWay {
            op: ops.hand_out(file, work.clone()),
            batch: self.batch,
            octets,
            live: filling.live,
            owed: filling.owed,
            file,
            work,
            retry_us: None,
        });
        self.batch += 1;
    }

    /// Begins a new segment if the batch does not fit into the last; says whether it did.
    fn make_room(&mut self, len: u64, ops: &mut Ops) -> bool {
        let max = self.config.segment_octets;
        if self.segments.back().is_some_and(|last| last.octets + len <= max) {
            return false;
        }
        if self.synced < self.durable {
            // What is in the last segment is not synced with the next one.
            self.sync_last(ops);
        }
        let number = self.next_number;
        self.next_number += 1;
        self.segments.push_back(Segment { number, first_batch: self.batch, octets: 0, live: 0 });
        true
    }

    /// Tries a write again for which there was no room.
    fn retry(&mut self, now: Now, ops: &mut Ops) {
        let Some(under_way) = &mut self.under_way else { return };
        if under_way.retry_us.take_if(|when| *when <= now.monotonic_us).is_some() {
            under_way.op = ops.hand_out(under_way.file, under_way.work.clone());
        }
    }

    /// Has what was written synced now and then, where that is enough.
    fn sync_relaxed(&mut self, now: Now, ops: &mut Ops) {
        let Some(due_us) = self.sync_due_us() else { return };
        let due = self.stopping || now.monotonic_us >= due_us;
        if due {
            self.synced_us = now.monotonic_us;
            self.sync_last(ops);
        }
    }

    fn sync_last(&mut self, ops: &mut Ops) {
        if let Some(last) = self.segments.back() {
            let op = ops.hand_out(self.file(last.number), Work::Sync);
            self.syncing.push_back((Some(op), self.durable));
        }
    }

    fn sync_due_us(&self) -> Option<u64> {
        let Durability::Relaxed { every_ms } = self.config.durability else { return None };
        let waits = self.synced < self.durable && self.syncing.is_empty();
        waits.then_some(self.synced_us + every_ms * 1000)
    }

    pub fn deadline_us(&self) -> Option<u64> {
        let retry = self.under_way.as_ref().and_then(|one| one.retry_us);
        let lazy = self.filling.since_us.filter(|_| self.under_way.is_none());
        let lazy = lazy.map(|since| since + LAZY_US);
        [retry, lazy, self.sync_due_us()].into_iter().flatten().min()
    }

    /// The process ends: what was delivered before is noted, and that this is the end.
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
        // The mark is in the batch whose settles are written behind it: a batch is whole or not.
        batch::write_clean(records, self.config.shards);
        self.filling.hurried = true;
    }

    // The disk's answers.

    /// Takes an answer, if it is to an operation of the log.
    pub fn done(&mut self, op: u64, result: &Result<Bytes, Failure>, now: Now) -> bool {
        if self.removing == Some(op) {
            // One that failed may be undone by a power loss: no other goes behind it.
            if result.is_ok() {
                self.removing = None;
                self.segments.pop_front();
            }
            self.poison_unless(result);
        } else if let Some(sync) = self.syncing.iter_mut().find(|(sync, _)| *sync == Some(op)) {
            // One that failed stays under way: what is behind it never counts as synced.
            if result.is_ok() {
                sync.0 = None;
            }
            self.poison_unless(result);
            while let Some((_, batch)) = self.syncing.pop_front_if(|(sync, _)| sync.is_none()) {
                self.synced = batch;
            }
        } else if self.under_way.as_ref().is_some_and(|one| one.op == op) {
            self.written(result, now);
        } else {
            return false;
        }
        true
    }

    fn written(&mut self, result: &Result<Bytes, Failure>, now: Now) {
        let full = matches!(result, Err(failure) if failure.full);
        if full != std::mem::replace(&mut self.full, full) {
            self.news.push_back(News::Full(full));
        }
        let ignored = mutant::active(Mutant::FailedSyncIgnored);
        match self.under_way.take() {
            Some(mut one) if full => {
                one.retry_us = Some(now.monotonic_us + RETRY_US);
                self.under_way = Some(one);
            }
            Some(one) if result.is_ok() || ignored => {
                self.durable = one.batch;
                if matches!(one.work, Work::Write { sync: true, .. }) {
                    self.synced = one.batch;
                }
            }
            one => {
                // It stays under way: what is in it is owed for ever, and nothing follows it.
                self.under_way = one;
                self.poison_unless(result);
            }
        }
    }

    fn poison_unless(&mut self, result: &Result<Bytes, Failure>) {
        if let Err(failure) = result {
            self.news.push_back(News::Poisoned(failure.to_string()));
        }
    }
}
