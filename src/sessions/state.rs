//! The sessions of a shard: what they are made of, and how the shard drives them.

use std::collections::VecDeque;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use model::mutant::{self, Mutant};
use model::session::{Limits, Transaction};
use model::topology::Change;
use model::{
    BodyCounts, BodyGauge, Chance, ConnId, Draft, Entropy, ExchangeStates, Generator, IdSource,
    Map, Name, Now, Outbox, ShardId, Targets, Topology, Vhost,
};

use crate::mesh::control::Alarms;
use crate::sessions::amqp::reply_key::ReplyKey;
use crate::sessions::broker::{BrokerAccess, QueueAt};
use crate::sessions::connection::{ConnInfo, Connection, pause};
use crate::sessions::connections::{Connections, Publisher, Unfinished};
use crate::sessions::inspect::exchange_counts::ExchangeCounts;
use crate::sessions::kind::SessionKind;
use crate::sessions::life::{Phase, Releases, Timers};
use crate::sessions::output::OUTPUT_MARK;
use crate::sessions::partial_messages::PartialMessages;
use crate::sessions::routing::pending::PendingPublish;

/// What the sessions of a shard are started with.
#[derive(Debug, Clone)]
pub(crate) struct SessionsConfig {
    pub shard: ShardId,
    /// How many there are.
    pub shards: u16,
    pub entropy: Entropy,
    pub reply_key: ReplyKey,
    pub limits: Limits,
    /// Bytes of large messages being received at once, and those of one connection beyond that.
    pub partial_max: usize,
    pub partial_own_max: usize,
    /// Bytes of memory that one transaction may hold.
    pub transaction_max: usize,
}

/// The sessions of a shard.
#[derive(Debug)]
pub(crate) struct Sessions {
    pub(super) connections: Connections,
    /// This shard's copy.
    pub(super) topology: Topology,
    /// Every shard has applied the topology up to this version.
    pub(super) settled: u64,
    /// While anything is short, publishers are not read.
    pub(super) alarms: Alarms,
    pub(super) limits: Limits,
    pub(super) releases: Releases,
    pub(super) timers: Timers,
    pub(super) partial: PartialMessages,
    /// Bytes of memory that open transactions hold.
    pub(super) held: usize,
    pub(super) transaction_max: usize,
    /// Counts the bodies that are published here.
    pub(super) bodies: BodyGauge,
    /// The broker goes down: nothing is waited for that can be left out.
    pub(super) stopping: bool,
    /// Publishes that go on in another turn.
    pub(super) publishes: Map<ConnId, PendingPublish>,
    /// Transactions that are over. What one has committed is published, in whose name it says; the
    /// others are dropped.
    pub(super) ending: VecDeque<(Transaction, Option<Publisher>)>,
    /// How many turns there were.
    pub(super) turns: u64,
    conn_ids: IdSource,
    pub(super) ids: IdSource,
    names: Generator,
    pub(super) me: ShardId,
    pub(super) shards: u16,
    /// What the stateful exchanges of this shard remember.
    pub(super) states: ExchangeStates,
    /// What exchanges depend on that choose by chance.
    pub(super) chance: Chance,
    pub(super) reply_key: ReplyKey,
    /// The message being published.
    pub(super) scratch: Draft,
    pub(super) targets: Targets,
    /// The queues that a message goes to.
    pub(super) routes: Vec<QueueAt>,
    pub(super) exchange_counts: ExchangeCounts,
    /// Connections that were accepted since the start.
    pub(super) opened: u64,
}

