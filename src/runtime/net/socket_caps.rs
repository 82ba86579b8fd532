//! How many sockets of clients there may be: the limit of open files less what the broker itself
//! may open, so that clients never keep it from opening a file.

/// Descriptors of the process: standard streams, signals, wake-ups, the lock and the metadata log
/// with its successor, folders that are synced, and some more.
const PROCESS: u64 = 48;
/// Descriptors of a shard: its wake-up and its poller; glommio takes the most.
const SHARD: u64 = 16;
/// Descriptors of a disk thread beside the files it keeps open: its wake-up, a folder, a file
/// before the one it replaces is closed.
const DISK_THREAD: u64 = 6;
/// With fewer sockets the broker would not be worth starting.
const SOCKETS_MIN: u64 = 16;
/// Sockets without a login are never bounded to fewer, unless that is more than half of all.
const NEWCOMERS_MIN: u64 = 100;

/// Who opens descriptors beside clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Openers {
    /// Shards, each with a log thread.
    pub shards: u16,
    /// Files that one disk thread keeps open.
    pub open_files: usize,
    /// Addresses the broker listens on.
    pub listeners: usize,
}

/// How many sockets there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketCaps {
    /// All sockets of clients.
    pub sockets: usize,
    /// Those on one shard whose client has not logged in.
    pub newcomers: usize,
}

impl SocketCaps {
    /// Those under a limit of so many open files.
    ///
    /// # Errors
    ///
    /// The limit is too low; how high it must be at least.
    pub fn new(files: u64, openers: Openers) -> Result<Self, u64> {
        let shards = u64::from(openers.shards);
        // One more disk thread has the segments of queues.
        let disk = (shards + 1) * (openers.open_files as u64 + DISK_THREAD);
        let own = PROCESS + shards * SHARD + disk + openers.listeners as u64;
        let sockets = files.saturating_sub(own);
        if sockets < SOCKETS_MIN {
            return Err(own + SOCKETS_MIN);
        }
        let newcomers = (sockets / 4).max(NEWCOMERS_MIN.min(sockets / 2));
        let each = newcomers.div_ceil(shards.max(1));
        let count = |sockets| usize::try_from(sockets).unwrap_or(usize::MAX);
        Ok(Self { sockets: count(sockets), newcomers: count(each) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caps(files: u64, shards: u16, open_files: usize) -> Result<(usize, usize), u64> {
        let caps = SocketCaps::new(files, Openers { shards, open_files, listeners: 1 })?;
        Ok((caps.sockets, caps.newcomers))
    }

    #[test]
    fn sockets_get_what_the_broker_does_not_need() {
        assert_eq!(caps(65536, 2, 1024), Ok((62365, 7796)));
        assert_eq!(caps(1024, 2, 85), Ok((670, 84)));
        assert_eq!(caps(256, 1, 32), Ok((115, 57)));
        assert_eq!(caps(256, 2, 21), Ok((94, 24)));
    }

    #[test]
    fn a_limit_that_is_too_low_is_refused_with_what_is_needed() {
        assert_eq!(caps(256, 64, 8), Err(1999));
        assert_eq!(caps(1999, 64, 8).map(|caps| caps.0), Ok(16));
    }
}
