//! The line protocol, a second kind of session through the same interface as AMQP.

use amqp::Method;
use ringtail::shard::Gate;

use crate::rig::{self, Client, Rig};

/// A client that begins with such a line.
fn line(broker: &mut Rig, shard: usize, text: &str) -> (Client, String) {
    let client = broker.accepted(shard);
    let answer = told(broker, client, text);
    (client, answer)
}

fn told(broker: &mut Rig, client: Client, text: &str) -> String {
    String::from_utf8(broker.send(client, text.as_bytes())).unwrap()
}

fn heard(broker: &mut Rig, client: Client) -> String {
    String::from_utf8(broker.take(client)).unwrap()
}

fn declare(broker: &mut Rig, shard: usize) -> Client {
    let client = broker.client(shard);
    broker.call(client, 1, &rig::declare("q", false));
    client
}

#[test]
fn a_line_published_on_one_shard_is_heard_on_another() {
    let mut broker = Rig::new(2);
    declare(&mut broker, 0);
    let (consumer, answer) = line(&mut broker, 1, "SUB q\n");
    assert_eq!(answer, "OK\n");
    let (publisher, answer) =
        line(&mut broker, 0, "PUB q hello world\r\nPUB q again\nPUB none x\n");
    assert_eq!(answer, "");
    assert_eq!(heard(&mut broker, consumer), "MSG q hello world\nMSG q again\n");
    assert_eq!(told(&mut broker, publisher, "QUIT\n"), "BYE\n");
    assert!(broker.shards[publisher.shard].closed_in_order(publisher.conn));
}

#[test]
fn lines_and_amqp_reach_each_other() {
    let mut broker = Rig::new(2);
    let client = declare(&mut broker, 0);
    let (other, _) = line(&mut broker, 0, "SUB q\n");
    broker.send(client, &rig::publish("q", b"from AMQP"));
    assert_eq!(heard(&mut broker, other), "MSG q from AMQP\n");
    told(&mut broker, other, "QUIT\n");
    broker.vanish(other);
    line(&mut broker, 1, "PUB q from a line\n");
    let get = Method::BasicGet { ticket: 0, queue: "q", no_ack: true };
    let got = broker.call(client, 1, &get);
    assert_eq!(rig::names(&got), ["BasicGetOk"]);
    assert!(got.windows(11).any(|bytes| bytes == b"from a line"));
}

#[test]
fn a_consumer_that_does_not_read_gets_no_more_than_its_credit() {
    let mut broker = Rig::new(2);
    declare(&mut broker, 0);
    let (consumer, _) = line(&mut broker, 1, "SUB q\n");
    let text = format!("PUB q {}\n", "x".repeat(1000)).repeat(1000);
    let (publisher, _) = line(&mut broker, 0, &text);
    let mut lines = 0;
    loop {
        let some = heard(&mut broker, consumer);
        if some.is_empty() {
            break;
        }
        assert!(some.len() < 300_000, "{}", some.len());
        lines += some.lines().count();
    }
    assert_eq!(lines, 1000);
    [publisher, consumer].into_iter().for_each(|client| broker.vanish(client));
}

#[test]
fn lines_may_come_in_pieces() {
    let mut broker = Rig::new(1);
    declare(&mut broker, 0);
    let client = broker.accepted(0);
    let mut answers = String::new();
    for byte in b"SUB q\nPUB q a b\nQUIT\nPUB q late\n" {
        answers += std::str::from_utf8(&broker.send(client, &[*byte])).unwrap();
    }
    assert_eq!(answers, "OK\nMSG q a b\nBYE\n");
}

#[test]
fn what_cannot_be_done_ends_the_connection() {
    let long = format!("PUB q {}\n", "x".repeat(64 * 1024));
    for (text, reason) in [
        ("SUB nothing\n", "no queue 'nothing'"),
        ("PLEASE\n", "unknown command"),
        ("SUB\n", "unknown command"),
        ("Q\u{0}\n", "unknown command"),
        (&*long, "the line is too long"),
    ] {
        let mut broker = Rig::new(2);
        let (client, answer) = line(&mut broker, 0, text);
        assert!(answer.starts_with("ERR ") && answer.contains(reason), "{text:.20}: {answer}");
        assert_eq!(broker.gate(client), Gate::Closing);
        broker.vanish(client);
        assert_eq!(broker.leftovers(), 0);
    }
}

#[test]
fn nothing_is_left_of_a_client_that_vanishes() {
    let mut broker = Rig::new(2);
    let client = declare(&mut broker, 0);
    let (consumer, _) = line(&mut broker, 1, "SUB q\nPUB q a\nSUB");
    broker.vanish(consumer);
    broker.call(client, 0, &rig::close());
    broker.vanish(client);
    assert_eq!(broker.leftovers(), 0);
}
