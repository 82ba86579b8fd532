//! Queues as the store sees them, and what clients were promised.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use fastrand::Rng;
use model::{QueueId, Stored};

use crate::store::sample::{Sample, sample};
use crate::store::{DropSpilled, Expiry, Loaded, Spilled, Store};

/// A message in a queue's memory.
#[derive(Debug, Clone, Copy)]
struct Entry {
    seq: u64,
    message: u64,
    stored: Stored,
    redelivered: bool,
}

/// What is known of a queue's message.
#[derive(Debug, Default, Clone)]
struct Fate {
    persistent: bool,
    /// It is durable when this batch is.
    batch: u64,
    promised: bool,
    delivered: bool,
    settled: bool,
    /// It is settled for good when this batch is durable.
    settle_batch: Option<u64>,
    settle_promised: bool,
}

#[derive(Debug, Default)]
struct Queue {
    durable: bool,
    next_seq: u64,
    head: VecDeque<Entry>,
    spilled: u64,
    tail: VecDeque<Entry>,
    unacked: BTreeMap<u64, Entry>,
    fetching: bool,
    /// It bypasses the log as long as the tail is empty.
    bypassing: bool,
    /// By sequence number and message.
    fates: BTreeMap<u64, Fate>,
    /// The messages by sequence number.
    messages: BTreeMap<u64, u64>,
}

/// All queues.
#[derive(Default)]
pub struct Queues {
    queues: BTreeMap<QueueId, Queue>,
    next_queue: u64,
    next_message: u64,
    /// By message: key, size, persistent.
    samples: BTreeMap<u64, (usize, bool)>,
    stopped: bool,
    /// How many messages bypassed the log.
    pub bypassed: usize,
}

fn text(message: u64, (size, persistent): (usize, bool)) -> Sample {
    sample(&format!("message-{message}"), size, persistent)
}

/// When a message expires: roughly in the order of the numbers, and every seventh never.
fn expiry(message: u64) -> Expiry {
    if message % 7 == 6 { Expiry::NEVER } else { Expiry::at_ms(20 * message + 90 * (message % 3)) }
}

impl Queues {
    pub fn ids(&self) -> Vec<QueueId> {
        self.queues.keys().copied().collect()
    }

    pub fn is_durable(&self, queue: QueueId) -> bool {
        self.queues.get(&queue).is_some_and(|queue| queue.durable)
    }

    pub fn is_empty(&self) -> bool {
        let empty =
            |queue: &Queue| queue.head.is_empty() && queue.spilled == 0 && queue.tail.is_empty();
        self.queues.values().all(|queue| empty(queue) && queue.unacked.is_empty())
    }

    pub fn spilled(&self, queue: QueueId) -> u64 {
        self.queues[&queue].spilled
    }

    pub fn fetching(&mut self, queue: QueueId) {
        self.queues.get_mut(&queue).unwrap().fetching = true;
    }

    // Calls of clients and queues.

    pub fn act(&mut self, rng: &mut Rng, store: &mut Store) {
        let ids = self.ids();
        if ids.len() < 3 && rng.u8(..4) == 0 || ids.is_empty() {
            self.next_queue += 1;
            let queue = Queue { durable: rng.u8(..5) > 0, next_seq: 1, ..Queue::default() };
            self.queues.insert(QueueId(self.next_queue), queue);
            return;
        }
        let id = ids[rng.usize(..ids.len())];
        match rng.u8(..100) {
            0..45 => self.publish(rng, store, &ids),
            45..60 => self.deliver(id, rng.usize(1..5), store),
            60..75 => self.settle(id, rng, store),
            75..80 => self.requeue(id),
            80..92 => self.spill(id, rng.usize(1..30), store),
            92..94 => self.fetch(id, store),
            94..96 => self.drop_spilled(id, rng, store),
            96..98 => self.purge(id, store),
            98 => self.delete(id, store),
            _ => {
                // A commit waits for all settles so far.
                store.fence();
                let batch = store.batch();
                for fate in self.queues.values_mut().flat_map(|one| one.fates.values_mut()) {
                    if fate.settled && fate.settle_batch.is_none() {
                        fate.settle_batch = Some(batch);
                    }
                }
            }
        }
    }

