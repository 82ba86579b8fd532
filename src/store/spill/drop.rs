//! Spilled messages that are dropped without being read, because they have expired or their queue
//! is too long: whole chunks, whose headers tell enough.

use model::QueueId;
use model::queue::{DropSpilled, DroppedSpilled, Expiry};

use super::Spill;
use crate::store::log::MessageLog;
use crate::store::queue_files::{QueueFiles, StoredChunk};

/// Chunks that one call drops at most.
const AT_ONCE: usize = 1000;

impl Spill {
    pub fn drop_spilled(
        &mut self,
        queue: QueueId,
        mut what: DropSpilled,
        log: &mut MessageLog,
    ) -> DroppedSpilled {
        let mut dropped = DroppedSpilled { messages: 0, bodies: 0, next: Expiry::NEVER };
        let boot = self.config.boot;
        let Some(files) = self.queues.get_mut(&queue) else { return dropped };
        for _ in 0..AT_ONCE {
            let last = files.first_unloaded().is_none() && what != DropSpilled::Nothing;
            if last || files.open_is_in_lane() {
                // Sealed first, so that its messages are in a segment like the others.
                self.waiting += files.seal(queue, boot, &mut self.next_file);
            }
            let Some((at, chunk)) = files.first_unloaded() else { break };
            if !is_dropped(&mut what, chunk) {
                break;
            }
            dropped.messages += u64::from(chunk.live);
            dropped.bodies += chunk.bodies;
            files.drop_unloaded(queue, at, log);
        }
        let first = files.first_unloaded().map(|(_, chunk)| chunk.earliest);
        dropped.next = first.unwrap_or(files.open_earliest());
        self.list(queue);
        dropped
    }
}

/// Whether all messages of a chunk are to be dropped; what is left to drop behind it.
fn is_dropped(what: &mut DropSpilled, chunk: &StoredChunk) -> bool {
    match what {
        DropSpilled::Nothing => false,
        DropSpilled::Expired(wall_ms) => chunk.latest.has_come(*wall_ms),
        DropSpilled::First { messages, bodies } => {
            let live = u64::from(chunk.live);
            let dropped = live <= *messages || chunk.bodies < *bodies;
            *messages = messages.saturating_sub(live);
            *bodies = bodies.saturating_sub(chunk.bodies);
            dropped
        }
    }
}

impl QueueFiles {
    /// Settles all messages of a chunk that is not loaded.
    pub fn drop_unloaded(&mut self, queue: QueueId, at: usize, log: &mut MessageLog) {
        let Some(chunk) = self.chunks.get(at) else { return };
        let (first, last, live) = (chunk.first, chunk.last, chunk.live);
        log.settle(queue, first, last);
        self.settled.insert(first, last);
        self.settles_since.get_or_insert(log.next_batch());
        self.load(at);
        self.left(at, live);
    }
}
