//! One producer: when to publish what, and what became of it. No socket, no clock.

use amqp::frame::{END, OVERHEAD, write_method};
use amqp::{Assembler, Method, Step};

use crate::account::Stamp;
use crate::confirms::Confirms;
use crate::connection::{CHANNEL, goodbye};
use crate::delivery::Unfinished;
use crate::failure::Failure;
use crate::incoming::Incoming;
use crate::latency::Latency;
use crate::ledger::Measured;
use crate::methods::{Common, common, unexpected};
use crate::pace::{Pace, Steady};
use crate::publishes::Publishes;
use crate::routes::Route;

/// Octets of a basic.ack.
const ACK_LEN: usize = 13 + OVERHEAD;

/// A basic.ack up to its delivery tag: frame head (13 octets of payload), class 60, method 80.
fn ack_head(channel: u16) -> [u8; 11] {
    let [high, low] = channel.to_be_bytes();
    [1, high, low, 0, 0, 0, 13, 0, 60, 0, 80]
}

/// What holds a producer back besides its schedule.
#[derive(Debug)]
pub enum Window {
    /// Nothing.
    Open,
    /// At most so many without a confirm.
    Confirms(Confirms),
    /// Transactions of so many; the next one begins when the last is committed.
    Transactions {
        /// Messages in a transaction.
        size: u64,
        /// Those that are not committed.
        open: Confirms,
        /// tx.commit was sent.
        committing: bool,
    },
    /// At most so many that have not arrived at a consumer of the same thread.
    Arrivals {
        /// The most that may be under way.
        window: u64,
        /// How many have arrived.
        arrived: u64,
    },
}

impl Window {
    /// The messages that wait for an answer, if there will be one.
    fn open(&mut self) -> Option<&mut Confirms> {
        match self {
            Window::Confirms(open) | Window::Transactions { open, .. } => Some(open),
            Window::Open | Window::Arrivals { .. } => None,
        }
    }
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
    /// Deliveries to expect of these.
    pub expected: u64,
    /// Messages confirmed or committed.
    pub confirmed: u64,
    /// Messages the broker refused, counted as the deliveries they were to be.
    pub nacked: u64,
    /// Messages that could not be routed and came back, counted in the same way.
    pub returned: u64,
}

impl Results {
    /// Nothing yet.
    #[must_use]
    pub fn new(measure_from: u64) -> Self {
        let (measured, latency) = (Measured::default(), Latency::new());
        let (sent, expected, confirmed, nacked, returned) = (0, 0, 0, 0, 0);
        Self { measured, latency, measure_from, sent, expected, confirmed, nacked, returned }
    }

