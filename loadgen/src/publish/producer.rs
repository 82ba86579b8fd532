//! One producer: when it publishes, and what becomes of its messages. No socket, no clock.

use amqp::frame::{END, OVERHEAD, write_method};
use amqp::{Assembler, Method, Step};

use crate::client::methods::{CHANNEL, write_close};
use crate::client::methods::{MethodEffect, handle_common, unexpected};
use crate::client::receive_buffer::ReceiveBuffer;
use crate::messages::delivery::PartialDelivery;
use crate::messages::routing_keys::KeyCycle;
use crate::messages::stamp::Stamp;
use crate::publish::batch::PublishBatch;
use crate::publish::in_flight::InFlightLimit;
use crate::publish::results::PublishResults;
use crate::publish::schedule::{PublishSchedule, SteadySchedule};
use crate::system::error::LoadgenError;

/// The length of a basic.ack frame in bytes.
const ACK_LEN: usize = 13 + OVERHEAD;

/// The bytes of a basic.ack before its delivery tag: frame type 1, the channel, a payload of 13
/// bytes, class 60, method 80.
fn ack_head(channel: u16) -> [u8; 11] {
    let [high, low] = channel.to_be_bytes();
    [1, high, low, 0, 0, 0, 13, 0, 60, 0, 80]
}

/// What to do with a producer next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FillResult {
    /// Write its batch.
    Ready,
    /// Wait until this time (ns): nothing is due before.
    NotBefore(u64),
    /// Wait for an answer: the in-flight limit is reached, or channel.flow stopped the producer.
    LimitReached,
    /// Stop it: it has published everything.
    Finished,
}

/// One producer on one channel.
#[derive(Debug)]
pub struct ProducerChannel {
    /// The batch to be written.
    pub publishes: PublishBatch,
    index: u16,
    schedule: PublishSchedule,
    limit: u64,
    sent: u64,
    window: InFlightLimit,
    key_cycle: KeyCycle,
    channel: u16,
    ack_head: [u8; 11],
    assembler: Assembler,
    /// The returned message whose frames are arriving.
    returned: PartialDelivery,
    /// The broker stopped the producer with channel.flow.
    paused: bool,
    over: bool,
    closed: bool,
}

impl ProducerChannel {
    /// A producer on channel 1 with at most `limit` messages, if there is a limit.
    #[must_use]
    pub fn new(
        index: u16,
        publishes: PublishBatch,
        schedule: PublishSchedule,
        limit: Option<u64>,
        window: InFlightLimit,
    ) -> Self {
        Self {
            publishes,
            index,
            schedule,
            limit: limit.unwrap_or(u64::MAX),
            sent: 0,
            window,
            key_cycle: KeyCycle::plain(""),
            channel: CHANNEL,
            ack_head: ack_head(CHANNEL),
            assembler: Assembler::default(),
            returned: PartialDelivery::default(),
            paused: false,
            over: false,
            closed: false,
        }
    }

    /// The same on another channel.
    #[must_use]
    pub fn on_channel(self, channel: u16) -> Self {
        Self { channel, ack_head: ack_head(channel), ..self }
    }

    /// The same with other routing keys.
    #[must_use]
    pub fn with_keys(self, key_cycle: KeyCycle) -> Self {
        Self { key_cycle, ..self }
    }

    /// Fills the batch with the messages that are due. The last fill must be written.
    #[inline]
    pub fn fill(&mut self, now: u64, results: &mut PublishResults) -> FillResult {
        if self.over || self.sent >= self.limit || self.schedule.is_over(self.sent, now) {
            return FillResult::Finished;
        }
        let due = self.schedule.due(now).min(self.limit).saturating_sub(self.sent);
        if due == 0 {
            return FillResult::NotBefore(self.schedule.next(self.sent).max(now + 1));
        }
        let count = due.min(self.room()).min(self.publishes.capacity());
        if count == 0 {
            return FillResult::LimitReached;
        }
        self.publish(count, now, results);
        FillResult::Ready
    }

    fn publish(&mut self, count: u64, now: u64, results: &mut PublishResults) {
        let measured = match self.schedule.steady() {
            Some(schedule) if !self.publishes.is_varied() => {
                self.copies(schedule, count, now, results.measure_from)
            }
            _ => self.varied(count, now, results.measure_from),
        };
        results.sent += count;
        results.expected += self.key_cycle.weight(self.sent, count);
        self.sent += count;
        if measured > 0 {
            results.measured.add(measured, now);
        }
    }

