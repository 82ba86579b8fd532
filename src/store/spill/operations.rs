//! The operations that a turn hands out: writes of sealed chunks, reads, removals of segments.

use model::{Now, QueueId};

use super::results::{Pending, What};
use super::{Spill, name};
use crate::store::log::MessageLog;
use crate::store::op::Work;
use crate::store::ops::Ops;
use crate::store::queue_files::{SegmentRead, SegmentWrite};

/// Segments removed at the same time: a removal is slow, and reads queue behind it.
const REMOVED_AT_ONCE: usize = 8;

impl Spill {
    pub fn end_turn(&mut self, now: Now, log: &mut MessageLog, ops: &mut Ops) {
        while self.retries.front().is_some_and(|(when, _)| *when <= now.monotonic_us) {
            if let Some((_, pending)) = self.retries.pop_front() {
                self.retry(pending, ops);
            }
        }
        for queue in std::mem::take(&mut self.listed) {
            self.hand_out(queue, log, ops);
        }
        self.sync_awaited(ops);
        self.remove(ops);
        // A queue whose operations lacked something may have been purged or deleted.
        self.update_lack(None);
    }

    fn remove(&mut self, ops: &mut Ops) {
        while self.removing < REMOVED_AT_ONCE
            && let Some((queue, file)) = self.removable.pop_front()
        {
            self.removing += 1;
            let op = ops.hand_out(name(queue, file), Work::Delete { sync: true });
            self.pending.insert(op, Pending { queue, what: What::Delete { file } });
        }
    }

    fn hand_out(&mut self, queue: QueueId, log: &mut MessageLog, ops: &mut Ops) {
        let Some(files) = self.queues.get_mut(&queue) else { return };
        files.listed = false;
        if files.wants_open() {
            // What it spills is read back at once, so memory is the better place.
            self.bypass.end(queue);
        }
        if !files.stays_open() {
            self.waiting += files.seal(queue, self.config.boot, &mut self.next_file);
        }
        self.write(queue, ops);
        self.read(queue, ops);
        self.remove_settled(queue, log);
    }

    pub(super) fn write(&mut self, queue: QueueId, ops: &mut Ops) {
        let Some(files) = self.queues.get_mut(&queue) else { return };
        for write in files.take_writing() {
            self.is_clean = false;
            let SegmentWrite { file, at, create, pieces, bytes } = write;
            let work = Work::Write { at, pieces, create, sync: false };
            let op = ops.hand_out(name(queue, file), work.clone());
            let what = What::Write { file, bytes, work, again: false };
            self.pending.insert(op, Pending { queue, what });
        }
    }

    fn read(&mut self, queue: QueueId, ops: &mut Ops) {
        let Some(files) = self.queues.get(&queue) else { return };
        let mut retries = self.retries.iter().filter(|(_, one)| one.queue == queue);
        let waits = retries.any(|(_, one)| matches!(one.what, What::Read(_)));
        if !files.wanted || files.reading.is_some() || waits {
            return;
        }
        let Some(mut reading) = files.next_reading(2 * self.chunk as u64) else { return };
        if let Some(unwritten) = self.unwritten_from(queue, reading) {
            if unwritten <= reading.at {
                return; // The write lists the queue again.
            }
            reading.len = unwritten - reading.at;
        }
        let Some(files) = self.queues.get_mut(&queue) else { return };
        files.wanted = false;
        let work = Work::Read { at: reading.at, len: reading.len as usize };
        let op = ops.hand_out(name(queue, reading.file), work);
        files.reading = Some((op, reading));
        self.pending.insert(op, Pending { queue, what: What::Read(reading) });
    }

    /// Where the first write begins that is tried again and that a read of the queue would meet. A
    /// write begins with a chunk, so what is before it is whole.
    pub(super) fn unwritten_from(&self, queue: QueueId, reading: SegmentRead) -> Option<u64> {
        let waiting = self.retries.iter().map(|(_, one)| one).chain(self.pending.values());
        waiting
            .filter(|one| one.queue == queue)
            .filter_map(|one| one.what.unwritten(reading.file))
            .filter(|range| range.start < reading.at + reading.len && range.end > reading.at)
            .map(|range| range.start)
            .min()
    }

    /// Lists segments for removal that have no live message, or whose messages were copied.
    fn remove_settled(&mut self, queue: QueueId, log: &mut MessageLog) {
        let Some(files) = self.queues.get_mut(&queue) else { return };
        let mut waits = false;
        for (file, segment) in &mut files.segments {
            // A batch that stays empty is never written.
            let copied = |batch| batch <= log.synced() || batch > log.batch();
            let copied = segment.compacting.is_some_and(copied);
            waits |= segment.compacting.is_some() && !copied;
            if segment.removing || !(copied || segment.live == 0 && segment.len > 0) {
                continue;
            }
            self.removals += usize::from(segment.compacting.is_none());
            segment.compacting = None;
            segment.removing = true;
            for (batch, count) in std::mem::take(&mut segment.unsynced) {
                log.left(batch, count);
            }
            self.removable.push_back((queue, *file));
        }
        let removing: Vec<u32> =
            files.segments.iter().filter(|(_, one)| one.removing).map(|(file, _)| *file).collect();
        files.chunks.retain(|chunk| !removing.contains(&chunk.file));
        if waits {
            self.list(queue);
        }
    }
}
