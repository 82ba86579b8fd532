//! A channel's deliveries by tag that the client has not settled: up to 64 that follow each other
//! take the room of one.

use std::collections::VecDeque;

use crate::ids::{QueueId, ShardId};

/// A delivery that the client has not settled: its queue, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outstanding {
    /// The queue.
    pub queue: QueueId,
    /// The queue's home.
    pub home: ShardId,
    /// The delivery's number at the home shard.
    pub number: u64,
}

/// Deliveries with tags and numbers that follow each other.
#[derive(Debug, Clone, Copy)]
struct DeliveryRun {
    tag: u64,
    /// The delivery under `tag`.
    first: Outstanding,
    /// Bit n: the delivery under `tag + n` is held. Bits behind the last one are free to be set.
    held: u64,
}

impl DeliveryRun {
    const MAX: u64 = 64;

    fn new(tag: u64, first: Outstanding) -> Self {
        Self { tag, first, held: 1 }
    }

    /// Adds a delivery if it follows the last one.
    #[inline]
    fn add(&mut self, tag: u64, one: Outstanding) -> bool {
        let distance = tag.wrapping_sub(self.tag);
        let follows = distance < Self::MAX
            && one.number.wrapping_sub(self.first.number) == distance
            && one.queue == self.first.queue
            && one.home == self.first.home;
        if follows {
            self.held |= 1 << distance;
        }
        follows
    }

    /// The bit of a tag whose delivery is held.
    #[inline]
    fn bit(&self, tag: u64) -> Option<u64> {
        let distance = tag.wrapping_sub(self.tag);
        (distance < Self::MAX && self.held >> distance & 1 == 1).then_some(distance)
    }

    /// The first deliveries held up to a tag, at most `most`: their bits, and the last one.
    fn due(&self, tag: u64, most: usize) -> Option<(u64, u64)> {
        let distance = tag.checked_sub(self.tag)?.min(Self::MAX - 1);
        let mut due = self.held & (u64::MAX >> (Self::MAX - 1 - distance));
        let mut last = due.checked_ilog2()?;
        while due.count_ones() as usize > most {
            due &= !(1 << last);
            last = due.checked_ilog2()?;
        }
        Some((due, u64::from(last)))
    }

    fn delivery(&self, bit: u64) -> Outstanding {
        Outstanding { number: self.first.number + bit, ..self.first }
    }
}

/// Deliveries in the order of their tags. Adding at the end, removing any one and removing all up
/// to a tag cost a constant amortised, or the logarithm of how many there are.
#[derive(Debug, Clone, Default)]
pub struct Unacked {
    runs: VecDeque<DeliveryRun>,
    held: usize,
    /// Runs in `runs` of which nothing is held.
    empty: usize,
}

