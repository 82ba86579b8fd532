//! What a broker is, as plain values: exchanges, queues, sessions and the rules between them.
//!
//! Bytes, events and the time come in; replies, deliveries and requests go out.
//!
//! Absent by design: I/O, clocks, threads, globals, randomness that was not injected.

pub mod arena;
mod backlog;
pub mod consumer;
mod entry;
pub mod erlang;
pub mod excess;
pub mod exchange;
pub mod fault;
pub mod hash;
pub mod ids;
pub mod ledger;
pub mod message;
pub mod mutant;
pub mod outbox;
mod outlet;
pub mod queue;
mod queue_store;
#[cfg(test)]
mod queue_store_test;
#[cfg(test)]
mod queue_test;
pub mod refusal;
pub mod session;
pub mod spec;
pub mod stored;
pub mod time;
pub mod topology;
pub mod vhost;
#[cfg(test)]
mod vhost_test;

pub use consumer::{Ask, ConsumerSpec};
pub use exchange::{Exchange, Targets};
pub use fault::Fault;
pub use hash::{Map, Seed};
pub use ids::{ChannelId, ConnId, ConsumerId, IdSource, QueueId, ShardId, Ticket};
pub use message::{Body, Draft, Message};
pub use outbox::Outbox;
pub use queue::Queue;
pub use refusal::{Refusal, Resource};
pub use spec::{Arguments, Binding, Destination, ExchangeKind, ExchangeSpec, Name, QueueSpec};
pub use stored::Stored;
pub use time::Now;
pub use topology::Topology;
pub use vhost::{QueueEntry, Vhost};
