//! The parts of a broker without sockets: shards, coordinator, the rings between them, and disks
//! that answer when the dice say so. It starts from what the disks hold.

use std::collections::{BTreeSet, VecDeque};

use fastrand::Rng;
use model::{BodyCounts, Entropy, Now, ShardId};
use ringtail::coordinator::{CoordinatorConfig, QueuePlacement};
use ringtail::mesh::Batch;
use ringtail::queues::StorageError;
use ringtail::shard::{Shard, ShardConfig};
use ringtail::store::meta::{Fact, MetaLog};
use ringtail::store::{StoreConfig, recover};

use crate::copies::Copies;
use crate::disk::SimDisk;
use crate::memory::MemoryFolder;

/// So small that the metadata log often begins a new file.
const META_GROWN: u64 = 2000;

/// What outlives the process.
#[derive(Debug, Default)]
pub struct Disks {
    /// Logs and segments.
    pub messages: SimDisk,
    /// The metadata log.
    pub meta: MemoryFolder,
}

/// What a broker is started with.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Shards, at least 1.
    pub shards: u16,
    /// No queue lives on the shard where it was declared.
    pub cross: bool,
    /// Batches a ring takes.
    pub ring: usize,
    /// Randomness.
    pub seed: u64,
    /// The memory the broker may pin.
    pub memory_limit: u64,
    /// Bytes that the queues of a shard keep in memory.
    pub resident_max: usize,
    /// Bytes of partial messages.
    pub receiving_max: usize,
    /// Units of work that a shard does in a turn.
    pub turn_work: u32,
    /// Sizes of the store's files; the rest is filled in.
    pub store: StoreConfig,
}

impl Setup {
    fn shard(&self, id: u16, boot: u32) -> Shard {
        let store = StoreConfig { shard: id, shards: self.shards, boot, ..self.store };
        Shard::new(ShardConfig {
            resident_max: self.resident_max,
            unsettled_max: self.resident_max,
            receiving_max: self.receiving_max,
            turn_work: self.turn_work,
            store,
            ..ShardConfig::new(ShardId(id), self.shards, Entropy::from_seed(self.seed))
        })
    }

    fn coordinator(&self) -> CoordinatorConfig {
        CoordinatorConfig {
            loopback_users: vec!["guest".into()],
            memory_limit: self.memory_limit,
            placement: if self.cross { QueuePlacement::Cross } else { QueuePlacement::Balanced },
            ..CoordinatorConfig::new(self.shards, Entropy::from_seed(self.seed))
        }
    }
}

/// Sizes of the store so small that everything happens early.
pub fn small_store(rng: &mut Rng) -> StoreConfig {
    StoreConfig {
        segment_bytes: rng.u64(2_000..20_000),
        log_max: rng.u64(8_000..60_000),
        chunk_bytes: rng.usize(200..4_000),
        bypass_min: rng.usize(..2_000),
        bypass_batch: rng.usize(..1_000),
        ..StoreConfig::default()
    }
}

#[derive(Default)]
struct Ring {
    batches: VecDeque<Batch>,
    /// Nothing comes out for so many turns of the reader.
    stalled: usize,
}

/// The running parts.
pub struct Broker {
    /// The shards by number.
    pub shards: Vec<Shard>,
    /// The coordinator, and a copy that must stay in the same state.
    pub coordinator: Copies,
    /// Something moved.
    pub moved: bool,
    /// The most bytes that an outbound batch held.
    pub batch_max: usize,
    /// A turn did so much more work than it may.
    #[allow(dead_code, reason = "only the simulation judges it")]
    pub overworked: u64,
    /// Why the process must end.
    pub broken: Option<String>,
    /// The last stop was a clean one.
    #[allow(dead_code, reason = "only where brokers start again")]
    pub clean: bool,
    meta: MetaLog<MemoryFolder>,
    /// Facts that are not durable yet.
    records: Vec<Fact>,
    /// The disk had no room for them.
    full: bool,
    /// By writer, then reader; the coordinator is the last of both.
    rings: Vec<Vec<Ring>>,
    ring: usize,
    spare: Vec<Batch>,
}

impl Broker {
    /// Starts from what is on the disks.
    ///
    /// # Errors
    ///
    /// What recovery says.
    pub fn start(setup: &Setup, disks: &mut Disks) -> Result<Self, String> {
        let meta = MetaLog::open_with(disks.meta.clone(), setup.seed, META_GROWN);
        let meta = meta.map_err(|refused| refused.to_string())?;
        let coordinator = Copies::recovered(setup.coordinator(), meta.state());
        let queues = coordinator.original().durable_queues();
        let known: BTreeSet<_> = queues.iter().map(|(_, spec)| spec.id).collect();
        let recovered = recover(&mut disks.messages, &|queue| known.contains(&queue));
        let mut recovered = recovered.map_err(|refused| refused.to_string())?;
        let bodies = BodyCounts::new(setup.shards);
        let shard = |id| {
            let mut shard = setup.shard(id, recovered.boot);
            shard.count_bodies(&bodies);
            shard
        };
        let mut shards: Vec<Shard> = (0..setup.shards).map(shard).collect();
        for (vhost, spec) in queues {
            let found = recovered.queues.remove(&spec.id).unwrap_or_default();
            shards[spec.home.index()].restore(vhost, spec, found);
        }
        let ends = shards.len() + 1;
        let row = |_| (0..ends).map(|_| Ring::default()).collect();
        Ok(Self {
            shards,
            coordinator,
            moved: false,
            batch_max: 0,
            overworked: 0,
            broken: None,
            clean: recovered.clean,
            meta,
            records: Vec::new(),
            full: false,
            rings: (0..ends).map(row).collect(),
            ring: setup.ring,
            spare: Vec::new(),
        })
    }

