//! What clients make the broker keep counts as memory for as long as it is kept.

use amqp::frame::write_body;
use amqp::{Method, TableWriter, Value};
use ringtail::shard::Gate;

use crate::rig::{self, Client, Rig};

/// Lists, tables and buffers that stay for the next one who needs them. A build with faults has
/// shorter pieces of lists.
const SLACK: usize = if cfg!(feature = "mutants") { 48 * 1024 } else { 96 * 1024 };
const MANY: usize = 3000;

/// A broker with a client that has declared the queues `q` and `r`.
fn broker() -> (Rig, Client) {
    let mut broker = Rig::new(1);
    let client = broker.client(0);
    for queue in ["q", "r"] {
        broker.call(client, 1, &rig::declare(queue, false));
    }
    (broker, client)
}

fn counted(broker: &mut Rig) -> usize {
    broker.settle();
    broker.shards[0].memory()
}

/// At least so much more counts than before.
fn holds(broker: &mut Rig, before: usize, least: usize) {
    let now = counted(broker);
    assert!(
        now >= before + least,
        "{} more, at least {least} expected",
        now.saturating_sub(before)
    );
}

/// No more counts than before.
fn gave_back(broker: &mut Rig, before: usize) {
    let now = counted(broker);
    assert!(now <= before + SLACK, "{} are left", now - before);
}

/// The client is sent all messages of its queues.
fn delivered(broker: &mut Rig, client: Client, many: usize) {
    let mut came = 0;
    while came < many {
        let now = rig::deliveries(&broker.take(client)).0;
        assert!(now > 0, "{came} were delivered");
        came += now;
    }
}

fn purge(broker: &mut Rig, client: Client, queue: &str) {
    broker.call(client, 1, &Method::QueuePurge { ticket: 0, queue, nowait: false });
}

fn unacknowledged() {
    let (mut broker, client) = broker();
    let before = counted(&mut broker);
    broker.publish(client, &rig::publishes("q", 1, MANY));
    let other = broker.client(0);
    broker.receive(other, &rig::encoded(1, &rig::consume("q")));
    broker.settle();
    delivered(&mut broker, other, MANY);
    holds(&mut broker, before, 80 * MANY);
    let all = Method::BasicAck { delivery_tag: 0, multiple: true };
    broker.receive(other, &rig::encoded(1, &all));
    broker.vanish(other);
    gave_back(&mut broker, before);
}

/// Deliveries of two queues in turn.
fn tags() {
    let (mut broker, client) = broker();
    for queue in ["q", "r"] {
        broker.call(client, 1, &rig::consume(queue));
    }
    let mut seen = Vec::new();
    for together in [1, 100] {
        let before = counted(&mut broker);
        for _ in 0..MANY / 2 / together {
            for queue in ["q", "r"] {
                broker.publish(client, &rig::publishes(queue, 1, together));
            }
            broker.take(client);
        }
        seen.push(counted(&mut broker) - before);
        let all = Method::BasicAck { delivery_tag: 0, multiple: true };
        broker.send(client, &rig::encoded(1, &all));
    }
    // Tags of one queue in a row take less.
    assert!(seen[0] >= seen[1] + 16 * MANY, "{seen:?}");
}

fn bodies() {
    let (mut broker, client) = broker();
    let before = counted(&mut broker);
    broker.publish(client, &rig::publishes("q", 100_000, 10));
    holds(&mut broker, before, 1_000_000);
    purge(&mut broker, client, "q");
    gave_back(&mut broker, before);
}

/// A client that does not read has messages returned.
fn output() {
    let (mut broker, _) = broker();
    let before = counted(&mut broker);
    let client = broker.client(0);
    let mut publish = rig::publish("nobody", &[b'x'; 1000]);
    // The flags of basic.publish: mandatory.
    let flags = 7 + 4 + 2 + 1 + 1 + "nobody".len();
    publish[flags] = 1;
    broker.receive(client, &publish.repeat(500));
    holds(&mut broker, before, 500_000);
    broker.vanish(client);
    gave_back(&mut broker, before);
}

fn consumers() {
    let (mut broker, client) = broker();
    let before = counted(&mut broker);
    for _ in 0..1000 {
        broker.receive(client, &rig::encoded(1, &rig::consume("q")));
    }
    broker.settle();
    broker.take(client);
    holds(&mut broker, before, 200_000);
    broker.vanish(client);
    gave_back(&mut broker, before);
}

/// A declare with so large a table.
fn declare_large(queue: &str) -> Vec<u8> {
    let text = vec![b'x'; 16_000];
    let arguments = TableWriter::new().with("x-any", Value::LongString(&text));
    let mut declare = rig::declare(queue, false);
    if let Method::QueueDeclare { arguments: place, .. } = &mut declare {
        *place = arguments.table();
    }
    rig::encoded(1, &declare)
}

fn questions() {
    let (mut broker, client) = broker();
    let before = counted(&mut broker);
    broker.receive(client, &declare_large("large"));
    // The question is on its way; the answer is not looked at yet.
    broker.turn(0);
    let now = broker.shards[0].memory();
    assert!(now >= before + 16_000, "{} more", now - before);
    broker.settle();
}

