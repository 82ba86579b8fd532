//! The time, read for the pure code.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use model::Now;

/// Both clocks. All threads of the process share one origin.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that begins now.
    #[must_use]
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// The moment of this call.
    #[must_use]
    pub fn now(&self) -> Now {
        // A clock set before 1970 counts as 1970. 2^64 microseconds are half a million years.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            monotonic_us: u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX),
            wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// How long it is from `now` until `deadline_us`, and a microsecond more: `now` was rounded down.
#[must_use]
pub fn until(deadline_us: u64, now: Now) -> Duration {
    Duration::from_micros(deadline_us.saturating_sub(now.monotonic_us) + 1)
}
