//! What a seed makes of a run: how large, how hostile, and which operations it favours.

use fastrand::Rng;
use ringtail::store::StoreConfig;

use crate::broker::small_store;

/// What a client may do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Action {
    Publish,
    Consume,
    Settle,
    Get,
    DeclareQueue,
    DeclareServerNamed,
    Bind,
    Cancel,
    Unbind,
    Purge,
    DeleteQueue,
    DeclareExchange,
    DeleteExchange,
    Confirm,
    Transact,
    Qos,
    Limit,
    Recover,
    CloseChannel,
    Offend,
    OffendConnection,
    CloseConnection,
    Vanish,
    GoDeaf,
    Probe,
}

/// Every action, its weight, and whether a run may leave it out.
const ACTIONS: [(Action, u32, bool); 25] = [
    (Action::Publish, 30, false),
    (Action::Consume, 6, false),
    (Action::Settle, 20, false),
    (Action::Get, 8, false),
    (Action::DeclareQueue, 8, false),
    (Action::Bind, 8, false),
    (Action::DeclareServerNamed, 1, true),
    (Action::Cancel, 3, true),
    (Action::Unbind, 2, true),
    (Action::Purge, 3, true),
    (Action::DeleteQueue, 2, true),
    (Action::DeclareExchange, 6, true),
    (Action::DeleteExchange, 1, true),
    (Action::Confirm, 4, true),
    (Action::Transact, 8, true),
    (Action::Qos, 4, true),
    (Action::Limit, 4, true),
    (Action::Recover, 2, true),
    (Action::CloseChannel, 2, true),
    (Action::Offend, 1, true),
    (Action::OffendConnection, 1, true),
    (Action::CloseConnection, 1, true),
    (Action::Vanish, 1, true),
    (Action::GoDeaf, 1, true),
    (Action::Probe, 4, true),
];

/// The choices of one run.
#[derive(Debug)]
pub struct Plan {
    /// Shards, 1 to 4.
    pub shards: u16,
    /// No queue lives where it was declared.
    pub cross: bool,
    /// Clients at a time.
    pub clients: usize,
    /// Channels of each.
    pub channels: usize,
    /// Steps in which a client does something.
    pub steps: usize,
    /// Batches a ring takes.
    pub ring: usize,
    /// One in so many turns stalls a ring; 0: never.
    pub stall: usize,
    /// Percent of clients that send before their replies came.
    pub pipelining: usize,
    /// Sizes of bodies, as a bound in the list of them.
    pub sizes: usize,
    /// Bytes a socket takes before its reader reads.
    pub socket: usize,
    /// The virtual time goes on for several heartbeats in the end.
    pub idle: bool,
    /// Seconds of the clients' heartbeats.
    pub heartbeat: u16,
    /// A burst of publishes while the rings stand still.
    pub flood: bool,
    /// The memory the broker may pin.
    pub memory_limit: u64,
    /// Bytes that the queues of a shard keep in memory.
    pub resident_max: usize,
    /// Bytes of partial messages.
    pub receiving_max: usize,
    /// Sizes of the files of messages.
    pub store: StoreConfig,
    /// Rare races are provoked.
    pub duel: bool,
    /// The two consumers of one queue are compared.
    pub fairness: bool,
    /// Limits that channels share, and priorities, are used often.
    pub limits: bool,
    /// Queues with limits and messages that expire are compared with lists.
    pub lifetimes: bool,
    /// The active consumer of a queue is followed by others.
    pub single: bool,
    /// A delivery is not settled in time.
    pub late: bool,
    /// Somebody asks from outside.
    pub inspects: bool,
    /// Clients publish messages that expire. None of them gets into a queue with dead letters,
    /// where nobody would have rejected it.
    pub expirations: bool,
    weights: Vec<(Action, u32)>,
    total: u32,
}

impl Plan {
    /// The plan of a seed.
    pub fn new(rng: &mut Rng) -> Self {
        let weights: Vec<(Action, u32)> = ACTIONS
            .iter()
            .map(|&(action, weight, optional)| match rng.u8(..4) {
                0 if optional => (action, 0),
                1 => (action, weight * 3),
                _ => (action, weight),
            })
            .collect();
        Self {
            shards: rng.u16(1..=4),
            cross: rng.bool(),
            clients: rng.usize(2..=4),
            channels: rng.usize(1..=3),
            steps: rng.usize(60..240),
            ring: rng.usize(1..6),
            stall: *one_of(rng, &[0, 0, 6, 15]),
            pipelining: *one_of(rng, &[0, 30, 90]),
            sizes: *one_of(rng, &[3, 6, 6, 7, 8]),
            socket: *one_of(rng, &[20_000, 100_000, 1_000_000]),
            idle: rng.u8(..4) == 0,
            heartbeat: *one_of(rng, &[0, 2, 5]),
            flood: rng.u8(..8) == 0,
            memory_limit: u64::MAX,
            resident_max: *one_of(rng, &[0, 5000, 50_000, usize::MAX]),
            receiving_max: *one_of(rng, &[100_000, usize::MAX]),
            store: small_store(rng),
            duel: rng.u8(..3) == 0,
            fairness: rng.u8(..4) == 0,
            limits: rng.u8(..4) == 0,
            lifetimes: rng.u8(..3) == 0,
            single: rng.u8(..4) == 0,
            late: rng.u8(..4) == 0,
            inspects: rng.u8(..4) != 0,
            expirations: rng.bool(),
            total: weights.iter().map(|(_, weight)| weight).sum(),
            weights,
        }
    }

    /// A action, by weight.
    pub fn action(&self, rng: &mut Rng) -> Action {
        let mut left = rng.u32(..self.total);
        for (action, weight) in &self.weights {
            if left < *weight {
                return *action;
            }
            left -= weight;
        }
        Action::Publish
    }
}

/// One of the items.
pub fn one_of<'a, T>(rng: &mut Rng, items: &'a [T]) -> &'a T {
    &items[rng.usize(..items.len())]
}
