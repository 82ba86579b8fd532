//! Vhosts through the topology's front door: each rule by itself, and seeded sequences of changes
//! against a plain list of bindings.

use std::collections::BTreeMap;

use amqp::table::{TableWriter, Value};
use amqp::{Basic, Table};
use proptest::prelude::*;

use crate::Targets;
use crate::ids::{QueueId, ShardId};
use crate::random::Entropy;
use crate::topology::spec::{
    Arguments, Binding, Destination, ExchangeKind, ExchangeSpec, QueueSpec,
};
use crate::topology::{Change, Topology, Vhost};

pub(super) fn queue(id: u64, name: &str) -> QueueSpec {
    QueueSpec {
        id: QueueId(id),
        name: name.into(),
        home: ShardId((id % 2) as u16),
        durable: false,
        auto_delete: false,
        owner: None,
        server_named: false,
        arguments: Arguments::default(),
    }
}

fn exchange(name: &str, kind: ExchangeKind) -> ExchangeSpec {
    ExchangeSpec {
        name: name.into(),
        kind,
        durable: false,
        auto_delete: false,
        internal: false,
        arguments: Arguments::default(),
    }
}

pub(super) fn binding(source: &str, destination: Destination, key: &str) -> Binding {
    let arguments = Arguments::default();
    Binding { source: source.into(), destination, key: key.into(), arguments }
}

fn to_queue(source: &str, queue: &str, key: &str) -> Binding {
    binding(source, Destination::Queue(queue.into()), key)
}

fn to_exchange(source: &str, exchange: &str, key: &str) -> Binding {
    binding(source, Destination::Exchange(exchange.into()), key)
}

/// A topology with the vhost `/`, and the changes made to it so far.
pub(super) struct World(pub Topology);

impl World {
    pub fn new() -> Self {
        let mut world = Self(Topology::new(Entropy::from_seed(7).map_seed()));
        world.apply(Change::VhostCreated("/".into()));
        world
    }

    pub fn apply(&mut self, change: Change) {
        self.0.apply(self.0.version() + 1, &change);
    }

    pub fn queue(&mut self, id: u64, name: &str) {
        self.apply(Change::QueueCreated("/".into(), queue(id, name)));
    }

    pub fn exchange(&mut self, name: &str, kind: ExchangeKind) {
        self.apply(Change::ExchangeCreated("/".into(), exchange(name, kind)));
    }

    fn exchange_with_alternate(&mut self, name: &str, kind: ExchangeKind, alternate: &str) {
        let table =
            TableWriter::new().with("alternate-exchange", Value::LongString(alternate.as_bytes()));
        let arguments = table.table().into();
        let spec = ExchangeSpec { arguments, ..exchange(name, kind) };
        self.apply(Change::ExchangeCreated("/".into(), spec));
    }

    fn bind(&mut self, binding: Binding) {
        self.apply(Change::Bound("/".into(), binding));
    }

    pub fn vhost(&self) -> &Vhost {
        self.0.vhost("/").unwrap()
    }

    fn route(&self, exchange: &str, key: &str) -> Vec<u64> {
        self.route_with(exchange, key, Table::EMPTY)
    }

    fn route_with(&self, exchange: &str, key: &str, headers: Table<'_>) -> Vec<u64> {
        let vhost = self.vhost();
        let mut targets = Targets::new();
        let properties = || Basic { headers: Some(headers), ..Basic::default() };
        vhost.route(vhost.exchange(exchange).unwrap(), &[key], properties, &mut targets);
        let mut ids: Vec<u64> = targets.queues().iter().map(|queue| queue.0.0).collect();
        ids.sort_unstable();
        ids
    }
}

