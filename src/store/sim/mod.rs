//! Simulation: a store, a few queues that behave as the model's, and a simulated disk. Whatever
//! happens at random, promises hold after every crash.

mod disk;
mod full_disk;
mod priorities;
mod queues;

use std::collections::BTreeMap;

use fastrand::Rng;
use model::{Now, QueueId, Stored};

use self::disk::SimDisk;
use self::queues::Queues;
use super::sample::sample;
use super::{
    Expiry, FileName, Files, Recovered, Relief, Spilled, Store, StoreConfig, StoreError,
    SyncPolicy, recover,
};

/// One simulated run.
struct Run {
    rng: Rng,
    disk: SimDisk,
    queues: Queues,
    now: Now,
    boot: u32,
    store: Store,
    /// Durable means written, not synced: the power is never lost.
    relaxed: bool,
    /// A queue cannot be read: it is out of service until the next start.
    broken: bool,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let relaxed = rng.u8(..6) == 0;
        let mut run = Self {
            rng,
            relaxed,
            broken: false,
            disk: SimDisk::default(),
            queues: Queues::default(),
            now: Now { monotonic_us: 0, wall_ms: 0 },
            boot: 0,
            store: Store::default(),
        };
        run.start();
        run
    }

    /// Recovers, perhaps at a second try, and compares.
    fn start(&mut self) {
        self.disk.short = [0, 0, self.rng.usize(1..6)][self.rng.usize(..3)];
        if self.rng.u8(..4) == 0 && !self.relaxed {
            self.disk.fuse = Some(self.rng.usize(..12));
        }
        let mut recovered = recover(&mut self.disk, &|queue| self.queues.is_durable(queue));
        if self.disk.fuse.take() == Some(0) && recovered.is_err() {
            self.queues.unclean();
            self.disk.power_loss(&mut self.rng);
            recovered = recover(&mut self.disk, &|queue| self.queues.is_durable(queue));
        }
        if self.disk.short > 0
            && let Err(why) = &recovered
        {
            assert!(why.to_string().contains("it ends at byte"), "{why}");
            self.disk.short = 0;
            self.disk.kill(&mut self.rng);
            recovered = recover(&mut self.disk, &|queue| self.queues.is_durable(queue));
        }
        (self.disk.short, self.broken) = (0, false);
        let recovered = recovered.unwrap_or_else(|why| panic!("cannot recover: {why}"));
        assert!(recovered.boot > self.boot);
        self.boot = recovered.boot;
        self.store = Store::new(StoreConfig {
            boot: recovered.boot,
            durability: match self.relaxed {
                true => SyncPolicy::Relaxed { every_ms: self.rng.u64(1..100) },
                false => SyncPolicy::Strict,
            },
            segment_bytes: self.rng.u64(2_000..20_000),
            log_max: self.rng.u64(8_000..60_000),
            chunk_bytes: self.rng.usize(200..4_000),
            bypass_batch: self.rng.usize(..1_000),
            ..StoreConfig::default()
        });
        self.take_over(recovered);
    }

    /// Reads all messages back and compares them with the promises.
    fn take_over(&mut self, recovered: Recovered) {
        let clean = recovered.clean;
        let mut counts = BTreeMap::new();
        for (queue, found) in recovered.queues {
            counts.insert(queue, (found.messages, found.next_seq));
            self.store.adopt(queue, found);
        }
        for queue in self.queues.ids() {
            let (messages, next_seq) = counts.remove(&queue).unwrap_or((0, 1));
            self.queues.restart(queue, messages, next_seq);
        }
        for queue in self.queues.ids() {
            while self.queues.spilled(queue) > 0 {
                self.store.fetch(queue);
                self.queues.fetching(queue);
                self.settle_down(queue);
            }
            self.queues.compare(queue, clean);
        }
    }

    /// Runs turns until fetched messages arrive.
    fn settle_down(&mut self, queue: QueueId) {
        let before = self.queues.spilled(queue);
        for _ in 0..100 {
            self.turn();
            if self.queues.spilled(queue) < before {
                return;
            }
        }
        panic!("no message of {queue:?} is loaded");
    }

    /// Ends a turn as a shard does, and lets the disk work.
    fn turn(&mut self) {
        while let Some(relief) = self.store.relief() {
            match relief {
                Relief::Log { before } => self.queues.leave_log(before, &mut self.store),
                Relief::Backlog { bytes } => self.queues.leave(bytes, &mut self.store),
                Relief::Segment { queue, from, to } => {
                    self.queues.leave_segment(queue, from, to, &mut self.store);
                }
            }
        }
        self.now.monotonic_us += self.rng.u64(1..30_000);
        self.store.end_turn(self.now);
        while let Some(op) = self.store.next_op() {
            self.disk.hand(0, op);
        }
        for _ in 0..self.rng.usize(..4) {
            self.disk_step();
        }
    }

    fn disk_step(&mut self) -> bool {
        let Some((_, done)) = self.disk.step(&mut self.rng) else { return false };
        self.store.done(done, self.now);
        while let Some(error) = self.store.next_error() {
            match error {
                StoreError::Unreadable(_, why) if why.contains("it ends at byte") => {
                    self.broken = true;
                }
                other => panic!("{other:?}"),
            }
        }
        while let Some(loaded) = self.store.next_loaded() {
            self.queues.loaded(&loaded);
        }
        true
    }

    fn live(&mut self, turns: usize) {
        for _ in 0..turns {
            for _ in 0..self.rng.usize(..8) {
                self.queues.act(&mut self.rng, &mut self.store);
            }
            self.disk.full = self.rng.u8(..40) == 0;
            self.disk.closed = if self.rng.u8(..20) == 0 { 2 } else { 0 };
            self.disk.short = usize::from(self.rng.u8(..40) == 0);
            self.turn();
            self.queues.look(&self.store);
            if self.broken {
                break;
            }
        }
        self.disk.recover();
        self.disk.short = 0;
    }

    /// Stops cleanly.
    fn stop(&mut self) {
        self.queues.close_channels();
        let delivered = self.queues.delivered();
        self.store.stop(delivered.into_iter());
        for _ in 0..1000 {
            self.turn();
            if self.store.is_idle() {
                self.queues.stopped();
                return;
            }
        }
        panic!("the store does not come to rest");
    }

    fn end(&mut self) {
        match self.rng.u8(..4) {
            0 => self.stop(),
            kind if kind == 1 || self.relaxed => {
                self.queues.unclean();
                self.disk.kill(&mut self.rng);
            }
            _ => {
                self.queues.unclean();
                self.disk.power_loss(&mut self.rng);
            }
        }
    }

    /// Settles everything: the files are removed.
    fn drain(&mut self) {
        for _ in 0..2000 {
            self.queues.settle_all(&mut self.store);
            self.turn();
            while self.disk_step() {}
            if self.queues.is_empty() && self.is_small() {
                return;
            }
        }
        let names: Vec<(FileName, usize)> = self.disk.names().collect();
        panic!("{names:?} stay");
    }

    fn is_small(&self) -> bool {
        let logs = self.disk.names().filter(|(name, _)| matches!(name, FileName::Log { .. }));
        // The log of recovery, the last segment, and one that the next batch lets go.
        logs.count() <= 3 && self.disk.names().count() <= 3
    }
}

