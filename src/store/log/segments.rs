//! Segments of the log: when the log has to shrink, and when the oldest segment can be removed.

use model::mutant::{self, Mutant};

use super::MessageLog;
use crate::store::op::Work;
use crate::store::ops::Ops;

/// A segment of the log.
#[derive(Debug)]
pub(super) struct LogSegment {
    pub number: u32,
    pub first_batch: u64,
    /// Bytes written or in flight.
    pub bytes: u64,
    /// Messages that are not settled and nowhere else on the disk.
    pub live: u64,
}

impl MessageLog {
    /// Bytes in all segments.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// The first batch that may stay when the log has to shrink. Over its limit, the older half has
    /// to go; below it, a nearly empty segment that keeps those behind it.
    pub fn stays_from(&self) -> Option<u64> {
        let closed = self.segments.len().checked_sub(1)?;
        if self.bytes() > self.config.log_max + 2 * (self.copied.0 + self.copied.1) {
            let half = self.segments.len().div_ceil(2).min(closed);
            return self.segments.get(half).map(|segment| segment.first_batch);
        }
        let oldest = self.segments.front()?;
        let behind = self.segments.iter().skip(1).take(closed.saturating_sub(1));
        let empty = behind.take_while(|segment| segment.live == 0).count();
        // The oldest segment has live messages and keeps at least two that have none.
        (oldest.live > 0 && empty >= 2)
            .then(|| self.segments.get(1).map(|next| next.first_batch))?
    }

    /// Notes that the queues have been asked to shrink the log.
    pub fn shrinks(&mut self) {
        self.copied = (0, self.copied.0);
    }

    /// How many bytes behind its head make a backlog of a queue, if it is time to look for such
    /// queues: they would fill the log, only to be written a second time into segments. With small
    /// batches there is no backlog: the log is preallocated, and its sync is faster than that of a
    /// growing file.
    pub fn backlog(&mut self) -> Option<u64> {
        let (bytes, batches) = self.unexamined;
        if bytes <= self.config.segment_bytes / 2 {
            return None;
        }
        self.unexamined = (0, 0);
        let large = bytes >= batches * self.config.bypass_batch as u64;
        // Nearly all that was logged since the last look: a queue that is drained has less.
        large.then_some(self.config.segment_bytes / 8 * 3)
    }

    /// The last batch of the oldest segment, if that can be removed: nothing in it is live, and
    /// what was copied out of it is on stable storage.
    pub fn oldest_to_remove(&self) -> Option<u64> {
        let oldest = self.segments.front().filter(|_| self.removing.is_none())?;
        let next = self.segments.get(1)?.first_batch;
        let settled = oldest.live == 0 || mutant::active(Mutant::LogGoesTooEarly);
        let copied = self.barrier <= self.synced;
        (settled && copied && next <= self.synced + 1).then_some(next - 1)
    }

    /// Hands out the removal of the oldest segment.
    pub fn remove_oldest(&mut self, ops: &mut Ops) {
        if let Some(oldest) = self.segments.front() {
            let file = self.file(oldest.number);
            self.removing = Some(ops.hand_out(file, Work::Delete { sync: true }));
        }
    }
}
