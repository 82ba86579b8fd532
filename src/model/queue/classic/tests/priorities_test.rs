//! A queue with priorities, partly spilled and now and then restarted, at random against a plain
//! model: a list of messages in the order of their priorities and of their arrival.

use std::cmp::Reverse;
use std::collections::BTreeMap;

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
    Overdue, QueueOutput, RestoredLane, RestoredMessages, Settle, Spilled, Unfit, lane,
};
use crate::time::Now;

const MAX: u8 = 4;

/// Where a message is in the list.
type Place = (Reverse<u8>, u64);

/// A message of the plain model.
#[derive(Debug, Clone, Copy)]
struct Plain {
    expiry: Expiry,
    persistent: bool,
}

/// A message on disk.
#[derive(Debug, Clone)]
struct OnDisk {
    stored: Stored,
    expiry: Expiry,
    record: Vec<u8>,
}

/// What the queue should hold, and the store beside it.
#[derive(Default)]
struct World {
    now: Now,
    max_length: Option<u64>,
    ready: BTreeMap<Place, Plain>,
    /// By the queue's number of the delivery.
    unacked: BTreeMap<u64, (Place, Plain)>,
    gets: usize,
    /// What only the store has, by sequence number.
    spilled: BTreeMap<u64, OnDisk>,
    under_way: Vec<(u64, OnDisk)>,
    /// What survives a restart.
    durable: BTreeMap<u64, OnDisk>,
    /// The last message of each lane that was spilled.
    last: BTreeMap<u16, u64>,
    batch: u64,
    credit: usize,
}

impl World {
    fn drop_head(&mut self) {
        while self.max_length.is_some_and(|max| self.ready.len() as u64 > max) {
            self.ready.pop_first();
        }
    }

    fn leaves(&mut self, Delivery { to, message }: Delivery<'_>) {
        let number: u64 = message.routing_key().parse().unwrap();
        let place = (Reverse(message.priority().min(MAX)), number);
        let behind = self.ready.split_off(&place);
        let ahead = std::mem::replace(&mut self.ready, behind);
        let now_ms = self.now.wall_ms;
        let expired = |one: &Plain| one.expiry.has_come(now_ms);
        assert!(ahead.values().all(expired), "{place:?} before {ahead:?}");
        let plain = self.ready.remove(&place).unwrap_or_else(|| panic!("{place:?} was not ready"));
        assert!(!expired(&plain), "{place:?} has expired");
        if to.number > 0 {
            self.unacked.insert(to.number, (place, plain));
        }
    }

