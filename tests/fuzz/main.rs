//! Hostile input: valid sessions with flipped, cut, spliced and reordered frames or false sizes,
//! and plain noise. It goes to the wire alone, and to whole pure brokers in which a neighbour must
//! not notice anything.
//!
//! ```text
//! cargo test --profile sim --test fuzz                          the fixed seeds
//! FUZZ_SECONDS=3600 cargo test --profile sim --test fuzz -- --nocapture
//! FUZZ_FRAMES=10000000 cargo test --profile sim --test fuzz -- --nocapture
//! FUZZ_SEED=17 cargo test --profile sim --test fuzz replay -- --nocapture
//! ```
//!
//! `FUZZ_FRAMES` and `FUZZ_SECONDS` apply to each of the two parts; 0 means no end. A seed that
//! fails is printed with the command that replays it. `FUZZ_FIRST` is the first seed.
//!
//! From the ground up: [`meter`] (memory and CPU time of the thread), [`tables`], [`methods`] and
//! [`valid`] (valid sessions), [`mutate`] (damaged ones), [`wire`] (parser, assembler and readers
//! alone), [`monitor`] (checks what a client gets), [`neighbour`], [`bounds`], [`session`] (one
//! seed of a whole broker), [`runner`].

#![allow(clippy::unwrap_used, missing_docs)]

mod bounds;
mod meter;
mod methods;
mod monitor;
#[cfg(feature = "mutants")]
mod mutants;
mod mutate;
mod neighbour;
#[path = "../rig/mod.rs"]
mod rig;
mod runner;
mod session;
mod tables;
mod valid;
mod wire;
