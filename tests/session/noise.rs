//! Clients that send any frame at any time, whole, cut or damaged, and go when they like.

use amqp::frame::{write_body, write_header, write_heartbeat};
use amqp::properties::Basic;
use amqp::table::{ArrayWriter, TableWriter};
use amqp::{Method, Table, Value};
use fastrand::Rng;
use ringtail::shard::Gate;

use crate::rig::{self, Client, Rig};

const NAMES: [&str; 5] = ["a", "b", "", "amq.topic", "\n"];
const REPLY_TO: &str = "amq.rabbitmq.reply-to";
const SEEDS: u64 = 150;
const STEPS: usize = 400;

fn methods<'a>(rng: &mut Rng) -> Method<'a> {
    let mut name = || NAMES[rng.usize(..NAMES.len())];
    let (queue, exchange, consumer_tag, routing_key) = (name(), name(), name(), name());
    let (nowait, no_ack, flag) = (rng.u8(..4) == 0, rng.bool(), rng.bool());
    let (ticket, arguments) = (0, Table::EMPTY);
    let delivery_tag = rng.u64(..5);
    let passive = rng.u8(..4) == 0;
    match rng.u8(..38) {
        0..4 => Method::QueueDeclare {
            ticket,
            queue,
            passive,
            durable: false,
            exclusive: rng.u8(..4) == 0,
            auto_delete: flag,
            nowait,
            arguments,
        },
        4 | 5 => {
            let (if_unused, if_empty) = (flag, no_ack);
            Method::QueueDelete { ticket, queue, if_unused, if_empty, nowait }
        }
        6 => Method::QueueBind { ticket, queue, exchange, routing_key, nowait, arguments },
        7 => Method::QueueUnbind { ticket, queue, exchange, routing_key, arguments },
        8 => Method::QueuePurge { ticket, queue, nowait },
        9..12 => Method::BasicConsume {
            ticket,
            queue,
            consumer_tag,
            no_local: false,
            no_ack,
            exclusive: rng.u8(..8) == 0,
            nowait,
            arguments,
        },
        12 => {
            let consumer_tag = if flag { consumer_tag } else { "replies" };
            Method::BasicCancel { consumer_tag, nowait }
        }
        13 | 14 => Method::BasicGet { ticket, queue, no_ack },
        15 => Method::BasicAck { delivery_tag, multiple: flag },
        16 => Method::BasicNack { delivery_tag, multiple: flag, requeue: no_ack },
        17 => Method::BasicReject { delivery_tag, requeue: flag },
        18 => Method::BasicRecover { requeue: true },
        19 => Method::ConfirmSelect { nowait },
        20 => {
            Method::BasicQos { prefetch_size: 0, prefetch_count: rng.u16(..3), global: rng.bool() }
        }
        21 if delivery_tag == 0 && nowait => Method::ChannelOpen { out_of_band: "" },
        24 if nowait => {
            Method::ChannelClose { reply_code: 0, reply_text: "", class_id: 0, method_id: 0 }
        }
        25 if nowait => Method::ChannelCloseOk {},
        27..30 => exchange_method(rng),
        32 => consume_replies(consumer_tag, no_ack || flag, nowait),
        33 if flag => Method::TxSelect {},
        34 | 35 => Method::TxCommit {},
        36 => Method::TxRollback {},
        30 if flag && no_ack => rig::close(),
        31 if flag && no_ack => Method::ConnectionCloseOk {},
        _ => Method::ChannelFlow { active: true },
    }
}

fn consume_replies(consumer_tag: &str, no_ack: bool, nowait: bool) -> Method<'_> {
    Method::BasicConsume {
        ticket: 0,
        queue: REPLY_TO,
        consumer_tag,
        no_local: false,
        no_ack,
        exclusive: false,
        nowait,
        arguments: Table::EMPTY,
    }
}

