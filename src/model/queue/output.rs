//! What a queue and the rest of the broker tell each other.

use crate::dead_letters::DeadLetterTarget;
use crate::ids::{ChannelId, ConnId, ConsumerId, QueueId, RequestId, ShardId};
use crate::message::Message;
use crate::queue::Expiry;
use crate::queue::consumer::Ask;
use crate::queue::stored::Stored;

/// What a queue does to the rest of the broker.
pub trait QueueOutput {
    /// Whether the connection may be sent a message now. After a `false` the queue is told by
    /// [`crate::queue::QueueCommands::reopen`] when it may again.
    fn open(&mut self, queue: QueueId, conn: ConnId) -> bool;
    /// The same for a certain message, whose body is large, once [`Self::open`] said yes.
    fn open_for(&mut self, queue: QueueId, conn: ConnId, message: Message<'_>) -> bool;
    /// Requests permits from a channel. `None`: the answer comes later, by
    /// [`crate::queue::QueueCommands::permitted`].
    fn ask(&mut self, queue: QueueId, ask: Ask) -> Option<u32>;
    /// Sends a message to a consumer.
    fn deliver(&mut self, delivery: Delivery<'_>);
    /// Answers a basic.get with a message; `remaining` messages stay ready.
    fn got(&mut self, ticket: RequestId, remaining: u32, delivery: Delivery<'_>);
    /// Answers a basic.get: there is no message.
    fn empty(&mut self, ticket: RequestId);
    /// Closes a channel that cannot be sent a message, which stays in the queue.
    fn unfit(&mut self, unfit: Unfit);
    /// Asks the shard of a channel to close it, since it holds a delivery for too long. The queue
    /// keeps the delivery until the channel is gone, and may ask again.
    fn overdue(&mut self, overdue: Overdue);
    /// Refuses the message that is being pushed: the queue is out of service.
    fn refuse(&mut self);
    /// The message that is being pushed is applied later. Its source gets no confirm until
    /// [`Self::finish`] names the returned id, whatever the watermarks say.
    fn hold(&mut self) -> EnqueueId;
    /// Ends an enqueue that was held. Each is ended exactly once.
    fn finish(&mut self, enqueue: EnqueueId, end: EnqueueEnd);
    /// Logs a persistent message that has entered a durable queue. Within one push the store may
    /// find that another queue has logged the same message.
    fn log(&mut self, queue: QueueId, seq: u64, expiry: Expiry, message: Message<'_>) -> Stored;
    /// Logs a persistent message that was held. No other queue logs the same message now.
    fn log_held(&mut self, queue: QueueId, seq: u64, message: Message<'_>) -> Stored;
    /// Appends a persistent message to the spilled messages of a durable queue without logging it.
    /// False: the store does not take it, and the message is to be logged.
    fn bypass_log(
        &mut self,
        queue: QueueId,
        seq: u64,
        expiry: Expiry,
        message: Message<'_>,
    ) -> bool;
    /// Logs a message once more, by itself, so that the place where the store has it can be freed.
    fn log_again(
        &mut self,
        queue: QueueId,
        seq: u64,
        old: (Stored, Expiry),
        message: Message<'_>,
    ) -> Stored;
    /// The queue has settled a message; the store may forget it.
    fn settled(&mut self, queue: QueueId, seq: u64, stored: Stored);
    /// The queue is being dropped, and with it a message that the store has.
    fn let_go(&mut self, stored: Stored);
    /// Moves a message from the queue's memory to the store. Sequence numbers increase.
    fn spill(&mut self, queue: QueueId, spilled: Spilled<'_>);
    /// A message of the queue has died and has to leave as a dead letter:
    /// [`crate::queue::QueueCommands::dying`] shows it, and
    /// [`crate::queue::QueueCommands::buried`] follows when the letter has arrived.
    fn died(&mut self, queue: QueueId);
    /// Reads the next spilled messages; [`crate::queue::QueueCommands::loaded`] follows for each,
    /// then [`crate::queue::QueueCommands::all_loaded`].
    fn fetch(&mut self, queue: QueueId);
    /// Settles all spilled messages of the queue. A fetch under way is cancelled.
    fn purge(&mut self, queue: QueueId);
    /// Settles spilled messages of the queue without reading them, the first ones first, as many
    /// as whole chunks allow and a bounded number. No fetch is under way.
    fn drop_spilled(&mut self, queue: QueueId, what: DropSpilled) -> DroppedSpilled;
}

/// Which spilled messages are to be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropSpilled {
    /// None: only the answer is of interest.
    Nothing,
    /// Those that have expired at this time in milliseconds since 1970.
    Expired(u64),
    /// The first ones: at most so many, or as long as their bodies have fewer bytes than these.
    First {
        /// How many.
        messages: u64,
        /// Bytes of their bodies.
        bodies: u64,
    },
}

/// Which spilled messages were dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DroppedSpilled {
    /// How many.
    pub messages: u64,
    /// Bytes of their bodies.
    pub bodies: u64,
    /// No spilled message that may be the first one now expires before this time.
    pub next: Expiry,
}

/// How far a queue came with what takes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct QueueProgress {
    /// Units of work that were done.
    pub used: u32,
    /// The last consumer of an auto-delete queue has gone; the queue is frozen.
    pub unused: bool,
}

/// An enqueue, as its source numbered it for this home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnqueueId {
    /// The shard of the publisher.
    pub source: ShardId,
    /// Counted from 1 over all that the source has sent to this home.
    pub number: u64,
}

/// How an enqueue that was held has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EnqueueEnd {
    /// The message is in the queue, or the queue is gone.
    Applied,
    /// The message is in the queue and in the log: it is confirmed when the log is durable.
    Logged,
    /// The queue is out of service.
    Refused,
}

/// A message between a queue and the store.
#[derive(Debug, Clone, Copy)]
pub struct Spilled<'a> {
    /// Its sequence number in its queue.
    pub seq: u64,
    /// It was delivered before.
    pub redelivered: bool,
    /// Where the store has it already.
    pub stored: Stored,
    /// When it expires.
    pub expiry: Expiry,
    /// The message.
    pub message: Message<'a>,
}

