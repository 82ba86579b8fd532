//! A queue with `x-message-deduplication` at random against a list of the values that it holds.

use amqp::{Basic, Properties, TableWriter, Value};

use crate::dead_letters::DeadLetterTarget;
use crate::hash::Seed;
use crate::ids::{ChannelId, ConnId, QueueId, RequestId};
use crate::message::Draft;
use crate::queue::classic::ClassicQueue;
use crate::queue::stub::{Stub, finish};
use crate::queue::{EffectiveArguments, Get, Settle};
use crate::time::Now;

const NOW: Now = Now { monotonic_us: 0, wall_ms: 0 };
const CHANNEL: ChannelId = ChannelId(1);

/// A persistent message; it has this value, which is its routing key and its priority too.
fn draft(value: u8) -> Draft {
    let headers = TableWriter::new().with("x-deduplication-header", Value::UnsignedByte(value));
    let (mut draft, mut encoded) = (Draft::default(), Vec::new());
    Basic { headers: Some(headers.table()), ..Basic::default() }.write(&mut encoded);
    draft.begin("", &value.to_string());
    draft.header(Properties::checked_before(&encoded), 2, value % 3, 0);
    draft
}

struct World {
    queue: ClassicQueue,
    ends: Stub,
    /// The values of ready messages, in no order, and of unacknowledged ones.
    ready: Vec<u8>,
    unacked: Vec<u8>,
}

impl World {
    fn new(arguments: EffectiveArguments) -> Self {
        let mut queue = ClassicQueue::new(QueueId(1), true, false, Seed::new(1));
        let mut ends = Stub { batch: 7, ..Stub::default() };
        let arguments = EffectiveArguments { deduplicates: true, ..arguments };
        queue.reconfigure(arguments, NOW, &mut ends);
        Self { queue, ends, ready: Vec::new(), unacked: Vec::new() }
    }

    fn push(&mut self, value: u8) {
        self.queue.push(draft(value).message(), NOW, &mut self.ends);
        if !self.ready.contains(&value) && !self.unacked.contains(&value) {
            self.ready.push(value);
        }
        assert_eq!(self.queue.ready() as usize, self.ready.len(), "{:?}", self.ready);
    }

    fn get(&mut self, no_ack: bool) {
        let (conn, channel, properties_max) = (ConnId(1), CHANNEL, usize::MAX);
        let get = Get { ticket: RequestId(1), conn, channel, no_ack, properties_max };
        self.queue.get(get, NOW, &mut self.ends);
        for key in self.ends.got.drain(..) {
            let value: u8 = key.parse().unwrap();
            self.ready.retain(|ready| *ready != value);
            if !no_ack {
                self.unacked.push(value);
            }
        }
    }

    /// Settles all that is unacknowledged.
    fn settle(&mut self, how: Settle) {
        self.queue.settle_up_to(CHANNEL, u64::MAX, how, NOW, &mut self.ends);
        finish(&mut self.queue, NOW, &mut self.ends);
        let settled = std::mem::take(&mut self.unacked);
        if how == Settle::Requeue {
            self.ready.extend(settled);
        }
    }

    fn purge(&mut self) {
        self.queue.purge(NOW, &mut self.ends);
        finish(&mut self.queue, NOW, &mut self.ends);
        self.ready.clear();
    }

    fn step(&mut self, rng: &mut fastrand::Rng) {
        match rng.u8(..20) {
            0..11 => self.push(rng.u8(..12)),
            11..15 => self.get(rng.bool()),
            15 => self.settle(Settle::Ack),
            16 => self.settle(Settle::Drop),
            17 => self.settle(Settle::Requeue),
            18 => self.purge(),
            _ => {
                let ready = self.queue.ready();
                let spilled: usize = self.ends.spilled.len();
                assert!(ready as usize == self.ready.len() && spilled == 0);
            }
        }
    }
}

fn target() -> Option<DeadLetterTarget> {
    Some(DeadLetterTarget { exchange: "dlx".into(), key: None })
}

fn run(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut world = World::new(EffectiveArguments {
        max_priority: rng.bool().then_some(2),
        dead_letters: rng.bool().then(target).flatten(),
        ..EffectiveArguments::default()
    });
    (0..200).for_each(|_| world.step(&mut rng));
    world.settle(Settle::Ack);
    world.purge();
    for value in 0..12 {
        world.push(value);
    }
}

#[test]
fn a_value_enters_while_no_message_in_the_queue_has_it() {
    (0..200).for_each(run);
}

#[test]
fn a_dead_letter_may_come_back_before_its_original_is_gone() {
    let arguments = EffectiveArguments { dead_letters: target(), ..EffectiveArguments::default() };
    let mut world = World::new(arguments);
    world.push(1);
    world.get(false);
    world.settle(Settle::Drop);
    assert!(world.queue.dying(0).is_some());
    world.push(1);
    assert_eq!(world.ready, [1]);
}

#[test]
fn values_count_as_memory_and_leave_none() {
    let mut world = World::new(EffectiveArguments::default());
    let before = world.queue.pinned();
    (0..100).for_each(|value| world.push(value));
    assert!(world.queue.pinned() > before + 100 * 160);
    world.purge();
    assert!(world.queue.pinned() < before + 100 * 160, "{}", world.queue.pinned());
}

/// A queue that takes values twice, or keeps them for ever, is found.
#[cfg(feature = "mutants")]
#[test]
fn faults_of_held_values_are_found() {
    use crate::mutant::{self, Mutant};
    for mutant in [Mutant::HeldValueIgnored, Mutant::HeldValueStays] {
        mutant::select(Some(mutant));
        let found = (0..200).any(|seed| std::panic::catch_unwind(|| run(seed)).is_err());
        mutant::select(None);
        assert!(found, "{mutant:?} is not found");
    }
}
