//! Random facts for tests, about few names, so that they affect each other.

use std::collections::BTreeMap;

use amqp::table::{TableWriter, Value};
use fastrand::Rng;
use model::access::limits::LimitKind;
use model::access::state::{AccessFact, UserInVhost};
use model::access::{HashAlgorithm, PermissionPatterns, TopicPatterns, User, VhostSettings};
use model::policy::{ApplyTo, Policy, PolicyScope, PolicyValue};
use model::topology::Change;
use model::topology::spec::{
    Arguments, Binding, Destination, ExchangeKind, ExchangeSpec, Name, QueueSpec,
};
use model::{QueueId, ShardId};

use super::fact::Fact;

const KINDS: [ExchangeKind; 4] =
    [ExchangeKind::Direct, ExchangeKind::Fanout, ExchangeKind::Topic, ExchangeKind::Headers];

/// Any fact.
pub(super) fn fact(random: &mut Rng) -> Fact {
    match random.u8(0..20) {
        0 => Fact::User(user(random)),
        1 => Fact::QueuesBelow(QueueId(random.u64(..))),
        2..6 => Fact::Access(access(random)),
        _ => Fact::Changed(change(random)),
    }
}

fn change(random: &mut Rng) -> Change {
    let vhost = name(random);
    match random.u8(0..14) {
        0..2 => Change::VhostCreated(vhost),
        2..4 => Change::ExchangeCreated(vhost, exchange(random)),
        4 => Change::ExchangeDeleted(vhost, name(random)),
        5..7 => Change::QueueCreated(vhost, queue(random)),
        7 => Change::QueueDeleted(vhost, name(random)),
        8..12 => Change::Bound(vhost, binding(random)),
        12 => Change::VhostDeleted(vhost),
        _ => Change::Unbound(vhost, binding(random)),
    }
}

fn name(random: &mut Rng) -> Name {
    ["", "/", "ä", "語 🦀"][random.usize(0..4)].into()
}

fn names(random: &mut Rng) -> Vec<Name> {
    (0..random.usize(0..3)).map(|_| name(random)).collect()
}

fn user(random: &mut Rng) -> User {
    let algorithm = HashAlgorithm::ALL[random.usize(0..3)];
    let password_hash = "h".repeat(random.usize(0..300)).into();
    User { name: name(random), password_hash, algorithm, tags: names(random) }
}

fn access(random: &mut Rng) -> AccessFact {
    let of = UserInVhost { user: name(random), vhost: name(random) };
    let (one, two, three) = (name(random), name(random), name(random));
    let scope = if random.bool() { PolicyScope::User } else { PolicyScope::Operator };
    match random.u8(0..12) {
        0 => AccessFact::InForce,
        1 => AccessFact::UserDeleted(one),
        2 => {
            let patterns = PermissionPatterns { configure: one, write: two, read: three };
            AccessFact::Permissions(of, patterns)
        }
        3 => AccessFact::PermissionsCleared(of),
        4 => AccessFact::TopicPermissions(of, one, TopicPatterns { write: two, read: three }),
        5 => AccessFact::TopicPermissionsCleared(of, one),
        6 => {
            let default_queue_type = random.bool().then_some(three);
            let (tags, protected) = (names(random), random.bool());
            let settings = VhostSettings { description: two, tags, default_queue_type, protected };
            AccessFact::VhostSettings(one, settings)
        }
        7 => AccessFact::Policy(one, scope, policy(random)),
        8 => AccessFact::VhostLimits(one, limits(random)),
        9 => AccessFact::UserLimits(one, limits(random)),
        10 => AccessFact::GlobalParameter(one, two),
        _ => AccessFact::PolicyCleared(one, scope, two),
    }
}

fn limits<K: LimitKind>(random: &mut Rng) -> BTreeMap<K, u64> {
    let count = random.usize(0..3);
    K::ALL.iter().take(count).map(|kind| (*kind, random.u64(..))).collect()
}

fn policy(random: &mut Rng) -> Policy {
    let values = [
        PolicyValue::Integer(random.i64(..)),
        PolicyValue::Text(name(random)),
        PolicyValue::Other(name(random)),
    ];
    let count = random.usize(0..4);
    Policy {
        name: name(random),
        pattern: name(random),
        apply_to: ApplyTo::ALL[random.usize(0..6)],
        priority: random.i64(..),
        definition: values.into_iter().take(count).map(|value| (name(random), value)).collect(),
    }
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
