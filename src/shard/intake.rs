//! Limits on what publishers of this shard may add in a turn.

use model::{ChannelId, ConnId};

use crate::mesh::peers::WINDOW_BYTES;

/// How much more publishers of this shard may bring in now.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    /// Too much waits for the disk: nothing more is to enter this shard's queues.
    pub backpressure: bool,
    /// Bytes that publishes to several queues of this shard have copied in this turn.
    pub copied: u64,
    /// Commits that go on in the next turn, since they copied so much in this one.
    pub later: Vec<(ConnId, ChannelId)>,
}

impl Intake {
    /// True if publishes to several queues of this shard have to wait for the next turn.
    pub fn copied_enough(&self) -> bool {
        self.copied > WINDOW_BYTES
    }
}
