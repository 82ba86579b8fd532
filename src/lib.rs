//! The broker's rooms in floor order. A room imports only rooms above it.

#![warn(missing_docs)]

pub mod config;

pub mod store;

pub mod mesh;

pub mod coordinator;

pub mod queues;

pub mod sessions;

pub mod shard;

pub mod runtime;
