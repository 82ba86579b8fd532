//! The shard: what it is made of and how the shell drives it.

use bytes::Bytes;
use model::session::Limits;
use model::work::TURN_WORK;
use model::{BodyCounts, ConnId, Entropy, Name, Now, Outbox, QueueSpec, ShardId};

use super::broker::ShardBroker;
use super::intake::Intake;
use super::letters::{DeadLetters, Relays};
use super::pending::ShardAnswers;
use super::queue_output::RoutedOutput;
use super::stopping::Stopping;
use crate::mesh::batch::Batch;
use crate::mesh::control::Control;
use crate::mesh::peers::Peers;
use crate::queues::{Queues, StorageError};
use crate::sessions::{ConnInfo, Phase, ReplyKey, Sessions, SessionsConfig};
use crate::store::{Done, Op, RecoveredQueue, StoreConfig};

/// What a shard is started with.
#[derive(Debug, Clone)]
pub struct ShardConfig {
    /// Its number.
    pub id: ShardId,
    /// How many shards there are.
    pub shards: u16,
    /// Randomness: names the server makes, seeds of hash maps. Shards may share it.
    pub entropy: Entropy,
    /// The secret behind the names of direct reply-to consumers, the same on every shard.
    pub reply_key: ReplyKey,
    /// What clients are offered.
    pub limits: Limits,
    /// Bytes of memory that all queues together may hold; the store gets what is beyond it.
    pub resident_max: usize,
    /// Bytes of memory that they may hold when nothing of it can be left to the store: beyond it,
    /// consumers get nothing more before they have acknowledged. Not below `resident_max`.
    pub unsettled_max: usize,
    /// How long clients may take to settle a delivery, in milliseconds, unless a queue or a
    /// consumer says otherwise. `None`: for ever.
    pub consumer_timeout_ms: Option<u64>,
    /// Bytes of large messages being received at once; beyond it only the oldest goes on.
    pub receiving_max: usize,
    /// Beyond that, bytes of them that one connection may hold: what goes beyond it is refused,
    /// unless it is a single message.
    pub receiving_own_max: usize,
    /// Bytes of large messages that queues may have on the way to connections beyond their credit.
    pub large_max: usize,
    /// Bytes of memory that one transaction may hold; a single publish may always be held.
    pub transaction_max: usize,
    /// Units of work in one turn; see [`model::WorkBudget`].
    pub turn_work: u32,
    /// What its store is started with.
    pub store: StoreConfig,
}

