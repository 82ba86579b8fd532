//! Every queue from the first thought of it until nobody knows it any more: where it lives, whom it
//! belongs to, how far its making or unmaking is.

use model::hash::Map;
use model::{ConnId, IdSource, QueueId, QueueSpec, Seed, ShardId, hash::Set};

use super::{Asker, Path};
use super::{CoordinatorConfig, Place};
use crate::shard::message::Request;
use model::spec::Name;

/// So many identities are made durable at once: most queues that are not need no record then.
const RESERVE: u64 = 1024;

/// A queue as the coordinator keeps it.
#[derive(Debug)]
pub(super) struct Record {
    pub vhost: Name,
    pub spec: QueueSpec,
    pub state: State,
    /// It goes whoever uses it: its owner is gone.
    pub doomed: bool,
    /// Who asked for its deletion; answered when that is done and the home has said what it held.
    pub deleter: Option<Asker>,
    /// Ready messages when it was frozen.
    pub messages: u32,
    /// Asked about its end.
    pub awaiting: Vec<Asker>,
    /// Questions that are looked at again when its state has changed.
    pub parked: Vec<(Asker, Request)>,
}

/// How far a queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// The home was asked to create it.
    Creating,
    /// It exists.
    Ready,
    /// The home was asked to freeze it.
    Freezing,
    /// Frozen, and its deletion decided.
    Deleting {
        /// The home has still to answer a request to freeze it.
        frozen_due: bool,
        /// No shard knows it any more.
        settled: bool,
    },
}

/// What an owner of exclusive queues has to do with the coordinator.
#[derive(Debug)]
struct Owner {
    queues: Set<QueueId>,
    /// Its declares that wait for a queue of that name to go.
    declares: usize,
    /// It is gone; who is told when all its queues are.
    gone: Option<Asker>,
}

#[derive(Debug)]
pub(super) struct Directory {
    seed: Seed,
    ids: IdSource,
    /// It is durable that identities below this one may have been given out.
    reserved: u64,
    records: Map<QueueId, Record>,
    names: Map<Path, QueueId>,
    owners: Map<ConnId, Owner>,
    place: Place,
    /// Queues by home shard.
    load: Vec<u64>,
    /// Records that are not [`State::Ready`].
    unsteady: usize,
}

impl Directory {
    /// Gives out identities from `queues_below` on; 0: from the first.
    pub fn new(config: &CoordinatorConfig, seed: Seed, queues_below: QueueId) -> Self {
        let shards = config.shards;
        let ids = match queues_below {
            QueueId(0) => IdSource::new(ShardId::OF_QUEUES),
            QueueId(next) => IdSource::resumed(next),
        };
        Self {
            place: config.place,
            seed,
            reserved: ids.peek(),
            ids,
            records: Map::with_hasher(seed),
            names: Map::with_hasher(seed),
            owners: Map::with_hasher(seed),
            load: vec![0; usize::from(shards)],
            unsteady: 0,
        }
    }

    pub fn by_name(&self, vhost: &Name, name: &Name) -> Option<QueueId> {
        self.names.get(&(vhost.clone(), name.clone())).copied()
    }

