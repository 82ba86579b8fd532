//! One core's broker as a pure state machine: sessions, queues, a copy of the topology, timers; and
//! the coordinator that keeps the copies the same.

pub mod coordinator;
pub mod message;
