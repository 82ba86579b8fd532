//! The first bytes of every body: when the message was due and who sent it.

/// The length of a stamp in bytes.
pub const STAMP: usize = 16;

/// The first 16 bytes of a body: 8 bytes of intended send time (ns), 2 of the producer's index and
/// 6 of its sequence number, all big-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// When the message was due (ns of CLOCK_MONOTONIC).
    pub intended: u64,
    /// The index of its producer.
    pub producer: u16,
    /// The producer's sequence number, from 0.
    pub sequence: u64,
}

impl Stamp {
    /// Encodes the stamp.
    #[must_use]
    #[inline]
    pub fn write(self) -> [u8; STAMP] {
        let who = u64::from(self.producer) << 48 | self.sequence;
        (u128::from(self.intended) << 64 | u128::from(who)).to_be_bytes()
    }

    /// Decodes a stamp.
    #[must_use]
    #[inline]
    pub fn read(bytes: [u8; STAMP]) -> Self {
        let both = u128::from_be_bytes(bytes);
        let who = both as u64;
        let producer = (who >> 48) as u16;
        Self { intended: (both >> 64) as u64, producer, sequence: who & ((1 << 48) - 1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_encoded_and_decoded() {
        let stamp = Stamp { intended: u64::MAX - 1, producer: 65_535, sequence: (1 << 48) - 1 };
        assert_eq!(Stamp::read(stamp.write()), stamp);
        let stamp = Stamp { intended: 1, producer: 2, sequence: 3 };
        let bytes = stamp.write();
        assert_eq!((bytes[7], bytes[9], bytes[15]), (1, 2, 3));
    }
}