    fn publish(&mut self, rng: &mut Rng, store: &mut Store, ids: &[QueueId]) {
        self.next_message += 1;
        let message = self.next_message;
        let size = if rng.u8(..10) == 0 { rng.usize(2_000..9_000) } else { rng.usize(..200) };
        let persistent = rng.u8(..5) > 0;
        self.samples.insert(message, (size, persistent));
        let sample = text(message, (size, persistent));
        store.next_message();
        let several = rng.u8(..4) == 0;
        let one = ids[rng.usize(..ids.len())];
        for id in ids.iter().filter(|id| several || **id == one) {
            let Some(queue) = self.queues.get_mut(id) else { continue };
            let seq = queue.next_seq;
            queue.next_seq += 1;
            let logged = persistent && queue.durable;
            queue.bypassing &= logged
                && queue.spilled > 0
                && queue.tail.is_empty()
                && store.bypass_log(*id, seq, expiry(message), sample.message());
            if queue.bypassing {
                queue.spilled += 1;
                self.bypassed += 1;
            } else {
                let stored = if logged {
                    store.log(*id, seq, expiry(message), sample.message())
                } else {
                    Stored::NOWHERE
                };
                let entry = Entry { seq, message, stored, redelivered: false };
                let place = if queue.spilled > 0 { &mut queue.tail } else { &mut queue.head };
                place.push_back(entry);
            }
            let batch = store.batch();
            queue.fates.insert(seq, Fate { persistent: logged, batch, ..Fate::default() });
            queue.messages.insert(seq, message);
        }
        if rng.bool() {
            store.request_flush();
        }
    }

    fn deliver(&mut self, id: QueueId, count: usize, store: &mut Store) {
        let queue = self.queues.get_mut(&id).unwrap();
        for _ in 0..count {
            let Some(entry) = queue.head.pop_front() else { break };
            queue.fates.get_mut(&entry.seq).unwrap().delivered = true;
            queue.unacked.insert(entry.seq, entry);
        }
        if queue.head.is_empty() {
            self.fetch(id, store);
        }
    }

    fn settle(&mut self, id: QueueId, rng: &mut Rng, store: &mut Store) {
        let queue = self.queues.get_mut(&id).unwrap();
        let rest = rng.u8(..8) == 0;
        let seqs: Vec<u64> = queue.unacked.keys().copied().filter(|_| rest || rng.bool()).collect();
        for seq in seqs {
            let entry = queue.unacked.remove(&seq).unwrap();
            settled(id, &mut queue.fates, entry, store);
        }
    }

    fn requeue(&mut self, id: QueueId) {
        let queue = self.queues.get_mut(&id).unwrap();
        let back = std::mem::take(&mut queue.unacked);
        for mut entry in back.into_values().rev() {
            entry.redelivered = true;
            queue.head.push_front(entry);
        }
        queue.head.make_contiguous().sort_by_key(|entry| entry.seq);
    }

    fn spill(&mut self, id: QueueId, count: usize, store: &mut Store) {
        let samples = &self.samples;
        let queue = self.queues.get_mut(&id).unwrap();
        if queue.spilled == 0 {
            // Messages behind the window become the tail.
            let kept = queue.head.iter().rposition(|one| {
                one.redelivered || one.stored.batch().is_none() && one.stored != Stored::NOWHERE
            });
            let kept = kept.map_or(0, |at| at + 1).max(2).min(queue.head.len());
            queue.tail = queue.head.split_off(kept);
        }
        for _ in 0..count {
            let Some(Entry { seq, message, stored, redelivered }) = queue.tail.pop_front() else {
                break;
            };
            let sample = text(message, samples[&message]);
            let (expiry, message) = (expiry(message), sample.message());
            store.spill(id, Spilled { seq, redelivered, stored, expiry, message });
            queue.spilled += 1;
        }
        if queue.spilled == 0 {
            queue.head.append(&mut queue.tail);
        }
        queue.bypassing = queue.spilled > 0 && queue.tail.is_empty();
        if queue.bypassing {
            store.begin_bypass(id);
        }
    }

