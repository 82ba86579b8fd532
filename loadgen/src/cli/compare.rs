//! Flags of `loadgen compare`, `loadgen suite` and `loadgen report`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::checks::positive;
use crate::cli::message::PinnedCpus;
use crate::cli::target::TargetBroker;

/// `loadgen compare` and `loadgen suite`.
#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    /// A broker and its name in the report: name=amqp://user:password@host:port/vhost. With ,pid=N
    /// at the end its CPU time and memory are measured. Repeat for each broker; the first is
    /// compared with the others
    #[arg(short, long, required = true, value_name = "NAME=URI[,pid=N]")]
    pub target: Vec<TargetBroker>,
    /// The name of a standard scenario, or a file; may be repeated. Default: all standard scenarios
    #[arg(long, value_name = "NAME")]
    pub scenario: Vec<String>,
    /// How often each run is repeated
    #[arg(long, default_value_t = 3, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: u16,
    /// How long each run publishes, unless its scenario sets --time
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS", value_parser = positive)]
    pub seconds: f64,
    /// Warm-up before that, unless the scenario sets --warmup
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS", value_parser = positive)]
    pub warmup: f64,
    /// CPUs that the worker threads are pinned to, such as 0,2-3
    #[arg(long, value_name = "LIST", value_parser = PinnedCpus::parse)]
    pub cpus: Option<PinnedCpus>,
    /// The CPU that the relay is pinned to
    #[arg(long, value_name = "LIST", value_parser = PinnedCpus::parse)]
    pub relay_cpus: Option<PinnedCpus>,
    #[command(flatten)]
    pub pictures: PictureArgs,
    /// Write all figures of all runs as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// The pictures of a comparison, besides the table.
#[derive(Debug, Clone, Args)]
pub struct PictureArgs {
    /// Write the report as one HTML file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write one picture that compares the first target with the second in all scenarios
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// `loadgen report`.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// A file written by --json of compare or suite
    pub file: PathBuf,
    #[command(flatten)]
    pub pictures: PictureArgs,
}
