//! A queue with limits and messages that expire, partly spilled, at random against a plain model:
//! a list of messages from which the first ones are taken.

use std::collections::{BTreeMap, VecDeque};

use amqp::Properties;
use amqp::properties::Basic;
use bytes::Bytes;

use crate::hash::Seed;
use crate::ids::{ChannelId, ConnId, ConsumerId, QueueId, RequestId};
use crate::message::{Draft, Message};
use crate::queue::classic::ClassicQueue;
use crate::queue::consumer::{Ask, ConsumerSpec};
use crate::queue::stored::Stored;
use crate::queue::{
    Delivery, DropSpilled, DroppedSpilled, EffectiveArguments, EnqueueEnd, EnqueueId, Expiry, Get,
    Overdue, Overflow, QueueOutput, Settle, Spilled, Unfit,
};
use crate::time::Now;

/// A message of the plain model.
#[derive(Debug, Clone, Copy)]
struct Plain {
    expiry: Expiry,
    body: u64,
}

#[derive(Clone)]
struct SpilledMessage {
    seq: u64,
    stored: Stored,
    expiry: Expiry,
    record: Vec<u8>,
}

/// What the queue should hold, and the store beside it.
#[derive(Default)]
struct World {
    now: Now,
    arguments: EffectiveArguments,
    /// By the number in the routing key.
    ready: BTreeMap<u64, Plain>,
    /// By the queue's number of the delivery.
    unacked: BTreeMap<u64, (u64, Plain)>,
    gets: usize,
    chunks: VecDeque<Vec<SpilledMessage>>,
    under_way: Option<Vec<SpilledMessage>>,
    refused: bool,
    /// The consumer may be sent so many more.
    credit: usize,
    no_ack: bool,
}

impl World {
    fn bodies(&self) -> u64 {
        self.ready.values().map(|one| one.body).sum()
    }

    fn beyond(&self, messages: u64, bodies: u64) -> bool {
        let EffectiveArguments { max_length, max_length_bytes, .. } = self.arguments;
        max_length.is_some_and(|max| self.ready.len() as u64 + messages > max)
            || max_length_bytes.is_some_and(|max| self.bodies() + bodies > max)
    }

    fn drop_head(&mut self) {
        while self.arguments.overflow == Overflow::DropHead && self.beyond(0, 0) {
            self.ready.pop_first();
        }
    }

    fn expire(&mut self) {
        let now_ms = self.now.wall_ms;
        while self.ready.first_key_value().is_some_and(|(_, one)| one.expiry.has_come(now_ms)) {
            self.ready.pop_first();
        }
    }

    fn leaves(&mut self, Delivery { to, message }: Delivery<'_>) {
        self.expire();
        let (number, plain) = self.ready.pop_first().expect("something is ready");
        assert_eq!(message.routing_key(), number.to_string());
        if to.number > 0 {
            self.unacked.insert(to.number, (number, plain));
        }
    }
}

