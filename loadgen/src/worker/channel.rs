//! The channels of a worker: a producer, a consumer or an idle one.

use crate::account::receipts::Receipts;
use crate::client::receive_buffer::ReceiveBuffer;
use crate::consume::consumer::ConsumerChannel;
use crate::publish::producer::ProducerChannel;
use crate::publish::results::PublishResults;
use crate::system::error::LoadgenError;
use crate::worker::idle::IdleChannel;

/// What a channel is used for.
#[derive(Debug)]
pub enum ChannelRole {
    /// It publishes.
    Producer(Box<ProducerChannel>),
    /// It consumes.
    Consumer(Box<ConsumerChannel>),
    /// The only channel of an idle connection.
    Idle(IdleChannel),
}

/// A channel of a worker.
#[derive(Debug)]
pub struct WorkerChannel {
    /// The index of its connection.
    pub connection: usize,
    /// What it is used for.
    pub role: ChannelRole,
}

impl ChannelRole {
    /// Handles this channel's frames at the front of the buffer. Returns true if a consumer
    /// reached its message limit with them.
    ///
    /// # Errors
    /// The broker closed the channel or the connection, or broke the protocol.
    pub fn take(
        &mut self,
        incoming: &mut ReceiveBuffer,
        now: u64,
        (receipts, results): (&mut Receipts, &mut PublishResults),
        out: &mut Vec<u8>,
    ) -> Result<bool, LoadgenError> {
        match self {
            ChannelRole::Producer(producer) => producer.take(incoming, now, results, out)?,
            ChannelRole::Idle(idle) => idle.take(incoming, out)?,
            ChannelRole::Consumer(consumer) => {
                let had_enough = consumer.has_enough();
                consumer.take(incoming, now, receipts, out)?;
                return Ok(consumer.has_enough() && !had_enough);
            }
        }
        Ok(false)
    }

    /// Starts an orderly close.
    pub fn close(&mut self, now: u64, receipts: &mut Receipts, out: &mut Vec<u8>) {
        match self {
            ChannelRole::Producer(producer) => producer.close(out),
            ChannelRole::Consumer(consumer) => consumer.close(now, receipts, out),
            ChannelRole::Idle(idle) => idle.close(out),
        }
    }

    /// True once the broker has confirmed the close; for channel 1, that of the connection.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match self {
            ChannelRole::Producer(producer) => producer.is_closed(),
            ChannelRole::Consumer(consumer) => consumer.is_closed(),
            ChannelRole::Idle(idle) => idle.is_closed(),
        }
    }

    /// True if it is a consumer with too many unprocessed deliveries.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, ChannelRole::Consumer(consumer) if consumer.is_full())
    }

    /// When a consumer has something to do (ns), if it waits for a time.
    #[must_use]
    pub fn wakes_at(&self) -> Option<u64> {
        match self {
            ChannelRole::Consumer(consumer) => consumer.wakes_at(),
            _ => None,
        }
    }

    /// The producer, if it is one.
    #[must_use]
    pub fn producer(&self) -> Option<&ProducerChannel> {
        match self {
            ChannelRole::Producer(producer) => Some(producer),
            _ => None,
        }
    }
}
