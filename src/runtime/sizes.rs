//! How much memory and disk everything may use: what the configuration and the machine make of it.

use super::sys::{self, Limit};
use crate::config::{Config, Watermark};

const MIB: u64 = 1 << 20;
/// Descriptors that a disk thread keeps open at most.
const OPEN_FILES: u64 = 1024;

/// What may wait for the disk, however little or much memory there is.
const WAITING_MIN: usize = 4 << 20;
const WAITING_MAX: usize = 64 << 20;

/// Sizes in octets, unless they say otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    /// From here on publishers are blocked.
    pub memory_limit: u64,
    /// What the queues of one shard may hold in memory.
    pub resident_max: usize,
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
    /// Those for so many shards, where the process may use so much memory.
    #[must_use]
    pub fn new(config: &Config, memory: u64, shards: u16) -> Self {
        let memory_limit = config.memory.limit(memory);
        let shards = u64::from(shards.max(1));
        let resident = Watermark::Relative(config.paging_ratio).limit(memory_limit) / shards;
        let log_max = (memory_limit / 4).clamp(128 * MIB, 512 * MIB) / shards;
        // A limit that cannot be read does not limit; the broker has looked at it by then.
        let files = sys::raise(Limit::Files).unwrap_or(OPEN_FILES * 8);
        Self {
            memory_limit,
            resident_max: usize::try_from(resident).unwrap_or(usize::MAX),
            waiting_max: usize::try_from(resident / 4)
                .unwrap_or(usize::MAX)
                .clamp(WAITING_MIN, WAITING_MAX),
            log_max,
            segment: (log_max / 8).clamp(4 * MIB, 32 * MIB),
            disk_free_limit: config.disk_free.limit(memory),
            // The others are for clients.
            open_files: usize::try_from((files / 8).min(OPEN_FILES)).unwrap_or(usize::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(memory: u64, shards: u16) -> Sizes {
        let config = Config { memory: Watermark::Absolute(memory), ..Config::default() };
        Sizes::new(&config, 16 << 30, shards)
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
        let config = Config { disk_free: Watermark::Relative(0.5), ..Config::default() };
        assert_eq!(Sizes::new(&config, 1000, 1).disk_free_limit, 500);
    }
}
