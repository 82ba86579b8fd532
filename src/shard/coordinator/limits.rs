//! Limits of the whole broker: who counts, and what is refused when a limit is reached.

use model::excess::Excess;
use model::hash::Set;
use model::spec::Name;
use model::{ChannelId, ConnId, Refusal, Resource, Seed};

use super::{Coordinator, refused};
use crate::shard::message::Answer;

/// How many there may be of each; `usize::MAX`: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeLimits {
    /// Open connections.
    pub connections: usize,
    /// Open channels. Shards have to be told to ask for each.
    pub channels: usize,
    /// Queues.
    pub queues: usize,
    /// Exchanges, those of every vhost included.
    pub exchanges: usize,
}

impl Default for NodeLimits {
    fn default() -> Self {
        let none = usize::MAX;
        Self { connections: none, channels: none, queues: none, exchanges: none }
    }
}

/// Who is there.
#[derive(Debug)]
pub(super) struct Usage {
    limits: NodeLimits,
    connections: Set<ConnId>,
    channels: Set<ChannelId>,
}

impl Usage {
    pub fn new(seed: Seed) -> Self {
        Self {
            limits: NodeLimits::default(),
            connections: Set::with_hasher(seed),
            channels: Set::with_hasher(seed),
        }
    }

    /// Whether the connection, unless it counts already, is one too many.
    pub fn connection_is_over(&self, conn: ConnId) -> Option<Excess> {
        let limit = self.limits.connections;
        let counts = self.connections.contains(&conn);
        (!counts && self.connections.len() >= limit).then_some(Excess::Connections(limit))
    }

    pub fn connection_opened(&mut self, conn: ConnId) {
        self.connections.insert(conn);
    }

    pub fn connection_left(&mut self, conn: ConnId) {
        self.connections.remove(&conn);
    }

    /// A channel counts even if it is one too many, until it is closed for that.
    pub fn channel_opened(&mut self, channel: ChannelId) -> Answer {
        self.channels.insert(channel);
        let limit = self.limits.channels;
        if self.channels.len() > limit {
            return refused(Refusal::Excess(Excess::Channels(limit)));
        }
        Answer::Done
    }

    pub fn channel_left(&mut self, channel: ChannelId) {
        self.channels.remove(&channel);
    }
}

impl Coordinator {
    /// The coordinator with limits.
    #[must_use]
    pub fn limited(mut self, limits: NodeLimits) -> Self {
        self.usage.limits = limits;
        self
    }

    /// Whether there may be another queue.
    pub(super) fn check_queues(&self, name: &Name) -> Result<(), Refusal> {
        let limit = self.usage.limits.queues;
        if self.directory.len() < limit {
            return Ok(());
        }
        Err(Refusal::Excess(Excess::Queues(name.clone(), limit)))
    }

    /// Whether there may be another exchange.
    pub(super) fn check_exchanges(&self, vhost: &str, name: &str) -> Result<(), Refusal> {
        let limit = self.usage.limits.exchanges;
        if limit == usize::MAX {
            return Ok(());
        }
        let count: usize = self.topology.vhosts().map(|(_, vhost)| vhost.exchanges().count()).sum();
        if count < limit {
            return Ok(());
        }
        Err(Refusal::Excess(Excess::Exchanges(Resource::exchange(vhost, name), limit)))
    }
}