impl QueueOutput for World {
    fn open(&mut self, _: QueueId, _: ConnId) -> bool {
        self.credit > 0
    }
    fn open_for(&mut self, _: QueueId, _: ConnId, _: Message<'_>) -> bool {
        self.credit > 0
    }
    fn ask(&mut self, _: QueueId, ask: Ask) -> Option<u32> {
        Some(ask.count)
    }
    fn deliver(&mut self, delivery: Delivery<'_>) {
        self.credit -= 1;
        self.leaves(delivery);
    }
    fn got(&mut self, _: RequestId, remaining: u32, delivery: Delivery<'_>) {
        self.gets -= 1;
        self.leaves(delivery);
        self.expire();
        // What has expired on disk may count until it is read.
        let in_memory = self.chunks.is_empty() && self.under_way.is_none();
        let counted = remaining as usize;
        assert!(counted == self.ready.len() || !in_memory && counted > self.ready.len());
    }
    fn empty(&mut self, _: RequestId) {
        self.gets -= 1;
        self.expire();
        assert!(self.ready.is_empty(), "{:?}", self.ready);
    }
    fn unfit(&mut self, _: Unfit) {}
    fn overdue(&mut self, _: Overdue) {}
    fn refuse(&mut self) {
        self.refused = true;
    }
    fn hold(&mut self) -> EnqueueId {
        panic!("a classic queue applies at once");
    }
    fn finish(&mut self, _: EnqueueId, _: EnqueueEnd) {}
    fn log(&mut self, _: QueueId, _: u64, _: Expiry, _: Message<'_>) -> Stored {
        Stored::logged(1)
    }
    fn log_held(&mut self, _: QueueId, _: u64, _: Message<'_>) -> Stored {
        panic!("a classic queue holds nothing");
    }
    fn bypass_log(&mut self, id: QueueId, seq: u64, expiry: Expiry, message: Message<'_>) -> bool {
        let (redelivered, stored) = (false, Stored::SPILLED_DURABLE);
        self.spill(id, Spilled { seq, redelivered, stored, expiry, message });
        true
    }
    fn log_again(
        &mut self,
        _: QueueId,
        _: u64,
        (old, _): (Stored, Expiry),
        _: Message<'_>,
    ) -> Stored {
        old
    }
    fn settled(&mut self, _: QueueId, _: u64, _: Stored) {}
    fn let_go(&mut self, _: Stored) {}
    fn spill(&mut self, _: QueueId, spilled: Spilled<'_>) {
        let Spilled { seq, expiry, message, .. } = spilled;
        let record = message.record().to_vec();
        let spilled = SpilledMessage { seq, stored: Stored::SPILLED_DURABLE, expiry, record };
        match self.chunks.back_mut().filter(|last| last.len() < 4) {
            Some(last) => last.push(spilled),
            None => self.chunks.push_back(vec![spilled]),
        }
    }
    fn died(&mut self, _: QueueId) {
        unreachable!("the queue has no dead-letter exchange");
    }
    fn fetch(&mut self, _: QueueId) {
        assert!(self.under_way.is_none(), "one at a time");
        self.under_way = self.chunks.pop_front();
        assert!(self.under_way.is_some());
    }
    fn purge(&mut self, _: QueueId) {
        self.chunks.clear();
        self.under_way = None;
    }
    fn drop_spilled(&mut self, _: QueueId, mut what: DropSpilled) -> DroppedSpilled {
        assert!(self.under_way.is_none(), "a fetch is under way");
        let mut dropped = DroppedSpilled { messages: 0, bodies: 0, next: Expiry::NEVER };
        while let Some(first) = self.chunks.front() {
            let sizes = first.iter().map(|one| Message::new(&one.record, None).body_len() as u64);
            let (count, sum) = (first.len() as u64, sizes.sum());
            let drops = match &mut what {
                DropSpilled::Nothing => false,
                DropSpilled::Expired(ms) => first.iter().all(|one| one.expiry.has_come(*ms)),
                DropSpilled::First { messages, bodies } => {
                    let drops = *messages >= count || *bodies > sum;
                    *messages = messages.saturating_sub(count);
                    *bodies = bodies.saturating_sub(sum);
                    drops
                }
            };
            if !drops {
                break;
            }
            self.chunks.pop_front();
            (dropped.messages, dropped.bodies) = (dropped.messages + count, dropped.bodies + sum);
        }
        let first = self.chunks.front().into_iter().flatten();
        dropped.next = first.map(|one| one.expiry).min().unwrap_or(Expiry::NEVER);
        dropped
    }
}

fn draft(number: u64, size: u64, expiration: Option<u64>) -> Draft {
    let (mut draft, mut encoded) = (Draft::default(), Vec::new());
    let text = expiration.map(|ms| ms.to_string());
    Basic { expiration: text.as_deref(), ..Basic::default() }.write(&mut encoded);
    draft.begin("", &number.to_string());
    draft.header(Properties::checked_before(&encoded), 2, 0, size as u32);
    if expiration.is_some() {
        draft.expires();
    }
    let body = Bytes::from(vec![7; size as usize]);
    draft.body(&body, &body);
    draft
}

struct Run {
    rng: fastrand::Rng,
    queue: ClassicQueue,
    world: World,
    next: u64,
}

