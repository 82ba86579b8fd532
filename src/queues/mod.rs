//! The queues that live on this shard, their home: what is asked of them, the flow credit of the
//! connections they deliver to, their memory and their store.
//!
//! ```text
//!   push, settle, credit, permits      requests            end of a turn
//!              |                          |                     |
//!              v                          v                     v
//!   +-------------------------------------------+    +---------------------+
//!   | hosted queues . credit . channels in use  |<-->| paging . store      |
//!   +-------------------------------------------+    +---------------------+
//!              |                                            |       ^
//!              v                                            v       |
//!   HomeOutput: deliver, got, ask, consumer_gone       operations on files
//! ```
//!
//! This room must not know: connections, methods of a protocol, and where a client's connection is.
//! What leaves goes to a [`HomeOutput`], which the shard implements.

mod credit;
mod durability;
mod dying;
mod hosted;
mod kind;
mod memory;
mod output;
mod paging;
mod requests;
mod snapshots;
mod storage_error;
mod timers;
mod unfinished;
mod work;

pub(crate) use hosted::Queues;
pub(crate) use output::HomeOutput;
pub use storage_error::StorageError;
pub(crate) use work::LateAnswer;