    fn keep(&mut self, seq: u64, stored: Stored, expiry: Expiry, message: Message<'_>) {
        let record = message.record().to_vec();
        self.durable.insert(seq, OnDisk { stored, expiry, record });
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
        let fresh = |one: &&Plain| !one.expiry.has_come(self.now.wall_ms);
        assert!(remaining as usize >= self.ready.values().filter(fresh).count());
    }
    fn empty(&mut self, _: RequestId) {
        self.gets -= 1;
        let expired = |one: &Plain| one.expiry.has_come(self.now.wall_ms);
        assert!(self.ready.values().all(expired), "{:?}", self.ready);
    }
    fn unfit(&mut self, _: Unfit) {}
    fn overdue(&mut self, _: Overdue) {}
    fn refuse(&mut self) {
        panic!("nothing is refused");
    }
    fn hold(&mut self) -> EnqueueId {
        panic!("a classic queue applies at once");
    }
    fn finish(&mut self, _: EnqueueId, _: EnqueueEnd) {}
    fn log(&mut self, _: QueueId, seq: u64, expiry: Expiry, message: Message<'_>) -> Stored {
        let stored = Stored::logged(self.batch);
        self.keep(seq, stored, expiry, message);
        stored
    }
    fn log_held(&mut self, _: QueueId, _: u64, _: Message<'_>) -> Stored {
        panic!("a classic queue holds nothing");
    }
    fn bypass_log(&mut self, _: QueueId, _: u64, _: Expiry, _: Message<'_>) -> bool {
        panic!("messages of several priorities do not bypass the log");
    }
    fn log_again(
        &mut self,
        id: QueueId,
        seq: u64,
        (_, expiry): (Stored, Expiry),
        message: Message<'_>,
    ) -> Stored {
        self.log(id, seq, expiry, message)
    }
    fn settled(&mut self, _: QueueId, seq: u64, _: Stored) {
        self.durable.remove(&seq);
    }
    fn let_go(&mut self, _: Stored) {}
    fn spill(&mut self, _: QueueId, spilled: Spilled<'_>) {
        let Spilled { seq, stored, expiry, message, .. } = spilled;
        let last = self.last.insert(lane::of(seq), seq);
        assert!(last.is_none_or(|last| last < seq), "spilled out of order");
        let reads_above = self.under_way.first().is_none_or(|(first, _)| first < &seq);
        assert!(reads_above, "spilled ahead of what is being read");
        let stored = if stored.is_durable() { Stored::SPILLED_DURABLE } else { Stored::SPILLED };
        let on_disk = OnDisk { stored, expiry, record: message.record().to_vec() };
        if stored.is_durable() {
            self.durable.insert(seq, on_disk.clone());
        }
        self.spilled.insert(seq, on_disk);
    }
    fn died(&mut self, _: QueueId) {
        unreachable!("the queue has no dead-letter exchange");
    }
    fn fetch(&mut self, _: QueueId) {
        assert!(self.under_way.is_empty(), "one at a time");
        let first = lane::of(*self.spilled.keys().next().expect("something is spilled"));
        for _ in 0..3 {
            let same = self.spilled.first_entry().filter(|one| lane::of(*one.key()) == first);
            self.under_way.extend(same.map(|one| one.remove_entry()));
        }
    }
    fn purge(&mut self, _: QueueId) {
        let gone = std::mem::take(&mut self.spilled).into_iter();
        let gone = gone.chain(std::mem::take(&mut self.under_way));
        gone.for_each(|(seq, _)| {
            self.durable.remove(&seq);
        });
    }
    fn drop_spilled(&mut self, _: QueueId, what: DropSpilled) -> DroppedSpilled {
        assert!(self.under_way.is_empty(), "a fetch is under way");
        assert_eq!(what, DropSpilled::Nothing);
        let next = self.spilled.values().map(|one| one.expiry).min().unwrap_or(Expiry::NEVER);
        DroppedSpilled { messages: 0, bodies: 0, next }
    }
}

fn draft(number: u64, priority: u8, persistent: bool, expiration: Option<u64>) -> Draft {
    let (mut draft, mut encoded) = (Draft::default(), Vec::new());
    let text = expiration.map(|ms| ms.to_string());
    Basic { expiration: text.as_deref(), ..Basic::default() }.write(&mut encoded);
    draft.begin("", &number.to_string());
    let mode = if persistent { 2 } else { 1 };
    draft.header(Properties::checked_before(&encoded), mode, priority, 20);
    if expiration.is_some() {
        draft.expires();
    }
    let body = Bytes::from(vec![7; 20]);
    draft.body(&body, &body);
    draft
}

fn consumer() -> ConsumerSpec {
    ConsumerSpec {
        id: ConsumerId(1),
        conn: ConnId(2),
        channel: ChannelId(2),
        no_ack: false,
        prefetch: 0,
        exclusive: false,
        priority: 0,
        limited: false,
        timeout_ms: None,
        properties_max: usize::MAX,
    }
}

