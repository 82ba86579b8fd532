//! A whole broker in one thread: shards, coordinator and rings moved by dice under a virtual clock,
//! random clients that speak real AMQP octets, and a reference model that judges what they saw.
//!
//! ```text
//! cargo test --profile sim --test sim                          the fixed seeds
//! SIM_SEEDS=100000 cargo test --profile sim --test sim         more of them
//! SIM_SEED=17 SIM_TRACE=1 cargo test --profile sim --test sim replay -- --nocapture
//! cargo test --profile sim --test sim --features mutants       every mutant is caught
//! ```
//!
//! From the ground up: [`names`] (exchanges, queues, keys, bodies), [`history`] (what clients saw),
//! [`channel`], [`client`] and [`commits`] (the protocol from the client's side), [`plan`] and
//! [`deeds`] (what clients do), [`broker`] (shards, rings and disks), [`world`] (with sockets),
//! [`run`] (one seed), [`check`] (the model).

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by panicking"
)]

mod broker;
mod channel;
mod check;
mod client;
mod commits;
mod deeds;
#[allow(dead_code, reason = "other tests need more of it")]
#[path = "../../src/store/sim/disk.rs"]
mod disk;
mod history;
mod limit;
#[allow(dead_code, reason = "other tests need more of it")]
#[path = "../../src/store/meta/memory.rs"]
mod memory;
#[cfg(feature = "mutants")]
mod mutants;
mod names;
mod phases;
mod plan;
mod run;
mod seeds;
mod world;

/// The disks are shared with the tests of the store and name it so.
use ringtail::store;
