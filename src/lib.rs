//! The broker's rooms in floor order. A room imports only rooms above it.

pub mod config;
pub mod runtime;
pub mod shard;
