//! The shell: threads, sockets, rings between threads, the clock and signals.
//!
//! ```text
//!  main            waits for signals and for reports of the others
//!  ringtail-accept takes clients, hands each to a shard          (inbox)
//!  ringtail-s0…    one a CPU, pinned: a poller, sockets, the shard (turn, net)
//!  ringtail-coord  the coordinator and the metadata on disk      (rings, meta)
//!  ringtail-wal    writes the logs of messages                   (disk)
//!  ringtail-seg    writes and reads what queues spilled          (disk)
//!  ringtail-spare  prepares segments of the logs
//!  ringtail-space  looks how much of the disk is free
//!  ringtail-log    writes the lines of the text log
//! ```
//!
//! This room makes no decision that a client can see.

mod broker;
mod clock;
mod coordinator;
mod definitions;
pub mod disk;
mod fact_writer;
pub mod inspect;
mod machine;
pub mod memory;
mod net;
mod probe;
pub mod rings;
mod shard_thread;
mod sizes;
mod sys;
mod text_log;
mod turn;
pub mod wakeup;

pub use broker::{Embedded, serve, start};
pub use probe::StartError;
