//! Up to 64 deliveries of one queue whose tags and numbers follow each other: they take the room of
//! one.

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryRun {
    tag: u64,
    /// The delivery under `tag`.
    first: Outstanding,
    /// Bit n: the delivery under `tag + n` is held. Bits behind the last one are free to be set.
    held: u64,
}

impl DeliveryRun {
    /// Tags that it may span.
    pub(super) const MAX: u64 = 64;

    /// One delivery.
    #[inline]
    #[must_use]
    pub fn new(tag: u64, first: Outstanding) -> Self {
        Self { tag, first, held: 1 }
    }

    /// No delivery has a lower tag.
    #[inline]
    #[must_use]
    pub fn tag(&self) -> u64 {
        self.tag
    }

    /// How many are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.count_ones() as usize
    }

    /// Whether nothing is held.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Adds a delivery if it follows the last one.
    #[inline]
    pub(super) fn add(&mut self, tag: u64, one: Outstanding) -> bool {
        let distance = tag.wrapping_sub(self.tag);
        let follows = distance < Self::MAX && self.fits(distance, &one);
        if follows {
            self.held |= 1 << distance;
        }
        follows
    }

    /// Whether a delivery has the number that belongs so far behind `tag`.
    #[inline]
    fn fits(&self, distance: u64, one: &Outstanding) -> bool {
        one.number.wrapping_sub(self.first.number) == distance
            && one.queue == self.first.queue
            && one.home == self.first.home
    }

    /// Adds the deliveries of another run, whose tags are not lower, if all of them have a place.
    pub(super) fn join(&mut self, other: &Self) -> bool {
        let distance = other.tag.wrapping_sub(self.tag);
        let has_places = distance < Self::MAX
            && self.fits(distance, &other.first)
            && distance <= u64::from(other.held.leading_zeros());
        if has_places {
            self.held |= other.held << distance;
        }
        has_places
    }

    /// Whether the first delivery of another run has the tag behind the last one here.
    pub(super) fn is_followed_by(&self, other: &Self) -> bool {
        let begin = other.tag + u64::from(other.held.trailing_zeros());
        self.held.checked_ilog2().is_some_and(|bit| self.tag + u64::from(bit) + 1 == begin)
    }

    /// The bit of a tag whose delivery is held.
    #[inline]
    fn bit(&self, tag: u64) -> Option<u64> {
        let distance = tag.wrapping_sub(self.tag);
        (distance < Self::MAX && self.held >> distance & 1 == 1).then_some(distance)
    }

    /// Whether the delivery under `tag` is held.
    #[inline]
    pub(super) fn holds(&self, tag: u64) -> bool {
        self.bit(tag).is_some()
    }

    /// Whether one of them is this delivery of a queue.
    pub(super) fn has(&self, queue: QueueId, number: u64) -> bool {
        let bit = number.wrapping_sub(self.first.number);
        self.first.queue == queue && bit < Self::MAX && self.held >> bit & 1 == 1
    }

    /// Takes out the delivery under `tag`.
    #[inline]
    pub(super) fn remove(&mut self, tag: u64) -> Option<Outstanding> {
        let bit = self.bit(tag)?;
        self.held &= !(1 << bit);
        Some(self.delivery(bit))
    }

    /// Takes out the first delivery if its tag is at most `tag`. Something is held.
    #[inline]
    pub(super) fn pop_up_to(&mut self, tag: u64) -> Option<(u64, Outstanding)> {
        let bit = u64::from(self.held.trailing_zeros());
        let first = self.tag + bit;
        if first > tag {
            return None;
        }
        self.held &= self.held - 1;
        Some((first, self.delivery(bit)))
    }

    /// Takes out the delivery with the lowest tag.
    pub fn pop_first(&mut self) -> Option<Outstanding> {
        if self.is_empty() {
            return None;
        }
        self.pop_up_to(u64::MAX).map(|(_, delivery)| delivery)
    }

    /// Takes out the first deliveries with tags up to `tag`, at most `most`.
    #[inline]
    pub(super) fn split_up_to(&mut self, tag: u64, most: usize) -> Option<Self> {
        let last = tag.checked_sub(self.tag)?.min(Self::MAX - 1);
        let mut taken = self.held & (u64::MAX >> (Self::MAX - 1 - last));
        while taken.count_ones() as usize > most {
            taken &= !(1 << taken.ilog2());
        }
        self.held &= !taken;
        (taken != 0).then_some(Self { held: taken, ..*self })
    }

    /// The delivery with the greatest tag.
    #[inline]
    #[must_use]
    pub fn last(&self) -> Option<Outstanding> {
        self.held.checked_ilog2().map(|bit| self.delivery(u64::from(bit)))
    }

    /// The deliveries in the order of their tags.
    pub fn deliveries(&self) -> impl Iterator<Item = Outstanding> + use<> {
        let (run, mut held) = (*self, self.held);
        std::iter::from_fn(move || {
            let bit = (held != 0).then(|| u64::from(held.trailing_zeros()))?;
            held &= held - 1;
            Some(run.delivery(bit))
        })
    }

    #[inline]
    fn delivery(&self, bit: u64) -> Outstanding {
        Outstanding { number: self.first.number + bit, ..self.first }
    }
}
