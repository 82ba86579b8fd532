//! Frames that wait behind a barrier, together with other reasons not to read.

use amqp::Method;
use ringtail::sessions::PARKED_MARK;
use ringtail::shard::Gate;

use crate::rig::{self, Client, Rig};

const QOS: Method<'static> =
    Method::BasicQos { prefetch_size: 0, prefetch_count: 0, global: false };

/// A declare and, behind its barrier, more publishes than may be parked; then qos.
fn declare_and_publish(broker: &mut Rig, client: Client, queue: &str) {
    broker.receive(client, &rig::encoded(1, &rig::declare(queue, false)));
    let publish = rig::publish(queue, &[b'x'; 10_000]);
    for _ in 0..=PARKED_MARK / publish.len() {
        broker.receive(client, &publish);
    }
    broker.receive(client, &rig::encoded(1, &QOS));
}

#[test]
fn the_shell_is_told_that_too_much_is_parked() {
    let mut broker = Rig::new(1);
    let client = broker.client(0);
    while broker.shards[0].next_dirty().is_some() {}
    declare_and_publish(&mut broker, client, "parked");
    assert_eq!(broker.gate(client), Gate::Paused);
    assert_eq!(broker.shards[0].next_dirty(), Some(client.conn));
}

#[test]
fn the_shell_is_told_that_a_login_is_being_decided() {
    let mut broker = Rig::new(1);
    let client = broker.tuned(0);
    while broker.shards[0].next_dirty().is_some() {}
    broker.receive(client, &rig::encoded(0, &rig::open("/")));
    assert_eq!(broker.gate(client), Gate::Paused);
    assert_eq!(broker.shards[0].next_dirty(), Some(client.conn));
}

#[test]
fn what_is_parked_goes_on_after_an_alarm() {
    let mut broker = Rig::configured(2, 2 << 20, |_| {});
    let (client, other) = (broker.client(0), broker.client(1));
    broker.call(other, 1, &rig::declare("full", false));
    for _ in 0..4 {
        broker.send(other, &rig::publish("full", &vec![b'x'; 1 << 20]));
    }
    assert_eq!(broker.gate(other), Gate::Paused);
    declare_and_publish(&mut broker, client, "parked");
    broker.settle();
    assert_eq!(broker.gate(client), Gate::Paused);
    let third = broker.client(1);
    broker.call(third, 1, &Method::QueuePurge { ticket: 0, queue: "full", nowait: false });
    assert_eq!(rig::names(&broker.take(client)), ["QueueDeclareOk", "BasicQosOk"]);
    assert_eq!(broker.gate(client), Gate::Open);
}
