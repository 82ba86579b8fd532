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
    /// Octets of messages that are in segments of their queues alone, and part of it all the same.
    through: usize,
    /// Somebody waits for it.
    hurried: bool,
    /// Somebody waits for it whatever becomes of its messages.
    owed: bool,
    /// When its first record came, once a turn has ended with it.
    since_us: Option<u64>,
}

impl Filling {
    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.settles.is_empty() && self.through == 0
    }

    fn octets(&self) -> usize {
        self.records.len() + 25 * self.settles.len()
    }
}

/// A batch on its way to the disk.
#[derive(Debug)]
struct UnderWay {
    batch: u64,
    octets: usize,
    live: u64,
    through: usize,
    owed: bool,
    /// `None`: it is written, or there was nothing to write.
    writing: Option<Writing>,
}

/// The write of a batch.
#[derive(Debug)]
struct Writing {
    op: u64,
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
    /// Octets and batches written since it was last asked whose they are.
    unasked: (u64, u64),
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
            unasked: (0, 0),
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

    /// A message of so many octets is part of the batch that is being filled without being in it.
    pub fn pass_by(&mut self, octets: usize) {
        self.filling.through += octets;
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
        let settled = |one: &UnderWay| one.live == 0 && one.through == 0 && !one.owed;
        let filling = &self.filling;
        let settled = self.under_way.as_ref().is_none_or(settled) && filling.live == 0;
        settled && filling.through == 0 && !filling.owed
    }

    pub fn full(&self) -> bool {
        let through = self.under_way.as_ref().map_or(0, |one| one.through) + self.filling.through;
        self.waiting() + through > self.config.waiting_max / 2
    }

    /// Octets of memory waiting for the disk.
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

    /// So many octets behind the head of a queue make a backlog of it, if it is time to look for
    /// such queues: they would fill the log, to be written once more. Where batches are small, the
    /// log is the place for them: a sync of what was written before is faster than of a file that
    /// grows.
    pub fn backlog(&mut self) -> Option<u64> {
        let (octets, batches) = self.unasked;
        if octets <= self.config.segment_octets / 2 {
            return None;
        }
        self.unasked = (0, 0);
        let large = octets >= batches * self.config.write_through_batch as u64;
        // Nearly all that was logged since: one that is drained never has as much.
        large.then_some(self.config.segment_octets / 8 * 3)
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

    /// Ends a turn: whether it is time to [`Self::write`] the batch that is being filled.
    pub fn end_turn(&mut self, now: Now, ops: &mut Ops) -> bool {
        self.same = false;
        self.retry(now, ops);
        self.sync_relaxed(now, ops);
        if self.filling.is_empty() {
            return false;
        }
        let since = *self.filling.since_us.get_or_insert(now.monotonic_us);
        let due = self.filling.hurried
            || self.stopping
            || self.filling.octets() + self.filling.through >= EAGER
            || now.monotonic_us >= since + LAZY_US;
        due && self.under_way.is_none()
    }

    /// Hands the batch out. `through`: some of it is on its way into segments of queues, which
    /// [`Self::written`] knows nothing of. Then there may be nothing to be written here.
    pub fn write(&mut self, through: bool, ops: &mut Ops) {
        let mut filling = std::mem::take(&mut self.filling);
        for (queue, from, to) in filling.settles.drain(..) {
            batch::write_settle(&mut filling.records, queue, from, to);
        }
        let octets = filling.records.len();
        let nothing = through && octets == 0;
        let writing = if nothing { None } else { self.write_records(&mut filling, ops) };
        let Filling { live, through, owed, .. } = filling;
        let batch = self.batch;
        self.under_way = Some(UnderWay { batch, octets, live, through, owed, writing });
        self.batch += 1;
    }

    fn write_records(&mut self, filling: &mut Filling, ops: &mut Ops) -> Option<Writing> {
        let len = batch::sealed_len(filling.records.len()) as u64;
        let create = self.make_room(len, ops);
        let segment = self.segments.back_mut()?;
        let header = Header {
            shard: self.config.shard,
            boot: self.config.boot,
            segment: segment.number,
            batch: self.batch,
            synced: self.synced,
        };
        let at = segment.octets;
        segment.octets += len;
        self.unasked = (self.unasked.0 + len, self.unasked.1 + 1);
        segment.live += filling.live;
        let file = self.file(header.segment);
        let pieces = batch::seal(header, &mut filling.records);
        let sync = self.config.durability == Durability::Strict;
        let sync = sync && !mutant::active(Mutant::SyncSkipped);
        let work = Work::Write { at, pieces, create, sync };
        Some(Writing { op: ops.hand_out(file, work.clone()), file, work, retry_us: None })
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
        let Some(writing) = self.writing() else { return };
        if writing.retry_us.take_if(|when| *when <= now.monotonic_us).is_some() {
            writing.op = ops.hand_out(writing.file, writing.work.clone());
        }
    }

    fn writing(&mut self) -> Option<&mut Writing> {
        self.under_way.as_mut()?.writing.as_mut()
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
        let writing = self.under_way.as_ref().and_then(|one| one.writing.as_ref());
        let retry = writing.and_then(|writing| writing.retry_us);
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
            // Where it may be there or not, nothing behind it is removed.
            if self.poison_unless(result) {
                self.removing = None;
                self.segments.pop_front();
            }
        } else if let Some(at) = self.syncing.iter().position(|(sync, _)| *sync == Some(op)) {
            self.was_synced(at, result);
        } else if self.writing().is_some_and(|writing| writing.op == op) {
            self.was_written(result, now);
        } else {
            return false;
        }
        true
    }

