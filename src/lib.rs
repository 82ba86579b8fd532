//! The broker's rooms in floor order. A room imports only rooms above it.

pub mod store;

pub mod shard;
