//! Exchanges that keep their last messages. All publishes pass one shard, wherever the publisher,
//! the queue and the one who binds it are.

use amqp::frame::{write_body, write_header};
use amqp::properties::Basic;
use amqp::{Method, Table, TableWriter, Value};
use model::ShardId;
use model::exchange::home_of_states;
use ringtail::mesh::Batch;

use crate::rig::{self, Client, Rig};

pub fn declare_exchange(
    broker: &mut Rig,
    client: Client,
    name: &str,
    kind: &str,
    table: Table<'_>,
) {
    let method = Method::ExchangeDeclare {
        ticket: 0,
        exchange: name,
        kind,
        passive: false,
        durable: false,
        auto_delete: false,
        internal: false,
        nowait: false,
        arguments: table,
    };
    assert_eq!(rig::names(&broker.call(client, 1, &method)), ["ExchangeDeclareOk"]);
}

fn bind<'a>(queue: &'a str, exchange: &'a str, routing_key: &'a str) -> Method<'a> {
    let (ticket, nowait, arguments) = (0, false, Table::EMPTY);
    Method::QueueBind { ticket, queue, exchange, routing_key, nowait, arguments }
}

pub fn bound(broker: &mut Rig, client: Client, queue: &str, exchange: &str) {
    assert_eq!(rig::names(&broker.call(client, 1, &bind(queue, exchange, ""))), ["QueueBindOk"]);
}

/// The frames of a publish of one byte.
pub fn publish(exchange: &str, body: u8, mandatory: bool, properties: &Basic<'_>) -> Vec<u8> {
    let (ticket, routing_key, immediate) = (0, "key", false);
    let method = Method::BasicPublish { ticket, exchange, routing_key, mandatory, immediate };
    let (mut bytes, mut encoded) = (rig::encoded(1, &method), Vec::new());
    properties.write(&mut encoded);
    write_header(&mut bytes, 1, 1, &encoded);
    write_body(&mut bytes, 1, &[body], 131_072);
    bytes
}

fn plain(exchange: &str, body: u8) -> Vec<u8> {
    publish(exchange, body, false, &Basic::default())
}

/// Takes all messages of a queue; the body of each has one byte.
pub fn drain(broker: &mut Rig, client: Client, queue: &str) -> Vec<u8> {
    let mut bodies = Vec::new();
    loop {
        let bytes = broker.call(client, 1, &Method::BasicGet { ticket: 0, queue, no_ack: true });
        if rig::names(&bytes) == ["BasicGetEmpty"] {
            return bodies;
        }
        bodies.push(bytes[bytes.len() - 2]);
    }
}

fn length(messages: i32) -> TableWriter {
    TableWriter::new().with("x-recent-history-length", Value::Int(messages))
}

/// A client of each of the shards, publisher and consumer on any two of them.
fn pairs(shards: u16) -> impl Iterator<Item = (usize, usize)> {
    let shards = usize::from(shards);
    (0..shards * shards).map(move |n| (n / shards, n % shards))
}

pub fn confirming(broker: &mut Rig, shard: usize) -> Client {
    let client = broker.client(shard);
    broker.call(client, 1, &Method::ConfirmSelect { nowait: false });
    client
}

#[test]
fn a_queue_gets_what_came_before_it_was_bound_and_then_all_else_once() {
    for shards in [1, 2, 3] {
        for (from, to) in pairs(shards) {
            let mut broker = Rig::new(shards);
            let (publisher, client) = (confirming(&mut broker, from), broker.client(to));
            declare_exchange(&mut broker, publisher, "x", "x-recent-history", length(3).table());
            for body in 0..6 {
                let told = broker.send(publisher, &plain("x", body));
                assert_eq!(rig::names(&told), ["BasicAck"], "{shards} shards, {from} to {to}");
            }
            broker.call(client, 1, &rig::declare("q", false));
            bound(&mut broker, client, "q", "x");
            broker.send(publisher, &plain("x", 6));
            bound(&mut broker, client, "q", "x");
            assert_eq!(drain(&mut broker, client, "q"), [3, 4, 5, 6]);
            broker.call(client, 1, &bind("q", "x", "other key"));
            assert_eq!(drain(&mut broker, client, "q"), [4, 5, 6], "another binding gets it again");
            broker.vanish(publisher);
            broker.vanish(client);
            assert_eq!(broker.leftovers(), 0);
        }
    }
}

#[test]
fn an_exchange_that_is_declared_again_knows_nothing() {
    let mut broker = Rig::new(2);
    let client = broker.client(0);
    let declare = |broker: &mut Rig| {
        declare_exchange(broker, client, "x", "x-recent-history", Table::EMPTY);
    };
    declare(&mut broker);
    broker.send(client, &plain("x", 1));
    let (ticket, exchange, if_unused, nowait) = (0, "x", false, false);
    broker.call(client, 1, &Method::ExchangeDelete { ticket, exchange, if_unused, nowait });
    declare(&mut broker);
    broker.call(client, 1, &rig::declare("q", false));
    bound(&mut broker, client, "q", "x");
    assert!(drain(&mut broker, client, "q").is_empty());
}