impl Unacked {
    /// Empty runs that are tolerated before the list is compacted.
    const SLACK: usize = 32;
    /// Runs that memory is kept for when a longer list is empty.
    const KEPT: usize = 64;

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
        if !self.runs.back_mut().is_some_and(|last| last.held != 0 && last.add(tag, one)) {
            self.runs.push_back(DeliveryRun::new(tag, one));
        }
    }

    /// Whether the delivery under `tag` is held.
    #[must_use]
    pub fn contains(&self, tag: u64) -> bool {
        let run = self.position(tag).and_then(|at| self.runs.get(at));
        run.is_some_and(|run| run.bit(tag).is_some())
    }

    /// Whether one of them is this delivery of a queue.
    #[must_use]
    pub fn has(&self, queue: QueueId, number: u64) -> bool {
        self.runs.iter().any(|run| {
            let bit = number.wrapping_sub(run.first.number);
            run.first.queue == queue && bit < DeliveryRun::MAX && run.held >> bit & 1 == 1
        })
    }

    /// Takes out the delivery under `tag`.
    #[inline]
    pub fn remove(&mut self, tag: u64) -> Option<Outstanding> {
        let at = self.position(tag)?;
        let run = self.runs.get_mut(at)?;
        let bit = run.bit(tag)?;
        run.held &= !(1 << bit);
        let one = run.delivery(bit);
        self.held -= 1;
        if run.held == 0 {
            self.empty += 1;
            self.tidy();
        }
        Some(one)
    }

    /// Takes out the first delivery if its tag is at most `tag`.
    #[inline]
    pub fn pop_up_to(&mut self, tag: u64) -> Option<(u64, Outstanding)> {
        let run = self.runs.front_mut()?;
        let bit = u64::from(run.held.trailing_zeros());
        let first = run.tag + bit;
        if first > tag {
            return None;
        }
        run.held &= run.held - 1;
        let one = run.delivery(bit);
        self.held -= 1;
        if run.held == 0 {
            self.empty += 1;
            self.tidy();
        }
        Some((first, one))
    }

    /// Takes out what the first run holds up to a tag, at most `most` deliveries, which is not 0.
    /// Returns how many these are, and the last of them: all are of one queue.
    #[inline]
    pub fn pop_run_up_to(&mut self, tag: u64, most: usize) -> Option<(usize, Outstanding)> {
        let run = self.runs.front_mut()?;
        let (due, last) = run.due(tag, most)?;
        run.held &= !due;
        let one = run.delivery(last);
        // At most as many as a run holds.
        let taken = due.count_ones() as usize;
        self.held -= taken;
        if run.held == 0 {
            self.empty += 1;
            self.tidy();
        }
        Some((taken, one))
    }

    /// Puts deliveries back that were taken out, under their tags.
    pub fn restore(&mut self, mut values: Vec<(u64, Outstanding)>) {
        let mut kept = std::mem::take(self);
        while let Some(one) = kept.pop_up_to(u64::MAX) {
            values.push(one);
        }
        values.sort_unstable_by_key(|(tag, _)| *tag);
        values.into_iter().for_each(|(tag, one)| self.push(tag, one));
    }

    /// The run that a tag may be in: usually the first or the last one.
    #[inline]
    fn position(&self, tag: u64) -> Option<usize> {
        if tag.wrapping_sub(self.runs.front()?.tag) < DeliveryRun::MAX {
            let second = self.runs.get(1);
            if second.is_none_or(|second| tag < second.tag) {
                return Some(0);
            }
        }
        self.runs.partition_point(|run| run.tag <= tag).checked_sub(1)
    }

    /// The first run holds something, and most of the others do.
    fn tidy(&mut self) {
        while self.runs.pop_front_if(|run| run.held == 0).is_some() {
            self.empty -= 1;
        }
        if self.empty > self.runs.len() / 2 + Self::SLACK {
            self.runs.retain(|run| run.held != 0);
            self.empty = 0;
        }
        let (len, capacity) = (self.runs.len(), self.runs.capacity());
        if capacity > Self::KEPT && len < capacity / 4 {
            self.runs.shrink_to((2 * len).max(Self::KEPT));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

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
                        let due = map.range(..=up_to).take(popped.map_or(1, |(taken, _)| taken));
                        let due: Vec<_> = due.map(|(tag, one)| (*tag, *one)).collect();
                        let last = due.last().map(|(_, one)| *one);
                        prop_assert_eq!(popped.map(|(_, last)| last), last);
                        prop_assert!(popped.is_none_or(|(taken, _)| taken == due.len()));
                        prop_assert!(due.len() <= most);
                        prop_assert!(due.iter().all(|(_, one)| one.queue == due[0].1.queue));
                        due.iter().for_each(|(tag, _)| assert!(map.remove(tag).is_some()));
                    }
                    6 => {
                        let up_to = tag.saturating_sub(n);
                        let due = map.first_key_value().map(|(tag, one)| (*tag, *one));
                        let due = due.filter(|(tag, _)| *tag <= up_to);
                        prop_assert_eq!(unacked.pop_up_to(up_to), due);
                        if let Some((tag, _)) = due { map.remove(&tag); }
                    }
                    _ => {
                        let taken: Vec<u64> =
                            map.keys().copied().filter(|tag| tag % 3 == n % 3).collect();
                        let taken = taken.into_iter();
                        let taken = taken.map(|tag| (tag, unacked.remove(tag).unwrap())).collect();
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
        assert!(unacked.pinned() <= 2 * Unacked::KEPT * size_of::<DeliveryRun>());
    }

    #[test]
    fn one_that_stays_does_not_pin_those_that_go() {
        let mut unacked = Unacked::default();
        unacked.push(1, one(1, 1));
        for tag in 2..100_000 {
            unacked.push(tag, one(2, tag % 7));
            unacked.remove(tag);
        }
        assert!(unacked.runs.len() <= 3 * Unacked::SLACK, "{}", unacked.runs.len());
    }
}
