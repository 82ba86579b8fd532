//! Flags of `loadgen run` for routing, sizes and rates.

use clap::Args;

use crate::cli::checks::{is_rate, refuse};
use crate::messages::bindings::ExchangeTypeArg;
use crate::messages::stamp::STAMP;
use crate::messages::timed_value::TimedValue;
use crate::system::error::LoadgenError;

/// Flags of routing.
#[derive(Debug, Clone, Args)]
pub struct RoutingArgs {
    /// The type of the exchange, if it is declared. With headers, the routing key is also in the
    /// header "key", and queues are bound to that
    #[arg(short = 't', long = "type", value_enum, default_value = "direct", value_name = "TYPE")]
    pub kind: ExchangeTypeArg,
    /// Number of routing keys, with %d in --routing-key for 1 and up. Each producer uses them in
    /// turn; bindings are distributed over the queues
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub routing_key_count: u32,
    /// Use random routing keys, distributed over the queues
    #[arg(long)]
    pub random_routing_key: bool,
    /// Number of random routing keys
    #[arg(long, default_value_t = 1000, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub routing_key_cache_size: u32,
    /// Bind every queue with these keys instead; may be repeated
    #[arg(long, value_name = "KEY")]
    pub binding_key: Vec<String>,
    /// Declare and bind nothing: queues and exchange must exist, with the bindings of a normal run
    #[arg(short = 'p', long)]
    pub predeclared: bool,
}

/// Flags of sizes and rates.
#[derive(Debug, Clone, Args)]
pub struct VariationArgs {
    /// Random bodies, which cannot be compressed
    #[arg(long)]
    pub random_bodies: bool,
    /// Give each message of a producer the next of so many priorities, from 0 up
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    pub priorities: u8,
    /// Messages per second of all producers together
    #[arg(long, value_name = "PER SECOND", conflicts_with = "rate")]
    pub total_rate: Option<f64>,
    /// Seconds between two messages of each producer, instead of a rate
    #[arg(short = 'P', long, value_name = "SECONDS", conflicts_with_all = ["rate", "total_rate"])]
    pub publishing_interval: Option<f64>,
    /// A rate and how long it holds; repeat it for changing rates. After the last the first follows
    #[arg(long, value_name = "RATE:SECONDS")]
    #[arg(conflicts_with_all = ["rate", "total_rate", "publishing_interval"])]
    pub variable_rate: Vec<TimedValue>,
    /// A body size and how long it holds; repeat it for changing sizes
    #[arg(long, value_name = "BYTES:SECONDS", conflicts_with = "size")]
    pub variable_size: Vec<TimedValue>,
}

impl RoutingArgs {
    /// Refuses flags that cannot work together.
    ///
    /// # Errors
    /// A sentence that names the flag.
    pub fn check(&self, routing_key: Option<&str>, exchange: &str) -> Result<(), LoadgenError> {
        let pattern = routing_key.is_some_and(|key| key.contains("%d"));
        if self.routing_key_count > 1 && !pattern {
            return refuse("--routing-key-count needs a --routing-key with %d in it");
        }
        if self.random_routing_key && routing_key.is_some() {
            return refuse("--random-routing-key replaces --routing-key: use only one of them");
        }
        if exchange.is_empty() && !self.binding_key.is_empty() {
            return refuse("--binding-key needs an exchange: name one with --exchange");
        }
        if exchange.is_empty() && self.kind != ExchangeTypeArg::Direct {
            return refuse("--type needs an exchange: name one with --exchange");
        }
        Ok(())
    }
}

impl VariationArgs {
    /// Refuses flags that cannot work.
    ///
    /// # Errors
    /// A sentence that names the flag.
    pub fn check(&self) -> Result<(), LoadgenError> {
        if self.total_rate.is_some_and(|rate| !is_rate(rate)) {
            return refuse("--total-rate must be above 0");
        }
        if self.publishing_interval.is_some_and(|interval| !is_rate(1.0 / interval)) {
            return refuse("--publishing-interval must be above 0");
        }
        let spans = &self.variable_rate;
        if !spans.is_empty() && spans.iter().all(|span| span.value == 0.0) {
            return refuse("--variable-rate needs a rate above 0");
        }
        if self.variable_size.iter().any(|span| span.value < STAMP as f64) {
            let least =
                format!("--variable-size must be at least {STAMP}: each body starts with a stamp");
            return refuse(least);
        }
        Ok(())
    }
}