struct Run {
    rng: fastrand::Rng,
    queue: ClassicQueue,
    world: World,
    next: u64,
    expires: bool,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let now = Now { monotonic_us: 5, wall_ms: 1_000_000 };
        let limited = rng.u8(..3) == 0;
        let max_length = limited.then(|| rng.u64(..25));
        let mut world = World { now, max_length, batch: 1, ..World::default() };
        let queue = queue(&mut world);
        // Which one a limit takes depends on when the queue sees that others have expired.
        Self { expires: !limited && rng.bool(), rng, queue, world, next: 1 }
    }

    fn publish(&mut self) {
        let (number, priority) = (self.next, self.rng.u8(..MAX + 3));
        self.next += 1;
        let persistent = self.rng.u8(..4) > 0;
        let ttl = (self.expires && self.rng.u8(..3) == 0).then(|| self.rng.u64(1..30));
        let now_ms = self.world.now.wall_ms;
        let expiry = ttl.map_or(Expiry::NEVER, |ms| Expiry::at_ms(now_ms + ms));
        let place = (Reverse(priority.min(MAX)), number);
        let waits = self.world.ready.is_empty() && !self.queue.consumers.is_empty();
        self.world.ready.insert(place, Plain { expiry, persistent });
        if !(waits && self.world.credit > 0) {
            self.world.drop_head();
        }
        let mut message = draft(number, priority, persistent, ttl);
        self.queue.push(message.message(), self.world.now, &mut self.world);
        self.world.drop_head();
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
        let (place, plain) = self.world.unacked.remove(&number).unwrap();
        if how == Settle::Requeue {
            self.world.ready.insert(place, plain);
            self.world.drop_head();
        }
        for channel in [ChannelId(1), ChannelId(2)] {
            self.queue.settle(channel, number, how, self.world.now, &mut self.world);
        }
        self.queue.dispatch(self.world.now, &mut self.world);
    }

    fn consumer(&mut self) {
        let now = self.world.now;
        if self.queue.consumers.is_empty() {
            self.queue.consume(consumer(), now);
        } else if self.rng.bool() {
            self.queue.cancel(ConsumerId(1), now, &mut self.world);
        }
        self.world.credit = self.rng.usize(..6);
        self.queue.reopen(ConnId(2), now, &mut self.world);
    }

    fn store(&mut self) {
        let (window, bytes) = (self.rng.usize(..300), self.rng.usize(..2000));
        let (now, world) = (self.world.now, &mut self.world);
        let before = self.queue.spillable(window);
        match self.rng.u8(..4) {
            0 | 1 => {
                let spilled = self.queue.spill(window, bytes, now, world);
                assert!(spilled >= before.min(bytes), "{spilled} of {before}");
                assert!(!self.queue.begin_to_bypass_log());
            }
            2 => {
                world.batch += 1;
                self.queue.leave_log(world.batch, window, now, world);
                let old = |stored: Stored| stored.batch().is_some_and(|one| one < world.batch);
                assert!(self.queue.in_memory().all(|(_, stored, _)| !old(stored)));
            }
            _ => {
                let lane = self.rng.u16(1..=u16::from(MAX) + 1);
                let (from, to) = (lane::seq(lane, 0), lane::last(lane));
                self.queue.leave_segment(from, to, now, world);
                let left = |seq, stored: Stored| lane::of(seq) != lane || !stored.is_spilled();
                assert!(self.queue.in_memory().all(|(seq, stored, _)| left(seq, stored)));
            }
        }
    }

    fn bring(&mut self) {
        let brought = std::mem::take(&mut self.world.under_way);
        if brought.is_empty() {
            return;
        }
        for (seq, OnDisk { stored, expiry, record }) in &brought {
            let (seq, stored, expiry) = (*seq, *stored, *expiry);
            let message = Message::new(record, None);
            self.queue.loaded(Spilled { seq, redelivered: false, stored, expiry, message });
        }
        self.queue.all_loaded(self.world.now, &mut self.world);
    }

    /// The broker is killed: what is durable is all on disk.
    fn restart(&mut self) {
        // What a limit drops may have to be read before.
        while !self.world.under_way.is_empty() {
            self.bring();
        }
        let old = std::mem::take(&mut self.world);
        let kept = old.ready.into_iter().chain(old.unacked.into_values());
        self.world = World {
            now: old.now,
            max_length: old.max_length,
            ready: kept.filter(|(_, plain)| plain.persistent).collect(),
            spilled: old.durable.clone(),
            durable: old.durable,
            batch: old.batch,
            ..World::default()
        };
        self.world.spilled.values_mut().for_each(|one| one.stored = Stored::SPILLED_DURABLE);
        let places = self.world.durable.keys().map(|seq| lane::place(*seq));
        let mut lanes = BTreeMap::<u16, RestoredLane>::new();
        for seq in self.world.durable.keys() {
            let lane = lane::of(*seq);
            let one = lanes.entry(lane).or_insert(RestoredLane { lane, ..RestoredLane::default() });
            one.messages += 1;
        }
        let found = RestoredMessages {
            messages: self.world.durable.len() as u64,
            next_seq: places.max().map_or(1, |last| last + 1),
            expires: self.world.durable.values().any(|one| one.expiry != Expiry::NEVER),
            lanes: lanes.into_values().collect(),
            ..RestoredMessages::default()
        };
        self.queue = queue(&mut self.world);
        self.queue.restore(found);
        self.world.drop_head();
    }

    fn purge(&mut self) {
        let ready = std::mem::take(&mut self.world.ready).len();
        let purged = self.queue.purge(self.world.now, &mut self.world) as usize;
        assert!(purged <= ready && (self.expires || purged == ready), "{purged} of {ready}");
    }

    fn pass(&mut self) {
        let ms = self.rng.u64(..12);
        self.world.now.wall_ms += ms;
        self.world.now.monotonic_us += ms * 1000;
        if self.queue.next_deadline_us().is_some_and(|due| due <= self.world.now.monotonic_us) {
            self.queue.tick(self.world.now, &mut self.world);
        }
    }

    /// What the queue does in pieces.
    fn finish(&mut self) {
        while self.queue.unfinished() {
            let most = self.rng.u32(1..6);
            self.queue.go_on(most, self.world.now, &mut self.world);
        }
    }

    fn check(&mut self) {
        self.queue.touch(self.world.now, &mut self.world);
        assert_eq!(self.queue.unacked(), self.world.unacked.len());
        if !self.world.under_way.is_empty() {
            return;
        }
        assert_eq!(self.world.gets, 0, "a get waits for nothing");
        let (holds, ready) = (self.queue.ready() as usize, self.world.ready.len());
        let expired = |one: &&Plain| one.expiry.has_come(self.world.now.wall_ms);
        let expired = self.world.ready.values().filter(expired).count();
        assert!((ready - expired..=ready).contains(&holds), "{holds} of {:?}", self.world.ready);
        let left = self.queue.backlog.resident().count() as u64 + self.queue.backlog.spilled();
        assert!(self.queue.returned.is_empty() && left == self.queue.counted());
    }

    /// Everything leaves, in order.
    fn drain(&mut self) {
        self.world.credit = 0;
        self.restart();
        while !self.world.ready.is_empty() && self.queue.ready() > 0 {
            self.get();
            while !self.world.under_way.is_empty() {
                self.bring();
            }
            self.finish();
        }
        let expired = |one: &Plain| one.expiry.has_come(self.world.now.wall_ms);
        assert!(self.world.ready.values().all(expired), "{:?} stay", self.world.ready);
    }
}

