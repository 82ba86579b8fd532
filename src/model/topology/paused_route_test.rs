//! A route that pauses wherever it can, while bindings come and go: it finds every queue that the
//! bindings that stand all the time lead to, and none that all bindings of that time do not lead
//! to. It reads one exchange after another, as RabbitMQ does, so what changes meanwhile in one
//! of them may be seen with what was in another before.

use std::collections::BTreeSet;

use amqp::table::{TableWriter, Value};
use amqp::{Basic, Table};
use proptest::prelude::*;

use super::vhost_test::{World, binding};
use crate::Targets;
use crate::topology::Change;
use crate::topology::spec::{Binding, Destination, ExchangeKind};

const SOURCES: [(&str, ExchangeKind); 4] = [
    ("topic", ExchangeKind::Topic),
    ("headers", ExchangeKind::Headers),
    ("fanout", ExchangeKind::Fanout),
    ("direct", ExchangeKind::Direct),
];
const PATTERNS: [&str; 6] = ["#.a.#", "a.#.*", "#.*.a.#", "b.#", "a.a.b", "*.a.#.b"];
const KEYS: [&str; 3] = ["a.a.b", "b.a", "c"];
const QUEUES: u64 = 24;

/// From here on, the first number of a change is a binding that comes.
const ADDS: u8 = 20;

/// A change by numbers: what, from which exchange, to which queue or exchange, with which label.
type Step = (u8, usize, u64, usize);

fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((0..40u8, 0..4usize, 0..QUEUES + 4, 0..6usize), 0..most)
}

fn labelled(source: usize, to: u64, label: usize) -> Binding {
    let destination = match to.checked_sub(QUEUES) {
        Some(exchange) => Destination::Exchange(SOURCES[exchange as usize].0.into()),
        None => Destination::Queue(format!("q{to}").into()),
    };
    let plain = binding(SOURCES[source].0, destination, PATTERNS[label]);
    let names = ["h", "i", "j"];
    let mode: &[u8] = if label.is_multiple_of(2) { b"any" } else { b"all" };
    let table = TableWriter::new()
        .with("x-match", Value::LongString(mode))
        .with(names[label % 3], Value::Int(label as i32 % 2));
    Binding { arguments: table.table().into(), ..plain }
}

fn change(world: &mut World, (what, source, to, label): Step) {
    let (name, kind) = SOURCES[source];
    match what {
        0 => {
            world.apply(Change::ExchangeDeleted("/".into(), name.into()));
            world.exchange(name, kind);
        }
        1 => world.apply(Change::ExchangeDeleted("/".into(), name.into())),
        2..ADDS => world.apply(Change::Unbound("/".into(), labelled(source, to, label))),
        _ => world.apply(Change::Bound("/".into(), labelled(source, to, label))),
    }
}

/// All exchanges and queues, and the bindings of the steps.
fn world(steps: &[Step]) -> World {
    let mut world = World::new();
    SOURCES.iter().for_each(|(name, kind)| world.exchange(name, *kind));
    (0..QUEUES).for_each(|number| world.queue(number, &format!("q{number}")));
    steps.iter().for_each(|step| change(&mut world, *step));
    world
}

fn ids(targets: &Targets) -> BTreeSet<u64> {
    let ids: BTreeSet<u64> = targets.queues().iter().map(|queue| queue.0.0).collect();
    assert_eq!(ids.len(), targets.queues().len(), "a queue is found twice");
    ids
}

/// Routes on; true if that is all.
fn route(world: &World, source: &str, headers: Table<'_>, targets: &mut Targets) -> bool {
    let vhost = world.vhost();
    let exchange = vhost.exchange(source);
    let properties = || Basic { headers: Some(headers), ..Basic::default() };
    exchange.is_none_or(|exchange| vhost.route(exchange, &KEYS, properties, targets))
}

fn whole(world: &World, source: &str, headers: Table<'_>) -> BTreeSet<u64> {
    let mut targets = Targets::new();
    assert!(route(world, source, headers, &mut targets));
    ids(&targets)
}

