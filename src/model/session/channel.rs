//! A channel's state on the shard of its connection.

use amqp::Assembler;
use bytes::Bytes;

use crate::ids::{ChannelId, ConsumerId, QueueId, RequestId, ShardId};
use crate::message::Draft;
use crate::mutant::{self, Mutant};
use crate::queue::Settle;
use crate::refusal::Refusal;
use crate::session::{
    Candidate, ChannelConsumer, ChannelConsumers, ChannelCounters, Confirms, LastRoute, Limit,
    Outstanding, Settles, Transaction, Unacked,
};
use crate::topology::spec::Name;

/// The channel's consumer of direct replies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyConsumer {
    /// The consumer.
    pub consumer: ConsumerId,
    /// The queue that stands for it.
    pub queue: QueueId,
    /// The routing key that leads there.
    pub name: Name,
}

/// A basic.qos with global that home shards are being told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limiting {
    /// The request that the method waits for.
    pub ticket: RequestId,
    /// Home shards that have not answered.
    pub homes: usize,
    /// The new limit; 0: none.
    pub most: u16,
}

/// The state of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Methods are executed.
    Open,
    /// The client closed it; close-ok is sent when every home shard has released it.
    ClosedByClient,
    /// The server closed it; everything but close and close-ok is ignored.
    ClosedByServer,
}

/// Frames that wait behind a barrier of the channel.
#[derive(Debug, Default)]
pub struct Parked {
    /// Being replayed.
    pub replaying: Bytes,
    /// Arrived during the replay.
    pub later: Vec<u8>,
}

impl Parked {
    /// Bytes that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.replaying.len() + self.later.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next frame to replay.
    pub fn take(&mut self) -> Bytes {
        if self.replaying.is_empty() {
            self.replaying = Bytes::from(std::mem::take(&mut self.later));
        }
        std::mem::take(&mut self.replaying)
    }
}

/// A channel.
#[derive(Debug)]
pub struct Channel {
    /// Its identity; its number on the connection may be used again.
    pub id: ChannelId,
    /// Its state.
    pub state: State,
    /// It counts at the coordinator.
    pub counts: bool,
    /// Its place in the sequence of frames.
    pub assembler: Assembler,
    /// The message being received.
    pub draft: Draft,
    /// Its place in the order of large messages being received; 0: none.
    pub draft_order: u64,
    /// The mandatory flag of the publish being received.
    pub mandatory: bool,
    /// Routing keys that the headers of the message being received add to the one of the publish.
    pub keys: Vec<Name>,
    /// What is wrong with the properties of the message being received. Reported when the whole
    /// message has arrived, and only if its exchange is right.
    pub refused: Option<Box<Refusal>>,
    /// The name for a queue without one whose declare waits for its rights.
    pub given_name: Option<Name>,
    /// The route of its last publish.
    pub route: LastRoute,
    /// Deliveries by tag.
    pub unacked: Unacked,
    /// Deliveries whose settles wait for tx.commit: unsettled, but not in `unacked`.
    pub settling: usize,
    /// Deliveries that are being settled in pieces.
    pub settles: Option<Box<Settles>>,
    /// The tag of the last delivery.
    pub last_tag: u64,
    /// Its consumers.
    pub consumers: ChannelConsumers,
    /// The consumer of the channel's `amq.rabbitmq.reply-to`.
    pub replies: Option<ReplyConsumer>,
    /// Present in confirm mode.
    pub confirms: Option<Confirms>,
    /// Present in tx mode.
    pub tx: Option<Box<Transaction>>,
    /// The prefetch of consumers that are declared from now on; 0: no limit.
    pub prefetch: u16,
    /// The limit that its consumers share; `None`: no limit.
    pub limit: Option<Box<Limit>>,
    /// A change of that limit under way.
    pub limiting: Option<Limiting>,
    /// The queue an empty name stands for.
    pub last_queue: Name,
    /// The barrier: the request that a method waits for. Later methods wait behind it.
    pub barrier: Option<RequestId>,
    /// Frames that wait behind the barrier.
    pub parked: Parked,
    /// Home shards that may hold something of the channel.
    pub homes: Vec<ShardId>,
    /// What was counted, but for what [`Self::counters`] finds elsewhere.
    pub counted: ChannelCounters,
}