impl ShardConfig {
    /// The defaults for one of `shards` shards.
    #[must_use]
    pub fn new(id: ShardId, shards: u16, entropy: Entropy) -> Self {
        Self {
            id,
            shards,
            entropy,
            reply_key: ReplyKey::new(entropy.reply_key()),
            limits: Limits::default(),
            resident_max: usize::MAX,
            unsettled_max: usize::MAX,
            consumer_timeout_ms: None,
            receiving_max: 256 * 1024 * 1024,
            receiving_own_max: 256 * 1024 * 1024,
            large_max: 256 * 1024 * 1024,
            transaction_max: 256 * 1024 * 1024,
            turn_work: TURN_WORK,
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
    pub(super) sessions: Sessions,
    pub(super) queues: Queues,
    pub(super) peers: Peers,
    pub(super) intake: Intake,
    pub(super) letters: DeadLetters,
    pub(super) relays: Relays,
    pub(super) memory_told: usize,
    pub(super) stopping: Stopping,
    /// Units of work that the last turn did.
    pub(super) work_done: u64,
    pub(super) outside: ShardAnswers,
}

impl Shard {
    /// A shard without connections or queues; its topology comes from the coordinator.
    #[must_use]
    pub fn new(config: ShardConfig) -> Self {
        let seed = config.entropy.id_seed();
        let budgets = (config.resident_max, config.unsettled_max, config.large_max);
        let mut queues = Queues::new(seed, budgets, config.turn_work, config.store);
        queues.set_consumer_timeout(config.consumer_timeout_ms);
        let mut shard = Self {
            me: config.id,
            sessions: Sessions::new(SessionsConfig {
                shard: config.id,
                shards: config.shards,
                entropy: config.entropy,
                reply_key: config.reply_key,
                limits: config.limits,
                partial_max: config.receiving_max,
                partial_own_max: config.receiving_own_max,
                transaction_max: config.transaction_max,
            }),
            queues,
            peers: Peers::new(config.shards),
            intake: Intake::default(),
            letters: DeadLetters::new(config.shards),
            relays: Relays::default(),
            memory_told: 0,
            stopping: Stopping::default(),
            work_done: 0,
            outside: ShardAnswers::default(),
        };
        // Until it is told where the others count.
        shard.count_bodies(&BodyCounts::new(config.shards));
        shard
    }

    /// Bodies that this shard holds are counted there, together with those of the others.
    pub fn count_bodies(&mut self, counts: &BodyCounts) {
        self.sessions.count_bodies(counts.gauge(self.me));
        self.queues.count_bodies(counts.gauge(self.me));
    }

    /// A connection was accepted.
    pub fn opened(&mut self, info: ConnInfo, now: Now) -> ConnId {
        self.sessions.opened(info, now)
    }

    /// A chunk was read from the connection's socket. The shard may keep slices of it.
    pub fn receive(&mut self, id: ConnId, chunk: &Bytes, now: Now) {
        self.queues.set_time(now);
        let (sessions, mut broker) = self.parts(now);
        sessions.receive(id, chunk, &mut broker);
    }

    /// So many bytes of the connection's output have left for its socket.
    pub fn written(&mut self, id: ConnId, bytes: usize, now: Now) {
        self.queues.set_time(now);
        let (sessions, mut broker) = self.parts(now);
        sessions.written(id, bytes, &mut broker);
    }

    /// The connection's socket is gone.
    pub fn closed(&mut self, id: ConnId, now: Now) {
        self.queues.set_time(now);
        let (sessions, mut broker) = self.parts(now);
        sessions.closed(id, &mut broker);
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Now) {
        self.queues.set_time(now);
        let (sessions, mut broker) = self.parts(now);
        sessions.tick(&mut broker);
        let (queues, mut output) = self.home();
        queues.tick(&mut output);
    }

    /// When [`Shard::tick`] is to be called next, in microseconds of the monotonic clock.
    #[must_use]
    pub fn next_deadline_us(&self) -> Option<u64> {
        let deadlines = [self.sessions.next_deadline_us(), self.queues.next_deadline_us()];
        deadlines.into_iter().flatten().min()
    }

    /// What is to go to another endpoint.
    pub fn outbound(&mut self, to: ShardId) -> &mut Batch {
        &mut self.peers.get(to).out
    }

    /// The next connection whose output or gate changed.
    pub fn next_dirty(&mut self) -> Option<ConnId> {
        self.sessions.connections().next_dirty()
    }

    /// What is to be written to the connection's socket.
    pub fn outbox(&mut self, id: ConnId) -> Option<&mut Outbox> {
        self.sessions.outbox(id)
    }

    /// What to do with the connection's socket; an unknown one is to be closed.
    #[must_use]
    pub fn gate(&self, id: ConnId) -> Gate {
        match self.sessions.gate(id) {
            None | Some((Phase::Leaving, _)) => Gate::Closing,
            Some((_, true)) => Gate::Open,
            Some((_, false)) => Gate::Paused,
        }
    }

    /// True if the client has logged in and opened its vhost.
    #[must_use]
    pub fn logged_in(&self, id: ConnId) -> bool {
        self.sessions.running(id)
    }

    /// Why the broker closed the connection, if it did.
    #[must_use]
    pub fn why_closed(&self, id: ConnId) -> Option<&str> {
        self.sessions.why_closed(id)
    }

    /// True if the connection was closed in order and only its socket is left: the end of that is
    /// no failure. A broker that stops leaves closed connections at once.
    #[must_use]
    pub fn closed_in_order(&self, id: ConnId) -> bool {
        let phase = self.sessions.gate(id).map(|(phase, _)| phase);
        matches!(phase, Some(Phase::Closed | Phase::Leaving))
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.sessions.len()
    }

    /// What is still held for clients: connections, consumers, unsettled deliveries, requests,
    /// confirms, dead letters, releases, credit, bytes of transactions, commands. 0 when all
    /// clients are gone and everything has arrived.
    #[must_use]
    pub fn leftovers(&self) -> usize {
        let clients = self.sessions.leftovers() + self.queues.leftovers() + self.peers.waiting();
        let letters = self.letters.waiting() + self.relays.len() + self.peers.relayed();
        clients + letters + self.outside.pending()
    }

    /// Units of work that the last turn did, and the most that it may do; see
    /// [`model::WorkBudget`].
    #[must_use]
    pub fn work_done(&self) -> (u64, u64) {
        (self.work_done, self.queues.work_bound())
    }

    /// Whether consumers that acknowledge wait, since what they hold takes too much memory.
    #[must_use]
    pub fn holds_consumers_back(&self) -> bool {
        self.queues.holds_consumers_back()
    }

    /// Bytes of memory that queues, the store, partial messages and transactions hold.
    #[must_use]
    pub fn pinned(&self) -> usize {
        self.queues.pinned() + self.sessions.pinned() + self.relays.pinned()
    }

    /// Bytes of memory that count for the alarm: what [`Self::pinned`] says, connections with what
    /// waits for them, and the topology.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.pinned() + self.sessions.overhead()
    }

    /// Creates a queue that recovery has found messages of, or that is only declared. It comes
    /// before anything else that the shard does.
    pub fn restore(&mut self, vhost: Name, spec: QueueSpec, found: RecoveredQueue) {
        let (queues, mut output) = self.home();
        queues.restore(vhost, spec, found, &mut output);
    }

    /// The next operation on files. [`Shard::done`] takes the answer.
    pub fn next_op(&mut self) -> Option<Op> {
        self.queues.next_op()
    }

    /// An operation was carried out, or failed.
    pub fn done(&mut self, done: Done, now: Now) {
        self.queues.set_time(now);
        self.queues.done(done, now);
        loop {
            let (queues, mut output) = self.home();
            let Some(gets) = queues.next_refused(&mut output) else { return };
            for (ticket, answer) in gets {
                self.answer(ticket, answer, now);
            }
        }
    }

    /// What somebody has to be told, or the shell to do, since operations were carried out.
    pub fn storage_error(&mut self) -> Option<StorageError> {
        self.queues.next_error()
    }

    /// Closes every connection because the broker goes down. When those of all shards are gone and
    /// [`Shard::store_idle`], nothing is left to be done.
    pub fn shutdown(&mut self, now: Now) {
        self.queues.set_time(now);
        self.stopping.ask();
        let (sessions, mut broker) = self.parts(now);
        sessions.shutdown(&mut broker);
    }

    /// True if nothing waits for the disk. When the broker goes down, nothing ever will then: the
    /// clients of all shards are gone.
    #[must_use]
    pub fn store_idle(&self) -> bool {
        self.queues.is_idle() && self.stopping.is_settled()
    }

    /// When the next queue is to be ticked, in microseconds of the monotonic clock;
    /// [`Shard::tick`] does it.
    #[must_use]
    pub fn next_queue_deadline_us(&self) -> Option<u64> {
        self.queues.next_queue_deadline_us()
    }

    /// The sessions, and the rest of the broker as they see it.
    #[inline(always)]
    pub(super) fn parts(&mut self, now: Now) -> (&mut Sessions, ShardBroker<'_>) {
        let Self { me, sessions, queues, peers, intake, letters, relays, .. } = self;
        (sessions, ShardBroker { me: *me, queues, peers, intake, letters, relays, now })
    }

    /// The queues of this shard, and where what leaves them goes.
    #[inline(always)]
    pub(super) fn home(&mut self) -> (&mut Queues, RoutedOutput<'_>) {
        let Self { me, sessions, queues, peers, .. } = self;
        (queues, RoutedOutput { me: *me, connections: sessions.connections(), peers })
    }

    /// Tells another endpoint.
    pub(super) fn tell(&mut self, to: ShardId, control: Control) {
        self.peers.get(to).out.control(control);
    }
}
