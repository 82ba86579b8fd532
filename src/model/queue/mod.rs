//! Queues: one interface, [`QueueCommands`], and the kinds that implement it.
//!
//! ```text
//!   commands, with the time                        effects, in order
//!   --------------------------->  QueueKind  --------------------------->  QueueOutput
//!   push, get, settle, tick ...   Classic ...   deliver, log, spill, finish ...
//! ```
//!
//! A kind decides what its messages are in memory and on disk, who is served next, what a settle
//! does, and when an enqueue is finished. What kinds have in common are parts, not rules: the
//! consumers in turn ([`consumer`]), packed messages ([`arena`]), lists in the order of numbers
//! ([`ledger`]).
//!
//! A queue is replayable: the same commands at the same times, and the same answers of its output,
//! lead to the same state and the same effects.

pub mod arena;
mod arguments;
pub mod classic;
mod commands;
pub mod consumer;
mod entry;
mod kind;
pub mod lane;
pub mod ledger;
mod output;
#[cfg(feature = "second-kinds")]
pub mod shuffled;
mod snapshot;
pub mod stored;
#[cfg(test)]
mod stub;
#[cfg(feature = "mutants")]
mod twins;
pub mod work;

pub use arguments::{EffectiveArguments, Overflow};
pub use commands::QueueCommands;
pub use entry::Expiry;
pub use kind::{KindName, QueueKind};
pub use output::{
    Addressed, Death, Delivery, DropSpilled, DroppedSpilled, Dying, EnqueueEnd, EnqueueId, Get,
    Overdue, QueueOutput, QueueProgress, RestoredLane, RestoredMessages, Settle, Spilled, Unfit,
    Way,
};
pub use snapshot::{QueueCounters, QueueService, QueueSnapshot};
