//! Where messages are that are not, or not only, in a queue's memory: the log and the segments of
//! the queues, as a pure machine. Operations on files are handed out, their answers come back.

pub mod meta;
pub mod old;
pub mod op;

use std::collections::{BTreeMap, VecDeque};

use model::{Body, Message, Now, QueueId, Stored};

pub use self::op::{Done, Failure, FileName, Files, Op, Work};

/// What a store is started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreConfig {
    /// The shard.
    pub shard: u16,
    /// How many shards there are.
    pub shards: u16,
    /// Which start of the process this is.
    pub boot: u32,
    /// What a confirm means.
    pub durability: Durability,
    /// Octets of a segment of the log.
    pub segment_octets: u64,
    /// Octets of all segments of this shard's log; beyond it the oldest is emptied.
    pub log_max: u64,
    /// Octets of what one read brings.
    pub chunk_octets: usize,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            shard: 0,
            shards: 1,
            boot: 1,
            durability: Durability::Strict,
            segment_octets: 32 * 1024 * 1024,
            log_max: 256 * 1024 * 1024,
            chunk_octets: 256 * 1024,
        }
    }
}

/// When a message counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// When it is on stable storage.
    Strict,
    /// When it was handed to the operating system, which is told to sync every so many
    /// milliseconds: a power loss takes what came since.
    Relaxed {
        /// Milliseconds between syncs.
        every_ms: u64,
    },
}

/// What recovery found of a queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveredQueue {
    /// Messages, all in segments.
    pub messages: u64,
    /// Greater than every sequence number there was.
    pub next_seq: u64,
}

/// What a queue is asked to do so that disk space comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relief {
    /// All queues: no message stays in a batch of the log before this one. See
    /// [`model::Queue::leave_log`].
    Log {
        /// The first batch that may stay.
        before: u64,
    },
    /// One queue: none of these messages stays in its segment. See [`model::Queue::leave_segment`].
    Segment {
        /// The queue.
        queue: QueueId,
        /// The first sequence number.
        from: u64,
        /// The last.
        to: u64,
    },
}

/// What the store cannot cope with by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// A write or a sync of the log failed: what is on disk is not known any more. The process has
    /// to end.
    Poisoned(String),
    /// There is no room on the disk (`true`), or again some.
    Full(bool),
    /// The messages of a queue cannot be read back.
    Unreadable(QueueId, String),
}

/// A message on its way to the store.
#[derive(Debug, Clone, Copy)]
pub struct Spilled<'a> {
    /// Its sequence number in its queue.
    pub seq: u64,
    /// It was delivered before.
    pub redelivered: bool,
    /// Where the store has it already.
    pub stored: Stored,
    /// The message.
    pub message: Message<'a>,
}

/// Messages that were fetched, in order.
#[derive(Debug)]
pub struct Loaded {
    /// The queue that asked.
    pub queue: QueueId,
    messages: Vec<Kept>,
}

#[derive(Debug)]
struct Kept {
    seq: u64,
    redelivered: bool,
    stored: Stored,
    record: Vec<u8>,
    body: Option<Body>,
}

impl Loaded {
    /// Goes through them.
    pub fn each(&self, mut take: impl FnMut(Spilled<'_>)) {
        for Kept { seq, redelivered, stored, record, body } in &self.messages {
            let message = Message::new(record, body.as_ref());
            take(Spilled { seq: *seq, redelivered: *redelivered, stored: *stored, message });
        }
    }
}

/// The store of one shard.
#[derive(Debug, Default)]
pub struct Store {
    spilled: BTreeMap<QueueId, VecDeque<Kept>>,
    loaded: VecDeque<Loaded>,
    batch: u64,
}

impl Store {
    /// A store without anything in it.
    #[must_use]
    pub fn new(_config: StoreConfig) -> Self {
        Self { batch: 1, ..Self::default() }
    }

    /// Takes over what recovery found of a queue, before anything else is done with it.
    pub fn adopt(&mut self, _queue: QueueId, _found: RecoveredQueue) {}

    /// What is logged next is another message: before this, the same one may enter several queues,
    /// and is written once.
    #[inline]
    pub fn next_message(&mut self) {}