fn input() {
    let mut broker = Rig::configured(1, u64::MAX, |config| config.turn_work = 100);
    let client = broker.client(0);
    for n in 0..200 {
        let queue = format!("f{n}");
        broker.call(client, 1, &rig::declare(&queue, false));
        let (exchange, routing_key) = ("amq.fanout", "");
        let bind = Method::QueueBind {
            ticket: 0,
            queue: &queue,
            exchange,
            routing_key,
            nowait: false,
            arguments: amqp::Table::EMPTY,
        };
        broker.call(client, 1, &bind);
    }
    let before = counted(&mut broker);
    broker.receive(client, &rig::fan_out(&[b'x'; 1000]).repeat(400));
    broker.turn(0);
    assert_eq!(broker.gate(client), Gate::Paused);
    let now = broker.shards[0].memory();
    assert!(now >= before + 390_000, "{} more", now - before);
}

fn transactions() {
    let (mut broker, client) = broker();
    broker.call(client, 1, &Method::TxSelect {});
    let before = counted(&mut broker);
    broker.publish(client, &rig::publishes("q", 1000, 1000));
    holds(&mut broker, before, 1_000_000);
    broker.call(client, 1, &Method::TxRollback {});
    gave_back(&mut broker, before);
}

fn partial_messages() {
    let (mut broker, _) = broker();
    let before = counted(&mut broker);
    let client = broker.client(0);
    broker.receive(client, &rig::content("q", 2_000_000));
    let mut frames = Vec::new();
    write_body(&mut frames, 1, &vec![b'x'; 1_000_000], 131_072);
    broker.receive(client, &frames);
    holds(&mut broker, before, 1_000_000);
    broker.vanish(client);
    gave_back(&mut broker, before);
}

fn what_is_declared() {
    let (mut broker, client) = broker();
    let (before, coordinator) = (counted(&mut broker), broker.counted_by_coordinator());
    for n in 0..100 {
        broker.send(client, &declare_large(&format!("large{n}")));
    }
    holds(&mut broker, before, 1_600_000);
    // Three copies, beside what it is told of the shard's.
    let told = broker.counted_by_coordinator() - coordinator;
    assert!(told >= 3 * 1_600_000, "{told}");
    for n in 0..100 {
        let (queue, no) = (format!("large{n}"), false);
        let delete = Method::QueueDelete {
            ticket: 0,
            queue: &queue,
            if_unused: no,
            if_empty: no,
            nowait: no,
        };
        broker.call(client, 1, &delete);
    }
    gave_back(&mut broker, before);
}

/// A connection is not read while it waits for messages that it gets.
fn gets() {
    let mut broker = Rig::new(2);
    let client = broker.client(0);
    broker.call(client, 1, &rig::declare("q", false));
    broker.publish(client, &rig::publishes("q", 1000, 10));
    for channel in 2..6 {
        broker.call(client, channel, &Method::ChannelOpen { out_of_band: "" });
    }
    let get = Method::BasicGet { ticket: 0, queue: "q", no_ack: true };
    for channel in 2..6 {
        broker.receive(client, &rig::encoded(channel, &get));
    }
    assert_eq!(broker.gate(client), Gate::Paused);
    broker.settle();
    assert_eq!(rig::names(&broker.take(client)), ["BasicGetOk"; 4]);
    assert_eq!(broker.gate(client), Gate::Open);
}

const LEDGERS: [(&str, fn()); 11] = [
    ("unacknowledged", unacknowledged),
    ("tags", tags),
    ("bodies", bodies),
    ("output", output),
    ("consumers", consumers),
    ("questions", questions),
    ("input", input),
    ("transactions", transactions),
    ("partial messages", partial_messages),
    ("what is declared", what_is_declared),
    ("gets", gets),
];

#[test]
fn what_is_kept_for_clients_counts_until_it_is_gone() {
    for (what, test) in LEDGERS {
        println!("{what}");
        test();
    }
}

#[cfg(feature = "mutants")]
#[test]
fn faults_in_ledgers_of_memory_are_found() {
    use model::mutant::{Mutant, select};
    let faults: [(Mutant, fn()); 14] = [
        (Mutant::UnackedUncounted, unacknowledged),
        (Mutant::LedgerKept, unacknowledged),
        (Mutant::TagsUncounted, tags),
        (Mutant::BodiesUncounted, bodies),
        (Mutant::OutputUncounted, output),
        (Mutant::ConnectionKept, output),
        (Mutant::ConsumersUncounted, consumers),
        (Mutant::QuestionsUncounted, questions),
        (Mutant::InputUncounted, input),
        (Mutant::TransactionsUncounted, transactions),
        (Mutant::PartialUncounted, partial_messages),
        (Mutant::ArgumentsUncounted, what_is_declared),
        (Mutant::CopiesUncounted, what_is_declared),
        (Mutant::GetsUnlimited, gets),
    ];
    assert_eq!(faults.map(|(fault, _)| fault).len(), Mutant::MEMORY.len());
    for (fault, test) in faults {
        select(Some(fault));
        let found = std::panic::catch_unwind(test).is_err();
        select(None);
        assert!(found, "{fault:?} is not found");
    }
}
