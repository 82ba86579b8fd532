//! The queues of a home: what enters, what is settled, which queues hold deliveries
//! or consumers of a channel.

use std::collections::{BTreeSet, VecDeque};

use model::mutant::{self, Mutant};
use model::queue::EffectiveArguments;
use model::{
    Arguments, Ask, Body, BodyCounts, BodyGauge, ChannelId, ConnId, Map, Message, Name, Now,
    QueueCommands, QueueId, QueueKind, QueueSpec, Resource, Seed, ShardId, WorkBudget,
};

use crate::mesh::enqueue::{EnqueueOutcome, Settlement};
use crate::queues::credit::FlowCredit;
use crate::queues::dying::list::{DyingQueues, QueueLetters};
use crate::queues::kind;
use crate::queues::memory::MemoryBudget;
use crate::queues::output::{HomeOutput, HostOutput};
use crate::queues::storage_error::StorageError;
use crate::queues::timers::{NEVER_US, QueueTimers};
use crate::queues::work::{UnfinishedWork, Waiting};
use crate::store::{Store, StoreConfig};

/// Bytes of replies that wait for a direct reply-to consumer whose socket does not take them; what
/// comes beyond is dropped. RabbitMQ would drop too, or run out of memory, depending on the
/// protocol: a reply is sent at most once.
const REPLIES_MAX: u64 = 16 * 1024 * 1024;

/// A channel's list of queues that is at least as long is looked through for queues that are gone.
const FORGET_MIN: usize = 8;

/// A queue with its names.
#[derive(Debug)]
pub(super) struct HostedQueue {
    pub queue: QueueKind,
    pub vhost: Name,
    pub name: Name,
    /// When the queue is ticked; see [`QueueTimers`].
    pub armed_us: u64,
    pub letters: QueueLetters,
    /// Its part of the memory of all.
    pub pinned: usize,
    /// It is among those that go on with their tasks.
    pub busy: bool,
    /// What is done when the queue does not hold it back any more.
    pub waiting: VecDeque<Waiting>,
}

impl HostedQueue {
    pub fn resource(&self) -> Resource {
        Resource::queue(&self.vhost, &self.name)
    }
}

/// The queues of a shard.
#[derive(Debug)]
pub(crate) struct Queues {
    pub(super) hosted: Map<QueueId, HostedQueue>,
    /// Their ids in order, for lists; without those of direct reply-to, which come and go with
    /// each client.
    pub(super) order: BTreeSet<QueueId>,
    pub(super) credit: FlowCredit,
    /// Which queues hold something of a channel.
    pub(super) channels: Map<ChannelId, BTreeSet<QueueId>>,
    /// Bytes of memory that each queue holds for itself.
    pub(super) pinned: usize,
    /// Counts the bodies of this shard, which queues share.
    pub(super) bodies: BodyGauge,
    /// The outcome of the message that enters queues now.
    pub(super) outcome: EnqueueOutcome,
    pub(super) store: Store,
    pub(super) memory: MemoryBudget,
    pub(super) timers: QueueTimers,
    pub(super) dying: DyingQueues,
    /// The time of the event that is being handled: each command to a queue carries it.
    pub(super) now: Now,
    pub(super) errors: VecDeque<StorageError>,
    pub(super) unfinished: UnfinishedWork,
    /// The time to settle a delivery of a queue that has none of its own, in milliseconds.
    consumer_timeout_ms: Option<u64>,
    seed: Seed,
}

impl Queues {
    /// A home without queues, which may hold so many bytes in memory, and so many while consumers
    /// have not acknowledged them; have so many of large messages on the way beyond credit; and do
    /// so much in a turn.
    pub fn new(
        seed: Seed,
        (resident_max, unsettled_max, large_max): (usize, usize, usize),
        turn_work: u32,
        store: StoreConfig,
    ) -> Self {
        Self {
            hosted: Map::with_hasher(seed),
            order: BTreeSet::new(),
            credit: FlowCredit::new(seed, large_max),
            channels: Map::with_hasher(seed),
            pinned: 0,
            bodies: BodyCounts::new(store.shard + 1).gauge(ShardId(store.shard)),
            outcome: EnqueueOutcome::default(),
            store: Store::new(store),
            memory: MemoryBudget::new((resident_max, unsettled_max), store.bypass_min),
            timers: QueueTimers::default(),
            dying: DyingQueues::default(),
            now: Now::default(),
            errors: VecDeque::new(),
            unfinished: UnfinishedWork::new(WorkBudget::new(turn_work), seed),
            consumer_timeout_ms: None,
            seed,
        }
    }

