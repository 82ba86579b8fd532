//! What a store is started with.

/// What a store is started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreConfig {
    /// The shard.
    pub shard: u16,
    /// How many shards there are.
    pub shards: u16,
    /// The number of this start of the process.
    pub boot: u32,
    /// When a message counts as durable.
    pub durability: SyncPolicy,
    /// Bytes of a segment of the log.
    pub segment_bytes: u64,
    /// Bytes of all segments of this shard's log. Beyond them the older half is compacted.
    pub log_max: u64,
    /// Publishers wait while so many bytes wait for segments, or half as many for the log.
    pub waiting_max: usize,
    /// Bytes of a chunk. A read covers up to two. See [`Store::share`].
    pub chunk_bytes: usize,
    /// A queue that had to spill so many bytes at once may bypass the log. See
    /// [`Store::bypass_log`].
    pub bypass_min: usize,
    /// It goes back to the log after batches to which it added fewer bytes.
    pub bypass_batch: usize,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            shard: 0,
            shards: 1,
            boot: 1,
            durability: SyncPolicy::Strict,
            segment_bytes: 32 * 1024 * 1024,
            log_max: 256 * 1024 * 1024,
            waiting_max: 64 * 1024 * 1024,
            chunk_bytes: 256 * 1024,
            bypass_min: 1024 * 1024,
            bypass_batch: 64 * 1024,
        }
    }
}

/// When a message counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncPolicy {
    /// When it is on stable storage.
    Strict,
    /// When the operating system has it. A sync follows at intervals; a power loss takes what came
    /// after the last one.
    Relaxed {
        /// Milliseconds between syncs.
        every_ms: u64,
    },
}
