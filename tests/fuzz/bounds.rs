//! What a broker may hold and what one call to it may do, from the bounds that
//! docs/bounds.md states.

const KIB: usize = 1024;
/// Output that a connection's socket does not take, before its input is not read.
const OUTPUT_MARK: usize = 1024 * KIB;
/// Deliveries on the way from one home to one connection.
const CREDIT: usize = 256 * KIB;
/// Input behind barriers.
const PARKED_MARK: usize = 256 * KIB;
/// The largest message that the sessions here publish, with its names and headers.
const MESSAGE: usize = 300 * KIB;
/// What is read from a socket at once.
pub const CHUNK: usize = 64 * KIB;
/// Bytes sent to a home and not applied there.
const WINDOW: usize = 4096 * KIB;
/// A frame may declare a queue or a binding, which every shard and the coordinator remember.
const PER_FRAME: usize = 1200;
/// An empty broker and what its buffers keep.
const ALWAYS: usize = 4096 * KIB;

/// The bytes that a broker of so many shards may hold: what its queues and partial messages
/// pin by its own count, the stated bounds of each connection, and the topology. Twice, since
/// buffers grow by doubling.
pub fn held(shards: usize, connections: usize, pinned: usize, frames: u64) -> usize {
    let connection = OUTPUT_MARK + MESSAGE + shards * (CREDIT + MESSAGE) + PARKED_MARK + 3 * CHUNK;
    let topology = (shards + 1) * PER_FRAME * frames as usize;
    2 * (pinned + connections * connection) + topology + ALWAYS
}

/// The bytes of output and of batches that one call may make: to each connection its credit, its
/// replies and a message more; to each shard a window.
pub fn made(shards: usize, connections: usize) -> usize {
    connections * (OUTPUT_MARK + MESSAGE + shards * (CREDIT + MESSAGE)) + WINDOW + MESSAGE
}

/// The largest single request to the allocator: a connection's output, doubled as it grows.
pub fn largest(shards: usize) -> usize {
    2 * (OUTPUT_MARK + MESSAGE + shards * (CREDIT + MESSAGE)) + WINDOW
}
