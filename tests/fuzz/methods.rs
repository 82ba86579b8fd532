//! Random methods of a client, with few names and arguments of any kind.

use amqp::{Method, Table};
use fastrand::Rng;

use crate::rig;

/// A name: one of few, so that clients meet; at times unknown, empty, or only a line end.
const QUEUES: [&str; 4] = ["nobody", "", "amq.topic", "\n"];
const EXCHANGES: [&str; 5] = ["amq.topic", "amq.fanout", "amq.headers", "", "nobody"];
const KINDS: [&str; 6] = ["topic", "direct", "fanout", "headers", "x-nothing", ""];

/// Mostly `a` or `b`.
fn one_of<'a>(rng: &mut Rng, others: &[&'a str]) -> &'a str {
    match rng.u8(..16) {
        0 => others[rng.usize(..others.len())],
        1..6 => "b",
        _ => "a",
    }
}

fn queue_name<'a>(rng: &mut Rng) -> &'a str {
    one_of(rng, &QUEUES)
}

fn exchange_name<'a>(rng: &mut Rng) -> &'a str {
    one_of(rng, &EXCHANGES)
}

/// True once in so many calls.
fn seldom(rng: &mut Rng, many: u8) -> bool {
    rng.u8(..many) == 0
}

/// Methods that make most others possible.
pub fn preamble<'a>(rng: &mut Rng) -> Vec<Method<'a>> {
    let mut methods = Vec::new();
    for name in ["a", "b"] {
        methods.push(rig::declare(name, false));
        methods.push(declare_exchange(name, "topic"));
        let (ticket, nowait, arguments) = (0, seldom(rng, 4), Table::EMPTY);
        let (queue, exchange) = (queue_name(rng), name);
        let routing_key = if rng.bool() { "#" } else { "a" };
        methods.push(Method::QueueBind { ticket, queue, exchange, routing_key, nowait, arguments });
    }
    if rng.bool() {
        methods.push(Method::ConfirmSelect { nowait: false });
    }
    if rng.bool() {
        methods.push(rig::consume(queue_name(rng)));
    }
    methods
}

fn declare_exchange<'a>(exchange: &'a str, kind: &'a str) -> Method<'a> {
    Method::ExchangeDeclare {
        ticket: 0,
        exchange,
        kind,
        passive: false,
        durable: false,
        auto_delete: false,
        internal: false,
        nowait: false,
        arguments: Table::EMPTY,
    }
}

/// A method for a channel.
pub fn on_channel<'a>(rng: &mut Rng, arguments: Table<'a>) -> Method<'a> {
    match rng.u8(..128) {
        0..30 => queue_method(rng, arguments),
        30..90 => basic_method(rng, arguments),
        90..110 => exchange_method(rng, arguments),
        110..122 => channel_method(rng),
        122..126 => tx_method(rng),
        126 => rig::close(),
        _ => servers_method(rng, arguments),
    }
}

fn queue_method<'a>(rng: &mut Rng, arguments: Table<'a>) -> Method<'a> {
    let (queue, exchange, routing_key) = (queue_name(rng), exchange_name(rng), queue_name(rng));
    let (nowait, if_unused, if_empty) = (seldom(rng, 4), rng.bool(), rng.bool());
    let ticket = 0;
    match rng.u8(..9) {
        0..4 => Method::QueueDeclare {
            ticket,
            queue,
            passive: seldom(rng, 4),
            durable: seldom(rng, 16),
            exclusive: seldom(rng, 8),
            auto_delete: seldom(rng, 16),
            nowait,
            arguments,
        },
        4 => Method::QueueDelete { ticket, queue, if_unused, if_empty, nowait },
        5 | 6 => Method::QueueBind { ticket, queue, exchange, routing_key, nowait, arguments },
        7 => Method::QueueUnbind { ticket, queue, exchange, routing_key, arguments },
        _ => Method::QueuePurge { ticket, queue, nowait },
    }
}

