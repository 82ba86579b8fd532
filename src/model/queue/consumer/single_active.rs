//! Which consumer of a queue is its single active one, and who takes its place.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::mutant::{self, Mutant};

/// Its priority, the highest first, and its place in the order of registration.
type Place = (Reverse<i64>, u64);

/// The consumers of a queue with `x-single-active-consumer`, by their slots. The active one stays
/// active until it is gone, whatever the priorities of those that come later.
#[derive(Debug, Default, Hash)]
pub(super) struct SingleActive {
    active: Option<usize>,
    /// The slots of those that wait.
    waiting: BTreeMap<Place, usize>,
    /// The places of those slots.
    places: BTreeMap<usize, Place>,
    registered: u64,
}

impl SingleActive {
    /// The slot of the active consumer.
    pub fn active(&self) -> Option<usize> {
        self.active
    }

    /// A consumer registers. True if it is active at once, since there is no other.
    pub fn add(&mut self, slot: usize, priority: i64) -> bool {
        if self.active.is_none() {
            self.active = Some(slot);
            return true;
        }
        let place = (Reverse(priority), self.registered);
        self.registered += 1;
        self.waiting.insert(place, slot);
        self.places.insert(slot, place);
        mutant::active(Mutant::SecondActive)
    }

    /// Forgets a consumer that is gone. Returns the slot of the one that becomes active.
    pub fn remove(&mut self, gone: usize) -> Option<usize> {
        if let Some(place) = self.places.remove(&gone) {
            self.waiting.remove(&place);
        }
        if self.active != Some(gone) || mutant::active(Mutant::ActiveOutlived) {
            return None;
        }
        let next = if mutant::active(Mutant::FailOverToNewest) {
            self.waiting.pop_last()
        } else {
            self.waiting.pop_first()
        };
        self.active = next.map(|(_, slot)| slot);
        if let Some(active) = &self.active {
            self.places.remove(active);
        }
        self.active
    }
}
