//! A queue, its store and its clients at random, against a plain model: a sorted list of messages.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::body::Body;
use crate::hash::Seed;
use crate::ids::{ChannelId, ConnId, ConsumerId, QueueId, RequestId};
use crate::message::{Draft, INLINE_MAX, Message};
use crate::queue::classic::ClassicQueue;
use crate::queue::consumer::{Ask, ConsumerSpec};
use crate::queue::stored::Stored;
use crate::queue::{
    Delivery, DropSpilled, DroppedSpilled, EnqueueEnd, EnqueueId, Expiry, Get, Overdue,
    QueueOutput, RestoredMessages, Settle, Spilled, Unfit,
};
use crate::time::Now;

const NOW: Now = Now { monotonic_us: 0, wall_ms: 0 };

/// A spilled message, as the store has it.
struct SpilledMessage {
    seq: u64,
    redelivered: bool,
    stored: Stored,
    record: Vec<u8>,
    body: Option<Body>,
}

/// Everything around the queue, and what it should hold.
#[derive(Default)]
struct World {
    /// What is ready: the message's size, and whether it was delivered before.
    ready: BTreeMap<u64, (usize, bool)>,
    /// What is not settled, by channel and number: the message's sequence number and size.
    unacked: BTreeMap<(u64, u64), (u64, usize)>,
    persistent: BTreeMap<u64, bool>,
    /// Gets that wait.
    gets: VecDeque<Get>,
    /// Where messages are on the disk.
    disk: BTreeMap<u64, Stored>,
    away: VecDeque<SpilledMessage>,
    /// The greatest sequence number that was ever spilled: chunks do not reach over each other.
    spilled: u64,
    under_way: Option<Vec<SpilledMessage>>,
    /// The store takes messages at once, and how many it took.
    through: bool,
    taken: usize,
    batch: u64,
    /// Until then, what a consumer is sent needs no acknowledgement.
    no_ack: bool,
    open: bool,
}

fn size_of_message(message: Message<'_>) -> usize {
    let body = message.large_body().map_or(message.inline_body().len(), Body::len);
    assert_eq!(body, message.body_len());
    body
}

impl World {
    /// The first message leaves; whom it is for settles it later, or at once.
    fn leaves(&mut self, Delivery { to, message }: Delivery<'_>, no_ack: bool) {
        let (seq, (size, redelivered)) = self.ready.pop_first().unwrap();
        assert_eq!((size_of_message(message), to.redelivered), (size, redelivered), "of {seq}");
        assert_eq!(message.routing_key(), seq.to_string());
        if no_ack {
            assert_eq!(to.number, 0);
        } else {
            self.unacked.insert((to.channel.0, to.number), (seq, size));
        }
    }

    /// What survives the end of the process is what is not settled.
    fn check_disk(&self, queue: &ClassicQueue) {
        let present = self.ready.keys().chain(self.unacked.values().map(|(seq, _)| seq));
        let mut present: Vec<u64> = present.copied().filter(|seq| self.persistent[seq]).collect();
        present.sort_unstable();
        let durable = self.disk.iter().filter(|(_, stored)| stored.is_durable());
        assert_eq!(durable.map(|(seq, _)| *seq).collect::<Vec<_>>(), present);
        let mut bytes = 0;
        for (seq, stored, message) in queue.in_memory() {
            assert_eq!(self.disk.get(&seq).copied().unwrap_or_default(), stored, "of {seq}");
            bytes += message.record().len() + message.large_body().map_or(0, Body::len);
        }
        assert!(queue.snapshot().memory_bytes >= bytes as u64);
    }

    fn check(&self, queue: &ClassicQueue) {
        assert_eq!(queue.ready() as usize, self.ready.len());
        assert_eq!(queue.unacked(), self.unacked.len());
        let away = self.away.len() + self.under_way.as_ref().map_or(0, Vec::len);
        assert_eq!(queue.in_memory().count() + away, self.ready.len() + self.unacked.len());
        assert!(self.gets.is_empty() || self.under_way.is_some(), "a get waits for nothing");
        let served = self.ready.is_empty() || !self.open || self.under_way.is_some();
        assert!(served, "a consumer waits for nothing");
        self.check_disk(queue);
    }
}

