//! Flags of `loadgen churn`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::checks::{DEFAULT_SECONDS, positive, refuse};
use crate::client::uri::AmqpUri;
use crate::system::error::LoadgenError;

/// The objects that a churn run creates and deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ChurnKind {
    /// Connections with one channel each.
    Connection,
    /// Channels of one connection.
    Channel,
    /// Queues of one channel.
    Queue,
    /// Bindings of one queue.
    Binding,
    /// Consumers of one queue.
    Consumer,
}

/// `loadgen churn`.
#[derive(Debug, Clone, Args)]
pub struct ChurnArgs {
    /// What to create and delete
    #[arg(long, value_enum)]
    pub kind: ChurnKind,
    /// The broker: amqp://user:password@host:port/vhost, percent-encoded
    #[arg(long, default_value = "amqp://guest:guest@127.0.0.1:5672/%2f")]
    pub uri: AmqpUri,
    /// Number of clients, each with a connection and a thread of its own
    #[arg(short = 'x', long, default_value_t = 1, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub clients: u16,
    /// Duration, warm-up included
    #[arg(short = 'z', long, default_value_t = DEFAULT_SECONDS, value_name = "SECONDS")]
    #[arg(value_parser = positive)]
    pub time: f64,
    /// Warm-up at the beginning, not measured
    #[arg(long, default_value_t = 0.0, value_name = "SECONDS")]
    pub warmup: f64,
    /// The PID of a broker on this machine: its CPU time and memory are reported
    #[arg(long, value_name = "PID")]
    pub broker_pid: Option<u32>,
    /// Write the latencies of the operations in HdrHistogram's text format
    #[arg(long, value_name = "FILE")]
    pub hgrm: Option<PathBuf>,
    /// Print one JSON object instead of the table
    #[arg(long)]
    pub json: bool,
}

impl ChurnArgs {
    /// Refuses flags that cannot work together.
    ///
    /// # Errors
    /// A sentence that names the flag.
    pub fn check(&self) -> Result<(), LoadgenError> {
        if !(self.warmup >= 0.0 && self.warmup < self.time) {
            return refuse("--warmup is part of --time and must be shorter");
        }
        Ok(())
    }
}
