//! The shard: what it is made of and how the shell drives it.

use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use bytes::Bytes;
use model::message::REFERENCE_MIN;
use model::mutant::{self, Mutant};
use model::session::Limits;
use model::{
    ChannelId, ConnId, Draft, IdSource, Now, Outbox, QueueId, Seed, ShardId, Targets, Topology,
};

use super::batch::Batch;
use super::clients::Clients;
use super::closing::Releases;
use super::conn::{Conn, ConnInfo, Phase};
use super::home::{Door, Home};
use super::message::Alarms;
use super::paging::Paging;
use super::peers::Peers;
use super::receiving::Turn;
use super::replies::ReplyKey;
use super::stopping::Stopping;
use super::store::Trouble;
use super::timers::Due;
use crate::store::{Store, StoreConfig};

/// What a shard is started with.
#[derive(Debug, Clone, Copy)]
pub struct ShardConfig {
    /// Its number.
    pub id: ShardId,
    /// How many shards there are.
    pub shards: u16,
    /// Randomness: names the server makes, seeds of hash maps.
    pub seed: u64,
    /// What the names of reply consumers are proved with, the same on every shard.
    pub reply_key: ReplyKey,
    /// What clients are offered.
    pub limits: Limits,
    /// Octets of memory that all queues together may hold; the store gets what is beyond it.
    pub resident_max: usize,
    /// Octets of large messages being received at once; beyond it only the oldest goes on.
    pub receiving_max: usize,
    /// While there are more than that, octets of them that one connection may hold: what goes
    /// beyond it is refused, unless it is a single message.
    pub receiving_own_max: usize,
    /// Octets of memory that one transaction may hold; a single publish may always be held.
    pub transaction_max: usize,
    /// What its store is started with.
    pub store: StoreConfig,
}

impl ShardConfig {
    /// The defaults for one of `shards` shards.
    #[must_use]
    pub fn new(id: ShardId, shards: u16, seed: u64) -> Self {
        Self {
            id,
            shards,
            seed,
            reply_key: ReplyKey::from_seed(seed),
            limits: Limits::default(),
            resident_max: usize::MAX,
            receiving_max: 256 * 1024 * 1024,
            receiving_own_max: 256 * 1024 * 1024,
            transaction_max: 256 * 1024 * 1024,
            store: StoreConfig { shard: id.0, shards, ..StoreConfig::default() },
        }
    }
}

/// What the shell does with a connection's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Read it.
    Open,
    /// Do not read it now; it becomes dirty when that changes.
    Paused,
    /// Write what waits, shut the sending side, discard what comes for a moment, close.
    Closing,
}

/// One core's broker.
#[derive(Debug)]
pub struct Shard {
    pub(super) me: ShardId,
    pub(super) limits: Limits,
    pub(super) clients: Clients,
    pub(super) home: Home,
    pub(super) peers: Peers,
    pub(super) store: Store,
    pub(super) troubles: VecDeque<Trouble>,
    pub(super) paging: Paging,
    pub(super) topology: Topology,
    /// Every shard has applied the topology up to this version.
    pub(super) settled: u64,
    pub(super) releases: Releases,
    pub(super) conn_ids: IdSource,
    pub(super) ids: IdSource,
    pub(super) rng: fastrand::Rng,
    pub(super) reply_key: ReplyKey,
    /// The message being published.
    pub(super) scratch: Draft,
    pub(super) targets: Targets,
    /// The queues that a message goes to.
    pub(super) routes: Vec<(QueueId, ShardId)>,
    pub(super) timers: BinaryHeap<Due>,
    /// Octets that publishes to several queues of this shard have copied in this turn.
    pub(super) copied: u64,
    /// Commits that go on in the next turn, since they copied so much in this one.
    pub(super) later: Vec<(ConnId, ChannelId)>,
    /// Connections that may be read again.
    pub(super) resumed: Vec<ConnId>,
    /// While anything is short, publishers are not read.
    pub(super) alarms: Alarms,
    /// Too much waits for the disk: nothing more is to enter this shard's queues.
    pub(super) crowded: bool,
    /// A queue of this shard has refused what is being published, and the publisher is told.
    pub(super) refused: bool,
    pub(super) memory_told: usize,
    /// Large messages being received, oldest first: the connection and the octets so far.
    pub(super) receiving: BTreeMap<u64, (ConnId, usize)>,
    pub(super) receiving_octets: usize,
    pub(super) receiving_max: usize,
    pub(super) receiving_own_max: usize,
    pub(super) receiving_next: u64,
    /// Connections may be paused for that.
    pub(super) receiving_waits: bool,
    pub(super) receiving_turn: Option<Turn>,
    /// Octets of memory that open transactions hold.
    pub(super) held: usize,
    pub(super) transaction_max: usize,
    pub(super) stopping: Stopping,
}

