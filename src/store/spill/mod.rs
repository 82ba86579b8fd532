//! Messages that left memory: written to segments of their queues in chunks, read back in order,
//! removed when they are settled.

mod bypass;
mod compact;
mod drop;
mod operations;
mod results;
mod sync;

use std::collections::{BTreeMap, VecDeque};

use model::queue::Spilled;
use model::{QueueId, Stored};

use self::bypass::Bypass;
use self::results::Pending;
use super::config::StoreConfig;
use super::effects::{Loaded, Relief, StoreError};
use super::log::MessageLog;
use super::op::{FileName, Work};
use super::ops::Ops;
use super::queue_files::{QueueFiles, QueueSegment, RecoveredQueue};

/// Bytes of a chunk at least, however many queues there are.
const CHUNK_MIN: usize = 8 * 1024;

/// The segments of all queues of a shard.
#[derive(Debug)]
pub(super) struct Spill {
    config: StoreConfig,
    queues: BTreeMap<QueueId, QueueFiles>,
    /// Operations in flight.
    pending: BTreeMap<u64, Pending>,
    /// Queues with something to hand out.
    listed: Vec<QueueId>,
    /// Operations that lacked a resource, and when they are tried again; earliest first.
    retries: VecDeque<(u64, Pending)>,
    /// Messages that were read and not taken yet.
    loaded: VecDeque<Loaded>,
    /// Requests to queues that are not taken yet.
    reliefs: VecDeque<Relief>,
    errors: VecDeque<StoreError>,
    bypass: Bypass,
    /// Bytes on their way to the disk.
    waiting: usize,
    /// Segments in `compacting`, in `removable` or being removed.
    removals: usize,
    /// Segments to be removed.
    removable: VecDeque<(QueueId, u32)>,
    /// Removals in flight.
    removing: usize,
    /// The first error of operations that lack a resource, until all of them have succeeded.
    lack: Option<String>,
    /// Bytes of a chunk.
    chunk: usize,
    /// No segment has unsynced messages of log batches before this one,
    clean_before: u64,
    /// as long as nothing was written since.
    is_clean: bool,
    /// The number of the next new segment, of whichever queue. None is used twice, so an operation
    /// still in flight for a removed segment cannot affect another one.
    next_file: u32,
}

impl Spill {
    pub fn new(config: StoreConfig) -> Self {
        Self {
            config,
            queues: BTreeMap::new(),
            pending: BTreeMap::new(),
            listed: Vec::new(),
            retries: VecDeque::new(),
            loaded: VecDeque::new(),
            reliefs: VecDeque::new(),
            errors: VecDeque::new(),
            bypass: Bypass::new(config.bypass_batch),
            waiting: 0,
            removals: 0,
            removable: VecDeque::new(),
            removing: 0,
            lack: None,
            chunk: config.chunk_bytes,
            clean_before: 0,
            is_clean: false,
            next_file: 0,
        }
    }

    pub fn adopt(&mut self, queue: QueueId, found: RecoveredQueue) {
        if let Some((last, _)) = found.segments.last_key_value() {
            self.next_file = self.next_file.max(last + 1);
            self.queues.insert(queue, QueueFiles::recovered(found));
        }
    }

    // Calls of queues.

    pub fn spill(&mut self, queue: QueueId, what: Spilled<'_>) {
        let files = self.queues.entry(queue).or_default();
        if files.is_open_for_others(what.seq) {
            self.waiting += files.seal(queue, self.config.boot, &mut self.next_file);
        }
        self.waiting += files.add(what);
        self.added(queue);
    }

    /// Seals the chunk being filled if it is full.
    fn added(&mut self, queue: QueueId) {
        if let Some(files) = self.queues.get_mut(&queue)
            && files.open_bytes() >= self.chunk
        {
            self.waiting += files.seal(queue, self.config.boot, &mut self.next_file);
        }
        self.list(queue);
    }

    fn list(&mut self, queue: QueueId) {
        if let Some(files) = self.queues.get_mut(&queue)
            && !std::mem::replace(&mut files.listed, true)
        {
            self.listed.push(queue);
        }
    }

