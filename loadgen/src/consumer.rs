//! One consumer: deliveries in, acks out. No socket, no clock.

use amqp::frame::write_method;
use amqp::{Assembler, Method, Step};

use crate::account::Receiver;
use crate::care::Careful;
use crate::connection::{CHANNEL, goodbye};
use crate::delivery::{Delivery, Fit, Template, Unfinished};
use crate::failure::Failure;
use crate::incoming::Incoming;
use crate::ledger::Ledger;
use crate::methods::{Common, common, unexpected};

/// The tag every consumer uses; each has a channel of its own.
pub const CONSUMER_TAG: &str = "loadgen";

/// How deliveries are acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// The broker takes them for acknowledged.
    Automatic,
    /// One ack for so many; with `multiple` set if it is more than one.
    Every(u32),
}

/// How far the consumer has left the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Consuming,
    Cancelling { close: bool },
    Cancelled,
    Closing,
    Closed,
}

/// One consumer of one channel.
#[derive(Debug)]
pub struct Consumer {
    acks: Acks,
    limit: u64,
    taken: u64,
    last_tag: u64,
    unacked: u32,
    stage: Stage,
    template: Option<Template>,
    assembler: Assembler,
    unfinished: Unfinished,
    receiver: Receiver,
    channel: u16,
    care: Option<Box<Careful>>,
}

impl Consumer {
    /// A consumer that leaves the queue after `limit` messages, if there is a limit.
    #[must_use]
    pub fn new(acks: Acks, limit: Option<u64>) -> Self {
        Self {
            acks,
            limit: limit.unwrap_or(u64::MAX),
            taken: 0,
            last_tag: 0,
            unacked: 0,
            stage: Stage::Consuming,
            template: None,
            assembler: Assembler::default(),
            unfinished: Unfinished::default(),
            receiver: Receiver::default(),
            channel: CHANNEL,
            care: None,
        }
    }

    /// The same on another channel than the first, with its own book of messages.
    #[must_use]
    pub fn on_channel(self, channel: u16, book: usize) -> Self {
        Self { channel, receiver: Receiver::new(book), ..self }
    }

    /// The same, but it does more than acknowledge.
    #[must_use]
    pub fn with_care(self, care: Careful) -> Self {
        Self { care: Some(Box::new(care)), ..self }
    }

    /// When a careful consumer has something to do again.
    #[must_use]
    pub fn wakes_at(&self) -> Option<u64> {
        self.care.as_ref().and_then(|care| care.wakes_at())
    }

