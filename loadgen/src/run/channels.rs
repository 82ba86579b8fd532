//! Builds the producers and consumers of a run from its flags.

use crate::cli::run::RunArgs;
use crate::client::connection::ClientConnection;
use crate::consume::ack_policy::DeliveryProcessor;
use crate::consume::consumer::{AckMode, ConsumerChannel};
use crate::messages::bindings::ExchangeTypeArg;
use crate::messages::publish_template::PublishTemplate;
use crate::messages::routing_keys::KeyCycle;
use crate::publish::batch::{PublishBatch, WRITE};
use crate::publish::confirm_window::ConfirmWindow;
use crate::publish::in_flight::InFlightLimit;
use crate::publish::producer::ProducerChannel;
use crate::publish::schedule::PublishSchedule;
use crate::publish::varied::MessageVariation;
use crate::run::from_flags::{due, template};
use crate::system::clock::SECOND;
use crate::worker::plan::RunPlan;

pub fn consumer(args: &RunArgs, channel: u16, set: usize, plan: RunPlan) -> ConsumerChannel {
    let acks = if args.autoack { AckMode::Automatic } else { AckMode::Every(args.multi_ack_every) };
    let consumer = ConsumerChannel::new(acks, args.cmessages).on_channel(channel, set);
    let policy = args.ack_policy.policy();
    if !policy.is_needed() {
        return consumer;
    }
    let every = if args.autoack { 0 } else { args.multi_ack_every };
    consumer.with_processor(DeliveryProcessor::new(policy, channel, every).starting_at(plan.start))
}

/// Which producer to build.
pub struct ProducerPlace {
    pub number: u16,
    pub channel: u16,
    pub key_cycle: KeyCycle,
}

pub fn producer(
    args: &RunArgs,
    place: ProducerPlace,
    queue: &str,
    connection: &ClientConnection,
    plan: RunPlan,
) -> Box<ProducerChannel> {
    let ProducerPlace { number, channel, key_cycle } = place;
    let window = match (args.confirm, args.connections.ptxsize) {
        (Some(window), _) => InFlightLimit::Confirms(ConfirmWindow::new(u64::from(window))),
        (None, Some(size)) => {
            let size = u64::from(size);
            InFlightLimit::Transactions { size, open: ConfirmWindow::new(size), committing: false }
        }
        (None, None) => InFlightLimit::Unlimited,
    };
    let publishes = publishes(args, channel, &key_cycle, queue, connection.frame_max, plan);
    let schedule = schedule(args, number, plan);
    let producer = ProducerChannel::new(number, publishes, schedule, args.pmessages, window);
    Box::new(producer.on_channel(channel).with_keys(key_cycle))
}

/// Schedules are staggered: producers with the same rate take turns within an interval.
fn schedule(args: &RunArgs, number: u16, plan: RunPlan) -> PublishSchedule {
    let spans = &args.variation.variable_rate;
    if !spans.is_empty() {
        return PublishSchedule::varied(plan.start, plan.stop, spans);
    }
    let rate = args.rate();
    let interval = rate.map_or(0.0, |rate| SECOND as f64 / rate);
    let share = f64::from(number) / args.all_producers().max(1) as f64;
    PublishSchedule::new(plan.start + (interval * share) as u64, plan.stop, rate)
}

fn publishes(
    args: &RunArgs,
    channel: u16,
    key_cycle: &KeyCycle,
    queue: &str,
    frame_max: u32,
    plan: RunPlan,
) -> PublishBatch {
    let with_header =
        args.routing.kind == ExchangeTypeArg::Headers && !args.message.exchange.is_empty();
    let routing_key = key_cycle.keys.names[0].clone();
    let template =
        PublishTemplate { channel, with_header, routing_key, ..template(&args.message, queue) };
    let variation = MessageVariation {
        key_cycle: key_cycle.clone(),
        sizes: args.message.size.clone(),
        sizes_over_time: args.variation.variable_size.clone(),
        start: plan.start,
        random_bodies: args.variation.random_bodies,
        priorities: args.variation.priorities,
    };
    let window = args.confirm.or(args.connections.ptxsize).map_or(u64::MAX, u64::from);
    let messages = window.min(due(args.rate()));
    match variation.is_needed() {
        true => PublishBatch::varied(&template, variation, frame_max, WRITE, messages),
        false => PublishBatch::new(&template, frame_max, WRITE, messages),
    }
}