/// Whether a message with the header that forbids it is left out of the history.
fn obeys_no_store() -> bool {
    let mut broker = Rig::new(2);
    let client = broker.client(0);
    declare_exchange(&mut broker, client, "x", "x-recent-history", Table::EMPTY);
    for (body, flag) in [Value::Bool(true), Value::Bool(false), Value::Int(1)].iter().enumerate() {
        let headers = TableWriter::new().with("x-recent-history-no-store", *flag);
        let basic = Basic { headers: Some(headers.table()), ..Basic::default() };
        broker.send(client, &publish("x", body as u8, false, &basic));
    }
    broker.call(client, 1, &rig::declare("q", false));
    bound(&mut broker, client, "q", "x");
    drain(&mut broker, client, "q") == [1, 2]
}

#[test]
fn messages_may_say_that_they_are_not_kept() {
    assert!(obeys_no_store());
}

#[test]
fn what_goes_nowhere_comes_back_before_it_is_confirmed() {
    for shard in [0, 1] {
        let mut broker = Rig::new(2);
        let client = confirming(&mut broker, shard);
        declare_exchange(&mut broker, client, "x", "x-recent-history", Table::EMPTY);
        let told = broker.send(client, &publish("x", 1, true, &Basic::default()));
        assert_eq!(rig::names(&told), ["BasicReturn", "BasicAck"]);
    }
}

#[test]
fn a_queue_that_refuses_a_message_has_it_nacked() {
    for shard in [0, 1] {
        let mut broker = Rig::new(2);
        let client = confirming(&mut broker, shard);
        declare_exchange(&mut broker, client, "x", "x-recent-history", Table::EMPTY);
        let table = TableWriter::new()
            .with("x-max-length", Value::Int(1))
            .with("x-overflow", Value::LongString(b"reject-publish"));
        let Method::QueueDeclare { ticket, queue, passive, durable, .. } =
            rig::declare("full", false)
        else {
            unreachable!("a declare")
        };
        let (exclusive, auto_delete, nowait, arguments) = (false, false, false, table.table());
        let declare = Method::QueueDeclare {
            ticket,
            queue,
            passive,
            durable,
            exclusive,
            auto_delete,
            nowait,
            arguments,
        };
        broker.call(client, 1, &declare);
        bound(&mut broker, client, "full", "x");
        assert_eq!(rig::names(&broker.send(client, &plain("x", 1))), ["BasicAck"]);
        assert_eq!(rig::names(&broker.send(client, &plain("x", 2))), ["BasicNack"]);
    }
}

#[test]
fn a_transaction_comes_to_the_exchange_with_its_commit() {
    for shard in [0, 1] {
        let mut broker = Rig::new(2);
        let client = broker.client(shard);
        declare_exchange(&mut broker, client, "x", "x-recent-history", Table::EMPTY);
        broker.call(client, 1, &Method::TxSelect {});
        broker.send(client, &plain("x", 1));
        broker.call(client, 1, &Method::TxRollback {});
        broker.send(client, &plain("x", 2));
        broker.send(client, &plain("x", 3));
        broker.call(client, 1, &rig::declare("q", false));
        bound(&mut broker, client, "q", "x");
        assert_eq!(rig::names(&broker.call(client, 1, &Method::TxCommit {})), ["TxCommitOk"]);
        assert_eq!(drain(&mut broker, client, "q"), [2, 3]);
        broker.call(client, 1, &rig::declare("later", false));
        bound(&mut broker, client, "later", "x");
        assert_eq!(drain(&mut broker, client, "later"), [2, 3]);
    }
}

#[test]
fn messages_of_other_exchanges_are_kept_and_reach_each_queue_once() {
    for shard in [0, 1] {
        let mut broker = Rig::new(2);
        let client = broker.client(shard);
        declare_exchange(&mut broker, client, "x", "x-recent-history", Table::EMPTY);
        declare_exchange(&mut broker, client, "front", "fanout", Table::EMPTY);
        declare_exchange(&mut broker, client, "behind", "fanout", Table::EMPTY);
        let (ticket, routing_key, nowait, arguments) = (0, "", false, Table::EMPTY);
        for (source, destination) in [("front", "x"), ("x", "behind")] {
            let method = Method::ExchangeBind {
                ticket,
                destination,
                source,
                routing_key,
                nowait,
                arguments,
            };
            broker.call(client, 1, &method);
        }
        broker.call(client, 1, &rig::declare("q", false));
        for exchange in ["front", "x", "behind"] {
            bound(&mut broker, client, "q", exchange);
        }
        broker.send(client, &plain("front", 1));
        assert_eq!(drain(&mut broker, client, "q"), [1]);
        broker.call(client, 1, &rig::declare("later", false));
        declare_exchange(&mut broker, client, "other", "fanout", Table::EMPTY);
        bound(&mut broker, client, "later", "other");
        let (source, destination) = ("x", "other");
        let method =
            Method::ExchangeBind { ticket, destination, source, routing_key, nowait, arguments };
        broker.call(client, 1, &method);
        assert_eq!(drain(&mut broker, client, "later"), [1], "by way of an exchange");
    }
}