    fn fetch(&mut self, id: QueueId, store: &mut Store) {
        let queue = self.queues.get_mut(&id).unwrap();
        if queue.spilled > 0 && !queue.fetching {
            queue.fetching = true;
            store.fetch(id);
        }
    }

    pub fn loaded(&mut self, loaded: &Loaded) {
        let Some(queue) = self.queues.get_mut(&loaded.queue) else { return };
        assert!(queue.fetching, "{:?} did not ask", loaded.queue);
        queue.fetching = false;
        let samples = &self.samples;
        loaded.each(|one| {
            let key = one.message.routing_key();
            let message: u64 = key.strip_prefix("message-").unwrap().parse().unwrap();
            let sample = text(message, samples[&message]);
            let body = |m: model::Message<'_>| m.large_body().map(|body| body.pieces().concat());
            assert_eq!(one.message.record(), sample.message().record());
            assert_eq!(body(one.message), body(sample.message()));
            assert_eq!(one.expiry, expiry(message), "{:?}", loaded.queue);
            assert_eq!(queue.messages.get(&one.seq), Some(&message), "{:?}", loaded.queue);
            assert!(queue.head.back().is_none_or(|last| last.seq < one.seq), "out of order");
            let (seq, stored, redelivered) = (one.seq, one.stored, one.redelivered);
            queue.head.push_back(Entry { seq, message, stored, redelivered });
            queue.spilled = queue.spilled.checked_sub(1).expect("more came than went");
        });
        if queue.spilled == 0 {
            queue.head.append(&mut queue.tail);
        }
    }

    fn purge(&mut self, id: QueueId, store: &mut Store) {
        let queue = self.queues.get_mut(&id).unwrap();
        let (head, tail) = (std::mem::take(&mut queue.head), std::mem::take(&mut queue.tail));
        let resident: BTreeSet<u64> = head.iter().chain(&tail).map(|entry| entry.seq).collect();
        for entry in head.into_iter().chain(tail) {
            settled(id, &mut queue.fates, entry, store);
        }
        if queue.spilled > 0 {
            store.purge(id);
            for (seq, fate) in &mut queue.fates {
                let elsewhere = resident.contains(seq) || queue.unacked.contains_key(seq);
                fate.settled |= !elsewhere;
            }
        }
        queue.spilled = 0;
        queue.fetching = false;
    }

    /// The first spilled messages are dropped without being read, if they are the first ones.
    fn drop_spilled(&mut self, id: QueueId, rng: &mut Rng, store: &mut Store) {
        let samples = &self.samples;
        let queue = self.queues.get_mut(&id).unwrap();
        if queue.fetching || queue.spilled == 0 || !queue.head.is_empty() {
            return;
        }
        let now_ms = 20 * rng.u64(..self.next_message + 5);
        let (messages, bodies) = (rng.u64(..40), rng.u64(..4_000));
        let what = match rng.u8(..3) {
            0 => DropSpilled::Expired(now_ms),
            1 => DropSpilled::First { messages, bodies: 0 },
            _ => DropSpilled::First { messages: 0, bodies },
        };
        let dropped = store.drop_spilled(id, what);
        let resident = queue.head.iter().chain(&queue.tail).chain(queue.unacked.values());
        let resident: BTreeSet<u64> = resident.map(|entry| entry.seq).collect();
        let spilled = |(seq, fate): &(&u64, &mut Fate)| !fate.settled && !resident.contains(seq);
        let mut spilled = queue.fates.iter_mut().filter(spilled);
        let mut sum = 0;
        for (seq, fate) in spilled.by_ref().take(dropped.messages as usize) {
            let message = queue.messages[seq];
            let expired = expiry(message).has_come(now_ms);
            assert!(expired || !matches!(what, DropSpilled::Expired(_)), "{message} lives");
            sum += samples[&message].0 as u64;
            fate.settled = true;
        }
        assert_eq!(sum, dropped.bodies);
        if let DropSpilled::First { messages, bodies } = what {
            assert!(dropped.messages <= messages || sum <= bodies);
        }
        let next = spilled.next().map(|(seq, _)| expiry(queue.messages[seq]));
        assert!(next.is_none_or(|next| next >= dropped.next), "{next:?} before {dropped:?}");
        queue.spilled -= dropped.messages;
        if queue.spilled == 0 {
            queue.head.append(&mut queue.tail);
        }
    }