#[test]
fn a_vhost_begins_with_the_standard_exchanges() {
    let world = World::new();
    let mut found: Vec<_> = world
        .vhost()
        .exchanges()
        .map(|exchange| (&*exchange.spec.name, exchange.spec.kind.name(), exchange.spec.internal))
        .collect();
    found.sort_unstable();
    let expected = [
        ("", "direct", false),
        ("amq.direct", "direct", false),
        ("amq.fanout", "fanout", false),
        ("amq.headers", "headers", false),
        ("amq.match", "headers", false),
        ("amq.rabbitmq.trace", "topic", true),
        ("amq.topic", "topic", false),
    ];
    assert_eq!(found, expected);
    assert!(world.vhost().exchanges().all(|exchange| exchange.spec.durable));
}

#[test]
fn the_default_exchange_routes_by_queue_name() {
    let mut world = World::new();
    world.queue(1, "q");
    assert_eq!(world.route("", "q"), [1]);
    assert_eq!(world.route("", "p"), []);
    assert_eq!(world.vhost().bindings_from(""), 0);
    world.apply(Change::QueueDeleted("/".into(), "q".into()));
    assert_eq!(world.route("", "q"), []);
}

#[test]
fn versions_are_those_of_the_creating_change() {
    let mut world = World::new();
    world.queue(1, "q");
    world.exchange("x", ExchangeKind::Topic);
    world.queue(2, "q");
    let vhost = world.vhost();
    assert_eq!(vhost.queue("q").map(|queue| (queue.version, queue.spec.id.0)), Some((2, 1)));
    assert_eq!(vhost.exchange("x").map(|exchange| exchange.version), Some(3));
    assert_eq!(vhost.exchange("amq.topic").map(|exchange| exchange.version), Some(1));
    assert_eq!(world.0.version(), 4);
}

#[test]
fn what_is_deleted_counts_no_longer() {
    let mut world = World::new();
    let before = world.0.bytes();
    for round in 0..2 {
        for exchange in ["a", "b"] {
            world.exchange(exchange, ExchangeKind::Topic);
        }
        world.queue(1, "q");
        world.queue(2, "q");
        let bindings = [to_queue("a", "q", "k"), to_queue("a", "q", "l"), to_queue("b", "q", "")];
        let to_exchanges = [to_exchange("a", "b", "k"), to_exchange("a", "a", "")];
        for binding in bindings.into_iter().chain(to_exchanges) {
            let full = world.0.bytes();
            world.bind(binding.clone());
            let more = world.0.bytes();
            assert!(more > full);
            world.bind(binding.clone());
            assert_eq!(world.0.bytes(), more);
            world.apply(Change::Unbound("/".into(), binding.clone()));
            assert_eq!(world.0.bytes(), full);
            world.bind(binding);
        }
        if round == 0 {
            world.apply(Change::QueueDeleted("/".into(), "q".into()));
        }
        for exchange in ["a", "b"] {
            world.apply(Change::ExchangeDeleted("/".into(), exchange.into()));
        }
        world.apply(Change::QueueDeleted("/".into(), "q".into()));
        assert_eq!(world.0.bytes(), before);
    }
}

#[test]
fn two_bindings_to_a_queue_deliver_once() {
    let mut world = World::new();
    world.queue(1, "q");
    for exchange in ["amq.direct", "amq.fanout", "amq.topic"] {
        world.bind(to_queue(exchange, "q", "k"));
        world.bind(to_queue(exchange, "q", "l"));
        assert_eq!(world.route(exchange, "k"), [1]);
    }
    world.bind(to_queue("amq.topic", "q", "#"));
    assert_eq!(world.route("amq.topic", "k"), [1]);
    world.apply(Change::Unbound("/".into(), to_queue("amq.fanout", "q", "k")));
    assert_eq!(world.route("amq.fanout", ""), [1]);
    assert_eq!(world.vhost().bindings_to_queue("q"), 6);
}

