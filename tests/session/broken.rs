//! A queue whose messages cannot be read: its clients are told, and no other client notices.

use amqp::frame::{write_body, write_header};
use amqp::{Method, Properties, Table};
use ringtail::queues::StorageError;

use crate::rig::{self, Client, Rig};

const QUEUE: &str = "q";
const OTHER: &str = "r";
const REFUSED: &str = "NOT_FOUND - queue 'q' in vhost '/' has crashed and failed to restart";
const MESSAGES: u32 = 300;

/// A broker with two queues, the first with more messages than fit in memory. No read succeeds.
fn broker(shards: u16) -> (Rig, Client) {
    let mut broker = Rig::configured(shards, u64::MAX, |config| config.resident_max = 50_000);
    let client = broker.client(0);
    for queue in [QUEUE, OTHER] {
        broker.call(client, 1, &rig::declare(queue, false));
        let (ticket, nowait, routing_key, arguments) = (0, false, "", Table::EMPTY);
        let exchange = "amq.fanout";
        let bind = Method::QueueBind { ticket, queue, exchange, routing_key, nowait, arguments };
        broker.call(client, 1, &bind);
    }
    fill(&mut broker, client);
    broker.unreadable = true;
    (broker, client)
}

fn fill(broker: &mut Rig, client: Client) {
    for _ in 0..MESSAGES {
        broker.send(client, &rig::publish(QUEUE, &[7; 1000]));
    }
}

fn get(queue: &str) -> Method<'_> {
    Method::BasicGet { ticket: 0, queue, no_ack: true }
}

/// Gets messages until another answer comes, and returns that answer.
fn broken(broker: &mut Rig) -> Vec<String> {
    let client = broker.client(0);
    for _ in 0..MESSAGES {
        let names = rig::names(&broker.call(client, 1, &get(QUEUE)));
        if names != ["BasicGetOk"] {
            broker.vanish(client);
            return names;
        }
    }
    panic!("all messages can be read");
}

fn troubles(broker: &mut Rig) -> Vec<String> {
    let shards = broker.shards.iter_mut();
    let troubles = shards.flat_map(|shard| std::iter::from_fn(|| shard.storage_error()));
    let unreadable = |trouble| match trouble {
        StorageError::Unreadable(queue, why) => format!("{queue}: {why}"),
        other => panic!("{other:?}"),
    };
    troubles.map(unreadable).collect()
}

/// Ready messages of a queue, and its consumers.
fn counts(broker: &mut Rig, queue: &str) -> (u32, u32) {
    let client = broker.client(0);
    let bytes = broker.call(client, 1, &rig::passive(queue));
    broker.vanish(client);
    let (mut parser, mut at) = (amqp::Parser::new(0), 0);
    let Some(amqp::Frame::Method { payload, .. }) = parser.next(&bytes, &mut at).unwrap() else {
        panic!("{bytes:?}");
    };
    match Method::read(payload) {
        Ok(Method::QueueDeclareOk { message_count, consumer_count, .. }) => {
            (message_count, consumer_count)
        }
        other => panic!("{other:?}"),
    }
}

fn purge() -> Method<'static> {
    Method::QueuePurge { ticket: 0, queue: QUEUE, nowait: false }
}

fn fanout(delivery_mode: u8) -> Vec<u8> {
    let method = Method::BasicPublish {
        ticket: 0,
        exchange: "amq.fanout",
        routing_key: "",
        mandatory: true,
        immediate: false,
    };
    let mut bytes = rig::encoded(1, &method);
    let mode = [0x10, 0, delivery_mode];
    let properties = if delivery_mode == 0 { Properties::EMPTY.encoded() } else { &mode };
    write_header(&mut bytes, 1, 4, properties);
    write_body(&mut bytes, 1, b"body", 131_072);
    bytes
}

#[test]
fn a_get_that_waits_is_refused_and_so_are_those_that_come() {
    for shards in [1, 2] {
        let (mut broker, client) = broker(shards);
        assert_eq!(broken(&mut broker), [format!("ChannelClose {REFUSED}")]);
        let told = troubles(&mut broker);
        assert!(told[0].starts_with("queue 'q' in vhost '/': cannot read queues/"), "{told:?}");
        assert_eq!(told.len(), 1);
        let names = rig::names(&broker.call(client, 1, &rig::consume(QUEUE)));
        assert_eq!(names, [format!("ChannelClose {REFUSED}")]);
        assert_eq!(counts(&mut broker, QUEUE).1, 0);
        let neighbour = broker.client(0);
        broker.send(neighbour, &rig::publish(OTHER, b"body"));
        assert_eq!(rig::names(&broker.call(neighbour, 1, &get(OTHER))), ["BasicGetOk"]);
    }
}