impl Sessions {
    /// No connections; the topology comes from the coordinator.
    pub fn new(config: SessionsConfig) -> Self {
        let seed = config.entropy.id_seed();
        let mut names = names(&config);
        Self {
            connections: Connections::new(seed),
            topology: Topology::new(config.entropy.map_seed()),
            settled: 0,
            alarms: Alarms::default(),
            limits: config.limits,
            releases: Releases::new(seed),
            timers: Timers::default(),
            partial: PartialMessages::new(config.partial_max, config.partial_own_max),
            held: 0,
            transaction_max: config.transaction_max,
            bodies: BodyCounts::new(config.shard.0 + 1).gauge(config.shard),
            stopping: false,
            publishes: Map::with_hasher(seed),
            ending: VecDeque::new(),
            turns: 0,
            conn_ids: IdSource::new(config.shard),
            ids: IdSource::new(config.shard),
            me: config.shard,
            shards: config.shards,
            states: ExchangeStates::default(),
            chance: Chance::new(&mut names),
            names,
            reply_key: config.reply_key,
            scratch: Draft::default(),
            targets: Targets::new(),
            routes: Vec::new(),
            exchange_counts: ExchangeCounts::default(),
            opened: 0,
        }
    }

    /// Bodies are counted there.
    pub fn count_bodies(&mut self, gauge: BodyGauge) {
        self.bodies = gauge;
    }

    /// A connection was accepted.
    pub fn opened(&mut self, info: ConnInfo, now: Now) -> ConnId {
        let id: ConnId = self.conn_ids.fresh();
        self.connections.add(id, Connection::new(info, now));
        self.opened += 1;
        self.arm(id, now);
        id
    }

    /// A chunk was read from the connection's socket.
    pub fn receive(&mut self, id: ConnId, chunk: &Bytes, broker: &mut impl BrokerAccess) {
        let Some(conn) = self.connections.get(id) else { return };
        conn.life.received_us = broker.now().monotonic_us;
        conn.received_bytes += chunk.len() as u64;
        if conn.paused != 0 || !conn.input.is_empty() {
            conn.keep_back(chunk.clone());
            return;
        }
        self.run_or_keep(id, chunk, broker);
    }

    /// Takes what a chunk holds; what is left waits until the connection is read again.
    fn run_or_keep(&mut self, id: ConnId, chunk: &Bytes, broker: &mut impl BrokerAccess) {
        let at = self.run(id, chunk, broker);
        if at < chunk.len()
            && let Some(conn) = self.connections.get(id)
        {
            conn.keep_front(chunk.slice(at..));
        }
    }

    /// Takes what a chunk holds until a pause; says how far it came.
    #[inline]
    fn run(&mut self, id: ConnId, chunk: &Bytes, broker: &mut impl BrokerAccess) -> usize {
        let Some(conn) = self.connections.get(id) else { return chunk.len() };
        if let (SessionKind::Undecided, Some(first)) = (&conn.kind, chunk.first()) {
            conn.kind = SessionKind::choose(*first, &self.limits);
        }
        match &conn.kind {
            SessionKind::Undecided => 0,
            SessionKind::Amqp(_) => self.run_amqp(id, chunk, broker),
            #[cfg(feature = "second-kinds")]
            SessionKind::Line(_) => self.run_line(id, chunk, broker),
        }
    }

    /// So many bytes of the connection's output have left for its socket.
    pub fn written(&mut self, id: ConnId, bytes: usize, broker: &mut impl BrokerAccess) {
        self.connections.wrote(id, bytes);
        while let Some(due) = self.connections.get(id).and_then(|conn| conn.output.credit_due()) {
            broker.return_credit(&mut self.connections, due.home, id, due.bytes);
        }
        self.resume_output(id);
    }

    /// Reads a connection on when its output has shrunk.
    fn resume_output(&mut self, id: ConnId) {
        let Some(conn) = self.connections.get(id) else { return };
        if conn.output.unsent() > OUTPUT_MARK / 2 {
            return;
        }
        let commits = conn.output.take_commits().into_iter();
        self.connections.commit_on(commits.map(|channel| (id, channel)));
        self.connections.unpause(id, pause::OUTPUT);
    }

    /// The connection's socket is gone.
    pub fn closed(&mut self, id: ConnId, broker: &mut impl BrokerAccess) {
        self.let_go(id, broker);
        let Some(conn) = self.connections.get(id) else { return };
        if conn.life.to_release.is_empty() {
            self.connections.remove(id);
        } else {
            (conn.life.phase, conn.life.gone) = (Phase::Leaving, true);
            conn.input.clear();
        }
    }

