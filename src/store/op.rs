//! What the store asks of the disk, and what the disk answers.
//!
//! Operations on one file are carried out in the order in which they were handed out; those on
//! different files in any order.

use std::fmt;

use bytes::Bytes;
use model::QueueId;

/// The shard number of the log that recovery writes.
pub const RECOVERY: u16 = u16::MAX;

/// A file of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileName {
    /// A segment of a shard's log.
    Log {
        /// Which start of the process wrote it.
        boot: u32,
        /// The shard, or [`RECOVERY`].
        shard: u16,
        /// Its number in the shard's log, from 0.
        number: u32,
    },
    /// A segment of a queue.
    Queue {
        /// The queue.
        queue: QueueId,
        /// Its number among those of the queue.
        number: u32,
    },
}

impl fmt::Display for FileName {
    /// The path below the data directory.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log { boot, shard, number } => {
                write!(out, "log/{boot:08x}-{shard:04x}-{number:08x}.log")
            }
            Self::Queue { queue, number } => {
                write!(out, "queues/{:016x}-{number:08x}.seg", queue.0)
            }
        }
    }
}

/// An operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// Given back with the answer; increasing.
    pub id: u64,
    /// The file.
    pub file: FileName,
    /// What to do with it.
    pub work: Work,
}

/// What is done with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Write the pieces one behind the other.
    Write {
        /// Octets in front of them.
        at: u64,
        /// What to write.
        pieces: Vec<Bytes>,
        /// The file does not exist: create it. With `sync` its folder is synced too.
        create: bool,
        /// Answer when it is on stable storage (`fdatasync`).
        sync: bool,
    },
    /// Answer when everything written before is on stable storage (`fdatasync`).
    Sync,
    /// Answer when everything written before to segments of whatever queue is on stable storage,
    /// with their names (`syncfs`): for so many files that one sync for each would take too long.
    SyncAll,
    /// Read so many octets.
    Read {
        /// Octets in front of them.
        at: u64,
        /// How many: no more than were written.
        len: usize,
    },
    /// Remove the file, if it exists.
    Delete {
        /// Answer when it is gone for good: its folder is synced.
        sync: bool,
    },
}

/// The answer to an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The operation's.
    pub id: u64,
    /// What was read, else nothing; or why it was not done.
    pub result: Result<Bytes, Failure>,
}

/// Why an operation was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {doing}: {why}")]
pub struct Failure {
    /// What was tried, with the file's path.
    pub doing: String,
    /// The system's reason.
    pub why: String,
    /// There was no room (ENOSPC, EDQUOT) and nothing else was wrong. A write that failed so may be
    /// repeated; a sync is never repeated.
    pub full: bool,
}

/// The files as recovery sees them: it runs alone, before anything else does.
pub trait Files {
    /// All files of the store with their lengths in octets, in no order.
    ///
    /// # Errors
    ///
    /// The system's.
    fn list(&mut self) -> Result<Vec<(FileName, u64)>, Failure>;
    /// Up to `len` octets from `at` on; fewer only at the end of the file.
    ///
    /// # Errors
    ///
    /// The system's.
    fn read(&mut self, file: FileName, at: u64, len: usize) -> Result<Bytes, Failure>;
    /// Writes a new file. It is there, whole, after [`Self::commit`]; before that, not at all.
    ///
    /// # Errors
    ///
    /// The system's.
    fn write(&mut self, file: FileName, octets: &[u8]) -> Result<(), Failure>;
    /// Puts what was written on stable storage, with its names.
    ///
    /// # Errors
    ///
    /// The system's.
    fn commit(&mut self) -> Result<(), Failure>;
    /// Syncs files that an earlier start has written.
    ///
    /// # Errors
    ///
    /// The system's.
    fn sync(&mut self, files: &[FileName]) -> Result<(), Failure>;
    /// Syncs the folders, so that what was removed is removed for good.
    ///
    /// # Errors
    ///
    /// The system's.
    fn sync_folders(&mut self) -> Result<(), Failure>;
    /// Removes a file.
    ///
    /// # Errors
    ///
    /// The system's.
    fn delete(&mut self, file: FileName) -> Result<(), Failure>;
}