    /// Bodies are counted there.
    pub fn count_bodies(&mut self, gauge: BodyGauge) {
        self.bodies = gauge;
    }

    /// The body of a message from another shard is on its way into queues here.
    #[cold]
    pub fn took(&self, body: &Body) {
        self.bodies.took(body);
    }

    /// Sets the time to settle a delivery, in milliseconds, for queues that are created from now
    /// on and have no `x-consumer-timeout`.
    pub fn set_consumer_timeout(&mut self, ms: Option<u64>) {
        self.consumer_timeout_ms = ms;
    }

    /// An event is being handled, at this time.
    #[inline]
    pub fn set_time(&mut self, now: Now) {
        self.now = now;
    }

    /// Where bodies are counted.
    pub fn gauge(&self) -> BodyGauge {
        self.bodies.clone()
    }

    /// Creates a queue and tells it its effective arguments.
    pub fn create(&mut self, vhost: Name, spec: QueueSpec, outward: &mut impl HomeOutput) {
        let queue = kind::create(&spec, self.seed);
        let pinned = queue.pinned();
        self.pinned += pinned;
        let (busy, waiting, name) = (false, VecDeque::new(), spec.name);
        let (armed_us, letters) = (NEVER_US, QueueLetters::default());
        let host = HostedQueue { queue, vhost, name, armed_us, letters, pinned, busy, waiting };
        self.hosted.insert(spec.id, host);
        if !spec.id.is_direct_reply() {
            self.order.insert(spec.id);
        }
        self.reconfigure(spec.id, &spec.arguments, outward);
    }

    /// These arguments are in force for a queue: its own, merged with policies.
    pub fn reconfigure(
        &mut self,
        id: QueueId,
        arguments: &Arguments,
        outward: &mut impl HomeOutput,
    ) {
        let mut arguments = EffectiveArguments::of(arguments);
        arguments.consumer_timeout_ms = arguments.consumer_timeout_ms.or(self.consumer_timeout_ms);
        self.with(id, outward, |queue, now, output| {
            queue.reconfigure(arguments, now, output);
        });
    }

    /// True if the queue is here.
    #[inline]
    pub fn contains(&self, id: QueueId) -> bool {
        self.hosted.contains_key(&id)
    }

