//! How far a home is with what one source sent it: what is applied, and what of that is durable.

use std::collections::VecDeque;

use super::batch::Watermark;

/// The progress for one source.
///
/// What is logged in a turn is durable when the batch of the log is that was being filled at the
/// turn's end. What comes behind it is told as durable behind it, since the source hears of one
/// number; what was not logged waits for nothing else.
#[derive(Debug, Default)]
pub(super) struct Progress {
    done: Watermark,
    /// Enqueues applied, and the batch that makes them durable.
    marks: VecDeque<(u64, u64)>,
    /// Something was logged since the last mark.
    logged: bool,
    /// The source waits until what was applied since the last mark is durable.
    urgent: bool,
}

impl Progress {
    /// What the source may be told.
    pub fn done(&self) -> Watermark {
        self.done
    }

    /// Counts an enqueue applied.
    #[inline(always)]
    pub fn applied(&mut self, octets: u64) {
        self.done.applied += 1;
        self.done.octets += octets;
    }

    /// Everything that was sent is applied: so it is where the source is the home itself.
    pub fn applied_all(&mut self, sent: u64, octets: u64) {
        (self.done.applied, self.done.octets) = (sent, octets);
    }

    /// The last enqueue is, or will be, in the log.
    #[inline]
    pub fn logged(&mut self) {
        self.logged = true;
    }

    /// The source waits until the last enqueue is durable.
    #[inline]
    pub fn urgent(&mut self) {
        self.urgent = true;
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

    /// Whether the source waits for this batch, which is being filled, and the log is to be told.
    /// What itself was not logged may wait for what was, which the source did not wait for.
    pub fn hurries(&mut self, batch: u64) -> bool {
        let urgent = std::mem::take(&mut self.urgent);
        urgent && self.marks.back().is_some_and(|mark| mark.1 == batch)
    }

    /// Batches up to this one are durable.
    pub fn durable(&mut self, batch: u64) {
        while let Some((applied, _)) = self.marks.pop_front_if(|mark| mark.1 <= batch) {
            self.done.durable = applied;
        }
    }

    /// Whatever was applied and marked counts as durable.
    pub fn all_durable(&mut self) {
        self.durable(u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(progress.done(), Watermark { applied: 1, octets: 10, durable: 1 });
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
    fn where_nothing_is_owed_everything_is_durable() {
        let mut progress = Progress::default();
        enqueue(&mut progress, true);
        progress.mark(1);
        progress.all_durable();
        assert_eq!(progress.done().durable, 1);
        progress.mark(2);
        assert_eq!(progress.done().durable, 1);
    }

    #[test]
    fn a_batch_is_hurried_for_what_waits_behind_what_is_in_it() {
        let mut progress = Progress::default();
        enqueue(&mut progress, true);
        progress.mark(1);
        assert!(!progress.hurries(1));
        enqueue(&mut progress, false);
        progress.urgent();
        progress.mark(1);
        assert!(progress.hurries(1) && !progress.hurries(1));
        // It is under way already.
        progress.urgent();
        assert!(!progress.hurries(2));
    }
}
