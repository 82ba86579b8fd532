//! The time, which pure code gets as an argument.

/// The moment an event happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Now {
    /// Microseconds of a monotonic clock with an arbitrary origin.
    pub monotonic_us: u64,
    /// Milliseconds since 1970, for what outlives the process.
    pub wall_ms: u64,
}

impl Now {
    /// Milliseconds of the monotonic clock.
    #[must_use]
    pub fn monotonic_ms(self) -> u64 {
        self.monotonic_us / 1000
    }
}
