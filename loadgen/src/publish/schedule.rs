//! The fixed schedule of one producer. Message n is due at start + n / rate, even if earlier
//! messages are late, and its latency counts from that time (no coordinated omission).

use crate::messages::timed_value::TimedValue;
use crate::system::clock::{self, SECOND};

/// When the messages of a producer are due.
#[derive(Debug, Clone)]
pub struct PublishSchedule {
    steady: SteadySchedule,
    stop: u64,
    /// Rates that follow each other, instead of a steady one.
    legs: Vec<RatePeriod>,
}

/// A constant rate, or as fast as possible.
#[derive(Debug, Clone, Copy)]
pub struct SteadySchedule {
    start: u64,
    /// Nanoseconds between two messages; `None` is as fast as possible.
    interval: Option<f64>,
}

impl SteadySchedule {
    /// See [`PublishSchedule::intended`].
    #[must_use]
    #[inline]
    pub fn intended(&self, n: u64, now: u64) -> u64 {
        match self.interval {
            Some(interval) => self.start + (n as f64 * interval) as u64,
            None => now,
        }
    }
}

/// A period with one rate.
#[derive(Debug, Clone, Copy)]
struct RatePeriod {
    /// Messages per nanosecond.
    rate: f64,
    /// The length of the period (ns).
    length: f64,
}

impl RatePeriod {
    fn messages(&self) -> f64 {
        self.rate * self.length
    }
}

impl PublishSchedule {
    /// A schedule of `rate` messages per second from `start` until before `stop` (ns). Without a
    /// rate every message is due at once.
    #[must_use]
    pub fn new(start: u64, stop: u64, rate: Option<f64>) -> Self {
        let interval = rate.map(|rate| SECOND as f64 / rate);
        Self { steady: SteadySchedule { start, interval }, stop, legs: Vec::new() }
    }

    /// A schedule whose rate (messages per second) changes; after the last rate the first follows
    /// again. At least one rate must be above 0.
    #[must_use]
    pub fn varied(start: u64, stop: u64, spans: &[TimedValue]) -> Self {
        let leg = |span: &TimedValue| RatePeriod {
            rate: span.value / SECOND as f64,
            length: clock::from_seconds(span.seconds) as f64,
        };
        let steady = SteadySchedule { start, interval: None };
        Self { steady, stop, legs: spans.iter().map(leg).collect() }
    }

    /// How many messages since the start are due by `now` (ns).
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

    /// When message `n` (from 0) is due (ns). Without a schedule, `now`.
    #[must_use]
    pub fn intended(&self, n: u64, now: u64) -> u64 {
        match self.steady() {
            Some(steady) => steady.intended(n, now),
            None => self.steady.start + time_of(&self.legs, n as f64) as u64,
        }
    }

    /// The schedule, if its rate is constant.
    #[must_use]
    pub fn steady(&self) -> Option<SteadySchedule> {
        self.legs.is_empty().then_some(self.steady)
    }

    /// When the next message after `sent` messages is due (ns).
    #[must_use]
    pub fn next(&self, sent: u64) -> u64 {
        self.intended(sent, self.steady.start)
    }

    /// True if nothing is due any more after `sent` messages.
    #[must_use]
    pub fn is_over(&self, sent: u64, now: u64) -> bool {
        now >= self.stop && (!self.is_fixed() || sent >= self.due(now))
    }

    /// True if there is a schedule.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.steady.interval.is_some() || !self.legs.is_empty()
    }
}

/// How many messages are due within `elapsed` nanoseconds, with fractions.
fn messages_by(legs: &[RatePeriod], elapsed: f64) -> f64 {
    let period: f64 = legs.iter().map(|leg| leg.length).sum();
    let all: f64 = legs.iter().map(RatePeriod::messages).sum();
    let rounds = (elapsed / period).floor();
    let (mut rest, mut count) = (elapsed - rounds * period, rounds * all);
    for leg in legs {
        count += leg.rate * rest.clamp(0.0, leg.length);
        rest -= leg.length;
    }
    count
}

/// When message `n` is due (ns after the start). A message between two periods belongs to the next
/// one with a rate above 0.
fn time_of(legs: &[RatePeriod], n: f64) -> f64 {
    let period: f64 = legs.iter().map(|leg| leg.length).sum();
    let all: f64 = legs.iter().map(RatePeriod::messages).sum();
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
        let schedule = PublishSchedule::new(1_000, u64::MAX, Some(1_000_000.0));
        assert_eq!(schedule.due(999), 0);
        assert_eq!(schedule.due(1_000), 1);
        assert_eq!(schedule.due(3_000), 3);
        assert_eq!(schedule.intended(500, 9_999_999), 501_000, "independent of the current time");
        assert_eq!(schedule.next(3), 4_000);
    }

    #[test]
    fn messages_due_before_the_stop_are_still_sent_after_it() {
        let schedule = PublishSchedule::new(1_000, 4_000, Some(1_000_000.0));
        assert_eq!(schedule.due(9_000), 3, "at 1000, 2000 and 3000");
        assert!(
            !schedule.is_over(2, 9_000)
                && schedule.is_over(3, 9_000)
                && !schedule.is_over(3, 3_999)
        );
        assert!(PublishSchedule::new(1_000, 4_000, None).is_over(2, 4_000), "nothing was due");
    }

    #[test]
    fn without_a_rate_every_message_is_due() {
        let schedule = PublishSchedule::new(1_000, u64::MAX, None);
        assert_eq!(schedule.due(999), 0);
        assert_eq!(schedule.due(1_000), u64::MAX);
        assert_eq!(schedule.intended(7, 5_000), 5_000);
        assert!(!schedule.is_fixed());
    }

    #[test]
    fn due_and_intended_agree_for_odd_rates() {
        let schedule = PublishSchedule::new(0, u64::MAX, Some(333.333));
        for n in 0..10_000 {
            let at = schedule.intended(n, 0);
            assert!(schedule.due(at + 1) > n, "message {n} is due at its time");
            assert!(at == 0 || schedule.due(at - 1) <= n, "and not before");
        }
    }

    #[test]
    fn a_changing_rate_follows_its_periods_and_pauses() {
        let spans = [1000.0, 0.0, 2000.0].map(|value| TimedValue { value, seconds: 0.5 });
        let schedule = PublishSchedule::varied(0, u64::MAX, &spans);
        let second = SECOND;
        assert_eq!((schedule.due(0), schedule.due(second / 2 - 1)), (1, 500));
        assert_eq!(
            (schedule.due(second - 1), schedule.due(second)),
            (500, 501),
            "nothing in the pause"
        );
        assert_eq!(schedule.due(3 * second / 2 - 1), 1500);
        assert_eq!(
            (schedule.intended(500, 0), schedule.intended(1500, 0)),
            (second, 3 * second / 2)
        );
        for n in 0..5000 {
            let at = schedule.intended(n, 0);
            assert!(schedule.due(at) > n, "message {n} is due at its time");
            assert!(at == 0 || schedule.due(at - 1) <= n, "and not before: {n}");
        }
    }
}
