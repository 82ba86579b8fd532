//! A queue with priorities, its store and a simulated disk: what leaves, leaves in the order of the
//! priorities, also after a crash, and the promises hold.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use amqp::Properties;
use amqp::properties::Basic;
use bytes::Bytes;
use fastrand::Rng;
use model::hash::Seed;
use model::message::Draft;
use model::queue::consumer::Ask;
use model::queue::{
    Delivery, EffectiveArguments, EnqueueEnd, EnqueueId, Get, KindName, Overdue, QueueKind,
    QueueOutput, RestoredMessages, Settle, Unfit,
};
use model::{ChannelId, ConnId, Message, Now, QueueCommands, QueueId, RequestId, Stored};

use super::disk::SimDisk;
use crate::store::{
    DropSpilled, DroppedSpilled, Expiry, FileName, Relief, Spilled, Store, StoreConfig, recover,
};

const ID: QueueId = QueueId(1);
const CHANNEL: ChannelId = ChannelId(1);
const MAX: u8 = 5;

/// The order in which messages leave: by priority, then by number.
type Place = (Reverse<u8>, u64);

/// What is known of a message.
#[derive(Debug, Default, Clone)]
struct Fate {
    persistent: bool,
    /// It is durable when this batch is.
    batch: u64,
    promised: bool,
    settled: bool,
    /// Its settle is durable when this batch is.
    settle_batch: Option<u64>,
    settle_promised: bool,
}

/// The rest of the broker.
#[derive(Default)]
struct Rest {
    store: Store,
    ready: BTreeSet<Place>,
    /// By the queue's number of the delivery.
    unacked: BTreeMap<u64, Place>,
    fates: BTreeMap<Place, Fate>,
    /// What was got since this was cleared.
    got: Vec<Place>,
    /// A get waits.
    waits: bool,
    /// What is ready is not known yet: the queue has just been restored.
    unknown: bool,
}

impl QueueOutput for Rest {
    fn open(&mut self, _: QueueId, _: ConnId) -> bool {
        false
    }
    fn open_for(&mut self, _: QueueId, _: ConnId, _: Message<'_>) -> bool {
        false
    }
    fn ask(&mut self, _: QueueId, ask: Ask) -> Option<u32> {
        Some(ask.count)
    }
    fn deliver(&mut self, _: Delivery<'_>) {
        unreachable!("there is no consumer");
    }
    fn got(&mut self, _: RequestId, _: u32, Delivery { to, message }: Delivery<'_>) {
        let number = message.routing_key().parse().unwrap();
        let place = (Reverse(message.priority()), number);
        if !self.unknown {
            assert_eq!(self.ready.pop_first(), Some(place), "another one is first");
        }
        self.unacked.insert(to.number, place);
        self.got.push(place);
        self.waits = false;
    }
    fn empty(&mut self, _: RequestId) {
        assert!(self.unknown || self.ready.is_empty(), "{:?}", self.ready);
        self.waits = false;
    }
    fn unfit(&mut self, _: Unfit) {}
    fn overdue(&mut self, _: Overdue) {}
    fn refuse(&mut self) {}
    fn hold(&mut self) -> EnqueueId {
        unreachable!("a classic queue applies at once");
    }
    fn finish(&mut self, _: EnqueueId, _: EnqueueEnd) {}
    fn log(&mut self, id: QueueId, seq: u64, expiry: Expiry, message: Message<'_>) -> Stored {
        self.store.log(id, seq, expiry, message)
    }
    fn log_held(&mut self, _: QueueId, _: u64, _: Message<'_>) -> Stored {
        unreachable!("a classic queue holds nothing");
    }
    fn bypass_log(&mut self, _: QueueId, _: u64, _: Expiry, _: Message<'_>) -> bool {
        unreachable!("messages of several priorities do not bypass the log");
    }
    fn log_again(
        &mut self,
        id: QueueId,
        seq: u64,
        old: (Stored, Expiry),
        message: Message<'_>,
    ) -> Stored {
        self.store.log_again(id, seq, old, message)
    }
    fn settled(&mut self, id: QueueId, seq: u64, stored: Stored) {
        self.store.settled(id, seq, stored);
    }
    fn let_go(&mut self, stored: Stored) {
        self.store.let_go(stored);
    }
    fn spill(&mut self, id: QueueId, spilled: Spilled<'_>) {
        self.store.spill(id, spilled);
    }
    fn died(&mut self, _: QueueId) {}
    fn fetch(&mut self, id: QueueId) {
        self.store.fetch(id);
    }
    fn purge(&mut self, id: QueueId) {
        self.store.purge(id);
    }
    fn drop_spilled(&mut self, id: QueueId, what: DropSpilled) -> DroppedSpilled {
        self.store.drop_spilled(id, what)
    }
}

struct Run {
    rng: Rng,
    disk: SimDisk,
    now: Now,
    queue: QueueKind,
    rest: Rest,
    next: u64,
}

