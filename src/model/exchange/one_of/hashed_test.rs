//! Hash exchanges: shares by weight, and what moves when destinations join and leave.

use std::cell::LazyCell;
use std::collections::BTreeMap;

use amqp::table::{TableWriter, Value};
use amqp::{Basic, Table};
use proptest::prelude::*;

use super::{HashBy, Hashed};
use crate::exchange::targets::{Target, Targets};
use crate::ids::{QueueId, ShardId};
use crate::topology::spec::Destination;

const KEYS: u64 = 2000;

fn queue(number: u64) -> (Destination, Target) {
    let name = format!("queue {number}");
    (Destination::Queue(name.into()), Target::Queue(QueueId(number), ShardId(0)))
}

fn exchange(bindings: &[(u64, u32)]) -> Hashed {
    let mut hashed = Hashed::new(HashBy::Key);
    bindings.iter().for_each(|binding| add(&mut hashed, *binding));
    hashed
}

fn add(hashed: &mut Hashed, (number, weight): (u64, u32)) {
    let (destination, target) = queue(number);
    hashed.add(&destination, weight, target);
}

fn remove(hashed: &mut Hashed, (number, weight): (u64, u32)) {
    let (destination, target) = queue(number);
    hashed.remove(&destination, weight, target);
}

fn chosen(hashed: &Hashed, key: &str, properties: Basic<'_>) -> Option<u64> {
    let mut targets = Targets::new();
    hashed.collect(key, &LazyCell::new(|| properties), &mut targets);
    assert!(targets.queues().len() <= 1 && !targets.by_chance());
    targets.queues().first().map(|queue| queue.0.0)
}

/// The queue of each key.
fn map(hashed: &Hashed) -> Vec<Option<u64>> {
    (0..KEYS).map(|key| chosen(hashed, &format!("key{key}"), Basic::default())).collect()
}

/// Whether the keys are shared by weight, within six standard deviations.
fn is_shared_by_weight(map: &[Option<u64>], weights: &BTreeMap<u64, u64>) -> bool {
    let total: u64 = weights.values().sum();
    weights.iter().all(|(number, weight)| {
        let share = *weight as f64 / total as f64;
        let (mean, variance) = (KEYS as f64 * share, KEYS as f64 * share * (1.0 - share));
        let count = map.iter().filter(|queue| **queue == Some(*number)).count();
        (count as f64 - mean).abs() <= 6.0 * variance.sqrt() + 1.0
    })
}

/// Whether one that joins takes keys from the others and nothing else moves, and one that leaves
/// gives back what it took.
fn is_stable(bindings: &[(u64, u32)], joins: (u64, u32)) -> bool {
    let mut hashed = exchange(bindings);
    let before = map(&hashed);
    add(&mut hashed, joins);
    let with = map(&hashed);
    remove(&mut hashed, joins);
    let moved_elsewhere =
        before.iter().zip(&with).any(|(one, other)| one != other && *other != Some(joins.0));
    !moved_elsewhere && map(&hashed) == before
}

fn bindings() -> impl Strategy<Value = Vec<(u64, u32)>> {
    let weights = prop_oneof![Just(1_u32), 1..20_u32];
    prop::collection::vec((0..12_u64, weights), 1..16)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn keys_are_shared_by_weight(bindings in bindings()) {
        let mut weights = BTreeMap::new();
        for (number, weight) in &bindings {
            *weights.entry(*number).or_default() += u64::from(*weight);
        }
        prop_assert!(is_shared_by_weight(&map(&exchange(&bindings)), &weights));
    }

    #[test]
    fn only_the_share_of_who_joins_or_leaves_moves(bindings in bindings(), weight in 1..20_u32) {
        prop_assert!(is_stable(&bindings, (12, weight)));
    }

    #[test]
    fn the_order_of_bindings_means_nothing(bindings in bindings(), gone in bindings()) {
        let mut other = exchange(&gone);
        bindings.iter().rev().for_each(|binding| add(&mut other, *binding));
        gone.iter().for_each(|binding| remove(&mut other, *binding));
        prop_assert_eq!(map(&other), map(&exchange(&bindings)));
    }
}

