//! What a broker is, as plain values: exchanges, queues, sessions and the rules between them.
//!
//! Bytes, events and the time come in; replies, deliveries and requests go out.
//!
//! Absent by design: I/O, clocks, threads, globals, randomness that was not injected.

pub mod access;
pub mod body;
pub mod dead_letters;
pub mod exchange;
pub mod hash;
#[cfg(test)]
mod hash_test;
pub mod ids;
pub mod lists;
pub mod message;
pub mod mutant;
pub mod outbox;
pub mod policy;
pub mod queue;
pub mod random;
pub mod refusal;
pub mod replay;
pub mod secret;
pub mod session;
pub mod time;
pub mod topology;

pub use body::{Body, BodyCounts, BodyGauge};
pub use exchange::{Exchange, ExchangeStates, OwnedMessage, Targets};
pub use hash::{Map, Seed};
pub use ids::{ChannelId, ConnId, ConsumerId, IdSource, QueueId, RequestId, ShardId};
pub use message::{Draft, Message};
pub use outbox::Outbox;
pub use queue::consumer::{Ask, ConsumerSpec};
pub use queue::stored::Stored;
pub use queue::work::{self, WorkBudget};
pub use queue::{QueueCommands, QueueKind};
pub use random::{Chance, Entropy, Generator};
pub use refusal::fault::Fault;
pub use refusal::{Refusal, Resource};
pub use replay::{StateHash, StateHasher};
pub use secret::Secret;
pub use time::Now;
pub use topology::Topology;
pub use topology::spec::{
    Arguments, Binding, Destination, ExchangeKind, ExchangeSpec, Name, QueueSpec,
};
pub use topology::vhost::{QueueEntry, Vhost};