    fn was_synced(&mut self, at: usize, result: &Result<Bytes, Failure>) {
        if matches!(result, Err(failure) if failure.full) {
            // It was one for the disk with the next write, which comes again; so does a sync.
            self.syncing.remove(at);
            return;
        }
        // One that failed stays under way: what is behind it never counts as synced.
        if self.poison_unless(result)
            && let Some(sync) = self.syncing.get_mut(at)
        {
            sync.0 = None;
        }
        while let Some((_, batch)) = self.syncing.pop_front_if(|(sync, _)| sync.is_none()) {
            self.synced = batch;
        }
    }

    fn was_written(&mut self, result: &Result<Bytes, Failure>, now: Now) {
        let full = matches!(result, Err(failure) if failure.full);
        if full != std::mem::replace(&mut self.full, full) {
            self.news.push_back(News::Full(full));
        }
        let ignored = mutant::active(Mutant::FailedSyncIgnored);
        if full {
            if let Some(writing) = self.writing() {
                writing.retry_us = Some(now.monotonic_us + RETRY_US);
            }
        } else if result.is_ok() || ignored {
            if let Some(one) = &mut self.under_way {
                one.writing = None;
            }
        } else {
            // It stays under way: what is in it is owed for ever, and nothing follows it.
            self.poison_unless(result);
        }
    }

    /// The batch that is under way, once it is written.
    pub fn written(&self) -> Option<u64> {
        self.under_way.as_ref().filter(|one| one.writing.is_none()).map(|one| one.batch)
    }

    /// The batch under way is written, and nothing else is waited for.
    pub fn complete(&mut self) {
        if let Some(one) = self.under_way.take_if(|one| one.writing.is_none()) {
            self.durable = one.batch;
            if self.config.durability == Durability::Strict {
                self.synced = one.batch;
            }
        }
    }

    /// Whether it went well; if not, nothing can be relied on.
    fn poison_unless(&mut self, result: &Result<Bytes, Failure>) -> bool {
        if let Err(failure) = result {
            self.news.push_back(News::Poisoned(failure.to_string()));
        }
        result.is_ok()
    }
}
