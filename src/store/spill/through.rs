//! Messages that go to a segment of their queue and not to the log: which queues write so, and what
//! a batch of the log waits for because of them.
//!
//! ```text
//!   batch:     being filled                 under way                    durable
//!   messages:  in the open chunk of their   their chunks are written,    all these syncs and the
//!              queue, or in full ones       and a sync of each segment   log's own write are done
//! ```
//!
//! A queue in backlog brings enough for a sync of its own. So its messages are written once, where
//! else the log would have them first and their queue would write them again.

use model::mutant::{self, Mutant};
use model::{Message, QueueId, Stored};

use super::sync::Synced;
use super::{Spill, Spilled};
use crate::store::op::Work;
use crate::store::ops::Ops;

/// So many queues write through at once.
const QUEUES: usize = 4;
/// A queue goes back to the log after so many batches in a row that brought it little.
const LITTLE_IN_A_ROW: u32 = 4;

/// A queue that writes through.
#[derive(Debug)]
struct Writer {
    queue: QueueId,
    /// What the batch being filled has brought it.
    octets: usize,
    /// Batches in a row that brought little.
    little: u32,
}

/// A segment that the batch under way waits for.
#[derive(Debug, Clone, Copy)]
struct Awaited {
    queue: QueueId,
    file: u32,
    /// The operation; `None` while one that can count has still to be handed out.
    sync: Option<u64>,
}

/// What is written through.
#[derive(Debug)]
pub(super) struct Through {
    /// Fewer octets than these are little.
    little: usize,
    writers: Vec<Writer>,
    /// Queues with messages in the batch that is being filled, whether they go on or not.
    filling: Vec<QueueId>,
    awaited: Vec<Awaited>,
}

impl Through {
    /// A batch that brings a queue less than `little` octets is not worth a sync of its own.
    pub fn new(little: usize) -> Self {
        Self { little, writers: Vec::new(), filling: Vec::new(), awaited: Vec::new() }
    }

    /// The queue writes through, unless enough others do.
    fn begin(&mut self, queue: QueueId) {
        if self.writers.len() < QUEUES && !self.is_on(queue) {
            self.writers.push(Writer { queue, octets: 0, little: 0 });
        }
    }

    pub fn end(&mut self, queue: QueueId) {
        self.writers.retain(|writer| writer.queue != queue);
    }

    fn is_on(&self, queue: QueueId) -> bool {
        self.writers.iter().any(|writer| writer.queue == queue)
    }

    /// A message of so many octets has become part of the batch being filled.
    fn wrote(&mut self, queue: QueueId, octets: usize) {
        if let Some(writer) = self.writers.iter_mut().find(|writer| writer.queue == queue) {
            writer.octets += octets;
        }
        if !self.filling.contains(&queue) {
            self.filling.push(queue);
        }
    }

    /// The batch is handed out: the queues it has messages of.
    fn flush(&mut self) -> Vec<QueueId> {
        for writer in &mut self.writers {
            let little = std::mem::take(&mut writer.octets) < self.little;
            writer.little = if little { writer.little + 1 } else { 0 };
        }
        self.writers.retain(|writer| writer.little < LITTLE_IN_A_ROW);
        std::mem::take(&mut self.filling)
    }

    /// A sync is over; if it does not count, another one has to.
    pub fn synced(&mut self, op: u64, counts: bool) {
        if counts {
            self.awaited.retain(|one| one.sync != Some(op));
        } else if let Some(one) = self.awaited.iter_mut().find(|one| one.sync == Some(op)) {
            one.sync = None;
        }
    }
}

impl Spill {
    /// The queue, all of which that is not at its head was spilled, may write through from now on.
    pub fn begin_to_write_through(&mut self, queue: QueueId) {
        self.through.begin(queue);
    }

    /// Takes a message that is to be in no other place, if its queue writes through; how many
    /// octets it takes.
    pub fn write_through(
        &mut self,
        queue: QueueId,
        seq: u64,
        message: Message<'_>,
    ) -> Option<usize> {
        if !self.through.is_on(queue) {
            return None;
        }
        let what = Spilled { seq, redelivered: false, stored: Stored::SPILLED_DURABLE, message };
        let octets = self.queues.entry(queue).or_default().add_through(what);
        self.waiting += octets;
        self.added(queue);
        self.through.wrote(queue, octets);
        Some(octets)
    }

    /// Hands out what the batch that was filled has in segments, and what makes it durable. Says
    /// whether it waits for that.
    pub fn flush(&mut self, ops: &mut Ops) -> bool {
        self.through.awaited.clear();
        for queue in self.through.flush() {
            let Some(files) = self.queues.get_mut(&queue) else { continue };
            self.waiting += files.seal(queue, self.config.boot, &mut self.next_file);
            let segments = files.take_through().into_iter();
            let awaited = segments.map(|file| Awaited { queue, file, sync: None });
            self.through.awaited.extend(awaited);
            self.write(queue, ops);
        }
        self.sync_awaited(ops);
        self.awaits()
    }

    /// Whether the batch under way waits for a segment.
    pub fn awaits(&self) -> bool {
        let mut awaited = self.through.awaited.iter();
        let waits = |one: &Awaited| one.sync.is_some() || self.is_there(one);
        awaited.any(waits) && !mutant::active(Mutant::SegmentNotAwaited)
    }

    /// Whether something may live in an awaited segment.
    fn is_there(&self, one: &Awaited) -> bool {
        let files = self.queues.get(&one.queue);
        files.and_then(|files| files.segments.get(&one.file)).is_some_and(|segment| !segment.going)
    }

    /// Hands out the syncs that can count: everything in front of them is written.
    pub(super) fn sync_awaited(&mut self, ops: &mut Ops) {
        for at in 0..self.through.awaited.len() {
            let Awaited { queue, file, sync } = self.through.awaited[at];
            let segment = self.segment(queue, file).filter(|one| !one.going && one.missing == 0);
            let Some(segment) = segment.filter(|_| sync.is_none()) else { continue };
            let owed = std::mem::take(&mut segment.owed);
            let synced = Synced { queue, file, len: segment.len, owed };
            self.through.awaited[at].sync = self.sync_these(vec![synced], Work::Sync, ops);
        }
    }
}
