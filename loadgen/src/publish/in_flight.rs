//! The limit of a producer's messages in flight.

use crate::publish::confirm_window::ConfirmWindow;

/// The limit of a producer's messages in flight.
#[derive(Debug)]
pub enum InFlightLimit {
    /// No limit.
    Unlimited,
    /// A window of unconfirmed messages.
    Confirms(ConfirmWindow),
    /// Transactions; the next one starts when the last is committed.
    Transactions {
        /// Messages per transaction.
        size: u64,
        /// The uncommitted messages.
        open: ConfirmWindow,
        /// tx.commit was sent and not answered.
        committing: bool,
    },
    /// A window of messages that no consumer of the same thread has received yet.
    Arrivals {
        /// The most messages in flight.
        window: u64,
        /// How many messages have arrived.
        arrived: u64,
    },
}

impl InFlightLimit {
    /// The messages that wait for an answer, if the broker answers at all.
    pub fn open(&mut self) -> Option<&mut ConfirmWindow> {
        match self {
            InFlightLimit::Confirms(open) | InFlightLimit::Transactions { open, .. } => Some(open),
            InFlightLimit::Unlimited | InFlightLimit::Arrivals { .. } => None,
        }
    }
}
