//! Operations that wait to be taken by the shell.

use std::collections::VecDeque;

use super::op::{FileName, Op, Work};

/// Numbers operations and queues them for the shell.
#[derive(Debug, Default)]
pub(super) struct Ops {
    last: u64,
    waiting: VecDeque<Op>,
}

impl Ops {
    /// Queues an operation. Returns its id.
    pub fn hand_out(&mut self, file: FileName, work: Work) -> u64 {
        self.last += 1;
        self.waiting.push_back(Op { id: self.last, file, work });
        self.last
    }

    /// The next operation to carry out.
    pub fn next(&mut self) -> Option<Op> {
        self.waiting.pop_front()
    }
}
