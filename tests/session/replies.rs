//! Direct reply-to between shards: waiting replies are bounded, and replies to a consumer that is
//! gone are returned.

use amqp::frame::{write_body, write_header};
use amqp::properties::Basic;
use amqp::{Method, Table};
use ringtail::shard::Gate;

use crate::rig::{self, Client, Rig};

const REPLY_TO: &str = "amq.rabbitmq.reply-to";
const MIB: usize = 1 << 20;
/// Bytes of replies that may wait for a consumer, as in the broker.
const WAITING_MAX: usize = 16 * MIB;

/// The frames of a publish on channel 1.
fn publish(routing_key: &str, mandatory: bool, properties: &Basic<'_>, body: &[u8]) -> Vec<u8> {
    let method =
        Method::BasicPublish { ticket: 0, exchange: "", routing_key, mandatory, immediate: false };
    let (mut bytes, mut encoded) = (rig::encoded(1, &method), Vec::new());
    properties.write(&mut encoded);
    write_header(&mut bytes, 1, body.len() as u64, &encoded);
    write_body(&mut bytes, 1, body, 131_072);
    bytes
}

fn reply(to: &str, mandatory: bool, body: &[u8]) -> Vec<u8> {
    publish(to, mandatory, &Basic::default(), body)
}

/// Starts a client's reply consumer and returns its reply-to name.
fn address(broker: &mut Rig, client: Client) -> String {
    let consume = Method::BasicConsume {
        ticket: 0,
        queue: REPLY_TO,
        consumer_tag: "replies",
        no_local: false,
        no_ack: true,
        exclusive: false,
        nowait: false,
        arguments: Table::EMPTY,
    };
    assert_eq!(rig::names(&broker.call(client, 1, &consume)), ["BasicConsumeOk"]);
    broker.call(client, 1, &rig::declare("requests", false));
    let basic = Basic { reply_to: Some(REPLY_TO), ..Basic::default() };
    broker.send(client, &publish("requests", false, &basic, b"?"));
    let get = Method::BasicGet { ticket: 0, queue: "requests", no_ack: true };
    let bytes = broker.call(client, 1, &get);
    let name = format!("{REPLY_TO}.");
    let start = bytes.windows(name.len()).position(|bytes| bytes == name.as_bytes()).unwrap();
    String::from_utf8(bytes[start..start + name.len() + 32].to_vec()).unwrap()
}

/// A server in confirm mode.
fn server(broker: &mut Rig, shard: usize) -> Client {
    let server = broker.client(shard);
    broker.call(server, 1, &Method::ConfirmSelect { nowait: false });
    server
}

#[test]
fn a_reply_consumer_that_does_not_read_holds_no_more_than_its_bound() {
    for shards in [1, 2] {
        let mut broker = Rig::new(shards);
        let client = broker.client(0);
        let name = address(&mut broker, client);
        let server = server(&mut broker, usize::from(shards) - 1);
        let before = broker.shards[0].pinned();
        for _ in 0..40 {
            let bytes = broker.send(server, &reply(&name, true, &[b'x'; MIB]));
            assert_eq!(rig::names(&bytes), ["BasicAck"], "dropped is not gone");
            assert_eq!(broker.gate(server), Gate::Open);
        }
        let waiting = broker.shards[0].pinned() - before;
        assert!((WAITING_MAX..WAITING_MAX + 2 * MIB).contains(&waiting), "{waiting}");
        let mut got = 0;
        loop {
            let bytes = broker.take(client);
            if bytes.is_empty() {
                break;
            }
            got += rig::names(&bytes).len();
        }
        assert!((16..20).contains(&got), "{got}");
        broker.send(server, &reply(&name, true, b"in time again"));
        assert_eq!(rig::names(&broker.take(client)), ["BasicDeliver"]);
        assert!(broker.shards[0].pinned() - before < MIB, "nothing waits any more");
        broker.vanish(client);
        broker.vanish(server);
        assert_eq!(broker.leftovers(), 0);
    }
}

#[test]
fn a_reply_larger_than_the_bound_passes_when_nothing_waits() {
    let mut broker = Rig::new(2);
    let client = broker.client(0);
    let name = address(&mut broker, client);
    let server = server(&mut broker, 1);
    broker.send(server, &reply(&name, false, &vec![b'x'; WAITING_MAX + MIB]));
    assert_eq!(rig::names(&broker.take(client)), ["BasicDeliver"]);
}