fn exchange_method<'a>(rng: &mut Rng) -> Method<'a> {
    let mut name = || NAMES[rng.usize(..NAMES.len())];
    let (exchange, destination, routing_key) = (name(), name(), name());
    let (ticket, arguments, flag) = (0, Table::EMPTY, rng.bool());
    let (nowait, passive) = (rng.u8(..4) == 0, rng.u8(..4) == 0);
    match rng.u8(..3) {
        0 => Method::ExchangeDeclare {
            ticket,
            exchange,
            kind: "topic",
            passive,
            durable: false,
            auto_delete: flag,
            internal: false,
            nowait,
            arguments,
        },
        1 => Method::ExchangeDelete { ticket, exchange, if_unused: flag, nowait },
        _ => Method::ExchangeBind {
            ticket,
            destination,
            source: exchange,
            routing_key,
            nowait,
            arguments,
        },
    }
}

/// Properties: persistent or not, asking for replies, with further keys.
fn properties(rng: &mut Rng, replies: &[String]) -> Vec<u8> {
    let mut key = || match rng.choice(replies) {
        Some(name) if rng.bool() => name.clone(),
        _ => NAMES[rng.usize(..NAMES.len())].to_owned(),
    };
    let (one, other) = (key(), key());
    let keys = ArrayWriter::new()
        .with(Value::LongString(one.as_bytes()))
        .with(Value::LongString(other.as_bytes()));
    let header = if rng.bool() { "CC" } else { "BCC" };
    let headers = TableWriter::new().with(header, Value::Array(keys.array()));
    let basic = Basic {
        delivery_mode: rng.bool().then_some(2),
        reply_to: (rng.u8(..8) == 0).then_some(REPLY_TO),
        headers: (rng.u8(..6) == 0).then(|| headers.table()),
        ..Basic::default()
    };
    let mut octets = Vec::new();
    basic.write(&mut octets);
    octets
}

fn publish(rng: &mut Rng, channel: u16, octets: &mut Vec<u8>, replies: &[String]) {
    let reply = rng.choice(replies).filter(|_| rng.u8(..4) == 0);
    let to_queue = reply.is_some() || rng.bool();
    let method = Method::BasicPublish {
        ticket: 0,
        exchange: if to_queue { "" } else { NAMES[rng.usize(..NAMES.len())] },
        routing_key: reply.map_or(NAMES[rng.usize(..NAMES.len())], String::as_str),
        mandatory: rng.bool(),
        immediate: false,
    };
    let sizes = [0, 1, 100, 2048, 2049, 40_000, 150_000];
    let size = sizes[rng.usize(..sizes.len())];
    octets.extend(rig::encoded(channel, &method));
    let announced = if rng.u8(..100) == 0 { rng.u64(..) } else { size as u64 };
    write_header(octets, channel, announced, &properties(rng, replies));
    let frame_max = [9, 4096, 131_072][rng.usize(..3)].max(if size > 3000 { 8192 } else { 0 });
    write_body(octets, channel, &vec![b'x'; size], frame_max);
}

/// Remembers the names of reply consumers that a client was told.
fn remember(octets: &[u8], replies: &mut Vec<String>) {
    let start = format!("{REPLY_TO}.");
    let found = octets.windows(start.len() + 32).find(|all| all.starts_with(start.as_bytes()));
    if let Some(name) = found.and_then(|name| std::str::from_utf8(name).ok())
        && !replies.iter().any(|other| other == name)
    {
        replies.truncate(5);
        replies.insert(0, name.to_owned());
    }
}

/// Some frames, at times damaged or cut off.
fn frames(rng: &mut Rng, replies: &[String]) -> Vec<u8> {
    let mut octets = Vec::new();
    for _ in 0..rng.u8(1..8) {
        let channel = if rng.u8(..200) == 0 { rng.u16(..5) } else { rng.u16(1..3) };
        match rng.u8(..10) {
            0..3 => publish(rng, channel, &mut octets, replies),
            3 => write_heartbeat(&mut octets),
            _ => octets.extend(rig::encoded(channel, &methods(rng))),
        }
    }
    if rng.u8(..60) == 0 {
        let at = rng.usize(..octets.len());
        octets[at] = rng.u8(..);
    }
    if rng.u8(..60) == 0 {
        octets.truncate(rng.usize(..octets.len()));
    }
    octets
}

