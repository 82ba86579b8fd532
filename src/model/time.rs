//! The time as pure code sees it: an argument.

/// The moment an event happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Now {
    /// Microseconds on a clock that never goes back; its origin means nothing.
    pub monotonic_us: u64,
    /// Milliseconds since 1970, for what outlives the process.
    pub wall_ms: u64,
}

impl Now {
    /// Milliseconds on the clock that never goes back.
    #[must_use]
    pub fn monotonic_ms(self) -> u64 {
        self.monotonic_us / 1000
    }
}
