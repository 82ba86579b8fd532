//! One consumer: deliveries in, acks out. No socket, no clock.

use amqp::frame::write_method;
use amqp::{Assembler, Method, Step};

use crate::account::delivery_account::ReceiverState;
use crate::account::receipts::Receipts;
use crate::client::methods::{CHANNEL, write_close};
use crate::client::methods::{MethodEffect, handle_common, unexpected};
use crate::client::receive_buffer::ReceiveBuffer;
use crate::consume::ack_policy::DeliveryProcessor;
use crate::consume::template::{DeliveryTemplate, TemplateMatch};
use crate::messages::delivery::{PartialDelivery, ReceivedMessage};
use crate::system::error::LoadgenError;

/// The consumer tag of every consumer; each has its own channel.
pub const CONSUMER_TAG: &str = "loadgen";

/// How deliveries are acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckMode {
    /// The broker counts a delivery as acknowledged when it is sent.
    Automatic,
    /// One ack for this many deliveries, with `multiple` set if it is more than one.
    Every(u32),
}

/// The life cycle of a consumer, from basic.consume to the confirmed close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConsumerState {
    Consuming,
    Cancelling { close: bool },
    Cancelled,
    Closing,
    Closed,
}

/// One consumer on one channel.
#[derive(Debug)]
pub struct ConsumerChannel {
    acks: AckMode,
    limit: u64,
    taken: u64,
    last_tag: u64,
    unacked: u32,
    state: ConsumerState,
    template: Option<DeliveryTemplate>,
    assembler: Assembler,
    unfinished: PartialDelivery,
    receiver: ReceiverState,
    channel: u16,
    processor: Option<Box<DeliveryProcessor>>,
}

impl ConsumerChannel {
    /// A consumer on channel 1 that cancels itself after `limit` messages, if there is a limit.
    #[must_use]
    pub fn new(acks: AckMode, limit: Option<u64>) -> Self {
        Self {
            acks,
            limit: limit.unwrap_or(u64::MAX),
            taken: 0,
            last_tag: 0,
            unacked: 0,
            state: ConsumerState::Consuming,
            template: None,
            assembler: Assembler::default(),
            unfinished: PartialDelivery::default(),
            receiver: ReceiverState::default(),
            channel: CHANNEL,
            processor: None,
        }
    }

    /// The same on another channel, with the sequence set `set`.
    #[must_use]
    pub fn on_channel(self, channel: u16, set: usize) -> Self {
        Self { channel, receiver: ReceiverState::new(set), ..self }
    }

    /// The same with an ack policy.
    #[must_use]
    pub fn with_processor(self, processor: DeliveryProcessor) -> Self {
        Self { processor: Some(Box::new(processor)), ..self }
    }

    /// When a consumer with an ack policy has something to do again (ns).
    #[must_use]
    pub fn wakes_at(&self) -> Option<u64> {
        self.processor.as_ref().and_then(|processor| processor.wakes_at())
    }

