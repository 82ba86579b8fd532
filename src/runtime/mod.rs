//! The shell: threads, executors, sockets, rings between threads, the clock and signals.
//!
//! ```text
//!  main            waits for signals and for reports of the others
//!  ringtail-accept takes clients, hands each to a shard          (inbox)
//!  ringtail-s0…    one a CPU, pinned: glommio, sockets, the shard (turn)
//!  ringtail-coord  the coordinator and the metadata on disk      (mesh, meta)
//!  ringtail-log    writes the log's lines
//! ```
//!
//! Absent by design: anything that a client could see the decision of.

mod accept;
pub mod bell;
mod broker;
mod clock;
mod connection;
mod coordinator;
mod executor;
mod inbox;
mod log;
mod machine;
pub mod mesh;
mod meta;
mod output;
mod probe;
mod socket;
mod sys;
mod turn;

pub use broker::serve;
