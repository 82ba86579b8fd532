//! `loadgen run`: one load against one broker.

pub mod channels;
pub mod command;
pub mod drive;
pub mod from_flags;
pub mod live_display;
pub mod setup;
pub mod topology;