    /// The endpoints whose batches a shard takes in this turn.
    pub fn arrived(&mut self, shard: usize, eager: bool, rng: &mut Rng) -> Vec<usize> {
        let mut from = Vec::new();
        for (number, row) in self.rings.iter_mut().enumerate() {
            let ring = &mut row[shard];
            if ring.stalled > 0 && !eager {
                ring.stalled -= 1;
            } else if !ring.batches.is_empty() && (eager || rng.bool()) {
                from.push(number);
            }
        }
        from
    }

    /// A shard takes one batch of another endpoint, or all.
    pub fn take(&mut self, from: usize, to: usize, all: bool, now: Now) {
        while let Some(mut batch) = self.rings[from][to].batches.pop_front() {
            self.moved = true;
            // Few rings exist, their number is a u16.
            self.shards[to].mesh(ShardId(from as u16), &mut batch, now);
            self.spare.push(batch);
            if !all {
                break;
            }
        }
    }

    /// The coordinator's thread runs.
    pub fn coordinate(&mut self, eager: bool, now: Now) {
        let me = self.shards.len();
        for from in 0..me {
            let ring = &mut self.rings[from][me];
            if ring.stalled > 0 && !eager {
                ring.stalled -= 1;
                continue;
            }
            if let Some(mut batch) = ring.batches.pop_front() {
                self.moved = true;
                self.coordinator.mesh(ShardId(from as u16), &mut batch, now);
                self.spare.push(batch);
            }
        }
        self.coordinator.compare();
        self.record(now);
        self.tell();
    }

    /// Makes the decisions of the coordinator durable. As the shell does, it tells the coordinator
    /// when the disk is full; a later attempt succeeds.
    fn record(&mut self, now: Now) {
        loop {
            self.records.append(&mut self.coordinator.take_records());
            match self.meta.append(&self.records) {
                Ok(()) => self.records.clear(),
                Err(failure) if failure.may_retry() => {
                    (self.moved, self.full) = (true, true);
                    return self.coordinator.disk_is_full(true, now);
                }
                Err(failure) => return self.broken = Some(failure.to_string()),
            }
            if !std::mem::take(&mut self.full) {
                return;
            }
            self.coordinator.disk_is_full(false, now);
        }
    }

    fn tell(&mut self) {
        if self.broken.is_some() {
            return;
        }
        let me = self.shards.len();
        for to in 0..me {
            let room = self.rings[me][to].batches.len() < self.ring;
            let batch = self.coordinator.outbound(ShardId(to as u16));
            if room && !batch.is_empty() {
                let taken = std::mem::replace(batch, self.spare.pop().unwrap_or_default());
                self.rings[me][to].batches.push_back(taken);
                self.moved = true;
            }
        }
    }

    /// Ends a shard's turn: its output goes to the rings and to the disk.
    pub fn end_turn(&mut self, shard: usize, disks: &mut Disks, now: Now) {
        self.shards[shard].end_turn(now);
        let (done, most) = self.shards[shard].work_done();
        self.overworked = self.overworked.max(done.saturating_sub(most));
        self.moved |= self.shards[shard].unfinished();
        while let Some(op) = self.shards[shard].next_op() {
            disks.messages.hand(shard as u16, op);
            self.moved = true;
        }
        for to in 0..self.rings.len() {
            if to == shard {
                continue;
            }
            let room = self.rings[shard][to].batches.len() < self.ring;
            let batch = self.shards[shard].outbound(ShardId(to as u16));
            self.batch_max = self.batch_max.max(batch.held());
            if room && !batch.is_empty() {
                let taken = std::mem::replace(batch, self.spare.pop().unwrap_or_default());
                self.rings[shard][to].batches.push_back(taken);
                self.moved = true;
            }
        }
    }

    /// The disk carries an operation out, if there is one.
    pub fn disk_step(&mut self, disks: &mut Disks, rng: &mut Rng, now: Now) {
        let Some((shard, done)) = disks.messages.step(rng) else { return };
        self.moved = true;
        let shard = &mut self.shards[usize::from(shard)];
        shard.done(done, now);
        while let Some(trouble) = shard.storage_error() {
            match trouble {
                StorageError::Full(_) => {}
                StorageError::Poisoned(why) => self.broken = Some(why),
                StorageError::Unreadable(..) if self.broken.is_some() => {}
                StorageError::Unreadable(queue, why) => panic!("{queue} cannot be read: {why}"),
            }
        }
    }

    /// Stalls one ring for some turns.
    pub fn stall(&mut self, turns: usize, rng: &mut Rng) {
        let (from, to) = (rng.usize(..self.rings.len()), rng.usize(..self.rings.len()));
        self.rings[from][to].stalled = turns;
    }

    /// Stalls every ring for some turns.
    pub fn stall_all(&mut self, turns: usize) {
        for ring in self.rings.iter_mut().flatten() {
            ring.stalled = turns;
        }
    }
}
