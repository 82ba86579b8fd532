//! Large messages that are half received when memory for them is short.

use amqp::frame::write_body;
use ringtail::shard::Gate;

use crate::rig::{self, Client, Rig};

const MEBIBYTE: usize = 1 << 20;
const RECEIVING_MAX: usize = 16 * MEBIBYTE;
const SIZE: usize = 24 * MEBIBYTE;
const GIVEN_UP: &str = "ChannelClose CONTENT_TOO_LARGE - message was not finished while others \
                        were waiting for memory";

fn broker() -> Rig {
    let mut broker = Rig::configured(1, u64::MAX, |config| config.receiving_max = RECEIVING_MAX);
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

/// Lets time pass and does what is due then.
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
    // What comes late on the channel that was closed is ignored.
    send_some(&mut broker, stalled, 7);
    assert_eq!(rig::names(&broker.take(stalled)), [""; 0]);
    let octets = broker.call(waiting[0], 1, &rig::passive("q"));
    assert_eq!(rig::names(&octets), ["QueueDeclareOk"]);
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
    // Its time began anew when nobody was waiting.
    let waiting = begun(&mut broker, 1);
    wait(&mut broker, 21);
    assert_eq!(rig::names(&broker.take(stalled)), [GIVEN_UP]);
    assert_eq!(broker.gate(waiting), Gate::Open);
}
