//! What a queue and the rest of the broker tell each other.

use crate::consumer::Ask;
use crate::ids::{ChannelId, ConnId, ConsumerId, QueueId, Ticket};
use crate::message::Message;
use crate::stored::Stored;

/// What a queue does to the rest of the broker.
pub trait Outlet {
    /// Whether the connection may be sent a message now. Once this said no, the queue is told by
    /// [`crate::Queue::reopen`] when it may again.
    fn open(&mut self, queue: QueueId, conn: ConnId) -> bool;
    /// Asks a channel for permits. `None`: the answer comes later, by [`crate::Queue::permitted`].
    fn ask(&mut self, queue: QueueId, ask: Ask) -> Option<u32>;
    /// A message goes to a consumer.
    fn deliver(&mut self, delivery: Delivery<'_>);
    /// A message goes to a basic.get; so many stay ready.
    fn got(&mut self, ticket: Ticket, remaining: u32, delivery: Delivery<'_>);
    /// basic.get found no message.
    fn empty(&mut self, ticket: Ticket);
    /// A message did not enter: the queue is out of service.
    fn refuse(&mut self);
    /// A persistent message has entered a durable queue: the store is to log it. What was logged
    /// before may be the same message, in another queue.
    fn log(&mut self, queue: QueueId, seq: u64, message: Message<'_>) -> Stored;
    /// A persistent message has entered a durable queue whose last messages are away: the store is
    /// to keep it with them and log nothing. False: it does not, the message is logged.
    fn write_through(&mut self, queue: QueueId, seq: u64, message: Message<'_>) -> bool;
    /// A message is to leave the place where the store has it: it is logged once more, by itself.
    /// The old place is let go of.
    fn log_again(&mut self, queue: QueueId, seq: u64, old: Stored, message: Message<'_>) -> Stored;
    /// The store may forget a message that it has somewhere: the queue has settled it.
    fn settled(&mut self, queue: QueueId, seq: u64, stored: Stored);
    /// The queue is being deleted, and with it a message that the store has somewhere.
    fn let_go(&mut self, stored: Stored);
    /// The store is to keep the message for the queue, which forgets it. Sequence numbers increase.
    fn spill(&mut self, queue: QueueId, spilled: Spilled<'_>);
    /// The store is to bring the next messages that the queue has spilled;
    /// [`crate::Queue::loaded`] follows for each, then [`crate::Queue::brought`].
    fn fetch(&mut self, queue: QueueId);
    /// All that the queue has spilled is settled, and what is being fetched will not come.
    fn purge(&mut self, queue: QueueId);
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
    /// The message.
    pub message: Message<'a>,
}

/// Where a delivery goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settle {
    /// It was processed.
    Ack,
    /// Back to its position.
    Requeue,
    /// Rejected: dropped.
    Drop,
}

/// A basic.get: who asks, and where the answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Get {
    /// The question's ticket.
    pub ticket: Ticket,
    /// Who gets it.
    pub conn: ConnId,
    /// Who gets it.
    pub channel: ChannelId,
    /// Acknowledged by being sent.
    pub no_ack: bool,
}
