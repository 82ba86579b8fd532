//! Messages that bypass the log: they are written to a segment of their queue only, and become
//! durable with the log batch that is being filled when they arrive.
//!
//! ```text
//!   batch:     being filled                 in flight                    durable
//!   messages:  in the open chunk of their   their chunks are written,    all these syncs and the
//!              queue, or in sealed ones     and each segment synced      log's own write are done
//! ```
//!
//! A queue in backlog brings enough bytes for a sync of its own. So its messages are written once
//! instead of twice: first to the log, then to a segment.

use model::mutant::{self, Mutant};
use model::queue::{Expiry, Spilled};
use model::{Message, QueueId, Stored};

use super::Spill;
use super::sync::SyncedSegment;
use crate::store::op::Work;
use crate::store::ops::Ops;

/// So many queues bypass the log at once.
const QUEUES: usize = 4;
/// A queue goes back to the log after so many small batches in a row.
const SMALL_IN_A_ROW: u32 = 4;

/// A queue that bypasses the log.
#[derive(Debug)]
struct BypassQueue {
    queue: QueueId,
    /// Bytes it added to the batch being filled.
    bytes: usize,
    /// Batches in a row to which it added little.
    small: u32,
}

/// A segment that the batch in flight waits for.
#[derive(Debug, Clone, Copy)]
struct AwaitedSegment {
    queue: QueueId,
    file: u32,
    /// The operation; `None` until a sync that can count is handed out.
    sync: Option<u64>,
}

/// What bypasses the log.
#[derive(Debug)]
pub(super) struct Bypass {
    /// Fewer bytes than these are a small batch.
    small: usize,
    queues: Vec<BypassQueue>,
    /// Queues with messages in the batch being filled, whether they still bypass the log or not.
    filling: Vec<QueueId>,
    awaited: Vec<AwaitedSegment>,
}

impl Bypass {
    /// A batch to which a queue adds fewer than `small` bytes is not worth a sync of its own.
    pub fn new(small: usize) -> Self {
        Self { small, queues: Vec::new(), filling: Vec::new(), awaited: Vec::new() }
    }

    /// The queue bypasses the log from now on, unless enough others do.
    fn begin(&mut self, queue: QueueId) {
        if self.queues.len() < QUEUES && !self.is_on(queue) {
            self.queues.push(BypassQueue { queue, bytes: 0, small: 0 });
        }
    }

    pub fn end(&mut self, queue: QueueId) {
        self.queues.retain(|one| one.queue != queue);
    }

    fn is_on(&self, queue: QueueId) -> bool {
        self.queues.iter().any(|one| one.queue == queue)
    }

    /// Counts a message of so many bytes for the batch being filled.
    fn added(&mut self, queue: QueueId, bytes: usize) {
        if let Some(one) = self.queues.iter_mut().find(|one| one.queue == queue) {
            one.bytes += bytes;
        }
        if !self.filling.contains(&queue) {
            self.filling.push(queue);
        }
    }

    /// The batch is handed out. Returns the queues it has messages of.
    fn flush(&mut self) -> Vec<QueueId> {
        for one in &mut self.queues {
            let small = std::mem::take(&mut one.bytes) < self.small;
            one.small = if small { one.small + 1 } else { 0 };
        }
        self.queues.retain(|one| one.small < SMALL_IN_A_ROW);
        std::mem::take(&mut self.filling)
    }

    /// A sync is done. If it does not count, another one has to be handed out.
    pub fn synced(&mut self, op: u64, counts: bool) {
        if counts {
            self.awaited.retain(|one| one.sync != Some(op));
        } else if let Some(one) = self.awaited.iter_mut().find(|one| one.sync == Some(op)) {
            one.sync = None;
        }
    }
}

impl Spill {
    /// Lets a queue bypass the log. Everything behind its head has to be spilled.
    pub fn begin_bypass(&mut self, queue: QueueId) {
        self.bypass.begin(queue);
    }

    /// Takes a message that is kept nowhere else, if its queue bypasses the log. Returns its bytes.
    pub fn bypass_log(
        &mut self,
        queue: QueueId,
        seq: u64,
        expiry: Expiry,
        message: Message<'_>,
    ) -> Option<usize> {
        if !self.bypass.is_on(queue) {
            return None;
        }
        let (redelivered, stored) = (false, Stored::SPILLED_DURABLE);
        let what = Spilled { seq, redelivered, stored, expiry, message };
        let bytes = self.queues.entry(queue).or_default().add_bypassed(what);
        self.waiting += bytes;
        self.added(queue);
        self.bypass.added(queue, bytes);
        Some(bytes)
    }

    /// Hands out what the filled batch has in segments, and the syncs of these. True if the batch
    /// waits for them.
    pub fn flush(&mut self, ops: &mut Ops) -> bool {
        self.bypass.awaited.clear();
        for queue in self.bypass.flush() {
            let Some(files) = self.queues.get_mut(&queue) else { continue };
            self.waiting += files.seal(queue, self.config.boot, &mut self.next_file);
            let segments = files.take_bypassed().into_iter();
            let awaited = segments.map(|file| AwaitedSegment { queue, file, sync: None });
            self.bypass.awaited.extend(awaited);
            self.write(queue, ops);
        }
        self.sync_awaited(ops);
        self.awaits()
    }

    /// True if the batch in flight waits for a segment.
    pub fn awaits(&self) -> bool {
        let mut awaited = self.bypass.awaited.iter();
        let waits = |one: &AwaitedSegment| one.sync.is_some() || self.may_be_live(one);
        awaited.any(waits) && !mutant::active(Mutant::SegmentNotAwaited)
    }

    fn may_be_live(&self, one: &AwaitedSegment) -> bool {
        let files = self.queues.get(&one.queue);
        let segment = files.and_then(|files| files.segments.get(&one.file));
        segment.is_some_and(|segment| !segment.removing)
    }

    /// Hands out the syncs that can count: those of segments without a failed write.
    pub(super) fn sync_awaited(&mut self, ops: &mut Ops) {
        if self.syncs_wait() {
            return;
        }
        for at in 0..self.bypass.awaited.len() {
            let AwaitedSegment { queue, file, sync } = self.bypass.awaited[at];
            let segment = self.segment(queue, file).filter(|one| !one.removing && one.missing == 0);
            let Some(segment) = segment.filter(|_| sync.is_none()) else { continue };
            let unsynced = std::mem::take(&mut segment.unsynced);
            let synced = SyncedSegment { queue, file, len: segment.len, unsynced };
            self.bypass.awaited[at].sync = self.sync_segments(vec![synced], Work::Sync, ops);
        }
    }
}
