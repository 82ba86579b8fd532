//! Configured limits that are reached.

use crate::refusal::Resource;
use crate::topology::spec::Name;

/// What would exceed its limit; each with the limit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Excess {
    /// Open connections of the node.
    Connections(usize),
    /// Channels of all connections.
    Channels(usize),
    /// Consumers of a channel.
    Consumers(usize),
    /// Queues, with the name of the refused one.
    Queues(Name, usize),
    /// Exchanges, with the refused one.
    Exchanges(Resource, usize),
    /// Bytes of memory that queues, exchanges and bindings take.
    Topology(usize),
}

impl Excess {
    /// Whether it closes the connection, not only the channel.
    #[must_use]
    pub fn closes_connection(&self) -> bool {
        !matches!(self, Excess::Queues(..) | Excess::Exchanges(..) | Excess::Topology(_))
    }
}
