//! Randomness that was injected: from the operating system in the shell, from a number in a
//! simulation, which so replays.

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng, SeedableRng};

use crate::hash::{SecretSeed, Seed};
use crate::ids::ShardId;

/// The secret that all randomness of a pure machine follows from. Each use has a ChaCha20 stream of
/// its own under this key, so nothing that is seen of one stream says anything about another.
#[derive(Clone, Copy)]
pub struct Entropy([u8; 32]);

/// The streams in front of those of the endpoints.
const ID_SEED: u64 = 0;
const MAP_SEED: u64 = 1;
const REPLY_KEY: u64 = 2;
const SALTS: u64 = 3;
const FIRST_ENDPOINT: u64 = 1 << 32;

impl Entropy {
    /// Takes random bytes of the operating system.
    #[must_use]
    pub fn new(random: [u8; 32]) -> Self {
        Self(random)
    }

    /// Follows from a number: for brokers that nobody attacks.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        Self(key)
    }

    /// The seed of maps whose keys this broker chose.
    #[must_use]
    pub fn id_seed(&self) -> Seed {
        Seed::new(self.stream(ID_SEED).next_u64())
    }

    /// The seed of maps whose keys contain bytes of a client. Each call takes 48 bytes that are
    /// never given back: call it once for each machine.
    #[must_use]
    pub fn map_seed(&self) -> SecretSeed {
        let mut stream = self.stream(MAP_SEED);
        SecretSeed::new(stream.next_u64(), stream.next_u64())
    }

    /// The key that proves the names of reply consumers, the same on all shards.
    #[must_use]
    pub fn reply_key(&self) -> [u8; 32] {
        Generator(self.stream(REPLY_KEY)).bytes()
    }

    /// The generator of salts for the passwords that the configuration names: in definitions files
    /// and of default users.
    #[must_use]
    pub fn salts(&self) -> Generator {
        Generator(self.stream(SALTS))
    }

    /// The generator of an endpoint. Endpoints that share the entropy have different ones.
    #[must_use]
    pub fn generator(&self, endpoint: ShardId) -> Generator {
        Generator(self.stream(FIRST_ENDPOINT + u64::from(endpoint.0)))
    }

    fn stream(&self, number: u64) -> ChaCha20Rng {
        let mut stream = ChaCha20Rng::from_seed(self.0);
        stream.set_stream(number);
        stream
    }
}

impl std::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entropy")
    }
}

/// A cryptographic generator, for what others see but must not foresee: names that the server
/// makes, salts.
pub struct Generator(ChaCha20Rng);

impl Generator {
    /// The next bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }
}

impl std::fmt::Debug for Generator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Generator")
    }
}

/// Fast random numbers, for choices that nobody gains by foreseeing: a sequence that visits every
/// number once. Who uses one mixes it.
#[derive(Debug)]
pub struct Chance(u64);

impl Chance {
    /// Begins where a generator says.
    pub fn new(generator: &mut Generator) -> Self {
        Self(u64::from_le_bytes(generator.bytes()))
    }

    /// The next number.
    #[inline]
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use super::*;

    #[test]
    fn the_same_entropy_gives_the_same_streams() {
        let (one, other) = (Entropy::from_seed(7), Entropy::from_seed(7));
        let bytes = |entropy: Entropy| entropy.generator(ShardId(1)).bytes::<100>();
        assert_eq!(bytes(one), bytes(other));
        let hash = |entropy: Entropy| entropy.map_seed().hash_one("key");
        assert_eq!(hash(one), hash(other));
        assert_eq!(one.id_seed().hash_one(1_u64), other.id_seed().hash_one(1_u64));
    }

    #[test]
    fn endpoints_and_seeds_have_different_streams() {
        let entropy = Entropy::from_seed(7);
        let first = |number: u64| entropy.stream(number).next_u64();
        let endpoints = [0, 1, u16::MAX].map(|id| FIRST_ENDPOINT + u64::from(id));
        let mut streams: Vec<_> =
            [ID_SEED, MAP_SEED, REPLY_KEY].into_iter().chain(endpoints).map(first).collect();
        streams.sort_unstable();
        streams.dedup();
        assert_eq!(streams.len(), 6);
        let next = Entropy::from_seed(8).generator(ShardId(0)).bytes::<32>();
        assert_ne!(next, entropy.generator(ShardId(0)).bytes::<32>());
    }

    #[test]
    fn debug_output_contains_no_key() {
        let entropy = Entropy::new([0xAB; 32]);
        let shown = format!("{entropy:?} {:?}", entropy.generator(ShardId(0)));
        assert_eq!(shown, "Entropy Generator");
    }
}
