//! How much memory and disk everything may use: what the configuration and the machine make of it.

use crate::config::{Config, SizeLimit};

const MIB: u64 = 1 << 20;
/// Files that a disk thread keeps open at most, and at least.
const OPEN_FILES: u64 = 1024;
const OPEN_FILES_MIN: u64 = 8;

/// What partial messages may hold, however much memory there is.
const PARTIAL_MAX: u64 = 256 << 20;

/// What may wait for the disk, however little or much memory there is.
const WAITING_MIN: usize = 4 << 20;
const WAITING_MAX: usize = 64 << 20;

/// Sizes in bytes, unless they say otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    /// From here on publishers are blocked.
    pub memory_limit: u64,
    /// What the queues of one shard may hold in memory.
    pub resident_max: usize,
    /// What they may hold when nothing of it can be spilled: consumers have to acknowledge then.
    pub unsettled_max: usize,
    /// What of large messages one shard's queues may have on the way to consumers without credit
    /// for it.
    pub large_max: usize,
    /// What partial messages of one shard may hold.
    pub partial_max: usize,
    /// Those of one connection, if it is the only one that goes on.
    pub partial_own_max: usize,
    /// What one copy of all that is declared may take.
    pub topology_max: usize,
    /// What of one shard may wait for the disk.
    pub waiting_max: usize,
    /// All segments of one shard's log.
    pub log_max: u64,
    /// One segment of it.
    pub segment: u64,
    /// What is to stay free on the disk.
    pub disk_free_limit: u64,
    /// How many files a disk thread keeps open.
    pub open_files: usize,
}

impl Sizes {
    /// Those for so many shards, where the process may use so much memory and open so many files.
    #[must_use]
    pub fn new(config: &Config, memory: u64, files: u64, shards: u16) -> Self {
        let memory_limit = config.memory.limit(memory);
        let shards = u64::from(shards.max(1));
        let resident = SizeLimit::Relative(config.paging_ratio).limit(memory_limit) / shards;
        let log_max = (memory_limit / 4).clamp(128 * MIB, 512 * MIB) / shards;
        // A quarter is for the disk threads, one for each shard and one for all; the others are for
        // clients.
        let open_files = (files / 4 / (shards + 1)).clamp(OPEN_FILES_MIN, OPEN_FILES);
        Self {
            memory_limit,
            resident_max: usize::try_from(resident).unwrap_or(usize::MAX),
            // Below the alarm, which blocks publishers.
            unsettled_max: within(memory_limit / 4 * 3 / shards, u64::MAX),
            large_max: within(memory_limit / 8 / shards, u64::MAX),
            partial_max: within(memory_limit / 8 / shards, PARTIAL_MAX),
            partial_own_max: within(memory_limit / 4, PARTIAL_MAX),
            // Each shard has a copy, the coordinator three.
            topology_max: within(memory_limit / 3 / (shards + 3), u64::MAX),
            waiting_max: usize::try_from(resident / 4)
                .unwrap_or(usize::MAX)
                .clamp(WAITING_MIN, WAITING_MAX),
            log_max,
            segment: (log_max / 8).clamp(4 * MIB, 32 * MIB),
            disk_free_limit: config.disk_free.limit(memory),
            open_files: usize::try_from(open_files).unwrap_or(usize::MAX),
        }
    }
}

fn within(bytes: u64, most: u64) -> usize {
    usize::try_from(bytes.min(most)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(memory: u64, shards: u16) -> Sizes {
        let config = Config { memory: SizeLimit::Absolute(memory), ..Config::default() };
        Sizes::new(&config, 16 << 30, 20_000, shards)
    }

    #[test]
    fn a_log_is_a_quarter_of_the_memory_within_bounds() {
        let log = |memory, shards| {
            let sizes = sizes(memory, shards);
            (sizes.log_max / MIB, sizes.segment / MIB)
        };
        assert_eq!(log(10 << 30, 1), (512, 32));
        assert_eq!(log(10 << 30, 4), (128, 16));
        assert_eq!(log(1 << 30, 1), (256, 32));
        assert_eq!(log(1, 2), (64, 8));
        assert_eq!(log(1, 64), (2, 4));
    }

    #[test]
    fn half_of_the_memory_is_divided_among_the_shards() {
        assert_eq!(sizes(1 << 30, 4).resident_max, 1 << 27);
        assert_eq!(sizes(1 << 30, 4).disk_free_limit, 50_000_000);
        let config = Config { disk_free: SizeLimit::Relative(0.5), ..Config::default() };
        assert_eq!(Sizes::new(&config, 1000, 20_000, 1).disk_free_limit, 500);
    }

    #[test]
    fn disk_threads_share_a_quarter_of_the_open_files() {
        let open_files =
            |files, shards| Sizes::new(&Config::default(), 1, files, shards).open_files;
        assert_eq!(open_files(1 << 20, 1), 1024);
        assert_eq!(open_files(20_000, 2), 1024);
        assert_eq!(open_files(256, 2), 21);
        assert_eq!(open_files(65_536, 63), 256);
        assert_eq!(open_files(256, 64), 8);
    }
}