    /// A persistent message entered a durable queue.
    pub fn log(&mut self, _queue: QueueId, _seq: u64, _message: Message<'_>) -> Stored {
        Stored::logged(self.batch)
    }

    /// A queue has settled a message.
    pub fn settled(&mut self, _queue: QueueId, _seq: u64, _stored: Stored) {}

    /// A queue that is being deleted lets go of a message: there is nothing to be logged.
    pub fn let_go(&mut self, _stored: Stored) {}

    /// Takes a message out of a queue's memory; its sequence number is greater than those before.
    pub fn spill(&mut self, queue: QueueId, what: Spilled<'_>) {
        let Spilled { seq, redelivered, stored, message } = what;
        let stored = if stored.is_durable() { Stored::SPILLED_DURABLE } else { Stored::SPILLED };
        let (record, body) = (message.record().to_vec(), message.large_body().cloned());
        let kept = Kept { seq, redelivered, stored, record, body };
        self.spilled.entry(queue).or_default().push_back(kept);
    }

    /// Is to bring the next messages that the queue spilled; [`Self::next_loaded`] has them later.
    pub fn fetch(&mut self, queue: QueueId) {
        const AT_ONCE: usize = 100;
        let Some(spilled) = self.spilled.get_mut(&queue) else { return };
        let count = spilled.len().min(AT_ONCE);
        let messages = spilled.drain(..count).collect();
        self.loaded.push_back(Loaded { queue, messages });
    }

    /// All that a queue has spilled and not been brought is settled: it was purged. What is on its
    /// way will not come.
    pub fn purge(&mut self, queue: QueueId) {
        self.spilled.remove(&queue);
        self.loaded.retain(|loaded| loaded.queue != queue);
    }

    /// The queue is deleted. What it had in memory it has let go of by [`Self::let_go`].
    pub fn forget_queue(&mut self, queue: QueueId) {
        self.purge(queue);
    }

    /// The next messages that were fetched.
    pub fn next_loaded(&mut self) -> Option<Loaded> {
        self.loaded.pop_front()
    }

    /// The batch of the log that is being filled: what was logged so far is in it or before.
    #[must_use]
    pub fn batch(&self) -> u64 {
        self.batch
    }

    /// This batch and all before it count as durable.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.batch
    }

    /// Whether everything in the log that is not durable is settled already.
    #[must_use]
    pub fn owes_nothing(&self) -> bool {
        true
    }

    /// Somebody waits for a message that was logged: the batch is written as soon as the disk is
    /// free.
    pub fn hurry(&mut self) {}

    /// Somebody waits for what was settled so far: as [`Self::hurry`], and the batch is owed.
    pub fn fence(&mut self) {}

    /// Whether so much waits for the disk that publishers have to wait too.
    #[must_use]
    pub fn full(&self) -> bool {
        false
    }

    /// What would bring disk space back. It is asked for again until there is nothing.
    pub fn relief(&mut self) -> Option<Relief> {
        None
    }

    /// What the store cannot cope with by itself.
    pub fn trouble(&mut self) -> Option<Trouble> {
        None
    }

    /// Ends a turn: what waits may be handed out as operations.
    pub fn end_turn(&mut self, _now: Now) {}

    /// When there is something to hand out even if nothing happens until then, in microseconds of
    /// the monotonic clock.
    #[must_use]
    pub fn deadline_us(&self) -> Option<u64> {
        None
    }

    /// The next operation.
    pub fn next_op(&mut self) -> Option<Op> {
        None
    }

    /// The disk's answer to an operation.
    pub fn done(&mut self, _done: Done, _now: Now) {}

    /// The process ends: nothing is logged after this. These messages, which are still in their
    /// queues, have been delivered before. It is over when [`Self::is_idle`] says so.
    pub fn stop(&mut self, _delivered: impl Iterator<Item = (QueueId, u64)>) {}

    /// Whether nothing waits for the disk.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        true
    }

    /// Octets of memory it holds.
    #[must_use]
    pub fn pinned(&self) -> usize {
        0
    }
}