impl QueueOutput for World {
    fn open(&mut self, _: QueueId, _: ConnId) -> bool {
        self.open
    }
    fn open_for(&mut self, _: QueueId, _: ConnId, _: Message<'_>) -> bool {
        self.open
    }
    fn ask(&mut self, _: QueueId, ask: Ask) -> Option<u32> {
        Some(ask.count)
    }
    fn deliver(&mut self, delivery: Delivery<'_>) {
        let passes = self.ready.is_empty();
        assert!(!passes || self.no_ack);
        self.leaves(delivery, self.no_ack);
    }
    fn got(&mut self, ticket: RequestId, remaining: u32, delivery: Delivery<'_>) {
        let get = self.gets.pop_front().unwrap();
        assert_eq!((get.ticket, remaining as usize + 1), (ticket, self.ready.len()));
        self.leaves(delivery, get.no_ack);
    }
    fn empty(&mut self, ticket: RequestId) {
        assert_eq!(self.gets.pop_front().unwrap().ticket, ticket);
        assert!(self.ready.is_empty());
    }
    fn overdue(&mut self, _: Overdue) {}
    fn unfit(&mut self, _: Unfit) {
        panic!("every header fits");
    }
    fn refuse(&mut self) {
        panic!("the queue is in service");
    }
    fn hold(&mut self) -> EnqueueId {
        panic!("a classic queue applies at once");
    }
    fn finish(&mut self, _: EnqueueId, _: EnqueueEnd) {
        panic!("a classic queue holds nothing");
    }
    fn log_held(&mut self, _: QueueId, _: u64, _: Message<'_>) -> Stored {
        panic!("a classic queue holds nothing");
    }
    fn log(&mut self, _: QueueId, seq: u64, _: Expiry, message: Message<'_>) -> Stored {
        assert!(message.persistent() && self.persistent[&seq]);
        let stored = Stored::logged(self.batch);
        assert_eq!(self.disk.insert(seq, stored), None);
        stored
    }
    fn bypass_log(&mut self, id: QueueId, seq: u64, expiry: Expiry, message: Message<'_>) -> bool {
        if self.through {
            assert!(message.persistent() && self.persistent[&seq]);
            let stored = Stored::SPILLED_DURABLE;
            assert_eq!(self.disk.insert(seq, stored), None);
            self.spill(id, Spilled { seq, redelivered: false, stored, expiry, message });
            self.taken += 1;
        }
        self.through
    }
    fn log_again(
        &mut self,
        _: QueueId,
        seq: u64,
        (old, _): (Stored, Expiry),
        message: Message<'_>,
    ) -> Stored {
        assert_eq!(message.routing_key(), seq.to_string());
        let stored = Stored::logged(self.batch);
        assert_eq!(self.disk.insert(seq, stored), Some(old));
        stored
    }
    fn settled(&mut self, _: QueueId, seq: u64, stored: Stored) {
        assert_eq!(self.disk.remove(&seq), Some(stored));
    }
    fn let_go(&mut self, stored: Stored) {
        let seq = self.disk.iter().find(|(_, there)| **there == stored).map(|(seq, _)| *seq);
        self.disk.remove(&seq.unwrap());
    }
    fn spill(&mut self, _: QueueId, spilled: Spilled<'_>) {
        let Spilled { seq, redelivered, stored: before, message, .. } = spilled;
        assert!(self.spilled < seq, "{seq} was spilled behind {}", self.spilled);
        self.spilled = seq;
        assert_eq!(self.disk.get(&seq).copied().unwrap_or_default(), before);
        let stored = if before.is_durable() { Stored::SPILLED_DURABLE } else { Stored::SPILLED };
        self.disk.insert(seq, stored);
        let (record, body) = (message.record().to_vec(), message.large_body().cloned());
        self.away.push_back(SpilledMessage { seq, redelivered, stored, record, body });
    }
    fn died(&mut self, _: QueueId) {
        unreachable!("the queue has no dead-letter exchange");
    }
    fn fetch(&mut self, _: QueueId) {
        assert!(self.under_way.is_none(), "one at a time");
        assert!(!self.away.is_empty());
        let count = self.away.len().min(1 + self.away.len() % 7);
        self.under_way = Some(self.away.drain(..count).collect());
    }
    fn purge(&mut self, _: QueueId) {
        for away in self.away.drain(..).chain(self.under_way.take().into_iter().flatten()) {
            assert_eq!(self.disk.remove(&away.seq), Some(away.stored));
        }
    }
    fn drop_spilled(&mut self, _: QueueId, _: DropSpilled) -> DroppedSpilled {
        panic!("nothing expires, and there is no limit");
    }
}

