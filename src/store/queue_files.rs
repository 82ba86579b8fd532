//! The segments of one queue: its chunks, where they are, and which of their messages are live.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use model::QueueId;
use model::queue::{Expiry, RestoredLane, Spilled, lane};

use super::format::chunk::{self, ChunkDigest, ChunkHeader};
use super::gather::Gather;
use super::ranges::Ranges;

/// A segment with so many bytes gets no more chunks.
pub(super) const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

/// A chunk on disk, or on its way there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredChunk {
    /// Its segment.
    pub file: u32,
    /// Its offset in bytes.
    pub at: u64,
    /// Its bytes, header and padding included.
    pub len: u64,
    /// The sequence number of its first message.
    pub first: u64,
    /// The sequence number of its last message.
    pub last: u64,
    /// Messages that are not settled.
    pub live: u32,
    /// An earlier start of the process wrote it, so its transient messages are lost.
    pub old: bool,
    /// Its messages are, or were, in the queue's memory.
    pub loaded: bool,
    /// No message expires before this time, as long as it is not loaded.
    pub earliest: Expiry,
    /// All messages have expired at this time.
    pub latest: Expiry,
    /// Bytes of the bodies of the live messages, as long as it is not loaded.
    pub bodies: u64,
}

/// A segment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct QueueSegment {
    /// Its bytes.
    pub len: u64,
    /// So many bytes are on stable storage.
    pub synced: u64,
    /// Messages that are not settled.
    pub live: u64,
    /// The lowest sequence number in it.
    pub first: u64,
    /// The highest.
    pub last: u64,
    /// Log batches and how many of their messages this segment makes durable once it is synced.
    pub unsynced: Vec<(u64, u64)>,
    /// The batch being filled waits for it: it has messages that bypassed the log.
    pub bypassed: bool,
    /// Its live messages were copied to the log: it is removed once this batch is on stable
    /// storage.
    pub compacting: Option<u64>,
    /// It is being removed.
    pub removing: bool,
    /// Chunks that are not loaded.
    pub unloaded: usize,
    /// Writes that failed. They are tried again if that can help; others stay missing.
    pub missing: usize,
    /// A sync lacked a resource and none has succeeded since.
    pub lacks: bool,
    /// It gets no more chunks, since an earlier start wrote it.
    pub closed: bool,
}

/// What recovery found of a queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveredQueue {
    /// The number of its messages, all of them in segments.
    pub messages: u64,
    /// Greater than the place of every sequence number used before.
    pub next_seq: u64,
    /// Bytes of their bodies.
    pub bodies: u64,
    /// Some of them may expire.
    pub expires: bool,
    /// The lanes they are in.
    pub lanes: Vec<RestoredLane>,
    pub(super) chunks: Vec<StoredChunk>,
    pub(super) segments: BTreeMap<u32, QueueSegment>,
    pub(super) settled: Ranges,
    pub(super) delivered: Ranges,
}

/// A chunk being filled.
#[derive(Debug, Default)]
struct OpenChunk {
    messages: Gather,
    first: u64,
    last: u64,
    count: u32,
    durable: u32,
    unsynced: Vec<(u64, u64)>,
    digest: ChunkDigest,
    /// The batch being filled waits for it.
    bypassed: bool,
}

/// Adjacent chunks of one segment to be written together.
#[derive(Debug)]
pub(super) struct SegmentWrite {
    /// The segment.
    pub file: u32,
    /// Their offset in bytes.
    pub at: u64,
    /// The segment does not exist yet.
    pub create: bool,
    /// What to write.
    pub pieces: Vec<Bytes>,
    /// The bytes of all pieces.
    pub bytes: usize,
}

/// A read of adjacent chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentRead {
    /// The segment.
    pub file: u32,
    /// Their offset in bytes.
    pub at: u64,
    /// Bytes to read.
    pub len: u64,
}

