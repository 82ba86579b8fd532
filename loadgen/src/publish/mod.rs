//! Producers as state machines without sockets.

pub mod batch;
pub mod confirm_window;
pub mod in_flight;
pub mod producer;
pub mod results;
pub mod schedule;
pub mod varied;
