//! A set of sequence numbers that costs nothing while they come in order.

use std::collections::VecDeque;

/// How far ahead of the first gap a number may be; further is no number of this run.
const AHEAD_MAX: u64 = 1 << 33;

/// Everything below a floor, and a bitmap above it: one bit a message between the oldest gap and
/// the newest number.
#[derive(Debug, Default, Clone)]
pub struct Sequences {
    /// All numbers below 64 times this are in.
    floor: u64,
    words: VecDeque<u64>,
    len: u64,
}

/// What became of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Insert {
    /// It is in for the first time.
    New,
    /// It was in before.
    Duplicate,
    /// It is too far ahead to be one.
    Absurd,
}

impl Sequences {
    /// Puts a number in.
    #[inline]
    pub fn insert(&mut self, number: u64) -> Insert {
        let (word, bit) = (number / 64, 1u64 << (number % 64));
        let Some(index) = word.checked_sub(self.floor) else {
            return Insert::Duplicate;
        };
        if index > AHEAD_MAX / 64 {
            return Insert::Absurd;
        }
        let index = index as usize;
        if index >= self.words.len() {
            self.words.resize(index + 1, 0);
        }
        if self.words[index] & bit != 0 {
            return Insert::Duplicate;
        }
        self.words[index] |= bit;
        self.len += 1;
        while self.words.front() == Some(&u64::MAX) {
            self.words.pop_front();
            self.floor += 1;
        }
        Insert::New
    }

    /// How many numbers are in.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Puts all of `other` in.
    #[must_use]
    pub fn union(self, other: Sequences) -> Sequences {
        let (high, low) = if self.floor >= other.floor { (self, other) } else { (other, self) };
        let mut union = Sequences { floor: high.floor, words: high.words, len: 0 };
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
    fn in_order_it_holds_one_word() {
        let mut seen = Sequences::default();
        for number in 0..100_000 {
            assert_eq!(seen.insert(number), Insert::New);
            assert!(seen.words.len() <= 1);
        }
        assert_eq!(seen.insert(500), Insert::Duplicate);
        assert_eq!(seen.insert(99_999), Insert::Duplicate);
        assert_eq!(seen.len(), 100_000);
    }

    #[test]
    fn gaps_close_later() {
        let mut seen = Sequences::default();
        for number in (0..1000).rev() {
            assert_eq!(seen.insert(number), Insert::New);
        }
        assert_eq!((seen.len(), seen.floor), (1000, 15));
        assert_eq!(seen.insert(u64::MAX), Insert::Absurd);
    }

    #[test]
    fn a_union_counts_each_number_once() {
        let (mut even, mut odd) = (Sequences::default(), Sequences::default());
        for number in 0..1000 {
            if number % 2 == 0 {
                even.insert(number)
            } else {
                odd.insert(number)
            };
        }
        let mut first = Sequences::default();
        for number in 0..300 {
            first.insert(number);
        }
        assert_eq!(even.clone().union(odd).len(), 1000);
        assert_eq!(even.clone().union(first.clone()).len(), 150 + 500);
        assert_eq!(first.union(even).len(), 150 + 500);
    }
}