#[test]
fn consumers_are_cancelled_and_may_settle_what_they_have() {
    for shards in [1, 2] {
        let (mut broker, client) = broker(shards);
        let names = rig::names(&broker.call(client, 1, &rig::consume(QUEUE)));
        assert_eq!((&names[0][..], &names[1][..]), ("BasicConsumeOk", "BasicDeliver"));
        assert_eq!(names.last().map(String::as_str), Some("BasicCancel"));
        let ready = counts(&mut broker, QUEUE);
        assert_eq!(ready.1, 0);
        let ack = Method::BasicAck { delivery_tag: 1, multiple: false };
        assert!(broker.call(client, 1, &ack).is_empty());
        broker.vanish(client);
        // Unacknowledged messages are requeued and stay.
        assert_eq!(counts(&mut broker, QUEUE).0, MESSAGES - 1);
        assert_eq!(broker.leftovers(), 0);
    }
}

#[test]
fn publishes_are_refused_and_what_goes_to_others_too_arrives_there() {
    for (shards, mode) in [(1, 0), (1, 2), (2, 0), (2, 2)] {
        let (mut broker, client) = broker(shards);
        broken(&mut broker);
        let ready = counts(&mut broker, QUEUE);
        // A publish without confirms is dropped, as in RabbitMQ.
        broker.send(client, &rig::publish(QUEUE, b"body"));
        broker.call(client, 1, &Method::ConfirmSelect { nowait: false });
        let bytes = [fanout(mode), rig::publish(OTHER, b"body"), rig::publish(QUEUE, b"body")];
        let names = rig::names(&broker.send(client, &bytes.concat()));
        let nacks = names.iter().filter(|name| *name == "BasicNack").count();
        let acks = names.iter().filter(|name| *name == "BasicAck").count();
        assert_eq!((nacks, acks, names.len()), (2, 1, 3), "{shards} shards: {names:?}");
        assert_eq!(counts(&mut broker, QUEUE), ready);
        assert_eq!(counts(&mut broker, OTHER), (2, 0));
    }
}

#[test]
fn a_commit_to_it_is_refused_and_its_other_publishes_and_settles_are_done() {
    for (shards, mode) in [(1, 0), (1, 2), (2, 0), (2, 2)] {
        let (mut broker, client) = broker(shards);
        broken(&mut broker);
        broker.send(client, &rig::publish(OTHER, b"body"));
        broker.call(client, 1, &Method::TxSelect {});
        broker.call(client, 1, &Method::BasicGet { ticket: 0, queue: OTHER, no_ack: false });
        broker.call(client, 1, &Method::BasicAck { delivery_tag: 1, multiple: false });
        broker.send(client, &[fanout(mode), rig::publish(OTHER, b"body")].concat());
        let names = rig::names(&broker.call(client, 1, &Method::TxCommit {}));
        let text = "PRECONDITION_FAILED - partial tx completion";
        assert_eq!(names, [format!("ChannelClose {text}")], "{shards} shards");
        broker.vanish(client);
        assert_eq!(counts(&mut broker, OTHER), (2, 0));
        assert_eq!(broker.leftovers(), 0);
    }
}

#[test]
fn a_purge_or_a_deletion_cures_it() {
    for shards in [1, 2] {
        let (mut broker, client) = broker(shards);
        broken(&mut broker);
        let (ready, _) = counts(&mut broker, QUEUE);
        assert!(ready > 0);
        let bytes = broker.call(client, 1, &purge());
        assert_eq!(bytes[11..15], ready.to_be_bytes());
        fill(&mut broker, client);
        broker.unreadable = false;
        for _ in 0..MESSAGES {
            assert_eq!(rig::names(&broker.call(client, 1, &get(QUEUE))), ["BasicGetOk"]);
        }
        fill(&mut broker, client);
        broker.unreadable = true;
        assert_eq!(broken(&mut broker), [format!("ChannelClose {REFUSED}")]);
        let client = broker.client(0);
        let (ticket, queue, nowait) = (0, QUEUE, false);
        let delete =
            Method::QueueDelete { ticket, queue, if_unused: false, if_empty: true, nowait };
        let names = rig::names(&broker.call(client, 1, &delete));
        assert_eq!(names, ["ChannelClose PRECONDITION_FAILED - queue 'q' in vhost '/' not empty"]);
        let client = broker.client(0);
        let delete =
            Method::QueueDelete { ticket, queue, if_unused: false, if_empty: false, nowait };
        assert_eq!(rig::names(&broker.call(client, 1, &delete)), ["QueueDeleteOk"]);
        broker.call(client, 1, &rig::declare(QUEUE, false));
        broker.send(client, &rig::publish(QUEUE, b"body"));
        assert_eq!(rig::names(&broker.call(client, 1, &get(QUEUE))), ["BasicGetOk"]);
    }
}
