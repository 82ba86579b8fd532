//! The classic queue: messages in order, consumers in turn, unacknowledged deliveries.
//!
//! ```text
//!             returned          backlog (in order of arrival)
//!          +------------+   +-------------------------------------------+
//!   take <-| by seq     |<--| resident | ... spilled ... | resident     |<-- push
//!          +------------+   +-------------------------------------------+
//!              ^  requeue                 | deliver
//!              |                          v
//!          +--------------------------------------+
//!          | unacked: channel -> number -> entry  |--> ack: removed
//!          +--------------------------------------+
//! ```
//!
//! A requeued message was ahead of all that are ready. Taking the returned ones first, in the order
//! of their sequence numbers, puts it back at its original position. Messages behind the head may
//! be spilled: only the store has them (`store.rs`). They are fetched before they become the head,
//! and delivery waits until they are loaded.
//!
//! A queue with priorities has the same for each of them (`lanes.rs`, `priorities.rs`).
//!
//! A message that dies leaves as a dead letter if the queue has a dead-letter exchange. It is held
//! until the letter has arrived, and cannot be delivered any more (`dying.rs`).
//!
//! A persistent message that stays in a durable queue is logged. Behind a long backlog it bypasses
//! the log and goes to the spilled messages directly. However it leaves the queue for good, the
//! store is told.

mod backlog;
mod deadlines;
mod deliver;
mod dying;
mod enter;
mod expire;
mod lanes;
mod limits;
mod priorities;
mod send;
mod settle;
mod store;
#[cfg(test)]
mod tests;
mod unfinished;

use std::collections::{BTreeMap, VecDeque};
use std::hash::{Hash, Hasher};

use crate::hash::{Map, Seed};
use crate::ids::{ChannelId, ConnId, ConsumerId, QueueId};
use crate::message::Message;
use crate::mutant::{self, Mutant};
use crate::queue::classic::backlog::Backlog;
use crate::queue::classic::deadlines::Deadlines;
use crate::queue::classic::dying::DyingMessages;
use crate::queue::classic::expire::Lifetimes;
use crate::queue::classic::unfinished::QueueTasks;
use crate::queue::commands::{own_methods, queue_commands};
use crate::queue::consumer::{ActiveConsumer, ConsumerSpec, Consumers, Slot};
use crate::queue::entry::{HeldValues, QueueMemory, QueuedMessage, hash_entries};
use crate::queue::ledger::Ledger;
use crate::queue::{
    Dying, EffectiveArguments, Get, QueueCommands, QueueCounters, QueueOutput, QueueProgress,
    QueueService, QueueSnapshot, RestoredMessages, Settle, Spilled,
};
use crate::replay::sorted;
use crate::time::Now;

/// A message that was delivered and is not settled.
#[derive(Debug)]
struct UnackedMessage {
    entry: QueuedMessage,
    consumer: ConsumerId,
    slot: u32,
    /// When it is to be settled at the latest, in units of [`deadlines`].
    deadline: u32,
}

/// A classic queue.
#[derive(Debug)]
pub struct ClassicQueue {
    id: QueueId,
    /// Its persistent messages are logged.
    durable: bool,
    auto_delete: bool,
    service: QueueService,
    /// Persistent messages bypass the log while the tail of the backlog is spilled.
    bypasses_log: bool,
    memory: QueueMemory,
    backlog: Backlog,
    returned: BTreeMap<u64, QueuedMessage>,
    /// Bytes of the messages in `returned`.
    returned_bytes: usize,
    unacked: Map<ChannelId, Ledger<UnackedMessage>>,
    dying: DyingMessages,
    /// The deduplication values of its messages, if it has the argument.
    values: Option<Box<HeldValues>>,
    /// Bytes of memory that the ledgers of `unacked` hold.
    ledger_bytes: usize,
    /// Bytes of the messages in `unacked`.
    unacked_bytes: usize,
    /// Large messages in `unacked`.
    large_unacked: u32,
    /// Consumers that acknowledge get a message only if they hold nothing, and a large one only if
    /// no other large one is unacknowledged.
    held_back: bool,
    /// The sequence number of the large message in front that consumers are barred by; 0: of none.
    barred_by: u64,
    consumers: Consumers,
    deadlines: Deadlines,
    gets: VecDeque<Get>,
    next_seq: u64,
    /// The sequence number of the last message that was logged when it entered.
    logged: u64,
    /// No message with a greater sequence number was logged again.
    logged_again: u64,
    next_number: u64,
    counters: QueueCounters,
    arguments: EffectiveArguments,
    /// Each message that enters may be limited, may expire or has a priority.
    special: bool,
    /// The first messages are dropped at a limit.
    drops_head: bool,
    /// Some ready messages may expire.
    timed: bool,
    /// The sequence number of a message that is not dropped while permits are asked for.
    spared: Option<u64>,
    /// Bytes of the bodies of the ready messages, if they are limited.
    bodies: u64,
    lifetimes: Lifetimes,
    /// What it was told and has not done as a whole.
    tasks: QueueTasks,
}

