//! Keys that collide under foldhash's public shared seed cost no more than random ones.

use std::cell::Cell;
use std::collections::HashSet;
use std::hash::{BuildHasher, Hash, Hasher};

use amqp::{TableWriter, Value};
use foldhash::fast::FixedState;

use crate::exchange::{Label, Target};
use crate::hash::{Seed, Set};
use crate::ids::{QueueId, ShardId};
use crate::random::{Entropy, Generator};
use crate::topology::spec::{Arguments, Name};

/// The word that foldhash 0.2 mixes the last sixteen bytes of a key with if its shared seed is the
/// fixed one: `SharedSeed::global_fixed().seeds[0]`.
const PUBLIC: u64 = 0xC0AC_29B7_C97C_50DD;
const KEYS: usize = 4000;

thread_local! {
    static COMPARISONS: Cell<u64> = const { Cell::new(0) };
}

/// A key that counts how often it is compared.
struct Counted<K>(K);

impl<K: Hash> Hash for Counted<K> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.0.hash(hasher);
    }
}

impl<K: PartialEq> PartialEq for Counted<K> {
    fn eq(&self, other: &Self) -> bool {
        COMPARISONS.with(|count| count.set(count.get() + 1));
        self.0 == other.0
    }
}

impl<K: Eq> Eq for Counted<K> {}

/// How many comparisons it takes to fill a set with the keys and to look each up again.
fn cost<K: Hash + Eq>(hasher: impl BuildHasher, keys: impl Iterator<Item = K>) -> u64 {
    COMPARISONS.with(|count| count.set(0));
    let mut set = HashSet::with_hasher(hasher);
    for key in keys {
        assert!(set.insert(Counted(key)));
    }
    assert!(set.iter().all(|key| set.contains(key)));
    COMPARISONS.with(Cell::get)
}

/// The arguments of a binding: a table of `len` encoded bytes that ends in the sixteen given.
fn arguments(len: usize, number: usize, end: [u64; 2]) -> Arguments {
    let free = len - 16 - "\u{1}aS\0\0\0\0".len();
    let mut bytes = (number as u64).to_le_bytes()[..free].to_vec();
    end.iter().for_each(|word| bytes.extend(word.to_ne_bytes()));
    let table = TableWriter::new().with("a", Value::LongString(&bytes));
    assert_eq!(table.table().encoded().len(), len);
    table.table().into()
}

/// As many tables that all have the same hash, whatever the seed of the map, if the shared one is
/// public: what multiplies the bytes in front is zero.
fn chosen(len: usize) -> impl Iterator<Item = Arguments> {
    (0..KEYS).map(move |number| arguments(len, number, [PUBLIC; 2]))
}

fn random(len: usize, mut generator: Generator) -> impl Iterator<Item = Arguments> {
    let mut word = move || u64::from_le_bytes(generator.bytes());
    (0..KEYS).map(move |number| arguments(len, number, [word(), word()]))
}

fn label(arguments: Arguments) -> Label {
    Label { key: "key".into(), arguments }
}

/// The key of a headers exchange's bindings.
fn place(arguments: Arguments) -> (Target, Name, Arguments) {
    (Target::Queue(QueueId(1), ShardId(0)), "key".into(), arguments)
}

/// Compares what chosen keys of two lengths cost with what random ones do.
fn check<K: Hash + Eq>(key: impl Fn(Arguments) -> K + Copy) {
    for seed in 0..3 {
        let entropy = Entropy::from_seed(seed);
        let map_seed = entropy.map_seed();
        for len in [26, 31] {
            let attack = cost(map_seed, chosen(len).map(key));
            let generator = entropy.generator(ShardId(0));
            let plain = cost(map_seed, random(len, generator).map(key));
            assert!(plain >= KEYS as u64, "each is looked up once");
            assert!(attack * 2 <= plain * 3, "{attack} comparisons instead of {plain}");
        }
    }
}

#[test]
fn the_chosen_keys_do_collide_under_the_public_seed() {
    for seed in [0, 1, u64::MAX] {
        let public = FixedState::with_seed(seed);
        for len in [26, 31] {
            let hash = |arguments| public.hash_one(label(arguments));
            let hashes: HashSet<u64> = chosen(len).map(hash).collect();
            assert_eq!(hashes.len(), 1);
        }
    }
    // Every key is compared with all before it, and half of all when it is looked up.
    let keys = || chosen(31).take(500).map(label);
    assert!(cost(FixedState::with_seed(1), keys()) > 200_000);
}

#[test]
fn chosen_arguments_of_bindings_cost_what_random_ones_do() {
    check(label);
    check(place);
}

#[test]
#[should_panic(expected = "use an UntrustedMap")]
#[cfg(debug_assertions)]
fn a_map_of_ids_takes_no_bytes() {
    let mut names = Set::with_hasher(Seed::default());
    names.insert("name");
}