/// A broker that was killed with a few batches in its log, and some messages in segments.
fn killed() -> Run {
    let mut run = Run::new(7);
    run.relaxed = true; // Only so that the power is not lost.
    while run.disk.names().filter(|(_, len)| *len > 3000).count() < 4 {
        run.live(5);
    }
    run.queues.unclean();
    run.disk.kill(&mut run.rng);
    run
}

#[test]
fn damage_in_front_of_what_was_synced_is_refused() {
    let mut run = killed();
    let is_log = |name: &FileName| matches!(name, FileName::Log { shard: 0, .. });
    let (name, _) = run.disk.names().find(|(name, _)| is_log(name)).expect("there is a log");
    run.disk.rot(name, 70);
    let refused = recover(&mut run.disk, &|_| true).expect_err("damaged");
    assert!(refused.to_string().starts_with(&format!("{name} is damaged from byte 0 on")));
}

#[test]
fn a_start_without_room_says_how_much_it_needs_and_loses_nothing() {
    let mut run = killed();
    run.disk.full = true;
    let refused = recover(&mut run.disk, &|_| true).expect_err("there is no room");
    assert!(refused.to_string().contains("here about 1 MiB"), "{refused}");
    run.disk.kill(&mut run.rng);
    run.disk.full = false;
    run.start();
}

