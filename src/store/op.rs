//! Operations on files that the store hands out, and their results.
//!
//! Operations on one file are carried out in the order in which they were handed out, those on
//! different files in any order.

use std::fmt;

use bytes::Bytes;
use model::QueueId;
use model::mutant::{self, Mutant};

/// The shard number of the log that recovery writes.
pub const RECOVERY: u16 = u16::MAX;

/// A file of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileName {
    /// A segment of a shard's log.
    Log {
        /// The number of the start of the process that wrote it.
        boot: u32,
        /// The shard, or [`RECOVERY`].
        shard: u16,
        /// Its number in the shard's log, counted from 0.
        number: u32,
    },
    /// A segment of a queue.
    Queue {
        /// The queue.
        queue: QueueId,
        /// Its number, unique within the shard.
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
    /// Returned with the result. Increases with each operation.
    pub id: u64,
    /// The file.
    pub file: FileName,
    /// What to do with it.
    pub work: Work,
}

/// What to do with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Write adjacent pieces.
    Write {
        /// Their offset in bytes.
        at: u64,
        /// What to write.
        pieces: Vec<Bytes>,
        /// Create the file. With `sync` its folder is synced too.
        create: bool,
        /// Complete when they are on stable storage (`fdatasync`).
        sync: bool,
    },
    /// Complete when everything written to the file before is on stable storage (`fdatasync`).
    Sync,
    /// Complete when everything written before to segments of any queue is on stable storage, with
    /// their names (`syncfs`). For many files this is faster than a sync of each.
    SyncAll,
    /// Read bytes.
    Read {
        /// Their offset.
        at: u64,
        /// How many. They were written before.
        len: usize,
    },
    /// Remove the file, if it exists.
    Delete {
        /// Complete when its removal is on stable storage: the folder is synced.
        sync: bool,
    },
}

/// The result of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The operation's id.
    pub id: u64,
    /// The bytes of a read, else none; or why it failed.
    pub result: Result<Bytes, DiskError>,
}

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {doing}: {why}")]
pub struct DiskError {
    /// What was tried, with the file's path.
    pub doing: String,
    /// The system's reason.
    pub why: String,
    /// What kind of reason that is.
    pub cause: Cause,
}

/// Why an operation failed, as far as it decides whether trying it again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The disk is full (ENOSPC, EDQUOT). A write may be tried again.
    NoSpace,
    /// The file cannot be opened for now (EMFILE, ENFILE): any operation may be tried again.
    NoDescriptor,
    /// The system has no memory for it (ENOMEM). May be tried again, except a sync that began.
    NoMemory,
    /// The file does not exist. The write that creates it may have failed.
    NotFound,
    /// Anything else: the contents of the file are unknown.
    Other,
}

impl DiskError {
    /// True if the same operation may be tried again later: a resource was lacking and nothing
    /// else was wrong. A sync that reached the disk and failed never is.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        matches!(self.cause, Cause::NoSpace | Cause::NoDescriptor | Cause::NoMemory)
    }

    /// What the operator can do, to be appended to the error; empty where the error says it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self.cause {
            Cause::NoDescriptor => {
                ": raise the limit of open files (`ulimit -n 65536`; systemd: LimitNOFILE=65536; \
                 docker: --ulimit nofile=65536), or that of the system (`sysctl fs.file-max`)"
            }
            Cause::NoMemory => ": give the process more memory",
            Cause::NoSpace | Cause::NotFound | Cause::Other => "",
        }
    }

    /// True if errors count as success: a deliberate fault of tests.
    pub(super) fn ignored() -> bool {
        mutant::active(Mutant::FailedSyncIgnored)
    }
}

/// The files as recovery uses them, alone, before anything else does.
pub trait Files {
    /// All files of the store with their lengths in bytes, in no order.
    ///
    /// # Errors
    ///
    /// The system's.
    fn list(&mut self) -> Result<Vec<(FileName, u64)>, DiskError>;
    /// Reads up to `len` bytes from offset `at`; fewer only at the end of the file.
    ///
    /// # Errors
    ///
    /// The system's.
    fn read(&mut self, file: FileName, at: u64, len: usize) -> Result<Bytes, DiskError>;
    /// Writes a new file. It appears, whole, with [`Self::commit`].
    ///
    /// # Errors
    ///
    /// The system's.
    fn write(&mut self, file: FileName, bytes: &[u8]) -> Result<(), DiskError>;
    /// Puts written files on stable storage, with their names.
    ///
    /// # Errors
    ///
    /// The system's.
    fn commit(&mut self) -> Result<(), DiskError>;
    /// Syncs files of an earlier start.
    ///
    /// # Errors
    ///
    /// The system's.
    fn sync(&mut self, files: &[FileName]) -> Result<(), DiskError>;
    /// Syncs the folders, so that removals survive a power loss.
    ///
    /// # Errors
    ///
    /// The system's.
    fn sync_folders(&mut self) -> Result<(), DiskError>;
    /// Removes a file.
    ///
    /// # Errors
    ///
    /// The system's.
    fn delete(&mut self, file: FileName) -> Result<(), DiskError>;
}
