//! One producer: when to publish what, and what became of it. No socket, no clock.

use amqp::frame::{END, OVERHEAD, write_method};
use amqp::{Assembler, Method, Step};

use crate::account::Stamp;
use crate::confirms::Confirms;
use crate::connection::CLOSE;
use crate::failure::Failure;
use crate::incoming::Incoming;
use crate::latency::Latency;
use crate::ledger::Measured;
use crate::methods::{Common, common, unexpected};
use crate::pace::Pace;
use crate::publishes::Publishes;

/// A basic.ack on channel 1 up to its delivery tag: frame head (13 octets of payload), class 60,
/// method 80.
const ACK_HEAD: [u8; 11] = [1, 0, 1, 0, 0, 0, 13, 0, 60, 0, 80];
const ACK_LEN: usize = 13 + OVERHEAD;

/// What holds a producer back besides its schedule.
#[derive(Debug)]
pub enum Window {
    /// Nothing.
    Open,
    /// At most so many without a confirm.
    Confirms(Confirms),
    /// At most so many that have not arrived at a consumer of the same thread.
    Arrivals {
        /// The most that may be under way.
        window: u64,
        /// How many have arrived.
        arrived: u64,
    },
}

/// What to do with a producer next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// Messages are ready to be written.
    Ready,
    /// Nothing is due before this time (ns).
    At(u64),
    /// The window is full, or the broker asked to stop.
    Held,
    /// It has published all it was to publish.
    Over,
}

/// How producers of a thread fared.
#[derive(Debug)]
pub struct Results {
    /// Messages after the warm-up.
    pub measured: Measured,
    /// From the intended time to the confirm.
    pub latency: Latency,
    /// Only messages that were to be sent at this time (ns) or later are measured.
    pub measure_from: u64,
    /// Messages made ready for the socket.
    pub sent: u64,
    /// Messages confirmed.
    pub confirmed: u64,
    /// Messages the broker refused.
    pub nacked: u64,
    /// Messages that could not be routed and came back.
    pub returned: u64,
}

impl Results {
    /// Nothing yet.
    #[must_use]
    pub fn new(measure_from: u64) -> Self {
        let (measured, latency) = (Measured::default(), Latency::new());
        Self { measured, latency, measure_from, sent: 0, confirmed: 0, nacked: 0, returned: 0 }
    }
}

/// One producer of one channel.
#[derive(Debug)]
pub struct Producer {
    /// The messages to be written.
    pub publishes: Publishes,
    index: u16,
    pace: Pace,
    limit: u64,
    sent: u64,
    window: Window,
    assembler: Assembler,
    /// The broker asked to stop by channel.flow.
    paused: bool,
    over: bool,
    closed: bool,
}

impl Producer {
    /// A producer that publishes at most `limit` messages, if there is a limit.
    #[must_use]
    pub fn new(
        index: u16,
        publishes: Publishes,
        pace: Pace,
        limit: Option<u64>,
        window: Window,
    ) -> Self {
        Self {
            publishes,
            index,
            pace,
            limit: limit.unwrap_or(u64::MAX),
            sent: 0,
            window,
            assembler: Assembler::default(),
            paused: false,
            over: false,
            closed: false,
        }
    }

    /// Makes ready what is due; the last fill must be written.
    #[inline]
    pub fn fill(&mut self, now: u64, results: &mut Results) -> Fill {
        if self.over || self.sent >= self.limit || self.pace.is_over(self.sent, now) {
            return Fill::Over;
        }
        let due = self.pace.due(now).min(self.limit).saturating_sub(self.sent);
        if due == 0 {
            return Fill::At(self.pace.next(self.sent).max(now + 1));
        }
        let count = due.min(self.room()).min(self.publishes.capacity());
        if count == 0 {
            return Fill::Held;
        }
        self.publish(count, now, results);
        Fill::Ready
    }

    fn publish(&mut self, count: u64, now: u64, results: &mut Results) {
        let (first, producer, pace) = (self.sent, self.index, self.pace);
        let window = &mut self.window;
        let mut measured = 0;
        self.publishes.fill(count as usize, |n| {
            let sequence = first + n;
            let intended = pace.intended(sequence, now);
            measured += u64::from(intended >= results.measure_from);
            if let Window::Confirms(confirms) = window {
                confirms.published(intended);
            }
            Stamp { intended, producer, sequence }
        });
        self.sent += count;
        results.sent += count;
        if measured > 0 {
            results.measured.add(measured, now);
        }
    }