/// The lowest sequence number of each lane that has segments.
pub(super) fn firsts(segments: &BTreeMap<u32, QueueSegment>) -> BTreeMap<u16, u64> {
    let mut firsts = BTreeMap::new();
    for segment in segments.values() {
        let first = firsts.entry(lane::of(segment.first)).or_insert(segment.first);
        *first = segment.first.min(*first);
    }
    firsts
}

/// Removes the numbers of messages that no segment has any more: of each lane those before the
/// first one that any segment has.
pub(super) fn forget_others(numbers: &mut Ranges, segments: &BTreeMap<u32, QueueSegment>) {
    let mut from = 0;
    for (lane, first) in firsts(segments) {
        if first > from {
            numbers.remove(from, first - 1);
        }
        from = lane::last(lane) + 1;
    }
    numbers.remove(from, u64::MAX);
}

/// The segments of a queue.
#[derive(Debug, Default)]
pub(super) struct QueueFiles {
    /// In the order of their sequence numbers. Of each lane, loaded chunks come first.
    pub chunks: VecDeque<StoredChunk>,
    /// By number.
    pub segments: BTreeMap<u32, QueueSegment>,
    /// Durable messages in the segments that are settled.
    pub settled: Ranges,
    /// Messages of an earlier start that have been delivered.
    pub delivered: Ranges,
    /// The oldest log batch that records something of `settled`.
    pub settles_since: Option<u64>,
    /// The read in flight: its operation, and what it reads.
    pub reading: Option<(u64, SegmentRead)>,
    /// The queue asked for its next messages.
    pub wanted: bool,
    /// A read lacked a resource and none has succeeded since.
    pub lacks: bool,
    /// It is in the list of queues with something to hand out.
    pub listed: bool,
    open: OpenChunk,
    writing: Vec<SegmentWrite>,
}

impl QueueFiles {
    /// What recovery found.
    pub fn recovered(found: RecoveredQueue) -> Self {
        Self {
            chunks: found.chunks.into(),
            segments: found.segments,
            settled: found.settled,
            delivered: found.delivered,
            ..Self::default()
        }
    }

    /// Adds a message to the open chunk. Returns its bytes.
    pub fn add(&mut self, what: Spilled<'_>) -> usize {
        let Spilled { seq, stored, expiry, message, .. } = what;
        let open = &mut self.open;
        let before = open.messages.len();
        if open.count == 0 {
            open.first = seq;
        }
        open.last = seq;
        open.count += 1;
        let durable = stored.is_durable();
        open.durable += u32::from(durable);
        if let Some(batch) = stored.batch() {
            match open.unsynced.last_mut() {
                Some((last, count)) if *last == batch => *count += 1,
                _ => open.unsynced.push((batch, 1)),
            }
        }
        open.digest.add(expiry, message.body_len(), durable);
        chunk::write(&mut open.messages, what);
        open.messages.len() - before
    }

    /// As [`Self::add`], of a message that bypasses the log: the batch being filled waits for it.
    pub fn add_bypassed(&mut self, what: Spilled<'_>) -> usize {
        self.open.bypassed = true;
        self.add(what)
    }

    /// True if the open chunk has messages of another lane than this one's.
    pub fn is_open_for_others(&self, seq: u64) -> bool {
        self.open.count > 0 && lane::of(self.open.first) != lane::of(seq)
    }

    /// True if the open chunk is one of several lanes: it may be ahead of others.
    pub fn open_is_in_lane(&self) -> bool {
        lane::of(self.open.first) > 0
    }

    /// True if the open chunk stays open until its log batch is handed out.
    pub fn stays_open(&self) -> bool {
        self.open.bypassed && !self.wants_open()
    }

    /// True if only the open chunk is left to be read.
    pub fn wants_open(&self) -> bool {
        let loaded = self.reading.is_none() && self.chunks.back().is_none_or(|chunk| chunk.loaded);
        self.wanted && loaded && self.open.count > 0
    }

    /// When the first message of the open chunk expires.
    pub fn open_earliest(&self) -> Expiry {
        self.open.digest.earliest
    }

