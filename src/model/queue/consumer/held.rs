//! Consumers of a queue that is held back while memory is short. Those that hold something wait
//! until they have settled it; the others wait only where a large message is next.

use crate::queue::consumer::round::Turn;
use crate::queue::consumer::{Consumers, Slot, Standing, holds};

impl Consumers {
    /// Whether the consumer has something to settle.
    #[must_use]
    pub fn has_unacked(&self, slot: Slot) -> bool {
        let consumer = self.slots.get(slot).and_then(Option::as_ref);
        consumer.is_some_and(|consumer| consumer.unacked > 0)
    }

    /// The consumer in front gets nothing until it has settled everything, or [`Self::release`].
    #[cold]
    pub fn hold(&mut self, slot: Slot) {
        self.round.pop_front();
        if let Some(consumer) = self.slot(slot) {
            consumer.standing = Standing::Held;
        }
    }

    /// The consumer in front, which holds nothing, gets nothing until [`Self::lift`].
    #[cold]
    pub fn bar(&mut self, slot: Slot) {
        let turn = self.round.front();
        self.round.pop_front();
        if let Some(consumer) = self.slot(slot) {
            consumer.standing = Standing::Barred;
        }
        if self.barred.len() == self.barred.capacity() {
            // Before it grows: consumers may come and go while there is no room.
            let slots = &self.slots;
            self.barred.retain(|turn| holds(slots, *turn));
        }
        self.barred.extend(turn);
    }

    /// The consumers that were barred go on, in the order of their turns.
    #[cold]
    pub fn lift(&mut self) {
        for Turn { slot, id } in std::mem::take(&mut self.barred) {
            let barred = self.slot(slot).filter(|one| one.spec.id == id);
            if let Some(barred) = barred.filter(|one| one.standing == Standing::Barred) {
                barred.standing = Standing::Ready;
                self.enter(slot);
            }
        }
    }

    /// All that were held or barred go on.
    pub fn release(&mut self) {
        self.lift();
        for slot in 0..self.slots.len() {
            if let Some(held) = self.slot(slot).filter(|one| one.standing == Standing::Held) {
                held.standing = Standing::Ready;
                self.enter(slot);
            }
        }
    }

    /// How many turns of barred consumers are remembered.
    #[cfg(test)]
    pub fn barred(&self) -> usize {
        self.barred.len()
    }
}
