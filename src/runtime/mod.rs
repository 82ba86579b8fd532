//! The shell: threads, executors, sockets, rings between threads, the clock and signals.
//!
//! ```text
//!  main            waits for signals and for reports of the others
//!  ringtail-accept takes clients, hands each to a shard          (inbox)
//!  ringtail-s0…    one a CPU, pinned: glommio, sockets, the shard (turn)
//!  ringtail-coord  the coordinator and the metadata on disk      (mesh, meta)
//!  ringtail-wal    writes the logs of messages                   (disk)
//!  ringtail-seg    writes and reads what queues spilled          (disk)
//!  ringtail-spare  prepares segments of the logs
//!  ringtail-space  looks how much of the disk is free
//!  ringtail-log    writes the lines of the text log
//! ```
//!
//! Absent by design: anything that a client could see the decision of.

mod accept;
pub mod bell;
mod broker;
mod cached;
mod clock;
mod connection;
mod coordinator;
mod data_dir;
pub mod disk;
mod executor;
mod faults;
mod files;
mod inbox;
mod lane;
mod log;
mod machine;
pub mod mesh;
mod meta;
mod open_files;
mod output;
mod probe;
mod sizes;
mod socket;
mod space;
mod spare;
mod sys;
mod turn;

pub use broker::serve;
