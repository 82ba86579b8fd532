//! Where messages are that are not in a queue's memory: the pure interface of the log.
//!
//! Until the log is built this keeps records in memory. A persistent message is *durable* here as
//! soon as it was appended, so a confirm means that the broker holds the message, not that it would
//! survive the end of the process.
//!
//! Absent by design: files. Operations are handed out and their completions come back.

use std::collections::{BTreeMap, VecDeque};

use model::{Body, Message, QueueId};

/// A record that was fetched.
#[derive(Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The queue that asked.
    pub queue: QueueId,
    /// The message's sequence number in it.
    pub seq: u64,
    record: Vec<u8>,
    body: Option<Body>,
}

impl Loaded {
    /// The message.
    #[must_use]
    pub fn message(&self) -> Message<'_> {
        Message::new(&self.record, self.body.as_ref())
    }
}

/// Records of queues that do not fit their memory.
#[derive(Debug, Default)]
pub struct Store {
    spilled: BTreeMap<(QueueId, u64), (Vec<u8>, Option<Body>)>,
    loaded: VecDeque<Loaded>,
}

impl Store {
    /// Keeps a record.
    pub fn spill(&mut self, queue: QueueId, seq: u64, message: Message<'_>) {
        let record = (message.record().to_vec(), message.large_body().cloned());
        self.spilled.insert((queue, seq), record);
    }

    /// Brings a record back and forgets it; [`Store::next_loaded`] has it later.
    pub fn fetch(&mut self, queue: QueueId, seq: u64) {
        if let Some((record, body)) = self.spilled.remove(&(queue, seq)) {
            self.loaded.push_back(Loaded { queue, seq, record, body });
        }
    }

    /// Forgets a record.
    pub fn forget(&mut self, queue: QueueId, seq: u64) {
        self.spilled.remove(&(queue, seq));
    }

    /// Forgets all records of a queue.
    pub fn forget_queue(&mut self, queue: QueueId) {
        let mut rest = self.spilled.split_off(&(queue, 0));
        self.spilled.append(&mut rest.split_off(&(QueueId(queue.0 + 1), 0)));
    }

    /// The next record that was fetched.
    pub fn next_loaded(&mut self) -> Option<Loaded> {
        self.loaded.pop_front()
    }

    /// Records kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spilled.len()
    }

    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spilled.is_empty()
    }
}
