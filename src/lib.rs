//! The broker's rooms in floor order. A room imports only rooms above it.

#![warn(missing_docs)]

pub mod config;

pub mod store;

pub mod shard;

pub mod runtime;
