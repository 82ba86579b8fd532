//! The one clock: CLOCK_MONOTONIC in nanoseconds, shared by all processes of a machine.

use rustix::time::{ClockId, clock_gettime};

/// One second.
pub const SECOND: u64 = 1_000_000_000;
/// One millisecond.
pub const MILLISECOND: u64 = 1_000_000;

/// Nanoseconds of CLOCK_MONOTONIC. A stamp of one process can be compared with the clock of
/// another, so a publisher and a consumer may be two processes of one machine.
#[must_use]
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    // The monotonic clock starts at boot and is never negative.
    time.tv_sec.unsigned_abs() * SECOND + time.tv_nsec.unsigned_abs()
}

/// Nanoseconds of CPU that the calling thread has used, in the system's code too.
#[must_use]
pub fn thread_cpu() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec.unsigned_abs() * SECOND + time.tv_nsec.unsigned_abs()
}

/// Nanoseconds of a span given in seconds; negative and absurd spans are cut to what fits.
#[must_use]
pub fn from_seconds(seconds: f64) -> u64 {
    (seconds * SECOND as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_goes_back() {
        let first = now();
        assert!(now() >= first);
        assert_eq!(from_seconds(1.5), 1_500_000_000);
        assert_eq!(from_seconds(-1.0), 0);
    }
}