#[test]
fn a_queue_that_cannot_be_read_is_named() {
    let mut run = killed();
    let recovered = recover(&mut run.disk, &|_| true).expect("nothing is damaged");
    run.store = Store::new(StoreConfig { boot: recovered.boot, ..StoreConfig::default() });
    let (queue, found) =
        recovered.queues.into_iter().find(|(_, found)| found.messages > 0).expect("a queue");
    let of_queue =
        |name: &FileName| matches!(name, FileName::Queue { queue: of, .. } if *of == queue);
    let names: Vec<FileName> =
        run.disk.names().map(|(name, _)| name).filter(|name| of_queue(name)).collect();
    names.iter().for_each(|name| run.disk.rot(*name, 70));
    run.store.adopt(queue, found);
    run.store.fetch(queue);
    run.store.end_turn(run.now);
    while let Some(op) = run.store.next_op() {
        run.disk.hand(0, op);
    }
    while let Some((_, done)) = run.disk.step(&mut run.rng) {
        run.store.done(done, run.now);
    }
    let error = run.store.next_error().expect("the chunk is damaged");
    assert!(matches!(&error, StoreError::Unreadable(of, _) if *of == queue), "{error:?}");
}

/// Runs a turn and all operations it hands out.
fn work(run: &mut Run) {
    run.store.end_turn(run.now);
    while let Some(op) = run.store.next_op() {
        run.disk.hand(0, op);
    }
    while let Some((_, done)) = run.disk.step(&mut run.rng) {
        run.store.done(done, run.now);
    }
}

#[test]
fn a_read_does_not_wait_for_a_write_that_is_dropped() {
    let (mut run, queue, text) = (Run::new(7), QueueId(1), sample("q", 10, false));
    let (redelivered, stored, expiry) = (false, Stored::NOWHERE, Expiry::NEVER);
    let spilled = |seq| Spilled { seq, redelivered, stored, expiry, message: text.message() };
    run.disk.full = true;
    run.store.spill(queue, spilled(1));
    work(&mut run);
    run.disk.full = false;
    run.store.purge(queue);
    work(&mut run);
    run.store.spill(queue, spilled(2));
    run.store.fetch(queue);
    work(&mut run);
    assert!(run.store.next_loaded().is_some());
    run.now.monotonic_us += 1_000_000;
    work(&mut run);
    assert!(run.store.next_loaded().is_none() && run.store.next_error().is_none());
}

#[test]
fn a_batch_waits_for_what_found_no_room() {
    let (mut run, queue, text) = (Run::new(7), QueueId(1), sample("q", 10, true));
    run.store = Store::default();
    run.store.begin_bypass(queue);
    run.disk.full = true;
    assert!(run.store.bypass_log(queue, 1, Expiry::NEVER, text.message()));
    assert_eq!(run.store.batch(), 1);
    run.store.request_flush();
    work(&mut run);
    work(&mut run);
    run.disk.full = false;
    work(&mut run);
    assert!(run.store.durable() == 0 && !run.store.is_settled_or_durable() && !run.store.is_idle());
    run.now.monotonic_us += 1_000_000;
    work(&mut run);
    work(&mut run);
    assert!(run.store.durable() == 1 && run.store.is_settled_or_durable() && run.store.is_idle());
}

#[test]
fn a_batch_does_not_wait_for_a_queue_that_is_gone() {
    let (mut run, queue, text) = (Run::new(7), QueueId(1), sample("q", 10, true));
    run.store = Store::default();
    run.store.begin_bypass(queue);
    run.disk.full = true;
    assert!(run.store.bypass_log(queue, 1, Expiry::NEVER, text.message()));
    run.store.request_flush();
    work(&mut run);
    run.store.forget_queue(queue);
    assert_eq!(run.store.durable(), 1);
    // Nor does the batch being filled.
    run.store.begin_bypass(queue);
    assert!(run.store.bypass_log(queue, 2, Expiry::NEVER, text.message()));
    run.store.forget_queue(queue);
    run.store.request_flush();
    run.disk.full = false;
    work(&mut run);
    assert_eq!(run.store.durable(), 2);
}

