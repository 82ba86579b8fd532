//! Lists in chunks: complete, in an order that does not depend on the copy, without repetition.

use std::collections::BTreeSet;
use std::fmt::Debug;

use model::topology::spec::{Binding, Destination};
use model::{Arguments, ConnId, Entropy, QueueId};

use crate::coordinator::tests::script::{
    Script, bind, binding, config, declare, delete, delete_exchange, exchange, queue, to_queue,
};
use crate::coordinator::{Coordinator, CoordinatorConfig};
use crate::mesh::control::{Answer, Control, Request};
use crate::mesh::inspect::{ExchangeListing, ListChunk};
use crate::store::meta::{Fact, MetaState, User};

/// All items, read in chunks of at most so many.
fn all<T: Debug, C>(most: usize, list: impl Fn(Option<&C>, usize) -> ListChunk<T, C>) -> Vec<T> {
    let (mut items, mut cursor) = (Vec::new(), None);
    loop {
        let chunk = list(cursor.as_ref(), most);
        assert!(chunk.items.len() <= most, "{chunk:?}", chunk = chunk.items);
        // Only the last chunk may be short.
        assert!(chunk.items.len() == most || chunk.next.is_none());
        items.extend(chunk.items);
        cursor = chunk.next;
        if cursor.is_none() {
            return items;
        }
    }
}

/// Every list as text, read in chunks of at most so many.
fn lists(coordinator: &Coordinator, most: usize) -> [Vec<String>; 5] {
    fn text<T: Debug>(items: Vec<T>) -> Vec<String> {
        items.iter().map(|item| format!("{item:?}")).collect()
    }
    [
        text(all(most, |from, most| coordinator.snapshot_vhosts(from, most))),
        text(all(most, |from, most| coordinator.snapshot_users(from, most))),
        text(all(most, |from, most| coordinator.snapshot_queues(from.copied(), most))),
        text(all(most, |from, most| coordinator.snapshot_exchanges(from, most))),
        text(all(most, |from, most| coordinator.snapshot_bindings(from, most))),
    ]
}

/// What a broker with two more vhosts and another user left on the disk.
fn recorded() -> MetaState {
    let mut state = MetaState::default();
    for vhost in ["/", "b", "a"] {
        state.apply(&Fact::Changed(model::topology::Change::VhostCreated(vhost.into())));
    }
    let user = |name: &str| User {
        name: name.into(),
        password_hash: "secret hash".into(),
        algorithm: model::access::HashAlgorithm::Sha256,
        tags: vec!["monitoring".into()],
    };
    ["guest", "anna"].map(user).into_iter().for_each(|user| state.apply(&Fact::User(user)));
    state
}

fn fill(script: &mut Script) {
    for number in 0..7 {
        script.declare(queue(&format!("q{number}"), None));
        let x = exchange(&format!("x{number}"), false);
        script.answer(Request::DeclareExchange("/".into(), x.clone()));
        script.answer(Request::DeclareExchange("a".into(), x));
    }
    for number in [3, 1, 2] {
        let to = format!("q{number}");
        let two_keys = Binding { key: "k".into(), ..to_queue("amq.topic", &to) };
        let exchanges = binding("x4", Destination::Exchange("x1".into()));
        let bindings = [to_queue("x1", &to), to_queue("amq.topic", &to), two_keys, exchanges];
        bindings
            .into_iter()
            .for_each(|binding| assert_eq!(script.answer(bind(binding)), Answer::Done));
    }
    let elsewhere = binding("x1", Destination::Exchange("x2".into()));
    script.answer(Request::Bind("a".into(), elsewhere, ConnId(1)));
}

fn script(entropy: u64) -> Script {
    let config = CoordinatorConfig { entropy: Entropy::from_seed(entropy), ..config() };
    let mut script = Script(Coordinator::recovered(config, &recorded()));
    script.settle();
    fill(&mut script);
    script
}

