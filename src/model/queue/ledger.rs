//! Outstanding values in the order of their numbers: a queue's unacknowledged deliveries.

use std::collections::VecDeque;

/// Values under increasing numbers. Adding at the end, removing any one and removing all up to a
/// number cost a constant amortised; memory follows what is held, not the span of the numbers.
#[derive(Debug, Clone)]
pub struct Ledger<T> {
    items: VecDeque<(u64, Option<T>)>,
    held: usize,
}

impl<T> Default for Ledger<T> {
    fn default() -> Self {
        Self { items: VecDeque::new(), held: 0 }
    }
}

impl<T> Ledger<T> {
    /// Holes that are tolerated before the list is compacted.
    const SLACK: usize = 32;
    /// Values that memory is kept for when a longer list is empty.
    const KEPT: usize = 1024;

    /// How many values are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held
    }

    /// Bytes of memory held, without what the values own.
    #[must_use]
    #[inline]
    pub fn pinned(&self) -> usize {
        self.items.capacity() * size_of::<(u64, Option<T>)>()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Adds a value; `number` is greater than every number before.
    #[inline]
    pub fn push(&mut self, number: u64, value: T) {
        debug_assert!(self.items.back().is_none_or(|(last, _)| *last < number));
        self.items.push_back((number, Some(value)));
        self.held += 1;
    }

    /// Takes out the value under `number`.
    #[inline]
    pub fn remove(&mut self, number: u64) -> Option<T> {
        let at = self.position(number)?;
        let value = self.items.get_mut(at)?.1.take()?;
        self.held -= 1;
        self.tidy();
        Some(value)
    }

    /// The value under `number`.
    #[inline]
    pub fn get(&self, number: u64) -> Option<&T> {
        // Most channels have one consumer.
        let (first, value) = self.items.front()?;
        if *first == number {
            return value.as_ref();
        }
        self.items.get(self.position(number)?)?.1.as_ref()
    }

    /// Takes out the first value if its number is at most `number`.
    #[inline]
    pub fn pop_up_to(&mut self, number: u64) -> Option<(u64, T)> {
        while self.items.front().is_some_and(|(first, _)| *first <= number) {
            if let Some((first, Some(value))) = self.items.pop_front() {
                self.held -= 1;
                self.shrink();
                return Some((first, value));
            }
        }
        None
    }

    /// The values with numbers above one, in order.
    pub fn behind(&self, number: u64) -> impl Iterator<Item = (u64, &T)> {
        let first = self.items.partition_point(|(found, _)| *found <= number);
        self.items.range(first..).filter_map(|(number, value)| Some((*number, value.as_ref()?)))
    }

    /// The values in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.items.iter().filter_map(|(number, value)| Some((*number, value.as_ref()?)))
    }

    /// The values in order, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.items.iter_mut().filter_map(|(_, value)| value.as_mut())
    }

    /// The value under `number`.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let at = self.position(number)?;
        self.items.get_mut(at)?.1.as_mut()
    }

    /// The first value whose number is at least `number`, with its number.
    #[must_use]
    pub fn first_from(&self, number: u64) -> Option<(u64, &T)> {
        let from = self.items.partition_point(|(found, _)| *found < number);
        self.items.range(from..).find_map(|(found, value)| Some((*found, value.as_ref()?)))
    }

    /// The index of `number`: usually its distance from the first number.
    #[inline]
    fn position(&self, number: u64) -> Option<usize> {
        let first = self.items.front()?.0;
        let guess = usize::try_from(number.checked_sub(first)?).ok()?;
        if self.items.get(guess).is_some_and(|(found, _)| *found == number) {
            return Some(guess);
        }
        self.items.binary_search_by_key(&number, |(found, _)| *found).ok()
    }

    fn tidy(&mut self) {
        while self.items.front().is_some_and(|(_, value)| value.is_none()) {
            self.items.pop_front();
        }
        if self.items.len() > 2 * self.held + Self::SLACK {
            self.items.retain(|(_, value)| value.is_some());
        }
        self.shrink();
    }

    #[inline]
    fn shrink(&mut self) {
        let (len, capacity) = (self.items.len(), self.items.capacity());
        if capacity > Self::KEPT && len < capacity / 4 {
            self.items.shrink_to((2 * len).max(Self::KEPT));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_sorted_map(steps in prop::collection::vec((0u8..4, 0u64..40), 0..400)) {
            let (mut ledger, mut map, mut next) = (Ledger::default(), BTreeMap::new(), 0u64);
            for (step, n) in steps {
                match step {
                    0 | 1 => {
                        next += 1 + n % 3;
                        ledger.push(next, n);
                        map.insert(next, n);
                    }
                    2 => {
                        let number = next.saturating_sub(n);
                        prop_assert_eq!(ledger.remove(number), map.remove(&number));
                    }
                    _ => {
                        let number = next.saturating_sub(n);
                        let first = map.first_key_value().map(|(k, v)| (*k, *v));
                        let due = first.filter(|(k, _)| *k <= number);
                        prop_assert_eq!(ledger.pop_up_to(number), due);
                        if let Some((k, _)) = due { map.remove(&k); }
                    }
                }
                prop_assert_eq!(ledger.len(), map.len());
            }
            for number in 0..=next {
                let from = map.range(number..).next().map(|(k, v)| (*k, v));
                prop_assert_eq!(ledger.first_from(number), from);
            }
            let all: Vec<_> = ledger.iter().map(|(k, v)| (k, *v)).collect();
            prop_assert_eq!(all, map.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn one_that_stays_does_not_pin_those_that_go() {
        let mut ledger = Ledger::default();
        ledger.push(0, ());
        for number in 1..100_000 {
            ledger.push(number, ());
            ledger.remove(number);
        }
        assert!(ledger.items.len() <= 2 + Ledger::<()>::SLACK);
    }

    #[test]
    fn what_is_empty_holds_little_memory() {
        let mut ledger = Ledger::default();
        for number in 0..100_000 {
            ledger.push(number, ());
        }
        while ledger.pop_up_to(u64::MAX).is_some() {}
        assert!(ledger.items.capacity() <= 2 * Ledger::<()>::KEPT);
    }
}
