//! The directory of all queues: where each lives, whom it belongs to, which stage of its life it is
//! in, and which requests wait for the next stage.

use std::collections::{BTreeMap, BTreeSet};

use model::topology::spec::Name;
use model::{ConnId, IdSource, QueueId, QueueSpec, ShardId};

use crate::coordinator::versions::Requester;

/// This many ids are reserved at once: most queues that are not durable need no record then.
const RESERVE: u64 = 1024;

/// On which shard a queue is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum QueuePlacement {
    /// An exclusive or server-named queue lives with its connection, another where the fewest are.
    #[default]
    Balanced,
    /// Never on the shard that declares it, so that in tests every message crosses a ring.
    Cross,
}

/// A vhost and the name of a queue in it.
type QueuePath = (Name, Name);

/// A queue as the coordinator knows it.
#[derive(Debug, Hash)]
pub(super) struct DirectoryEntry {
    pub vhost: Name,
    pub spec: QueueSpec,
    pub stage: QueueStage,
    /// Its owner is gone: it is deleted whether it is used or not.
    pub doomed: bool,
    /// Who asked for its deletion; answered when that is done and the home has said what it held.
    pub deleter: Option<Requester>,
    /// Ready messages when it was frozen.
    pub messages: u32,
    /// They are answered when it is gone.
    pub awaiting: Vec<Requester>,
    /// Commands that are executed again when its stage has changed.
    pub parked: Vec<(Requester, QueueCommand)>,
}

/// A request about a queue that may have to wait for its next stage.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) enum QueueCommand {
    /// Create a queue in a vhost unless one of that name exists.
    Declare(Name, QueueSpec),
    /// Delete the queue.
    Delete(QueueDelete),
}

/// The fields of [`Request::DeleteQueue`](crate::mesh::control::Request::DeleteQueue).
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct QueueDelete {
    pub vhost: Name,
    pub name: Name,
    pub if_unused: bool,
    pub if_empty: bool,
    pub conn: ConnId,
}

impl QueueCommand {
    /// The connection that an exclusive queue is declared for.
    fn owner(&self) -> Option<ConnId> {
        match self {
            Self::Declare(_, spec) => spec.owner,
            Self::Delete(_) => None,
        }
    }
}

/// The stages of a queue's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum QueueStage {
    /// The home was asked to create it.
    Creating,
    /// It exists.
    Ready,
    /// The home was asked to freeze it.
    Freezing,
    /// It is frozen, and its deletion is decided.
    Deleting {
        /// The home has still to answer a request to freeze it.
        frozen_due: bool,
        /// No shard knows it any more.
        settled: bool,
    },
}

/// The exclusive queues of a connection.
#[derive(Debug, Default, Hash)]
struct QueueOwner {
    queues: BTreeSet<QueueId>,
    /// Its declares that wait for another queue of that name to go.
    declares: usize,
    /// The connection is gone; who is answered when all its queues are.
    gone: Option<Requester>,
}

/// All queues.
#[derive(Debug, Hash)]
pub(super) struct Directory {
    ids: IdSource,
    /// It is durable that ids below this one may have been given out.
    reserved: u64,
    entries: BTreeMap<QueueId, DirectoryEntry>,
    names: BTreeMap<QueuePath, QueueId>,
    /// How many queues a vhost has; no entry is 0.
    counts: BTreeMap<Name, u64>,
    owners: BTreeMap<ConnId, QueueOwner>,
    placement: QueuePlacement,
    /// Queues by home shard.
    load: Vec<u64>,
    /// How many entries are not [`QueueStage::Ready`].
    unsteady: usize,
}

impl Directory {
    /// An empty directory of so many shards. It gives out ids from `queues_below` on; 0: from the
    /// first.
    pub fn new(shards: u16, placement: QueuePlacement, queues_below: QueueId) -> Self {
        let ids = match queues_below {
            QueueId(0) => IdSource::new(ShardId::OF_QUEUES),
            QueueId(next) => IdSource::resumed(next),
        };
        Self {
            reserved: ids.peek(),
            ids,
            entries: BTreeMap::new(),
            names: BTreeMap::new(),
            counts: BTreeMap::new(),
            owners: BTreeMap::new(),
            placement,
            load: vec![0; usize::from(shards)],
            unsteady: 0,
        }
    }

    pub fn by_name(&self, vhost: &Name, name: &Name) -> Option<QueueId> {
        self.names.get(&(vhost.clone(), name.clone())).copied()
    }

    /// How many queues there are, those being created and deleted included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many queues the vhost has, in whatever stage.
    pub fn len_in(&self, vhost: &str) -> u64 {
        self.counts.get(vhost).copied().unwrap_or(0)
    }

    pub fn get(&self, queue: QueueId) -> Option<&DirectoryEntry> {
        self.entries.get(&queue)
    }

    pub fn get_mut(&mut self, queue: QueueId) -> Option<&mut DirectoryEntry> {
        self.entries.get_mut(&queue)
    }

    pub fn set_stage(&mut self, queue: QueueId, stage: QueueStage) {
        let Some(entry) = self.entries.get_mut(&queue) else {
            return;
        };
        self.unsteady -= usize::from(entry.stage != QueueStage::Ready);
        self.unsteady += usize::from(stage != QueueStage::Ready);
        entry.stage = stage;
    }

    /// Enters a new queue, with an id and a home. Returns its full spec.
    pub fn create(&mut self, vhost: Name, mut spec: QueueSpec, asking: ShardId) -> QueueSpec {
        spec.id = self.ids.fresh();
        spec.home = self.home(&spec, asking);
        self.unsteady += 1;
        self.enter(vhost, spec.clone(), QueueStage::Creating);
        spec
    }

