//! What the flags mean for a run: its plan and its messages.

use crate::cli::message::{MessageArgs, MessageFlag};
use crate::client::methods::CHANNEL;
use crate::messages::publish_template::PublishTemplate;
use crate::publish::batch::{PublishBatch, WRITE};
use crate::system::clock::{self, MILLISECOND};
use crate::worker::plan::RunPlan;

/// How long the threads have to start (ns).
pub const START_DELAY: u64 = 20 * MILLISECOND;

/// The plan of a run that starts at `start` (ns).
#[must_use]
pub fn plan(message: &MessageArgs, start: u64, producers: usize, peer_is_broker: bool) -> RunPlan {
    let after = |seconds: f64| start.saturating_add(clock::from_seconds(seconds));
    RunPlan {
        start,
        measure_from: after(message.warmup),
        stop: message.time.map_or(u64::MAX, after),
        producers,
        peer_is_broker,
        spin: message.spin,
        requeues: false,
    }
}

/// The batch of one producer with at most `messages` messages.
#[must_use]
pub fn publishes(
    message: &MessageArgs,
    queue: &str,
    frame_max: u32,
    messages: u64,
) -> PublishBatch {
    PublishBatch::new(&template(message, queue), frame_max, WRITE, messages.min(due(message.rate)))
}

/// Messages due within 10 ms at a rate, plus 16: batches of many slow producers must stay small.
#[must_use]
pub fn due(rate: Option<f64>) -> u64 {
    rate.map_or(u64::MAX, |rate| (rate / 100.0) as u64 + 16)
}

/// What messages to `queue` look like, on channel 1.
#[must_use]
pub fn template(message: &MessageArgs, queue: &str) -> PublishTemplate {
    PublishTemplate {
        channel: CHANNEL,
        exchange: message.exchange.clone(),
        routing_key: message.routing_key.clone().unwrap_or_else(|| queue.to_owned()),
        size: message.size.bounds().1,
        persistent: message.has(MessageFlag::Persistent),
        priority: None,
        mandatory: message.has(MessageFlag::Mandatory),
        with_header: false,
    }
}
