//! The queues that a shard finds when it starts.

use model::{Name, QueueSpec};

use super::machine::Shard;
use crate::store::RecoveredQueue;

impl Shard {
    /// Takes in a queue that outlived a restart and lives here from now on. This comes before
    /// anything else.
    pub fn restore(&mut self, vhost: Name, spec: QueueSpec, found: RecoveredQueue) {
        debug_assert_eq!(found, RecoveredQueue::default(), "no message outlives a restart yet");
        self.home.create(vhost, spec);
    }
}
