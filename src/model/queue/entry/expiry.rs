//! When a message expires.

/// When a message expires, in milliseconds since 1970. Six bytes, since they fit into the padding
/// of a queue's entry; their order is that of the times.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Expiry([u8; 6]);

impl Expiry {
    /// The message does not expire.
    pub const NEVER: Self = Self([0xff; 6]);
    const NEVER_MS: u64 = (1 << 48) - 1;

    /// At this time; one behind the year 10000 counts as never.
    #[must_use]
    #[inline]
    pub fn at_ms(wall_ms: u64) -> Self {
        let [_, _, bytes @ ..] = wall_ms.min(Self::NEVER_MS).to_be_bytes();
        Self(bytes)
    }

    /// The time; later than any clock shows for [`Self::NEVER`].
    #[must_use]
    #[inline]
    pub fn ms(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }

    /// Whether the message has expired at this time.
    #[must_use]
    #[inline]
    pub fn has_come(self, wall_ms: u64) -> bool {
        self.ms() <= wall_ms && self != Self::NEVER
    }
}

impl std::fmt::Debug for Expiry {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::NEVER => out.write_str("never"),
            _ => write!(out, "{} ms", self.ms()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_kept_in_order() {
        let times = [0, 1, 255, 256, 1_700_000_000_000, 2_100_000_000_000];
        for pair in times.windows(2) {
            assert!(Expiry::at_ms(pair[0]) < Expiry::at_ms(pair[1]));
        }
        for ms in times {
            let expiry = Expiry::at_ms(ms);
            assert_eq!(expiry.ms(), ms);
            assert!(expiry.has_come(ms) && (ms == 0 || !expiry.has_come(ms - 1)));
        }
    }

    #[test]
    fn never_does_not_come() {
        assert!(!Expiry::NEVER.has_come(u64::MAX));
        assert_eq!(Expiry::at_ms(u64::MAX), Expiry::NEVER);
    }
}
