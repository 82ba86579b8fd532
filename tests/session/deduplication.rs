//! Exchanges that take each value of a header once, from all shards.

use amqp::properties::Basic;
use amqp::{Method, TableWriter, Value};

use crate::histories::{bound, confirming, declare_exchange, drain, publish};
use crate::rig::{self, Client, Rig};

fn exchange(broker: &mut Rig, client: Client, ttl_ms: Option<i32>) {
    let mut table = TableWriter::new().with("x-cache-size", Value::Int(100));
    if let Some(ms) = ttl_ms {
        table = table.with("x-cache-ttl", Value::Int(ms));
    }
    declare_exchange(broker, client, "x", "x-message-deduplication", table.table());
    broker.call(client, 1, &rig::declare("q", false));
    bound(broker, client, "q", "x");
}

fn valued(body: u8, value: &str) -> Vec<u8> {
    let value = Value::LongString(value.as_bytes());
    let headers = TableWriter::new().with("x-deduplication-header", value);
    publish("x", body, false, &Basic { headers: Some(headers.table()), ..Basic::default() })
}

#[test]
fn a_value_passes_once_whichever_shard_it_comes_from() {
    for shards in [1, 2, 3] {
        let mut broker = Rig::new(shards);
        let clients: Vec<_> =
            (0..usize::from(shards)).map(|shard| confirming(&mut broker, shard)).collect();
        exchange(&mut broker, clients[0], None);
        for (number, client) in clients.iter().cycle().take(6).enumerate() {
            let value = if number < 3 { "one" } else { "other" };
            let told = broker.send(*client, &valued(number as u8, value));
            assert_eq!(rig::names(&told), ["BasicAck"], "a duplicate is confirmed");
        }
        assert_eq!(drain(&mut broker, clients[0], "q"), [0, 3]);
        let without = publish("x", 9, false, &Basic::default());
        broker.send(clients[0], &without.repeat(2));
        assert_eq!(drain(&mut broker, clients[0], "q"), [9, 9], "without a value");
    }
}

#[test]
fn a_value_passes_again_when_its_time_is_over() {
    let mut broker = Rig::new(2);
    let client = broker.client(0);
    exchange(&mut broker, client, Some(1000));
    for (body, later_ms) in [(1, 0), (2, 999), (3, 1), (4, 10)] {
        broker.now.monotonic_us += later_ms * 1000;
        broker.send(client, &valued(body, "v"));
    }
    assert_eq!(drain(&mut broker, client, "q"), [1, 3]);
}

#[test]
fn a_rolled_back_value_was_not_seen() {
    for shard in [0, 1] {
        let mut broker = Rig::new(2);
        let client = broker.client(shard);
        exchange(&mut broker, client, None);
        broker.call(client, 1, &Method::TxSelect {});
        broker.send(client, &valued(1, "v"));
        broker.call(client, 1, &Method::TxRollback {});
        broker.send(client, &valued(2, "v"));
        broker.send(client, &valued(3, "v"));
        broker.call(client, 1, &Method::TxCommit {});
        assert_eq!(drain(&mut broker, client, "q"), [2]);
    }
}

#[test]
fn a_refused_value_was_not_seen() {
    for shard in [0, 1] {
        let mut broker = Rig::new(2);
        let client = broker.client(shard);
        exchange(&mut broker, client, None);
        let value = Value::LongString(b"v");
        let headers = TableWriter::new().with("x-deduplication-header", value);
        let headers = Some(headers.table());
        let bad = Basic { headers, expiration: Some("soon"), ..Basic::default() };
        let told = broker.send(client, &publish("x", 1, false, &bad));
        assert!(rig::names(&told)[0].starts_with("ChannelClose"), "{told:?}");
        broker.call(client, 1, &Method::ChannelCloseOk {});
        broker.call(client, 1, &Method::ChannelOpen { out_of_band: "" });
        broker.send(client, &valued(2, "v"));
        assert_eq!(drain(&mut broker, client, "q"), [2]);
    }
}
