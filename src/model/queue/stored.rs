//! Where the store has a message that may also be in its queue's memory.

/// Where the store has a message. The store returns it when it takes the message; the queue keeps
/// it in its entry and passes it back when the message is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Stored(u64);

impl Stored {
    /// Only the queue has it.
    pub const NOWHERE: Self = Self(0);
    /// In a segment of its queue, but not after a restart, so that its settle is not logged.
    pub const SPILLED: Self = Self(1);
    /// In a segment of its queue, also after a restart, unless its settle is logged.
    pub const SPILLED_DURABLE: Self = Self(2);
    /// Batches of the log are numbered from 1.
    const BATCHES: u64 = 2;

    /// In the log, in the batch with this number, which is not 0.
    #[must_use]
    pub fn logged(batch: u64) -> Self {
        Self(Self::BATCHES + batch)
    }

    /// The batch of the log it is in.
    #[must_use]
    pub fn batch(self) -> Option<u64> {
        self.0.checked_sub(Self::BATCHES).filter(|batch| *batch > 0)
    }

    /// Whether it is in a segment of its queue.
    #[must_use]
    pub fn is_spilled(self) -> bool {
        self == Self::SPILLED || self == Self::SPILLED_DURABLE
    }

    /// Whether it outlives the process.
    #[must_use]
    pub fn is_durable(self) -> bool {
        self.0 >= Self::SPILLED_DURABLE.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_apart() {
        assert_eq!(Stored::logged(1).batch(), Some(1));
        for place in [Stored::NOWHERE, Stored::SPILLED, Stored::SPILLED_DURABLE] {
            assert_eq!(place.batch(), None);
            assert_eq!(place.is_durable(), place == Stored::SPILLED_DURABLE);
        }
        assert!(Stored::logged(7).is_durable());
    }
}