fn basic_method<'a>(rng: &mut Rng, arguments: Table<'a>) -> Method<'a> {
    let (queue, ticket) = (queue_name(rng), 0);
    let consumer_tag = if rng.bool() { "" } else { queue_name(rng) };
    let (nowait, no_ack, flag) = (seldom(rng, 4), rng.bool(), rng.bool());
    let delivery_tag = match rng.u8(..40) {
        0 => rng.u64(..),
        1..10 => rng.u64(1..5),
        _ => 0,
    };
    match rng.u8(..12) {
        0..4 => Method::BasicConsume {
            ticket,
            queue,
            consumer_tag,
            no_local: flag,
            no_ack,
            exclusive: seldom(rng, 8),
            nowait,
            arguments,
        },
        4 => Method::BasicCancel { consumer_tag, nowait },
        5 | 6 => Method::BasicGet { ticket, queue, no_ack },
        7 => Method::BasicAck { delivery_tag, multiple: delivery_tag == 0 || flag },
        8 => {
            let multiple = delivery_tag == 0 || flag;
            Method::BasicNack { delivery_tag, multiple, requeue: no_ack }
        }
        9 if delivery_tag > 0 => Method::BasicReject { delivery_tag, requeue: flag },
        9 | 10 => Method::BasicRecover { requeue: !seldom(rng, 16) },
        _ => Method::BasicQos {
            prefetch_size: u32::from(seldom(rng, 40)),
            prefetch_count: rng.u16(..3),
            global: rng.bool(),
        },
    }
}

fn exchange_method<'a>(rng: &mut Rng, arguments: Table<'a>) -> Method<'a> {
    let (exchange, destination) = (exchange_name(rng), exchange_name(rng));
    let routing_key = queue_name(rng);
    let (ticket, nowait, flag) = (0, seldom(rng, 4), rng.bool());
    match rng.u8(..6) {
        0..3 => Method::ExchangeDeclare {
            ticket,
            exchange,
            kind: if flag { "topic" } else { KINDS[rng.usize(..KINDS.len())] },
            passive: seldom(rng, 4),
            durable: false,
            auto_delete: seldom(rng, 8),
            internal: seldom(rng, 16),
            nowait,
            arguments,
        },
        3 => Method::ExchangeDelete { ticket, exchange, if_unused: flag, nowait },
        4 => {
            let source = exchange;
            Method::ExchangeBind { ticket, destination, source, routing_key, nowait, arguments }
        }
        _ => {
            let source = exchange;
            Method::ExchangeUnbind { ticket, destination, source, routing_key, nowait, arguments }
        }
    }
}

fn channel_method<'a>(rng: &mut Rng) -> Method<'a> {
    match rng.u8(..12) {
        0 => Method::ChannelOpen { out_of_band: "" },
        1 | 2 => Method::ChannelClose { reply_code: 0, reply_text: "", class_id: 0, method_id: 0 },
        3 => Method::ChannelCloseOk {},
        4 => Method::ConnectionCloseOk {},
        5 => Method::ChannelFlow { active: !seldom(rng, 8) },
        6 => Method::ChannelFlowOk { active: true },
        _ => Method::ConfirmSelect { nowait: seldom(rng, 4) },
    }
}

fn tx_method<'a>(rng: &mut Rng) -> Method<'a> {
    match rng.u8(..3) {
        0 => Method::TxSelect {},
        1 => Method::TxCommit {},
        _ => Method::TxRollback {},
    }
}

/// A method that only a server sends, or one of channel 0.
fn servers_method<'a>(rng: &mut Rng, arguments: Table<'a>) -> Method<'a> {
    match rng.u8(..8) {
        0 => Method::BasicGetEmpty { cluster_id: "" },
        1 => Method::ConnectionTune { channel_max: 0, frame_max: 0, heartbeat: 0 },
        2 => Method::QueueDeclareOk { queue: "a", message_count: 0, consumer_count: 0 },
        3 => Method::BasicReturn { reply_code: 1, reply_text: "", exchange: "", routing_key: "" },
        4 => start_ok(arguments, "PLAIN", b"\0guest\0guest"),
        5 => Method::ConnectionTuneOk { channel_max: 1, frame_max: 9000, heartbeat: 1 },
        6 => Method::ConnectionOpen { virtual_host: "/", capabilities: "", insist: false },
        _ => Method::BasicRecoverAsync { requeue: true },
    }
}

/// connection.start-ok
pub fn start_ok<'a>(
    client_properties: Table<'a>,
    mechanism: &'a str,
    response: &'a [u8],
) -> Method<'a> {
    Method::ConnectionStartOk { client_properties, mechanism, response, locale: "en_US" }
}

/// basic.publish to any of the names.
pub fn publish<'a>(rng: &mut Rng) -> Method<'a> {
    Method::BasicPublish {
        ticket: 0,
        exchange: if rng.bool() { "" } else { exchange_name(rng) },
        routing_key: queue_name(rng),
        mandatory: rng.bool(),
        immediate: seldom(rng, 200),
    }
}
