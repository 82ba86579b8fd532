//! Flags of `loadgen ceiling`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::checks::{DEFAULT_SECONDS, refuse};
use crate::cli::message::{MessageArgs, PinnedCpus};
use crate::system::error::LoadgenError;

/// `loadgen ceiling`.
#[derive(Debug, Clone, Args)]
pub struct CeilingArgs {
    /// Flags of messages.
    #[command(flatten)]
    pub message: MessageArgs,
    /// The most messages in flight: a closed loop; with 1, a ping-pong
    #[arg(short, long, value_name = "WINDOW", value_parser = clap::value_parser!(u32).range(1..))]
    pub confirm: Option<u32>,
    /// The CPU that the relay is pinned to
    #[arg(long, value_name = "LIST", value_parser = PinnedCpus::parse)]
    pub relay_cpus: Option<PinnedCpus>,
    /// Publish to a reader that discards everything, instead of the relay: shows what the generator
    /// can publish and, with large messages, what a pair of sockets carries
    #[arg(long, conflicts_with = "source")]
    pub sink: bool,
    /// Consume from a writer that generates deliveries, instead of the relay: shows what the
    /// generator can consume
    #[arg(long)]
    pub source: bool,
    /// Write batches of messages to a file in this folder, instead of using sockets, and sync each
    /// batch before the next: shows what the disk carries
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["source", "sink", "rate", "confirm"])]
    pub sync: Option<PathBuf>,
    /// Messages per batch
    #[arg(long, default_value_t = 1, value_name = "COUNT", requires = "sync")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub batch: u32,
}

impl CeilingArgs {
    /// Refuses flags that cannot work together and fills in defaults that depend on other flags.
    ///
    /// # Errors
    /// A sentence that names the flag.
    pub fn check(&mut self) -> Result<(), LoadgenError> {
        self.message.check()?;
        if self.message.size.fixed().is_none() {
            return refuse("loadgen ceiling needs a single --size");
        }
        self.message.time.get_or_insert(DEFAULT_SECONDS + self.message.warmup);
        Ok(())
    }

    /// True if the relay runs without a limit.
    #[must_use]
    pub fn is_flat_out(&self) -> bool {
        let bounded = self.message.rate.is_some() || self.confirm.is_some();
        !self.sink && !self.source && self.sync.is_none() && !bounded
    }
}