    /// Goes on with what is more than the work of one turn.
    fn go_on_with_unfinished(&mut self, broker: &mut impl BrokerAccess) {
        while !broker.work().is_spent()
            && let Some(unfinished) = self.connections.next_unfinished()
        {
            match unfinished {
                Unfinished::Settles(at) => self.go_on_with_settles(at, broker),
                Unfinished::Release(id) => self.go_on_releasing(id, broker),
                Unfinished::Publish(id) => self.go_on_publishing(id, broker),
                Unfinished::Read(id) => self.connections.end_work(id),
                Unfinished::Transactions => self.go_on_ending(broker),
            }
        }
    }

    /// Goes on with connections whose pauses have ended, and with channels whose barriers were
    /// lifted.
    pub fn go_on(&mut self, broker: &mut impl BrokerAccess) {
        self.go_on_with_unfinished(broker);
        loop {
            let going_on = self.connections.take_going_on();
            if going_on.is_empty() {
                return;
            }
            for unfit in going_on.unfit {
                self.close_unfit(unfit, broker);
            }
            for overdue in going_on.overdue {
                self.close_overdue(overdue, broker);
            }
            for id in going_on.stuck {
                self.end_stuck(id, broker);
            }
            for (id, number) in going_on.lifted {
                self.replay(id, number, broker);
            }
            for id in going_on.resumed {
                self.resume(id, broker);
            }
        }
    }

    /// Takes the input that waited.
    fn resume(&mut self, id: ConnId, broker: &mut impl BrokerAccess) {
        let Some(conn) = self.connections.get(id) else { return };
        // It was not read: what it did not send meanwhile is not held against it.
        conn.life.received_us = broker.now().monotonic_us;
        for number in conn.channels.numbers() {
            self.replay(id, number, broker);
        }
        while let Some(conn) = self.connections.get(id).filter(|conn| conn.paused == 0)
            && let Some(chunk) = conn.input.pop_front()
        {
            self.run_or_keep(id, &chunk, broker);
        }
        self.connections.touch(id);
    }

    /// Ends a turn: clients are told what was confirmed in it. The queues hold so many bytes.
    pub fn end_turn(&mut self, now: Now, queues: usize) {
        self.connections.tell_confirms();
        self.connections.mark_sent(now.monotonic_us);
        let others = queues + self.overhead();
        // What transactions hold never becomes less if they are not read.
        let short = self.alarms.memory && self.held == 0;
        self.partial.memory_is_short(short, others, &mut self.connections);
        self.partial.watch(now);
        self.turns += 1;
    }

    /// All connections, as what leaves the queues needs them.
    #[inline(always)]
    pub fn connections(&mut self) -> &mut Connections {
        &mut self.connections
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.connections.conns.len()
    }

    /// True if there is something to do in another turn although nothing happens until then.
    pub fn unfinished(&self) -> bool {
        self.connections.unfinished()
    }

    /// True if what a connection has committed is still being published, though it may be gone.
    pub fn publishes(&self) -> bool {
        !self.ending.is_empty()
    }

    /// What is to be written to the connection's socket.
    pub fn outbox(&mut self, id: ConnId) -> Option<&mut Outbox> {
        self.connections.get(id).map(|conn| &mut conn.output.outbox)
    }

    /// How far the connection is, and whether it may be read. `None`: it is unknown.
    pub fn gate(&self, id: ConnId) -> Option<(Phase, bool)> {
        let conn = self.connections.conns.get(&id)?;
        Some((conn.life.phase, conn.paused == 0 && conn.input.is_empty()))
    }

    /// True if the handshake of the connection is over.
    pub fn running(&self, id: ConnId) -> bool {
        self.connections.conns.get(&id).is_some_and(|conn| conn.running)
    }

    /// Why the broker closed the connection, if it did.
    pub fn why_closed(&self, id: ConnId) -> Option<&str> {
        self.connections.conns.get(&id)?.life.why.as_deref()
    }

