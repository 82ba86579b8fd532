//! Class tx: what a commit waits for, what the end of its channel drops, and how much it may hold.

use amqp::frame::{write_body, write_header};
use amqp::{Method, Properties};

use crate::rig::{self, Client, Rig};

const MIB: usize = 1024 * 1024;
const QUEUE: &str = "q";

/// A client in tx mode on shard 0, and a queue.
fn transactional(broker: &mut Rig) -> Client {
    let client = broker.client(0);
    broker.call(client, 1, &rig::declare(QUEUE, false));
    assert_eq!(rig::names(&broker.call(client, 1, &Method::TxSelect {})), ["TxSelectOk"]);
    client
}

fn commit() -> Vec<u8> {
    rig::encoded(1, &Method::TxCommit {})
}

fn get(no_ack: bool) -> Method<'static> {
    Method::BasicGet { ticket: 0, queue: QUEUE, no_ack }
}

/// Ready messages, as another connection sees them.
fn ready(broker: &mut Rig) -> u32 {
    let client = broker.client(0);
    let bytes = broker.call(client, 1, &rig::declare(QUEUE, false));
    broker.vanish(client);
    let (mut parser, mut at) = (amqp::Parser::new(0), 0);
    let Some(amqp::Frame::Method { payload, .. }) = parser.next(&bytes, &mut at).unwrap() else {
        panic!("{bytes:?}");
    };
    match Method::read(payload) {
        Ok(Method::QueueDeclareOk { message_count, .. }) => message_count,
        other => panic!("{other:?}"),
    }
}

/// A mandatory publish on channel 1 to a queue that is not there.
fn unroutable(body: &[u8]) -> Vec<u8> {
    let method = Method::BasicPublish {
        ticket: 0,
        exchange: "",
        routing_key: "nobody",
        mandatory: true,
        immediate: false,
    };
    let mut bytes = rig::encoded(1, &method);
    write_header(&mut bytes, 1, body.len() as u64, Properties::EMPTY.encoded());
    write_body(&mut bytes, 1, body, 131_072);
    bytes
}

#[test]
fn commit_ok_waits_for_the_home_of_the_publishes_and_of_the_settles() {
    let mut broker = Rig::new(2);
    let client = transactional(&mut broker);
    let got = |broker: &mut Rig| rig::names(&broker.take_now(client));
    broker.receive(client, &[rig::publish(QUEUE, b"1"), commit()].concat());
    broker.turn(0);
    broker.turn(0);
    assert_eq!(got(&mut broker), [""; 0]);
    broker.turn(1);
    broker.turn(0);
    assert_eq!(got(&mut broker), ["TxCommitOk"]);
    assert_eq!(rig::names(&broker.call(client, 1, &get(false))), ["BasicGetOk"]);
    let ack = rig::encoded(1, &Method::BasicAck { delivery_tag: 1, multiple: false });
    broker.receive(client, &[ack, rig::publish(QUEUE, b"2"), commit()].concat());
    for _ in 0..2 {
        // The settle is sent once the publish is applied, and takes the same hop.
        broker.turn(0);
        broker.turn(0);
        assert_eq!(got(&mut broker), [""; 0]);
        broker.turn(1);
    }
    broker.turn(0);
    assert_eq!(got(&mut broker), ["TxCommitOk"]);
    assert_eq!(ready(&mut broker), 1);
    broker.vanish(client);
    assert_eq!((ready(&mut broker), broker.leftovers()), (1, 0));
}

#[test]
fn methods_behind_a_commit_wait_for_it() {
    let mut broker = Rig::new(2);
    let client = transactional(&mut broker);
    let bytes = [
        rig::publish(QUEUE, b"1"),
        commit(),
        rig::publish(QUEUE, b"2"),
        rig::encoded(1, &Method::TxRollback {}),
        commit(),
        rig::encoded(1, &get(true)),
        rig::encoded(1, &get(true)),
    ];
    let names = rig::names(&broker.send(client, &bytes.concat()));
    let due = ["TxCommitOk", "TxRollbackOk", "TxCommitOk", "BasicGetOk", "BasicGetEmpty"];
    assert_eq!(names, due);
}

#[test]
fn a_commit_sends_no_more_than_the_window_takes_and_all_of_it_in_the_end() {
    let mut broker = Rig::new(2);
    let client = transactional(&mut broker);
    let body = vec![7; MIB];
    for _ in 0..20 {
        assert!(broker.send(client, &rig::publish(QUEUE, &body)).is_empty());
    }
    assert!(broker.shards[0].pinned() > 20 * MIB);
    broker.receive(client, &commit());
    let most = broker.shards[0].outbound(model::ShardId(1)).held();
    assert!((4 * MIB..6 * MIB).contains(&most), "{most}");
    broker.settle();
    assert_eq!(rig::names(&broker.take(client)), ["TxCommitOk"]);
    assert_eq!((ready(&mut broker), broker.shards[0].pinned()), (20, 0));
}

