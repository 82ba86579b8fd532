//! Consumers as state machines without sockets.

pub mod ack_policy;
pub mod consumer;
pub mod template;
