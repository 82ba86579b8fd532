//! What a seed makes of a run: how large, how hostile, and which operations it favours.

use fastrand::Rng;
use ringtail::store::StoreConfig;

use crate::broker::small_store;

/// What a client may do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Deed {
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

/// Every deed, how often it is favoured in comparison, and whether a run may do without it.
const DEEDS: [(Deed, u32, bool); 25] = [
    (Deed::Publish, 30, false),
    (Deed::Consume, 6, false),
    (Deed::Settle, 20, false),
    (Deed::Get, 8, false),
    (Deed::DeclareQueue, 8, false),
    (Deed::Bind, 8, false),
    (Deed::DeclareServerNamed, 1, true),
    (Deed::Cancel, 3, true),
    (Deed::Unbind, 2, true),
    (Deed::Purge, 3, true),
    (Deed::DeleteQueue, 2, true),
    (Deed::DeclareExchange, 3, true),
    (Deed::DeleteExchange, 1, true),
    (Deed::Confirm, 4, true),
    (Deed::Transact, 8, true),
    (Deed::Qos, 4, true),
    (Deed::Limit, 4, true),
    (Deed::Recover, 2, true),
    (Deed::CloseChannel, 2, true),
    (Deed::Offend, 1, true),
    (Deed::OffendConnection, 1, true),
    (Deed::CloseConnection, 1, true),
    (Deed::Vanish, 1, true),
    (Deed::GoDeaf, 1, true),
    (Deed::Probe, 4, true),
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
    /// Octets a socket takes before its reader reads.
    pub socket: usize,
    /// The virtual time goes on for several heartbeats in the end.
    pub idle: bool,
    /// Seconds of the clients' heartbeats.
    pub heartbeat: u16,
    /// A burst of publishes while the rings stand still.
    pub flood: bool,
    /// The memory the broker may pin.
    pub memory_limit: u64,
    /// Octets that the queues of a shard keep in memory.
    pub resident_max: usize,
    /// Octets of large messages that may be half received.
    pub receiving_max: usize,
    /// Sizes of the files of messages.
    pub store: StoreConfig,
    /// Races that are rare by chance are made on purpose.
    pub duel: bool,
    /// The two consumers of one queue are compared.
    pub fairness: bool,
    /// Limits that channels share, and priorities, are tried on purpose.
    pub limits: bool,
    weights: Vec<(Deed, u32)>,
    total: u32,
}

impl Plan {
    /// The plan of a seed.
    pub fn new(rng: &mut Rng) -> Self {
        let weights: Vec<(Deed, u32)> = DEEDS
            .iter()
            .map(|&(deed, weight, optional)| match rng.u8(..4) {
                0 if optional => (deed, 0),
                1 => (deed, weight * 3),
                _ => (deed, weight),
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
            total: weights.iter().map(|(_, weight)| weight).sum(),
            weights,
        }
    }

    /// A deed, by weight.
    pub fn deed(&self, rng: &mut Rng) -> Deed {
        let mut left = rng.u32(..self.total);
        for (deed, weight) in &self.weights {
            if left < *weight {
                return *deed;
            }
            left -= weight;
        }
        Deed::Publish
    }
}

/// One of the items.
pub fn one_of<'a, T>(rng: &mut Rng, items: &'a [T]) -> &'a T {
    &items[rng.usize(..items.len())]
}
