//! A consumer, and what it asks its channel for, as plain values.

use crate::ids::{ChannelId, ConnId, ConsumerId};

/// A consumer as its queue's home keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConsumerSpec {
    /// Its identity.
    pub id: ConsumerId,
    /// The connection, whose flow credit it shares.
    pub conn: ConnId,
    /// The channel its unacknowledged messages belong to.
    pub channel: ChannelId,
    /// Deliveries are acknowledged by being sent.
    pub no_ack: bool,
    /// At most so many unacknowledged messages; 0: no limit.
    pub prefetch: u16,
    /// Wants to be the queue's only consumer.
    pub exclusive: bool,
    /// Those of a higher priority are served first; 0 unless the client asks for another.
    pub priority: i64,
    /// Its channel limits all its consumers together: each message needs a permit of the channel.
    pub limited: bool,
    /// `x-consumer-timeout`: how long it may take to settle a delivery, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Bytes of encoded properties that one frame to its connection carries.
    pub properties_max: usize,
}

/// The single active consumer of a queue. Its connection's shard knows its tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ActiveConsumer {
    /// The connection.
    pub conn: ConnId,
    /// The channel.
    pub channel: ChannelId,
    /// The consumer.
    pub consumer: ConsumerId,
}

impl ActiveConsumer {
    /// The identities of a consumer.
    #[must_use]
    pub fn of(spec: &ConsumerSpec) -> Self {
        Self { conn: spec.conn, channel: spec.channel, consumer: spec.id }
    }
}

/// A consumer's place in the list, valid while it exists.
pub type Slot = usize;

/// A consumer requests permits from its channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ask {
    /// The connection.
    pub conn: ConnId,
    /// The channel.
    pub channel: ChannelId,
    /// The consumer.
    pub consumer: ConsumerId,
    /// Its place in the queue's list.
    pub slot: Slot,
    /// How many messages it could be sent now, at least 1.
    pub count: u32,
}