fn queue() -> QueueKind {
    QueueKind::new(KindName::Classic, ID, true, false, Seed::new(7))
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut run = Self {
            rng: Rng::with_seed(seed),
            disk: SimDisk::default(),
            now: Now { monotonic_us: 0, wall_ms: 0 },
            queue: queue(),
            rest: Rest::default(),
            next: 1,
        };
        run.recover();
        run
    }

    /// A start: all that is found is spilled.
    fn recover(&mut self) {
        let mut found = recover(&mut self.disk, &|id| id == ID).expect("nothing is damaged");
        let (boot, found) = (found.boot, found.queues.remove(&ID).unwrap_or_default());
        self.rest.store = Store::new(StoreConfig {
            boot,
            segment_bytes: self.rng.u64(2_000..20_000),
            log_max: self.rng.u64(8_000..60_000),
            chunk_bytes: self.rng.usize(200..4_000),
            ..StoreConfig::default()
        });
        self.queue = queue();
        let arguments =
            EffectiveArguments { max_priority: Some(MAX), ..EffectiveArguments::default() };
        self.queue.reconfigure(arguments, self.now, &mut self.rest);
        let restored = RestoredMessages {
            messages: found.messages,
            next_seq: found.next_seq,
            bodies: found.bodies,
            expires: found.expires,
            lanes: found.lanes.clone(),
        };
        let lanes: u64 = found.lanes.iter().map(|lane| lane.messages).sum();
        assert_eq!(lanes, found.messages);
        self.rest.store.adopt(ID, found);
        self.queue.restore(restored);
        self.rest.ready.clear();
        self.rest.unacked.clear();
        self.rest.waits = false;
    }

    /// What was found is what was promised, in order; then the broker starts once more.
    fn compare(&mut self) {
        self.recover();
        let count = self.queue.ready() as usize;
        let fates = std::mem::take(&mut self.rest.fates);
        self.rest.unknown = true;
        self.rest.got.clear();
        for _ in 0..count {
            self.get();
            self.await_get();
        }
        let got = std::mem::take(&mut self.rest.got);
        assert_eq!(got.len(), count);
        assert!(got.is_sorted_by(|one, next| one < next), "not in order: {got:?}");
        let there: BTreeSet<Place> = got.into_iter().collect();
        for (place, fate) in fates {
            let is_there = there.contains(&place);
            let lost = fate.promised && !fate.settled && !is_there;
            let back = is_there && (fate.settle_promised || !fate.persistent);
            assert!(!lost && !back, "{place:?} lost: {lost}, back: {back}, {fate:?}");
        }
        self.disk.power_loss(&mut self.rng);
        self.recover();
        assert_eq!(self.queue.ready() as usize, there.len());
        let fate = Fate { persistent: true, promised: true, ..Fate::default() };
        self.rest.fates = there.iter().map(|place| (*place, fate.clone())).collect();
        (self.rest.ready, self.rest.unknown) = (there, false);
    }

    fn publish(&mut self) {
        let (number, priority) = (self.next, self.rng.u8(..=MAX));
        self.next += 1;
        let persistent = self.rng.u8(..5) > 0;
        let size = if self.rng.u8(..10) == 0 { 3_000 } else { self.rng.usize(..200) };
        let mut draft = Draft::default();
        draft.begin("", &number.to_string());
        let mode = if persistent { 2 } else { 1 };
        let mut encoded = Vec::new();
        Basic::default().write(&mut encoded);
        draft.header(Properties::checked_before(&encoded), mode, priority, size as u32);
        let body = Bytes::from(vec![7; size]);
        draft.body(&body, &body);
        let place = (Reverse(priority), number);
        self.rest.ready.insert(place);
        self.rest.store.next_message();
        self.queue.push(draft.message(), self.now, &mut self.rest);
        let fate = Fate { persistent, batch: self.rest.store.batch(), ..Fate::default() };
        self.rest.fates.insert(place, fate);
    }

    fn get(&mut self) {
        if self.rest.waits {
            return;
        }
        self.rest.waits = true;
        let get = Get {
            ticket: RequestId(1),
            conn: ConnId(1),
            channel: CHANNEL,
            no_ack: false,
            properties_max: usize::MAX,
        };
        self.queue.get(get, self.now, &mut self.rest);
    }

    fn await_get(&mut self) {
        for _ in 0..1000 {
            if !self.rest.waits {
                return;
            }
            self.turn();
        }
        panic!("a get is never answered");
    }

    fn settle(&mut self) {
        let nth = self.rng.usize(..self.rest.unacked.len().max(1));
        let Some(number) = self.rest.unacked.keys().nth(nth).copied() else { return };
        let place = self.rest.unacked.remove(&number).unwrap();
        let how = if self.rng.u8(..4) == 0 { Settle::Requeue } else { Settle::Ack };
        match how {
            Settle::Requeue => _ = self.rest.ready.insert(place),
            _ => self.rest.fates.get_mut(&place).unwrap().settled = true,
        }
        self.queue.settle(CHANNEL, number, how, self.now, &mut self.rest);
        self.queue.dispatch(self.now, &mut self.rest);
    }

    fn purge(&mut self) {
        self.await_get();
        for place in std::mem::take(&mut self.rest.ready) {
            self.rest.fates.get_mut(&place).unwrap().settled = true;
        }
        self.queue.purge(self.now, &mut self.rest);
    }

    /// A commit waits for all settles so far.
    fn fence(&mut self) {
        self.rest.store.fence();
        let batch = self.rest.store.batch();
        let settled = self.rest.fates.values_mut().filter(|fate| fate.settled);
        settled.for_each(|fate| _ = fate.settle_batch.get_or_insert(batch));
    }

    fn act(&mut self) {
        match self.rng.u8(..100) {
            0..45 => self.publish(),
            45..65 => self.get(),
            65..80 => self.settle(),
            80..92 => {
                let (window, bytes) = (self.rng.usize(..600), self.rng.usize(..8_000));
                self.queue.spill(window, bytes, self.now, &mut self.rest);
            }
            92..96 => self.fence(),
            96 => self.purge(),
            _ => self.rest.store.request_flush(),
        }
        while self.queue.unfinished() {
            self.queue.go_on(self.rng.u32(1..9), self.now, &mut self.rest);
        }
    }

    /// Ends a turn as a shard does, and lets the disk work.
    fn turn(&mut self) {
        while let Some(relief) = self.rest.store.relief() {
            let window = self.rng.usize(..600);
            match relief {
                Relief::Log { before } => {
                    self.queue.leave_log(before, window, self.now, &mut self.rest);
                }
                Relief::Backlog { .. } => {}
                Relief::Segment { from, to, .. } => {
                    self.queue.leave_segment(from, to, self.now, &mut self.rest);
                }
            }
        }
        self.now.monotonic_us += self.rng.u64(1..30_000);
        self.rest.store.end_turn(self.now);
        while let Some(op) = self.rest.store.next_op() {
            self.disk.hand(0, op);
        }
        for _ in 0..self.rng.usize(..4) {
            self.disk_step();
        }
        self.look();
    }

    fn disk_step(&mut self) -> bool {
        let Some((_, done)) = self.disk.step(&mut self.rng) else { return false };
        self.rest.store.done(done, self.now);
        assert_eq!(self.rest.store.next_error(), None);
        while let Some(loaded) = self.rest.store.next_loaded() {
            loaded.each(|one| self.queue.loaded(one));
            self.queue.all_loaded(self.now, &mut self.rest);
        }
        true
    }

    /// Notes what is durable.
    fn look(&mut self) {
        let durable = self.rest.store.durable();
        let free = self.rest.store.is_settled_or_durable();
        for fate in self.rest.fates.values_mut() {
            fate.promised |= fate.persistent && (fate.batch <= durable || free);
            let settled = fate.settle_batch.is_some_and(|batch| batch <= durable || free);
            fate.settle_promised |= settled;
        }
    }

    fn live(&mut self) {
        for _ in 0..self.rng.usize(..60) {
            for _ in 0..self.rng.usize(..12) {
                self.act();
            }
            self.turn();
        }
    }

    /// Settles everything: the files are removed.
    fn drain(&mut self) {
        self.await_get();
        while !self.rest.ready.is_empty() {
            self.get();
            self.await_get();
        }
        let all = u64::MAX;
        self.queue.settle_up_to(CHANNEL, all, Settle::Ack, self.now, &mut self.rest);
        while self.queue.unfinished() {
            self.queue.go_on(100, self.now, &mut self.rest);
        }
        let segment = |(name, _): &(FileName, usize)| matches!(name, FileName::Queue { .. });
        for _ in 0..2000 {
            self.turn();
            while self.disk_step() {}
            if !self.disk.names().any(|name| segment(&name)) {
                return;
            }
        }
        panic!("{:?} stay", self.disk.names().collect::<Vec<_>>());
    }
}

fn run(seed: u64) {
    let mut run = Run::new(seed);
    for _ in 0..4 {
        run.live();
        match run.rng.bool() {
            true => run.disk.kill(&mut run.rng),
            false => run.disk.power_loss(&mut run.rng),
        }
        run.compare();
    }
    run.live();
    run.drain();
}

#[test]
fn priorities_outlive_every_crash() {
    (0..300).for_each(run);
}

/// Faults of the store and of the queue that the random run has to find.
#[cfg(feature = "mutants")]
#[test]
fn faults_of_priorities_on_disk_are_found() {
    use model::mutant::{self, Mutant};
    std::panic::set_hook(Box::new(|_| {}));
    let faults = [
        Mutant::LaneOvertaken,
        Mutant::LaneUnordered,
        Mutant::SpilledOvertaken,
        Mutant::SettleNotTold,
    ];
    let escaped = faults.into_iter().filter(|fault| {
        mutant::select(Some(*fault));
        let found = (0..1000).any(|seed| std::panic::catch_unwind(|| run(seed)).is_err());
        mutant::select(None);
        !found
    });
    let escaped: Vec<_> = escaped.collect();
    drop(std::panic::take_hook());
    assert_eq!(escaped, []);
}
