//! Whole brokers that crash and restart: the parts of the simulation, with disks that lose, tear
//! and reorder unsynced writes, and clients that remember every promise over all restarts.
//!
//! ```text
//! cargo test --profile sim --test power                        the fixed seeds
//! SIM_SEEDS=100000 cargo test --profile sim --test power       more of them
//! SIM_SEED=17 SIM_TRACE=1 cargo test --profile sim --test power replay -- --nocapture
//! cargo test --profile sim --test power --features mutants     its mutants are caught
//! ```
//!
//! From the ground up: [`books`] (what was promised and seen, and the judge), [`client`],
//! [`broker`] (shards, rings and disks), [`world`] (with sockets; how it ends and starts), [`run`]
//! (one seed).

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by panicking"
)]

mod books;
#[path = "../rig/broker.rs"]
mod broker;
mod client;
#[path = "../rig/copies.rs"]
mod copies;
#[allow(dead_code, reason = "other tests need more of it")]
#[path = "../../src/store/sim/disk.rs"]
mod disk;
#[allow(dead_code, reason = "other tests need more of it")]
#[path = "../../src/store/meta/memory.rs"]
mod memory;
#[cfg(feature = "mutants")]
mod mutants;
mod run;
#[path = "../rig/seeds.rs"]
mod seeds;
mod world;

/// The disks are shared with the tests of the store, which use this name.
use ringtail::store;
