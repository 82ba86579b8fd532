//! What the store hands out besides operations: requests to queues, messages, errors.

use model::queue::Spilled;
use model::{BodyGauge, QueueId, Stored};

use super::format::chunk::ChunkMessage;

/// What queues are asked to do so that disk space can be freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relief {
    /// All queues: move messages out of log batches before this one. See
    /// [`model::Queue::leave_log`].
    Log {
        /// The first batch that may stay.
        before: u64,
    },
    /// All queues: those with so many bytes behind their heads spill them and bypass the log. See
    /// [`Store::bypass_log`].
    Backlog {
        /// Bytes behind the head.
        bytes: u64,
    },
    /// One queue: move these messages out of their segment. See [`model::Queue::leave_segment`].
    Segment {
        /// The queue.
        queue: QueueId,
        /// The first sequence number.
        from: u64,
        /// The last.
        to: u64,
    },
}

/// An error that the store cannot handle by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreError {
    /// A write or a sync failed, so the contents of the disk are unknown. The process has to end.
    Fatal(String),
    /// Messages of a queue cannot be read back.
    Unreadable(QueueId, String),
}

/// Messages that were read back, in order.
#[derive(Debug)]
pub struct Loaded {
    /// The queue that asked.
    pub queue: QueueId,
    pub(super) entries: Vec<ChunkMessage>,
}

impl Loaded {
    /// The bodies count from now on.
    pub fn count_bodies(&mut self, gauge: &BodyGauge) {
        self.entries.iter_mut().for_each(|entry| entry.count_body(gauge));
    }

    /// Calls `take` with each.
    pub fn each(&self, mut take: impl FnMut(Spilled<'_>)) {
        for entry in &self.entries {
            let stored = if entry.durable { Stored::SPILLED_DURABLE } else { Stored::SPILLED };
            let ChunkMessage { seq, redelivered, expiry, .. } = *entry;
            take(Spilled { seq, redelivered, stored, expiry, message: entry.message() });
        }
    }

    /// Bytes of their records.
    pub(super) fn bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.message().record().len()).sum()
    }
}