    fn delete(&mut self, id: QueueId, store: &mut Store) {
        let queue = self.queues.remove(&id).unwrap();
        let entries = queue.head.into_iter().chain(queue.tail).chain(queue.unacked.into_values());
        for entry in entries {
            store.let_go(entry.stored);
        }
        store.forget_queue(id);
    }

    // Requests of the store.

    /// Queues with so many bytes behind their heads spill them.
    pub fn leave(&mut self, bytes: u64, store: &mut Store) {
        for id in self.ids() {
            let tail = &self.queues[&id].tail;
            let behind: usize = tail.iter().map(|entry| self.samples[&entry.message].0).sum();
            if behind as u64 >= bytes {
                self.spill(id, usize::MAX, store);
            }
        }
    }

    pub fn leave_log(&mut self, before: u64, store: &mut Store) {
        let samples = &self.samples;
        for (id, queue) in &mut self.queues {
            let leaves = |entry: &Entry| entry.stored.batch().is_some_and(|one| one < before);
            while queue.spilled > 0 && queue.tail.front().is_some_and(leaves) {
                let Some(Entry { seq, message, stored, redelivered }) = queue.tail.pop_front()
                else {
                    break;
                };
                let sample = text(message, samples[&message]);
                let (expiry, message) = (expiry(message), sample.message());
                store.spill(*id, Spilled { seq, redelivered, stored, expiry, message });
                queue.spilled += 1;
            }
            let memory = queue.head.iter_mut().chain(queue.unacked.values_mut());
            for entry in memory.chain(&mut queue.tail).filter(|entry| leaves(entry)) {
                let sample = text(entry.message, samples[&entry.message]);
                entry.stored = store.log_again(
                    *id,
                    entry.seq,
                    (entry.stored, expiry(entry.message)),
                    sample.message(),
                );
            }
        }
    }

    pub fn leave_segment(&mut self, id: QueueId, from: u64, to: u64, store: &mut Store) {
        let samples = &self.samples;
        let queue = self.queues.get_mut(&id).unwrap();
        for entry in queue.head.iter_mut().chain(queue.unacked.values_mut()) {
            if !(from..=to).contains(&entry.seq) {
                continue;
            }
            if entry.stored == Stored::SPILLED_DURABLE {
                let sample = text(entry.message, samples[&entry.message]);
                entry.stored = store.log_again(
                    id,
                    entry.seq,
                    (entry.stored, expiry(entry.message)),
                    sample.message(),
                );
            } else if entry.stored == Stored::SPILLED {
                entry.stored = Stored::NOWHERE;
            }
        }
    }

    // Promises to clients.

    /// Notes what the store has made durable.
    pub fn look(&mut self, store: &Store) {
        let durable = store.durable();
        let free = store.is_settled_or_durable();
        for fate in self.queues.values_mut().flat_map(|queue| queue.fates.values_mut()) {
            fate.promised |= fate.persistent && (fate.batch <= durable || free);
            let settled = fate.settle_batch.is_some_and(|batch| batch <= durable || free);
            fate.settle_promised |= settled;
        }
    }