    /// Works on a queue and keeps count of its memory. `None`: there is no such queue.
    #[inline]
    pub(super) fn with<O: HomeOutput, R>(
        &mut self,
        id: QueueId,
        outward: &mut O,
        work: impl FnOnce(&mut QueueKind, Now, &mut HostOutput<'_, O>) -> R,
    ) -> Option<R> {
        self.with_message(id, ShardId::default(), outward, work, |_| false)
    }

    /// Works on a queue that a message of this source enters. Its memory and its times are looked
    /// at unless the result tells that they are `unchanged`.
    #[inline(always)]
    fn with_message<O: HomeOutput, R>(
        &mut self,
        id: QueueId,
        source: ShardId,
        outward: &mut O,
        work: impl FnOnce(&mut QueueKind, Now, &mut HostOutput<'_, O>) -> R,
        unchanged: impl FnOnce(&R) -> bool,
    ) -> Option<R> {
        let host = self.hosted.get_mut(&id)?;
        let Self { credit, store, outcome, dying, .. } = self;
        let mut output = HostOutput { outward, credit, store, outcome, dying, source };
        let result = work(&mut host.queue, self.now, &mut output);
        if !unchanged(&result) {
            let pinned = host.queue.pinned();
            self.pinned = self.pinned + pinned - std::mem::replace(&mut host.pinned, pinned);
            if let Some(due_us) = host.queue.next_deadline_us() {
                self.timers.arm(id, &mut host.armed_us, due_us);
            }
            if host.queue.unfinished() && !host.busy {
                host.busy = true;
                self.unfinished.busy(id);
            }
        }
        Some(result)
    }

    /// A message of a source enters queues of this home; one that is gone drops it.
    #[inline(always)]
    pub fn push_all(
        &mut self,
        queues: impl Iterator<Item = QueueId>,
        message: Message<'_>,
        source: ShardId,
        outward: &mut impl HomeOutput,
    ) -> EnqueueOutcome {
        if message.persistent() {
            self.store.next_message();
        }
        for queue in queues {
            self.push(queue, message, source, outward);
        }
        std::mem::take(&mut self.outcome)
    }

    /// A message of a source enters a queue of this home.
    #[inline(always)]
    pub fn push(
        &mut self,
        id: QueueId,
        message: Message<'_>,
        source: ShardId,
        outward: &mut impl HomeOutput,
    ) {
        if id.is_direct_reply() {
            return self.push_reply(id, message, outward);
        }
        let push = |queue: &mut QueueKind, now, output: &mut HostOutput<'_, _>| {
            queue.push(message, now, output)
        };
        self.with_message(id, source, outward, push, |passed| *passed);
    }

    /// A reply enters; beyond the bound it is dropped, unless nothing waits.
    #[cold]
    fn push_reply(&mut self, id: QueueId, message: Message<'_>, outward: &mut impl HomeOutput) {
        self.with(id, outward, |queue, now, output| {
            let held = || queue.snapshot().memory_bytes;
            if queue.ready() == 0 || held() < REPLIES_MAX {
                queue.push(message, now, output);
            }
        });
    }

    /// Applies a settle and lets the queue go on; a queue that is gone ignores it.
    pub fn settle(&mut self, what: Settlement, outward: &mut impl HomeOutput) {
        let Settlement { queue, channel, number, up_to, how } = what;
        if up_to {
            return self.settle_up_to(what, outward);
        }
        self.with(queue, outward, |queue, now, output| {
            queue.settle(channel, number, how, now, output);
            queue.dispatch(now, output);
        });
    }

    fn settle_up_to(&mut self, what: Settlement, outward: &mut impl HomeOutput) {
        let Settlement { queue: id, channel, number, how, .. } = what;
        let most = self.unfinished.budget.left();
        let progress = self.with(id, outward, |queue, now, output| {
            queue.settle_up_to(channel, number, how, now, output);
            queue.go_on(most, now, output)
        });
        self.progressed(id, progress, outward);
    }

    /// Serves the queue's consumers and gets as long as there are messages.
    pub fn dispatch(&mut self, id: QueueId, outward: &mut impl HomeOutput) {
        self.with(id, outward, |queue, now, output| queue.dispatch(now, output));
    }

    /// When the next queue is to be ticked, in microseconds of the monotonic clock.
    pub fn next_queue_deadline_us(&self) -> Option<u64> {
        self.timers.next_us()
    }

    /// Ticks the queues whose deadlines have come: one, and more as far as the turn's work goes.
    pub fn tick(&mut self, outward: &mut impl HomeOutput) {
        while let Some(id) = self.timers.pop_due(self.now.monotonic_us) {
            let mut before = 0;
            if let Some(host) = self.hosted.get_mut(&id) {
                host.armed_us = NEVER_US;
                before = host.queue.ready();
            }
            let unused = self.with(id, outward, |queue, now, output| queue.tick(now, output));
            self.count_dropped(id, before);
            self.tell_expired(id, unused, outward);
            if self.unfinished.budget.is_spent() && !mutant::active(Mutant::TicksUncut) {
                return;
            }
        }
    }

    /// A queue that had so many messages was ticked: what it dropped is work, of which this turn
    /// does no more. What one queue drops at once is bounded by itself.
    fn count_dropped(&mut self, id: QueueId, before: u32) {
        /// Messages that are dropped in the time of a unit.
        const DROPS: u32 = 8;
        let ready = self.hosted.get(&id).map_or(before, |host| host.queue.ready());
        let units = 1 + before.saturating_sub(ready) / DROPS;
        let left = self.unfinished.budget.left();
        self.unfinished.budget.spend(units.min(left));
    }

    /// The connection is gone, and its flow credit with it.
    pub fn forget_connection(&mut self, conn: ConnId) {
        self.credit.forget(conn);
    }

    /// Permits came for a consumer of a queue here; how many are of no use.
    pub fn permitted(&mut self, queue: QueueId, permit: Ask, outward: &mut impl HomeOutput) -> u32 {
        let Ask { consumer, slot, count, .. } = permit;
        let permitted = self.with(queue, outward, |queue, now, output| {
            queue.permitted(slot, consumer, count, now, output)
        });
        permitted.unwrap_or(count)
    }

    /// Remembers that the queue may hold something of the channel.
    pub(super) fn involve(&mut self, channel: ChannelId, queue: QueueId) {
        let queues = self.channels.entry(channel).or_default();
        if queues.insert(queue) && queues.len() >= FORGET_MIN && queues.len().is_power_of_two() {
            // Before it grows: queues come and go during the life of a channel.
            queues.retain(|queue| self.hosted.contains_key(queue));
        }
    }

    /// Deletes a queue with all that it holds.
    pub fn delete(&mut self, id: QueueId, outward: &mut impl HomeOutput) {
        self.with(id, outward, |queue, now, output| queue.let_go(now, output));
        self.store.forget_queue(id);
        let Some(host) = self.hosted.remove(&id) else { return };
        self.order.remove(&id);
        self.timers.disarm(id, host.armed_us);
        self.drop_queue(id, host.queue, host.waiting, outward);
    }

    /// Consumers, unsettled deliveries, credit and channels that the home holds for clients.
    pub fn leftovers(&self) -> usize {
        let queues = self.hosted.values().map(|host| &host.queue);
        let held = queues.map(|queue| queue.consumers().len() + queue.unacked());
        self.credit.len() + self.channels.len() + held.sum::<usize>() + self.unfinished.len()
    }

    /// Bytes of memory that the queues and the store hold.
    pub fn pinned(&self) -> usize {
        self.resident() + self.store.pinned()
    }

    /// Bytes of memory that the queues hold, each body that they share once.
    #[inline]
    pub fn resident(&self) -> usize {
        let bodies = if mutant::active(Mutant::BodiesUncounted) { 0 } else { self.bodies.bytes() };
        self.pinned + bodies
    }

    /// The ids of all queues, in order.
    pub(super) fn ids(&self) -> Vec<QueueId> {
        let mut ids: Vec<QueueId> = self.hosted.keys().copied().collect();
        ids.sort_unstable();
        ids
    }
}

#[cfg(test)]
mod tests {
    use model::Arguments;
    use model::queue::{EnqueueEnd, EnqueueId};

