//! Whole brokers that die and come back: the parts of the simulation with disks that lose, tear and
//! reorder what was not synced, and clients that remember over every restart what they were
//! promised.
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
#[path = "../sim/broker.rs"]
mod broker;
mod client;
#[allow(dead_code, reason = "other tests need more of it")]
#[path = "../../src/store/sim/disk.rs"]
mod disk;
#[allow(dead_code, reason = "other tests need more of it")]
#[path = "../../src/store/meta/memory.rs"]
mod memory;
#[cfg(feature = "mutants")]
mod mutants;
mod run;
#[path = "../sim/seeds.rs"]
mod seeds;
mod world;

/// The disks are shared with the tests of the store and name it so.
use ringtail::store;
