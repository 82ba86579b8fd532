//! The only clock: CLOCK_MONOTONIC in nanoseconds, the same for all processes of a machine.

use rustix::time::{ClockId, clock_gettime};

/// One second (ns).
pub const SECOND: u64 = 1_000_000_000;
/// One millisecond (ns).
pub const MILLISECOND: u64 = 1_000_000;

/// Nanoseconds of CLOCK_MONOTONIC. All processes of a machine share this clock, so a publisher and
/// a consumer may run in two of them.
#[must_use]
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    // The monotonic clock starts at boot and is never negative.
    time.tv_sec.unsigned_abs() * SECOND + time.tv_nsec.unsigned_abs()
}

/// CPU time of the calling thread (ns), user and system.
#[must_use]
pub fn thread_cpu() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec.unsigned_abs() * SECOND + time.tv_nsec.unsigned_abs()
}

/// Seconds in nanoseconds; negative values become 0 and huge ones `u64::MAX`.
#[must_use]
pub fn from_seconds(seconds: f64) -> u64 {
    (seconds * SECOND as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_never_goes_back() {
        let first = now();
        assert!(now() >= first);
        assert_eq!(from_seconds(1.5), 1_500_000_000);
        assert_eq!(from_seconds(-1.0), 0);
    }
}
