//! Flags of `loadgen run`.

use clap::Args;

use crate::cli::checks::{DEFAULT_SECONDS, refuse};
use crate::cli::connections::ConnectionArgs;
use crate::cli::consumers::AckPolicyArgs;
use crate::cli::message::MessageArgs;
use crate::cli::traffic::{RoutingArgs, VariationArgs};
use crate::client::uri::AmqpUri;
use crate::system::error::LoadgenError;

/// The longest drain of a backlog without a limit (s).
const DRAIN_SECONDS: f64 = 300.0;

/// `loadgen run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// The broker: amqp://user:password@host:port/vhost, percent-encoded
    #[arg(long, default_value = "amqp://guest:guest@127.0.0.1:5672/%2f")]
    pub uri: AmqpUri,
    /// Flags of routing.
    #[command(flatten)]
    pub routing: RoutingArgs,
    /// Flags of sizes and rates.
    #[command(flatten)]
    pub variation: VariationArgs,
    /// Flags of consumers.
    #[command(flatten)]
    pub ack_policy: AckPolicyArgs,
    /// Flags of connections and channels.
    #[command(flatten)]
    pub connections: ConnectionArgs,
    /// Number of producers, each with a connection of its own
    #[arg(short = 'x', long, default_value_t = 1, value_name = "COUNT")]
    pub producers: u16,
    /// Number of consumers, each with a connection of its own
    #[arg(short = 'y', long, default_value_t = 1, value_name = "COUNT")]
    pub consumers: u16,
    /// Flags of messages and of the run.
    #[command(flatten)]
    pub message: MessageArgs,
    /// Publisher confirms: the most unconfirmed messages of each producer
    #[arg(short, long, value_name = "WINDOW", value_parser = clap::value_parser!(u32).range(1..))]
    pub confirm: Option<u32>,
    /// The prefetch count of each consumer; 0 is no limit
    #[arg(short, long, default_value_t = 0, value_name = "PREFETCH")]
    pub qos: u16,
    /// Acknowledge this many messages with one ack
    #[arg(
        short = 'A', long, default_value_t = 1, value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub multi_ack_every: u32,
    /// Consume with automatic acknowledgement
    #[arg(short, long)]
    pub autoack: bool,
    /// Messages that each producer publishes
    #[arg(short = 'C', long, value_name = "COUNT")]
    pub pmessages: Option<u64>,
    /// Messages that each consumer takes
    #[arg(short = 'D', long, value_name = "COUNT")]
    pub cmessages: Option<u64>,
    /// Publish this many messages before the first consumer starts. Without producers the run ends
    /// when they are consumed
    #[arg(long, value_name = "COUNT")]
    pub backlog: Option<u64>,
    /// Several queues: a name with %d in it. Producers and consumers are assigned to them in turn
    #[arg(long, value_name = "NAME", conflicts_with = "queue")]
    pub queue_pattern: Option<String>,
    /// The first number in the pattern
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub queue_pattern_from: u32,
    /// The last number in the pattern
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub queue_pattern_to: u32,
    /// Arguments of declared queues: key=value, comma-separated. Digits are a number, true and
    /// false a boolean, anything else a string
    #[arg(long, value_delimiter = ',', value_name = "KEY=VALUE")]
    pub queue_args: Vec<String>,
    /// Whether declared queues are auto-delete
    #[arg(long, default_value_t = false, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub auto_delete: bool,
    /// Whether declared queues are durable; default: only with --flag persistent
    #[arg(long, value_name = "BOOL")]
    pub durable: Option<bool>,
    /// Do not delete the declared queues at the end
    #[arg(long)]
    pub keep_queue: bool,
    /// How long confirms and deliveries may take after the last publish
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS")]
    pub drain_timeout: f64,
    /// The PID of a broker on this machine: its CPU time and memory are reported
    #[arg(long, value_name = "PID")]
    pub broker_pid: Option<u32>,
    /// Threads that the connections are distributed over
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: u16,
}

impl RunArgs {
    /// Refuses flags that cannot work together and fills in defaults that depend on other flags.
    ///
    /// # Errors
    /// A sentence that names the flag.
    pub fn check(&mut self) -> Result<(), LoadgenError> {
        self.message.check()?;
        let MessageArgs { routing_key, exchange, .. } = &self.message;
        self.routing.check(routing_key.as_deref(), exchange)?;
        self.variation.check()?;
        self.ack_policy.check(self.autoack)?;
        self.check_channels()?;
        if let Some(interval) = self.variation.publishing_interval {
            self.message.rate = Some(1.0 / interval);
        }
        if self.producers == 0 && self.consumers == 0 && self.connections.idle_connections == 0 {
            return refuse("no --producers and no --consumers: nothing to do");
        }
        if !self.autoack && self.qos > 0 && self.multi_ack_every > u32::from(self.qos) {
            return refuse(format!(
                "--multi-ack-every {} is never reached with --qos {}: make it smaller",
                self.multi_ack_every, self.qos
            ));
        }
        if self.queue_pattern.as_ref().is_some_and(|pattern| !pattern.contains("%d")) {
            return refuse("--queue-pattern needs %d in place of the number");
        }
        if self.queue_pattern_from > self.queue_pattern_to {
            return refuse("--queue-pattern-from must not be above --queue-pattern-to");
        }
        if !(self.drain_timeout >= 0.0 && self.drain_timeout.is_finite()) {
            return refuse("--drain-timeout must not be negative");
        }
        let bounded = self.pmessages.is_some() && self.producers > 0
            || self.cmessages.is_some() && self.consumers > 0;
        if self.backlog.is_some() && self.consumers == 0 {
            return refuse("--backlog needs consumers: set --consumers above 0");
        }
        if self.message.time.is_none() && !bounded {
            let seconds = if self.drains() { DRAIN_SECONDS } else { DEFAULT_SECONDS };
            self.message.time = Some(seconds + self.message.warmup);
        }
        Ok(())
    }

    fn check_channels(&self) -> Result<(), LoadgenError> {
        if self.all_producers() > usize::from(u16::MAX) {
            return refuse("--producers times --producer-channel-count must be below 65536");
        }
        if self.confirm.is_some() && self.connections.ptxsize.is_some() {
            return refuse("--confirm and --ptxsize exclude each other: use only one of them");
        }
        Ok(())
    }

    /// How many channels publish.
    #[must_use]
    pub fn all_producers(&self) -> usize {
        usize::from(self.producers) * usize::from(self.connections.producer_channel_count)
    }

    /// The rate of each producer (messages per second), if it is constant.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        let share = |total: f64| total / self.all_producers().max(1) as f64;
        self.message.rate.or(self.variation.total_rate.map(share))
    }

    /// True if the run only consumes a backlog.
    #[must_use]
    pub fn drains(&self) -> bool {
        self.backlog.is_some() && self.producers == 0
    }

    /// The names of the queues, at least one.
    #[must_use]
    pub fn queues(&self) -> Vec<String> {
        match &self.queue_pattern {
            Some(pattern) => (self.queue_pattern_from..=self.queue_pattern_to)
                .map(|number| pattern.replacen("%d", &number.to_string(), 1))
                .collect(),
            None => vec![self.message.queue_name()],
        }
    }
}

#[cfg(test)]
#[path = "run_test.rs"]
mod tests;
