//! Routing by each exchange type: one message, from its key to the list of queues.

use std::hint::black_box;

use amqp::table::{TableWriter, Value};
use amqp::{Basic, Table};
use criterion::{Criterion, criterion_group, criterion_main};
use model::topology::Change;
use model::{
    Arguments, Binding, Destination, Entropy, QueueId, QueueSpec, ShardId, Targets, Topology,
};

fn topology(queues: u64) -> Topology {
    let mut topology = Topology::new(Entropy::from_seed(1).map_seed());
    topology.apply(1, &Change::VhostCreated("/".into()));
    for id in 0..queues {
        let spec = QueueSpec {
            id: QueueId(id),
            name: format!("queue-{id}").into(),
            home: ShardId((id % 2) as u16),
            durable: true,
            auto_delete: false,
            owner: None,
            server_named: false,
            arguments: Arguments::default(),
        };
        topology.apply(2, &Change::QueueCreated("/".into(), spec));
    }
    topology
}

fn bind(topology: &mut Topology, source: &str, queue: u64, key: &str, arguments: Table<'_>) {
    let binding = Binding {
        source: source.into(),
        destination: Destination::Queue(format!("queue-{queue}").into()),
        key: key.into(),
        arguments: arguments.into(),
    };
    topology.apply(3, &Change::Bound("/".into(), binding));
}

/// Routes one key after the other, round and round.
fn route(c: &mut Criterion, name: &str, topology: &Topology, exchange: &str, keys: &[String]) {
    let headers = TableWriter::new()
        .with("type", Value::LongString(b"order"))
        .with("shop", Value::Int(500))
        .with("size", Value::Long(3));
    let Some(vhost) = topology.vhost("/") else {
        return;
    };
    let mut targets = Targets::new();
    let mut keys = keys.iter().cycle();
    c.bench_function(name, |bencher| {
        bencher.iter(|| {
            let key = keys.next().map_or("", String::as_str);
            targets.clear();
            if let Some(exchange) = vhost.exchange(black_box(exchange)) {
                let headers = Some(headers.table());
                let properties = || Basic { headers, ..Basic::default() };
                vhost.route(exchange, &[key], properties, &mut targets);
            }
            black_box(targets.queues().len())
        });
    });
}

fn direct(c: &mut Criterion) {
    let keys = |count: u64| (0..count.min(1000)).map(|n| format!("key-{n}")).collect::<Vec<_>>();
    for count in [1, 1000, 100_000] {
        let mut topology = topology(count.min(10_000));
        for n in 0..count {
            bind(&mut topology, "amq.direct", n % 10_000, &format!("key-{n}"), Table::EMPTY);
        }
        route(c, &format!("direct of {count} bindings"), &topology, "amq.direct", &keys(count));
    }
}

fn default_and_fanout(c: &mut Criterion) {
    let mut topology = topology(10_000);
    let names: Vec<String> = (0..1000).map(|n| format!("queue-{n}")).collect();
    route(c, "default exchange, 10000 queues", &topology, "", &names);
    (0..10).for_each(|n| bind(&mut topology, "amq.fanout", n, "", Table::EMPTY));
    route(c, "fanout to 10 queues", &topology, "amq.fanout", &names);
}

fn topic(c: &mut Criterion) {
    let mut topology = topology(10_000);
    for n in 0..10_000 {
        let pattern = match n % 4 {
            0 => format!("shop.{n}.order.*"),
            1 => format!("shop.{n}.#"),
            2 => format!("*.{n}.refund.eu"),
            _ => format!("#.order.{n}"),
        };
        bind(&mut topology, "amq.topic", n, &pattern, Table::EMPTY);
    }
    let keys: Vec<String> = (0..1000).map(|n| format!("shop.{n}.order.{}", n * 7)).collect();
    route(c, "topic of 10000 patterns", &topology, "amq.topic", &keys);
}

fn headers(c: &mut Criterion) {
    let mut topology = topology(1000);
    for n in 0..1000 {
        let mode: &[u8] = if n % 2 == 0 { b"all" } else { b"any" };
        let arguments = TableWriter::new()
            .with("x-match", Value::LongString(mode))
            .with("type", Value::LongString(if n % 3 == 0 { b"order" } else { b"other" }))
            .with("shop", Value::Int(n));
        bind(&mut topology, "amq.headers", n as u64, "", arguments.table());
    }
    route(c, "headers of 1000 bindings", &topology, "amq.headers", &[]);
}

/// Routes one message with several keys and its headers.
fn route_message(
    c: &mut Criterion,
    name: &str,
    (topology, exchange): (&Topology, &str),
    keys: &[String],
    headers: Table<'_>,
) {
    let Some(vhost) = topology.vhost("/") else {
        return;
    };
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let mut targets = Targets::new();
    c.bench_function(name, |bencher| {
        bencher.iter(|| {
            targets.clear();
            if let Some(exchange) = vhost.exchange(black_box(exchange)) {
                let properties = || Basic { headers: Some(headers), ..Basic::default() };
                vhost.route(exchange, black_box(&keys), properties, &mut targets);
            }
            black_box(targets.queues().len())
        });
    });
    println!("{name}: {} steps", targets.work());
}

/// A pattern of 128 words that has `#` every other word; the number decides about the first ones.
fn repeated_hashes(number: u64) -> String {
    let word = |at: u32| if number >> at & 1 == 0 { "#.a" } else { "#.*" };
    (0..64).map(word).collect::<Vec<_>>().join(".")
}

/// What is cheap to send and looks expensive to route.
fn hostile(c: &mut Criterion) {
    let mut topology = topology(4000);
    let key = |n: usize| format!("{}.a", vec!["a"; 125].join(".")) + &format!(".{}", n % 10);
    for n in 0..500 {
        bind(&mut topology, "amq.topic", n, &repeated_hashes(n), Table::EMPTY);
    }
    let amq = (&topology, "amq.topic");
    route_message(c, "hostile topic, 1 key", amq, &[key(0)], Table::EMPTY);
    for n in 500..1000 {
        bind(&mut topology, "amq.topic", n, &repeated_hashes(n), Table::EMPTY);
    }
    let amq = (&topology, "amq.topic");
    let keys: Vec<String> = (0..150).map(key).collect();
    route_message(c, "hostile topic, 150 keys", amq, &keys, Table::EMPTY);
    for n in 0..4000 {
        bind(&mut topology, "amq.fanout", n, "", Table::EMPTY);
    }
    let keys: Vec<String> = (0..1000).map(|n| format!("{n}")).collect();
    let amq = (&topology, "amq.fanout");
    route_message(c, "hostile fanout, 1000 keys", amq, &keys, Table::EMPTY);
    for left_out in 0..500 {
        bind(&mut topology, "amq.headers", left_out, "", many_headers(left_out).table());
    }
    let headers = many_headers(u64::MAX);
    let amq = (&topology, "amq.headers");
    route_message(c, "hostile headers, 9000 each", amq, &[String::new()], headers.table());
}

/// 9,000 headers, but for one.
fn many_headers(left_out: u64) -> TableWriter {
    let numbers = (0..9000).filter(|n| *n != left_out);
    numbers.fold(TableWriter::new(), |table, n| table.with(&format!("h{n}"), Value::Void))
}

criterion_group!(benches, direct, default_and_fanout, topic, headers);
criterion_group! {
    name = slow;
    config = Criterion::default().sample_size(10);
    targets = hostile
}
criterion_main!(benches, slow);
