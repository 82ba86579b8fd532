//! Partial messages while memory for them is short.

use amqp::frame::{write_body, write_header};
use amqp::properties::Basic;
use amqp::table::TableWriter;
use amqp::{Method, Value};
use ringtail::shard::Gate;

use crate::rig::{self, Client, Rig};

const MEBIBYTE: usize = 1 << 20;
const RECEIVING_MAX: usize = 16 * MEBIBYTE;
const SIZE: usize = 24 * MEBIBYTE;
const GIVEN_UP: &str = "ChannelClose CONTENT_TOO_LARGE - message was not finished while others \
                        were waiting for memory";

fn broker() -> Rig {
    let mut broker = Rig::configured(1, u64::MAX, |config| {
        config.receiving_max = RECEIVING_MAX;
        config.receiving_own_max = RECEIVING_MAX;
    });
    let client = broker.client(0);
    broker.call(client, 1, &rig::declare("q", false));
    broker
}

/// A client that has begun a large message.
fn begun(broker: &mut Rig, mebibytes: usize) -> Client {
    let client = broker.client(0);
    broker.send(client, &rig::content("q", SIZE as u64));
    send_some(broker, client, mebibytes);
    client
}

fn send_some(broker: &mut Rig, client: Client, mebibytes: usize) {
    let mut frames = Vec::new();
    write_body(&mut frames, 1, &vec![b'x'; mebibytes * MEBIBYTE], 131_072);
    for chunk in frames.chunks(64 * 1024) {
        broker.receive(client, chunk);
    }
    broker.settle();
}

/// Lets time pass and runs the timers.
fn wait(broker: &mut Rig, seconds: u64) {
    for _ in 0..seconds {
        broker.now.monotonic_us += 1_000_000;
        let now = broker.now;
        if broker.shards[0].next_deadline_us().is_some_and(|due| due <= now.monotonic_us) {
            broker.shards[0].tick(now);
        }
        broker.settle();
    }
}

#[test]
fn one_that_stalls_does_not_hold_the_others_up_for_ever() {
    let mut broker = broker();
    let stalled = begun(&mut broker, 17);
    let waiting = [begun(&mut broker, 1), begun(&mut broker, 1)];
    assert_eq!(waiting.map(|client| broker.gate(client)), [Gate::Paused; 2]);
    assert_eq!(broker.gate(stalled), Gate::Open);
    wait(&mut broker, 11);
    assert_eq!(rig::names(&broker.take(stalled)), [GIVEN_UP]);
    assert_eq!(waiting.map(|client| broker.gate(client)), [Gate::Open; 2]);
    assert!(broker.shards[0].pinned() < 3 * MEBIBYTE);
    for client in waiting {
        send_some(&mut broker, client, 23);
        assert_eq!(broker.gate(client), Gate::Open);
    }
    // Late frames of the closed channel are ignored.
    send_some(&mut broker, stalled, 7);
    assert_eq!(rig::names(&broker.take(stalled)), [""; 0]);
    let bytes = broker.call(waiting[0], 1, &rig::passive("q"));
    assert_eq!(rig::names(&bytes), ["QueueDeclareOk"]);
}

#[test]
fn one_that_goes_on_is_finished() {
    let mut broker = broker();
    let oldest = begun(&mut broker, 17);
    let waiting = begun(&mut broker, 1);
    wait(&mut broker, 9);
    send_some(&mut broker, oldest, 4);
    wait(&mut broker, 9);
    send_some(&mut broker, oldest, 3);
    assert_eq!(rig::names(&broker.take(oldest)), [""; 0]);
    assert_eq!(broker.gate(waiting), Gate::Open);
}

#[test]
fn one_that_stalls_alone_is_left_alone() {
    let mut broker = broker();
    let stalled = begun(&mut broker, 17);
    wait(&mut broker, 100);
    assert_eq!(rig::names(&broker.take(stalled)), [""; 0]);
    // Its time began again when no other message waited.
    let waiting = begun(&mut broker, 1);
    wait(&mut broker, 21);
    assert_eq!(rig::names(&broker.take(stalled)), [GIVEN_UP]);
    assert_eq!(broker.gate(waiting), Gate::Open);
}

/// Begins a message on another channel of a client: headers of so many bytes, then the body.
fn begin_on(broker: &mut Rig, client: Client, number: u16, headers: usize, body: &[u8]) -> Vec<u8> {
    let text = "x".repeat(headers);
    let table = TableWriter::new().with("x", Value::LongString(text.as_bytes()));
    let basic = Basic { headers: Some(table.table()), ..Basic::default() };
    let mut properties = Vec::new();
    basic.write(&mut properties);
    let publish = Method::BasicPublish {
        ticket: 0,
        exchange: "",
        routing_key: "q",
        mandatory: false,
        immediate: false,
    };
    broker.call(client, number, &Method::ChannelOpen { out_of_band: "" });
    let mut frames = rig::encoded(number, &publish);
    write_header(&mut frames, number, SIZE as u64, &properties);
    write_body(&mut frames, number, body, 131_072);
    for chunk in frames.chunks(64 * 1024) {
        broker.receive(client, chunk);
    }
    broker.settle();
    broker.take(client)
}

#[test]
fn headers_whose_bodies_do_not_come_are_counted() {
    let mut broker = broker();
    let client = broker.client(0);
    let before = broker.shards[0].pinned();
    for number in 2..102 {
        assert!(begin_on(&mut broker, client, number, 120_000, b"").is_empty());
    }
    let pinned = broker.shards[0].pinned() - before;
    assert!((12_000_000..15_000_000).contains(&pinned), "{pinned}");
    broker.vanish(client);
    assert_eq!(broker.shards[0].pinned(), before);
}

#[test]
fn a_connection_whose_message_is_the_oldest_does_not_hold_more_for_that() {
    let mut broker = broker();
    let client = broker.client(0);
    broker.send(client, &rig::content("q", SIZE as u64));
    send_some(&mut broker, client, 1);
    let mut given_up = 0;
    for number in 2..12 {
        let bytes = begin_on(&mut broker, client, number, 10, &vec![b'x'; 6 * MEBIBYTE]);
        let names = rig::methods(&bytes);
        assert!(names.iter().all(|(_, name)| name.starts_with("ChannelClose CONTENT_TOO_LARGE")));
        assert!(names.iter().all(|(channel, _)| *channel == number), "the youngest");
        given_up += names.len();
        let pinned = broker.shards[0].pinned();
        assert!(pinned < RECEIVING_MAX + 2 * MEBIBYTE, "{pinned}");
    }
    assert_eq!(given_up, 8);
    assert_eq!(broker.gate(client), Gate::Open);
    // The oldest is read on; the two others are refused.
    send_some(&mut broker, client, 23);
    let methods = rig::methods(&broker.call(client, 1, &rig::passive("q")));
    let channels: Vec<u16> = methods.iter().map(|(channel, _)| *channel).collect();
    assert_eq!((channels, &*methods[2].1), (vec![3, 2, 1], "QueueDeclareOk"));
    assert!(broker.shards[0].pinned() < 25 * MEBIBYTE);
}