#[test]
fn a_commit_that_has_begun_publishes_everything_and_one_that_was_not_sent_nothing() {
    let mut broker = Rig::new(2);
    for (end, due) in [(commit(), 12), (Vec::new(), 12)] {
        let client = transactional(&mut broker);
        for _ in 0..12 {
            broker.send(client, &rig::publish(QUEUE, &vec![7; MIB]));
        }
        broker.receive(client, &end);
        broker.vanish_now(client);
        broker.settle();
        assert_eq!((ready(&mut broker), broker.leftovers()), (due, 0));
    }
}

#[test]
fn returns_of_a_commit_wait_until_the_client_reads() {
    let mut broker = Rig::new(1);
    let client = transactional(&mut broker);
    for _ in 0..3000 {
        broker.send(client, &unroutable(&[7; 2000]));
    }
    assert!(broker.send(client, &rig::publish(QUEUE, b"last")).is_empty());
    broker.receive(client, &commit());
    let mut names = Vec::new();
    while names.last().is_none_or(|name| name != "TxCommitOk") {
        broker.settle();
        let bytes = broker.take_now(client);
        assert!(!bytes.is_empty() && bytes.len() < MIB + MIB / 8, "{}", bytes.len());
        names.extend(rig::names(&bytes));
    }
    assert_eq!(names.len(), 3001);
    assert!(names[..3000].iter().all(|name| name == "BasicReturn"));
    assert_eq!(ready(&mut broker), 1);
}

#[test]
fn a_transaction_that_holds_too_much_is_refused() {
    let mut broker = Rig::configured(2, u64::MAX, |config| config.transaction_max = 100_000);
    let client = transactional(&mut broker);
    // A single publish is always accepted.
    assert!(broker.send(client, &rig::publish(QUEUE, &[7; 200_000])).is_empty());
    let names = rig::names(&broker.send(client, &rig::publish(QUEUE, b"1")));
    let text = "PRECONDITION_FAILED - transaction holds more than 100000 bytes";
    assert_eq!(names, [format!("ChannelClose {text}")]);
    assert_eq!(broker.shards[0].pinned(), 0);
    broker.vanish(client);
    assert_eq!((ready(&mut broker), broker.leftovers()), (0, 0));
}

#[test]
fn what_transactions_hold_cannot_keep_an_alarm_on() {
    let mut broker = Rig::configured(1, 36 * MIB as u64, |_| {});
    let client = transactional(&mut broker);
    let body = vec![7; MIB];
    let mut names = Vec::new();
    for _ in 0..80 {
        names.extend(rig::names(&broker.send(client, &rig::publish(QUEUE, &body))));
    }
    let text = "PRECONDITION_FAILED - transaction holds more than 33554432 bytes";
    assert_eq!(names, [format!("ChannelClose {text}")]);
    let close_ok = rig::encoded(1, &Method::ChannelCloseOk {});
    let open = rig::encoded(1, &Method::ChannelOpen { out_of_band: "" });
    let bytes = broker.send(client, &[close_ok, open].concat());
    assert_eq!(rig::names(&bytes), ["ChannelOpenOk"]);
    assert_eq!(broker.shards[0].pinned(), 0);
}

#[test]
fn a_recover_in_a_transaction_leaves_what_is_settled_in_it() {
    let mut broker = Rig::new(2);
    let client = transactional(&mut broker);
    let three = [b"1", b"2", b"3"].map(|body| rig::publish(QUEUE, body)).concat();
    broker.send(client, &[three, commit()].concat());
    for _ in 0..3 {
        broker.call(client, 1, &get(false));
    }
    let ack = rig::encoded(1, &Method::BasicAck { delivery_tag: 2, multiple: false });
    let recover = rig::encoded(1, &Method::BasicRecover { requeue: true });
    broker.send(client, &[ack.clone(), recover].concat());
    assert_eq!(ready(&mut broker), 2);
    // After a rollback it is outstanding again, with the same tag.
    broker.send(client, &rig::encoded(1, &Method::TxRollback {}));
    let names = rig::names(&broker.send(client, &[ack, commit()].concat()));
    assert_eq!(names, ["TxCommitOk"]);
    broker.vanish(client);
    assert_eq!((ready(&mut broker), broker.leftovers()), (2, 0));
}
