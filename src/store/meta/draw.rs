//! Facts for tests, about few names, so that they meet.

use amqp::table::{TableWriter, Value};
use fastrand::Rng;
use model::spec::{Arguments, Binding, Destination, ExchangeKind, ExchangeSpec, Name, QueueSpec};
use model::topology::Change;
use model::{QueueId, ShardId};

use super::fact::{Fact, User};

const KINDS: [ExchangeKind; 4] =
    [ExchangeKind::Direct, ExchangeKind::Fanout, ExchangeKind::Topic, ExchangeKind::Headers];

/// Any fact.
pub(super) fn fact(random: &mut Rng) -> Fact {
    match random.u8(0..16) {
        0 => Fact::User(user(random)),
        1 => Fact::QueuesBelow(QueueId(random.u64(..))),
        _ => Fact::Changed(change(random)),
    }
}

fn change(random: &mut Rng) -> Change {
    let vhost = name(random);
    match random.u8(0..13) {
        0..2 => Change::VhostCreated(vhost),
        2..4 => Change::ExchangeCreated(vhost, exchange(random)),
        4 => Change::ExchangeDeleted(vhost, name(random)),
        5..7 => Change::QueueCreated(vhost, queue(random)),
        7 => Change::QueueDeleted(vhost, name(random)),
        8..12 => Change::Bound(vhost, binding(random)),
        _ => Change::Unbound(vhost, binding(random)),
    }
}

fn name(random: &mut Rng) -> Name {
    ["", "/", "ä", "語 🦀"][random.usize(0..4)].into()
}

fn user(random: &mut Rng) -> User {
    let tags = (0..random.usize(0..3)).map(|_| name(random)).collect();
    User { name: name(random), password_hash: "h".repeat(random.usize(0..300)).into(), tags }
}

fn exchange(random: &mut Rng) -> ExchangeSpec {
    ExchangeSpec {
        name: name(random),
        kind: KINDS[random.usize(0..4)],
        durable: true,
        auto_delete: random.bool(),
        internal: random.bool(),
        arguments: arguments(random),
    }
}

fn queue(random: &mut Rng) -> QueueSpec {
    QueueSpec {
        id: QueueId(random.u64(..)),
        name: name(random),
        home: ShardId(0),
        durable: true,
        auto_delete: random.bool(),
        owner: None,
        server_named: random.bool(),
        arguments: arguments(random),
    }
}

fn binding(random: &mut Rng) -> Binding {
    let to = name(random);
    let to_queue = random.bool();
    let destination = if to_queue { Destination::Queue(to) } else { Destination::Exchange(to) };
    let (source, key) = (name(random), name(random));
    Binding { source, destination, key, arguments: arguments(random) }
}

fn arguments(random: &mut Rng) -> Arguments {
    let mut table = TableWriter::new();
    for key in ["x-match", "x-ä"].iter().take(random.usize(0..3)) {
        table = table.with(key, Value::Int(random.i32(0..2)));
    }
    table.table().into()
}
