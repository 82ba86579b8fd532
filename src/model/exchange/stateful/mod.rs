//! Exchanges that remember what passed them.
//!
//! All stateful exchanges of a vhost have the same home shard, and every message that comes to one
//! of them is routed there as a whole. So a message meets each of them once, and in one order with
//! the bindings, whatever it passes before and behind.

mod history;
mod owned;
mod seen;
mod states;

pub use self::history::HISTORY_MAX;
pub(in crate::exchange) use self::history::{DEFAULT_LENGTH, is_stored};
pub use self::owned::OwnedMessage;
pub(in crate::exchange) use self::seen::SeenLimits;
pub(crate) use self::seen::deduplication_value;
pub use self::states::{ExchangeStates, home_of_states};
pub(in crate::exchange) use self::states::{StateAccess, StateMet};