fn queue(world: &mut World) -> ClassicQueue {
    let mut queue = ClassicQueue::new(QueueId(1), true, false, Seed::new(1));
    let arguments = EffectiveArguments {
        max_priority: Some(MAX),
        max_length: world.max_length,
        ..EffectiveArguments::default()
    };
    queue.reconfigure(arguments, world.now, world);
    queue
}

fn run(seed: u64) {
    let mut run = Run::new(seed);
    let consumed = run.rng.bool();
    for _ in 0..400 {
        match run.rng.u8(..26) {
            0..10 => run.publish(),
            10 | 11 => run.get(),
            12 | 13 => run.settle(),
            14..17 => run.store(),
            17..20 => run.bring(),
            20 if consumed => run.consumer(),
            21 if run.rng.u8(..10) == 0 => run.purge(),
            22 if run.rng.u8(..10) == 0 => run.restart(),
            _ => run.pass(),
        }
        run.finish();
        run.check();
    }
    run.drain();
}

#[test]
fn messages_leave_in_the_order_of_their_priorities() {
    (0..1000).for_each(run);
}

/// Faults that the random run has to find.
#[cfg(feature = "mutants")]
#[test]
fn faults_of_priorities_are_found() {
    use crate::mutant::{self, Mutant};
    let others = [
        Mutant::RequeueToTail,
        Mutant::SpilledOvertaken,
        Mutant::LoadedBackwards,
        Mutant::LoadedForEver,
        Mutant::ExpiredDelivered,
        Mutant::DropTail,
        Mutant::StaysInLog,
        Mutant::SettleNotTold,
    ];
    for fault in Mutant::LANES.iter().copied().chain(others) {
        mutant::select(Some(fault));
        let found = (0..300).any(|seed| std::panic::catch_unwind(|| run(seed)).is_err());
        mutant::select(None);
        assert!(found, "{fault:?} is not found");
    }
}
