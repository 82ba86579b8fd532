//! Errors of the store that others must handle.

use model::Resource;

/// What a shard's store cannot cope with by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageError {
    /// A write or a sync failed: what is on disk is not known any more. The process has to end.
    Poisoned(String),
    /// Operations on files fail for want of disk space, descriptors or memory, with this error.
    /// They are tried again. `None`: all have succeeded.
    Full(Option<String>),
    /// A queue is out of service, since messages of it cannot be read; and why. Its consumers and
    /// waiting gets have been told.
    Unreadable(Resource, String),
}
