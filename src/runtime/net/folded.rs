//! A warning about something that may happen thousands of times a second: one line stands for many.

use std::time::{Duration, Instant};

/// How often a folded warning is written at most.
const EVERY: Duration = Duration::from_secs(1);

/// Counts events between two lines of the log.
#[derive(Debug, Default)]
pub struct Folded {
    written: Option<Instant>,
    since: u64,
}

impl Folded {
    /// One more event at `now`. `Some`: a line is due, and it stands for so many events.
    pub fn count(&mut self, now: Instant) -> Option<u64> {
        self.since += 1;
        let recent = |written: Instant| now.saturating_duration_since(written) < EVERY;
        if self.written.is_some_and(recent) {
            return None;
        }
        self.written = Some(now);
        Some(std::mem::take(&mut self.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_stands_for_all_events() {
        let begin = Instant::now();
        let mut folded = Folded::default();
        assert_eq!(folded.count(begin), Some(1));
        assert_eq!(folded.count(begin + EVERY / 2), None);
        assert_eq!(folded.count(begin + EVERY / 2), None);
        assert_eq!(folded.count(begin + EVERY), Some(3));
        assert_eq!(folded.count(begin + 2 * EVERY), Some(1));
    }
}
