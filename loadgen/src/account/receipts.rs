//! What the consumers of one thread received, when, and with which latency.

use crate::account::delivery_account::{DeliveryAccount, ReceiverState};
use crate::measure::latency::LatencyRecorder;
use crate::measure::measured_count::MeasuredCount;
use crate::messages::delivery::ReceivedMessage;

/// The receipts of one thread.
#[derive(Debug)]
pub struct Receipts {
    /// Which messages were received, and how often.
    pub account: DeliveryAccount,
    /// Latency from the intended send time to the receipt.
    pub latency: LatencyRecorder,
    /// The messages received after the warm-up.
    pub measured: MeasuredCount,
    /// Messages that a consumer rejected without requeue.
    pub dropped: u64,
    /// Messages that a consumer requeued.
    pub requeued: u64,
    measure_from: u64,
    received: u64,
}

impl Receipts {
    /// No receipts, in a run of `producers` producers that started at `begin`. Latencies are
    /// recorded for messages due at `measure_from` (ns) or later.
    #[must_use]
    pub fn new(producers: usize, begin: u64, measure_from: u64) -> Self {
        Self {
            account: DeliveryAccount::new(producers, begin),
            latency: LatencyRecorder::new(),
            measured: MeasuredCount::default(),
            dropped: 0,
            requeued: 0,
            measure_from,
            received: 0,
        }
    }

    /// The same for a run whose consumers requeue messages.
    #[must_use]
    pub fn requeuing(self, requeues: bool) -> Self {
        Self { account: self.account.requeuing(requeues), ..self }
    }

    /// Distinct messages of this run.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received + self.account.redelivered_unseen
    }

    /// Counts a message that a consumer received at `now` (ns).
    #[inline(always)]
    pub fn delivered(&mut self, delivery: &ReceivedMessage, now: u64, to: &mut ReceiverState) {
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

    /// The same for consumers with an ack policy, out of line so that the fast path stays small.
    #[inline(never)]
    pub fn delivered_out_of_line(
        &mut self,
        delivery: &ReceivedMessage,
        now: u64,
        to: &mut ReceiverState,
    ) {
        self.delivered(delivery, now, to);
    }
}
