//! One core's broker as a pure state machine, and the coordinator that keeps all cores' topologies
//! the same.
//!
//! ```text
//!   receive, written, closed        mesh                tick
//!            |                       |                   |
//!            v                       v                   v
//!   +-----------------+  +-------------------------+  +-------+
//!   | input > methods |  | enqueue deliver settle  |  | timers|
//!   |       > publish |  | credit watermark control|  +-------+
//!   +-----------------+  +-------------------------+
//!            |                       |
//!            v                       v
//!   clients (connections, questions) . home (queues, credit) . topology . store
//!            |                       |
//!            +-------- end_turn -----+
//!                |                |
//!                v                v
//!        outbox per connection  batch per peer
//! ```
//!
//! Absent by design: sockets, files, clocks, threads, and any look into another shard.

pub mod batch;
mod clients;
mod closing;
mod conn;
mod connection;
mod consume;
mod controls;
pub mod coordinator;
mod declare;
mod delete;
mod home;
mod input;
mod machine;
pub mod message;
mod methods;
mod paging;
#[cfg(test)]
mod paging_test;
mod peers;
mod permits;
mod progress;
mod publish;
mod questions;
mod receiving;
mod replies;
mod settle;
mod stopping;
mod store;
mod timers;
mod turn;
mod tx;

pub use batch::Batch;
pub use conn::{ConnInfo, OUTPUT_MARK, PARKED_MARK};
pub use coordinator::{Coordinator, CoordinatorConfig, NodeLimits, Place};
pub use home::CREDIT_OCTETS;
pub use machine::{Gate, Shard, ShardConfig};
pub use message::Alarms;
pub use model::Outbox;
pub use model::session::Limits;
pub use replies::ReplyKey;
pub use store::Trouble;
