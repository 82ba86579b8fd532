//! Octets that no honest client sends: valid sessions that were flipped, cut, spliced, reordered
//! and lied about, and plain noise; against the wire alone, and against whole pure brokers in which
//! a neighbour must not notice anything.
//!
//! ```text
//! cargo test --profile sim --test fuzz                          the fixed seeds
//! FUZZ_SECONDS=3600 cargo test --profile sim --test fuzz -- --nocapture
//! FUZZ_FRAMES=10000000 cargo test --profile sim --test fuzz -- --nocapture
//! FUZZ_SEED=17 cargo test --profile sim --test fuzz replay -- --nocapture
//! ```
//!
//! `FUZZ_FRAMES` and `FUZZ_SECONDS` hold for each of the two parts; 0 means for ever. A seed that
//! breaks something is told, with the line that replays it. `FUZZ_FIRST` is the first seed.
//!
//! From the ground up: [`meter`] (what the thread holds and how long it ran), [`tables`],
//! [`methods`] and [`valid`] (sessions as they should be), [`mutate`] (as they should not be),
//! [`wire`] (parser, assembler and readers alone), [`ear`] (what a client may hear), [`neighbour`],
//! [`bounds`] (what is held and done at most), [`session`] (one seed of a whole broker),
//! [`runner`].

#![allow(clippy::unwrap_used, missing_docs)]

mod bounds;
mod ear;
mod meter;
mod methods;
#[cfg(feature = "mutants")]
mod mutants;
mod mutate;
mod neighbour;
#[path = "../session/rig.rs"]
#[allow(dead_code, reason = "every user needs a part")]
mod rig;
mod runner;
mod session;
mod tables;
mod valid;
mod wire;
