//! Single figures of a report.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use crate::measure::measured_count::MeasuredCount;
use crate::system::clock::SECOND;

/// The throughput of one direction after the warm-up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Throughput {
    /// Messages counted.
    pub messages: u64,
    /// From the end of the warm-up to the last message.
    pub seconds: f64,
    /// Messages per second.
    pub rate: f64,
    /// Megabytes (10^6 bytes) of bodies per second.
    pub megabytes: f64,
}

impl Throughput {
    /// The throughput for bodies of `size` bytes on average, measured from `measure_from` (ns) on.
    #[must_use]
    pub fn new(measured: MeasuredCount, measure_from: u64, size: f64) -> Self {
        let seconds = measured.last.saturating_sub(measure_from) as f64 / SECOND as f64;
        let messages = measured.count;
        let rate = if seconds > 0.0 { messages as f64 / seconds } else { 0.0 };
        Self { messages, seconds, rate, megabytes: rate * size / 1e6 }
    }
}

/// CPU time per message, sent or received. On a machine with other load it varies less than rates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct CpuPerMessage {
    /// Of all worker threads (ns).
    pub generator_ns_per_message: f64,
    /// Of the relay, if there was one (ns).
    pub relay_ns_per_message: Option<f64>,
}

impl CpuPerMessage {
    /// Divides the CPU time (ns) of the workers and of the relay by the number of messages.
    #[must_use]
    pub fn new(messages: u64, generator: u64, relay: Option<u64>) -> Self {
        let messages = messages.max(1) as f64;
        Self {
            generator_ns_per_message: generator as f64 / messages,
            relay_ns_per_message: relay.map(|cpu| cpu as f64 / messages),
        }
    }
}

impl Display for CpuPerMessage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "CPU per message: generator {:.0} ns", self.generator_ns_per_message)?;
        if let Some(relay) = self.relay_ns_per_message {
            write!(f, ", relay {relay:.0} ns")?;
        }
        writeln!(f)
    }
}

/// What a churn run measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChurnFigures {
    /// Operations done.
    pub operations: u64,
    /// The duration of the run after the warm-up.
    pub seconds: f64,
    /// Operations per second.
    pub rate: f64,
}

/// One second of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SecondFigures {
    /// Seconds since the first message was due.
    pub at: f64,
    /// Messages sent per second since the previous entry.
    pub sent: f64,
    /// Messages received per second.
    pub received: f64,
    /// Messages confirmed per second.
    pub confirmed: f64,
    /// The broker's resident memory (bytes), if its process is known.
    pub broker_rss: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_count_from_the_end_of_the_warm_up() {
        let flow = Throughput::new(MeasuredCount { count: 10, last: 3 * SECOND }, SECOND, 100.0);
        assert_eq!((flow.seconds, flow.rate, flow.megabytes), (2.0, 5.0, 0.0005));
        assert_eq!(Throughput::new(MeasuredCount::default(), SECOND, 100.0).rate, 0.0);
    }
}