#[test]
fn without_bindings_nothing_is_found() {
    let mut hashed = exchange(&[(1, 5)]);
    remove(&mut hashed, (1, 5));
    assert_eq!(chosen(&hashed, "key", Basic::default()), None);
}

#[test]
fn a_queue_that_is_declared_again_has_its_keys_again() {
    let mut hashed = exchange(&[(1, 1), (2, 1)]);
    let before = map(&hashed);
    remove(&mut hashed, (1, 1));
    let (destination, _) = queue(1);
    hashed.add(&destination, 1, Target::Queue(QueueId(77), ShardId(1)));
    let again = map(&hashed).into_iter().map(|queue| queue.map(|id| if id == 77 { 1 } else { id }));
    assert_eq!(again.collect::<Vec<_>>(), before);
}

fn hash_by(argument: &str, value: &str) -> Hashed {
    let table = TableWriter::new().with(argument, Value::LongString(value.as_bytes()));
    let mut hashed = Hashed::new(HashBy::of(table.table()));
    (0..8).for_each(|number| add(&mut hashed, (number, 1)));
    hashed
}

/// How many different queues these messages go to; they all have different keys.
fn spread<'a>(hashed: &Hashed, messages: impl Iterator<Item = Basic<'a>>) -> usize {
    let routed = messages.enumerate().map(|(n, basic)| chosen(hashed, &format!("{n}"), basic));
    routed.collect::<std::collections::BTreeSet<_>>().len()
}

#[test]
fn a_header_is_hashed_with_its_type() {
    let hashed = hash_by("hash-header", "h");
    let with = |headers| Basic { headers: Some(headers), ..Basic::default() };
    let texts: Vec<_> = (0..100).map(|n| n.to_string()).collect();
    let text = |n: &String| TableWriter::new().with("h", Value::LongString(n.as_bytes()));
    let tables: Vec<_> = texts.iter().map(text).collect();
    assert_eq!(spread(&hashed, tables.iter().map(|table| with(table.table()))), 8);
    let numbers: Vec<_> = (0..100).map(|n| TableWriter::new().with("h", Value::Int(n))).collect();
    assert_eq!(spread(&hashed, numbers.iter().map(|table| with(table.table()))), 8);
    assert_eq!(spread(&hashed, tables[..1].iter().cycle().take(9).map(|t| with(t.table()))), 1);
    let without = [Basic::default(), with(Table::EMPTY)];
    assert_eq!(spread(&hashed, without.into_iter()), 1, "messages without it go to one queue");
}

#[test]
fn properties_are_hashed() {
    let texts: Vec<_> = (0..100).map(|n| n.to_string()).collect();
    let by = |property| hash_by("hash-property", property);
    let ids = || texts.iter().map(|id| Basic { message_id: Some(id), ..Basic::default() });
    let replies = || texts.iter().map(|id| Basic { correlation_id: Some(id), ..Basic::default() });
    let times = (0..100).map(|time| Basic { timestamp: Some(time), ..Basic::default() });
    assert_eq!([spread(&by("message_id"), ids()), spread(&by("message_id"), replies())], [8, 1]);
    assert_eq!(spread(&by("correlation_id"), replies()), 8);
    assert_eq!(spread(&by("timestamp"), times), 8);
}

/// A hash exchange that counts its destinations is found.
#[cfg(feature = "mutants")]
#[test]
fn faults_of_hash_exchanges_are_found() {
    use crate::mutant::{self, Mutant};
    let bindings: Vec<_> = (0..5).map(|number| (number, 1)).collect();
    assert!(is_stable(&bindings, (12, 1)));
    mutant::select(Some(Mutant::HashByPlace));
    let found = !is_stable(&bindings, (12, 1));
    mutant::select(None);
    assert!(found);
}
