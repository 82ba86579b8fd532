//! A set of sequence numbers as ranges. Numbers settled in order are one range.

use std::collections::BTreeMap;

/// A set of numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges {
    /// First to last number of each range. Ranges neither touch nor overlap.
    ranges: BTreeMap<u64, u64>,
}

impl Ranges {
    /// Adds all numbers from `from` to `to`, both included.
    pub fn insert(&mut self, from: u64, to: u64) {
        if from > to {
            return;
        }
        if let Some(mut last) = self.ranges.last_entry()
            && last.get().checked_add(1) == Some(from)
        {
            // In order: nearly always.
            *last.get_mut() = to;
            return;
        }
        let (mut from, mut to) = (from, to);
        // Ranges that begin in it or right after it, then the one before it.
        while let Some((&first, &last)) = self.ranges.range(from..=to.saturating_add(1)).next() {
            to = to.max(last);
            self.ranges.remove(&first);
        }
        if let Some((&first, &last)) = self.ranges.range(..from).next_back()
            && last.saturating_add(1) >= from
        {
            from = first;
            to = to.max(last);
        }
        self.ranges.insert(from, to);
    }

    /// True if the number is in the set.
    #[must_use]
    pub fn contains(&self, number: u64) -> bool {
        self.ranges.range(..=number).next_back().is_some_and(|(_, last)| *last >= number)
    }

    /// True if all numbers from `from` to `to` are in the set.
    #[must_use]
    pub fn covers(&self, from: u64, to: u64) -> bool {
        self.ranges.range(..=from).next_back().is_some_and(|(_, last)| *last >= to)
    }

    /// True if any number from `from` to `to` is in the set.
    #[must_use]
    pub fn touches(&self, from: u64, to: u64) -> bool {
        self.ranges.range(..=to).next_back().is_some_and(|(_, last)| *last >= from)
    }

    /// Removes all numbers from `from` to `to`, both included.
    pub fn remove(&mut self, from: u64, to: u64) {
        while let Some((&first, &last)) = self.ranges.range(..=to).next_back() {
            if last < from {
                return;
            }
            self.ranges.remove(&first);
            if last > to {
                self.ranges.insert(to + 1, last);
            }
            if first < from {
                self.ranges.insert(first, from - 1);
                return;
            }
        }
    }

    /// The ranges in order: first and last number of each.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.ranges.iter().map(|(from, to)| (*from, *to))
    }

    /// True if the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn is_a_set(
            inserts in prop::collection::vec((0u64..60, 0u64..12), 0..40),
            removed in (0u64..70, 0u64..30),
            asked in (0u64..70, 0u64..12),
        ) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for (from, len) in inserts {
                ranges.insert(from, from + len);
                set.extend(from..=from + len);
            }
            let (from, to) = (removed.0, removed.0 + removed.1);
            ranges.remove(from, to);
            set.retain(|number| !(from..=to).contains(number));
            let listed: Vec<u64> = ranges.iter().flat_map(|(from, to)| from..=to).collect();
            prop_assert_eq!(listed, set.iter().copied().collect::<Vec<_>>());
            let apart = ranges.iter().zip(ranges.iter().skip(1)).all(|(a, b)| a.1 + 1 < b.0);
            prop_assert!(apart);
            let (from, to) = (asked.0, asked.0 + asked.1);
            prop_assert_eq!(ranges.contains(from), set.contains(&from));
            prop_assert_eq!(ranges.covers(from, to), (from..=to).all(|n| set.contains(&n)));
            prop_assert_eq!(ranges.touches(from, to), (from..=to).any(|n| set.contains(&n)));
        }
    }

    #[test]
    fn the_greatest_number_fits() {
        let mut ranges = Ranges::default();
        ranges.insert(u64::MAX, u64::MAX);
        ranges.insert(0, u64::MAX);
        assert!(ranges.covers(0, u64::MAX) && ranges.iter().count() == 1);
        ranges.insert(5, 4);
        assert!(ranges.iter().eq([(0, u64::MAX)]));
        ranges.remove(5, u64::MAX);
        assert!(ranges.iter().eq([(0, 4)]));
    }
}
