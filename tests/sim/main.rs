//! A whole broker in one thread: shards, coordinator and rings moved by dice under a virtual clock,
//! random clients that speak real AMQP bytes, and a reference model that judges what they saw.
//!
//! ```text
//! cargo test --profile sim --test sim                          the fixed seeds
//! SIM_SEEDS=100000 cargo test --profile sim --test sim         more of them
//! SIM_SEED=17 SIM_TRACE=1 cargo test --profile sim --test sim replay -- --nocapture
//! cargo test --profile sim --test sim --features mutants       every mutant is caught
//! ```
//!
//! From the ground up: [`names`] (exchanges, queues, keys, bodies), [`history`] (what clients saw),
//! [`letters`] (dead letters), [`sending`] (bytes on their way to the broker), [`channel`],
//! [`client`] and [`commits`] (the protocol from the client's side), [`plan`] and [`actions`] (what
//! clients do), [`phases`], [`ends`], [`lateness`] and [`lifetimes`] (what is rare by chance and
//! done on purpose), [`raid`] (who means harm), [`broker`] (shards, rings and disks), [`world`]
//! (with sockets), [`inspect`] (who asks from outside), [`run`] (one seed), [`check`] (the model).

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by panicking"
)]

mod actions;
mod bindings;
#[path = "../rig/broker.rs"]
mod broker;
mod channel;
mod check;
mod client;
mod commits;
#[path = "../rig/copies.rs"]
mod copies;
#[allow(dead_code, reason = "other tests need more of it")]
#[path = "../../src/store/sim/disk.rs"]
mod disk;
mod ends;
mod history;
mod inspect;
mod lateness;
mod letters;
mod lifetimes;
mod limit;
#[allow(dead_code, reason = "other tests need more of it")]
#[path = "../../src/store/meta/memory.rs"]
mod memory;
#[cfg(feature = "mutants")]
mod mutants;
mod names;
mod phases;
mod plan;
mod raid;
mod run;
#[path = "../rig/seeds.rs"]
mod seeds;
mod sending;
mod world;

/// Bodies are large and live shortly: the system's allocator would map them again and again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The disks are shared with the tests of the store and name it so.
use ringtail::store;