#[test]
fn dead_letters_are_kept_too() {
    for shard in [0, 1] {
        let mut broker = Rig::new(2);
        let client = broker.client(shard);
        declare_exchange(&mut broker, client, "x", "x-recent-history", Table::EMPTY);
        let dead = Value::LongString(b"x");
        let table = TableWriter::new().with("x-dead-letter-exchange", dead);
        let declare = Method::QueueDeclare {
            ticket: 0,
            queue: "dying",
            passive: false,
            durable: false,
            exclusive: false,
            auto_delete: false,
            nowait: false,
            arguments: table.table(),
        };
        broker.call(client, 1, &declare);
        broker.send(client, &rig::publish("dying", b"d"));
        broker.call(client, 1, &Method::BasicGet { ticket: 0, queue: "dying", no_ack: false });
        broker.send(
            client,
            &rig::encoded(1, &Method::BasicReject { delivery_tag: 1, requeue: false }),
        );
        broker.settle();
        broker.call(client, 1, &rig::declare("q", false));
        bound(&mut broker, client, "q", "x");
        assert_eq!(drain(&mut broker, client, "q"), b"d");
        broker.vanish(client);
        assert_eq!(broker.leftovers(), 0);
    }
}

/// Three shards: one has the stateful exchanges, the client is on another, and what the first has
/// for the third, where the client's queue is, does not arrive.
struct HeldBack {
    broker: Rig,
    client: Client,
    home: ShardId,
    third: ShardId,
    held: Vec<Batch>,
}

impl HeldBack {
    /// `None` if the queue is elsewhere.
    fn new(client: usize) -> Option<Self> {
        let home = home_of_states("/", 3);
        let third = ShardId(3 - home.0 - client as u16);
        let mut broker = Rig::new(3);
        let client = confirming(&mut broker, client);
        broker.call(client, 1, &rig::declare("q", false));
        declare_exchange(&mut broker, client, "x", "x-recent-history", Table::EMPTY);
        (broker.home("q") == Some(third)).then_some(Self {
            broker,
            client,
            home,
            third,
            held: Vec::new(),
        })
    }

    /// The names of what the client gets while what it waits for is held back.
    fn without(&mut self, bytes: &[u8]) -> Vec<String> {
        self.broker.receive(self.client, bytes);
        for shard in (0..3).cycle().take(60) {
            if shard == self.home.index() {
                let now = self.broker.now;
                let home = &mut self.broker.shards[shard];
                home.end_turn(now);
                self.held.push(std::mem::take(home.outbound(self.third)));
            }
            self.broker.turn(shard);
        }
        rig::names(&self.broker.take_now(self.client))
    }

    /// What was held back arrives; the names of what the client gets then.
    fn with(&mut self) -> Vec<String> {
        for mut batch in std::mem::take(&mut self.held) {
            let now = self.broker.now;
            self.broker.shards[self.third.index()].mesh(self.home, &mut batch, now);
        }
        self.broker.settle();
        rig::names(&self.broker.take(self.client))
    }
}

/// Whether a queue has an exchange's history when its binding is answered.
fn history_comes_first() -> bool {
    let worlds: Vec<_> = (0..3).filter(|shard| *shard != home_of_states("/", 3).index()).collect();
    let mut worlds: Vec<_> = worlds.into_iter().filter_map(HeldBack::new).collect();
    assert!(!worlds.is_empty(), "no queue is where it is looked for");
    worlds.iter_mut().all(|world| {
        world.broker.send(world.client, &plain("x", 1));
        let without = world.without(&rig::encoded(1, &bind("q", "x", "")));
        without.is_empty() && world.with() == ["QueueBindOk"]
    })
}

/// Whether a relayed message is in its queue when it is confirmed.
fn queues_come_first() -> bool {
    let worlds: Vec<_> = (0..3).filter(|shard| *shard != home_of_states("/", 3).index()).collect();
    let mut worlds: Vec<_> = worlds.into_iter().filter_map(HeldBack::new).collect();
    worlds.iter_mut().all(|world| {
        bound(&mut world.broker, world.client, "q", "x");
        world.without(&plain("x", 1)).is_empty() && world.with() == ["BasicAck"]
    })
}

#[test]
fn a_binding_is_answered_when_its_queue_has_the_history() {
    assert!(history_comes_first());
}

#[test]
fn a_relayed_message_is_confirmed_when_its_queue_has_it() {
    assert!(queues_come_first());
}

/// Every fault of histories and relays shows here.
#[cfg(feature = "mutants")]
#[test]
fn faults_of_histories_are_found() {
    use model::mutant::{Mutant, select};
    let tests: [(Mutant, fn() -> bool); 3] = [
        (Mutant::NoStoreIgnored, obeys_no_store),
        (Mutant::ReplayUnsettled, history_comes_first),
        (Mutant::RelayConfirmedEarly, queues_come_first),
    ];
    for (mutant, holds) in tests {
        select(Some(mutant));
        let found = std::panic::catch_unwind(|| !holds()).unwrap_or(true);
        select(None);
        assert!(found, "{mutant:?} is not found");
    }
}
