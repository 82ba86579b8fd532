//! Flags of `loadgen run` for connections and channels.

use clap::Args;

/// Connections and channels.
#[derive(Debug, Clone, Args)]
pub struct ConnectionArgs {
    /// Channels of each producer's connection; each of them publishes
    #[arg(short = 'X', long, default_value_t = 1, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub producer_channel_count: u16,
    /// Channels of each consumer's connection; each of them consumes
    #[arg(short = 'Y', long, default_value_t = 1, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub consumer_channel_count: u16,
    /// Publish in transactions of this many messages and wait for each commit
    #[arg(short = 'm', long, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub ptxsize: Option<u32>,
    /// Additional connections without traffic
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    pub idle_connections: u32,
    /// Heartbeat interval of the idle connections, 0 for none; other connections have none
    #[arg(short = 'b', long, default_value_t = 60, value_name = "SECONDS")]
    pub heartbeat: u16,
}
