//! The command line. Flags have PerfTest's names where PerfTest has them.

use clap::{Parser, Subcommand};

use crate::cli::ceiling::CeilingArgs;
use crate::cli::churn::ChurnArgs;
use crate::cli::compare::{CompareArgs, ReportArgs};
use crate::cli::run::RunArgs;

/// Measures the throughput and the latency of an AMQP 0-9-1 broker.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version, max_term_width = 100)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: CliCommand,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Publish to a broker and consume from it; account for every message.
    Run(Box<RunArgs>),
    /// Send the same bytes through a minimal relay: the most that this machine can carry.
    Ceiling(CeilingArgs),
    /// Create and delete connections, channels, queues, bindings or consumers.
    Churn(ChurnArgs),
    /// Run the same scenarios against several brokers, in turn, and compare.
    Compare(CompareArgs),
    /// Run all standard scenarios and compare.
    Suite(CompareArgs),
    /// Draw the report of an earlier comparison from its JSON.
    Report(ReportArgs),
}
