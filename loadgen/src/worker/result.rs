//! The results of one worker, or of several added up.

use crate::account::delivery_account::DeliveryAccount;
use crate::measure::latency::LatencyRecorder;
use crate::measure::measured_count::MeasuredCount;

/// The results of a worker's connections.
#[derive(Debug, Default)]
pub struct WorkerResult {
    /// Which messages were received, and how often.
    pub account: DeliveryAccount,
    /// Latency from the intended send time to the receipt.
    pub latency: LatencyRecorder,
    /// Latency from the intended send time to the confirm.
    pub confirm_latency: LatencyRecorder,
    /// Messages received after the warm-up.
    pub received: MeasuredCount,
    /// Messages sent after the warm-up.
    pub sent: MeasuredCount,
    /// Messages written completely.
    pub written: u64,
    /// The deliveries expected for these messages.
    pub expected: u64,
    /// Messages that match no binding, as intended.
    pub unroutable: u64,
    /// Messages that consumers rejected without requeue.
    pub dropped: u64,
    /// Messages that consumers requeued.
    pub requeued: u64,
    /// Idle connections that the broker ended.
    pub idle_lost: u64,
    /// Messages that were due and not sent.
    pub unsent: u64,
    /// Messages returned.
    pub returned: u64,
    /// Messages confirmed.
    pub confirmed: u64,
    /// Messages that the broker nacked.
    pub nacked: u64,
    /// Messages without a confirm at the end.
    pub unconfirmed: u64,
    /// Connections whose close was not answered in time.
    pub unanswered: u64,
    /// CPU time of the worker's thread (ns).
    pub cpu: u64,
}

impl WorkerResult {
    /// Adds the results of another worker.
    pub fn add(&mut self, other: WorkerResult) {
        self.account.add(other.account);
        self.latency.add(other.latency);
        self.confirm_latency.add(other.confirm_latency);
        self.received.merge(other.received);
        self.sent.merge(other.sent);
        self.written += other.written;
        self.expected += other.expected;
        self.unroutable += other.unroutable;
        self.dropped += other.dropped;
        self.requeued += other.requeued;
        self.idle_lost += other.idle_lost;
        self.unsent += other.unsent;
        self.returned += other.returned;
        self.confirmed += other.confirmed;
        self.nacked += other.nacked;
        self.unconfirmed += other.unconfirmed;
        self.unanswered += other.unanswered;
        self.cpu += other.cpu;
    }
}
