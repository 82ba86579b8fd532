//! Syncs of segments: which are asked for, and which of them count.

use bytes::Bytes;
use model::QueueId;
use model::mutant::{self, Mutant};

use super::{Pending, Spill, What, name};
use crate::store::log::Log;
use crate::store::op::{Failure, Work};
use crate::store::ops::Ops;

/// Up to so many segments are synced one by one.
const SYNCED_ONE_BY_ONE: usize = 8;

/// A segment that is being synced: its length, and what the log is told when it is.
#[derive(Debug)]
pub(super) struct Synced {
    pub queue: QueueId,
    pub file: u32,
    pub len: u64,
    pub owed: Vec<(u64, u64)>,
}

impl Spill {
    /// Has segments synced that messages in old batches of the log wait for.
    pub fn sync(&mut self, before: u64, ops: &mut Ops) {
        // There may be thousands, and turns are many.
        if std::mem::replace(&mut self.looked_over, true) && before <= self.looked_before {
            return;
        }
        self.looked_before = before;
        let mut due = Vec::new();
        for (queue, files) in &mut self.queues {
            for (file, segment) in &mut files.segments {
                let is_needed = segment.owed.iter().any(|(batch, _)| *batch < before);
                // Where a write has failed, a sync is of no use before it is repeated.
                if segment.going || segment.missing > 0 || !is_needed {
                    continue;
                }
                let owed = std::mem::take(&mut segment.owed);
                due.push(Synced { queue: *queue, file: *file, len: segment.len, owed });
            }
        }
        if due.len() > SYNCED_ONE_BY_ONE {
            self.sync_these(due, Work::SyncAll, ops);
            return;
        }
        for one in due {
            self.sync_these(vec![one], Work::Sync, ops);
        }
    }

    pub(super) fn sync_these(
        &mut self,
        due: Vec<Synced>,
        work: Work,
        ops: &mut Ops,
    ) -> Option<u64> {
        let &Synced { queue, file, .. } = due.first()?;
        let op = ops.hand_out(name(queue, file), work);
        self.pending.insert(op, Pending { queue, what: What::Sync(due) });
        Some(op)
    }

    // What comes of them.

    /// A sync was carried out, or not.
    pub(super) fn were_synced(
        &mut self,
        op: u64,
        these: Vec<Synced>,
        result: Result<Bytes, Failure>,
        log: &mut Log,
    ) {
        // A write that found no room and the sync behind it may have been one for the disk. Or
        // there is no file yet: one of which a sync has failed refuses the write that comes again.
        let missing = matches!(&these[..], [one] if self.misses(one));
        let done = !matches!(&result, Err(failure) if failure.full || missing);
        if done && !self.poison_unless(result) {
            return;
        }
        let mut counts = done;
        for one in these {
            counts &= self.was_synced(one, done, log);
        }
        self.through.synced(op, counts);
    }

    /// Whether writes of the segment are to come again.
    fn misses(&mut self, one: &Synced) -> bool {
        self.segment(one.queue, one.file).is_some_and(|segment| segment.missing > 0)
    }

    /// Whether the sync counts: if a write in front of it has failed, another one has to.
    fn was_synced(&mut self, one: Synced, done: bool, log: &mut Log) -> bool {
        let Synced { queue, file, len, mut owed } = one;
        let ignored = mutant::active(Mutant::MissingWriteSynced);
        // Nothing lives in one that is going.
        match self.segment(queue, file).filter(|segment| !segment.going) {
            Some(segment) if !done || segment.missing > 0 && !ignored => {
                owed.append(&mut segment.owed);
                segment.owed = owed;
                self.looked_over = false;
                return false;
            }
            Some(segment) => segment.synced = segment.synced.max(len),
            None => {}
        }
        owed.into_iter().for_each(|(batch, count)| log.left(batch, count));
        true
    }
}
