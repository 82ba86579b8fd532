//! Deliveries that are not settled in time, and settles that cross the question of the home shard.

use amqp::Method;

use crate::rig::{self, Client, Rig};

const TIMEOUT_MS: u64 = 1000;
const CLOSE: &str = "ChannelClose PRECONDITION_FAILED - delivery acknowledgement on channel 1 \
                     timed out. Timeout value used: 1000 ms. This timeout value can be \
                     configured, see consumers doc guide to learn more";

/// A broker whose deliveries are to be settled in time, and a client that holds one of them. With
/// two shards the queue's home is the other one.
fn held(shards: u16) -> (Rig, Client) {
    let mut broker = Rig::configured(shards, u64::MAX, |config| {
        config.consumer_timeout_ms = Some(TIMEOUT_MS);
    });
    let client = broker.client(0);
    broker.call(client, 1, &rig::declare("q", false));
    broker.call(client, 1, &rig::consume("q"));
    assert_eq!(rig::deliveries(&broker.send(client, &rig::publish("q", b"x"))).0, 1);
    (broker, client)
}

fn pass(broker: &mut Rig, ms: u64) {
    broker.now.monotonic_us += ms * 1000;
}

fn tick_all(broker: &mut Rig) {
    (0..broker.shards.len()).for_each(|shard| broker.tick(shard));
}

const ACK: Method<'static> = Method::BasicAck { delivery_tag: 1, multiple: false };

#[test]
fn a_channel_with_a_late_delivery_is_closed_and_the_delivery_comes_again() {
    for shards in [1, 2] {
        let (mut broker, client) = held(shards);
        let other = broker.client(0);
        pass(&mut broker, TIMEOUT_MS - 1);
        tick_all(&mut broker);
        assert_eq!(rig::names(&broker.take(client)), Vec::<String>::new());
        pass(&mut broker, 67);
        tick_all(&mut broker);
        assert_eq!(rig::names(&broker.take(client)), [CLOSE]);
        let again = broker.call(other, 1, &rig::consume("q"));
        assert_eq!(rig::names(&again), ["BasicConsumeOk", "BasicDeliver"]);
        // Once is enough, and what the channel sends later is ignored.
        pass(&mut broker, 10);
        tick_all(&mut broker);
        assert_eq!(rig::names(&broker.call(client, 1, &ACK)), Vec::<String>::new());
    }
}

#[test]
fn a_settle_on_its_way_to_the_home_shard_is_in_time() {
    let (mut broker, client) = held(2);
    pass(&mut broker, TIMEOUT_MS + 67);
    // The channel's shard has the settle, the home shard does not.
    broker.receive(client, &rig::encoded(1, &ACK));
    broker.tick_now(1);
    while broker.turn(1) {}
    broker.settle();
    pass(&mut broker, 2 * TIMEOUT_MS);
    tick_all(&mut broker);
    assert_eq!(rig::names(&broker.take(client)), Vec::<String>::new());
    let answer = broker.call(client, 1, &rig::passive("q"));
    assert_eq!(rig::names(&answer), ["QueueDeclareOk"]);
}

#[test]
fn a_settle_that_waits_for_a_commit_is_in_time() {
    let (mut broker, client) = held(2);
    broker.call(client, 1, &Method::TxSelect {});
    broker.call(client, 1, &ACK);
    for _ in 0..5 {
        pass(&mut broker, TIMEOUT_MS);
        tick_all(&mut broker);
    }
    assert_eq!(rig::names(&broker.call(client, 1, &Method::TxRollback {})), ["TxRollbackOk"]);
    pass(&mut broker, TIMEOUT_MS);
    tick_all(&mut broker);
    assert_eq!(rig::names(&broker.take(client)), [CLOSE]);
}
