//! What the stateful exchanges remember that have their home on a shard, and how a route gets at
//! it.

use std::collections::BTreeMap;

use amqp::Basic;

use crate::exchange::Exchange;
use crate::exchange::one_of::StableHash;
use crate::hash::SecretSeed;
use crate::ids::ShardId;
use crate::message::Message;

use super::history::KeptMessages;
use super::owned::OwnedMessage;
use super::seen::{SeenLimits, SeenValues};

/// The shard, of so many, where the stateful exchanges of a vhost are.
#[must_use]
pub fn home_of_states(vhost: &str, shards: u16) -> ShardId {
    let mut hash = StableHash::default();
    hash.bytes(vhost.as_bytes());
    // It is below the number of shards.
    ShardId((hash.finish() % u64::from(shards.max(1))) as u16)
}

/// What the stateful exchanges of a shard remember. It is in memory only: a restart forgets it.
#[derive(Debug, Default)]
pub struct ExchangeStates {
    /// By the version that created the exchange: of one that is declared again it is another.
    histories: BTreeMap<u64, KeptMessages>,
    seen: BTreeMap<u64, SeenValues>,
    pinned: usize,
}

impl ExchangeStates {
    /// Bytes of memory that it holds.
    #[must_use]
    pub fn pinned(&self) -> usize {
        self.pinned
    }

    /// Remembers a message that came to the exchange.
    pub fn remember(&mut self, exchange: &Exchange, message: Message<'_>) {
        let Some(length) = exchange.history_length() else { return };
        let history = self.histories.entry(exchange.version).or_default();
        let before = history.pinned();
        history.push(message, length);
        self.pinned = self.pinned + history.pinned() - before;
    }

    /// What the exchange keeps, from the oldest message on.
    pub fn stored(&self, exchange: &Exchange) -> impl Iterator<Item = &OwnedMessage> {
        self.histories.get(&exchange.version).into_iter().flat_map(KeptMessages::iter)
    }

    /// The exchange is gone.
    pub fn forget(&mut self, exchange: &Exchange) {
        let history = self.histories.remove(&exchange.version);
        let seen = self.seen.remove(&exchange.version);
        self.pinned -= history.map_or(0, |history| history.pinned());
        self.pinned -= seen.map_or(0, |seen| seen.pinned());
    }

    /// True if the exchange created by this version has not seen the message's value.
    fn admit(
        &mut self,
        (version, limits, seed): (u64, SeenLimits, SecretSeed),
        message: &Basic<'_>,
        now_us: u64,
    ) -> bool {
        let seen = self.seen.entry(version).or_insert_with(|| SeenValues::new(seed));
        let before = seen.pinned();
        let is_new = seen.admit(message, limits, now_us);
        self.pinned = self.pinned + seen.pinned() - before;
        is_new
    }
}

/// Whether a route came to a stateful exchange.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::exchange) enum StateMet {
    #[default]
    Nothing,
    /// To one that is here: the message must not be routed once more.
    Here,
    /// To one that is not here: the route does not count.
    Elsewhere,
}

/// How a route gets at what stateful exchanges remember.
#[derive(Debug, Default)]
pub(in crate::exchange) struct StateAccess {
    /// It, if it is on this shard.
    pub states: Option<ExchangeStates>,
    /// The time, in microseconds of the monotonic clock.
    pub now_us: u64,
    pub met: StateMet,
    /// The slots of the exchanges that are to remember the message.
    pub remembering: Vec<u32>,
}

impl StateAccess {
    /// True if the exchange created by this version has not seen the message's value.
    pub fn admit(&mut self, exchange: (u64, SeenLimits, SecretSeed), message: &Basic<'_>) -> bool {
        let now_us = self.now_us;
        self.states.as_mut().is_none_or(|states| states.admit(exchange, message, now_us))
    }
}
