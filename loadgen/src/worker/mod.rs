//! One thread that drives several connections without blocking.

pub mod channel;
pub mod channel_queue;
pub mod connection;
pub mod event_loop;
pub mod idle;
pub mod plan;
pub mod result;
pub mod run_state;
pub mod socket;
