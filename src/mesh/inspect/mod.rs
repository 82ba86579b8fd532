//! What a thread outside the data path asks a shard or the coordinator, and what they answer.
//!
//! Lists come in chunks ([`Page`], [`ListChunk`]): what exists during the whole walk is listed
//! exactly once, what comes or goes meanwhile may or may not be. Each shard lists what is on it, so
//! the whole is the lists of all shards. Rows have ids where a name would need another list.
//!
//! Only files about snapshots and commands import this.

mod chunk;
mod rows;

use model::access::command::{AdminAnswer, AdminCommand};
use model::{ConnId, Name, QueueId, Refusal};

pub use self::chunk::{CHUNK_BYTES, CHUNK_ROWS, CHUNK_STEPS, ListChunk, Page};
pub(crate) use self::chunk::{RowsOf, chunk_of, name_bytes};
pub use self::rows::{
    BindingListing, ChannelCursor, ChannelRow, ConnectionCounters, ConnectionRow, ConnectionState,
    ConsumerCursor, ConsumerRow, CoordinatorCounts, ExchangeCounters, ExchangeCursor,
    ExchangeListing, ExchangeRow, ExchangeRowCursor, QueueListing, QueueRow, ShardCounts,
    UserListing,
};

/// The number of a question. Those under way at one endpoint differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InspectId(pub u64);

/// What a shard can be asked from outside the data path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShardRequest {
    /// How many there are of what.
    Counts,
    /// The queues that live here, by id; without those of direct reply-to.
    Queues(Page<QueueId>),
    /// The connections of this shard, by id.
    Connections(Page<ConnId>),
    /// Their open channels, by connection and id.
    Channels(Page<ChannelCursor>),
    /// The consumers on these channels, by channel and id; without those of direct reply-to.
    Consumers(Page<ConsumerCursor>),
    /// What this shard's publishers published, by exchange. An exchange without a row was not
    /// published to from here. The sum over all shards is the exchange's.
    Exchanges(Page<ExchangeRowCursor>),
    /// Close a connection of this shard with 320 CONNECTION_FORCED.
    CloseConnection {
        /// The connection.
        conn: ConnId,
        /// The reply text behind the code's name, as an operator gave it.
        reason: Name,
    },
    /// Drop the ready messages of a queue, wherever it lives.
    PurgeQueue {
        /// Its vhost.
        vhost: Name,
        /// Its name.
        name: Name,
    },
}

/// What a shard answers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each answers the request of its name")]
pub enum ShardAnswer {
    Counts(ShardCounts),
    Queues(ListChunk<QueueRow, QueueId>),
    Connections(ListChunk<ConnectionRow, ConnId>),
    Channels(ListChunk<ChannelRow, ChannelCursor>),
    Consumers(ListChunk<ConsumerRow, ConsumerCursor>),
    Exchanges(ListChunk<ExchangeRow, ExchangeRowCursor>),
    /// The connection is being closed, or was already.
    Closing,
    /// There is no such connection here.
    NoConnection,
    /// So many messages were dropped.
    Purged(u32),
    /// It cannot be done, for the reason that a client's method would be given.
    Refused(Refusal),
}

/// What the coordinator can be asked from outside the data path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CoordinatorRequest {
    /// How many there are of what.
    Counts,
    /// The vhosts by name.
    Vhosts(Page<Name>),
    /// The users by name.
    Users(Page<Name>),
    /// The queues by id, without those that are being created or deleted.
    Queues(Page<QueueId>),
    /// The exchanges by vhost.
    Exchanges(Page<ExchangeCursor>),
    /// The bindings by vhost and destination.
    Bindings(Page<BindingListing>),
    /// Change users, vhosts, rights or policies; answered when every shard obeys.
    Admin(Box<AdminCommand>),
    /// Delete a queue; answered when it is gone on every shard.
    DeleteQueue {
        /// Its vhost.
        vhost: Name,
        /// Its name.
        name: Name,
        /// Not if it has consumers.
        if_unused: bool,
        /// Not if it has ready messages.
        if_empty: bool,
    },
}

/// What the coordinator answers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each answers the request of its name")]
pub enum CoordinatorAnswer {
    Counts(CoordinatorCounts),
    Vhosts(ListChunk<Name, Name>),
    Users(ListChunk<UserListing, Name>),
    Queues(ListChunk<QueueListing, QueueId>),
    Exchanges(ListChunk<ExchangeListing, ExchangeCursor>),
    Bindings(ListChunk<BindingListing, BindingListing>),
    /// The queue is gone; it had so many ready messages.
    Deleted(u32),
    /// The answer to a change of users, vhosts, rights or policies.
    Admin(AdminAnswer),
    /// There is no such vhost.
    NoVhost,
    /// It cannot be done, for the reason that a client's method would be given.
    Refused(Refusal),
}