    /// The first chunk that is not loaded.
    pub fn first_unloaded(&self) -> Option<(usize, &StoredChunk)> {
        let at = self.unloaded();
        self.chunks.get(at).map(|chunk| (at, chunk))
    }

    /// The position of the first chunk that is not loaded, or of the end.
    fn unloaded(&self) -> usize {
        let mut at = 0;
        while let Some(chunk) = self.chunks.get(at).filter(|chunk| chunk.loaded) {
            let (first, last) = (chunk.first, lane::last(lane::of(chunk.first)));
            let before = |one: &StoredChunk| one.first < first || one.loaded && one.first <= last;
            at = self.chunks.partition_point(before);
        }
        at
    }

    /// Takes the segments that the batch being filled waits for.
    pub fn take_bypassed(&mut self) -> Vec<u32> {
        let waits = |segment: &mut QueueSegment| std::mem::take(&mut segment.bypassed);
        let bypassed =
            self.segments.iter_mut().filter_map(|(file, one)| waits(one).then_some(*file));
        bypassed.collect()
    }

    /// Bytes in the open chunk.
    pub fn open_bytes(&self) -> usize {
        self.open.messages.len()
    }

    /// Seals the open chunk. Returns the bytes that its header and padding add.
    pub fn seal(&mut self, queue: QueueId, boot: u32, next_file: &mut u32) -> usize {
        if self.open.count == 0 {
            return 0;
        }
        let mut open = std::mem::take(&mut self.open);
        let messages = open.messages.len();
        let len = chunk::sealed_len(messages);
        let lane = lane::of(open.first);
        let (file, create) = self.place(lane, next_file);
        let unsynced = |(_, segment): &(&u32, &QueueSegment)| segment.synced < segment.len;
        let unsynced = self.segments.range(..file).filter(unsynced).count();
        let segment = self.segments.entry(file).or_default();
        let header = ChunkHeader {
            boot,
            queue,
            segment: file,
            first: open.first,
            last: open.last,
            count: open.count,
            durable: open.durable,
            // A segment has at most `SEGMENT_BYTES` and one chunk.
            synced: segment.synced as u32,
            // Earlier segments of other lanes still get chunks, so nothing is said of them.
            unsynced: u16::try_from(unsynced).ok().filter(|_| lane == 0).unwrap_or(u16::MAX),
            digest: open.digest,
        };
        let at = segment.len;
        segment.len += len as u64;
        segment.live += u64::from(open.count);
        segment.unloaded += 1;
        segment.last = open.last;
        if create {
            segment.first = open.first;
        }
        segment.unsynced.append(&mut open.unsynced);
        segment.bypassed |= open.bypassed;
        let (count, first, last) = (open.count, open.first, open.last);
        self.insert(StoredChunk {
            file,
            at,
            len: len as u64,
            first,
            last,
            live: count,
            old: false,
            loaded: false,
            earliest: header.digest.earliest,
            latest: header.digest.latest,
            bodies: header.digest.bodies,
        });
        self.write(file, at, create, chunk::seal(header, &mut open.messages), len);
        len - messages
    }

    fn insert(&mut self, chunk: StoredChunk) {
        let place = match self.chunks.back() {
            Some(last) if last.first > chunk.first => {
                self.chunks.partition_point(|one| one.first < chunk.first)
            }
            _ => self.chunks.len(),
        };
        self.chunks.insert(place, chunk);
    }

    fn write(&mut self, file: u32, at: u64, create: bool, mut pieces: Vec<Bytes>, bytes: usize) {
        match self.writing.last_mut() {
            Some(last) if last.file == file => {
                last.pieces.append(&mut pieces);
                last.bytes += bytes;
            }
            _ => self.writing.push(SegmentWrite { file, at, create, pieces, bytes }),
        }
    }

