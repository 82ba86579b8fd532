//! One client's side of the protocol: handshake, channels, confirms, what declares may say.

pub mod arguments;
pub mod channel;
pub mod confirm;
pub mod handshake;
pub mod limit;
pub mod route;

pub use channel::{Channel, ChannelConsumer, Outstanding};
pub use confirm::Confirms;
pub use handshake::{Handshake, Limits, Negotiated, Next};
pub use limit::{Candidate, Limit};
pub use route::LastRoute;