    /// Fills the batch with copies of one message at a steady rate. Returns how many of them are
    /// measured.
    #[inline(always)]
    fn copies(&mut self, schedule: SteadySchedule, count: u64, now: u64, measure_from: u64) -> u64 {
        let (first, producer) = (self.sent, self.index);
        let mut open = self.window.open();
        let mut measured = 0;
        self.publishes.fill(count as usize, |n| {
            let sequence = first + n;
            let intended = schedule.intended(sequence, now);
            measured += u64::from(intended >= measure_from);
            if let Some(open) = &mut open {
                open.published(intended);
            }
            Stamp { intended, producer, sequence }
        });
        measured
    }

    /// Fills the batch with messages that differ, or at a rate that changes.
    #[inline(never)]
    fn varied(&mut self, count: u64, now: u64, measure_from: u64) -> u64 {
        let (first, producer, schedule) = (self.sent, self.index, &self.schedule);
        let mut open = self.window.open();
        let mut measured = 0;
        let mut stamp = |n| {
            let sequence = first + n;
            let intended = schedule.intended(sequence, now);
            measured += u64::from(intended >= measure_from);
            if let Some(open) = &mut open {
                open.published(intended);
            }
            Stamp { intended, producer, sequence }
        };
        match self.publishes.is_varied() {
            true => self.publishes.encode(count as usize, &mut stamp),
            false => self.publishes.fill(count as usize, stamp),
        }
        measured
    }

    fn room(&self) -> u64 {
        if self.paused {
            return 0;
        }
        match &self.window {
            InFlightLimit::Unlimited => u64::MAX,
            InFlightLimit::Confirms(confirms) => confirms.room(),
            InFlightLimit::Transactions { committing: true, .. } => 0,
            InFlightLimit::Transactions { open, .. } => open.room(),
            InFlightLimit::Arrivals { window, arrived } => {
                window.saturating_sub(self.sent.saturating_sub(*arrived))
            }
        }
    }

    /// Appends tx.commit if the transaction is full, or if it is the last one.
    pub fn commit(&mut self, out: &mut Vec<u8>) {
        let ended = self.over || self.sent >= self.limit;
        if let InFlightLimit::Transactions { size, open, committing } = &mut self.window
            && !*committing
            && (open.open() >= *size || ended && open.open() > 0)
        {
            write_method(out, self.channel, &Method::TxCommit {});
            *committing = true;
        }
    }

