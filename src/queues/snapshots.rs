//! Snapshots of the queues of a home, a chunk at a time, so that many queues are not one turn.

use std::ops::Bound::{Excluded, Unbounded};

use model::mutant::{self, Mutant};
use model::{QueueCommands, QueueId};

use crate::mesh::inspect::{ListChunk, Page, QueueRow, RowsOf, ShardCounts, chunk_of, name_bytes};
use crate::queues::hosted::Queues;

impl Queues {
    /// The queues by id, each at the moment it is looked at; without those of direct reply-to.
    pub fn list(&self, page: &Page<QueueId>) -> ListChunk<QueueRow, QueueId> {
        let behind = page.behind;
        if mutant::active(Mutant::WalkEndsWithQueue)
            && behind.is_some_and(|behind| !self.order.contains(&behind))
        {
            return ListChunk { items: Vec::new(), next: None };
        }
        let ids = self.order.range((behind.map_or(Unbounded, Excluded), Unbounded));
        let walk = RowsOf {
            row: |id: &&QueueId| {
                let host = self.hosted.get(id)?;
                let (vhost, name) = (host.vhost.clone(), host.name.clone());
                Some(QueueRow { id: **id, vhost, name, snapshot: host.queue.snapshot() })
            },
            cursor: |id: &&QueueId| **id,
            bytes: |row: &QueueRow| name_bytes(&[&row.vhost, &row.name]),
        };
        chunk_of(page.most, ids, walk)
    }

    /// Adds what is known here to the counts of the shard.
    pub fn count(&self, counts: &mut ShardCounts) {
        counts.queues = self.order.len() as u64;
    }
}
