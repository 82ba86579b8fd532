//! The shuffled queue: each enqueue is held for some milliseconds before it is applied, so that
//! enqueues finish out of order. It is there to test what the interface of queues allows; only
//! tests build it.
//!
//! ```text
//!            held (by deadline)            ready (by seq)
//!          +--------------------+ tick   +----------------+ deliver  +---------+
//!   push ->| enqueue, deadline  |------->| all in memory  |--------->| unacked |--> settled
//!          +--------------------+        +----------------+          +---------+
//!                |        finish(enqueue)    ^         ^  requeue         |
//!                v                           |         +------------------+
//!              hold()                     loaded, after a restart
//! ```
//!
//! It differs from a classic queue wherever the interface leaves the choice to the kind: what
//! enters gets its sequence number when it is applied; nothing is ever spilled; after a restart all
//! messages are read back and stay in memory; messages do not expire, as in a stream of RabbitMQ.

mod deliver;
mod settle;
#[cfg(test)]
mod shuffled_test;
mod store;

use std::collections::{BTreeMap, VecDeque};
use std::hash::{Hash, Hasher};

use crate::hash::Seed;
use crate::ids::{ChannelId, ConnId, ConsumerId, QueueId};
use crate::message::Message;
use crate::mutant::{self, Mutant};
use crate::queue::commands::{own_methods, queue_commands};
use crate::queue::consumer::{ActiveConsumer, ConsumerSpec, Consumers, Slot};
use crate::queue::entry::{QueueMemory, QueuedMessage, hash_entries};
use crate::queue::{
    Dying, EffectiveArguments, EnqueueEnd, EnqueueId, Get, QueueCommands, QueueCounters,
    QueueOutput, QueueProgress, QueueService, QueueSnapshot, RestoredMessages, Settle, Spilled,
};
use crate::replay::StateHash;
use crate::time::Now;

/// An enqueue is held for at least this long, in microseconds.
pub const HOLD_MIN_US: u64 = 1000;
/// Unless `x-shuffle-max-ms` says otherwise, for at most this many milliseconds.
const HOLD_MAX_MS: u64 = 3;

/// An enqueue that is not applied yet.
#[derive(Debug)]
struct HeldMessage {
    enqueue: EnqueueId,
    /// Its sequence number is not the final one.
    entry: QueuedMessage,
}

/// A message that was delivered and is not settled.
#[derive(Debug)]
struct UnsettledMessage {
    entry: QueuedMessage,
    consumer: ConsumerId,
    slot: Slot,
}

/// A shuffled queue.
#[derive(Debug)]
pub struct ShuffledQueue {
    id: QueueId,
    durable: bool,
    auto_delete: bool,
    service: QueueService,
    hold_max_us: u64,
    /// Enqueues so far; together with the queue's id it decides how long the next one is held.
    entered: u64,
    /// By deadline in microseconds, then in the order in which they entered.
    held: BTreeMap<(u64, u64), HeldMessage>,
    memory: QueueMemory,
    ready: BTreeMap<u64, QueuedMessage>,
    outstanding: BTreeMap<(ChannelId, u64), UnsettledMessage>,
    consumers: Consumers,
    gets: VecDeque<Get>,
    next_seq: u64,
    next_number: u64,
    cursor: store::ReadCursor,
    counters: QueueCounters,
    /// Its last consumer has gone, which nobody was told yet.
    unused: bool,
}

impl ShuffledQueue {
    /// An empty queue. If it is `durable`, its persistent messages are logged.
    #[must_use]
    pub fn new(id: QueueId, durable: bool, auto_delete: bool, _: Seed) -> Self {
        Self {
            id,
            durable,
            auto_delete,
            service: QueueService::Open,
            hold_max_us: HOLD_MAX_MS * 1000,
            entered: 0,
            held: BTreeMap::new(),
            memory: QueueMemory::default(),
            ready: BTreeMap::new(),
            outstanding: BTreeMap::new(),
            consumers: Consumers::default(),
            gets: VecDeque::new(),
            next_seq: 1,
            next_number: 1,
            cursor: store::ReadCursor::default(),
            counters: QueueCounters::default(),
            unused: false,
        }
    }

    fn push(&mut self, message: Message<'_>, now: Now, output: &mut impl QueueOutput) -> bool {
        match self.service {
            QueueService::Open => self.hold_enqueue(message, now, output),
            QueueService::Broken => output.refuse(),
            QueueService::Frozen => {}
        }
        false
    }

    fn hold_enqueue(&mut self, message: Message<'_>, now: Now, output: &mut impl QueueOutput) {
        let enqueue = output.hold();
        let entry = self.memory.keep(0, message);
        let due_us = now.monotonic_us.saturating_add(self.hold_us());
        self.held.insert((due_us, self.entered), HeldMessage { enqueue, entry });
        self.entered += 1;
    }

    /// How long the next enqueue is held: the same on every copy of the queue.
    fn hold_us(&self) -> u64 {
        let spread_us = self.hold_max_us.saturating_sub(HOLD_MIN_US) + 1;
        HOLD_MIN_US + (self.id, self.entered).state_hash() % spread_us
    }

