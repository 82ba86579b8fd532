//! The arguments of a binding, as numbers of conditions.

use super::conditions::{ConditionId, Met};

/// What the headers of a message have to meet.
#[derive(Debug)]
pub(super) struct Pattern {
    /// One condition is enough.
    any: bool,
    /// The conditions as bits: the number of the first one divided by 64, and 64 of them. Blocks
    /// without a condition are left out.
    blocks: Box<[(u32, u64)]>,
}

impl Pattern {
    pub fn new(any: bool, mut conditions: Vec<ConditionId>) -> Self {
        conditions.sort_unstable();
        let blocks = conditions.chunk_by(|one, other| one.block() == other.block());
        let blocks = blocks.map(|block| {
            let bits = block.iter().fold(0, |bits, condition| bits | condition.bit());
            (block.first().map_or(0, ConditionId::block), bits)
        });
        Self { any, blocks: blocks.collect() }
    }

    /// Whether the conditions are met; and the steps that took: one, and one for each block.
    #[inline]
    pub fn matches(&self, met: &Met) -> (bool, usize) {
        // With `any` one block that has a condition decides, else one that misses a condition.
        let decides = |&(block, bits): &(u32, u64)| {
            let met = met.block(block) & bits;
            if self.any { met != 0 } else { met != bits }
        };
        match self.blocks.iter().position(decides) {
            Some(at) => (self.any, at + 2),
            None => (!self.any, self.blocks.len() + 1),
        }
    }
}