    pub fn unclean(&mut self) {
        self.stopped = false;
    }

    pub fn close_channels(&mut self) {
        for id in self.ids() {
            self.requeue(id);
        }
    }

    /// Messages in memory that were delivered before.
    pub fn delivered(&self) -> Vec<(QueueId, u64)> {
        let of = |(id, queue): (&QueueId, &Queue)| {
            let entries = queue.head.iter().chain(&queue.tail).filter(|entry| entry.redelivered);
            let id = *id;
            entries.map(move |entry| (id, entry.seq)).collect::<Vec<_>>()
        };
        self.queues.iter().filter(|(_, queue)| queue.durable).flat_map(of).collect()
    }

    /// The store is idle after a clean stop: all promises hold.
    pub fn stopped(&mut self) {
        self.stopped = true;
        for fate in self.queues.values_mut().flat_map(|queue| queue.fates.values_mut()) {
            fate.promised |= fate.persistent;
            fate.settle_promised |= fate.settled;
        }
    }

    /// A start: so many messages are spilled and none is in memory.
    pub fn restart(&mut self, id: QueueId, messages: u64, next_seq: u64) {
        let queue = self.queues.get_mut(&id).unwrap();
        queue.head.clear();
        queue.tail.clear();
        queue.unacked.clear();
        queue.fetching = false;
        queue.bypassing = false;
        queue.spilled = messages;
        queue.next_seq = next_seq;
        assert!(queue.durable || messages == 0);
    }

    /// Compares the loaded messages with the promises, and goes on with them.
    pub fn compare(&mut self, id: QueueId, clean: bool) {
        let stopped = self.stopped;
        assert!(clean || !stopped, "a clean stop is not recognised");
        let queue = self.queues.get_mut(&id).unwrap();
        let there: BTreeMap<u64, Entry> = queue.head.iter().map(|one| (one.seq, *one)).collect();
        assert_eq!(there.len(), queue.head.len(), "something is there twice");
        for (seq, fate) in &queue.fates {
            let entry = there.get(seq);
            let place = format!("{id:?} {seq} {fate:?} stopped: {stopped}");
            if fate.persistent && fate.promised && !fate.settled {
                assert!(entry.is_some(), "lost: {place}");
            }
            if fate.settle_promised || stopped && fate.settled || !fate.persistent {
                assert!(entry.is_none(), "came back: {place}");
            }
            if let Some(entry) = entry {
                assert!(entry.redelivered || !fate.delivered, "no flag: {place}");
                assert!(!stopped || entry.redelivered == fate.delivered, "wrong flag: {place}");
            }
        }
        let gone = |seq: &u64| !there.contains_key(seq);
        let seqs: Vec<u64> = queue.fates.keys().copied().filter(gone).collect();
        for seq in seqs {
            queue.fates.remove(&seq);
            queue.messages.remove(&seq);
        }
        for (seq, fate) in &mut queue.fates {
            let delivered = there[seq].redelivered;
            *fate = Fate { persistent: true, promised: true, delivered, ..Fate::default() };
            assert!(*seq < queue.next_seq);
        }
    }

    pub fn settle_all(&mut self, store: &mut Store) {
        for id in self.ids() {
            self.deliver(id, usize::MAX, store);
            let queue = self.queues.get_mut(&id).unwrap();
            for entry in std::mem::take(&mut queue.unacked).into_values() {
                settled(id, &mut queue.fates, entry, store);
            }
        }
    }
}

fn settled(id: QueueId, fates: &mut BTreeMap<u64, Fate>, entry: Entry, store: &mut Store) {
    store.settled(id, entry.seq, entry.stored);
    fates.get_mut(&entry.seq).unwrap().settled = true;
}