    /// Enters a queue that outlived a restart. Returns the spec with its home.
    pub fn adopt(&mut self, vhost: Name, mut spec: QueueSpec) -> QueueSpec {
        spec.home = self.lightest();
        self.enter(vhost, spec.clone(), QueueStage::Ready);
        spec
    }

    /// The id below which all are that will be given out for some time, if that has to be made
    /// durable.
    pub fn reserve(&mut self) -> Option<QueueId> {
        if self.ids.peek() <= self.reserved {
            return None;
        }
        self.reserved = self.ids.peek() + RESERVE;
        Some(QueueId(self.reserved))
    }

    /// All queues in whatever stage, by id, from one on.
    pub fn from(&self, first: QueueId) -> impl Iterator<Item = &DirectoryEntry> {
        self.entries.range(first..).map(|(_, entry)| entry)
    }

    /// The queues that every shard knows or is told of, by id, from one on.
    pub fn ready_from(&self, first: QueueId) -> impl Iterator<Item = (&Name, &QueueSpec)> {
        let entries = self.from(first);
        let ready = entries.filter(|entry| entry.stage == QueueStage::Ready);
        ready.map(|entry| (&entry.vhost, &entry.spec))
    }

    /// The queues of a vhost, in whatever stage, by name.
    pub fn in_vhost<'a>(&'a self, vhost: &'a Name) -> impl Iterator<Item = QueueId> + 'a {
        let first = (vhost.clone(), Name::default());
        let from = self.names.range(first..);
        from.take_while(move |((name, _), _)| name == vhost).map(|(_, queue)| *queue)
    }

    fn enter(&mut self, vhost: Name, spec: QueueSpec, stage: QueueStage) {
        let id = spec.id;
        if let Some(load) = self.load.get_mut(spec.home.index()) {
            *load += 1;
        }
        if let Some(owner) = spec.owner {
            self.owners.entry(owner).or_default().queues.insert(id);
        }
        self.names.insert((vhost.clone(), spec.name.clone()), id);
        *self.counts.entry(vhost.clone()).or_default() += 1;
        let entry = DirectoryEntry {
            vhost,
            spec,
            stage,
            doomed: false,
            deleter: None,
            messages: 0,
            awaiting: Vec::new(),
            parked: Vec::new(),
        };
        self.entries.insert(id, entry);
    }

    fn home(&self, spec: &QueueSpec, asking: ShardId) -> ShardId {
        if self.placement == QueuePlacement::Cross {
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

    /// Removes a queue that is gone. The second value is who is to be told that the connection's
    /// last queue is gone, if this was it.
    pub fn remove(&mut self, queue: QueueId) -> Option<(DirectoryEntry, Option<Requester>)> {
        let entry = self.entries.remove(&queue)?;
        self.unsteady -= usize::from(entry.stage != QueueStage::Ready);
        self.names.remove(&(entry.vhost.clone(), entry.spec.name.clone()));
        if let Some(load) = self.load.get_mut(entry.spec.home.index()) {
            *load -= 1;
        }
        self.count_one_less(&entry.vhost);
        let told = entry.spec.owner.and_then(|owner| {
            self.owners.get_mut(&owner)?.queues.remove(&queue);
            self.release(owner)
        });
        Some((entry, told))
    }

    fn count_one_less(&mut self, vhost: &Name) {
        if let Some(count) = self.counts.get_mut(vhost) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(vhost);
            }
        }
    }

    /// Keeps a command until the queue's stage has changed.
    pub fn park(&mut self, queue: QueueId, requester: Requester, command: QueueCommand) {
        if let Some(owner) = command.owner() {
            self.owners.entry(owner).or_default().declares += 1;
        }
        if let Some(entry) = self.entries.get_mut(&queue) {
            entry.parked.push((requester, command));
        }
    }

    /// The command waits no longer: it is executed now. Call [`Self::release`] with the connection
    /// that is returned after that.
    pub fn unpark(&mut self, command: &QueueCommand) -> Option<ConnId> {
        let owner = command.owner()?;
        if let Some(owner) = self.owners.get_mut(&owner) {
            owner.declares -= 1;
        }
        Some(owner)
    }

    /// True if the end of the connection was told: no queue is created for it any more.
    pub fn is_gone(&self, owner: ConnId) -> bool {
        self.owners.get(&owner).is_some_and(|owner| owner.gone.is_some())
    }

    /// The connection is gone. Returns its queues in the order they were declared, which are to be
    /// deleted; [`Self::release`] returns the requester when nothing of the connection is left.
    pub fn owner_gone(&mut self, owner: ConnId, requester: Requester) -> Vec<QueueId> {
        let owner = self.owners.entry(owner).or_default();
        owner.gone = Some(requester);
        owner.queues.iter().copied().collect()
    }

    /// True if a queue of the connection exists, or one of its declares waits for another's end.
    pub fn is_owner(&self, conn: ConnId) -> bool {
        self.owners.get(&conn).is_some_and(|owner| !owner.queues.is_empty() || owner.declares > 0)
    }

    /// Forgets the connection if nothing of it is left. Returns who is to be told, if it is gone.
    pub fn release(&mut self, owner: ConnId) -> Option<Requester> {
        let entry = self.owners.get(&owner)?;
        if entry.queues.is_empty() && entry.declares == 0 {
            return self.owners.remove(&owner)?.gone;
        }
        None
    }

    /// True if no queue is being created or deleted and no request waits for one.
    pub fn is_idle(&self) -> bool {
        let rests = |owner: &QueueOwner| owner.gone.is_none() && !owner.queues.is_empty();
        self.unsteady == 0 && self.owners.values().all(rests)
    }
}
