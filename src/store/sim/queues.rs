//! Queues as the store sees them, and what each client may rely on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use fastrand::Rng;
use model::{QueueId, Stored};

use crate::store::sample::{Sample, sample};
use crate::store::{Loaded, Spilled, Store};

/// A message in a queue's memory.
#[derive(Debug, Clone, Copy)]
struct Entry {
    seq: u64,
    message: u64,
    stored: Stored,
    redelivered: bool,
}

/// What is known of a message in a queue.
#[derive(Debug, Default, Clone)]
struct Fate {
    persistent: bool,
    /// Durable when this batch is.
    batch: u64,
    promised: bool,
    delivered: bool,
    settled: bool,
    /// Settled for good when this batch is durable.
    settle_batch: Option<u64>,
    settle_promised: bool,
}

#[derive(Debug, Default)]
struct Queue {
    durable: bool,
    next_seq: u64,
    head: VecDeque<Entry>,
    away: u64,
    tail: VecDeque<Entry>,
    unacked: BTreeMap<u64, Entry>,
    fetching: bool,
    /// It writes through as long as the tail is empty.
    through: bool,
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
    /// Messages that were written through.
    pub written_through: usize,
}

fn text(message: u64, (size, persistent): (usize, bool)) -> Sample {
    sample(&format!("message-{message}"), size, persistent)
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
            |queue: &Queue| queue.head.is_empty() && queue.away == 0 && queue.tail.is_empty();
        self.queues.values().all(|queue| empty(queue) && queue.unacked.is_empty())
    }

    pub fn away(&self, queue: QueueId) -> u64 {
        self.queues[&queue].away
    }

    pub fn fetching(&mut self, queue: QueueId) {
        self.queues.get_mut(&queue).unwrap().fetching = true;
    }

    // What clients and queues do.

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
            92..96 => self.fetch(id, store),
            96..98 => self.purge(id, store),
            98 => self.delete(id, store),
            _ => {
                // A commit waits for what was settled so far.
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
            queue.through &= logged
                && queue.away > 0
                && queue.tail.is_empty()
                && store.write_through(*id, seq, sample.message());
            if queue.through {
                queue.away += 1;
                self.written_through += 1;
            } else {
                let stored =
                    if logged { store.log(*id, seq, sample.message()) } else { Stored::NOWHERE };
                let entry = Entry { seq, message, stored, redelivered: false };
                let place = if queue.away > 0 { &mut queue.tail } else { &mut queue.head };
                place.push_back(entry);
            }
            let batch = store.batch();
            queue.fates.insert(seq, Fate { persistent: logged, batch, ..Fate::default() });
            queue.messages.insert(seq, message);
        }
        if rng.bool() {
            store.hurry();
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
        if queue.away == 0 {
            // What is behind the window becomes the tail.
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
            store.spill(id, Spilled { seq, redelivered, stored, message: sample.message() });
            queue.away += 1;
        }
        if queue.away == 0 {
            queue.head.append(&mut queue.tail);
        }
        queue.through = queue.away > 0 && queue.tail.is_empty();
        if queue.through {
            store.begin_to_write_through(id);
        }
    }

    fn fetch(&mut self, id: QueueId, store: &mut Store) {
        let queue = self.queues.get_mut(&id).unwrap();
        if queue.away > 0 && !queue.fetching {
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
            assert_eq!(queue.messages.get(&one.seq), Some(&message), "{:?}", loaded.queue);
            assert!(queue.head.back().is_none_or(|last| last.seq < one.seq), "out of order");
            let (seq, stored, redelivered) = (one.seq, one.stored, one.redelivered);
            queue.head.push_back(Entry { seq, message, stored, redelivered });
            queue.away = queue.away.checked_sub(1).expect("more came than went");
        });
        if queue.away == 0 {
            queue.head.append(&mut queue.tail);
        }
    }

    fn purge(&mut self, id: QueueId, store: &mut Store) {
        let queue = self.queues.get_mut(&id).unwrap();
        let (head, tail) = (std::mem::take(&mut queue.head), std::mem::take(&mut queue.tail));
        let here: BTreeSet<u64> = head.iter().chain(&tail).map(|entry| entry.seq).collect();
        for entry in head.into_iter().chain(tail) {
            settled(id, &mut queue.fates, entry, store);
        }
        if queue.away > 0 {
            store.purge(id);
            for (seq, fate) in &mut queue.fates {
                let elsewhere = here.contains(seq) || queue.unacked.contains_key(seq);
                fate.settled |= !elsewhere;
            }
        }
        queue.away = 0;
        queue.fetching = false;
    }

    fn delete(&mut self, id: QueueId, store: &mut Store) {
        let queue = self.queues.remove(&id).unwrap();
        let entries = queue.head.into_iter().chain(queue.tail).chain(queue.unacked.into_values());
        for entry in entries {
            store.let_go(entry.stored);
        }
        store.forget_queue(id);
    }

    // What the store asks for.

    /// Queues with so much behind their heads spill it.
    pub fn leave(&mut self, octets: u64, store: &mut Store) {
        for id in self.ids() {
            let tail = &self.queues[&id].tail;
            let behind: usize = tail.iter().map(|entry| self.samples[&entry.message].0).sum();
            if behind as u64 >= octets {
                self.spill(id, usize::MAX, store);
            }
        }
    }

    pub fn leave_log(&mut self, before: u64, store: &mut Store) {
        let samples = &self.samples;
        for (id, queue) in &mut self.queues {
            let leaves = |entry: &Entry| entry.stored.batch().is_some_and(|one| one < before);
            while queue.away > 0 && queue.tail.front().is_some_and(leaves) {
                let Some(Entry { seq, message, stored, redelivered }) = queue.tail.pop_front()
                else {
                    break;
                };
                let sample = text(message, samples[&message]);
                store.spill(*id, Spilled { seq, redelivered, stored, message: sample.message() });
                queue.away += 1;
            }
            let memory = queue.head.iter_mut().chain(queue.unacked.values_mut());
            for entry in memory.chain(&mut queue.tail).filter(|entry| leaves(entry)) {
                let sample = text(entry.message, samples[&entry.message]);
                entry.stored = store.log_again(*id, entry.seq, entry.stored, sample.message());
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
                entry.stored = store.log_again(id, entry.seq, entry.stored, sample.message());
            } else if entry.stored == Stored::SPILLED {
                entry.stored = Stored::NOWHERE;
            }
        }
    }

    // What clients may rely on.

    /// Notes what the store has made durable.
    pub fn look(&mut self, store: &Store) {
        let durable = store.durable();
        let free = store.owes_nothing();
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

    /// What has been delivered before and is still there, in memory.
    pub fn delivered(&self) -> Vec<(QueueId, u64)> {
        let of = |(id, queue): (&QueueId, &Queue)| {
            let entries = queue.head.iter().chain(&queue.tail).filter(|entry| entry.redelivered);
            let id = *id;
            entries.map(move |entry| (id, entry.seq)).collect::<Vec<_>>()
        };
        self.queues.iter().filter(|(_, queue)| queue.durable).flat_map(of).collect()
    }

    /// The store has come to rest after a stop: everything holds now.
    pub fn stopped(&mut self) {
        self.stopped = true;
        for fate in self.queues.values_mut().flat_map(|queue| queue.fates.values_mut()) {
            fate.promised |= fate.persistent;
            fate.settle_promised |= fate.settled;
        }
    }

    /// After a start: nothing is in memory, so many messages are away.
    pub fn restart(&mut self, id: QueueId, messages: u64, next_seq: u64) {
        let queue = self.queues.get_mut(&id).unwrap();
        queue.head.clear();
        queue.tail.clear();
        queue.unacked.clear();
        queue.fetching = false;
        queue.through = false;
        queue.away = messages;
        queue.next_seq = next_seq;
        assert!(queue.durable || messages == 0);
    }

    /// Everything is loaded: compares it with what was promised, and goes on with what is there.
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