    /// Whether it has more than it can take care of.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.care.as_ref().is_some_and(|care| care.is_full())
    }

    /// Whether it has taken all it was to take.
    #[must_use]
    pub fn has_enough(&self) -> bool {
        self.taken >= self.limit
    }

    /// Whether the connection is closed in order.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.stage == Stage::Closed
    }

    /// Leaves the queue and then closes: what is under way is still taken.
    pub fn close(&mut self, now: u64, ledger: &mut Ledger, out: &mut Vec<u8>) {
        match self.stage {
            Stage::Consuming => self.cancel(out, true),
            Stage::Cancelling { .. } => self.stage = Stage::Cancelling { close: true },
            Stage::Cancelled => self.say_goodbye(now, ledger, out),
            Stage::Closing | Stage::Closed => {}
        }
    }

    fn cancel(&mut self, out: &mut Vec<u8>, close: bool) {
        let cancel = Method::BasicCancel { consumer_tag: CONSUMER_TAG, nowait: false };
        write_method(out, self.channel, &cancel);
        self.stage = Stage::Cancelling { close };
    }

    fn say_goodbye(&mut self, now: u64, ledger: &mut Ledger, out: &mut Vec<u8>) {
        if let Some(care) = &mut self.care {
            for (delivery, _) in care.finish(ledger, out) {
                ledger.delivered_to_careful(&delivery, now, &mut self.receiver);
            }
        }
        self.ack(out);
        goodbye(self.channel, out);
        self.stage = Stage::Closing;
    }

    /// Takes all whole frames; `now` is when they were received.
    ///
    /// # Errors
    /// The broker closed, cancelled the consumer or is out of step.
    pub fn take(
        &mut self,
        incoming: &mut Incoming,
        now: u64,
        ledger: &mut Ledger,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        loop {
            let plain = self.care.is_none() && self.assembler == Assembler::Idle;
            if plain && self.take_fast(incoming, now, ledger, out) {
                return Ok(());
            }
            let Some(frame) = incoming.frame_of(self.channel)? else {
                return Ok(());
            };
            let Some(step) = self.assembler.frame(frame)? else {
                continue;
            };
            self.step(step, now, ledger, out)?;
        }
    }

    /// Takes the deliveries at the front that look alike. Says whether only the start of one more
    /// is left.
    fn take_fast(
        &mut self,
        incoming: &mut Incoming,
        now: u64,
        ledger: &mut Ledger,
        out: &mut Vec<u8>,
    ) -> bool {
        let mut template = self.template.take();
        let (unread, mut at) = (incoming.unread(), 0);
        let waiting = loop {
            let rest = &unread[at..];
            match template.as_ref().map_or(Fit::No, |template| template.fit(rest)) {
                Fit::Whole(delivery) => {
                    at += template.as_ref().map_or(0, Template::len);
                    self.delivered(delivery, now, ledger, out);
                }
                Fit::Partial => break true,
                Fit::No => match Template::learn(rest, self.channel) {
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
        ledger: &mut Ledger,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        match step {
            Step::Method(Method::BasicDeliver { delivery_tag, redelivered, .. }) => {
                self.unfinished.begin(delivery_tag, redelivered);
            }
            Step::Method(method) => return self.method(&method, now, ledger, out),
            Step::Header { body_size: 0, .. } => {
                self.arrived(self.unfinished.finish(), now, ledger, out);
            }
            Step::Header { .. } => {}
            Step::Body { piece, complete } => {
                self.unfinished.body(piece);
                if complete {
                    self.arrived(self.unfinished.finish(), now, ledger, out);
                }
            }
        }
        Ok(())
    }

    fn method(
        &mut self,
        method: &Method<'_>,
        now: u64,
        ledger: &mut Ledger,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        match common(method, self.channel, out)? {
            Common::Closed => self.stage = Stage::Closed,
            Common::Done | Common::Flow(_) => {}
            Common::Other => match (method, self.stage) {
                (Method::BasicCancelOk { .. }, Stage::Cancelling { close: true }) => {
                    self.say_goodbye(now, ledger, out);
                }
                (Method::BasicCancelOk { .. }, Stage::Cancelling { close: false }) => {
                    self.stage = Stage::Cancelled;
                }
                (Method::TxCommitOk {}, _) => {}
                _ => return Err(unexpected(method, "consumer")),
            },
        }
        Ok(())
    }

    fn arrived(&mut self, delivery: Delivery, now: u64, ledger: &mut Ledger, out: &mut Vec<u8>) {
        match &mut self.care {
            None => self.delivered(delivery, now, ledger, out),
            Some(care) => {
                care.arrived(delivery, now);
                self.work(now, ledger, out);
            }
        }
    }

    /// Takes care of what has waited for its time.
    pub fn work(&mut self, now: u64, ledger: &mut Ledger, out: &mut Vec<u8>) {
        let automatic = self.acks == Acks::Automatic;
        while let Some(care) = &mut self.care
            && (automatic || self.taken < self.limit)
            && let Some(delivery) = care.next(now, ledger, out)
        {
            ledger.delivered_to_careful(&delivery, now, &mut self.receiver);
            self.taken += 1;
            if self.has_enough() && self.stage == Stage::Consuming {
                self.cancel(out, false);
            }
        }
    }

    #[inline]
    fn delivered(&mut self, delivery: Delivery, now: u64, ledger: &mut Ledger, out: &mut Vec<u8>) {
        let acked = self.acks != Acks::Automatic;
        // What comes over the limit stays unacknowledged and goes back to the queue.
        if acked && self.has_enough() {
            return;
        }
        ledger.delivered(&delivery, now, &mut self.receiver);
        self.taken += 1;
        if let Acks::Every(every) = self.acks {
            self.last_tag = delivery.tag;
            self.unacked += 1;
            if self.unacked >= every {
                self.ack(out);
            }
        }
        if self.has_enough() && self.stage == Stage::Consuming {
            self.ack(out);
            self.cancel(out, false);
        }
    }

    /// Acknowledges what is not yet.
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