#[test]
fn a_mandatory_reply_that_meets_the_end_of_its_consumer_comes_back_before_its_ack() {
    let ends: [Method<'_>; 2] = [
        Method::BasicCancel { consumer_tag: "replies", nowait: false },
        Method::ChannelClose { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 },
    ];
    for shards in [1, 2] {
        for end in &ends {
            let mut broker = Rig::new(shards);
            let client = broker.client(0);
            let name = address(&mut broker, client);
            let server = server(&mut broker, usize::from(shards) - 1);
            // The reply is under way when the consumer ends.
            let body = [b'x'; 5000];
            if shards == 2 {
                broker.receive(server, &reply(&name, true, &body));
            }
            broker.receive(client, &rig::encoded(1, end));
            broker.send(server, &reply(&name, false, b"dropped"));
            let bytes = broker.send(server, &reply(&name, true, &body));
            assert_eq!(rig::names(&bytes), ["BasicReturn", "BasicAck"]);
            assert!(bytes.windows(body.len()).any(|bytes| bytes == body));
            broker.vanish(client);
            broker.vanish(server);
            assert_eq!(broker.leftovers(), 0);
        }
    }
}

#[test]
fn a_return_for_a_channel_that_is_gone_is_dropped() {
    let mut broker = Rig::new(2);
    let client = broker.client(0);
    let name = address(&mut broker, client);
    let server = server(&mut broker, 1);
    broker.vanish(client);
    broker.receive(server, &reply(&name, true, b"x"));
    let close = Method::ChannelClose { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
    broker.receive(server, &rig::encoded(1, &close));
    broker.settle();
    assert_eq!(rig::names(&broker.take(server)), ["ChannelCloseOk"]);
    broker.vanish(server);
    assert_eq!(broker.leftovers(), 0);
}

#[test]
fn a_name_of_another_broker_leads_nowhere() {
    let mut other = Rig::configured(1, u64::MAX, |config| {
        config.reply_key = ringtail::sessions::ReplyKey::new([7; 32]);
    });
    let stranger = other.client(0);
    let name = address(&mut other, stranger);
    let mut broker = Rig::new(1);
    let client = broker.client(0);
    address(&mut broker, client);
    let server = server(&mut broker, 0);
    let bytes = broker.send(server, &reply(&name, true, b"x"));
    assert_eq!(rig::names(&bytes), ["BasicReturn", "BasicAck"]);
    assert!(broker.take(client).is_empty());
}

/// A client's reply consumer that is gone, on shard 0, and a server in tx mode that has its name.
fn gone(broker: &mut Rig, shard: usize) -> (Client, String) {
    let client = broker.client(0);
    let name = address(broker, client);
    let server = broker.client(shard);
    broker.call(server, 1, &Method::TxSelect {});
    broker.call(client, 1, &Method::BasicCancel { consumer_tag: "replies", nowait: false });
    (server, name)
}

#[test]
fn a_commit_returns_only_what_is_mandatory() {
    for shards in [1, 2] {
        let mut broker = Rig::new(shards);
        let (server, name) = gone(&mut broker, usize::from(shards) - 1);
        broker.send(server, &reply(&name, false, b"dropped"));
        let bytes = broker.call(server, 1, &Method::TxCommit {});
        assert_eq!(rig::names(&bytes), ["TxCommitOk"]);
        broker.send(server, &reply(&name, true, b"returned"));
        let bytes = broker.call(server, 1, &Method::TxCommit {});
        assert_eq!(rig::names(&bytes), ["BasicReturn", "TxCommitOk"]);
    }
}

#[test]
fn replies_that_a_commit_returns_wait_until_the_client_reads() {
    for shards in [1, 2] {
        let mut broker = Rig::new(shards);
        let (server, name) = gone(&mut broker, usize::from(shards) - 1);
        for _ in 0..32 {
            broker.send(server, &reply(&name, true, &[b'x'; MIB]));
        }
        broker.receive(server, &rig::encoded(1, &Method::TxCommit {}));
        let mut names = Vec::new();
        while names.last().is_none_or(|name| name != "TxCommitOk") {
            broker.settle();
            let bytes = broker.take_now(server);
            // What is under way to another shard comes back whatever the client reads.
            assert!(!bytes.is_empty() && bytes.len() < 8 * MIB, "{}", bytes.len());
            names.extend(rig::names(&bytes));
        }
        assert_eq!(names.len(), 33);
    }
}