/// What a start has found of a queue's messages, all of them spilled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct RestoredMessages {
    /// How many.
    pub messages: u64,
    /// Their places in their lanes ([`crate::queue::lane`]) are below this one.
    pub next_seq: u64,
    /// Bytes of their bodies.
    pub bodies: u64,
    /// Some of them may expire.
    pub expires: bool,
    /// The lanes they are in.
    pub lanes: Vec<RestoredLane>,
}

/// What a start has found of one lane of a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct RestoredLane {
    /// Which one.
    pub lane: u16,
    /// How many messages.
    pub messages: u64,
    /// Bytes of their bodies.
    pub bodies: u64,
}

/// Where a delivery goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Addressed {
    /// The connection.
    pub conn: ConnId,
    /// The channel.
    pub channel: ChannelId,
    /// The consumer; 0 for a basic.get.
    pub consumer: ConsumerId,
    /// The queue.
    pub queue: QueueId,
    /// The queue's number for the delivery; 0: nothing to settle.
    pub number: u64,
    /// It was delivered before.
    pub redelivered: bool,
}

/// A message on its way to a channel.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// Where it goes.
    pub to: Addressed,
    /// What is delivered.
    pub message: Message<'a>,
}

/// What becomes of an unacknowledged message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Settle {
    /// It was processed.
    Ack,
    /// Back to its position.
    Requeue,
    /// Rejected: dropped.
    Drop,
}

/// Why a message dies: it leaves its queue though no consumer has processed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Death {
    /// A consumer rejected it.
    Rejected,
    /// It was in the queue for longer than it may live.
    Expired,
    /// The queue has reached its limit.
    MaxLength,
}

/// A message that has died and is still held, until its dead letter has arrived.
#[derive(Debug, Clone, Copy)]
pub struct Dying<'a> {
    /// The queue's number for it; those of later deaths are greater.
    pub number: u64,
    /// Why it died.
    pub death: Death,
    /// As it was in the queue.
    pub message: Message<'a>,
    /// Where it goes.
    pub target: &'a DeadLetterTarget,
}

/// A message that a channel cannot be sent: its header fits into no frame of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Unfit {
    /// The connection.
    pub conn: ConnId,
    /// The channel.
    pub channel: ChannelId,
    /// How it was to be sent.
    pub way: Way,
    /// Bytes of its encoded properties.
    pub properties: usize,
}

/// A delivery that was not settled in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Overdue {
    /// The connection.
    pub conn: ConnId,
    /// The channel that holds it.
    pub channel: ChannelId,
    /// The queue.
    pub queue: QueueId,
    /// The queue's number for the delivery.
    pub number: u64,
    /// The time that it had, in milliseconds.
    pub timeout_ms: u64,
}

/// How a message goes to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// To a consumer.
    Deliver,
    /// To a basic.get.
    Get,
    /// Back to its publisher.
    Return,
}

/// A basic.get: who asks, and where the answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Get {
    /// The request that is answered.
    pub ticket: RequestId,
    /// The connection of the channel.
    pub conn: ConnId,
    /// The channel that gets the message.
    pub channel: ChannelId,
    /// Acknowledged by being sent.
    pub no_ack: bool,
    /// Bytes of encoded properties that one frame to the connection carries.
    pub properties_max: usize,
}
