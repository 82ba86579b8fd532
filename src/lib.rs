//! The broker's rooms in floor order. A room imports only rooms above it.

pub mod shard;