#[test]
fn arguments_are_part_of_a_binding_and_the_headers_exchange_reads_them() {
    let mut world = World::new();
    world.queue(1, "q");
    let plain = to_queue("amq.match", "q", "");
    let table = TableWriter::new().with("a", Value::Int(1));
    let with = Binding { arguments: table.table().into(), ..plain.clone() };
    world.bind(with.clone());
    assert!(world.vhost().has_binding(&with) && !world.vhost().has_binding(&plain));
    assert_eq!(world.route_with("amq.match", "", table.table()), [1]);
    assert_eq!(world.route("amq.match", ""), []);
    world.apply(Change::Unbound("/".into(), plain));
    assert_eq!(world.vhost().bindings_from("amq.match"), 1);
    world.apply(Change::Unbound("/".into(), with));
    assert_eq!(world.route_with("amq.match", "", table.table()), []);
}

#[test]
fn exchanges_pass_on_to_exchanges_even_in_circles() {
    let mut world = World::new();
    world.queue(1, "q");
    world.queue(2, "r");
    world.exchange("a", ExchangeKind::Fanout);
    world.exchange("b", ExchangeKind::Topic);
    world.bind(to_exchange("a", "b", ""));
    world.bind(to_exchange("b", "a", "#"));
    world.bind(to_exchange("a", "a", ""));
    world.bind(to_exchange("b", "amq.match", "k.*"));
    world.bind(to_queue("a", "q", ""));
    world.bind(to_queue("b", "q", "k.#"));
    world.bind(to_queue("amq.match", "r", ""));
    assert_eq!(world.route("a", "k.l"), [1, 2]);
    assert_eq!(world.route("b", "k.l"), [1, 2]);
    assert_eq!(world.route("b", "k"), [1]);
    world.apply(Change::ExchangeDeleted("/".into(), "a".into()));
    assert_eq!(world.route("b", "l"), []);
    assert_eq!(world.vhost().bindings_from("b"), 2);
    assert_eq!(world.vhost().bindings_to_queue("q"), 1);
}

#[test]
fn a_list_used_again_remembers_no_exchange() {
    let mut world = World::new();
    world.queue(1, "q");
    world.exchange("a", ExchangeKind::Fanout);
    world.bind(to_exchange("amq.fanout", "a", ""));
    world.bind(to_queue("a", "q", ""));
    let vhost = world.vhost();
    let mut targets = Targets::new();
    for _ in 0..3 {
        targets.clear();
        vhost.route(vhost.exchange("amq.fanout").unwrap(), &[""], Basic::default, &mut targets);
        assert_eq!(targets.queues(), [(QueueId(1), ShardId(1))]);
    }
}

#[test]
fn a_deleted_exchange_takes_its_slot_and_its_bindings_with_it() {
    let mut world = World::new();
    world.queue(1, "q");
    world.exchange("a", ExchangeKind::Fanout);
    world.bind(to_exchange("amq.fanout", "a", ""));
    world.bind(to_queue("a", "q", ""));
    world.apply(Change::ExchangeDeleted("/".into(), "a".into()));
    world.exchange("b", ExchangeKind::Fanout);
    world.bind(to_queue("b", "q", ""));
    assert_eq!(world.route("amq.fanout", ""), []);
    assert_eq!(world.vhost().bindings_from("amq.fanout"), 0);
    assert_eq!(
        world.vhost().sources_to(&Destination::Queue("q".into())).collect::<Vec<_>>(),
        ["b"]
    );
}

#[test]
fn changes_that_do_not_fit_change_nothing() {
    let mut world = World::new();
    world.bind(to_queue("amq.direct", "missing", "k"));
    world.queue(1, "q");
    world.bind(to_queue("missing", "q", "k"));
    world.apply(Change::Unbound("/".into(), to_queue("amq.direct", "q", "k")));
    world.apply(Change::QueueDeleted("/".into(), "missing".into()));
    world.apply(Change::ExchangeDeleted("/".into(), "missing".into()));
    world.apply(Change::QueueDeleted("elsewhere".into(), "q".into()));
    world.apply(Change::VhostCreated("/".into()));
    assert_eq!(world.vhost().bindings_from("amq.direct"), 0);
    assert_eq!(world.route("", "q"), [1]);
}

