//! A set of sequence numbers that takes constant space while they arrive in order.

use std::collections::VecDeque;

/// How far above the first gap a number may be. A greater one cannot be of this run.
const AHEAD_MAX: u64 = 1 << 33;

/// All numbers below a floor, and a bitmap with one bit for each number from the oldest gap to the
/// newest number.
#[derive(Debug, Default, Clone)]
pub struct SequenceSet {
    /// All numbers below 64 times this are in the set.
    floor: u64,
    words: VecDeque<u64>,
    len: u64,
}

/// The result of an insertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InsertResult {
    /// The number was not in the set.
    New,
    /// The number was in the set.
    Duplicate,
    /// The number is too far above the first gap.
    Absurd,
}

impl SequenceSet {
    /// Inserts a number.
    #[inline]
    pub fn insert(&mut self, number: u64) -> InsertResult {
        let (word, bit) = (number / 64, 1u64 << (number % 64));
        let Some(index) = word.checked_sub(self.floor) else {
            return InsertResult::Duplicate;
        };
        if index > AHEAD_MAX / 64 {
            return InsertResult::Absurd;
        }
        let index = index as usize;
        if index >= self.words.len() {
            self.words.resize(index + 1, 0);
        }
        if self.words[index] & bit != 0 {
            return InsertResult::Duplicate;
        }
        self.words[index] |= bit;
        self.len += 1;
        while self.words.front() == Some(&u64::MAX) {
            self.words.pop_front();
            self.floor += 1;
        }
        InsertResult::New
    }

    /// How many numbers are in the set.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The union of two sets.
    #[must_use]
    pub fn union(self, other: SequenceSet) -> SequenceSet {
        let (high, low) = if self.floor >= other.floor { (self, other) } else { (other, self) };
        let mut union = SequenceSet { floor: high.floor, words: high.words, len: 0 };
        let below = (high.floor - low.floor) as usize;
        for (index, word) in low.words.iter().skip(below).enumerate() {
            if index >= union.words.len() {
                union.words.push_back(0);
            }
            union.words[index] |= word;
        }
        let ones = union.words.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
        union.len = union.floor * 64 + ones;
        union
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_order_take_one_word() {
        let mut seen = SequenceSet::default();
        for number in 0..100_000 {
            assert_eq!(seen.insert(number), InsertResult::New);
            assert!(seen.words.len() <= 1);
        }
        assert_eq!(seen.insert(500), InsertResult::Duplicate);
        assert_eq!(seen.insert(99_999), InsertResult::Duplicate);
        assert_eq!(seen.len(), 100_000);
    }

    #[test]
    fn gaps_close_later() {
        let mut seen = SequenceSet::default();
        for number in (0..1000).rev() {
            assert_eq!(seen.insert(number), InsertResult::New);
        }
        assert_eq!((seen.len(), seen.floor), (1000, 15));
        assert_eq!(seen.insert(u64::MAX), InsertResult::Absurd);
    }

    #[test]
    fn a_union_counts_each_number_once() {
        let (mut even, mut odd) = (SequenceSet::default(), SequenceSet::default());
        for number in 0..1000 {
            if number % 2 == 0 {
                even.insert(number)
            } else {
                odd.insert(number)
            };
        }
        let mut first = SequenceSet::default();
        for number in 0..300 {
            first.insert(number);
        }
        assert_eq!(even.clone().union(odd).len(), 1000);
        assert_eq!(even.clone().union(first.clone()).len(), 150 + 500);
        assert_eq!(first.union(even).len(), 150 + 500);
    }
}