fn draft(seq: u64, size: usize, persistent: bool) -> Draft {
    let mut draft = Draft::default();
    draft.begin("", &seq.to_string());
    draft.header(amqp::Properties::EMPTY, if persistent { 2 } else { 1 }, 0, size as u32);
    let body = Bytes::from(vec![seq as u8; size]);
    draft.body(&body, &body);
    draft
}

/// Messages that the last process left, some of them delivered before.
fn recover(queue: &mut ClassicQueue, world: &mut World, rng: &mut fastrand::Rng, next: &mut u64) {
    let count = rng.u64(1..20);
    for seq in 1..=count {
        let (size, redelivered) = (rng.usize(..300), rng.bool());
        let record = draft(seq, size, true).message().record().to_vec();
        let stored = Stored::SPILLED_DURABLE;
        world.away.push_back(SpilledMessage { seq, redelivered, stored, record, body: None });
        world.ready.insert(seq, (size, redelivered));
        world.persistent.insert(seq, true);
        world.disk.insert(seq, stored);
    }
    *next = count + rng.u64(1..5);
    let next_seq = *next;
    queue.restore(RestoredMessages { messages: count, next_seq, ..RestoredMessages::default() });
    world.check(queue);
}

fn publish(queue: &mut ClassicQueue, world: &mut World, rng: &mut fastrand::Rng, seq: &mut u64) {
    let size = if rng.u8(..8) == 0 { rng.usize(INLINE_MAX..100_000) } else { rng.usize(..300) };
    let persistent = rng.u8(..3) > 0;
    let mut draft = draft(*seq, size, persistent);
    world.ready.insert(*seq, (size, false));
    world.persistent.insert(*seq, persistent);
    let before = queue.next_seq;
    queue.push(draft.message(), NOW, world);
    // What passes straight to a consumer has no number, and the next one takes it.
    if queue.next_seq == before {
        world.persistent.remove(seq);
    } else {
        *seq += 1;
    }
}

fn settle(queue: &mut ClassicQueue, world: &mut World, rng: &mut fastrand::Rng) {
    if world.unacked.is_empty() {
        return;
    }
    let nth = rng.usize(..world.unacked.len());
    let (&(channel, number), _) = world.unacked.iter().nth(nth).unwrap();
    let how = [Settle::Ack, Settle::Requeue, Settle::Drop][rng.usize(..3)];
    let first = if rng.bool() { number } else { 0 };
    let range = (channel, first)..=(channel, number);
    let settled: Vec<_> = world.unacked.range(range).map(|(key, value)| (*key, *value)).collect();
    for (key, (seq, size)) in settled {
        world.unacked.remove(&key);
        if how == Settle::Requeue {
            world.ready.insert(seq, (size, true));
        }
    }
    if first == 0 {
        queue.settle_up_to(ChannelId(channel), number, how, NOW, world);
        finish(queue, world, rng);
    } else {
        queue.settle(ChannelId(channel), number, how, NOW, world);
    }
    queue.dispatch(NOW, world);
}

/// Does what takes long, in pieces.
fn finish(queue: &mut ClassicQueue, world: &mut World, rng: &mut fastrand::Rng) {
    while queue.unfinished() {
        let most = rng.u32(1..6);
        assert!(queue.go_on(most, NOW, world).used <= most);
    }
}

fn get(queue: &mut ClassicQueue, world: &mut World, rng: &mut fastrand::Rng) {
    let channel = rng.u64(1..4);
    let (ticket, no_ack) = (RequestId(rng.u64(..)), rng.bool());
    let (conn, channel, properties_max) = (ConnId(channel), ChannelId(channel), usize::MAX);
    let get = Get { ticket, conn, channel, no_ack, properties_max };
    world.gets.push_back(get);
    queue.get(get, NOW, world);
}

