//! How much a shard does in one turn.

use crate::mutant::{self, Mutant};

/// Work of one turn, in units. A unit is one message, consumer, queue, binding or delivery tag that
/// is looked at, or 16 steps of routing: a tenth of a microsecond, or a few.
///
/// What is bounded by the bytes that were read needs no budget. What one method can cause beyond
/// that is done in pieces: each piece takes what is left, and the rest goes on in the next turn.
#[derive(Debug, Clone, Copy)]
pub struct WorkBudget {
    most: u32,
    left: u32,
    spent: u64,
}

/// Units that a turn does before what is left waits for the next one.
pub const TURN_WORK: u32 = 4096;
/// Messages that a queue delivers at once when something happens to it. They are not counted, since
/// flow credit bounds what they are worth.
pub const DELIVERED_AT_ONCE: u32 = 64;
/// Steps of routing that count as one unit.
pub const ROUTING_STEPS: u64 = 16;

impl WorkBudget {
    /// So many units for each turn.
    #[must_use]
    pub fn new(most: u32) -> Self {
        Self { most, left: most, spent: 0 }
    }

    /// What is left of this turn.
    #[inline]
    #[must_use]
    pub fn left(&self) -> u32 {
        self.left
    }

    /// Whether nothing is left of this turn.
    #[inline]
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// So many units were done.
    #[inline]
    pub fn spend(&mut self, units: u32) {
        self.left = self.left.saturating_sub(units);
        self.spent += u64::from(units);
    }

    /// The end of a turn: what was put off has a quarter of the budget to itself, whatever the
    /// turn's events took.
    pub fn reserve(&mut self) {
        let share = if mutant::active(Mutant::ReserveDoubled) { self.most } else { self.most / 4 };
        self.left = self.left.max(share);
    }

    /// The most units that one turn does, but for what cannot be cut: one key of a route, or one
    /// copy of a message.
    #[must_use]
    pub fn bound(&self) -> u64 {
        u64::from(self.most) + u64::from(self.most / 4)
    }

    /// Begins another turn. Returns the units that the last one did.
    pub fn next_turn(&mut self) -> u64 {
        self.left = self.most;
        std::mem::take(&mut self.spent)
    }
}

impl Default for WorkBudget {
    fn default() -> Self {
        Self::new(TURN_WORK)
    }
}
