//! Replay: a machine that is given the same commands at the same times reaches the same state. Two
//! copies are compared by a hash of their states.
//!
//! A state is hashed through [`std::hash::Hash`]. Hash maps do not implement it, so their order
//! cannot enter a hash unnoticed: [`sorted`] gives their entries in the order of their keys.

use std::hash::{Hash, Hasher};

use crate::hash::Map;

/// A machine whose whole state can be compared with that of another copy.
pub trait StateHash {
    /// A hash of the state. It is the same in every process: it depends on no seed, address or
    /// capacity.
    fn state_hash(&self) -> u64;
}

impl<T: Hash + ?Sized> StateHash for T {
    fn state_hash(&self) -> u64 {
        let mut hasher = StateHasher::default();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

/// The entries of a hash map in the order of their keys.
#[must_use]
pub fn sorted<K: Ord, V>(map: &Map<K, V>) -> Vec<(&K, &V)> {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    entries
}

/// A 64-bit hasher without a seed. It finds differences; it does not resist chosen collisions.
#[derive(Debug, Clone, Copy, Default)]
pub struct StateHasher(u64);

/// Longer slices are hashed in blocks of so many bytes.
const BLOCK: usize = 64;

impl StateHasher {
    /// Hashes the words of each block in lanes that do not wait for each other: queues in tests
    /// hold megabytes, which are hashed again and again.
    fn blocks(&mut self, blocks: &[[u8; BLOCK]]) {
        let mut lanes = [self.0; BLOCK / 8];
        for block in blocks {
            let (words, _) = block.as_chunks::<8>();
            for (lane, word) in lanes.iter_mut().zip(words) {
                let mixed = (*lane ^ u64::from_le_bytes(*word)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                *lane = mixed.rotate_left(29);
            }
        }
        lanes.into_iter().for_each(|lane| self.word(lane));
        self.word(blocks.len() as u64);
    }

    #[inline]
    fn word(&mut self, word: u64) {
        // The finalizer of splitmix64.
        let mut mixed = self.0.wrapping_add(word).wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        self.0 = mixed ^ (mixed >> 31);
    }
}

/// Integers are hashed as words of 64 bits, so that the size of a pointer does not matter.
impl Hasher for StateHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let (blocks, bytes) = bytes.as_chunks::<BLOCK>();
        if !blocks.is_empty() {
            self.blocks(blocks);
        }
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.word(u64::from_le_bytes(*word)));
        let tail = rest.iter().rev().fold(0, |tail, byte| (tail << 8) | u64::from(*byte));
        self.word(tail ^ ((rest.len() as u64) << 56));
    }

    fn write_u8(&mut self, value: u8) {
        self.word(value.into());
    }

    fn write_u16(&mut self, value: u16) {
        self.word(value.into());
    }

    fn write_u32(&mut self, value: u32) {
        self.word(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        self.word(value);
    }

    fn write_usize(&mut self, value: usize) {
        self.word(value as u64);
    }

    fn write_i8(&mut self, value: i8) {
        self.write_i64(value.into());
    }

    fn write_i16(&mut self, value: i16) {
        self.write_i64(value.into());
    }

    fn write_i32(&mut self, value: i32) {
        self.write_i64(value.into());
    }

    fn write_i64(&mut self, value: i64) {
        self.word(value.cast_unsigned());
    }

    fn write_isize(&mut self, value: isize) {
        self.write_i64(value as i64);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};

    use super::*;
    use crate::hash::Seed;

    #[test]
    fn the_hash_is_the_same_in_every_build() {
        // A change of this number breaks the comparison of processes of different versions.
        assert_eq!((1u64, "a", [2u8, 3]).state_hash(), HASH);
        assert_eq!((1usize, "a", [2u8, 3]).state_hash(), HASH);
    }

    const HASH: u64 = 5_402_246_164_114_847_926;

    #[test]
    fn a_queue_hashes_by_its_values_and_not_by_its_capacity() {
        let mut large: VecDeque<u32> = VecDeque::with_capacity(100);
        large.extend([0, 1, 2]);
        large.pop_front();
        assert_eq!(large.state_hash(), VecDeque::from([1u32, 2]).state_hash());
        assert_ne!(large.state_hash(), VecDeque::from([2u32, 1]).state_hash());
        assert_ne!([0u8; 8].state_hash(), [0u8; 9].state_hash());
    }

    #[test]
    fn every_byte_of_a_long_slice_counts() {
        let long: Vec<u8> = (0..200).map(|n| n as u8).collect();
        let mut hashes: Vec<u64> = (0..long.len())
            .map(|at| {
                let mut other = long.clone();
                other[at] ^= 1;
                other.state_hash()
            })
            .collect();
        hashes.extend((0..=long.len()).map(|end| long[..end].state_hash()));
        // Blocks and words in another order.
        hashes.push([&long[64..128], &long[..64], &long[128..]].concat().state_hash());
        hashes.push([&long[8..16], &long[..8], &long[16..]].concat().state_hash());
        let count = hashes.len();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), count);
    }

    #[test]
    fn maps_with_different_seeds_hash_alike() {
        let entries = (0u64..100).map(|n| (n * 7919 % 101, n));
        let map = |seed| {
            let mut map: Map<u64, u64> = Map::with_hasher(Seed::new(seed));
            map.extend(entries.clone());
            sorted(&map).state_hash()
        };
        let tree: BTreeMap<u64, u64> = entries.clone().collect();
        assert_eq!(map(1), map(2));
        assert_eq!(map(1), tree.iter().collect::<Vec<_>>().state_hash());
    }
}
