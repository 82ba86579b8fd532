//! Hash maps whose seeds are injected, so that a simulation replays. No map's order may reach an
//! effect.
//!
//! [`Map`] and [`Set`] are for keys that this broker chose: ids, numbers, file names made of
//! numbers. [`UntrustedMap`] is for keys that contain bytes of a client. There a client who knows
//! the seeds can choose keys that all collide, and every insertion then compares the new key with
//! all others. foldhash mixes every eight bytes of a key with a shared seed, and the one of its
//! `FixedState` is public, whatever the seed of the map is; so these maps take both seeds from
//! [`Entropy`](crate::random::Entropy).

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher};

use foldhash::SharedSeed;
use foldhash::fast::{FixedState, FoldHasher};

/// The seed of maps whose keys this broker chose.
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
    type Hasher = IdHasher;

    #[inline]
    fn build_hasher(&self) -> Self::Hasher {
        IdHasher(FixedState::with_seed(self.0).build_hasher())
    }
}

/// Hashes numbers. Strings and other byte sequences belong into an [`UntrustedMap`]: a build with
/// debug assertions panics on them.
#[derive(Clone)]
pub struct IdHasher(FoldHasher<'static>);

impl std::fmt::Debug for IdHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdHasher")
    }
}

/// Forwards methods of a hasher to the one inside.
macro_rules! forward {
    ($($write:ident: $number:ty),*) => {
        $(
            #[inline(always)]
            fn $write(&mut self, number: $number) {
                self.0.$write(number);
            }
        )*
    };
}

impl Hasher for IdHasher {
    forward!(write_u8: u8, write_u16: u16, write_u32: u32, write_u64: u64);
    forward!(write_u128: u128, write_usize: usize);

    #[inline(always)]
    fn write(&mut self, bytes: &[u8]) {
        debug_assert!(false, "a key with bytes in a map of ids: use an UntrustedMap");
        self.0.write(bytes);
    }

    #[inline(always)]
    fn finish(&self) -> u64 {
        self.0.finish()
    }
}

/// The seeds of maps whose keys contain bytes of a client. Only
/// [`Entropy::map_seed`](crate::random::Entropy::map_seed) makes one.
#[derive(Clone, Copy)]
pub struct SecretSeed {
    own: u64,
    shared: &'static SharedSeed,
}

impl SecretSeed {
    /// Seeds from two random numbers. Every call takes 48 bytes that are never given back, since
    /// a hasher has to borrow from something that outlives all maps: one call for each machine.
    pub(crate) fn new(own: u64, shared: u64) -> Self {
        Self { own, shared: Box::leak(Box::new(SharedSeed::from_u64(shared))) }
    }
}

impl std::fmt::Debug for SecretSeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretSeed")
    }
}

impl BuildHasher for SecretSeed {
    type Hasher = FoldHasher<'static>;

    #[inline]
    fn build_hasher(&self) -> Self::Hasher {
        FoldHasher::with_seed(self.own, self.shared)
    }
}

/// A hash map whose keys this broker chose: `Map::with_hasher(seed)`.
pub type Map<K, V> = HashMap<K, V, Seed>;
/// A hash set of keys that this broker chose.
pub type Set<K> = HashSet<K, Seed>;
/// A hash map whose keys contain bytes of a client: `UntrustedMap::with_hasher(seed)`.
pub type UntrustedMap<K, V> = HashMap<K, V, SecretSeed>;
