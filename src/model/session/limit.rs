//! The limit that the consumers of one channel share (basic.qos with global), kept where the
//! channel is. It decides which consumer may get another message, and which waits.
//!
//! ```text
//!   home                                   channel
//!    | -- ask: 3 messages are ready --------> |  held + granted < most?
//!    | <-- permits: 2 ---------------------- |  granted += 2
//!    | == two deliveries ==================> |  granted -= 2, held += 2
//!    | -- ask: 1 --------------------------> |  reached: the consumer waits
//!    | <-- permits: 0 ---------------------- |
//!    |                                       |  the client settles one: held -= 1
//!    | <-- permits: 1 ---------------------- |
//!    | -- unused: 1 -----------------------> |  the next waiting consumer
//! ```
//!
//! The count includes unsettled deliveries, also those of basic.get, and permits that have not come
//! back as a delivery.

use std::collections::BTreeMap;

use crate::ids::{ConsumerId, QueueId, ShardId};
use crate::mutant::{self, Mutant};

/// A consumer with ready messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Its queue's home.
    pub home: ShardId,
    /// Its queue.
    pub queue: QueueId,
    /// The consumer.
    pub consumer: ConsumerId,
    /// Its slot at its home shard.
    pub slot: usize,
    /// How many messages are ready, as far as permits are requested.
    pub count: u32,
}

/// A channel's limit. 0 means that nothing may be sent; a channel without a limit has no value of
/// this type.
#[derive(Debug, Default)]
pub struct Limit {
    /// The most unsettled deliveries.
    most: u32,
    /// Permits granted that have not come back, as a delivery or unused.
    granted: u32,
    /// Waiting consumers, in the order of their requests.
    waiting: BTreeMap<u64, Candidate>,
    /// The place of each consumer in `waiting`.
    places: BTreeMap<ConsumerId, u64>,
    next_place: u64,
}

impl Limit {
    /// Sets the limit; [`Self::next`] then serves waiting consumers.
    pub fn set(&mut self, most: u32) {
        self.most = most;
    }

    /// The limit.
    #[must_use]
    pub fn most(&self) -> u32 {
        self.most
    }

    /// Grants permits to a consumer while the channel holds `held` deliveries. 0: it waits behind
    /// consumers that asked before.
    pub fn ask(&mut self, held: usize, candidate: Candidate) -> u32 {
        let free = if self.waiting.is_empty() { self.free(held) } else { 0 };
        let count = candidate.count.min(free);
        if count == 0 {
            self.waiting.insert(self.next_place, candidate);
            self.places.insert(candidate.consumer, self.next_place);
            self.next_place += 1;
        }
        self.granted += count;
        count
    }

    /// The next waiting consumer that gets permits. All waiting consumers share what is free.
    pub fn next(&mut self, held: usize) -> Option<Candidate> {
        let free = self.free(held);
        if free == 0 {
            return None;
        }
        let share = (free as usize / self.waiting.len().max(1)).max(1);
        let (_, mut first) = self.waiting.pop_first()?;
        self.places.remove(&first.consumer);
        // At most `free`.
        first.count = first.count.min(share as u32);
        self.granted += first.count;
        Some(first)
    }

    /// A permit came back as a delivery.
    #[inline]
    pub fn spent(&mut self) {
        self.granted = self.granted.saturating_sub(1);
    }

    /// Permits came back unused.
    pub fn returned(&mut self, count: u32) {
        if !mutant::active(Mutant::PermitNotReturned) {
            self.granted = self.granted.saturating_sub(count);
        }
    }

    /// The consumer is gone. A permit under way to it comes back unused.
    pub fn forget(&mut self, consumer: ConsumerId) {
        if let Some(place) = self.places.remove(&consumer) {
            self.waiting.remove(&place);
        }
    }

    fn free(&self, held: usize) -> u32 {
        let more = u32::from(mutant::active(Mutant::LimitPlusOne) && self.most > 0);
        // With more than u32::MAX deliveries nothing is free either.
        let held = u32::try_from(held).unwrap_or(u32::MAX);
        (self.most + more).saturating_sub(held.saturating_add(self.granted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(consumer: u64, count: u32) -> Candidate {
        let (home, queue, slot) = (ShardId(0), QueueId(consumer), 0);
        Candidate { home, queue, consumer: ConsumerId(consumer), slot, count }
    }

    fn limit(most: u32) -> Limit {
        let mut limit = Limit::default();
        limit.set(most);
        limit
    }

    fn served(limit: &mut Limit, held: usize) -> Vec<(u64, u32)> {
        let mut served = Vec::new();
        while let Some(next) = limit.next(held) {
            served.push((next.consumer.0, next.count));
        }
        served
    }

    #[test]
    fn what_is_held_and_what_is_granted_count_together() {
        let mut limit = limit(5);
        assert_eq!(limit.ask(2, candidate(1, 2)), 2);
        assert_eq!(limit.ask(2, candidate(2, 9)), 1);
        assert_eq!(limit.ask(2, candidate(3, 1)), 0);
        // One permit became a delivery, which is held now: nothing is free.
        limit.spent();
        assert_eq!(limit.next(3), None);
        limit.returned(1);
        assert_eq!(served(&mut limit, 3), [(3, 1)]);
        assert_eq!(limit.next(3), None);
    }

    #[test]
    fn what_is_free_is_shared_in_the_order_of_asking() {
        let mut limit = limit(0);
        for consumer in 1..=3 {
            assert_eq!(limit.ask(0, candidate(consumer, 10)), 0);
        }
        limit.set(7);
        assert_eq!(served(&mut limit, 0), [(1, 2), (2, 2), (3, 3)]);
        limit.set(8);
        assert_eq!(served(&mut limit, 0), []);
    }

    #[test]
    fn who_asks_again_does_not_overtake_those_who_wait() {
        let mut limit = limit(0);
        limit.ask(0, candidate(1, 1));
        limit.ask(0, candidate(2, 9));
        limit.set(4);
        assert_eq!(limit.next(0).map(|next| (next.consumer.0, next.count)), Some((1, 1)));
        assert_eq!(limit.ask(0, candidate(1, 1)), 0);
        assert_eq!(served(&mut limit, 0), [(2, 1), (1, 1)]);
    }

    #[test]
    fn a_lowered_limit_waits_for_settles() {
        let mut limit = limit(10);
        limit.set(2);
        assert_eq!(limit.ask(10, candidate(1, 1)), 0);
        assert_eq!(limit.next(2), None);
        assert_eq!(served(&mut limit, 1), [(1, 1)]);
    }

    #[test]
    fn one_that_is_gone_is_not_served() {
        let mut limit = limit(0);
        limit.ask(0, candidate(1, 1));
        limit.ask(0, candidate(2, 1));
        limit.forget(ConsumerId(1));
        limit.set(5);
        assert_eq!(served(&mut limit, 0), [(2, 1)]);
    }
}
