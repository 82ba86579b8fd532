//! Latencies in a histogram with three significant digits, from 1 ns to one hour.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// One hour in nanoseconds; longer latencies count as one hour.
const LONGEST: u64 = 3_600_000_000_000;
const DIGITS: u8 = 3;

/// Records latencies. Messages of one batch have equal times, so equal values in a row are counted
/// first and recorded together.
#[derive(Debug, Clone, PartialEq)]
pub struct LatencyRecorder {
    histogram: Histogram<u64>,
    value: u64,
    times: u64,
}

/// Percentiles in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
pub struct Percentiles {
    /// How many values were recorded.
    pub count: u64,
    /// The minimum.
    pub min: f64,
    /// The median.
    pub p50: f64,
    /// The 75th percentile.
    pub p75: f64,
    /// The 95th percentile.
    pub p95: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The 99.9th percentile.
    #[serde(rename = "p99.9")]
    pub p99_9: f64,
    /// The 99.99th percentile.
    #[serde(rename = "p99.99")]
    pub p99_99: f64,
    /// The maximum.
    pub max: f64,
}

impl Default for LatencyRecorder {
    fn default() -> Self {
        Self::new()
    }
}

impl LatencyRecorder {
    /// An empty histogram.
    #[must_use]
    pub fn new() -> Self {
        Self { histogram: empty(), value: 0, times: 0 }
    }

    /// Records one latency (ns).
    #[inline]
    pub fn record(&mut self, nanoseconds: u64) {
        if nanoseconds == self.value {
            self.times += 1;
        } else {
            self.settle();
            (self.value, self.times) = (nanoseconds, 1);
        }
    }

    fn settle(&mut self) {
        // Recording a value zero times would still make it the minimum.
        if self.times > 0 {
            let value = self.value.max(1);
            self.histogram.saturating_record_n(value, self.times);
        }
        self.times = 0;
    }

    /// Adds the values of another recorder.
    pub fn add(&mut self, mut other: LatencyRecorder) {
        self.settle();
        other.settle();
        for seen in other.histogram.iter_recorded() {
            let (value, times) = (seen.value_iterated_to(), seen.count_at_value());
            self.histogram.saturating_record_n(value, times);
        }
    }

    /// All recorded values (ns).
    #[must_use]
    pub fn histogram(&mut self) -> &Histogram<u64> {
        self.settle();
        &self.histogram
    }

    /// The percentiles of the recorded values; `None` without values.
    #[must_use]
    pub fn percentiles(&mut self) -> Option<Percentiles> {
        self.settle();
        let histogram = &self.histogram;
        let at = |percentile| microseconds(histogram.value_at_percentile(percentile));
        (!histogram.is_empty()).then(|| Percentiles {
            count: histogram.len(),
            min: microseconds(histogram.min()),
            p50: at(50.0),
            p75: at(75.0),
            p95: at(95.0),
            p99: at(99.0),
            p99_9: at(99.9),
            p99_99: at(99.99),
            max: microseconds(histogram.max()),
        })
    }
}

fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1000.0
}

#[expect(clippy::expect_used, reason = "the bounds are constants, tested below")]
fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, DIGITS).expect("1 < an hour, three digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_three_digits() {
        let mut latency = LatencyRecorder::new();
        assert_eq!(latency.percentiles(), None);
        for microsecond in 1..=1000 {
            latency.record(microsecond * 1000);
        }
        let seen = latency.percentiles().unwrap();
        assert_eq!(seen.count, 1000);
        for (value, expected) in [(seen.min, 1.0), (seen.p50, 500.0), (seen.max, 1000.0)] {
            assert!((value / expected - 1.0).abs() < 0.002, "{value} for {expected}");
        }
    }

    #[test]
    fn runs_of_equal_values_and_other_recorders_count() {
        let (mut one, mut two) = (LatencyRecorder::new(), LatencyRecorder::new());
        for _ in 0..10 {
            one.record(5_000);
        }
        two.record(u64::MAX);
        one.add(two);
        let seen = one.percentiles().unwrap();
        assert_eq!(seen.count, 11);
        assert!(seen.max > 3.59e9, "an hour at most: {}", seen.max);
    }
}