    /// What is still held for clients: connections, requests, releases, partial messages,
    /// bytes of transactions.
    pub fn leftovers(&self) -> usize {
        self.len()
            + self.connections.pending()
            + self.releases.len()
            + self.partial.len()
            + self.held
    }

    /// Bytes of memory that partial messages, transactions and stateful exchanges hold.
    pub fn pinned(&self) -> usize {
        let held = if mutant::active(Mutant::TransactionsUncounted) { 0 } else { self.held };
        self.partial.pinned() + held + self.states.pinned()
    }

    /// Bytes of memory that connections, with what waits for them, and the topology hold.
    pub fn overhead(&self) -> usize {
        let declared =
            if mutant::active(Mutant::ArgumentsUncounted) { 0 } else { self.topology.bytes() };
        self.connections.pinned() + declared
    }

    /// Applies a change of the topology.
    pub fn apply(&mut self, version: u64, change: &Change, broker: &mut impl BrokerAccess) {
        self.forget_states(change);
        self.topology.apply(version, change);
        self.exchange_counts.apply(change);
        self.change_access(change, broker);
    }

    /// Every shard has applied the topology up to this version.
    pub fn settle_topology(&mut self, version: u64) {
        self.settled = version;
    }

    /// Something is short in the broker, or no more.
    pub fn set_alarms(&mut self, alarms: Alarms) {
        self.alarms = alarms;
        if alarms.any() {
            // Who was told of one before is not told of another, as in RabbitMQ.
            return;
        }
        for id in self.connections.ids() {
            self.connections.unpause(id, pause::ALARM);
            if self.connections.get(id).is_some_and(Connection::tell_unblocked) {
                self.connections.touch(id);
            }
        }
    }

    /// Stops reading a publisher because something is short, and tells it once.
    pub(super) fn block(&mut self, id: ConnId) {
        let reason = self.alarms.reason();
        let Some(conn) = self.connections.get(id) else { return };
        conn.paused |= pause::ALARM;
        conn.tell_blocked(reason);
        self.connections.touch(id);
    }

    /// The vhost of a connection that is open.
    pub(super) fn vhost(&self, id: ConnId) -> Option<(&Name, &Vhost)> {
        let name = &self.connections.conns.get(&id)?.vhost;
        Some((name, self.topology.vhost(name)?))
    }

    pub(super) fn vhost_name(&self, id: ConnId) -> Name {
        self.connections.conns.get(&id).map(|conn| conn.vhost.clone()).unwrap_or_default()
    }

    /// A name only this server gives out: 16 random bytes behind a prefix, as RabbitMQ forms them.
    pub(super) fn fresh_name(&mut self, prefix: &str) -> Name {
        let bytes = self.names.bytes::<16>();
        format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes)).into()
    }
}

/// The generator of names. Shards may share the entropy, but never a name that they make.
fn names(config: &SessionsConfig) -> Generator {
    if mutant::active(Mutant::OutsideRandomness) {
        return Entropy::from_seed(fastrand::u64(..)).generator(config.shard);
    }
    config.entropy.generator(config.shard)
}

#[cfg(test)]
mod tests {
    use crate::sessions::state::*;

    fn sessions(shard: u16) -> Sessions {
        Sessions::new(SessionsConfig {
            shard: ShardId(shard),
            shards: 2,
            entropy: Entropy::from_seed(7),
            reply_key: ReplyKey::new([7; 32]),
            limits: Limits::default(),
            partial_max: 1,
            partial_own_max: 1,
            transaction_max: 1,
        })
    }

    #[test]
    fn shards_of_one_seed_make_different_names() {
        let (mut one, mut other) = (sessions(0), sessions(1));
        let names = [one.fresh_name("amq.gen-"), one.fresh_name("amq.gen-")];
        assert_ne!(names[0], names[1]);
        assert!(!names.contains(&other.fresh_name("amq.gen-")));
        assert_eq!(names[0].len(), "amq.gen-".len() + 22);
    }
}
