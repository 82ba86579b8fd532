//! A broker in this process, asked by another thread: what it lists of real clients, what commands
//! do to them, and that neither a long list nor a careless asker disturbs a neighbour.
//!
//! [`broker`] starts it and walks its lists, [`client`] is a client that blocks. Tests: [`lists`],
//! [`commands`], [`bounds`].

#![allow(clippy::expect_used, reason = "a test that cannot go on says so by panicking")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod bounds;
mod broker;
mod client;
mod commands;
mod lists;