/// A client reads, and answers what must be answered.
fn answer(broker: &mut Rig, client: Client, replies: &mut Vec<String>) {
    let open = Method::ChannelOpen { out_of_band: "" };
    let octets = broker.take_now(client);
    remember(&octets, replies);
    for (channel, name) in rig::methods(&octets) {
        match name.split(' ').next() {
            Some("ChannelClose") => {
                broker.receive(client, &rig::encoded(channel, &Method::ChannelCloseOk {}));
                broker.receive(client, &rig::encoded(channel, &open));
            }
            Some("ChannelCloseOk") => broker.receive(client, &rig::encoded(channel, &open)),
            Some("ConnectionClose") => {
                broker.receive(client, &rig::encoded(0, &Method::ConnectionCloseOk {}));
            }
            _ => {}
        }
    }
}

/// One client does something; `None` when it is gone.
fn step(
    broker: &mut Rig,
    rng: &mut Rng,
    client: Client,
    replies: &mut Vec<String>,
) -> Option<Client> {
    if broker.gate(client) == Gate::Closing || rng.u8(..80) == 0 {
        broker.vanish_now(client);
        return None;
    }
    match rng.u8(..8) {
        0..5 if broker.gate(client) == Gate::Open => {
            let octets = frames(rng, replies);
            for piece in octets.chunks(rng.usize(1..80_000)) {
                broker.receive(client, piece);
            }
        }
        5 => answer(broker, client, replies),
        6 => broker.settle(),
        _ => drop(broker.turn(rng.usize(..broker.shards.len()))),
    }
    Some(client)
}

/// A client with two channels; its reply consumer, if it has one, is known to all.
fn client(broker: &mut Rig, rng: &mut Rng, shard: usize, replies: &mut Vec<String>) -> Client {
    let client = broker.client(shard);
    broker.call(client, 2, &Method::ChannelOpen { out_of_band: "" });
    if rng.bool() {
        return client;
    }
    broker.call(client, 1, &consume_replies("replies", true, false));
    let queue = format!("requests {:?}", client.conn);
    broker.call(client, 1, &rig::declare(&queue, true));
    let publish = Method::BasicPublish {
        ticket: 0,
        exchange: "",
        routing_key: &queue,
        mandatory: false,
        immediate: false,
    };
    let mut octets = rig::encoded(1, &publish);
    let mut properties = Vec::new();
    Basic { reply_to: Some(REPLY_TO), ..Basic::default() }.write(&mut properties);
    write_header(&mut octets, 1, 0, &properties);
    broker.send(client, &octets);
    let get = Method::BasicGet { ticket: 0, queue: &queue, no_ack: true };
    remember(&broker.call(client, 1, &get), replies);
    client
}

fn run(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let shards = rng.u16(1..4);
    let resident = rng.usize(1..200_000);
    let unlimited = rng.bool();
    let limit = if unlimited { u64::MAX } else { 3 << 20 };
    let receiving = if unlimited { usize::MAX } else { rng.usize(1..200_000) };
    let mut broker = Rig::configured(shards, limit, |config| {
        config.resident_max = resident;
        config.receiving_max = receiving;
    });
    let mut clients: Vec<Option<Client>> = vec![None; 5];
    let mut replies = Vec::new();
    for _ in 0..STEPS {
        let at = rng.usize(..clients.len());
        clients[at] = match clients[at] {
            Some(client) => step(&mut broker, &mut rng, client, &mut replies),
            None => {
                let shard = rng.usize(..usize::from(shards));
                Some(client(&mut broker, &mut rng, shard, &mut replies))
            }
        };
    }
    let clients: Vec<Client> = clients.into_iter().flatten().collect();
    while clients.iter().any(|client| !broker.take(*client).is_empty()) {}
    for client in clients {
        let paused = broker.gate(client) == Gate::Paused;
        assert!(!(paused && unlimited), "seed {seed}: {client:?} is paused for nothing");
        broker.vanish_now(client);
    }
    broker.settle();
    assert_eq!(broker.leftovers(), 0, "seed {seed}");
    assert!(!replies.is_empty(), "seed {seed}");
    // Everybody is served who comes now.
    for shard in 0..usize::from(shards) {
        let client = broker.client(shard);
        let names = rig::names(&broker.call(client, 1, &rig::declare("later", false)));
        assert_eq!(names, ["QueueDeclareOk"], "seed {seed}");
    }
}

#[test]
fn whatever_comes_nothing_stays_and_nobody_waits() {
    (0..SEEDS).for_each(run);
}
