//! The coordinator alone: scripts, random commands, and what its records bring back.

mod admin;
mod copies;
mod disk_full;
mod limits;
mod records;
mod removals;
mod replica;
pub(in crate::coordinator) mod script;
mod seeded;
mod snapshots;
