//! Single figures of a report.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use crate::clock::SECOND;
use crate::ledger::Measured;

/// A figure of one direction, after the warm-up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Flow {
    /// How many messages.
    pub messages: u64,
    /// From the end of the warm-up to the last of them.
    pub seconds: f64,
    /// Messages a second.
    pub rate: f64,
    /// Megabytes (10^6 octets) of bodies a second.
    pub megabytes: f64,
}

impl Flow {
    /// Of bodies of `size` octets on average, measured from a time (ns) on.
    #[must_use]
    pub fn new(measured: Measured, measure_from: u64, size: f64) -> Self {
        let seconds = measured.last.saturating_sub(measure_from) as f64 / SECOND as f64;
        let messages = measured.count;
        let rate = if seconds > 0.0 { messages as f64 / seconds } else { 0.0 };
        Self { messages, seconds, rate, megabytes: rate * size / 1e6 }
    }
}

/// Nanoseconds of CPU for one message, sent or received; steadier than rates on a machine that
/// others use as well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Cpu {
    /// Of all worker threads.
    pub generator_ns_per_message: f64,
    /// Of the relay, if there was one.
    pub relay_ns_per_message: Option<f64>,
}

impl Cpu {
    /// Of so many messages, with the CPU time (ns) of the workers and of the relay.
    #[must_use]
    pub fn new(messages: u64, generator: u64, relay: Option<u64>) -> Self {
        let messages = messages.max(1) as f64;
        Self {
            generator_ns_per_message: generator as f64 / messages,
            relay_ns_per_message: relay.map(|cpu| cpu as f64 / messages),
        }
    }
}

impl Display for Cpu {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "CPU per message: generator {:.0} ns", self.generator_ns_per_message)?;
        if let Some(relay) = self.relay_ns_per_message {
            write!(f, ", relay {relay:.0} ns")?;
        }
        writeln!(f)
    }
}

/// Operations of one kind, one after the other on each connection.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Churn {
    /// How many.
    pub operations: u64,
    /// How long they took together.
    pub seconds: f64,
    /// Operations a second.
    pub rate: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_count_from_the_end_of_the_warm_up() {
        let flow = Flow::new(Measured { count: 10, last: 3 * SECOND }, SECOND, 100.0);
        assert_eq!((flow.seconds, flow.rate, flow.megabytes), (2.0, 5.0, 0.0005));
        assert_eq!(Flow::new(Measured::default(), SECOND, 100.0).rate, 0.0);
    }
}