impl Run {
    fn publish(&mut self) {
        let (number, size) = (self.next, self.rng.u64(..40));
        self.next += 1;
        let expiration = (self.rng.u8(..3) == 0).then(|| self.rng.u64(..30));
        let world = &mut self.world;
        world.expire();
        let refused = world.arguments.overflow != Overflow::DropHead && world.beyond(1, size);
        let now_ms = world.now.wall_ms;
        let ttl = expiration.into_iter().chain(world.arguments.message_ttl_ms).min();
        let expiry = ttl.map_or(Expiry::NEVER, |ms| Expiry::at_ms(now_ms + ms));
        let first = world.ready.is_empty() && world.credit > 0 && !self.queue.consumers.is_empty();
        world.refused = false;
        // The plain model takes it in as one that does not expire yet, as long as a consumer waits.
        if !refused {
            let expiry = if first { Expiry::NEVER } else { expiry };
            world.ready.insert(number, Plain { expiry, body: size });
            if !first {
                world.drop_head();
            }
        }
        self.queue.push(draft(number, size, expiration).message(), world.now, world);
        // What has expired in a chunk that is being read counts until it is there.
        let reading = world.under_way.is_some() && world.refused;
        assert!(world.refused == refused || reading, "of {number}");
        if world.refused {
            world.ready.remove(&number);
        }
        if let Some(plain) = world.ready.get_mut(&number) {
            assert!(!first || self.queue.counted() > 1 || world.under_way.is_some(), "it waits");
            plain.expiry = expiry;
        }
        if let Some((_, plain)) = world.unacked.values_mut().find(|(one, _)| *one == number) {
            plain.expiry = expiry;
        }
        world.drop_head();
    }

    fn get(&mut self) {
        let (conn, channel) = (ConnId(1), ChannelId(1));
        let no_ack = self.rng.bool();
        let get = Get { ticket: RequestId(1), conn, channel, no_ack, properties_max: usize::MAX };
        self.world.gets += 1;
        self.queue.get(get, self.world.now, &mut self.world);
    }

    fn settle(&mut self) {
        let nth = self.rng.usize(..self.world.unacked.len().max(1));
        let Some(number) = self.world.unacked.keys().nth(nth).copied() else { return };
        let how = [Settle::Ack, Settle::Requeue, Settle::Drop][self.rng.usize(..3)];
        let world = &mut self.world;
        // What has expired while it is read counts again if something is requeued ahead of it.
        let how = if world.under_way.is_some() { Settle::Ack } else { how };
        if let Some((message, plain)) = world.unacked.remove(&number)
            && how == Settle::Requeue
        {
            world.ready.insert(message, plain);
            world.drop_head();
        }
        for channel in [ChannelId(1), ChannelId(2)] {
            self.queue.settle(channel, number, how, world.now, world);
        }
        self.queue.dispatch(world.now, world);
    }

    fn consumer(&mut self) {
        let world = &mut self.world;
        if self.queue.consumers.is_empty() {
            self.queue.consume(
                ConsumerSpec {
                    id: ConsumerId(1),
                    conn: ConnId(2),
                    channel: ChannelId(2),
                    no_ack: world.no_ack,
                    prefetch: 0,
                    exclusive: false,
                    priority: 0,
                    limited: false,
                    timeout_ms: None,
                    properties_max: usize::MAX,
                },
                world.now,
            );
            world.credit = self.rng.usize(..6);
            self.queue.dispatch(world.now, world);
        } else if self.rng.bool() {
            self.queue.cancel(ConsumerId(1), world.now, world);
        } else {
            world.credit = self.rng.usize(..6);
            self.queue.reopen(ConnId(2), world.now, world);
        }
    }

    fn bring(&mut self) {
        let Some(brought) = self.world.under_way.take() else { return };
        for SpilledMessage { seq, stored, expiry, record } in &brought {
            let (seq, stored, expiry) = (*seq, *stored, *expiry);
            let message = Message::new(record, None);
            self.queue.loaded(Spilled { seq, redelivered: false, stored, expiry, message });
        }
        self.queue.all_loaded(self.world.now, &mut self.world);
    }

    /// What the queue does in pieces.
    fn finish(&mut self) {
        while self.queue.unfinished() {
            let most = self.rng.u32(1..6);
            self.queue.go_on(most, self.world.now, &mut self.world);
        }
    }

    fn spill(&mut self) {
        let (window, bytes) = (self.rng.usize(..300), self.rng.usize(..2000));
        self.queue.spill(window, bytes, self.world.now, &mut self.world);
        if self.rng.bool() {
            self.queue.begin_to_bypass_log();
        }
    }

    fn reconfigure(&mut self) {
        let pending = self.queue.counted() > u64::from(self.queue.ready());
        if self.queue.drops_head && (pending || self.world.under_way.is_some()) {
            // With a higher limit, those would count again that are to be dropped on disk.
            return;
        }
        let arguments = arguments(&mut self.rng);
        self.world.arguments = arguments.clone();
        self.world.drop_head();
        self.queue.reconfigure(arguments, self.world.now, &mut self.world);
    }