#[test]
fn a_hundred_thousand_bindings_come_and_go() {
    let mut world = World::new();
    world.exchange("f", ExchangeKind::Fanout);
    for id in 0..10_000 {
        world.queue(id, &format!("q{id}"));
        for key in 0..5 {
            world.bind(to_queue("amq.direct", &format!("q{id}"), &format!("k{key}")));
        }
    }
    // As many again on one queue, where every one of them leads to the same target.
    for key in 0..50_000 {
        world.bind(to_queue("f", "q0", &format!("{key}")));
    }
    assert_eq!(world.route("amq.direct", "k3").len(), 10_000);
    for id in 0..10_000 {
        world.apply(Change::QueueDeleted("/".into(), format!("q{id}").into()));
    }
    assert_eq!(world.vhost().bindings_from("amq.direct"), 0);
    assert_eq!(world.vhost().bindings_from("f"), 0);
}

#[test]
fn what_leads_nowhere_goes_to_the_alternate_exchange() {
    let mut world = World::new();
    world.exchange_with_alternate("a", ExchangeKind::Direct, "b");
    world.exchange_with_alternate("b", ExchangeKind::Direct, "c");
    world.queue(1, "q");
    world.bind(to_queue("a", "q", "k"));
    assert_eq!(world.route("a", "none"), [], "neither is there");
    world.exchange("c", ExchangeKind::Fanout);
    world.queue(2, "rest");
    world.bind(to_queue("c", "rest", ""));
    assert_eq!(world.route("a", "k"), [1]);
    assert_eq!(world.route("a", "none"), [2], "by a chain");
    world.apply(Change::ExchangeDeleted("/".into(), "b".into()));
    assert_eq!(world.route("a", "none"), []);
}

#[test]
fn alternate_exchanges_in_a_circle_end() {
    let mut world = World::new();
    world.exchange_with_alternate("a", ExchangeKind::Direct, "b");
    world.exchange_with_alternate("b", ExchangeKind::Direct, "a");
    world.exchange_with_alternate("self", ExchangeKind::Direct, "self");
    world.exchange_with_alternate("default", ExchangeKind::Direct, "");
    world.queue(1, "q");
    world.bind(to_queue("a", "q", "k"));
    assert_eq!(world.route("a", "none"), []);
    assert_eq!(world.route("b", "k"), [1]);
    assert_eq!(world.route("self", "k"), []);
    assert_eq!(world.route("default", "q"), [], "nothing is bound to the default exchange");
}

#[test]
fn each_exchange_on_the_way_has_its_own_alternate() {
    let mut world = World::new();
    world.exchange("start", ExchangeKind::Fanout);
    world.exchange_with_alternate("one", ExchangeKind::Direct, "rest");
    world.exchange_with_alternate("other", ExchangeKind::Direct, "rest");
    world.exchange("rest", ExchangeKind::Fanout);
    for (id, queue) in [(1, "q"), (2, "rest")] {
        world.queue(id, queue);
    }
    for name in ["one", "other"] {
        world.bind(to_exchange("start", name, ""));
        world.bind(to_queue(name, "q", "both"));
    }
    world.bind(to_queue("one", "q", "one"));
    world.bind(to_queue("rest", "rest", ""));
    // The second finds the queue that the first has found: that is no reason for its alternate.
    assert_eq!(world.route("start", "both"), [1]);
    assert_eq!(world.route("start", "one"), [1, 2]);
    assert_eq!(world.route("start", "none"), [2]);
}