fn bring(queue: &mut ClassicQueue, world: &mut World) {
    let Some(brought) = world.under_way.take() else { return };
    for SpilledMessage { seq, redelivered, stored, record, body } in &brought {
        let message = Message::new(record, body.as_ref());
        let (seq, redelivered, stored) = (*seq, *redelivered, *stored);
        let expiry = Expiry::NEVER;
        queue.loaded(Spilled { seq, redelivered, stored, expiry, message });
    }
    queue.all_loaded(NOW, world);
}

/// What is behind the head is spilled, all of it or a part; then messages may go to the store at
/// once.
fn spill(queue: &mut ClassicQueue, world: &mut World, window: usize, rng: &mut fastrand::Rng) {
    let bytes = if rng.bool() { usize::MAX } else { rng.usize(..50_000) };
    let had = queue.spillable(window);
    let spilled = queue.spill(window, bytes, NOW, world);
    assert!(spilled >= bytes.min(had), "{spilled} of {bytes}, there were {had}");
    world.through = rng.u8(..4) > 0;
    let begun = queue.begin_to_bypass_log();
    assert!(!begun || !world.away.is_empty() || world.under_way.is_some());
}

/// A consumer comes or goes, or may be sent something or not.
fn consumer(queue: &mut ClassicQueue, world: &mut World, rng: &mut fastrand::Rng) {
    if queue.consumers().is_empty() {
        world.no_ack = rng.bool();
        world.open = rng.bool();
        queue.consume(
            ConsumerSpec {
                id: ConsumerId(1),
                conn: ConnId(9),
                channel: ChannelId(9),
                no_ack: world.no_ack,
                prefetch: 0,
                exclusive: false,
                priority: 0,
                limited: false,
                timeout_ms: None,
                properties_max: usize::MAX,
            },
            NOW,
        );
        queue.dispatch(NOW, world);
    } else if rng.bool() {
        queue.cancel(ConsumerId(1), NOW, world);
        world.open = false;
    } else {
        world.open = true;
        queue.reopen(ConnId(9), NOW, world);
    }
}

fn leave_log(queue: &mut ClassicQueue, world: &mut World, window: usize, rng: &mut fastrand::Rng) {
    let before = rng.u64(1..=world.batch);
    queue.leave_log(before, window, NOW, world);
    let old = world.disk.values().filter_map(|stored| stored.batch()).min();
    assert!(old.is_none_or(|old| old >= before), "{old:?} is before {before}");
}

fn leave_segment(queue: &mut ClassicQueue, world: &mut World, next: u64, rng: &mut fastrand::Rng) {
    let from = rng.u64(..next + 1);
    let to = rng.u64(from..next + 1);
    for seq in from..=to {
        let away = world.away.iter().chain(world.under_way.iter().flatten());
        if world.disk.get(&seq) == Some(&Stored::SPILLED) && !away.into_iter().any(|a| a.seq == seq)
        {
            world.disk.remove(&seq);
        }
    }
    queue.leave_segment(from, to, NOW, world);
    for (seq, stored, _) in queue.in_memory().filter(|(seq, ..)| (from..=to).contains(seq)) {
        assert!(stored == Stored::NOWHERE || stored.batch().is_some(), "{seq} is in its segment");
    }
}

fn purge(queue: &mut ClassicQueue, world: &mut World, rng: &mut fastrand::Rng) {
    let ready = std::mem::take(&mut world.ready).len();
    assert_eq!(queue.purge(NOW, world) as usize, ready);
    if rng.bool() {
        // The store may ask for what was dropped and is still in memory.
        queue.leave_log(world.batch, 0, NOW, world);
    }
    finish(queue, world, rng);
}

fn channel_gone(
    queue: &mut ClassicQueue,
    world: &mut World,
    channel: u64,
    rng: &mut fastrand::Rng,
) {
    world.gets.retain(|get| get.channel != ChannelId(channel));
    let keys: Vec<_> = world.unacked.range((channel, 0)..(channel + 1, 0)).map(|u| *u.0).collect();
    for key in keys {
        let (seq, size) = world.unacked.remove(&key).unwrap();
        world.ready.insert(seq, (size, true));
    }
    queue.channel_gone(ChannelId(channel), NOW, world);
    finish(queue, world, rng);
    queue.dispatch(NOW, world);
}