#[test]
fn what_could_not_be_synced_never_counts_as_durable() {
    let mut run = Run::new(7);
    let text = sample("q", 10, true);
    run.disk.broken = true;
    run.store.log(QueueId(1), 1, Expiry::NEVER, text.message());
    run.store.request_flush();
    work(&mut run);
    assert!(matches!(run.store.next_error(), Some(StoreError::Fatal(_))));
    run.disk.broken = false;
    run.store.log(QueueId(1), 2, Expiry::NEVER, text.message());
    run.store.request_flush();
    run.store.end_turn(run.now);
    assert_eq!((run.store.next_op(), run.store.durable()), (None, 0));
    assert!(!run.store.is_settled_or_durable());
}

#[test]
fn a_relaxed_log_whose_sync_failed_is_never_taken_for_synced() {
    let mut run = Run::new(7);
    let durability = SyncPolicy::Relaxed { every_ms: 10 };
    run.store = Store::new(StoreConfig { boot: run.boot, durability, ..StoreConfig::default() });
    let text = sample("q", 10, true);
    run.store.log(QueueId(1), 1, Expiry::NEVER, text.message());
    run.store.request_flush();
    work(&mut run);
    assert_eq!(run.store.durable(), 1);
    run.disk.broken = true;
    run.now.monotonic_us += 10_000;
    work(&mut run);
    assert!(matches!(run.store.next_error(), Some(StoreError::Fatal(_))));
    assert!(!run.store.is_idle());
}

#[test]
fn no_segment_is_removed_after_one_whose_removal_failed() {
    let mut run = Run::new(7);
    let config = StoreConfig { boot: run.boot, segment_bytes: 1, ..StoreConfig::default() };
    run.store = Store::new(config);
    let (queue, text) = (QueueId(1), sample("q", 10, true));
    let mut stored = Vec::new();
    for seq in 1..=3 {
        stored.push(run.store.log(queue, seq, Expiry::NEVER, text.message()));
        run.store.request_flush();
        work(&mut run);
    }
    run.disk.broken = true;
    run.store.settled(queue, 1, stored[0]);
    run.store.settled(queue, 2, stored[1]);
    work(&mut run);
    assert!(matches!(run.store.next_error(), Some(StoreError::Fatal(_))));
    run.store.end_turn(run.now);
    assert_eq!(run.store.next_op(), None);
}

#[test]
fn nothing_counts_after_a_lost_part_of_a_relaxed_log() {
    for lost in [0, 1] {
        let mut run = Run::new(7);
        let durability = SyncPolicy::Relaxed { every_ms: 1_000_000 };
        let boot = run.boot;
        let config = StoreConfig { boot, durability, segment_bytes: 1, ..StoreConfig::default() };
        run.store = Store::new(config);
        let text = sample("q", 10, true);
        for seq in 0..=lost.into() {
            run.store.log(QueueId(1), seq + 1, Expiry::NEVER, text.message());
            run.store.request_flush();
            work(&mut run);
        }
        run.store.stop(std::iter::empty());
        work(&mut run);
        // The segment after it does not say that it was synced.
        let name = FileName::Log { boot, shard: 0, number: lost };
        run.disk.write(name, &[0; 64]).expect("the disk is not broken");
        run.disk.commit().expect("the disk is not broken");
        let recovered = recover(&mut run.disk, &|_| true).expect("nothing is damaged");
        let found = recovered.queues.get(&QueueId(1)).map_or(0, |queue| queue.messages);
        assert_eq!((found, recovered.clean), (u64::from(lost), false));
    }
}

/// Whether the store reports that operations lack something; `None`: no change.
fn lacks(run: &mut Run) -> Option<bool> {
    assert_eq!(run.store.next_error(), None);
    run.store.take_lack().map(|why| why.is_some())
}

/// Half a second, in which operations that lack something are tried again several times.
fn wait(run: &mut Run) {
    for _ in 0..5 {
        run.now.monotonic_us += 100_000;
        work(run);
    }
}

