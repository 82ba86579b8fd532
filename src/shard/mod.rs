//! One core's broker as a pure state machine: the sessions and the queues of this shard, joined.
//!
//! ```text
//!   receive, written, closed, tick          mesh: records and controls of peers
//!            |                                     |               |
//!            v                                     v               v
//!   +-----------------+      ShardBroker      +-----------------------------+
//!   |    sessions     |---------------------->| queues here . peers: others |
//!   |                 |<----------------------|                             |
//!   +-----------------+      RoutedOutput     +-----------------------------+
//!            |                                     |               |
//!            v                                     v               v
//!   outbox per connection               operations on files   batch per peer
//! ```
//!
//! Only here it is asked whether a queue or a connection is on this shard or on another:
//! `broker.rs` and `publish.rs` for what sessions do to queues, `queue_output.rs` for what queues
//! do to sessions; `controls.rs` only where a get is refused, `turn.rs` only for watermarks, and
//! `letters/` for what moves without a publisher here: dead letters from queue to queue, and
//! messages to the stateful exchanges of their vhost, which one shard has.
//!
//! `inspect.rs` answers threads outside the data path.
//!
//! This room must not know: sockets, files, clocks, threads, and any look into another shard.

mod broker;
mod controls;
#[cfg(test)]
mod home_test;
mod inspect;
mod intake;
mod letters;
mod machine;
mod pending;
mod publish;
mod queue_output;
mod stopping;
mod turn;

pub use machine::{Gate, Shard, ShardConfig};
pub use model::Outbox;
pub use model::session::Limits;
