//! The memory that all queues of a home share: how much they may hold, and the progress of
//! spilling.

use std::collections::{BTreeSet, VecDeque};

use model::QueueId;

/// Bytes at the head of each queue that stay in memory, if the budget has room for them.
const WINDOW: usize = 64 * 1024;

/// Unacknowledged messages of a queue that are never too much.
const UNSETTLED_MIN: usize = 16 * 1024;

/// A walk over all queues, in a circle: each leaves the log before a batch.
#[derive(Debug, Default)]
pub(super) struct LeavingLog {
    pub before: u64,
    /// The queue that was told last.
    pub behind: QueueId,
    /// How many have to be told yet.
    pub queues: usize,
}

/// The budget of memory, and the queues that spill.
#[derive(Debug)]
pub(super) struct MemoryBudget {
    /// Bytes that the queues may hold; beyond it they spill.
    pub max: usize,
    /// Beyond so many bytes consumers have to acknowledge before they get more.
    pub unsettled_max: usize,
    /// Spilling has begun and was not done in one turn.
    pub spilling: bool,
    /// So many turns pass until the queues are looked through again.
    pub rest: usize,
    /// A queue that had to spill so many bytes at once is in backlog.
    backlog: usize,
    /// Queues in backlog that spill all behind their heads, to bypass the log from then on.
    pub leaving: VecDeque<QueueId>,
    /// Queues whose consumers have to acknowledge before they get more.
    pub held_back: BTreeSet<QueueId>,
    /// The first of them to be looked at next.
    pub release_from: QueueId,
    /// Queues that have to leave a part of the log.
    pub leaving_log: LeavingLog,
}

impl MemoryBudget {
    pub fn new((max, unsettled_max): (usize, usize), backlog: usize) -> Self {
        Self {
            max,
            unsettled_max: unsettled_max.max(max),
            spilling: false,
            rest: 0,
            backlog,
            leaving: VecDeque::new(),
            held_back: BTreeSet::new(),
            release_from: QueueId::default(),
            leaving_log: LeavingLog::default(),
        }
    }

    /// The bytes that the queues may hold once spilling has begun.
    pub fn goal(&self) -> usize {
        self.max / 4 * 3
    }

    /// Bytes at the head of each of so many queues that stay in memory. All heads together take at
    /// most an eighth of the budget: more would leave too little to spill at once, and a smaller
    /// head later is written to the log again.
    pub fn window(&self, queues: usize) -> usize {
        WINDOW.min(self.max / 8 / queues.max(1))
    }

    /// Bytes of unacknowledged messages that each of so many queues may have when nothing is left
    /// to spill and memory is short: a quarter of it together.
    pub fn unsettled_share(&self, queues: usize) -> usize {
        (self.unsettled_max / 4 / queues.max(1)).max(UNSETTLED_MIN)
    }

    /// The bytes that the queues may hold when held back consumers go on.
    pub fn unsettled_goal(&self) -> usize {
        self.unsettled_max / 4 * 3
    }

    /// Bytes that each of so many queues may read at once: a quarter of the budget together.
    pub fn read_share(&self, queues: usize) -> usize {
        self.max / 4 / queues.max(1)
    }

    /// True if there is more to spill than fitted into a turn.
    pub fn unfinished(&self) -> bool {
        self.spilling || !self.leaving.is_empty() || self.leaving_log.queues > 0
    }

    /// A queue had to spill so many bytes at once.
    pub fn spilled(&mut self, id: QueueId, bytes: usize) {
        if bytes >= self.backlog && !self.leaving.contains(&id) {
            self.leaving.push_back(id);
        }
    }
}
