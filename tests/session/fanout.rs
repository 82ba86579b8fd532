//! One publish that goes to many queues: small to send, large to keep.

use amqp::{Method, Table};
use ringtail::shard::Gate;

use crate::rig::{self, Client, Rig};

const QUEUES: usize = 2000;
const PUBLISHES: usize = 700;
/// The copies of a publisher before it waits, those of one more message, and the first chunk of
/// every queue.
const WINDOW: usize = (4 << 20) + QUEUES * (128 + 4096);

/// A client whose queues are all bound to `amq.fanout`.
fn bound(broker: &mut Rig, shard: usize) -> Client {
    let client = broker.client(shard);
    for number in 0..QUEUES {
        let queue = format!("q{number}");
        broker.receive(client, &rig::encoded(1, &rig::declare(&queue, false)));
        let (ticket, nowait, routing_key, arguments) = (0, false, "", Table::EMPTY);
        let (queue, exchange) = (&queue, "amq.fanout");
        let bind = Method::QueueBind { ticket, queue, exchange, routing_key, nowait, arguments };
        broker.receive(client, &rig::encoded(1, &bind));
        broker.settle();
    }
    broker.take(client);
    client
}

/// One read with hundreds of small publishes.
fn publishes() -> Vec<u8> {
    rig::fan_out(&[b'x'; 16]).repeat(PUBLISHES)
}

fn pinned(broker: &Rig) -> usize {
    broker.shards.iter().map(ringtail::shard::Shard::pinned).sum()
}

#[test]
fn a_chunk_of_publishes_to_thousands_of_queues_is_not_obeyed_in_one_turn() {
    for shards in [1, 2] {
        let mut broker = Rig::new(shards);
        let publisher = bound(&mut broker, 0);
        let before = pinned(&broker);
        broker.receive(publisher, &publishes());
        assert_eq!(broker.gate(publisher), Gate::Paused);
        for shard in 0..usize::from(shards) {
            broker.turn(shard);
            let more = pinned(&broker) - before;
            assert!(more <= WINDOW, "{shards} shards: {more} bytes in a turn");
        }
        broker.settle();
        assert_eq!(broker.gate(publisher), Gate::Open);
        for last in [0, QUEUES - 1].map(|number| format!("q{number}")) {
            let purge = Method::QueuePurge { ticket: 0, queue: &last, nowait: false };
            let bytes = broker.call(publisher, 1, &purge);
            assert_eq!(bytes[11..15], (PUBLISHES as u32).to_be_bytes(), "none is lost");
        }
    }
}

#[test]
fn an_alarm_comes_before_copies_fill_the_memory() {
    const LIMIT: u64 = 64 << 20;
    for shards in [1, 2] {
        let mut broker = Rig::configured(shards, LIMIT, |_| {});
        let publisher = bound(&mut broker, 0);
        for _ in 0..20 {
            if broker.gate(publisher) == Gate::Open {
                broker.receive(publisher, &publishes());
            }
            broker.settle();
            let pinned = pinned(&broker);
            assert!(pinned <= LIMIT as usize + 2 * WINDOW, "{shards} shards: {pinned} bytes");
        }
        assert_eq!(broker.gate(publisher), Gate::Paused);
    }
}

#[test]
fn a_commit_to_thousands_of_queues_takes_several_turns_as_well() {
    for shards in [1, 2] {
        let mut broker = Rig::new(shards);
        let publisher = bound(&mut broker, 0);
        broker.call(publisher, 1, &Method::TxSelect {});
        broker.send(publisher, &publishes());
        let before = pinned(&broker);
        broker.receive(publisher, &rig::encoded(1, &Method::TxCommit {}));
        for shard in 0..usize::from(shards) {
            broker.turn(shard);
            let more = pinned(&broker).saturating_sub(before);
            assert!(more <= WINDOW, "{shards} shards: {more} bytes in a turn");
        }
        broker.settle();
        assert_eq!(rig::names(&broker.take(publisher)), ["TxCommitOk"]);
        let purge = Method::QueuePurge { ticket: 0, queue: "q7", nowait: false };
        let bytes = broker.call(publisher, 1, &purge);
        assert_eq!(bytes[11..15], (PUBLISHES as u32).to_be_bytes(), "none is lost");
    }
}