    /// The segment of the next chunk of a lane, and whether it is new. Each segment has one lane.
    fn place(&mut self, lane: u16, next_file: &mut u32) -> (u32, bool) {
        let open = |segment: &QueueSegment| {
            let stays = !segment.removing && segment.compacting.is_none();
            segment.len < SEGMENT_BYTES && !segment.closed && stays
        };
        let mut newest = self.segments.iter().rev();
        if let Some((&number, last)) = newest.find(|(_, one)| lane::of(one.first) == lane)
            && open(last)
        {
            return (number, false);
        }
        let number = *next_file;
        *next_file += 1;
        (number, true)
    }

    /// Takes the writes to be handed out.
    pub fn take_writing(&mut self) -> Vec<SegmentWrite> {
        std::mem::take(&mut self.writing)
    }

    /// The chunks to read next: up to `max` bytes, or a single one.
    pub fn next_reading(&self, max: u64) -> Option<SegmentRead> {
        let (start, first) = self.first_unloaded()?;
        let mut len = first.len;
        for next in self.chunks.iter().skip(start + 1) {
            let adjacent = next.file == first.file && next.at == first.at + len;
            if !adjacent || len + next.len > max {
                break;
            }
            len += next.len;
        }
        Some(SegmentRead { file: first.file, at: first.at, len })
    }

    /// The chunks that a read covers.
    pub fn chunks_of(&self, reading: SegmentRead) -> impl Iterator<Item = usize> + use<> {
        let start = self.unloaded();
        let within = |chunk: &&StoredChunk| {
            chunk.file == reading.file && chunk.at + chunk.len <= reading.at + reading.len
        };
        let count = self.chunks.iter().skip(start).take_while(within).count();
        start..start + count
    }

    /// Notes that messages of a chunk are settled. True if their segment has no live message left.
    pub fn left(&mut self, at: usize, count: u32) -> bool {
        let Some(chunk) = self.chunks.get_mut(at) else { return false };
        let file = chunk.file;
        chunk.live -= count;
        if chunk.live == 0 {
            self.chunks.remove(at);
        }
        let Some(segment) = self.segments.get_mut(&file) else { return false };
        segment.live -= u64::from(count);
        segment.live == 0 && !segment.removing
    }

    /// The chunk with that message.
    pub fn chunk_with(&self, seq: u64) -> Option<usize> {
        let at = self.chunks.partition_point(|chunk| chunk.first <= seq).checked_sub(1)?;
        (self.chunks.get(at)?.last >= seq).then_some(at)
    }

    /// Forgets a removed segment, and what is known of its messages.
    pub fn removed(&mut self, file: u32) {
        self.segments.remove(&file);
        forget_others(&mut self.settled, &self.segments);
        forget_others(&mut self.delivered, &self.segments);
        if self.settled.is_empty() {
            self.settles_since = None;
        }
    }

    /// Drops the open chunk. Returns the log batches of its messages, with their numbers.
    pub fn drop_open(&mut self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.open).unsynced
    }

    /// Drops the writes to be handed out. Returns their bytes.
    pub fn drop_writing(&mut self) -> usize {
        self.take_writing().iter().map(|writing| writing.bytes).sum()
    }

    /// True if there is nothing to keep.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.open.count == 0 && self.writing.is_empty()
    }

    /// Marks a chunk as loaded, or given up.
    pub fn load(&mut self, at: usize) {
        let Some(chunk) = self.chunks.get_mut(at) else { return };
        if std::mem::replace(&mut chunk.loaded, true) {
            return;
        }
        if let Some(segment) = self.segments.get_mut(&chunk.file) {
            segment.unloaded -= 1;
        }
    }

    /// The oldest segment whose messages are all loaded, if there are several such: few live
    /// messages keep it.
    pub fn sparse_segment(&self) -> Option<u32> {
        const TOLERATED: usize = 3;
        let stays = |one: &QueueSegment| {
            one.unloaded == 0 && one.live > 0 && !one.removing && one.compacting.is_none()
        };
        let mut sparse_segment = self.segments.iter().filter(|(_, one)| stays(one));
        let (number, _) = sparse_segment.next()?;
        (sparse_segment.count() >= TOLERATED).then_some(*number)
    }
}
