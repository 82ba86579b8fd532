//! Configured limits that are reached, and the texts that say so.

use crate::access::state::UserInVhost;
use crate::refusal::Resource;
use crate::topology::spec::Name;

/// The name that stands where RabbitMQ names its node.
const NODE: &str = "ringtail";

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
    /// Connections of the vhost.
    VhostConnections(UserInVhost, u64),
    /// Connections of the user.
    UserConnections(Name, u64),
    /// Channels of the user.
    UserChannels(Name, u64),
    /// Queues of the vhost, with the refused one.
    VhostQueues(Resource, u64),
    /// Bytes of memory that queues, exchanges and bindings take.
    Topology(usize),
}

impl Excess {
    /// Whether it closes the connection, not only the channel.
    #[must_use]
    pub fn closes_connection(&self) -> bool {
        !matches!(
            self,
            Excess::Queues(..)
                | Excess::VhostQueues(..)
                | Excess::Exchanges(..)
                | Excess::Topology(_)
        )
    }
}

impl std::fmt::Display for Excess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Excess::Connections(limit) => {
                write!(f, "connection refused: node connection limit ({limit}) is reached")
            }
            Excess::Channels(limit) => write!(
                f,
                "number of channels opened on node '{NODE}' has reached the maximum allowed limit \
                 of {limit}"
            ),
            Excess::Consumers(limit) => {
                write!(f, "reached maximum ({limit}) of consumers per channel")
            }
            Excess::Queues(name, limit) => {
                write!(
                    f,
                    "cannot declare queue '{name}': queue limit in cluster ({limit}) is reached"
                )
            }
            Excess::Exchanges(what, limit) => {
                write!(f, "cannot declare {what}: exchange limit of {limit} is reached")
            }
            Excess::VhostConnections(UserInVhost { user, vhost }, limit) => write!(
                f,
                "access to vhost '{vhost}' refused for user '{user}': connection limit ({limit}) \
                 is reached"
            ),
            Excess::UserConnections(user, limit) => write!(
                f,
                "connection refused for user '{user}': user connection limit ({limit}) is reached"
            ),
            Excess::UserChannels(user, limit) => write!(
                f,
                "number of channels opened for user '{user}' has reached the maximum allowed user \
                 limit of ({limit})"
            ),
            Excess::VhostQueues(Resource { name, vhost, .. }, limit) => write!(
                f,
                "cannot declare queue '{name}': queue limit in vhost '{vhost}' ({limit}) is reached"
            ),
            Excess::Topology(limit) => write!(
                f,
                "queues, exchanges and bindings take the {limit} bytes of memory that they may"
            ),
        }
    }
}
