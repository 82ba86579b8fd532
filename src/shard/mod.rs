//! One core's broker as a pure state machine: sessions, queues, a copy of the topology, timers; and
//! the coordinator that keeps the copies the same.

pub mod message;
pub mod standin;
pub use standin::{
    Batch, ConnInfo, Coordinator, CoordinatorConfig, Gate, Limits, Outbox, Shard, ShardConfig,
};
