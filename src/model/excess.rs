//! Limits that somebody set and that are reached.

use crate::refusal::Resource;
use crate::spec::Name;

/// What there would be too many of; each with its limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Excess {
    /// Open connections of the node.
    Connections(usize),
    /// Channels of all connections.
    Channels(usize),
    /// Consumers of a channel.
    Consumers(usize),
    /// Queues, with the name of the one that would be too many.
    Queues(Name, usize),
    /// Exchanges, with the one that would be too many.
    Exchanges(Resource, usize),
}

impl Excess {
    /// Whether the connection ends by it, not only the channel.
    #[must_use]
    pub fn closes_connection(&self) -> bool {
        !matches!(self, Excess::Queues(..) | Excess::Exchanges(..))
    }
}
