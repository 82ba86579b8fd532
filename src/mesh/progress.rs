//! How much of one source's enqueues a home has applied, and how much of that is durable.

use std::collections::VecDeque;

/// The progress of one home for one source, counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProgressMark {
    /// Enqueues applied.
    pub applied: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Enqueues whose persistent messages are on disk where that is asked for.
    pub durable: u64,
}

/// The progress for one source.
///
/// What is logged in a turn becomes durable with the batch of the log that was being filled at the
/// end of the turn. The source hears of one number, so an enqueue that was not logged counts as
/// durable when those in front of it are, and waits for nothing else.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    done: ProgressMark,
    /// Enqueues applied, and the batch that makes them durable.
    marks: VecDeque<(u64, u64)>,
    /// Something was logged since the last mark.
    logged: bool,
    /// The source waits until what was applied since the last mark is durable.
    flush_requested: bool,
}

impl Progress {
    /// What the source may be told.
    pub fn done(&self) -> ProgressMark {
        self.done
    }

    /// Counts an enqueue applied.
    #[inline(always)]
    pub fn applied(&mut self, bytes: u64) {
        self.done.applied += 1;
        self.done.bytes += bytes;
    }

    /// Counts bytes of an enqueue that was applied without them.
    pub fn free(&mut self, bytes: u64) {
        self.done.bytes += bytes;
    }

    /// Everything that was sent is applied: so it is where the source is the home itself.
    pub fn applied_all(&mut self, sent: u64, bytes: u64) {
        (self.done.applied, self.done.bytes) = (sent, bytes);
    }

    /// The last enqueue is, or will be, in the log.
    #[inline]
    pub fn logged(&mut self) {
        self.logged = true;
    }

    /// The source waits until the last enqueue is durable.
    #[inline]
    pub fn request_flush(&mut self) {
        self.flush_requested = true;
    }

    /// What was logged so far is in this batch or before.
    pub fn mark(&mut self, batch: u64) {
        let applied = self.done.applied;
        let logged = std::mem::take(&mut self.logged);
        match self.marks.back_mut() {
            Some(last) if !logged || last.1 == batch => last.0 = applied,
            None if !logged => self.done.durable = applied,
            _ => self.marks.push_back((applied, batch)),
        }
    }

    /// True, once, if the source waits for this batch, which is being filled. An enqueue that was
    /// not logged waits too if one in front of it was.
    pub fn flush_due(&mut self, batch: u64) -> bool {
        let flush_requested = std::mem::take(&mut self.flush_requested);
        flush_requested && self.marks.back().is_some_and(|mark| mark.1 == batch)
    }

    /// Batches up to this one are durable.
    pub fn durable(&mut self, batch: u64) {
        while let Some((applied, _)) = self.marks.pop_front_if(|mark| mark.1 <= batch) {
            self.done.durable = applied;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::mesh::progress::*;

    fn enqueue(progress: &mut Progress, logged: bool) {
        progress.applied(10);
        if logged {
            progress.logged();
        }
    }

    #[test]
    fn what_was_not_logged_is_durable_at_once() {
        let mut progress = Progress::default();
        enqueue(&mut progress, false);
        progress.mark(7);
        assert_eq!(progress.done(), ProgressMark { applied: 1, bytes: 10, durable: 1 });
    }

    #[test]
    fn what_was_logged_waits_for_its_batch() {
        let mut progress = Progress::default();
        for batch in [3, 3, 4, 6] {
            enqueue(&mut progress, true);
            progress.mark(batch);
        }
        let mut seen = Vec::new();
        for batch in [2, 3, 5, 6] {
            progress.durable(batch);
            seen.push(progress.done().durable);
        }
        assert_eq!(seen, [0, 2, 3, 4]);
        assert_eq!(progress.done().applied, 4);
    }

    #[test]
    fn what_was_not_logged_does_not_pass_what_was() {
        let mut progress = Progress::default();
        enqueue(&mut progress, true);
        progress.mark(1);
        enqueue(&mut progress, false);
        progress.mark(2);
        assert_eq!(progress.done().durable, 0);
        // It waits for nothing else: the second batch may never be written.
        progress.durable(1);
        assert_eq!(progress.done().durable, 2);
    }

    #[test]
    fn without_pending_batches_everything_is_durable() {
        let mut progress = Progress::default();
        enqueue(&mut progress, true);
        progress.mark(1);
        progress.durable(u64::MAX);
        assert_eq!(progress.done().durable, 1);
        progress.mark(2);
        assert_eq!(progress.done().durable, 1);
    }

    #[test]
    fn a_batch_is_flushed_for_what_waits_behind_what_is_in_it() {
        let mut progress = Progress::default();
        enqueue(&mut progress, true);
        progress.mark(1);
        assert!(!progress.flush_due(1));
        enqueue(&mut progress, false);
        progress.request_flush();
        progress.mark(1);
        assert!(progress.flush_due(1) && !progress.flush_due(1));
        // It is under way already.
        progress.request_flush();
        assert!(!progress.flush_due(2));
    }
}
