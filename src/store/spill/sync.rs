//! Syncs of segments: which are handed out, and which of them count.

use bytes::Bytes;
use model::mutant::{self, Mutant};
use model::{Now, QueueId};

use super::results::{Pending, What};
use super::{Spill, name};
use crate::store::log::MessageLog;
use crate::store::op::{DiskError, Work};
use crate::store::ops::Ops;

/// So many segments are synced one by one, more with one sync of the file system.
const SYNCED_ONE_BY_ONE: usize = 8;

/// A segment that is being synced: its length, and how many messages of each log batch it makes
/// durable.
#[derive(Debug)]
pub(super) struct SyncedSegment {
    pub queue: QueueId,
    pub file: u32,
    pub len: u64,
    pub unsynced: Vec<(u64, u64)>,
}

impl Spill {
    /// Syncs segments with messages of log batches before this one, so that the log can drop
    /// these.
    pub fn sync(&mut self, before: u64, ops: &mut Ops) {
        if self.syncs_wait() {
            return;
        }
        // There may be thousands of segments, and turns are frequent.
        if std::mem::replace(&mut self.is_clean, true) && before <= self.clean_before {
            return;
        }
        self.clean_before = before;
        let mut due = Vec::new();
        for (queue, files) in &mut self.queues {
            for (file, segment) in &mut files.segments {
                let is_needed = segment.unsynced.iter().any(|(batch, _)| *batch < before);
                // A sync counts only after all writes that failed have succeeded.
                if segment.removing || segment.missing > 0 || !is_needed {
                    continue;
                }
                let unsynced = std::mem::take(&mut segment.unsynced);
                due.push(SyncedSegment { queue: *queue, file: *file, len: segment.len, unsynced });
            }
        }
        if due.len() > SYNCED_ONE_BY_ONE {
            self.sync_segments(due, Work::SyncAll, ops);
            return;
        }
        for one in due {
            self.sync_segments(vec![one], Work::Sync, ops);
        }
    }

    pub(super) fn sync_segments(
        &mut self,
        due: Vec<SyncedSegment>,
        work: Work,
        ops: &mut Ops,
    ) -> Option<u64> {
        let &SyncedSegment { queue, file, .. } = due.first()?;
        let op = ops.hand_out(name(queue, file), work);
        self.pending.insert(op, Pending { queue, what: What::Sync(due) });
        Some(op)
    }

    /// True while a sync that lacked a resource waits to be tried again: others would fail too.
    pub(super) fn syncs_wait(&self) -> bool {
        self.retries.iter().any(|(_, one)| matches!(one.what, What::SyncAgain))
    }

    // Results.

    pub(super) fn were_synced(
        &mut self,
        op: u64,
        segments: Vec<SyncedSegment>,
        result: Result<Bytes, DiskError>,
        log: &mut MessageLog,
        now: Now,
    ) {
        // The disk may have carried out a failed write and the sync behind it as one. Or the file
        // does not exist yet, since the write that creates it failed.
        let missing = matches!(&segments[..], [one] if self.misses(one));
        let lacks = matches!(&result, Err(error) if error.may_retry());
        let done = !(lacks || missing && result.is_err());
        if done && !self.fatal_unless(result) {
            return;
        }
        if let Some(first) = segments.first().filter(|_| lacks && !self.syncs_wait()) {
            self.retry_later(first.queue, What::SyncAgain, now);
        }
        let mut counts = done;
        for one in segments {
            if let Some(segment) = self.segment(one.queue, one.file) {
                segment.lacks = lacks;
            }
            counts &= self.was_synced(one, done, log);
        }
        self.bypass.synced(op, counts);
    }

    /// True if writes of the segment are to be tried again.
    fn misses(&mut self, one: &SyncedSegment) -> bool {
        self.segment(one.queue, one.file).is_some_and(|segment| segment.missing > 0)
    }

    /// True if the sync counts. It does not if a write before it has failed; another one has to.
    fn was_synced(&mut self, one: SyncedSegment, done: bool, log: &mut MessageLog) -> bool {
        let SyncedSegment { queue, file, len, mut unsynced } = one;
        let ignored = mutant::active(Mutant::MissingWriteSynced);
        // A segment that is being removed has no live message.
        match self.segment(queue, file).filter(|segment| !segment.removing) {
            Some(segment) if !done || segment.missing > 0 && !ignored => {
                unsynced.append(&mut segment.unsynced);
                segment.unsynced = unsynced;
                self.is_clean = false;
                return false;
            }
            Some(segment) => segment.synced = segment.synced.max(len),
            None => {}
        }
        unsynced.into_iter().for_each(|(batch, count)| log.left(batch, count));
        true
    }
}
