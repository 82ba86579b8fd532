//! What a broker is, as plain values: exchanges, queues, sessions and the rules between them.
//!
//! Bytes, events and the time come in; replies, deliveries and requests go out.
//!
//! Absent by design: I/O, clocks, threads, globals, randomness that was not injected.

pub mod exchange;
pub mod hash;
pub mod ids;
pub mod message;
pub mod refusal;
pub mod spec;
pub mod time;
pub mod topology;
mod vhost;

pub use exchange::{Exchange, Targets};
pub use hash::{Map, Seed};
pub use ids::{ChannelId, ConnId, ConsumerId, IdSource, QueueId, ShardId, Ticket};
pub use message::{Body, Draft, Message};
pub use refusal::{Refusal, Resource};
pub use spec::{Arguments, Binding, Destination, ExchangeKind, ExchangeSpec, Name, QueueSpec};
pub use time::Now;
pub use topology::{QueueEntry, Topology, Vhost};

#[cfg(test)]
mod vhost_test;