/// Says how many messages went to the store at once.
fn run(seed: u64) -> usize {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut world = World { batch: 1, ..World::default() };
    let mut queue = ClassicQueue::new(QueueId(1), true, false, Seed::new(seed));
    let (mut next, busy) = (1, rng.bool());
    if rng.bool() {
        recover(&mut queue, &mut world, &mut rng, &mut next);
    }
    for _ in 0..300 {
        let window = if rng.bool() { rng.usize(..5000) } else { 0 };
        match rng.u8(..if busy { 24 } else { 16 }) {
            0..5 | 16.. => publish(&mut queue, &mut world, &mut rng, &mut next),
            5 | 6 => settle(&mut queue, &mut world, &mut rng),
            7 | 8 => get(&mut queue, &mut world, &mut rng),
            9 => spill(&mut queue, &mut world, window, &mut rng),
            10 | 11 => bring(&mut queue, &mut world),
            12 if rng.bool() => consumer(&mut queue, &mut world, &mut rng),
            12 => world.batch += 1,
            13 => leave_log(&mut queue, &mut world, window, &mut rng),
            14 => leave_segment(&mut queue, &mut world, next, &mut rng),
            _ if rng.bool() => {
                let channel = rng.u64(1..4);
                channel_gone(&mut queue, &mut world, channel, &mut rng);
            }
            _ if rng.u8(..8) == 0 => purge(&mut queue, &mut world, &mut rng),
            _ => {}
        }
        finish(&mut queue, &mut world, &mut rng);
        world.check(&queue);
    }
    let taken = world.taken;
    let drops = rng.bool();
    end(queue, world, drops, &mut rng);
    taken
}

/// Everything leaves the queue, or the queue goes with everything.
fn end(mut queue: ClassicQueue, mut world: World, drops: bool, rng: &mut fastrand::Rng) {
    if drops {
        let delivered: Vec<u64> = queue.delivered();
        let flagged = |seq: &u64| world.ready.get(seq).is_some_and(|(_, flag)| *flag);
        assert!(delivered.iter().all(|seq| flagged(seq) && world.persistent[seq]));
        world.purge(QueueId(1));
        queue.let_go(NOW, &mut world);
        finish(&mut queue, &mut world, rng);
        assert!(world.disk.is_empty(), "{:?}", world.disk);
        return;
    }
    purge(&mut queue, &mut world, rng);
    for (channel, number) in world.unacked.keys().copied().collect::<Vec<_>>() {
        queue.settle(ChannelId(channel), number, Settle::Ack, NOW, &mut world);
    }
    world.unacked.clear();
    world.check(&queue);
    assert!(queue.pinned() < 200_000, "{}", queue.pinned());
}

#[test]
fn a_queue_and_its_store_hold_what_was_neither_settled_nor_lost() {
    let taken: usize = (0..600).map(run).sum();
    assert!(taken > 2000, "only {taken} messages went to the store at once");
}

#[test]
fn a_transient_queue_logs_nothing() {
    let mut world = World { batch: 1, ..World::default() };
    let mut queue = ClassicQueue::new(QueueId(1), false, false, Seed::new(1));
    let (mut next, mut rng) = (1, fastrand::Rng::with_seed(1));
    (0..50).for_each(|_| publish(&mut queue, &mut world, &mut rng, &mut next));
    assert!(world.disk.is_empty());
}

/// Faults that the random run has to find.
#[cfg(feature = "mutants")]
#[test]
fn faults_are_found() {
    use crate::mutant::{self, Mutant};
    let faults = [
        Mutant::SpilledOvertaken,
        Mutant::BypassOvertakes,
        Mutant::SpillSkipsOne,
        Mutant::LoadedBackwards,
        Mutant::LoadedAsNew,
        Mutant::SettleNotTold,
        Mutant::StaysInLog,
        Mutant::PurgeKeepsOne,
    ];
    for fault in faults {
        mutant::select(Some(fault));
        let found = (0..300).any(|seed| std::panic::catch_unwind(|| run(seed)).is_err());
        mutant::select(None);
        assert!(found, "{fault:?} is not found");
    }
}