    fn purge(&mut self) {
        self.world.expire();
        let ready = std::mem::take(&mut self.world.ready).len();
        let purged = self.queue.purge(self.world.now, &mut self.world) as usize;
        // What has expired in a chunk that is being read counts until it is there.
        assert!(purged >= ready, "{purged} of {ready}");
    }

    fn pass(&mut self) {
        let ms = self.rng.u64(..12);
        self.world.now.wall_ms += ms;
        self.world.now.monotonic_us += ms * 1000;
        if self.queue.next_deadline_us().is_some_and(|due| due <= self.world.now.monotonic_us) {
            self.queue.tick(self.world.now, &mut self.world);
        }
    }

    fn check(&mut self) {
        let now = self.world.now;
        self.world.expire();
        if self.world.under_way.is_some() {
            return;
        }
        self.queue.touch(now, &mut self.world);
        let due = |queue: &ClassicQueue| {
            queue.next_deadline_us().is_some_and(|due| due <= now.monotonic_us)
        };
        let mut ticks = 0;
        while due(&self.queue) && ticks < 1000 {
            self.queue.tick(now, &mut self.world);
            ticks += 1;
        }
        assert!(!due(&self.queue), "the queue is never done with its deadlines");
        if self.world.under_way.is_some() {
            return;
        }
        self.world.expire();
        let what =
            (&self.world.arguments, &self.world.ready, &self.queue.backlog, &self.queue.returned);
        assert_eq!(self.queue.ready() as usize, self.world.ready.len(), "{what:?}");
        assert_eq!(self.queue.unacked(), self.world.unacked.len());
        assert_eq!(self.world.gets, 0, "a get waits for nothing");
        if let Some((_, first)) = self.world.ready.first_key_value()
            && first.expiry != Expiry::NEVER
        {
            let due = now.monotonic_us + (first.expiry.ms() - now.wall_ms) * 1000;
            let next = self.queue.next_deadline_us();
            assert!(next.is_some_and(|next| next <= due), "{next:?} is not {due}");
        }
    }
}

fn arguments(rng: &mut fastrand::Rng) -> EffectiveArguments {
    let overflow = [Overflow::DropHead, Overflow::DropHead, Overflow::RejectPublish];
    EffectiveArguments {
        message_ttl_ms: rng.bool().then(|| rng.u64(..60)),
        max_length: rng.bool().then(|| rng.u64(..25)),
        max_length_bytes: rng.bool().then(|| rng.u64(..600)),
        overflow: overflow[rng.usize(..3)],
        ..EffectiveArguments::default()
    }
}

fn run(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let queue = ClassicQueue::new(QueueId(1), true, false, Seed::new(seed));
    let now = Now { monotonic_us: 5, wall_ms: 1_000_000 };
    let world = World { now, no_ack: rng.bool(), ..World::default() };
    let mut run = Run { rng, queue, world, next: 1 };
    run.reconfigure();
    let consumed = run.rng.bool();
    for _ in 0..400 {
        match run.rng.u8(..24) {
            0..10 => run.publish(),
            10 | 11 => run.get(),
            12 | 13 => run.settle(),
            14 | 15 => run.spill(),
            16..19 => run.bring(),
            19 if consumed => run.consumer(),
            20 if run.rng.u8(..6) == 0 => run.reconfigure(),
            21 if run.rng.u8(..10) == 0 => run.purge(),
            _ => run.pass(),
        }
        run.finish();
        run.check();
    }
}

#[test]
fn a_queue_holds_what_neither_its_limits_nor_the_time_took() {
    (0..2000).for_each(run);
}

/// Faults that the random run has to find.
#[cfg(feature = "mutants")]
#[test]
fn faults_of_limits_are_found() {
    use crate::mutant::{self, Mutant};
    let faults = [
        Mutant::ExpiredDelivered,
        Mutant::HigherTtlWins,
        Mutant::ZeroTtlDropped,
        Mutant::LoadedForEver,
        Mutant::LimitIgnored,
        Mutant::DropTail,
        Mutant::UnackedBytesCount,
        Mutant::SpilledLimitPlusOne,
    ];
    for fault in faults {
        mutant::select(Some(fault));
        let found = (0..300).any(|seed| std::panic::catch_unwind(|| run(seed)).is_err());
        mutant::select(None);
        assert!(found, "{fault:?} is not found");
    }
}