    /// Limits one read to so many bytes, or one message.
    pub fn share(&mut self, bytes: usize) {
        let most = self.config.chunk_bytes;
        self.chunk = (bytes / 2).clamp(CHUNK_MIN.min(most), most);
    }

    pub fn fetch(&mut self, queue: QueueId) {
        if let Some(files) = self.queues.get_mut(&queue) {
            files.wanted = true;
            self.list(queue);
        }
    }

    /// Settles one spilled message.
    pub fn settled(&mut self, queue: QueueId, seq: u64, stored: Stored, log: &mut MessageLog) {
        let Some(files) = self.queues.get_mut(&queue) else { return };
        if stored.is_durable() {
            log.settle(queue, seq, seq);
            files.settled.insert(seq, seq);
            files.settles_since.get_or_insert(log.next_batch());
        }
        if files.chunk_with(seq).is_some_and(|at| files.left(at, 1)) {
            self.list(queue);
        }
    }

    /// Settles all messages that are spilled and not loaded.
    pub fn purge(&mut self, queue: QueueId, log: &mut MessageLog) {
        let boot = self.config.boot;
        self.bypass.end(queue);
        self.loaded.retain(|loaded| loaded.queue != queue);
        let Some(files) = self.queues.get_mut(&queue) else { return };
        // Sealed first, so that its messages are in a segment like the others.
        self.waiting += files.seal(queue, boot, &mut self.next_file);
        files.reading = None;
        files.wanted = false;
        files.lacks = false;
        while let Some(at) = files.chunks.iter().rposition(|chunk| !chunk.loaded) {
            files.drop_unloaded(queue, at, log);
        }
        self.list(queue);
    }

    /// Deletes a queue.
    pub fn forget(&mut self, queue: QueueId, log: &mut MessageLog, ops: &mut Ops) {
        self.bypass.end(queue);
        self.loaded.retain(|loaded| loaded.queue != queue);
        let Some(mut files) = self.queues.remove(&queue) else { return };
        self.waiting -= files.open_bytes() + files.drop_writing();
        let open = files.drop_open();
        let segments = files.segments.values().flat_map(|segment| segment.unsynced.iter().copied());
        for (batch, count) in open.into_iter().chain(segments) {
            log.left(batch, count);
        }
        for (file, segment) in files.segments {
            if !segment.removing {
                ops.hand_out(name(queue, file), Work::Delete { sync: false });
            }
            self.removals -= usize::from(segment.removing || segment.compacting.is_some());
        }
    }

    // Queries.

    pub fn next_loaded(&mut self) -> Option<Loaded> {
        self.loaded.pop_front()
    }

    pub fn next_error(&mut self) -> Option<StoreError> {
        self.errors.pop_front()
    }

    /// The first error of operations that lack a resource, until all of them have succeeded.
    pub fn lack(&self) -> Option<&str> {
        self.lack.as_deref()
    }

    /// True if so much waits for the disk that publishers have to wait too.
    pub fn is_full(&self) -> bool {
        self.waiting > self.config.waiting_max
    }

    /// Bytes of memory that wait for the disk or were loaded from it.
    pub fn waiting(&self) -> usize {
        let loaded: usize = self.loaded.iter().map(Loaded::bytes).sum();
        self.waiting + loaded
    }

    /// True if nothing waits for the disk.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.is_resting()
    }

    /// True if the end of a turn has nothing to do here.
    #[inline]
    pub fn is_resting(&self) -> bool {
        let nothing_waits = self.listed.is_empty() && self.retries.is_empty();
        nothing_waits && self.removable.is_empty() && self.lack.is_none()
    }

    /// True if no segment is being removed.
    pub fn removes_nothing(&self) -> bool {
        self.removals == 0
    }

    /// When a turn is due although nothing happens, in microseconds of the monotonic clock.
    pub fn deadline_us(&self) -> Option<u64> {
        self.retries.front().map(|(when, _)| *when)
    }

    fn segment(&mut self, queue: QueueId, file: u32) -> Option<&mut QueueSegment> {
        self.queues.get_mut(&queue)?.segments.get_mut(&file)
    }
}

fn name(queue: QueueId, number: u32) -> FileName {
    FileName::Queue { queue, number }
}
