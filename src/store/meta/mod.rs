//! Metadata, which outlives a restart: vhosts, users, durable exchanges, queues and bindings.
//!
//! ```text
//!  file     header · batch (the state when the file was begun) · batch · batch · …
//!  header   magic 8 · version 4 · nonce 8 · crc32c 4
//!  batch    magic 4 · crc32c 4 · number 8 · length 4 · facts
//! ```
//!
//! A batch becomes durable at once: after a crash all its facts count or none does. A file that has
//! grown too much is replaced by one with the next number. That one gets its name when it is whole,
//! so of several files the one with the highest number counts.
//!
//! This room must not know: files. [`MetaLog`] drives a [`Folder`].

mod access_fact;
mod batch;
mod fact;
mod folder;
mod log;
mod state;

pub use self::fact::{Fact, Malformed, User};
pub use self::folder::Folder;
pub use self::log::{MetaError, MetaLog, MetaNote};
pub use self::state::{MetaState, VhostState};

#[cfg(test)]
mod crash_test;
#[cfg(test)]
mod draw;
#[cfg(test)]
mod log_test;
#[cfg(test)]
mod memory;
#[cfg(test)]
pub use self::memory::MemoryFolder;
