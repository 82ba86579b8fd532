//! A channel's state on the shard of its connection.

use amqp::Assembler;
use bytes::Bytes;

use crate::ids::{ChannelId, ConsumerId, QueueId, ShardId, Ticket};
use crate::ledger::Ledger;
use crate::message::Draft;
use crate::mutant::{self, Mutant};
use crate::refusal::Refusal;
use crate::session::{Candidate, Confirms, LastRoute, Limit, Transaction};
use crate::spec::Name;

/// A delivery the client has not settled: where it came from and the home's number for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outstanding {
    /// The queue.
    pub queue: QueueId,
    /// The queue's home.
    pub home: ShardId,
    /// The home's number.
    pub number: u64,
}

/// A consumer as its channel knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelConsumer {
    /// The tag the client knows it by.
    pub tag: Name,
    /// Its queue.
    pub queue: QueueId,
    /// The queue's home.
    pub home: ShardId,
}

/// A channel's consumer of direct replies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyConsumer {
    /// The consumer.
    pub consumer: ConsumerId,
    /// The queue that stands for it.
    pub queue: QueueId,
    /// The routing key that leads there.
    pub name: Name,
}

/// basic.qos with global, while homes are being told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limiting {
    /// The question that the method waits for.
    pub ticket: Ticket,
    /// Homes that have not answered.
    pub homes: usize,
    /// The limit to come; 0: none.
    pub most: u16,
}

/// How far a channel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Methods are obeyed.
    Open,
    /// The client closed it; close-ok is sent when every home has let go.
    ClosedByClient,
    /// The server closed it; everything but close and close-ok is ignored.
    ClosedByServer,
}

/// Frames of a channel that wait behind a barrier.
#[derive(Debug, Default)]
pub struct Parked {
    /// Being replayed.
    pub replaying: Bytes,
    /// Arrived meanwhile.
    pub later: Vec<u8>,
}

impl Parked {
    /// Octets that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.replaying.len() + self.later.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is next to replay.
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
    /// Its identity; the number may be used again.
    pub id: ChannelId,
    /// How far it is.
    pub state: State,
    /// Where the sequence of frames stands.
    pub assembler: Assembler,
    /// The message being received.
    pub draft: Draft,
    /// Its place in the order of large messages being received; 0: none.
    pub draft_order: u64,
    /// The mandatory flag of the publish being received.
    pub mandatory: bool,
    /// Routing keys that the headers of the message being received add to the one of the publish.
    pub keys: Vec<Name>,
    /// What is wrong with the properties of the message being received. Told when all of it is
    /// here, and only if there is nothing wrong with its exchange.
    pub refused: Option<Box<Refusal>>,
    /// Where its last publish went.
    pub route: LastRoute,
    /// Deliveries by tag.
    pub unacked: Ledger<Outstanding>,
    /// Deliveries whose settles wait for tx.commit: they are not in `unacked`, but unsettled.
    pub settling: usize,
    /// The tag of the last delivery.
    pub last_tag: u64,
    /// In the order of their ids.
    pub consumers: Vec<(ConsumerId, ChannelConsumer)>,
    /// Who takes what is sent to the channel's `amq.rabbitmq.reply-to`.
    pub replies: Option<ReplyConsumer>,
    /// Present in confirm mode.
    pub confirms: Option<Confirms>,
    /// Present in tx mode.
    pub tx: Option<Box<Transaction>>,
    /// The limit for consumers to come; 0: none.
    pub prefetch: u16,
    /// What its consumers may be sent together; `None`: no limit.
    pub limit: Option<Box<Limit>>,
    /// The limit is being changed.
    pub limiting: Option<Limiting>,
    /// The queue an empty name stands for.
    pub last_queue: Name,
    /// The question that a method waits for; later methods wait behind it.
    pub barrier: Option<Ticket>,
    /// What waits behind the barrier.
    pub parked: Parked,
    /// Homes that may hold something of the channel.
    pub homes: Vec<ShardId>,
}

impl Channel {
    /// A channel just opened.
    #[must_use]
    pub fn new(id: ChannelId) -> Self {
        Self {
            id,
            state: State::Open,
            assembler: Assembler::Idle,
            draft: Draft::default(),
            draft_order: 0,
            mandatory: false,
            keys: Vec::new(),
            refused: None,
            route: LastRoute::default(),
            unacked: Ledger::default(),
            settling: 0,
            last_tag: 0,
            consumers: Vec::new(),
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
        }
    }

    /// Remembers that `home` may hold something of the channel.
    pub fn involve(&mut self, home: ShardId) {
        if !self.homes.contains(&home) {
            self.homes.push(home);
        }
    }

    /// The consumer with this id.
    #[must_use]
    #[inline]
    pub fn consumer(&self, id: ConsumerId) -> Option<&ChannelConsumer> {
        let at = self.consumers.binary_search_by_key(&id, |(other, _)| *other).ok()?;
        self.consumers.get(at).map(|(_, consumer)| consumer)
    }

    /// The consumer with this tag.
    #[must_use]
    pub fn consumer_by_tag(&self, tag: &str) -> Option<(ConsumerId, &ChannelConsumer)> {
        let mut all = self.consumers.iter();
        all.find(|(_, consumer)| *consumer.tag == *tag).map(|(id, consumer)| (*id, consumer))
    }

    /// Removes a consumer.
    pub fn remove_consumer(&mut self, id: ConsumerId) -> Option<ChannelConsumer> {
        let at = self.consumers.binary_search_by_key(&id, |(other, _)| *other).ok()?;
        if let Some(limit) = &mut self.limit {
            limit.forget(id);
        }
        Some(self.consumers.remove(at).1)
    }

    /// A consumer that could be sent messages asks for permits; 0: it is told when there is room.
    pub fn ask(&mut self, candidate: Candidate) -> u32 {
        let held = self.unacked.len() + self.settling;
        self.limit.as_mut().map_or(0, |limit| limit.ask(held, candidate))
    }

    /// The next consumer that waited for permits and gets some.
    pub fn next_permitted(&mut self) -> Option<Candidate> {
        let held = self.unacked.len() + self.settling;
        self.limit.as_mut()?.next(held)
    }

    /// A delivery to a consumer arrived; if it has to be settled it used a permit, where there is a
    /// limit.
    #[inline]
    pub fn arrived(&mut self, number: u64) {
        if number != 0
            && let Some(limit) = &mut self.limit
        {
            limit.spent();
        }
    }

    /// A message for basic.get arrived: it counts under the limit, which did not hold it back.
    pub fn got(&mut self, number: u64) {
        if mutant::active(Mutant::GetNotCounted)
            && number != 0
            && let Some(limit) = &mut self.limit
        {
            limit.set(limit.most() + 1);
        }
    }

    /// The tag for the next delivery; what has a number at its home must be settled.
    #[inline]
    pub fn deliver(&mut self, queue: QueueId, home: ShardId, number: u64) -> u64 {
        self.last_tag += 1;
        if number != 0 {
            self.unacked.push(self.last_tag, Outstanding { queue, home, number });
        }
        self.last_tag
    }

    /// Octets of memory held for the message that is half received.
    #[must_use]
    pub fn half(&self) -> usize {
        /// What the allocator takes for each.
        const AROUND: usize = 16;
        let keys = self.keys.iter().map(|key| key.len() + size_of::<Name>() + AROUND);
        self.draft.pinned() + keys.sum::<usize>()
    }
}