/// Routes with a pause wherever there may be one, and changes in each; the number of pauses, and
/// whether it found what it should.
fn paused(before: Vec<Step>, meanwhile: Vec<Step>, source: usize) -> Result<usize, TestCaseError> {
    let [mut world, mut lasting, mut ever] = [(); 3].map(|()| world(&before));
    let table = TableWriter::new().with("h", Value::Int(0)).with("i", Value::Int(1));
    let (source, headers) = (SOURCES[source].0, table.table());
    let (mut targets, mut pauses, mut meanwhile) = (Targets::new(), 0, meanwhile.into_iter());
    targets.begin(world.0.version());
    targets.may_work(1);
    while !route(&world, source, headers, &mut targets) {
        pauses += 1;
        prop_assert!(pauses < 10_000, "it does not end");
        for step in meanwhile.by_ref().take(2) {
            change(&mut world, step);
            change(if step.0 < ADDS { &mut lasting } else { &mut ever }, step);
        }
        targets.may_work(1);
    }
    let [always, ever] = [lasting, ever].map(|world| whole(&world, source, headers));
    let found = ids(&targets);
    prop_assert!(found.is_superset(&always), "{:?} of {:?}", found, always);
    prop_assert!(found.is_subset(&ever), "{:?} of {:?}", found, ever);
    Ok(pauses)
}

proptest! {
    #[test]
    fn it_finds_what_is_bound_all_the_time_and_nothing_that_never_was(
        before in steps(150), meanwhile in steps(40), source in 0..4usize,
    ) {
        paused(before, meanwhile, source)?;
    }
}

/// Bindings of one exchange to all queues, by two labels each.
fn full(source: usize) -> Vec<Step> {
    (0..QUEUES).flat_map(|to| [(30, source, to, 0), (30, source, to, 1)]).collect()
}

#[test]
fn an_exchange_may_change_behind_the_route_or_ahead_of_it() {
    let (to_topic, to_queue) = ((20, 1, QUEUES, 0), (20, 0, 1, 2));
    let meanwhile = vec![(20, 1, 1, 0), (0, 0, 0, 0)];
    paused(vec![to_queue, to_topic], meanwhile, 1).unwrap();
    let (to_fanout, nothing) = ((20, 0, QUEUES + 2, 4), (2, 0, 0, 0));
    let meanwhile = [vec![nothing; 6], vec![(2, 0, QUEUES + 2, 4), (20, 2, 0, 0)]].concat();
    paused(vec![to_fanout], meanwhile, 0).unwrap();
}

#[test]
fn it_pauses_inside_of_every_kind_of_exchange() {
    // By one key the default exchange and others of few bindings do not pause.
    let pauses = [0, 1, 2, 3].map(|source| paused(full(source), Vec::new(), source).unwrap());
    assert!(pauses[0] > 10 && pauses[1] > 10 && pauses[2] >= 5, "{pauses:?}");
}

/// A pattern goes while a route is under way, and another one gets its nodes.
fn a_pattern_takes_the_place_of_another() {
    let mut world = World::new();
    world.exchange("topic", ExchangeKind::Topic);
    for (number, name) in (0..).zip(["kept", "gone", "new"]) {
        world.queue(number, name);
    }
    let to = |name: &str, pattern| binding("topic", Destination::Queue(name.into()), pattern);
    world.apply(Change::Bound("/".into(), to("gone", "a.#.b.c")));
    world.apply(Change::Bound("/".into(), to("kept", "#")));
    let routes = |world: &World, targets: &mut Targets| {
        let vhost = world.vhost();
        vhost.route(vhost.exchange("topic").unwrap(), &["a.x.b.c"], Basic::default, targets)
    };
    for pause in 1..10 {
        let (mut targets, mut pauses) = (Targets::new(), 0);
        targets.begin(world.0.version());
        targets.may_work(1);
        while !routes(&world, &mut targets) {
            pauses += 1;
            if pauses == pause {
                world.apply(Change::Unbound("/".into(), to("gone", "a.#.b.c")));
                world.apply(Change::Bound("/".into(), to("new", "z.z.z.z")));
            }
            targets.may_work(1);
        }
        assert!(!ids(&targets).contains(&2), "pause {pause}: a pattern that never matched");
        world.apply(Change::Unbound("/".into(), to("new", "z.z.z.z")));
        world.apply(Change::Bound("/".into(), to("gone", "a.#.b.c")));
    }
}

#[test]
fn a_route_does_not_go_on_where_another_pattern_is() {
    a_pattern_takes_the_place_of_another();
}

#[cfg(feature = "mutants")]
#[test]
fn the_place_of_another_pattern_is_found_out() {
    use crate::mutant::{Mutant, select};
    select(Some(Mutant::ReusedNodeVisited));
    let found = std::panic::catch_unwind(a_pattern_takes_the_place_of_another).is_err();
    select(None);
    assert!(found);
}
