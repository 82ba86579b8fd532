//! The results of all producers of one thread.

use crate::measure::latency::LatencyRecorder;
use crate::measure::measured_count::MeasuredCount;

/// The results of all producers of one thread.
#[derive(Debug)]
pub struct PublishResults {
    /// Messages sent after the warm-up.
    pub measured: MeasuredCount,
    /// Latency from the intended send time to the confirm.
    pub latency: LatencyRecorder,
    /// Messages due earlier (ns) are not measured.
    pub measure_from: u64,
    /// Messages encoded for the socket.
    pub sent: u64,
    /// The deliveries to expect for these messages.
    pub expected: u64,
    /// Messages confirmed or committed.
    pub confirmed: u64,
    /// Messages that the broker nacked, counted as the deliveries they were expected to be.
    pub nacked: u64,
    /// Messages returned as unroutable, counted in the same way.
    pub returned: u64,
}

impl PublishResults {
    /// No messages yet.
    #[must_use]
    pub fn new(measure_from: u64) -> Self {
        let (measured, latency) = (MeasuredCount::default(), LatencyRecorder::new());
        let (sent, expected, confirmed, nacked, returned) = (0, 0, 0, 0, 0);
        Self { measured, latency, measure_from, sent, expected, confirmed, nacked, returned }
    }

    /// Records the latency of a confirm at `now` (ns) for a message that was due at `intended`.
    #[inline]
    pub fn answered(&mut self, intended: u64, now: u64) {
        if intended >= self.measure_from {
            self.latency.record(now.saturating_sub(intended));
        }
    }
}