#[test]
fn what_lacks_a_descriptor_is_tried_again_and_told_once() {
    let (queue, text) = (QueueId(1), sample("q", 10, true));
    let spilled = |seq| {
        let message = text.message();
        Spilled {
            seq,
            redelivered: false,
            stored: Stored::SPILLED_DURABLE,
            expiry: Expiry::NEVER,
            message,
        }
    };
    for bypass in [false, true] {
        let mut run = Run::new(7);
        run.store = Store::default();
        run.store.spill(queue, spilled(1));
        work(&mut run);
        run.disk.closed = 1;
        if bypass {
            run.store.begin_bypass(queue);
            assert!(run.store.bypass_log(queue, 2, Expiry::NEVER, text.message()));
        } else {
            run.store.log(queue, 2, Expiry::NEVER, text.message());
        }
        run.store.request_flush();
        run.store.fetch(queue);
        wait(&mut run);
        assert!(run.store.durable() == 0 && run.store.next_loaded().is_none());
        assert_eq!((lacks(&mut run), lacks(&mut run)), (Some(true), None));
        run.disk.closed = 0;
        wait(&mut run);
        assert!(run.store.durable() == 1 && run.store.next_loaded().is_some());
        assert_eq!((lacks(&mut run), lacks(&mut run)), (Some(false), None));
        assert!(run.store.is_idle());
    }
}

#[test]
fn a_queue_that_is_deleted_lacks_nothing() {
    let (mut run, queue, text) = (Run::new(7), QueueId(1), sample("q", 10, false));
    run.store = Store::default();
    let stored = Stored::NOWHERE;
    run.store.spill(
        queue,
        Spilled {
            seq: 1,
            redelivered: false,
            stored,
            expiry: Expiry::NEVER,
            message: text.message(),
        },
    );
    work(&mut run);
    run.disk.closed = 1;
    run.store.fetch(queue);
    work(&mut run);
    assert_eq!(lacks(&mut run), Some(true));
    run.store.forget_queue(queue);
    work(&mut run);
    assert_eq!(lacks(&mut run), Some(false));
}

#[test]
fn a_relaxed_sync_that_lacks_a_descriptor_counts_only_once_it_is_done() {
    let mut run = Run::new(7);
    let durability = SyncPolicy::Relaxed { every_ms: 10 };
    let config =
        StoreConfig { boot: run.boot, durability, segment_bytes: 1, ..StoreConfig::default() };
    run.store = Store::new(config);
    let text = sample("q", 10, true);
    run.store.log(QueueId(1), 1, Expiry::NEVER, text.message());
    run.store.request_flush();
    work(&mut run);
    run.disk.closed = 1;
    run.now.monotonic_us += 20_000;
    wait(&mut run);
    assert_eq!(lacks(&mut run), Some(true));
    assert!(!run.store.is_idle());
    // A second segment does not replace the sync of the first one.
    run.disk.closed = 0;
    run.store.log(QueueId(1), 2, Expiry::NEVER, text.message());
    run.store.request_flush();
    wait(&mut run);
    wait(&mut run);
    assert_eq!(lacks(&mut run), Some(false));
    assert!(run.store.is_idle());
    run.disk.power_loss(&mut run.rng);
    let recovered = recover(&mut run.disk, &|_| true).expect("nothing is damaged");
    assert_eq!(recovered.queues[&QueueId(1)].messages, 2);
}

/// Returns how many messages bypassed the log.
fn run(seed: u64) -> usize {
    let mut run = Run::new(seed);
    for _ in 0..4 {
        let turns = run.rng.usize(..60);
        run.live(turns);
        run.end();
        run.start();
    }
    run.drain();
    run.queues.bypassed
}

fn caught(seed: u64) -> bool {
    std::panic::catch_unwind(|| run(seed)).is_err()
}

fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let first = number("STORE_SEED").unwrap_or(1);
    first..first + number("STORE_SEEDS").unwrap_or(300)
}

#[test]
fn what_was_promised_holds() {
    let failed: Vec<u64> = seeds().filter(|seed| caught(*seed)).take(5).collect();
    assert!(failed.is_empty(), "seeds {failed:?}: STORE_SEED=n STORE_SEEDS=1 shows one");
}

#[test]
fn messages_bypass_the_log() {
    let written: usize = (1..=50).map(run).sum();
    assert!(written > 1000, "only {written}");
}

#[cfg(feature = "mutants")]
#[test]
fn every_fault_is_caught() {
    use model::mutant::{self, Mutant};
    std::panic::set_hook(Box::new(|_| {}));
    for fault in Mutant::STORE {
        mutant::select(Some(*fault));
        let seed = (1..4000).find(|seed| caught(*seed));
        mutant::select(None);
        assert!(seed.is_some(), "{fault:?} is not caught");
        println!("{fault:?}: seed {}", seed.unwrap_or_default());
    }
}