impl Shard {
    /// A shard without connections or queues; its topology comes from the coordinator.
    #[must_use]
    pub fn new(config: ShardConfig) -> Self {
        let seed = Seed::new(config.seed);
        Self {
            me: config.id,
            limits: config.limits,
            clients: Clients::new(seed),
            home: Home::new(seed),
            peers: Peers::new(config.shards),
            store: Store::new(config.store),
            troubles: VecDeque::new(),
            paging: Paging::new(config.resident_max, config.store.write_through_min),
            topology: Topology::new(seed),
            settled: 0,
            releases: Releases::new(seed),
            conn_ids: IdSource::new(config.id),
            ids: IdSource::new(config.id),
            rng: if mutant::active(Mutant::OutsideRandomness) {
                fastrand::Rng::new()
            } else {
                // Shards may share a seed, but never a name that they make.
                fastrand::Rng::with_seed(config.seed.rotate_left(16) ^ u64::from(config.id.0))
            },
            reply_key: config.reply_key,
            scratch: Draft::default(),
            targets: Targets::new(),
            routes: Vec::new(),
            timers: BinaryHeap::new(),
            copied: 0,
            later: Vec::new(),
            resumed: Vec::new(),
            alarms: Alarms::default(),
            crowded: false,
            refused: false,
            memory_told: 0,
            receiving: BTreeMap::new(),
            receiving_octets: 0,
            receiving_max: config.receiving_max,
            receiving_own_max: config.receiving_own_max,
            receiving_next: 1,
            receiving_waits: false,
            receiving_turn: None,
            held: 0,
            transaction_max: config.transaction_max,
            stopping: Stopping::default(),
        }
    }

    /// A connection was accepted.
    pub fn opened(&mut self, info: ConnInfo, now: Now) -> ConnId {
        let id: ConnId = self.conn_ids.fresh();
        let conn = Conn::new(info, self.limits, now);
        self.clients.conns.insert(id, Box::new(conn));
        self.arm(id, now);
        id
    }

    /// A chunk was read from the connection's socket. The shard may keep slices of it.
    pub fn receive(&mut self, id: ConnId, chunk: &Bytes, now: Now) {
        let Some(conn) = self.clients.get(id) else {
            return;
        };
        conn.received_us = now.monotonic_us;
        if conn.paused != 0 || !conn.input.is_empty() {
            conn.input.push_back(kept(chunk.clone()));
            return;
        }
        let at = self.run(id, chunk, now);
        if at < chunk.len()
            && let Some(conn) = self.clients.get(id)
        {
            conn.input.push_front(kept(chunk.slice(at..)));
        }
    }

    /// So many octets of the connection's output have left for its socket.
    pub fn written(&mut self, id: ConnId, octets: usize, _now: Now) {
        let Some(conn) = self.clients.get(id) else {
            return;
        };
        conn.wrote(octets);
        self.pay(id);
        self.resume_output(id);
    }

    /// The connection's socket is gone.
    pub fn closed(&mut self, id: ConnId, _now: Now) {
        self.let_go(id);
        self.clients.conns.remove(&id);
    }

    /// What is to go to another endpoint.
    pub fn outbound(&mut self, to: ShardId) -> &mut Batch {
        &mut self.peers.get(to).out
    }

    /// The next connection whose output or gate changed.
    pub fn next_dirty(&mut self) -> Option<ConnId> {
        let id = self.clients.dirty.pop()?;
        if let Some(conn) = self.clients.get(id) {
            conn.dirty = false;
        }
        Some(id)
    }

    /// What is to be written to the connection's socket.
    pub fn outbox(&mut self, id: ConnId) -> Option<&mut Outbox> {
        self.clients.get(id).map(|conn| &mut conn.outbox)
    }

    /// What to do with the connection's socket; an unknown one is to be closed.
    #[must_use]
    pub fn gate(&self, id: ConnId) -> Gate {
        match self.clients.conns.get(&id) {
            None => Gate::Closing,
            Some(conn) if conn.phase == Phase::Leaving => Gate::Closing,
            Some(conn) if conn.paused != 0 || !conn.input.is_empty() => Gate::Paused,
            Some(_) => Gate::Open,
        }
    }

    /// Why the broker closed the connection, if it did.
    #[must_use]
    pub fn why_closed(&self, id: ConnId) -> Option<&str> {
        self.clients.conns.get(&id)?.why.as_deref()
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.clients.conns.len()
    }

    /// What is still held for clients: connections, consumers, unsettled deliveries, questions,
    /// confirms, releases, credit, octets of transactions. 0 when all clients are gone and
    /// everything has arrived.
    #[must_use]
    pub fn leftovers(&self) -> usize {
        let queues = self.home.queues.values().map(|kept| &kept.queue);
        self.clients.conns.len()
            + self.clients.tickets.len()
            + self.peers.waiting()
            + self.releases.len()
            + self.home.links.len()
            + self.home.channels.len()
            + self.receiving.len()
            + self.held
            + queues.map(|queue| queue.consumers().len() + queue.unacked()).sum::<usize>()
    }

    /// Octets of memory that queues, the store, half-received messages and transactions hold.
    #[must_use]
    pub fn pinned(&self) -> usize {
        self.home.pinned + self.store.pinned() + self.receiving_octets + self.held
    }

    /// Works on a queue of this shard. `None`: there is no such queue here.
    #[inline]
    pub(super) fn with_queue<R>(
        &mut self,
        id: QueueId,
        work: impl FnOnce(&mut model::Queue, &mut Door<'_>) -> R,
    ) -> Option<R> {
        let door = (self.me, &mut self.clients, &mut self.peers, &mut self.store);
        self.home.with(id, door, work)
    }

    /// The coordinator's endpoint.
    pub(super) fn coordinator(&self) -> ShardId {
        ShardId(self.peers.shards())
    }
}

/// Input that waits for a while: a short rest must not pin the buffer it was read into.
pub(super) fn kept(rest: Bytes) -> Bytes {
    if rest.len() < REFERENCE_MIN { Bytes::copy_from_slice(&rest) } else { rest }
}
