//! What a thread's consumers received, when and how late.

use crate::account::{Account, Receiver};
use crate::delivery::Delivery;
use crate::latency::Latency;

/// Messages that count for the rates, and when the last one was.
#[derive(Debug, Default, Clone, Copy)]
pub struct Measured {
    /// How many since the warm-up.
    pub count: u64,
    /// When the last one was (ns), 0 if there was none.
    pub last: u64,
}

impl Measured {
    /// `count` more at `now`.
    #[inline]
    pub fn add(&mut self, count: u64, now: u64) {
        self.count += count;
        self.last = self.last.max(now);
    }

    /// Adds what another thread measured.
    pub fn merge(&mut self, other: Measured) {
        self.count += other.count;
        self.last = self.last.max(other.last);
    }
}

/// The receipts of one thread.
#[derive(Debug)]
pub struct Ledger {
    /// Who got what.
    pub account: Account,
    /// From the intended time to the receipt.
    pub latency: Latency,
    /// The messages received after the warm-up.
    pub measured: Measured,
    /// Messages refused for good by a consumer.
    pub dropped: u64,
    /// Messages given back by a consumer.
    pub requeued: u64,
    measure_from: u64,
    received: u64,
}

impl Ledger {
    /// An empty ledger of a run of `producers` that began at `begin`; only messages that were to
    /// be sent at `measure_from` or later count for latencies.
    #[must_use]
    pub fn new(producers: usize, begin: u64, measure_from: u64) -> Self {
        Self {
            account: Account::new(producers, begin),
            latency: Latency::new(),
            measured: Measured::default(),
            dropped: 0,
            requeued: 0,
            measure_from,
            received: 0,
        }
    }

    /// The same, of a run whose consumers give messages back.
    #[must_use]
    pub fn giving_back(self, gives_back: bool) -> Self {
        Self { account: self.account.giving_back(gives_back), ..self }
    }

    /// How many different messages of the run came.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received + self.account.fresh_redelivered
    }

    /// A message came at `now` to a consumer.
    #[inline(always)]
    pub fn delivered(&mut self, delivery: &Delivery, now: u64, to: &mut Receiver) {
        let new = self.account.take(delivery.stamp, delivery.redelivered, to);
        if !new {
            return;
        }
        self.received += 1;
        if now >= self.measure_from {
            self.measured.add(1, now);
        }
        if let Some(stamp) = delivery.stamp
            && stamp.intended >= self.measure_from
        {
            self.latency.record(now.saturating_sub(stamp.intended));
        }
    }

    /// The same, for those who are not in a hurry: the hot path has its own copy.
    #[inline(never)]
    pub fn delivered_to_careful(&mut self, delivery: &Delivery, now: u64, to: &mut Receiver) {
        self.delivered(delivery, now, to);
    }
}
