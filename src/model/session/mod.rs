//! One client's side of the protocol: handshake, channels, confirms, transactions, declares.

pub mod arguments;
pub mod channel;
pub mod confirm;
pub mod consumers;
pub mod content;
pub mod counters;
pub mod delivery_run;
pub mod handshake;
pub mod limit;
pub mod route;
mod settles;
pub mod tx;
pub mod unacked;

pub use channel::{Channel, ReplyConsumer};
pub use confirm::{Confirms, Verdict};
pub use consumers::{ChannelConsumer, ChannelConsumers};
pub use counters::ChannelCounters;
pub use delivery_run::{DeliveryRun, Outstanding};
pub use handshake::{Handshake, Limits, Negotiated, Next};
pub use limit::{Candidate, Limit};
pub use route::LastRoute;
pub use settles::Settles;
pub use tx::Transaction;
pub use unacked::Unacked;