#[test]
fn chunks_of_any_size_make_the_same_list_on_every_copy() {
    let (one, other) = (script(1), script(2));
    let whole = lists(&one.0, 1000);
    // Every vhost has seven exchanges from the beginning.
    assert_eq!(whole.each_ref().map(Vec::len), [3, 2, 7, 3 * 7 + 14, 11]);
    for most in 1..5 {
        assert_eq!(lists(&one.0, most), whole);
        assert_eq!(lists(&other.0, most), whole);
    }
    let distinct: BTreeSet<_> = whole.iter().flatten().collect();
    assert_eq!(distinct.len(), whole.iter().map(Vec::len).sum::<usize>());
}

#[test]
fn lists_are_in_order_and_say_what_was_declared() {
    let script = script(1);
    let vhosts = script.0.snapshot_vhosts(None, 9).items;
    assert_eq!(vhosts, ["/", "a", "b"].map(Box::from));
    let users = script.0.snapshot_users(None, 9).items;
    assert_eq!((&*users[0].name, &*users[1].name), ("anna", "guest"));
    assert!(!format!("{users:?}").contains("secret hash"));
    let queues = script.0.snapshot_queues(None, 9).items;
    assert!(queues.is_sorted_by_key(|queue| queue.spec.id));
    assert_eq!((&*queues[0].vhost, &*queues[0].spec.name), ("/", "q0"));
    let exchanges = script.0.snapshot_exchanges(None, 99).items;
    let x1 = exchanges.iter().find(|exchange| &*exchange.spec.name == "x1").unwrap();
    assert_eq!((&*x1.vhost, x1.bindings), ("/", 3));
    let bindings = script.0.snapshot_bindings(None, 99).items;
    let keys = |binding: &Binding| (binding.destination.clone(), binding.source.clone());
    assert!(bindings[..10].is_sorted_by_key(|listing| keys(&listing.binding)));
    assert_eq!((&*bindings[10].vhost, &*bindings[10].binding.source), ("a", "x1"));
    let equal = |at: usize| bindings[at].binding.arguments == Arguments::default();
    assert!((0..11).all(equal));
}

#[test]
fn what_stays_is_listed_once_whatever_comes_and_goes_between() {
    let mut script = script(1);
    let first = script.0.snapshot_exchanges(None, 9);
    let queues = script.0.snapshot_queues(None, 3);
    let bindings = script.0.snapshot_bindings(None, 2);
    script.answer(delete_exchange("x0", false));
    script.answer(delete_exchange("x1", false));
    script.answer(Request::DeclareExchange("/".into(), exchange("new", false)));
    delete_queue(&mut script, "q1");
    let names = |chunk: &ListChunk<_, _>| -> Vec<Box<str>> {
        let of = |exchange: &ExchangeListing| exchange.spec.name.clone();
        chunk.items.iter().map(of).collect()
    };
    let rest = script.0.snapshot_exchanges(first.next.as_ref(), 99);
    let root = [names(&first), names(&rest)].concat();
    for number in 2..7 {
        let name = format!("x{number}");
        assert_eq!(root.iter().filter(|other| ***other == *name).count(), 2, "{name} in / and a");
    }
    let rest = script.0.snapshot_queues(queues.next, 99).items;
    let rest: Vec<_> = rest.iter().map(|queue| &*queue.spec.name).collect();
    assert_eq!(rest, ["q3", "q4", "q5", "q6"]);
    // The binding behind which the list goes on is gone.
    let rest = script.0.snapshot_bindings(bindings.next.as_ref(), 99).items;
    let to = |name: &str| Destination::Queue(name.into());
    let count =
        |name: &str| rest.iter().filter(|found| found.binding.destination == to(name)).count();
    assert_eq!((count("q1"), count("q2"), count("q3")), (0, 2, 2));
}

fn delete_queue(script: &mut Script, name: &str) {
    script.ask(0, 1, delete(name, ConnId(1)));
    let out = script.out();
    let [(home, Control::Freeze { queue, .. })] = &out[..] else { panic!("{out:?}") };
    script.control(*home, Control::Frozen(*queue, Ok(0)));
    script.settle();
}

#[test]
fn a_queue_in_the_making_is_not_listed_yet() {
    let mut script = Script::new();
    script.ask(0, 1, declare(queue("q", None)));
    assert_eq!(script.0.snapshot_queues(None, 9).items, []);
    let end = ListChunk { items: Vec::new(), next: None };
    assert_eq!(script.0.snapshot_queues(Some(QueueId(u64::MAX)), 9), end);
}
