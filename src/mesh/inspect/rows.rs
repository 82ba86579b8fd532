//! The rows of lists, and behind what a list goes on. Counters only grow while their object lives.

use std::net::SocketAddr;

use model::queue::QueueSnapshot;
use model::session::ChannelCounters;
use model::{
    Binding, ChannelId, ConnId, ConsumerId, ExchangeSpec, Name, QueueId, QueueSpec, ShardId,
};

use crate::mesh::control::Alarms;

/// How much there is on a shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShardCounts {
    /// Connections, those in their handshake or ending included.
    pub connections: u64,
    /// Queues that live here.
    pub queues: u64,
    /// Bytes of memory that queues, the store, partial messages and transactions hold.
    pub memory_bytes: u64,
    /// Connections that were accepted since the start.
    pub connections_opened: u64,
    /// Connections whose sockets are gone again.
    pub connections_closed: u64,
}

/// How much the coordinator knows of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CoordinatorCounts {
    /// Vhosts.
    pub vhosts: u64,
    /// Queues, those being created or deleted included.
    pub queues: u64,
    /// What is short.
    pub alarms: Alarms,
}

/// A queue at one moment, with its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueRow {
    /// Its identity.
    pub id: QueueId,
    /// Its vhost.
    pub vhost: Name,
    /// Its name in the vhost.
    pub name: Name,
    /// What it is like.
    pub snapshot: QueueSnapshot,
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionState {
    /// In its handshake.
    Starting,
    /// Open.
    Running,
    /// Open; it is not read for now, until what it caused is done.
    Flow,
    /// Open; it published, and is not read while memory or disk space is short.
    Blocked,
    /// Closed by one of both sides, but its socket is there.
    Closing,
}

/// What went over a connection's socket, by its protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConnectionCounters {
    /// Bytes received.
    pub received_bytes: u64,
    /// Frames received, heartbeats included.
    pub received_frames: u64,
    /// Bytes that left for the socket.
    pub sent_bytes: u64,
    /// Frames made for it, those that wait included.
    pub sent_frames: u64,
}

/// A connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionRow {
    /// Its identity.
    pub id: ConnId,
    /// The client's address.
    pub peer: SocketAddr,
    /// The listener's address.
    pub local: SocketAddr,
    /// Who logged in; empty before that.
    pub user: Name,
    /// The vhost it opened; empty before that.
    pub vhost: Name,
    /// How far it is.
    pub state: ConnectionState,
    /// When it was accepted, in milliseconds since 1970.
    pub opened_ms: u64,
    /// The mechanism of its login.
    pub mechanism: Name,
    /// At most so many channels; 0: no limit.
    pub channel_max: u16,
    /// Bytes of a frame; 0: no limit.
    pub frame_max: u32,
    /// Seconds between heartbeats; 0: none.
    pub heartbeat_s: u16,
    /// Channels.
    pub channels: u64,
    /// What was counted.
    pub counters: ConnectionCounters,
}

/// A channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelRow {
    /// Its connection.
    pub conn: ConnId,
    /// Its identity.
    pub id: ChannelId,
    /// Its number on the connection.
    pub number: u16,
    /// The prefetch of consumers that are declared from now on; 0: no limit.
    pub prefetch: u16,
    /// The limit that its consumers share; 0: no limit.
    pub limit: u16,
    /// In confirm mode.
    pub confirms: bool,
    /// In tx mode.
    pub transactional: bool,
    /// Consumers, without those of direct reply-to.
    pub consumers: u64,
    /// Deliveries that are not settled, or whose settles wait for a commit.
    pub unacknowledged: u64,
    /// Publishes that are not confirmed.
    pub unconfirmed: u64,
    /// Publishes that wait for a commit.
    pub uncommitted: u64,
    /// What was counted.
    pub counters: ChannelCounters,
}

/// Behind which channel a list goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelCursor {
    /// Its connection.
    pub(crate) conn: ConnId,
    /// The channel; 0: the list goes on with the connection's first.
    pub(crate) channel: ChannelId,
}

/// A consumer as its channel knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerRow {
    /// Its connection.
    pub conn: ConnId,
    /// Its channel.
    pub channel: ChannelId,
    /// The channel's number on the connection.
    pub number: u16,
    /// Its identity.
    pub id: ConsumerId,
    /// Its tag.
    pub tag: Name,
    /// Its queue.
    pub queue: QueueId,
    /// The shard where the queue lives.
    pub home: ShardId,
    /// What it is sent counts as acknowledged.
    pub no_ack: bool,
    /// It is the queue's only one.
    pub exclusive: bool,
    /// At most so many unacknowledged messages; 0: no limit.
    pub prefetch: u16,
    /// Those of a higher priority are served first.
    pub priority: i64,
}

/// Behind which consumer a list goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerCursor {
    /// Its channel.
    pub(crate) channel: ChannelCursor,
    /// The consumer; 0: the list goes on with the channel's first.
    pub(crate) consumer: ConsumerId,
}

/// What was published to an exchange by clients, whatever it handed on to others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExchangeCounters {
    /// Messages that clients published to it.
    pub publish_in: u64,
    /// Copies of them that went to queues.
    pub publish_out: u64,
}

/// What publishers of one shard published to an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeRow {
    /// Its vhost.
    pub vhost: Name,
    /// Its name.
    pub name: Name,
    /// What was counted.
    pub counters: ExchangeCounters,
}

/// Behind which exchange a list of them goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeRowCursor {
    /// Its vhost.
    pub(crate) vhost: Name,
    /// Its name.
    pub(crate) name: Name,
}

/// A user without the hash of the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserListing {
    /// The name.
    pub name: Name,
    /// The tags.
    pub tags: Vec<Name>,
}

/// An exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeListing {
    /// Its vhost.
    pub vhost: Name,
    /// What was declared.
    pub spec: ExchangeSpec,
    /// How many bindings it is the source of.
    pub bindings: usize,
}

/// A queue as the directory knows it; what it holds is known at its home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueListing {
    /// Its vhost.
    pub vhost: Name,
    /// What was declared, with id and home.
    pub spec: QueueSpec,
}

/// A binding. The implicit ones of the default exchange are not listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindingListing {
    /// Its vhost.
    pub vhost: Name,
    /// The binding.
    pub binding: Binding,
}

/// Where a list of exchanges goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeCursor {
    pub(crate) vhost: Name,
    /// The first slot of the vhost that was not looked at.
    pub(crate) slot: u32,
}
