//! Flags of `loadgen run` beyond the plain load: where messages go, how they vary, what consumers
//! do with them, what connections there are. Those that PerfTest has are named as there.

use clap::Args;

use crate::account::STAMP;
use crate::care::Care;
use crate::clock::SECOND;
use crate::failure::Failure;
use crate::routes::ExchangeKind;
use crate::sizes::Span;

/// Where messages go.
#[derive(Debug, Clone, Args)]
pub struct RoutingArgs {
    /// The type of the exchange, if it is created. With headers, the routing key stands in the
    /// header "key" and queues are bound to that
    #[arg(short = 't', long = "type", value_enum, default_value = "direct", value_name = "TYPE")]
    pub kind: ExchangeKind,
    /// With %d in --routing-key: so many keys, from 1, in turn. They are dealt over the queues
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub routing_key_count: u32,
    /// Random routing keys, dealt over the queues
    #[arg(long)]
    pub random_routing_key: bool,
    /// How many of these there are
    #[arg(long, default_value_t = 1000, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub routing_key_cache_size: u32,
    /// Bind every queue with these keys instead; may be repeated
    #[arg(long, value_name = "KEY")]
    pub binding_key: Vec<String>,
    /// Declare and bind nothing: queues and exchange must be there, bound as they would be
    #[arg(short = 'p', long)]
    pub predeclared: bool,
}

/// How messages and rates vary.
#[derive(Debug, Clone, Args)]
pub struct VariationArgs {
    /// Bodies that cannot be compressed
    #[arg(long)]
    pub random_bodies: bool,
    /// Messages a second of all producers together
    #[arg(long, value_name = "PER SECOND", conflicts_with = "rate")]
    pub total_rate: Option<f64>,
    /// Seconds between two messages of each producer, instead of a rate
    #[arg(short = 'P', long, value_name = "SECONDS", conflicts_with_all = ["rate", "total_rate"])]
    pub publishing_interval: Option<f64>,
    /// A rate for so long, then the next; repeat it. All are gone through again and again
    #[arg(long, value_name = "RATE:SECONDS")]
    #[arg(conflicts_with_all = ["rate", "total_rate", "publishing_interval"])]
    pub variable_rate: Vec<Span>,
    /// A size for so long, then the next; repeat it
    #[arg(long, value_name = "OCTETS:SECONDS", conflicts_with = "size")]
    pub variable_size: Vec<Span>,
}

/// What consumers do with messages.
#[derive(Debug, Clone, Args)]
pub struct CareArgs {
    /// Refuse this share of the deliveries instead of acknowledging it; all without a number
    #[arg(long, default_value_t = 0.0, num_args = 0..=1, default_missing_value = "1")]
    #[arg(value_name = "SHARE", value_parser = share)]
    pub nack: f64,
    /// Give this share of the refused ones back to the queue; all without a number
    #[arg(long, default_value_t = 0.0, num_args = 0..=1, default_missing_value = "1")]
    #[arg(value_name = "SHARE", value_parser = share)]
    pub requeue: f64,
    /// How long a consumer thinks about each message before it acknowledges it
    #[arg(short = 'L', long, default_value_t = 0, value_name = "MICROSECONDS")]
    pub consumer_latency: u64,
    /// How long it thinks for a while, then the next; repeat it
    #[arg(long, value_name = "MICROSECONDS:SECONDS", conflicts_with = "consumer_latency")]
    pub variable_latency: Vec<Span>,
    /// Messages a second each consumer takes at most
    #[arg(short = 'R', long, value_name = "PER SECOND")]
    pub consumer_rate: Option<f64>,
    /// Consumers commit after so many messages
    #[arg(short = 'n', long, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub ctxsize: Option<u32>,
    /// One consumer a second, before the producers start
    #[arg(short = 'S', long)]
    pub slow_start: bool,
}

