//! What a classic queue with priorities does in another way than one without: where its messages
//! are kept, and what is spilled.
//!
//! All else is the same for both. A message expires, and is dropped at a limit, at the head of the
//! whole queue, as in RabbitMQ: the limit drops the highest priority first, and what has expired
//! behind a higher priority waits. Spilled messages are always read before they are dropped, since
//! others in memory may be ahead of the next chunk.

use crate::ids::QueueId;
use crate::message::Message;
use crate::queue::Expiry;
use crate::queue::classic::ClassicQueue;
use crate::queue::entry::{QueueMemory, QueuedMessage};
use crate::queue::{QueueOutput, Spilled};

impl ClassicQueue {
    /// Whether it has priorities.
    #[inline]
    pub(super) fn has_priorities(&self) -> bool {
        self.arguments.max_priority.is_some()
    }

    /// A message waits behind the others of its priority; its sequence number.
    pub(super) fn take_in_by_priority(
        &mut self,
        message: Message<'_>,
        expiry: Expiry,
        output: &mut impl QueueOutput,
    ) -> u64 {
        let Some(lanes) = self.backlog.lanes() else { return 0 };
        let seq = lanes.number(message.priority());
        let mut entry = self.memory.keep(seq, message);
        entry.expiry = expiry;
        if self.durable && message.persistent() {
            entry.stored = output.log(self.id, seq, expiry, message);
            self.logged = self.logged.max(seq);
        }
        self.backlog.enter(entry);
        seq
    }

    /// Spills messages; see [`ClassicQueue::spill`].
    #[cold]
    pub(super) fn spill_by_priority(
        &mut self,
        window: usize,
        bytes: usize,
        output: &mut impl QueueOutput,
    ) {
        let (id, memory) = (self.id, &mut self.memory);
        if let Some(lanes) = self.backlog.lanes() {
            lanes.spill(window, bytes, |entry| hand_over(entry, memory, (id, output)));
        }
        self.backlog.measure();
        self.memory.trim();
    }

    /// Of each priority, spills the messages behind the head up to the last one in a batch of the
    /// log before this one.
    #[cold]
    pub(super) fn spill_old_by_priority(
        &mut self,
        before: u64,
        window: usize,
        output: &mut impl QueueOutput,
    ) {
        let (id, memory) = (self.id, &mut self.memory);
        let old = |entry: &QueuedMessage| entry.stored.batch().is_some_and(|batch| batch < before);
        if let Some(lanes) = self.backlog.lanes() {
            lanes.spill_old(window, old, |entry| hand_over(entry, memory, (id, output)));
        }
        self.backlog.measure();
        self.memory.trim();
    }
}

/// Spills a message. Returns the bytes of its body.
fn hand_over(
    entry: QueuedMessage,
    memory: &mut QueueMemory,
    (queue, output): (QueueId, &mut impl QueueOutput),
) -> usize {
    let QueuedMessage { seq, redelivered, stored, expiry, .. } = entry;
    let message = memory.message(&entry);
    let body = message.body_len();
    output.spill(queue, Spilled { seq, redelivered, stored, expiry, message });
    memory.free(entry);
    body
}
