//! The coordinator's end of the rings.

use model::{Now, ShardId};

use super::Coordinator;
use crate::shard::batch::{Batch, Record};

impl Coordinator {
    /// A batch arrived from a shard; it is left empty.
    pub fn mesh(&mut self, from: ShardId, batch: &mut Batch, now: Now) {
        let mut at = 0;
        while let Some(record) = batch.next(&mut at) {
            // Nothing else is ever sent here.
            if let Record::Control(control) = record {
                self.control(from, control, now);
            }
        }
        batch.clear();
    }

    /// What is to go to a shard; see [`Self::take_outbound`].
    pub fn outbound(&mut self, to: ShardId) -> &mut Batch {
        for (shard, control) in self.take_outbound() {
            self.batches[shard.index()].control(control);
        }
        &mut self.batches[to.index()]
    }
}