/// What connections there are.
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
    /// Producers commit after so many messages, and wait for it
    #[arg(short = 'm', long, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub ptxsize: Option<u32>,
    /// More connections that do nothing but stay
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    pub idle_connections: u32,
    /// Heartbeats of these, 0 for none; others have none
    #[arg(short = 'b', long, default_value_t = 60, value_name = "SECONDS")]
    pub heartbeat: u16,
}

fn share(text: &str) -> Result<f64, String> {
    let share = match text {
        "true" => Some(1.0),
        "false" => Some(0.0),
        number => number.parse().ok().filter(|share| (0.0..=1.0).contains(share)),
    };
    share.ok_or_else(|| "a share is a number from 0 to 1".to_owned())
}

fn refuse(sentence: &str) -> Result<(), Failure> {
    Err(Failure::Settings(sentence.to_owned()))
}

fn is_rate(rate: f64) -> bool {
    rate > 0.0 && rate.is_finite()
}

impl RoutingArgs {
    /// Refuses settings that cannot work together.
    ///
    /// # Errors
    /// A sentence that names the flag.
    pub fn check(&self, routing_key: Option<&str>, exchange: &str) -> Result<(), Failure> {
        let pattern = routing_key.is_some_and(|key| key.contains("%d"));
        if self.routing_key_count > 1 && !pattern {
            return refuse("--routing-key-count counts for a --routing-key with %d in it");
        }
        if self.random_routing_key && routing_key.is_some() {
            return refuse("--random-routing-key takes the place of --routing-key: leave one out");
        }
        if exchange.is_empty() && !self.binding_key.is_empty() {
            return refuse("--binding-key is for an exchange of its own: name one with --exchange");
        }
        if exchange.is_empty() && self.kind != ExchangeKind::Direct {
            return refuse("--type is for an exchange of its own: name one with --exchange");
        }
        Ok(())
    }
}

impl VariationArgs {
    /// Refuses settings that cannot work.
    ///
    /// # Errors
    /// A sentence that names the flag.
    pub fn check(&self) -> Result<(), Failure> {
        if self.total_rate.is_some_and(|rate| !is_rate(rate)) {
            return refuse("--total-rate is above 0");
        }
        if self.publishing_interval.is_some_and(|interval| !is_rate(1.0 / interval)) {
            return refuse("--publishing-interval is above 0");
        }
        let spans = &self.variable_rate;
        if !spans.is_empty() && spans.iter().all(|span| span.value == 0.0) {
            return refuse("--variable-rate needs a rate above 0");
        }
        if self.variable_size.iter().any(|span| span.value < STAMP as f64) {
            let least = format!("--variable-size is at least {STAMP}: the stamp is in the body");
            return refuse(&least);
        }
        Ok(())
    }
}

impl CareArgs {
    /// Refuses settings that cannot work together.
    ///
    /// # Errors
    /// A sentence that names the flag.
    pub fn check(&self, autoack: bool) -> Result<(), Failure> {
        if self.consumer_rate.is_some_and(|rate| !is_rate(rate)) {
            return refuse("--consumer-rate is above 0");
        }
        if self.requeue > 0.0 && self.nack == 0.0 {
            return refuse("--requeue is a share of what is refused: add --nack");
        }
        if autoack && (self.nack > 0.0 || self.ctxsize.is_some()) {
            return refuse("--nack and --ctxsize need acknowledgements: leave --autoack out");
        }
        Ok(())
    }

    /// Whether every message is acknowledged or refused for good sooner or later.
    #[must_use]
    pub fn comes_to_an_end(&self) -> bool {
        self.nack * self.requeue < 1.0
    }

    /// What consumers do.
    #[must_use]
    pub fn care(&self) -> Care {
        Care {
            nack: self.nack,
            requeue: self.requeue,
            think: self.consumer_latency.saturating_mul(1000),
            think_over_time: self.variable_latency.clone(),
            interval: self.consumer_rate.map_or(0, |rate| (SECOND as f64 / rate) as u64),
            commit_every: self.ctxsize.unwrap_or(0),
        }
    }
}
