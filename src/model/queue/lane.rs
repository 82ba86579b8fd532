//! Lanes: the priorities of a queue in the sequence numbers of its messages.
//!
//! ```text
//!   63        48 47                                   0
//!   +-----------+-------------------------------------+
//!   |   lane    |       place in the order of arrival |
//!   +-----------+-------------------------------------+
//! ```
//!
//! A queue without priorities has lane 0 alone. One with priorities up to `max` has lane 1 for
//! `max`, lane 2 for the next lower one, and so on. So the order of sequence numbers is always the
//! order in which messages leave a queue.

/// Bits of a place.
const BITS: u32 = 48;

/// The lane that a sequence number is in.
#[must_use]
#[inline]
pub fn of(seq: u64) -> u16 {
    (seq >> BITS) as u16
}

/// The place of a sequence number in its lane.
#[must_use]
#[inline]
pub fn place(seq: u64) -> u64 {
    seq & ((1 << BITS) - 1)
}

/// The sequence number of a place in a lane.
#[must_use]
#[inline]
pub fn seq(lane: u16, place: u64) -> u64 {
    u64::from(lane) << BITS | place
}

/// The last sequence number of a lane.
#[must_use]
pub fn last(lane: u16) -> u64 {
    seq(lane, (1 << BITS) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_the_order_of_lanes() {
        assert_eq!((of(7), place(7), seq(0, 7)), (0, 7, 7));
        let high = seq(256, 9);
        assert_eq!((of(high), place(high)), (256, 9));
        assert!(last(1) < seq(2, 0) && last(1) + 1 == seq(2, 0));
    }
}
