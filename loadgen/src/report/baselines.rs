//! Figures of the baselines: sockets without a relay, a disk without a broker.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

/// The encoded length of a message in both directions (bytes).
#[derive(Debug, Clone, Copy)]
pub struct MessageLengths {
    /// From the generator to the relay.
    pub publish: usize,
    /// From the relay to the generator.
    pub deliver: usize,
}

/// The throughput of the relay compared with that of the socket baseline.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RelayEfficiency {
    /// Throughput of the socket baseline (megabytes of 10^6 bytes per second), both directions
    /// together.
    #[serde(rename = "pair_megabytes")]
    pub baseline_megabytes: f64,
    /// The same of the relay, framing included.
    pub relay_megabytes: f64,
    /// Relay throughput divided by baseline throughput.
    pub share: f64,
}

impl RelayEfficiency {
    /// Compares a relay (messages per second) with the baselines measured before and after it.
    #[must_use]
    pub fn new(messages: f64, lengths: MessageLengths, baselines: [f64; 2]) -> Self {
        let relay_megabytes = messages * (lengths.publish + lengths.deliver) as f64 / 1e6;
        let baseline_megabytes = (baselines[0] + baselines[1]) / 2.0;
        let share =
            if baseline_megabytes > 0.0 { relay_megabytes / baseline_megabytes } else { 0.0 };
        Self { baseline_megabytes, relay_megabytes, share }
    }
}

impl Display for RelayEfficiency {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { baseline_megabytes, relay_megabytes, share } = self;
        writeln!(
            f,
            "relay with framing, both directions: {relay_megabytes:.0} MB/s, {:.0} % of the \
             {baseline_megabytes:.0} MB/s of the socket baseline",
            100.0 * share
        )
    }
}

/// What `loadgen ceiling --sync` measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct FsyncFigures {
    /// Messages per batch.
    pub batch: u32,
    /// Bytes per batch.
    #[serde(rename = "octets")]
    pub bytes: usize,
    /// Batches synced.
    pub syncs: u64,
    /// The duration of all syncs together.
    pub seconds: f64,
    /// Syncs per second.
    pub rate: f64,
    /// Messages per second.
    pub messages: f64,
    /// Megabytes (10^6 bytes) per second.
    pub megabytes: f64,
}

impl Display for FsyncFigures {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { batch, bytes, syncs, seconds, rate, messages, megabytes } = self;
        writeln!(
            f,
            "\n{syncs} syncs in {seconds:.2} s, each of {batch} messages, {bytes} bytes\n\
             {rate:.0} syncs/s, {messages:.0} messages/s, {megabytes:.2} MB/s"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_counts_bytes_of_both_directions() {
        let lengths = MessageLengths { publish: 40, deliver: 60 };
        let relay_efficiency = RelayEfficiency::new(1e6, lengths, [150.0, 250.0]);
        assert_eq!((relay_efficiency.relay_megabytes, relay_efficiency.share), (100.0, 0.5));
        assert_eq!(RelayEfficiency::new(1.0, lengths, [0.0, 0.0]).share, 0.0);
    }
}
