//! Flags of `loadgen run` for consumers.

use clap::Args;

use crate::cli::checks::{is_rate, refuse};
use crate::consume::ack_policy::AckPolicy;
use crate::messages::timed_value::TimedValue;
use crate::system::clock::SECOND;
use crate::system::error::LoadgenError;

/// What consumers do with deliveries.
#[derive(Debug, Clone, Args)]
pub struct AckPolicyArgs {
    /// Reject this share of the deliveries instead of acknowledging it; without a number, all
    #[arg(long, default_value_t = 0.0, num_args = 0..=1, default_missing_value = "1")]
    #[arg(value_name = "SHARE", value_parser = share)]
    pub nack: f64,
    /// Requeue this share of the rejected deliveries; without a number, all
    #[arg(long, default_value_t = 0.0, num_args = 0..=1, default_missing_value = "1")]
    #[arg(value_name = "SHARE", value_parser = share)]
    pub requeue: f64,
    /// Processing time of each message before it is acknowledged
    #[arg(short = 'L', long, default_value_t = 0, value_name = "MICROSECONDS")]
    pub consumer_latency: u64,
    /// A processing time and how long it holds; repeat it for changing times
    #[arg(long, value_name = "MICROSECONDS:SECONDS", conflicts_with = "consumer_latency")]
    pub variable_latency: Vec<TimedValue>,
    /// The most messages that each consumer takes per second
    #[arg(short = 'R', long, value_name = "PER SECOND")]
    pub consumer_rate: Option<f64>,
    /// Acknowledge in transactions of this many messages
    #[arg(short = 'n', long, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub ctxsize: Option<u32>,
    /// Start the consumers one per second, before the producers
    #[arg(short = 'S', long)]
    pub slow_start: bool,
}

impl AckPolicyArgs {
    /// Refuses flags that cannot work together.
    ///
    /// # Errors
    /// A sentence that names the flag.
    pub fn check(&self, autoack: bool) -> Result<(), LoadgenError> {
        if self.consumer_rate.is_some_and(|rate| !is_rate(rate)) {
            return refuse("--consumer-rate must be above 0");
        }
        if self.requeue > 0.0 && self.nack == 0.0 {
            return refuse("--requeue is a share of the rejected deliveries: add --nack");
        }
        if autoack && (self.nack > 0.0 || self.ctxsize.is_some()) {
            return refuse("--nack and --ctxsize need acknowledgements: remove --autoack");
        }
        Ok(())
    }

    /// True if every message is acknowledged or rejected without requeue in the end.
    #[must_use]
    pub fn comes_to_an_end(&self) -> bool {
        self.nack * self.requeue < 1.0
    }

    /// The ack policy of each consumer.
    #[must_use]
    pub fn policy(&self) -> AckPolicy {
        AckPolicy {
            nack: self.nack,
            requeue: self.requeue,
            processing: self.consumer_latency.saturating_mul(1000),
            processing_over_time: self.variable_latency.clone(),
            interval: self.consumer_rate.map_or(0, |rate| (SECOND as f64 / rate) as u64),
            commit_every: self.ctxsize.unwrap_or(0),
        }
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share = match text {
        "true" => Some(1.0),
        "false" => Some(0.0),
        number => number.parse().ok().filter(|share| (0.0..=1.0).contains(share)),
    };
    share.ok_or_else(|| "a share must be a number from 0 to 1".to_owned())
}
