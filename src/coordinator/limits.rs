//! Limits of the whole broker: what counts, and what is refused when a limit is reached.

use model::refusal::excess::Excess;
use model::topology::spec::Name;
use model::{Refusal, Resource, Topology};

/// How many there may be of each; `usize::MAX`: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeLimits {
    /// Open connections.
    pub connections: usize,
    /// Open channels. Shards have to be told to ask for each.
    pub channels: usize,
    /// Queues.
    pub queues: usize,
    /// Exchanges, those of every vhost included.
    pub exchanges: usize,
    /// Bytes of memory that one copy of the topology may take.
    pub topology_bytes: usize,
}

impl Default for NodeLimits {
    fn default() -> Self {
        let none = usize::MAX;
        Self {
            connections: none,
            channels: none,
            queues: none,
            exchanges: none,
            topology_bytes: none,
        }
    }
}

impl NodeLimits {
    /// Refuses a queue of that name if there are as many as there may be.
    pub(super) fn check_queues(&self, count: usize, name: &Name) -> Result<(), Refusal> {
        if count < self.queues {
            return Ok(());
        }
        Err(Refusal::Excess(Excess::Queues(name.clone(), self.queues)))
    }

    /// Refuses one more queue, exchange or binding if all of them take as much memory as they may.
    /// Publishers wait for memory, declares do not: what they wait for might never end, and a
    /// channel that is closed says why.
    pub(super) fn check_topology(&self, topology: &Topology) -> Result<(), Refusal> {
        if topology.bytes() < self.topology_bytes {
            return Ok(());
        }
        Err(Refusal::Excess(Excess::Topology(self.topology_bytes)))
    }

    /// Refuses an exchange of that name if there are as many as there may be.
    pub(super) fn check_exchanges(
        &self,
        topology: &Topology,
        vhost: &str,
        name: &str,
    ) -> Result<(), Refusal> {
        let limit = self.exchanges;
        let count = || topology.vhosts().map(|(_, vhost)| vhost.exchanges().count()).sum::<usize>();
        if limit == usize::MAX || count() < limit {
            return Ok(());
        }
        Err(Refusal::Excess(Excess::Exchanges(Resource::exchange(vhost, name), limit)))
    }
}
