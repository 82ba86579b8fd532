//! The fixed schedule of one producer. Message n is due at start + n / rate whatever happened to
//! the messages before it, and its latency is measured from that time (no coordinated omission).

use crate::clock::SECOND;

/// When a producer's messages are due.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    start: u64,
    stop: u64,
    /// Nanoseconds between two messages; `None` is as fast as it goes.
    interval: Option<f64>,
}

impl Pace {
    /// A schedule of `rate` messages a second from `start` until before `stop` (ns); without a rate
    /// every message is due at once.
    #[must_use]
    pub fn new(start: u64, stop: u64, rate: Option<f64>) -> Self {
        Self { start, stop, interval: rate.map(|rate| SECOND as f64 / rate) }
    }

    /// How many messages are due by `now`, all counted from the start.
    #[must_use]
    pub fn due(&self, now: u64) -> u64 {
        let now = now.min(self.stop.saturating_sub(1));
        let Some(since) = now.checked_sub(self.start) else {
            return 0;
        };
        self.interval.map_or(u64::MAX, |interval| (since as f64 / interval) as u64 + 1)
    }

    /// When message `n` (from 0) was to be sent; for one sent at `now` without a schedule, `now`.
    #[must_use]
    #[inline]
    pub fn intended(&self, n: u64, now: u64) -> u64 {
        match self.interval {
            Some(interval) => self.start + (n as f64 * interval) as u64,
            None => now,
        }
    }

    /// When there is something to do again after `sent` messages.
    #[must_use]
    pub fn next(&self, sent: u64) -> u64 {
        self.intended(sent, self.start)
    }

    /// Whether nothing more is due after `sent` messages, now or ever.
    #[must_use]
    pub fn is_over(&self, sent: u64, now: u64) -> bool {
        now >= self.stop && (self.interval.is_none() || sent >= self.due(now))
    }

    /// Whether there is a schedule at all.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.interval.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_does_not_wait_for_a_late_producer() {
        let pace = Pace::new(1_000, u64::MAX, Some(1_000_000.0));
        assert_eq!(pace.due(999), 0);
        assert_eq!(pace.due(1_000), 1);
        assert_eq!(pace.due(3_000), 3);
        assert_eq!(pace.intended(500, 9_999_999), 501_000, "whatever the time is by now");
        assert_eq!(pace.next(3), 4_000);
    }

    #[test]
    fn what_was_due_before_the_stop_is_still_sent_after_it() {
        let pace = Pace::new(1_000, 4_000, Some(1_000_000.0));
        assert_eq!(pace.due(9_000), 3, "at 1000, 2000 and 3000");
        assert!(!pace.is_over(2, 9_000) && pace.is_over(3, 9_000) && !pace.is_over(3, 3_999));
        assert!(Pace::new(1_000, 4_000, None).is_over(2, 4_000), "nothing was due");
    }

    #[test]
    fn without_a_rate_all_is_due() {
        let pace = Pace::new(1_000, u64::MAX, None);
        assert_eq!(pace.due(999), 0);
        assert_eq!(pace.due(1_000), u64::MAX);
        assert_eq!(pace.intended(7, 5_000), 5_000);
        assert!(!pace.is_fixed());
    }

    #[test]
    fn due_and_intended_agree_for_odd_rates() {
        let pace = Pace::new(0, u64::MAX, Some(333.333));
        for n in 0..10_000 {
            let at = pace.intended(n, 0);
            assert!(pace.due(at + 1) > n, "message {n} is due at its time");
            assert!(at == 0 || pace.due(at - 1) <= n, "and not before");
        }
    }
}
