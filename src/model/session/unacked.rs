//! A channel's deliveries by tag that the client has not settled: up to 64 that follow each other
//! take the room of one.

use crate::ids::QueueId;
use crate::lists::{ItemPlace, ListItem, PieceList};
use crate::session::delivery_run::{DeliveryRun, Outstanding};

/// Deliveries in the order of their tags. Adding at the end, removing any one and removing all up
/// to a tag cost a constant amortised, or the logarithm of how many there are.
#[derive(Debug, Clone, Default)]
pub struct Unacked {
    runs: PieceList<DeliveryRun>,
    held: usize,
}

impl ListItem for DeliveryRun {
    const KEPT: usize = 64;

    #[inline]
    fn number(&self) -> u64 {
        self.tag()
    }

    #[inline]
    fn is_hole(&self) -> bool {
        self.is_empty()
    }
}

impl Unacked {
    /// How many are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn pinned(&self) -> usize {
        self.runs.capacity() * size_of::<DeliveryRun>()
    }

    /// Adds a delivery; `tag` is greater than every tag before.
    #[inline]
    pub fn push(&mut self, tag: u64, one: Outstanding) {
        self.held += 1;
        if !self.runs.back_mut().is_some_and(|last| !last.is_empty() && last.add(tag, one)) {
            self.runs.push_back(DeliveryRun::new(tag, one));
        }
    }

    /// Whether the delivery under `tag` is held.
    #[must_use]
    pub fn contains(&self, tag: u64) -> bool {
        let run = self.runs.position(tag).and_then(|place| self.runs.get(place));
        run.is_some_and(|run| run.holds(tag))
    }

    /// Whether one of them is this delivery of a queue.
    #[must_use]
    pub fn has(&self, queue: QueueId, number: u64) -> bool {
        self.runs.iter().any(|run| run.has(queue, number))
    }

    /// Takes out the delivery under `tag`.
    #[inline]
    pub fn remove(&mut self, tag: u64) -> Option<Outstanding> {
        let place = self.runs.position(tag)?;
        let run = self.runs.get_mut(place)?;
        let one = run.remove(tag)?;
        self.held -= 1;
        if run.is_empty() {
            self.runs.left(place);
        }
        Some(one)
    }

    /// Takes out the first delivery if its tag is at most `tag`.
    #[inline]
    pub fn pop_up_to(&mut self, tag: u64) -> Option<(u64, Outstanding)> {
        let run = self.runs.front_mut()?;
        let one = run.pop_up_to(tag)?;
        self.held -= 1;
        if run.is_empty() {
            self.runs.left(ItemPlace::FIRST);
        }
        Some(one)
    }

    /// Takes out the first deliveries that take the room of one, as far as their tags are at most
    /// `tag`, and at most `most` of them.
    #[inline]
    pub fn pop_run_up_to(&mut self, tag: u64, most: usize) -> Option<DeliveryRun> {
        let run = self.runs.front_mut()?;
        let taken = run.split_up_to(tag, most)?;
        self.held -= taken.len();
        if run.is_empty() {
            self.runs.left(ItemPlace::FIRST);
        }
        Some(taken)
    }

    /// Puts deliveries back that were taken out, under their tags.
    pub fn restore(&mut self, mut taken: Vec<DeliveryRun>) {
        taken.sort_unstable_by_key(DeliveryRun::tag);
        let mut kept = std::mem::take(self).runs;
        let kept = std::iter::from_fn(|| kept.pop_front());
        let (mut kept, mut taken) = (kept.peekable(), taken.into_iter().peekable());
        loop {
            let next = match (kept.peek(), taken.peek()) {
                (Some(one), Some(other)) if one.tag() <= other.tag() => kept.next(),
                (_, Some(_)) => taken.next(),
                _ => kept.next(),
            };
            match next {
                Some(run) => self.append(run),
                None => return,
            }
        }
    }

    /// Adds deliveries whose first tag is not less than that of any run before.
    fn append(&mut self, run: DeliveryRun) {
        self.held += run.len();
        let joined = self.runs.back_mut().is_some_and(|last| last.join(&run));
        if !joined && !run.is_empty() {
            self.runs.push_back(run);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::ids::ShardId;

    fn one(queue: u64, number: u64) -> Outstanding {
        Outstanding { queue: QueueId(queue), home: ShardId(0), number }
    }

    proptest! {
        #[test]
        fn it_is_a_sorted_map(steps in prop::collection::vec((0u8..8, 0u64..100), 0..600)) {
            let (mut unacked, mut map) = (Unacked::default(), BTreeMap::new());
            let (mut tag, mut numbers) = (0, [0; 2]);
            for (step, n) in steps {
                match step {
                    0..=3 => {
                        // Mostly one queue, now and then a tag or a number is left out.
                        let queue = usize::from(n % 11 == 0);
                        tag += 1 + u64::from(n % 13 == 0);
                        numbers[queue] += 1 + u64::from(n % 17 == 0);
                        let one = one(queue as u64, numbers[queue]);
                        unacked.push(tag, one);
                        map.insert(tag, one);
                    }
                    4..=5 => {
                        let tag = tag.saturating_sub(n);
                        prop_assert_eq!(unacked.contains(tag), map.contains_key(&tag));
                        prop_assert_eq!(unacked.remove(tag), map.remove(&tag));
                    }
                    6 if n % 2 == 0 => {
                        let (up_to, most) = (tag.saturating_sub(n), 1 + n as usize % 5);
                        let popped = unacked.pop_run_up_to(up_to, most);
                        let due = map.range(..=up_to).take(popped.map_or(1, |run| run.len()));
                        let due: Vec<_> = due.map(|(tag, one)| (*tag, *one)).collect();
                        let one_by_one = popped.iter().flat_map(DeliveryRun::deliveries);
                        let expected: Vec<_> = due.iter().map(|(_, one)| *one).collect();
                        prop_assert_eq!(one_by_one.collect::<Vec<_>>(), expected);
                        let last = due.last().map(|(_, one)| *one);
                        prop_assert_eq!(popped.and_then(|run| run.last()), last);
                        prop_assert!(due.len() <= most);
                        prop_assert!(due.iter().all(|(_, one)| one.queue == due[0].1.queue));
                        map.retain(|tag, _| due.iter().all(|(gone, _)| gone != tag));
                    }
                    6 => {
                        let up_to = tag.saturating_sub(n);
                        let due = map.first_key_value().map(|(tag, one)| (*tag, *one));
                        let due = due.filter(|(tag, _)| *tag <= up_to);
                        prop_assert_eq!(unacked.pop_up_to(up_to), due);
                        if let Some((tag, _)) = due { map.remove(&tag); }
                    }
                    _ => {
                        // In any order, some of them several at once.
                        let mut taken: Vec<DeliveryRun> = Vec::new();
                        let mut tags: Vec<u64> =
                            map.keys().copied().filter(|tag| tag % 3 == n % 3).collect();
                        let middle = (n as usize).min(tags.len());
                        tags.rotate_left(middle);
                        for tag in tags {
                            taken.push(DeliveryRun::new(tag, unacked.remove(tag).unwrap()));
                        }
                        while n % 2 == 0 && let Some(run) = unacked.pop_run_up_to(n, usize::MAX) {
                            taken.push(run);
                        }
                        unacked.restore(taken);
                    }
                }
                prop_assert_eq!(unacked.len(), map.len());
            }
            let rest = std::iter::from_fn(|| unacked.pop_up_to(u64::MAX));
            prop_assert_eq!(rest.collect::<Vec<_>>(), map.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn deliveries_of_one_queue_take_less_than_two_bytes_each() {
        let mut unacked = Unacked::default();
        (1..=100_000).for_each(|n| unacked.push(n, one(1, n)));
        assert!(unacked.pinned() < 200_000, "{}", unacked.pinned());
        (1..=99_990).for_each(|tag| assert_eq!(unacked.remove(tag), Some(one(1, tag))));
        assert!(unacked.pinned() <= 2 * DeliveryRun::KEPT * size_of::<DeliveryRun>());
    }

    #[test]
    fn one_that_stays_does_not_pin_those_that_go() {
        let mut unacked = Unacked::default();
        unacked.push(1, one(1, 1));
        for tag in 2..100_000 {
            unacked.push(tag, one(2, tag % 7));
            unacked.remove(tag);
        }
        assert!(unacked.runs.len() <= 96, "{}", unacked.runs.len());
    }
}
