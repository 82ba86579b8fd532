//! Hash maps whose seed is injected, so that clients cannot choose collisions and a simulation
//! replays. No map's order may reach an effect.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;

use foldhash::fast::{FixedState, FoldHasher};

/// The injected seed of a map.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seed(u64);

impl Seed {
    /// A seed; take it from the operating system's randomness, or from a simulation's.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }
}

impl BuildHasher for Seed {
    type Hasher = FoldHasher<'static>;

    #[inline]
    fn build_hasher(&self) -> Self::Hasher {
        FixedState::with_seed(self.0).build_hasher()
    }
}

/// A hash map with an injected seed: `Map::with_hasher(seed)`.
pub type Map<K, V> = HashMap<K, V, Seed>;
/// A hash set with an injected seed.
pub type Set<K> = HashSet<K, Seed>;
