//! Flags of messages, shared by `loadgen run` and `loadgen ceiling`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::checks::refuse;
use crate::messages::body_sizes::BodySizes;
use crate::messages::stamp::STAMP;
use crate::system::error::LoadgenError;
use crate::system::threads::parse_cpus;

/// Flags of messages and of the run.
#[derive(Debug, Clone, Args)]
pub struct MessageArgs {
    /// Body size in bytes: a number, FROM-TO, or sizes with their shares such as 100:70,1000:30.
    /// The first 16 bytes are a time stamp and a sequence number
    #[arg(short, long, default_value = "16", value_name = "BYTES")]
    pub size: BodySizes,
    /// Messages per second of each producer, on a fixed schedule: latency counts from the time a
    /// message was due. Default: as fast as possible
    #[arg(short, long, value_name = "PER SECOND")]
    pub rate: Option<f64>,
    /// How long to publish, warm-up included
    #[arg(short = 'z', long, value_name = "SECONDS")]
    pub time: Option<f64>,
    /// Warm-up at the beginning, left out of rates and latencies
    #[arg(long, default_value_t = 0.0, value_name = "SECONDS")]
    pub warmup: f64,
    /// Comma-separated list; persistent also makes the declared queue durable
    #[arg(short, long, value_delimiter = ',', value_name = "FLAG")]
    pub flag: Vec<MessageFlag>,
    /// The exchange; declared, and deleted at the end, if it does not exist
    #[arg(short, long, default_value = "", value_name = "NAME")]
    pub exchange: String,
    /// The routing key; default: the queue's name. With %d in it there are several, see
    /// --routing-key-count
    #[arg(short = 'k', long, value_name = "KEY")]
    pub routing_key: Option<String>,
    /// The queue; declared, and deleted at the end, if it does not exist. Default: a name for this
    /// run
    #[arg(short = 'u', long, value_name = "NAME")]
    pub queue: Option<String>,
    /// CPUs that the worker threads are pinned to, such as 0,2-3
    #[arg(long, value_name = "LIST", value_parser = PinnedCpus::parse)]
    pub cpus: Option<PinnedCpus>,
    /// Busy-wait instead of sleeping: threads react faster, but each one uses a whole CPU
    #[arg(long)]
    pub spin: bool,
    /// Print one JSON object instead of the table
    #[arg(long)]
    pub json: bool,
    /// Write the latencies in HdrHistogram's text format; those of confirms to FILE.confirm
    #[arg(long, value_name = "FILE")]
    pub hgrm: Option<PathBuf>,
    /// Show no progress
    #[arg(long)]
    pub quiet: bool,
}

/// A property of published messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MessageFlag {
    /// Delivery mode 2.
    Persistent,
    /// An unroutable message is returned.
    Mandatory,
}

/// A list of CPU numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedCpus(pub Vec<usize>);

impl PinnedCpus {
    pub fn parse(text: &str) -> Result<Self, String> {
        parse_cpus(text).map(Self)
    }
}

impl MessageArgs {
    /// True if the flag is set.
    #[must_use]
    pub fn has(&self, flag: MessageFlag) -> bool {
        self.flag.contains(&flag)
    }

    /// The CPUs to pin threads to; empty for no pinning.
    #[must_use]
    pub fn cpus(&self) -> &[usize] {
        self.cpus.as_ref().map_or(&[], |list| &list.0)
    }

    pub fn check(&self) -> Result<(), LoadgenError> {
        if self.size.bounds().0 < STAMP {
            return refuse(format!(
                "--size must be at least {STAMP}: each body starts with a stamp"
            ));
        }
        let positive = |value: f64| value > 0.0 && value.is_finite();
        if self.rate.is_some_and(|rate| !positive(rate)) {
            return refuse(
                "--rate must be above 0; without it, messages are published as fast as possible",
            );
        }
        if self.time.is_some_and(|time| !positive(time)) {
            return refuse("--time must be above 0");
        }
        if !(self.warmup >= 0.0 && self.warmup.is_finite()) {
            return refuse("--warmup must not be negative");
        }
        if self.time.is_some_and(|time| time <= self.warmup) {
            return refuse("--warmup is part of --time and must be shorter");
        }
        Ok(())
    }

    /// The name of the queue. The default has the same length in every run.
    #[must_use]
    pub fn queue_name(&self) -> String {
        self.queue.clone().unwrap_or_else(|| format!("loadgen.{:08x}", std::process::id()))
    }
}
