//! Outstanding values in the order of their numbers: a queue's unacknowledged deliveries.

use crate::lists::{ListItem, PieceList};

/// Values under increasing numbers. Adding at the end, removing any one and removing all up to a
/// number cost a constant amortised; memory follows what is held, not the span of the numbers.
#[derive(Debug, Clone)]
pub struct Ledger<T> {
    items: PieceList<LedgerItem<T>>,
    held: usize,
}

/// A number, and its value until that is taken out.
#[derive(Debug, Clone)]
struct LedgerItem<T>(u64, Option<T>);

impl<T> ListItem for LedgerItem<T> {
    const KEPT: usize = 1024;

    #[inline]
    fn number(&self) -> u64 {
        self.0
    }

    #[inline]
    fn is_hole(&self) -> bool {
        self.1.is_none()
    }
}

impl<T> Default for Ledger<T> {
    fn default() -> Self {
        Self { items: PieceList::default(), held: 0 }
    }
}

impl<T> Ledger<T> {
    /// How many values are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held
    }

    /// Bytes of memory held, without what the values own.
    #[must_use]
    #[inline]
    pub fn pinned(&self) -> usize {
        self.items.capacity() * size_of::<LedgerItem<T>>()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Adds a value; `number` is greater than every number before.
    #[inline]
    pub fn push(&mut self, number: u64, value: T) {
        debug_assert!(self.items.back().is_none_or(|last| last.0 < number));
        self.items.push_back(LedgerItem(number, Some(value)));
        self.held += 1;
    }

    /// Takes out the value under `number`.
    #[inline]
    pub fn remove(&mut self, number: u64) -> Option<T> {
        let place = self.items.position(number)?;
        let line = self.items.get_mut(place).filter(|line| line.0 == number)?;
        let value = line.1.take()?;
        self.held -= 1;
        self.items.left(place);
        Some(value)
    }

    /// The value under `number`.
    #[inline]
    pub fn get(&self, number: u64) -> Option<&T> {
        // Most channels have one consumer.
        let LedgerItem(first, value) = self.items.front()?;
        if *first == number {
            return value.as_ref();
        }
        self.items.get(self.items.position(number)?).filter(|line| line.0 == number)?.1.as_ref()
    }

    /// Takes out the first value if its number is at most `number`.
    #[inline]
    pub fn pop_up_to(&mut self, number: u64) -> Option<(u64, T)> {
        self.items.front().filter(|first| first.0 <= number)?;
        let LedgerItem(first, value) = self.items.pop_held()?;
        self.held -= 1;
        Some((first, value?))
    }

    /// The values with numbers above one, in order.
    pub fn behind(&self, number: u64) -> impl Iterator<Item = (u64, &T)> {
        self.from(number.saturating_add(1))
    }

    /// The values in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.items.iter().filter_map(|LedgerItem(number, value)| Some((*number, value.as_ref()?)))
    }

    /// The values in order, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.items.iter_mut().filter_map(|line| line.1.as_mut())
    }

    /// The value under `number`.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let place = self.items.position(number)?;
        self.items.get_mut(place).filter(|line| line.0 == number)?.1.as_mut()
    }

    /// The first value whose number is at least `number`, with its number.
    #[must_use]
    pub fn first_from(&self, number: u64) -> Option<(u64, &T)> {
        self.from(number).next()
    }

    fn from(&self, number: u64) -> impl Iterator<Item = (u64, &T)> {
        let from = self.items.from(number);
        from.filter_map(|LedgerItem(number, value)| Some((*number, value.as_ref()?)))
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
        assert!(ledger.items.len() <= 34, "{}", ledger.items.len());
    }

    #[test]
    fn what_is_empty_holds_little_memory() {
        let mut ledger = Ledger::default();
        for number in 0..100_000 {
            ledger.push(number, ());
        }
        while ledger.pop_up_to(u64::MAX).is_some() {}
        assert!(ledger.items.capacity() <= 2 * LedgerItem::<()>::KEPT);
    }
}