    /// How many queues there are, those being made and unmade included.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn get(&self, queue: QueueId) -> Option<&Record> {
        self.records.get(&queue)
    }

    pub fn get_mut(&mut self, queue: QueueId) -> Option<&mut Record> {
        self.records.get_mut(&queue)
    }

    pub fn set_state(&mut self, queue: QueueId, state: State) {
        let Some(record) = self.records.get_mut(&queue) else {
            return;
        };
        self.unsteady -= usize::from(record.state != State::Ready);
        self.unsteady += usize::from(state != State::Ready);
        record.state = state;
    }

    /// Enters a new queue, with an identity and a home.
    pub fn create(&mut self, vhost: Name, mut spec: QueueSpec, asking: ShardId) -> &Record {
        spec.id = self.ids.fresh();
        spec.home = self.home(&spec, asking);
        self.unsteady += 1;
        self.enter(vhost, spec, State::Creating)
    }

    /// Enters a queue that outlived a restart; the spec with its home.
    pub fn adopt(&mut self, vhost: Name, mut spec: QueueSpec) -> QueueSpec {
        spec.home = self.lightest();
        self.enter(vhost, spec, State::Ready).spec.clone()
    }

    /// The identity below which all are that will be given out for some time, if that has to be
    /// made durable.
    pub fn reserve(&mut self) -> Option<QueueId> {
        if self.ids.peek() <= self.reserved {
            return None;
        }
        self.reserved = self.ids.peek() + RESERVE;
        Some(QueueId(self.reserved))
    }

    /// All queues that are there for all, by identity.
    pub fn ready(&self) -> impl Iterator<Item = (Name, QueueSpec)> {
        let ready = self.records.values().filter(|record| record.state == State::Ready);
        let mut ready: Vec<_> = ready.collect();
        ready.sort_unstable_by_key(|record| record.spec.id);
        ready.into_iter().map(|record| (record.vhost.clone(), record.spec.clone()))
    }

    fn enter(&mut self, vhost: Name, spec: QueueSpec, state: State) -> &Record {
        let id = spec.id;
        if let Some(load) = self.load.get_mut(spec.home.index()) {
            *load += 1;
        }
        if let Some(owner) = spec.owner {
            self.owner(owner).queues.insert(id);
        }
        self.names.insert((vhost.clone(), spec.name.clone()), id);
        let record = Record {
            vhost,
            spec,
            state,
            doomed: false,
            deleter: None,
            messages: 0,
            awaiting: Vec::new(),
            parked: Vec::new(),
        };
        self.records.entry(id).or_insert(record)
    }

    /// An exclusive or server-named queue lives with its connection, another where the fewest are.
    fn home(&self, spec: &QueueSpec, asking: ShardId) -> ShardId {
        if self.place == Place::Cross {
            return ShardId((asking.0 + 1) % self.load.len() as u16);
        }
        if spec.owner.is_some() || spec.server_named {
            return asking;
        }
        self.lightest()
    }

    fn lightest(&self) -> ShardId {
        let lightest = self.load.iter().enumerate().min_by_key(|(_, load)| **load);
        // The list is as long as a u16 said.
        lightest.map_or(ShardId::default(), |(shard, _)| ShardId(shard as u16))
    }

    /// Takes a queue that is gone out. The second value is who waits for the end of its owner's
    /// queues, if this was the last.
    pub fn remove(&mut self, queue: QueueId) -> Option<(Record, Option<Asker>)> {
        let record = self.records.remove(&queue)?;
        self.unsteady -= usize::from(record.state != State::Ready);
        self.names.remove(&(record.vhost.clone(), record.spec.name.clone()));
        if let Some(load) = self.load.get_mut(record.spec.home.index()) {
            *load -= 1;
        }
        let told = record.spec.owner.and_then(|owner| {
            self.owners.get_mut(&owner)?.queues.remove(&queue);
            self.release(owner)
        });
        Some((record, told))
    }

    /// A declare of the owner waits.
    pub fn park_declare(&mut self, owner: ConnId) {
        self.owner(owner).declares += 1;
    }

    /// A declare of the owner waits no longer and is looked at again. Call [`Self::release`] then.
    pub fn unpark_declare(&mut self, owner: ConnId) {
        if let Some(owner) = self.owners.get_mut(&owner) {
            owner.declares -= 1;
        }
    }

    /// Whether the connection said goodbye: nothing is made for it any more.
    pub fn is_gone(&self, owner: ConnId) -> bool {
        self.owners.get(&owner).is_some_and(|owner| owner.gone.is_some())
    }

    /// The connection is gone. Its queues in the order they were declared, which are to be deleted;
    /// the asker is given back by [`Self::release`] when nothing of the owner is left.
    pub fn owner_gone(&mut self, owner: ConnId, asker: Asker) -> Vec<QueueId> {
        let owner = self.owner(owner);
        owner.gone = Some(asker);
        let mut queues: Vec<QueueId> = owner.queues.iter().copied().collect();
        queues.sort_unstable();
        queues
    }

    /// Whether a queue of the connection exists, or a declare of one waits for another's end.
    pub fn is_owner(&self, conn: ConnId) -> bool {
        self.owners.get(&conn).is_some_and(|owner| !owner.queues.is_empty() || owner.declares > 0)
    }

    /// Forgets the owner if nothing of it is left. Who is told of that, if it is gone.
    pub fn release(&mut self, owner: ConnId) -> Option<Asker> {
        let entry = self.owners.get(&owner)?;
        if entry.queues.is_empty() && entry.declares == 0 {
            return self.owners.remove(&owner)?.gone;
        }
        None
    }

    /// Whether no queue is being made or unmade and nobody waits for one.
    pub fn is_idle(&self) -> bool {
        let rests = |owner: &Owner| owner.gone.is_none() && !owner.queues.is_empty();
        self.unsteady == 0 && self.owners.values().all(rests)
    }

    fn owner(&mut self, owner: ConnId) -> &mut Owner {
        let seed = self.seed;
        self.owners.entry(owner).or_insert_with(|| Owner {
            queues: Set::with_hasher(seed),
            declares: 0,
            gone: None,
        })
    }
}
