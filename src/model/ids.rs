//! Identities that cross a ring or reach the disk. None is ever reused.

/// A shard: one pinned thread. The coordinator's endpoint is numbered behind the last shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ShardId(pub u16);

impl ShardId {
    /// The origin of the queues that the coordinator makes. It is not the coordinator's own number:
    /// these ids reach the disk, and the number of shards may change between two starts.
    pub const OF_QUEUES: Self = Self(u16::MAX);

    /// The shard's index in a list of all endpoints.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
            pub struct $name(pub u64);

            impl From<u64> for $name {
                fn from(number: u64) -> Self {
                    Self(number)
                }
            }

            impl $name {
                /// The endpoint that gave the identity out.
                #[must_use]
                pub fn origin(self) -> ShardId {
                    // The upper 16 bits are the endpoint's number.
                    ShardId((self.0 >> IdSource::COUNTER_BITS) as u16)
                }
            }
        )*
    };
}

ids! {
    /// One client connection.
    ConnId
    /// One opening of a channel; a number that is opened again is a new channel.
    ChannelId
    /// One consumer.
    ConsumerId
    /// One queue; a queue that is deleted and declared again is a new one.
    QueueId
    /// A request that crossed a ring and waits for its answer.
    RequestId
}

impl QueueId {
    /// In the place of a message's queues: its route is decided on the shard where the stateful
    /// exchanges of its vhost are. No queue has this id.
    pub const RELAY: Self = Self(0);

    /// True for the queue of a direct reply-to consumer: its connection's shard made it. All other
    /// queues come from the coordinator.
    #[must_use]
    #[inline]
    pub fn is_direct_reply(self) -> bool {
        self.origin() != ShardId::OF_QUEUES
    }
}

/// Gives out ids: the number of the endpoint in the upper 16 bits, a counter below.
#[derive(Debug, Hash)]
pub struct IdSource {
    next: u64,
}

impl IdSource {
    const COUNTER_BITS: u32 = 48;

    /// A source for the endpoint `shard`.
    #[must_use]
    pub fn new(shard: ShardId) -> Self {
        Self { next: (u64::from(shard.0) << Self::COUNTER_BITS) + 1 }
    }

    /// A source that goes on with `next`, which was not given out yet.
    #[must_use]
    pub fn resumed(next: u64) -> Self {
        Self { next }
    }

    /// The number of the next id, without giving it out.
    #[must_use]
    pub fn peek(&self) -> u64 {
        self.next
    }

    /// The next id: 2^48 of them last a million years at ten a second.
    pub fn fresh<T: From<u64>>(&mut self) -> T {
        let id = self.next;
        self.next += 1;
        T::from(id)
    }
}