impl Channel {
    /// A channel just opened.
    #[must_use]
    pub fn new(id: ChannelId) -> Self {
        Self {
            id,
            state: State::Open,
            counts: false,
            assembler: Assembler::Idle,
            draft: Draft::default(),
            draft_order: 0,
            mandatory: false,
            keys: Vec::new(),
            refused: None,
            given_name: None,
            route: LastRoute::default(),
            unacked: Unacked::default(),
            settling: 0,
            settles: None,
            last_tag: 0,
            consumers: ChannelConsumers::default(),
            replies: None,
            confirms: None,
            tx: None,
            prefetch: 0,
            limit: None,
            limiting: None,
            last_queue: Name::default(),
            barrier: None,
            parked: Parked::default(),
            homes: Vec::new(),
            counted: ChannelCounters::default(),
        }
    }

    /// What was counted since it was opened.
    #[must_use]
    pub fn counters(&self) -> ChannelCounters {
        let counted = self.counted;
        // Each message that was sent has a tag of its own.
        let others = counted.deliver_no_ack + counted.get + counted.get_no_ack;
        let confirm = self.confirms.as_ref().map_or(0, Confirms::acked);
        ChannelCounters { deliver: self.last_tag - others, confirm, ..counted }
    }

    /// Remembers that `home` may hold something of the channel.
    pub fn involve(&mut self, home: ShardId) {
        if !self.homes.contains(&home) {
            self.homes.push(home);
        }
    }

    /// Counts settles.
    #[inline]
    pub fn count_acks(&mut self, how: Settle, settles: usize) {
        if how == Settle::Ack {
            self.counted.ack += settles as u64;
        }
    }

    /// Removes a consumer.
    pub fn remove_consumer(&mut self, id: ConsumerId) -> Option<ChannelConsumer> {
        let gone = self.consumers.remove(id)?;
        if let Some(limit) = &mut self.limit {
            limit.forget(id);
        }
        Some(gone)
    }

    /// Grants permits for a consumer that has messages to deliver. 0: it waits until there is room.
    pub fn ask(&mut self, candidate: Candidate) -> u32 {
        let held = self.unacked.len() + self.settling;
        self.limit.as_mut().map_or(0, |limit| limit.ask(held, candidate))
    }

    /// The next waiting consumer that gets permits now.
    pub fn next_permitted(&mut self) -> Option<Candidate> {
        let held = self.unacked.len() + self.settling;
        self.limit.as_mut()?.next(held)
    }

    /// A delivery to a consumer arrived. If it must be settled and there is a limit, it used a
    /// permit.
    #[inline]
    pub fn arrived(&mut self, number: u64) {
        if number != 0
            && let Some(limit) = &mut self.limit
        {
            limit.spent();
        }
    }

    /// A message for basic.get arrived. It counts against the limit, but needs no permit.
    pub fn got(&mut self, number: u64) {
        if number == 0 {
            self.counted.get_no_ack += 1;
        } else {
            self.counted.get += 1;
        }
        if mutant::active(Mutant::GetNotCounted)
            && number != 0
            && let Some(limit) = &mut self.limit
        {
            limit.set(limit.most() + 1);
        }
    }

    /// The tag for the next delivery. One with a number at its home shard must be settled.
    #[inline]
    pub fn deliver(&mut self, queue: QueueId, home: ShardId, number: u64) -> u64 {
        next_tag(&mut self.last_tag, &mut self.unacked, Outstanding { queue, home, number })
    }

    /// A delivery to a consumer: the consumer, and the tag. `None` if it is gone.
    #[inline]
    pub fn deliver_to(
        &mut self,
        consumer: ConsumerId,
        (queue, home): (QueueId, ShardId),
        number: u64,
    ) -> Option<(&ChannelConsumer, u64)> {
        self.arrived(number);
        let consumer = self.consumers.get(consumer)?;
        self.counted.deliver_no_ack += u64::from(number == 0);
        let one = Outstanding { queue, home, number };
        Some((consumer, next_tag(&mut self.last_tag, &mut self.unacked, one)))
    }

    /// Bytes of memory held for the partial message.
    #[must_use]
    pub fn half(&self) -> usize {
        /// Memory of one entry, with the allocator's share.
        const AROUND: usize = 16;
        let keys = self.keys.iter().map(|key| key.len() + size_of::<Name>() + AROUND);
        self.draft.pinned() + keys.sum::<usize>()
    }
}

/// The tag of a delivery, which is held if it must be settled.
#[inline]
fn next_tag(last_tag: &mut u64, unacked: &mut Unacked, one: Outstanding) -> u64 {
    *last_tag += 1;
    if one.number != 0 {
        unacked.push(*last_tag, one);
    }
    *last_tag
}
