//! The fixed schedule of one producer. Message n is due at start + n / rate whatever happened to
//! the messages before it, and its latency is measured from that time (no coordinated omission).

use crate::clock::{self, SECOND};
use crate::sizes::Span;

/// When a producer's messages are due.
#[derive(Debug, Clone)]
pub struct Pace {
    steady: Steady,
    stop: u64,
    /// One rate after the other, instead of a steady one.
    legs: Vec<Leg>,
}

/// One rate, or as fast as it goes.
#[derive(Debug, Clone, Copy)]
pub struct Steady {
    start: u64,
    /// Nanoseconds between two messages; `None` is as fast as it goes.
    interval: Option<f64>,
}

impl Steady {
    /// See [`Pace::intended`].
    #[must_use]
    #[inline]
    pub fn intended(&self, n: u64, now: u64) -> u64 {
        match self.interval {
            Some(interval) => self.start + (n as f64 * interval) as u64,
            None => now,
        }
    }
}

/// A while with one rate.
#[derive(Debug, Clone, Copy)]
struct Leg {
    /// Messages a nanosecond.
    rate: f64,
    /// Nanoseconds.
    length: f64,
}

impl Leg {
    fn messages(&self) -> f64 {
        self.rate * self.length
    }
}

impl Pace {
    /// A schedule of `rate` messages a second from `start` until before `stop` (ns); without a rate
    /// every message is due at once.
    #[must_use]
    pub fn new(start: u64, stop: u64, rate: Option<f64>) -> Self {
        let interval = rate.map(|rate| SECOND as f64 / rate);
        Self { steady: Steady { start, interval }, stop, legs: Vec::new() }
    }

    /// A schedule whose rate (messages a second) changes; the spans are gone through again and
    /// again. At least one rate is above 0.
    #[must_use]
    pub fn varied(start: u64, stop: u64, spans: &[Span]) -> Self {
        let leg = |span: &Span| Leg {
            rate: span.value / SECOND as f64,
            length: clock::from_seconds(span.seconds) as f64,
        };
        let steady = Steady { start, interval: None };
        Self { steady, stop, legs: spans.iter().map(leg).collect() }
    }

    /// How many messages are due by `now`, all counted from the start.
    #[must_use]
    pub fn due(&self, now: u64) -> u64 {
        let now = now.min(self.stop.saturating_sub(1));
        let Some(since) = now.checked_sub(self.steady.start) else {
            return 0;
        };
        if self.legs.is_empty() {
            let fixed = |interval| (since as f64 / interval) as u64 + 1;
            return self.steady.interval.map_or(u64::MAX, fixed);
        }
        let mut due = messages_by(&self.legs, since as f64) as u64 + 2;
        while due > 0 && self.intended(due - 1, now) > now {
            due -= 1;
        }
        due
    }

    /// When message `n` (from 0) was to be sent; for one sent at `now` without a schedule, `now`.
    #[must_use]
    pub fn intended(&self, n: u64, now: u64) -> u64 {
        match self.steady() {
            Some(steady) => steady.intended(n, now),
            None => self.steady.start + time_of(&self.legs, n as f64) as u64,
        }
    }

    /// The schedule, if its rate does not change.
    #[must_use]
    pub fn steady(&self) -> Option<Steady> {
        self.legs.is_empty().then_some(self.steady)
    }

    /// When there is something to do again after `sent` messages.
    #[must_use]
    pub fn next(&self, sent: u64) -> u64 {
        self.intended(sent, self.steady.start)
    }

    /// Whether nothing more is due after `sent` messages, now or ever.
    #[must_use]
    pub fn is_over(&self, sent: u64, now: u64) -> bool {
        now >= self.stop && (!self.is_fixed() || sent >= self.due(now))
    }

    /// Whether there is a schedule at all.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.steady.interval.is_some() || !self.legs.is_empty()
    }
}

/// How many messages (and parts of one) fit into a span.
fn messages_by(legs: &[Leg], elapsed: f64) -> f64 {
    let period: f64 = legs.iter().map(|leg| leg.length).sum();
    let all: f64 = legs.iter().map(Leg::messages).sum();
    let rounds = (elapsed / period).floor();
    let (mut rest, mut count) = (elapsed - rounds * period, rounds * all);
    for leg in legs {
        count += leg.rate * rest.clamp(0.0, leg.length);
        rest -= leg.length;
    }
    count
}

/// When message `n` is due; one on the border of two legs belongs to the next that sends at all.
fn time_of(legs: &[Leg], n: f64) -> f64 {
    let period: f64 = legs.iter().map(|leg| leg.length).sum();
    let all: f64 = legs.iter().map(Leg::messages).sum();
    let rounds = (n / all).floor();
    let (mut rest, mut time) = (n - rounds * all, rounds * period);
    for leg in legs {
        if rest < leg.messages() {
            return time + rest / leg.rate;
        }
        rest -= leg.messages();
        time += leg.length;
    }
    time
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

    #[test]
    fn a_rate_that_changes_follows_its_legs_and_pauses() {
        let spans = [1000.0, 0.0, 2000.0].map(|value| Span { value, seconds: 0.5 });
        let pace = Pace::varied(0, u64::MAX, &spans);
        let second = SECOND;
        assert_eq!((pace.due(0), pace.due(second / 2 - 1)), (1, 500));
        assert_eq!((pace.due(second - 1), pace.due(second)), (500, 501), "nothing in the pause");
        assert_eq!(pace.due(3 * second / 2 - 1), 1500);
        assert_eq!((pace.intended(500, 0), pace.intended(1500, 0)), (second, 3 * second / 2));
        for n in 0..5000 {
            let at = pace.intended(n, 0);
            assert!(pace.due(at) > n, "message {n} is due at its time");
            assert!(at == 0 || pace.due(at - 1) <= n, "and not before: {n}");
        }
    }
}