    fn next_deadline_us(&self) -> Option<u64> {
        self.held.first_key_value().map(|((due_us, _), _)| *due_us)
    }

    fn tick(&mut self, now: Now, output: &mut impl QueueOutput) -> bool {
        let early = mutant::active(Mutant::HeldTooShort);
        while let Some(first) = self.held.first_entry()
            && (first.key().0 <= now.monotonic_us || early)
        {
            let held = first.remove();
            self.apply(held, output);
        }
        self.dispatch(now, output);
        false
    }

    /// An enqueue enters the queue for good.
    fn apply(&mut self, held: HeldMessage, output: &mut impl QueueOutput) {
        let HeldMessage { enqueue, mut entry } = held;
        entry.seq = self.next_seq;
        self.next_seq += 1;
        self.counters.published += 1;
        let message = self.memory.message(&entry);
        let logged = self.durable && message.persistent();
        if logged {
            entry.stored = output.log_held(self.id, entry.seq, message);
        }
        self.ready.insert(entry.seq, entry);
        output.finish(enqueue, if logged { EnqueueEnd::Logged } else { EnqueueEnd::Applied });
    }

    /// Ends all enqueues that are held; their messages are dropped.
    fn end_held(&mut self, end: EnqueueEnd, output: &mut impl QueueOutput) {
        for HeldMessage { enqueue, entry } in std::mem::take(&mut self.held).into_values() {
            self.memory.free(entry);
            output.finish(enqueue, end);
        }
    }

    fn touch(&mut self, _: Now, _: &mut impl QueueOutput) {}

    fn reconfigure(&mut self, arguments: EffectiveArguments, _: Now, _: &mut impl QueueOutput) {
        self.consumers.set_single_active(arguments.single_active_consumer);
        let max_ms = arguments.shuffle_max_ms.unwrap_or(HOLD_MAX_MS);
        self.hold_max_us = max_ms.saturating_mul(1000);
    }

    fn freeze(&mut self, _: Now, output: &mut impl QueueOutput) {
        self.service = QueueService::Frozen;
        // What enters a queue that is gone is confirmed and dropped.
        self.end_held(EnqueueEnd::Applied, output);
    }

    fn break_down(
        &mut self,
        _: Now,
        output: &mut impl QueueOutput,
    ) -> (Vec<ConsumerSpec>, Vec<Get>) {
        if self.frozen() {
            return Default::default();
        }
        self.service = QueueService::Broken;
        self.end_held(EnqueueEnd::Refused, output);
        let consumers = self.consumers.iter().cloned().collect();
        self.consumers.clear();
        (consumers, self.gets.drain(..).collect())
    }

    /// It has no dead letters.
    #[expect(clippy::unused_self, reason = "kinds share an interface")]
    fn dying(&self, _: u64) -> Option<Dying<'_>> {
        None
    }

    #[expect(clippy::unused_self, reason = "kinds share an interface")]
    fn buried(&mut self, _: u64, _: Now, _: &mut impl QueueOutput) {}

    fn ready_count(&self) -> u64 {
        self.ready.len() as u64 + self.cursor.unread()
    }

    fn ready(&self) -> u32 {
        u32::try_from(self.ready_count()).unwrap_or(u32::MAX)
    }

    fn unacked(&self) -> usize {
        self.outstanding.len()
    }

    fn consumers(&self) -> &Consumers {
        &self.consumers
    }

    fn frozen(&self) -> bool {
        self.service == QueueService::Frozen
    }

    fn broken(&self) -> bool {
        self.service == QueueService::Broken
    }

    /// It is small: nothing is held back.
    fn hold_back(&mut self, _: bool) {}

    fn unsettled_bytes(&self) -> usize {
        0
    }

    fn pinned(&self) -> usize {
        let entries = self.held.len() + self.ready.len();
        self.memory.pinned() + entries * size_of::<HeldMessage>()
    }

    fn snapshot(&self) -> QueueSnapshot {
        QueueSnapshot {
            service: self.service,
            ready: self.ready_count(),
            unacknowledged: self.unacked() as u64,
            held: self.held.len() as u64,
            consumers: self.consumers.len() as u64,
            active: self.consumers.single_active().map(ActiveConsumer::of),
            ready_bytes: self.ready.values().map(QueuedMessage::bytes).sum::<usize>() as u64,
            memory_bytes: (self.pinned() + self.memory.body_bytes()) as u64,
            counters: self.counters,
        }
    }
}

impl QueueCommands for ShuffledQueue {
    queue_commands!(own_methods);
}

impl Hash for ShuffledQueue {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.id, self.durable, self.auto_delete, self.service, self.hold_max_us).hash(state);
        (self.entered, self.next_seq, self.next_number, self.cursor, self.unused).hash(state);
        (&self.consumers, &self.gets, &self.counters).hash(state);
        for (deadline, held) in &self.held {
            (deadline, held.enqueue).hash(state);
            held.entry.hash_with(&self.memory, state);
        }
        hash_entries(self.ready.values(), &self.memory, state);
        for (number, UnsettledMessage { entry, consumer, slot }) in &self.outstanding {
            (number, consumer, slot).hash(state);
            entry.hash_with(&self.memory, state);
        }
    }
}
