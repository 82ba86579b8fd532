//! The coordinator: what is decided once for all shards. It turns the requests of shards into
//! numbered changes of the topology that every shard applies in the same order, and answers when
//! all have. A pure machine: [`Coordinator::control`] in, [`Coordinator::take_records`] and then
//! [`Coordinator::take_outbound`] out.
//!
//! An answer promises that every shard knows the result, and that what is durable of it is on the
//! disk: it waits for the latest version decided when it was made, even if the request itself
//! changed nothing. Logins and the opening of vhosts and channels promise nothing about the
//! topology and wait for nothing.
//!
//! ```text
//!  declare   Ask → Create → home → Created → Apply → all shards → Applied → Settled, Answer
//!  delete    Ask → Freeze → home → Frozen  → Apply → all shards → Applied → Settled, Drop, Answer
//!  others    Ask                           → Apply → all shards → Applied → Settled, Answer
//! ```
//!
//! The machine is replayable: a second copy that gets the same input at the same times has the same
//! state and says the same, whatever the seeds of its hash maps are. Nothing in here is random,
//! reads a clock or depends on the order of a hash map.
//!
//! Files, each importing only those before it: `versions` (what is decided and applied),
//! `durable` (what of a change outlives a restart), `decisions` (topology, versions and outbox),
//! `exchanges`, `directory` and `queues` (the life cycle of a queue), `admin/` (users, rights,
//! limits, policies), `login_pace`, `limits`, `open_counts`, `alarm`, `disk_full`, `machine` (joins
//! them), `inspect` (answers from outside), `definitions` (files that a start imports).

mod admin;
mod alarm;
mod decisions;
pub mod definitions;
mod directory;
mod disk_full;
mod durable;
mod exchanges;
mod inspect;
mod limits;
mod login_pace;
mod machine;
mod open_counts;
mod queues;
mod removals;
mod versions;

pub use self::directory::QueuePlacement;
pub use self::limits::NodeLimits;
pub use self::machine::{Coordinator, CoordinatorConfig};

#[cfg(test)]
mod tests;