    fn room(&self) -> u64 {
        if self.paused {
            return 0;
        }
        match &self.window {
            Window::Open => u64::MAX,
            Window::Confirms(confirms) => confirms.room(),
            Window::Arrivals { window, arrived } => {
                window.saturating_sub(self.sent.saturating_sub(*arrived))
            }
        }
    }

    /// When to come back after a fill was written; `None` is at once.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        self.pace.is_fixed().then(|| self.pace.next(self.sent))
    }

    /// Publishes no more. Says whether that is news.
    pub fn stop(&mut self) -> bool {
        !std::mem::replace(&mut self.over, true)
    }

    /// Whether it publishes no more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Whether the connection is closed in order.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Says goodbye behind all publishes.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        write_method(out, 0, &CLOSE);
    }

    /// How many messages it got rid of wholly.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.sent - self.publishes.unwritten()
    }

    /// How many were due by `now` and not sent.
    #[must_use]
    pub fn unsent(&self, now: u64) -> u64 {
        match self.pace.is_fixed() {
            true => self.pace.due(now).min(self.limit).saturating_sub(self.sent),
            false => 0,
        }
    }

    /// How many wait for a confirm.
    #[must_use]
    pub fn unconfirmed(&self) -> u64 {
        match &self.window {
            Window::Confirms(confirms) => confirms.open(),
            Window::Open | Window::Arrivals { .. } => 0,
        }
    }

    /// So many messages have arrived by now. Says whether the producer waits for arrivals.
    pub fn arrived(&mut self, count: u64) -> bool {
        let Window::Arrivals { arrived, .. } = &mut self.window else {
            return false;
        };
        *arrived = count;
        true
    }

    /// Takes all whole frames; `now` is when they were received.
    ///
    /// # Errors
    /// The broker closed or is out of step.
    pub fn take(
        &mut self,
        incoming: &mut Incoming,
        now: u64,
        results: &mut Results,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        loop {
            while let Some((tag, multiple)) = ack_at_front(incoming.unread()) {
                incoming.take(ACK_LEN);
                results.confirmed += self.settle(tag, multiple, Some(now), results)?;
            }
            let Some(frame) = incoming.frame()? else {
                return Ok(());
            };
            let Some(step) = self.assembler.frame(frame)? else {
                continue;
            };
            if let Step::Method(method) = step {
                self.method(&method, now, results, out)?;
            }
        }
    }

    fn method(
        &mut self,
        method: &Method<'_>,
        now: u64,
        results: &mut Results,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        match *method {
            Method::BasicAck { delivery_tag, multiple } => {
                results.confirmed += self.settle(delivery_tag, multiple, Some(now), results)?;
            }
            Method::BasicNack { delivery_tag, multiple, .. } => {
                results.nacked += self.settle(delivery_tag, multiple, None, results)?;
            }
            Method::BasicReturn { .. } => results.returned += 1,
            _ => match common(method, out)? {
                Common::Closed => self.closed = true,
                Common::Flow(active) => self.paused = !active,
                Common::Done => {}
                Common::Other => return Err(unexpected(method, "producer")),
            },
        }
        Ok(())
    }

    fn settle(
        &mut self,
        tag: u64,
        multiple: bool,
        confirmed_at: Option<u64>,
        results: &mut Results,
    ) -> Result<u64, Failure> {
        let Window::Confirms(confirms) = &mut self.window else {
            return Err(Failure::Protocol("a confirm without confirm.select".to_owned()));
        };
        let settled = confirms.settle(tag, multiple, |intended| {
            if let Some(now) = confirmed_at
                && intended >= results.measure_from
            {
                results.latency.record(now.saturating_sub(intended));
            }
        });
        settled.ok_or_else(|| Failure::Protocol(format!("a confirm of {tag}, never published")))
    }
}

/// The confirm that `octets` begin with, if they do.
#[inline]
fn ack_at_front(octets: &[u8]) -> Option<(u64, bool)> {
    let ack = octets.first_chunk::<ACK_LEN>()?;
    let (head, rest) = ack.split_first_chunk::<11>()?;
    let (tag, rest) = rest.split_first_chunk::<8>()?;
    (*head == ACK_HEAD && rest[1] == END).then(|| (u64::from_be_bytes(*tag), rest[0] & 1 == 1))
}

#[cfg(test)]
#[path = "producer_test.rs"]
mod tests;