#[test]
fn several_keys_are_one_route() {
    let mut world = World::new();
    world.exchange_with_alternate("a", ExchangeKind::Topic, "amq.fanout");
    for (id, queue) in [(1, "q"), (2, "r"), (3, "rest")] {
        world.queue(id, queue);
    }
    world.bind(to_queue("a", "q", "*.x"));
    world.bind(to_queue("a", "r", "y"));
    world.bind(to_queue("amq.fanout", "rest", ""));
    let route = |exchange: &str, keys: &[&str]| {
        let vhost = world.vhost();
        let mut targets = Targets::new();
        vhost.route(vhost.exchange(exchange).unwrap(), keys, Basic::default, &mut targets);
        let mut ids: Vec<u64> = targets.queues().iter().map(|queue| queue.0.0).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(route("a", &["none", "1.x", "2.x", "y"]), [1, 2]);
    assert_eq!(route("a", &["none", "1.x"]), [1], "one key that leads somewhere is enough");
    assert_eq!(route("a", &["none", "nor this"]), [3]);
    assert_eq!(route("", &["none", "q", "r", "q"]), [1, 2]);
    assert_eq!(route("amq.fanout", &["a", "b"]), [3]);
}

#[test]
fn an_exchange_that_ignores_keys_is_asked_once() {
    let mut world = World::new();
    world.exchange_with_alternate("direct", ExchangeKind::Direct, "fanout");
    world.exchange("fanout", ExchangeKind::Fanout);
    world.exchange("headers", ExchangeKind::Headers);
    world.bind(to_exchange("fanout", "headers", ""));
    for id in 0..100 {
        let name = format!("q{id}");
        world.queue(id, &name);
        world.bind(to_queue("fanout", &name, ""));
        world.bind(to_queue("headers", &name, ""));
    }
    let keys: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    for (start, most) in [("headers", 300), ("fanout", 500), ("direct", 1500)] {
        let (vhost, mut targets) = (world.vhost(), Targets::new());
        vhost.route(vhost.exchange(start).unwrap(), &keys, Basic::default, &mut targets);
        assert_eq!(targets.queues().len(), 100);
        assert!(targets.work() <= most, "{} steps from {start}", targets.work());
    }
}

const KINDS: [(&str, ExchangeKind); 4] = [
    ("d", ExchangeKind::Direct),
    ("f", ExchangeKind::Fanout),
    ("t", ExchangeKind::Topic),
    ("h", ExchangeKind::Headers),
];
const QUEUES: [&str; 3] = ["q", "r", "s"];
const KEYS: [&str; 3] = ["k", "#", "k.l"];

/// What there should be: the ids of queues by name, which exchanges exist, a list of bindings.
#[derive(Default)]
struct Naive {
    next: u64,
    queues: BTreeMap<&'static str, u64>,
    exchanges: Vec<&'static str>,
    alternates: BTreeMap<&'static str, &'static str>,
    bindings: Vec<Binding>,
}

impl Naive {
    fn exists(&self, destination: &Destination) -> bool {
        match destination {
            Destination::Queue(name) => self.queues.contains_key(&**name),
            Destination::Exchange(name) => self.exchanges.contains(&&**name),
        }
    }

    fn forget(&mut self, gone: &Destination) {
        self.bindings.retain(|binding| {
            binding.destination != *gone && *gone != Destination::Exchange(binding.source.clone())
        });
    }

    /// Each exchange reached passes the message on; headers bindings here have no arguments.
    fn route(&self, start: &str, key: &str) -> Vec<u64> {
        let mut reached = vec![start.to_owned()];
        let mut ids = Vec::new();
        let mut at = 0;
        while at < reached.len() {
            let source = reached[at].clone();
            let mut nowhere = true;
            for binding in self.bindings.iter().filter(|binding| *binding.source == *source) {
                let is_match = match &*source {
                    "d" => *binding.key == *key,
                    "t" => *binding.key == *key || &*binding.key == "#",
                    _ => true,
                };
                nowhere &= !is_match;
                match &binding.destination {
                    _ if !is_match => {}
                    Destination::Queue(name) => ids.push(self.queues[&**name]),
                    Destination::Exchange(name) if reached.contains(&name.to_string()) => {}
                    Destination::Exchange(name) => reached.push(name.to_string()),
                }
            }
            if let Some(alternate) = self.alternates.get(&*source).filter(|_| nowhere)
                && self.exchanges.contains(alternate)
                && !reached.iter().any(|name| name == alternate)
            {
                reached.push((*alternate).to_owned());
            }
            at += 1;
        }
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// One step on both.
    fn step(&mut self, world: &mut World, (what, a, b, key): (u8, usize, usize, usize)) {
        let ((source, kind), queue) = (KINDS[a], QUEUES[b % 3]);
        let destination = match b {
            0..3 => Destination::Queue(QUEUES[b].into()),
            _ => Destination::Exchange(KINDS[b - 3].0.into()),
        };
        let binding = binding(source, destination, KEYS[key]);
        match what {
            0 => {
                self.next += 1;
                world.queue(self.next, queue);
                self.queues.entry(queue).or_insert(self.next);
            }
            1 => {
                let alternate = KINDS.get(b).map_or("missing", |(name, _)| name);
                world.exchange_with_alternate(source, kind, alternate);
                if !self.exchanges.contains(&source) {
                    self.exchanges.push(source);
                    self.alternates.insert(source, alternate);
                }
            }
            2 => {
                world.apply(Change::QueueDeleted("/".into(), queue.into()));
                self.queues.remove(queue);
                self.forget(&Destination::Queue(queue.into()));
            }
            3 => {
                world.apply(Change::ExchangeDeleted("/".into(), source.into()));
                self.exchanges.retain(|name| *name != source);
                self.forget(&Destination::Exchange(source.into()));
            }
            4 | 5 => {
                world.apply(Change::Unbound("/".into(), binding.clone()));
                self.bindings.retain(|other| *other != binding);
            }
            _ => {
                world.bind(binding.clone());
                let fits = self.exists(&binding.destination) && self.exchanges.contains(&source);
                if fits && !self.bindings.contains(&binding) {
                    self.bindings.push(binding);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn any_sequence_of_changes_ends_as_a_plain_list_does(
        steps in prop::collection::vec((0..14u8, 0..4usize, 0..7usize, 0..3usize), 0..120),
    ) {
        let (mut world, mut naive) = (World::new(), Naive::default());
        for step in steps {
            naive.step(&mut world, step);
        }
        for name in &naive.exchanges {
            let count = naive.bindings.iter().filter(|binding| *binding.source == **name).count();
            prop_assert_eq!(world.vhost().bindings_from(name), count);
            for key in KEYS {
                prop_assert_eq!(world.route(name, key), naive.route(name, key));
            }
        }
        for name in QUEUES {
            let to = Destination::Queue(name.into());
            let count = naive.bindings.iter().filter(|binding| binding.destination == to).count();
            prop_assert_eq!(world.vhost().bindings_to_queue(name), count);
        }
        prop_assert!(naive.bindings.iter().all(|binding| world.vhost().has_binding(binding)));
    }
}

#[test]
fn a_route_that_pauses_after_each_key_finds_the_same() {
    let mut world = World::new();
    world.exchange("start", ExchangeKind::Topic);
    world.exchange("next", ExchangeKind::Direct);
    world.bind(to_exchange("start", "next", "#"));
    for n in 0..20 {
        let queue = format!("q{n}");
        world.queue(n, &queue);
        let source = if n % 2 == 0 { "start" } else { "next" };
        world.bind(to_queue(source, &queue, &format!("k{n}")));
    }
    let vhost = world.vhost();
    let keys: Vec<String> = (0..20).map(|n| format!("k{n}")).collect();
    let keys: Vec<&str> = keys.iter().map(AsRef::as_ref).collect();
    let exchange = vhost.exchange("start").unwrap();
    let mut whole = Targets::new();
    assert!(vhost.route(exchange, &keys, Basic::default, &mut whole));
    let (mut paused, mut turns) = (Targets::new(), 1);
    paused.may_work(1);
    while !vhost.route(exchange, &keys, Basic::default, &mut paused) {
        paused.may_work(1);
        turns += 1;
    }
    assert_eq!(paused.queues(), whole.queues());
    assert!(turns >= 40 && whole.queues().len() == 20, "{turns} turns");
}
