//! What a queue and the rest of the broker tell each other.

use crate::consumer::Ask;
use crate::ids::{ChannelId, ConnId, ConsumerId, QueueId, Ticket};
use crate::message::Message;

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
    /// The store is to keep the record.
    fn spill(&mut self, queue: QueueId, seq: u64, message: Message<'_>);
    /// The store is to bring the record; [`crate::Queue::loaded`] follows.
    fn fetch(&mut self, queue: QueueId, seq: u64);
    /// The store may forget the record.
    fn forget(&mut self, queue: QueueId, seq: u64);
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