    use crate::queues::hosted::*;

    /// Takes nothing, since there are no consumers.
    struct Nobody;

    impl HomeOutput for Nobody {
        fn ask(&mut self, _: QueueId, _: Ask) -> Option<u32> {
            None
        }
        fn deliver(&mut self, _: model::queue::Delivery<'_>) {}
        fn got(&mut self, _: model::RequestId, _: u32, _: model::queue::Delivery<'_>) {}
        fn empty(&mut self, _: model::RequestId) {}
        fn unfit(&mut self, _: model::queue::Unfit) {}
        fn overdue(&mut self, _: model::queue::Overdue) {}
        fn stuck(&mut self, _: ConnId) {}
        fn consumer_gone(&mut self, _: ConnId, _: ChannelId, _: model::ConsumerId) {}
        fn unused(&mut self, _: QueueId) {}
        fn hold(&mut self, source: ShardId) -> EnqueueId {
            EnqueueId { source, number: 1 }
        }
        fn finish(&mut self, _: EnqueueId, _: EnqueueEnd) {}
    }

    #[test]
    fn a_channel_does_not_remember_queues_that_are_gone() {
        let most = (usize::MAX, usize::MAX, usize::MAX);
        let mut home = Queues::new(Seed::new(1), most, 1000, StoreConfig::default());
        let spec = |id| QueueSpec {
            id: QueueId(id),
            name: Name::default(),
            home: ShardId(0),
            durable: false,
            auto_delete: false,
            owner: None,
            server_named: false,
            arguments: Arguments::default(),
        };
        home.create(Name::default(), spec(0), &mut Nobody);
        home.involve(ChannelId(1), QueueId(0));
        for id in 1..1000 {
            home.create(Name::default(), spec(id), &mut Nobody);
            home.involve(ChannelId(1), QueueId(id));
            home.involve(ChannelId(1), QueueId(id));
            home.delete(QueueId(id), &mut Nobody);
        }
        let queues = &home.channels[&ChannelId(1)];
        assert!(queues.len() < 10 && queues.contains(&QueueId(0)), "{queues:?}");
    }
}