    /// A message that was due at `intended` is confirmed at `now`.
    #[inline]
    fn answered(&mut self, intended: u64, now: u64) {
        if intended >= self.measure_from {
            self.latency.record(now.saturating_sub(intended));
        }
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
    route: Route,
    channel: u16,
    ack_head: [u8; 11],
    assembler: Assembler,
    /// The body of a message that comes back.
    returned: Unfinished,
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
            route: Route::plain(""),
            channel: CHANNEL,
            ack_head: ack_head(CHANNEL),
            assembler: Assembler::default(),
            returned: Unfinished::default(),
            paused: false,
            over: false,
            closed: false,
        }
    }

    /// The same on another channel than the first.
    #[must_use]
    pub fn on_channel(self, channel: u16) -> Self {
        Self { channel, ack_head: ack_head(channel), ..self }
    }

    /// The same with messages that go where `route` says.
    #[must_use]
    pub fn on_route(self, route: Route) -> Self {
        Self { route, ..self }
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
        let measured = match self.pace.steady() {
            Some(pace) if !self.publishes.is_varied() => {
                self.copies(pace, count, now, results.measure_from)
            }
            _ => self.varied(count, now, results.measure_from),
        };
        results.sent += count;
        results.expected += self.route.weight(self.sent, count);
        self.sent += count;
        if measured > 0 {
            results.measured.add(measured, now);
        }
    }

    /// Copies of one message at a steady rate. Says how many are measured.
    #[inline(always)]
    fn copies(&mut self, pace: Steady, count: u64, now: u64, measure_from: u64) -> u64 {
        let (first, producer) = (self.sent, self.index);
        let mut open = self.window.open();
        let mut measured = 0;
        self.publishes.fill(count as usize, |n| {
            let sequence = first + n;
            let intended = pace.intended(sequence, now);
            measured += u64::from(intended >= measure_from);
            if let Some(open) = &mut open {
                open.published(intended);
            }
            Stamp { intended, producer, sequence }
        });
        measured
    }

    /// Messages that differ, or a rate that does.
    #[inline(never)]
    fn varied(&mut self, count: u64, now: u64, measure_from: u64) -> u64 {
        let (first, producer, pace) = (self.sent, self.index, &self.pace);
        let mut open = self.window.open();
        let mut measured = 0;
        let mut stamp = |n| {
            let sequence = first + n;
            let intended = pace.intended(sequence, now);
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
            Window::Open => u64::MAX,
            Window::Confirms(confirms) => confirms.room(),
            Window::Transactions { committing: true, .. } => 0,
            Window::Transactions { open, .. } => open.room(),
            Window::Arrivals { window, arrived } => {
                window.saturating_sub(self.sent.saturating_sub(*arrived))
            }
        }
    }

    /// Commits a transaction that is full, or the last one, behind the publishes.
    pub fn commit(&mut self, out: &mut Vec<u8>) {
        let ended = self.over || self.sent >= self.limit;
        if let Window::Transactions { size, open, committing } = &mut self.window
            && !*committing
            && (open.open() >= *size || ended && open.open() > 0)
        {
            write_method(out, self.channel, &Method::TxCommit {});
            *committing = true;
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

    /// Says goodbye behind all publishes; the first channel for the whole connection.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        goodbye(self.channel, out);
    }

    /// How many messages it got rid of wholly.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.sent - self.publishes.unwritten()
    }

    /// Deliveries to expect of the messages that it got rid of, and how many of these messages go
    /// nowhere by rights.
    #[must_use]
    pub fn expected(&self) -> (u64, u64) {
        let written = self.written();
        (self.route.weight(0, written), self.route.nowhere(written))
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
            Window::Confirms(open) | Window::Transactions { open, .. } => open.open(),
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

    /// A message came back with its body.
    fn came_back(&mut self, results: &mut Results) {
        let stamp = self.returned.finish().stamp;
        results.returned += stamp.map_or(1, |stamp| self.route.weight(stamp.sequence, 1));
    }

    /// The confirm that `octets` begin with, if they do.
    #[inline]
    fn ack_at_front(&self, octets: &[u8]) -> Option<(u64, bool)> {
        let ack = octets.first_chunk::<ACK_LEN>()?;
        let (head, rest) = ack.split_first_chunk::<11>()?;
        let (tag, rest) = rest.split_first_chunk::<8>()?;
        (*head == self.ack_head && rest[1] == END)
            .then(|| (u64::from_be_bytes(*tag), rest[0] & 1 == 1))
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
                self.settle(delivery_tag, multiple, None, results)?;
            }
            Method::BasicReturn { .. } => self.returned.begin(0, false),
            Method::TxCommitOk {} => results.confirmed += self.committed(now, results)?,
            _ => match common(method, self.channel, out)? {
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
        let route = &self.route;
        let settled = confirms.settle(tag, multiple, |tag, intended| match confirmed_at {
            Some(now) => results.answered(intended, now),
            // Messages are numbered from 0, confirms from 1.
            None => results.nacked += route.weight(tag - 1, 1),
        });
        settled.ok_or_else(|| Failure::Protocol(format!("a confirm of {tag}, never published")))
    }

    fn committed(&mut self, now: u64, results: &mut Results) -> Result<u64, Failure> {
        let Window::Transactions { open, committing, .. } = &mut self.window else {
            return Err(Failure::Protocol("tx.commit-ok without tx.commit".to_owned()));
        };
        *committing = false;
        Ok(open.settle(0, true, |_, intended| results.answered(intended, now)).unwrap_or(0))
    }
}

#[cfg(test)]
#[path = "producer_test.rs"]
mod tests;
