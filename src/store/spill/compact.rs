//! Compaction: segments with few live messages, and settles that only old batches of the log hold.

use model::mutant::{self, Mutant};

use super::Spill;
use crate::store::effects::Relief;
use crate::store::log::MessageLog;
use crate::store::queue_files::QueueFiles;

impl Spill {
    /// Asks a queue to move its few live messages out of a segment, chunk by chunk.
    pub fn relief(&mut self, log: &MessageLog) -> Option<Relief> {
        if let Some(relief) = self.reliefs.pop_front() {
            return Some(relief);
        }
        let (queue, file) = self
            .listed
            .iter()
            .find_map(|queue| Some((*queue, self.queues.get(queue)?.sparse_segment()?)))?;
        let files = self.queues.get_mut(&queue)?;
        // What moves out of it is logged in the batch that is being filled.
        files.segments.get_mut(&file)?.compacting = Some(log.next_batch());
        self.removals += 1;
        let chunks = files.chunks.iter().filter(|chunk| chunk.file == file);
        self.reliefs.extend(chunks.map(|chunk| {
            let (from, to) = (chunk.first, chunk.last);
            Relief::Segment { queue, from, to }
        }));
        self.reliefs.pop_front()
    }

    /// Bytes that [`Self::log_settles_again`] would write.
    pub fn settles_to_log_again(&self, last: u64) -> u64 {
        const RANGE: u64 = 25;
        let due = |files: &&QueueFiles| files.settles_since.is_some_and(|batch| batch <= last);
        let ranges = self.queues.values().filter(due).map(|files| files.settled.iter().count());
        RANGE * ranges.sum::<usize>() as u64
    }

    /// Logs settles again that are in batches up to `last` and may be nowhere else.
    pub fn log_settles_again(&mut self, last: u64, log: &mut MessageLog) {
        for (queue, files) in &mut self.queues {
            if files.settles_since.is_none_or(|batch| batch > last) {
                continue;
            }
            if mutant::active(Mutant::SettleForgotten) {
                continue;
            }
            files.settles_since = Some(log.next_batch());
            for (from, to) in files.settled.iter() {
                log.settle_again(*queue, from, to);
            }
        }
    }
}
