//! Which queues have dead letters to send, and how far each is.

use std::collections::VecDeque;

use model::QueueId;

/// Queues with messages whose dead letters have to leave.
#[derive(Debug, Default)]
pub(in crate::queues) struct DyingQueues {
    /// Queues in which messages died since the last look, in the order of the deaths.
    pub died: Vec<QueueId>,
    /// Each queue once, the next one first.
    pub listed: VecDeque<QueueId>,
}

impl DyingQueues {
    /// A message died in the queue.
    pub fn died(&mut self, queue: QueueId) {
        if self.died.last() != Some(&queue) {
            self.died.push(queue);
        }
    }
}

/// What a queue has of its dead letters.
#[derive(Debug, Default)]
pub(in crate::queues) struct QueueLetters {
    /// The messages with lower numbers are under way.
    pub next: u64,
    /// The queue is in the list.
    pub listed: bool,
    /// It is an auto-delete queue without consumers: the coordinator hears of it when no dead
    /// letter is left.
    pub unused: bool,
}