    /// True if too many deliveries wait for processing.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.processor.as_ref().is_some_and(|processor| processor.is_full())
    }

    /// True if the message limit is reached.
    #[must_use]
    pub fn has_enough(&self) -> bool {
        self.taken >= self.limit
    }

    /// True once the broker has confirmed the close.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state == ConsumerState::Closed
    }

    /// Cancels the consumer and then closes the channel. Deliveries in flight are still received.
    pub fn close(&mut self, now: u64, receipts: &mut Receipts, out: &mut Vec<u8>) {
        match self.state {
            ConsumerState::Consuming => self.cancel(out, true),
            ConsumerState::Cancelling { .. } => {
                self.state = ConsumerState::Cancelling { close: true }
            }
            ConsumerState::Cancelled => self.close_now(now, receipts, out),
            ConsumerState::Closing | ConsumerState::Closed => {}
        }
    }

    fn cancel(&mut self, out: &mut Vec<u8>, close: bool) {
        let cancel = Method::BasicCancel { consumer_tag: CONSUMER_TAG, nowait: false };
        write_method(out, self.channel, &cancel);
        self.state = ConsumerState::Cancelling { close };
    }

    fn close_now(&mut self, now: u64, receipts: &mut Receipts, out: &mut Vec<u8>) {
        if let Some(processor) = &mut self.processor {
            for (delivery, _) in processor.finish(receipts, out) {
                receipts.delivered_out_of_line(&delivery, now, &mut self.receiver);
            }
        }
        self.ack(out);
        write_close(self.channel, out);
        self.state = ConsumerState::Closing;
    }

    /// Handles all complete frames; `now` is when they were received (ns).
    ///
    /// # Errors
    /// The broker closed the channel or the connection, cancelled the consumer or broke the
    /// protocol.
    pub fn take(
        &mut self,
        incoming: &mut ReceiveBuffer,
        now: u64,
        receipts: &mut Receipts,
        out: &mut Vec<u8>,
    ) -> Result<(), LoadgenError> {
        loop {
            let plain = self.processor.is_none() && self.assembler == Assembler::Idle;
            if plain && self.take_fast(incoming, now, receipts, out) {
                return Ok(());
            }
            let Some(frame) = incoming.frame_of(self.channel)? else {
                return Ok(());
            };
            let Some(step) = self.assembler.frame(frame)? else {
                continue;
            };
            self.step(step, now, receipts, out)?;
        }
    }

    /// Handles the deliveries at the front of the buffer that match the template. Returns true if
    /// only the start of another such delivery is left.
    fn take_fast(
        &mut self,
        incoming: &mut ReceiveBuffer,
        now: u64,
        receipts: &mut Receipts,
        out: &mut Vec<u8>,
    ) -> bool {
        let mut template = self.template.take();
        let (unread, mut at) = (incoming.unread(), 0);
        let waiting = loop {
            let rest = &unread[at..];
            match template.as_ref().map_or(TemplateMatch::No, |template| template.fit(rest)) {
                TemplateMatch::Whole(delivery) => {
                    at += template.as_ref().map_or(0, DeliveryTemplate::len);
                    self.delivered(delivery, now, receipts, out);
                }
                TemplateMatch::Partial => break true,
                TemplateMatch::No => match DeliveryTemplate::learn(rest, self.channel) {
                    Some(learnt) => template = Some(learnt),
                    None => break false,
                },
            }
        };
        incoming.take(at);
        self.template = template;
        waiting
    }

    fn step(
        &mut self,
        step: Step<'_>,
        now: u64,
        receipts: &mut Receipts,
        out: &mut Vec<u8>,
    ) -> Result<(), LoadgenError> {
        match step {
            Step::Method(Method::BasicDeliver { delivery_tag, redelivered, .. }) => {
                self.unfinished.begin(delivery_tag, redelivered);
            }
            Step::Method(method) => return self.method(&method, now, receipts, out),
            Step::Header { body_size: 0, .. } => {
                self.arrived(self.unfinished.finish(), now, receipts, out);
            }
            Step::Header { .. } => {}
            Step::Body { piece, complete } => {
                self.unfinished.body(piece);
                if complete {
                    self.arrived(self.unfinished.finish(), now, receipts, out);
                }
            }
        }
        Ok(())
    }

    fn method(
        &mut self,
        method: &Method<'_>,
        now: u64,
        receipts: &mut Receipts,
        out: &mut Vec<u8>,
    ) -> Result<(), LoadgenError> {
        match handle_common(method, self.channel, out)? {
            MethodEffect::Closed => self.state = ConsumerState::Closed,
            MethodEffect::Done | MethodEffect::Flow(_) => {}
            MethodEffect::Other => match (method, self.state) {
                (Method::BasicCancelOk { .. }, ConsumerState::Cancelling { close: true }) => {
                    self.close_now(now, receipts, out);
                }
                (Method::BasicCancelOk { .. }, ConsumerState::Cancelling { close: false }) => {
                    self.state = ConsumerState::Cancelled;
                }
                (Method::TxCommitOk {}, _) => {}
                _ => return Err(unexpected(method, "consumer")),
            },
        }
        Ok(())
    }

    fn arrived(
        &mut self,
        delivery: ReceivedMessage,
        now: u64,
        receipts: &mut Receipts,
        out: &mut Vec<u8>,
    ) {
        match &mut self.processor {
            None => self.delivered(delivery, now, receipts, out),
            Some(processor) => {
                processor.arrived(delivery, now);
                self.process(now, receipts, out);
            }
        }
    }

    /// Processes the waiting deliveries whose time has come.
    pub fn process(&mut self, now: u64, receipts: &mut Receipts, out: &mut Vec<u8>) {
        let automatic = self.acks == AckMode::Automatic;
        while let Some(processor) = &mut self.processor
            && (automatic || self.taken < self.limit)
            && let Some(delivery) = processor.next(now, receipts, out)
        {
            receipts.delivered_out_of_line(&delivery, now, &mut self.receiver);
            self.taken += 1;
            if self.has_enough() && self.state == ConsumerState::Consuming {
                self.cancel(out, false);
            }
        }
    }

    #[inline]
    fn delivered(
        &mut self,
        delivery: ReceivedMessage,
        now: u64,
        receipts: &mut Receipts,
        out: &mut Vec<u8>,
    ) {
        let acked = self.acks != AckMode::Automatic;
        // Deliveries over the limit stay unacknowledged and return to the queue.
        if acked && self.has_enough() {
            return;
        }
        receipts.delivered(&delivery, now, &mut self.receiver);
        self.taken += 1;
        if let AckMode::Every(every) = self.acks {
            self.last_tag = delivery.tag;
            self.unacked += 1;
            if self.unacked >= every {
                self.ack(out);
            }
        }
        if self.has_enough() && self.state == ConsumerState::Consuming {
            self.ack(out);
            self.cancel(out, false);
        }
    }

    /// Acknowledges all received deliveries that are not acknowledged yet.
    #[inline]
    fn ack(&mut self, out: &mut Vec<u8>) {
        if self.unacked > 0 {
            let (delivery_tag, multiple) = (self.last_tag, self.unacked > 1);
            write_method(out, self.channel, &Method::BasicAck { delivery_tag, multiple });
            self.unacked = 0;
        }
    }
}

#[cfg(test)]
#[path = "consumer_test.rs"]
mod tests;
