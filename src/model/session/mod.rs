//! One client's side of the protocol: handshake, channels, confirms, transactions, declares.

pub mod arguments;
pub mod channel;
pub mod confirm;
pub mod content;
pub mod handshake;
pub mod limit;
pub mod route;
pub mod tx;

pub use channel::{Channel, ChannelConsumer, Outstanding, ReplyConsumer};
pub use confirm::{Confirms, Verdict};
pub use handshake::{Handshake, Limits, Negotiated, Next};
pub use limit::{Candidate, Limit};
pub use route::LastRoute;
pub use tx::Transaction;
