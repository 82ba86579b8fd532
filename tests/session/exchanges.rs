//! Exchanges that choose one of their bindings, as a channel uses them again and again.

use amqp::frame::{write_body, write_header};
use amqp::{Method, Properties, Table};

use crate::rig::{self, Client, Rig};

const MESSAGES: usize = 200;

/// A client with an exchange of this kind and two queues bound to it.
fn bound(broker: &mut Rig, kind: &str) -> Client {
    let client = broker.client(0);
    let method = Method::ExchangeDeclare {
        ticket: 0,
        exchange: "x",
        kind,
        passive: false,
        durable: false,
        auto_delete: false,
        internal: false,
        nowait: false,
        arguments: Table::EMPTY,
    };
    broker.call(client, 1, &method);
    for queue in ["q0", "q1"] {
        broker.call(client, 1, &rig::declare(queue, false));
        let (ticket, nowait, routing_key, arguments) = (0, false, "1", Table::EMPTY);
        let bind =
            Method::QueueBind { ticket, queue, exchange: "x", routing_key, nowait, arguments };
        broker.call(client, 1, &bind);
    }
    client
}

/// How many messages of one key the queues got.
fn counts(broker: &mut Rig, client: Client) -> [u32; 2] {
    let method = Method::BasicPublish {
        ticket: 0,
        exchange: "x",
        routing_key: "always the same",
        mandatory: false,
        immediate: false,
    };
    let mut publish = rig::encoded(1, &method);
    write_header(&mut publish, 1, 1, Properties::EMPTY.encoded());
    write_body(&mut publish, 1, b"m", 0);
    broker.send(client, &publish.repeat(MESSAGES));
    broker.settle();
    ["q0", "q1"].map(|queue| {
        let purge = Method::QueuePurge { ticket: 0, queue, nowait: false };
        let answer = broker.call(client, 1, &purge);
        let count = answer[11..15].try_into().unwrap();
        u32::from_be_bytes(count)
    })
}

fn is_by_chance() -> bool {
    let mut broker = Rig::new(2);
    let client = bound(&mut broker, "x-random");
    let [one, other] = counts(&mut broker, client);
    assert_eq!((one + other) as usize, MESSAGES);
    one.min(other) > 50
}

#[test]
fn chance_decides_about_every_message() {
    assert!(is_by_chance());
}

#[test]
fn the_same_entropy_chooses_alike() {
    let counted = || {
        let mut broker = Rig::new(2);
        let client = bound(&mut broker, "x-random");
        counts(&mut broker, client)
    };
    assert_eq!(counted(), counted());
}

#[test]
fn a_hash_gives_a_key_to_one_queue() {
    for kind in ["x-consistent-hash", "x-modulus-hash"] {
        let mut broker = Rig::new(2);
        let client = bound(&mut broker, kind);
        let mut counted = counts(&mut broker, client);
        counted.sort_unstable();
        assert_eq!(counted, [0, MESSAGES as u32]);
    }
}

/// A channel that remembers what chance decided is found.
#[cfg(feature = "mutants")]
#[test]
fn faults_of_chance_are_found() {
    use model::mutant::{Mutant, select};
    select(Some(Mutant::ChanceRemembered));
    let found = !is_by_chance();
    select(None);
    assert!(found);
}
