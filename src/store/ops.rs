//! Operations on their way out.

use std::collections::VecDeque;

use super::op::{FileName, Op, Work};

/// Numbers operations and keeps them until the shell takes them.
#[derive(Debug, Default)]
pub(super) struct Ops {
    last: u64,
    waiting: VecDeque<Op>,
}

impl Ops {
    /// Hands an operation out; gives its number.
    pub fn hand_out(&mut self, file: FileName, work: Work) -> u64 {
        self.last += 1;
        self.waiting.push_back(Op { id: self.last, file, work });
        self.last
    }

    /// The next to be carried out.
    pub fn next(&mut self) -> Option<Op> {
        self.waiting.pop_front()
    }
}