    /// When to fill the batch again (ns); `None` is at once.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        self.schedule.is_fixed().then(|| self.schedule.next(self.sent))
    }

    /// Stops publishing. Returns true if it was publishing.
    pub fn stop(&mut self) -> bool {
        !std::mem::replace(&mut self.over, true)
    }

    /// True if the producer has stopped.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// True once the broker has confirmed the close.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Starts an orderly close; channel 1 closes the whole connection.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        write_close(self.channel, out);
    }

    /// How many messages are written completely.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.sent - self.publishes.unwritten()
    }

    /// The deliveries to expect for the written messages, and how many of these messages are
    /// unroutable as intended.
    #[must_use]
    pub fn expected(&self) -> (u64, u64) {
        let written = self.written();
        (self.key_cycle.weight(0, written), self.key_cycle.unroutable(written))
    }

    /// How many messages were due by `now` (ns) and not sent.
    #[must_use]
    pub fn unsent(&self, now: u64) -> u64 {
        match self.schedule.is_fixed() {
            true => self.schedule.due(now).min(self.limit).saturating_sub(self.sent),
            false => 0,
        }
    }

    /// How many messages wait for a confirm.
    #[must_use]
    pub fn unconfirmed(&self) -> u64 {
        match &self.window {
            InFlightLimit::Confirms(open) | InFlightLimit::Transactions { open, .. } => open.open(),
            InFlightLimit::Unlimited | InFlightLimit::Arrivals { .. } => 0,
        }
    }

    /// Sets how many messages have arrived. Returns true if the producer's limit depends on it.
    pub fn arrived(&mut self, count: u64) -> bool {
        let InFlightLimit::Arrivals { arrived, .. } = &mut self.window else {
            return false;
        };
        *arrived = count;
        true
    }

    /// Handles all complete frames; `now` is when they were received (ns).
    ///
    /// # Errors
    /// The broker closed the channel or the connection, or broke the protocol.
    pub fn take(
        &mut self,
        incoming: &mut ReceiveBuffer,
        now: u64,
        results: &mut PublishResults,
        out: &mut Vec<u8>,
    ) -> Result<(), LoadgenError> {
        loop {
            while let Some((tag, multiple)) = self.ack_at_front(incoming.unread()) {
                incoming.take(ACK_LEN);
                results.confirmed += self.settle(tag, multiple, Some(now), results)?;
            }
            let Some(frame) = incoming.frame_of(self.channel)? else {
                return Ok(());
            };
            match self.assembler.frame(frame)? {
                Some(Step::Method(method)) => self.method(&method, now, results, out)?,
                Some(Step::Body { piece, complete }) => {
                    self.returned.body(piece);
                    if complete {
                        self.came_back(results);
                    }
                }
                Some(Step::Header { .. }) | None => {}
            }
        }
    }

    /// Counts a message that was returned.
    fn came_back(&mut self, results: &mut PublishResults) {
        let stamp = self.returned.finish().stamp;
        results.returned += stamp.map_or(1, |stamp| self.key_cycle.weight(stamp.sequence, 1));
    }

    /// The confirm at the start of `bytes`, if there is one.
    #[inline]
    fn ack_at_front(&self, bytes: &[u8]) -> Option<(u64, bool)> {
        let ack = bytes.first_chunk::<ACK_LEN>()?;
        let (head, rest) = ack.split_first_chunk::<11>()?;
        let (tag, rest) = rest.split_first_chunk::<8>()?;
        (*head == self.ack_head && rest[1] == END)
            .then(|| (u64::from_be_bytes(*tag), rest[0] & 1 == 1))
    }

    fn method(
        &mut self,
        method: &Method<'_>,
        now: u64,
        results: &mut PublishResults,
        out: &mut Vec<u8>,
    ) -> Result<(), LoadgenError> {
        match *method {
            Method::BasicAck { delivery_tag, multiple } => {
                results.confirmed += self.settle(delivery_tag, multiple, Some(now), results)?;
            }
            Method::BasicNack { delivery_tag, multiple, .. } => {
                self.settle(delivery_tag, multiple, None, results)?;
            }
            Method::BasicReturn { .. } => self.returned.begin(0, false),
            Method::TxCommitOk {} => results.confirmed += self.committed(now, results)?,
            _ => match handle_common(method, self.channel, out)? {
                MethodEffect::Closed => self.closed = true,
                MethodEffect::Flow(active) => self.paused = !active,
                MethodEffect::Done => {}
                MethodEffect::Other => return Err(unexpected(method, "producer")),
            },
        }
        Ok(())
    }

    fn settle(
        &mut self,
        tag: u64,
        multiple: bool,
        confirmed_at: Option<u64>,
        results: &mut PublishResults,
    ) -> Result<u64, LoadgenError> {
        let InFlightLimit::Confirms(confirms) = &mut self.window else {
            return Err(LoadgenError::Protocol("a confirm without confirm.select".to_owned()));
        };
        let key_cycle = &self.key_cycle;
        let settled = confirms.settle(tag, multiple, |tag, intended| match confirmed_at {
            Some(now) => results.answered(intended, now),
            // Messages are numbered from 0, confirms from 1.
            None => results.nacked += key_cycle.weight(tag - 1, 1),
        });
        settled.ok_or_else(|| {
            LoadgenError::Protocol(format!("a confirm for tag {tag}, which was never published"))
        })
    }

    fn committed(&mut self, now: u64, results: &mut PublishResults) -> Result<u64, LoadgenError> {
        let InFlightLimit::Transactions { open, committing, .. } = &mut self.window else {
            return Err(LoadgenError::Protocol("tx.commit-ok without tx.commit".to_owned()));
        };
        *committing = false;
        Ok(open.settle(0, true, |_, intended| results.answered(intended, now)).unwrap_or(0))
    }
}

#[cfg(test)]
#[path = "producer_test.rs"]
mod tests;