impl ClassicQueue {
    /// An empty queue. If it is `durable`, its persistent messages are logged.
    #[must_use]
    pub fn new(id: QueueId, durable: bool, auto_delete: bool, seed: Seed) -> Self {
        Self {
            id,
            durable,
            auto_delete,
            service: QueueService::Open,
            bypasses_log: false,
            memory: QueueMemory::default(),
            backlog: Backlog::default(),
            returned: BTreeMap::new(),
            returned_bytes: 0,
            unacked: Map::with_hasher(seed),
            dying: DyingMessages::default(),
            values: None,
            ledger_bytes: 0,
            unacked_bytes: 0,
            large_unacked: 0,
            held_back: false,
            barred_by: 0,
            consumers: Consumers::default(),
            deadlines: Deadlines::default(),
            gets: VecDeque::new(),
            next_seq: 1,
            logged: 0,
            logged_again: 0,
            next_number: 1,
            counters: QueueCounters::default(),
            arguments: EffectiveArguments::default(),
            special: false,
            drops_head: false,
            timed: false,
            spared: None,
            bodies: 0,
            lifetimes: Lifetimes::default(),
            tasks: QueueTasks::default(),
        }
    }

    /// Ready messages, those included that are to be dropped.
    #[inline]
    fn counted(&self) -> u64 {
        self.backlog.len() + self.returned.len() as u64
    }

    #[inline]
    fn ready_count(&self) -> u64 {
        if self.drops_head {
            // What is beyond is dropped, but it may be on disk yet.
            return self.counted().min(self.arguments.max_length.unwrap_or(u64::MAX));
        }
        self.counted()
    }

    #[inline]
    fn ready(&self) -> u32 {
        u32::try_from(self.ready_count()).unwrap_or(u32::MAX)
    }

    fn unacked(&self) -> usize {
        self.unacked.values().map(Ledger::len).sum()
    }

    fn consumers(&self) -> &Consumers {
        &self.consumers
    }

    #[inline]
    fn pinned(&self) -> usize {
        let entries = self.backlog.capacity() + self.returned.len() + self.tasks.entries();
        let values = self.values.as_ref().map_or(0, |values| values.pinned());
        let unacked = if mutant::active(Mutant::UnackedUncounted) { 0 } else { self.ledger_bytes };
        self.memory.pinned() + unacked + entries * size_of::<QueuedMessage>() + values
    }

    fn unsettled_bytes(&self) -> usize {
        self.ledger_bytes + self.unacked_bytes
    }

    fn hold_back(&mut self, held: bool) {
        self.held_back = held;
        if !held {
            self.barred_by = 0;
            self.consumers.release();
            self.tasks.dispatch_later();
        }
    }

    fn frozen(&self) -> bool {
        self.service == QueueService::Frozen
    }

    fn broken(&self) -> bool {
        self.service == QueueService::Broken
    }

    fn freeze(&mut self, _: Now, _: &mut impl QueueOutput) {
        self.service = QueueService::Frozen;
    }

    fn break_down(&mut self, _: Now, _: &mut impl QueueOutput) -> (Vec<ConsumerSpec>, Vec<Get>) {
        if self.frozen() {
            return Default::default();
        }
        self.service = QueueService::Broken;
        let consumers = self.consumers.iter().cloned().collect();
        self.consumers.clear();
        (consumers, self.gets.drain(..).collect())
    }

    fn snapshot(&self) -> QueueSnapshot {
        QueueSnapshot {
            service: self.service,
            ready: self.ready_count(),
            unacknowledged: self.unacked() as u64,
            held: 0,
            consumers: self.consumers.len() as u64,
            active: self.consumers.single_active().map(ActiveConsumer::of),
            ready_bytes: (self.backlog.bytes() + self.returned_bytes) as u64,
            memory_bytes: (self.pinned() + self.memory.body_bytes()) as u64,
            counters: self.counters,
        }
    }
}

impl QueueCommands for ClassicQueue {
    queue_commands!(own_methods);
}

/// Everything that a command can depend on; not the room in its collections.
impl Hash for ClassicQueue {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.id, self.durable, self.auto_delete, self.service, self.bypasses_log).hash(state);
        (self.held_back, self.unacked_bytes, self.large_unacked, self.barred_by).hash(state);
        (self.next_seq, self.logged, self.logged_again, self.next_number).hash(state);
        (&self.consumers, &self.deadlines, &self.gets, &self.counters).hash(state);
        (&self.arguments, self.special, self.drops_head, self.timed).hash(state);
        (self.bodies, self.lifetimes, &self.values).hash(state);
        self.dying.hash_with(&self.memory, state);
        self.backlog.hash_with(&self.memory, state);
        hash_entries(self.returned.values(), &self.memory, state);
        self.tasks.hash_with(&self.memory, state);
        for (channel, ledger) in sorted(&self.unacked) {
            channel.hash(state);
            for (number, UnackedMessage { entry, consumer, slot, deadline }) in ledger.iter() {
                (number, consumer, slot, deadline).hash(state);
                entry.hash_with(&self.memory, state);
            }
        }
    }
}
