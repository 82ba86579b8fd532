//! A count of messages with the time of the last one, for rates.

/// Messages that count for a rate, and the time of the last one.
#[derive(Debug, Default, Clone, Copy)]
pub struct MeasuredCount {
    /// Messages since the end of the warm-up.
    pub count: u64,
    /// When the last one was counted (ns), 0 if there was none.
    pub last: u64,
}

impl MeasuredCount {
    /// Adds `count` messages at `now` (ns).
    #[inline]
    pub fn add(&mut self, count: u64, now: u64) {
        self.count += count;
        self.last = self.last.max(now);
    }

    /// Adds the count of another thread.
    pub fn merge(&mut self, other: MeasuredCount) {
        self.count += other.count;
        self.last = self.last.max(other.last);
    }
}
