//! The segments of one queue: which chunks there are, where they lie, and what of them is live.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use model::QueueId;

use super::format::chunk::{self, Header};
use super::gather::Gather;
use super::ranges::Ranges;
use super::{RecoveredQueue, Spilled};

/// Octets from which on a segment gets no more chunks.
pub(super) const SEGMENT_OCTETS: u64 = 16 * 1024 * 1024;

/// A chunk on the disk, or on its way there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Its segment.
    pub file: u32,
    /// Octets in front of it.
    pub at: u64,
    /// Octets it takes, header and padding included.
    pub len: u64,
    /// The sequence number of its first message.
    pub first: u64,
    /// And of its last.
    pub last: u64,
    /// Messages that are not settled.
    pub live: u32,
    /// Written before this start of the process: transient messages in it are gone.
    pub old: bool,
    /// Its messages are, or were, in the queue's memory.
    pub loaded: bool,
}

/// A segment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Segment {
    /// Octets in it.
    pub len: u64,
    /// Octets known to be on stable storage.
    pub synced: u64,
    /// Messages that are not settled.
    pub live: u64,
    /// The lowest sequence number in it.
    pub first: u64,
    /// The highest.
    pub last: u64,
    /// Batches of the log with messages that are safe here once this is synced, and how many.
    pub owed: Vec<(u64, u64)>,
    /// The batch that is being filled waits for it: messages are in it, and not in the log.
    pub through: bool,
    /// It has been asked to go: when this batch of the log is on stable storage.
    pub leaving: Option<u64>,
    /// It is being removed.
    pub going: bool,
    /// Chunks that are not loaded.
    pub unloaded: usize,
    /// Writes that failed. Where there was no room they come again; others never do.
    pub missing: usize,
    /// It gets no more chunks: an earlier start wrote it.
    pub closed: bool,
}

/// A chunk being filled.
#[derive(Debug, Default)]
struct Open {
    messages: Gather,
    first: u64,
    last: u64,
    count: u32,
    durable: u32,
    owed: Vec<(u64, u64)>,
    /// The batch that is being filled waits for it.
    through: bool,
}

/// Chunks of one segment that are to be written one behind the other.
#[derive(Debug)]
pub(super) struct Writing {
    /// The segment.
    pub file: u32,
    /// Octets in front of them.
    pub at: u64,
    /// The segment does not exist.
    pub create: bool,
    /// What to write.
    pub pieces: Vec<Bytes>,
    /// How many octets that is.
    pub octets: usize,
}

/// A read of chunks that lie one behind the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    /// The segment.
    pub file: u32,
    /// Octets in front of them.
    pub at: u64,
    /// Octets to read.
    pub len: u64,
}

/// The segments of a queue.
#[derive(Debug, Default)]
pub(super) struct QueueFiles {
    /// In the order of their sequence numbers; those that are loaded come first.
    pub chunks: VecDeque<Chunk>,
    /// By number.
    pub segments: BTreeMap<u32, Segment>,
    /// Durable messages in the segments that are settled.
    pub settled: Ranges,
    /// Messages of an earlier start that have been delivered.
    pub delivered: Ranges,
    /// The oldest batch of the log that tells of something in `settled`.
    pub told_in: Option<u64>,
    /// The read that is under way: the operation's number, and what it reads.
    pub reading: Option<(u64, Reading)>,
    /// More is wanted.
    pub wanted: bool,
    /// It is in the list of those with something to hand out.
    pub listed: bool,
    open: Open,
    writing: Vec<Writing>,
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

    /// Adds a message; says how many octets were added.
    pub fn add(&mut self, what: Spilled<'_>) -> usize {
        let Spilled { seq, redelivered, stored, message } = what;
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
            match open.owed.last_mut() {
                Some((last, count)) if *last == batch => *count += 1,
                _ => open.owed.push((batch, 1)),
            }
        }
        chunk::write(&mut open.messages, seq, redelivered, durable, message);
        open.messages.len() - before
    }

    /// As [`Self::add`], and the batch of the log that is being filled waits for the message.
    pub fn add_through(&mut self, what: Spilled<'_>) -> usize {
        self.open.through = true;
        self.add(what)
    }

    /// Whether the chunk being filled is to go on being filled until its batch is handed out.
    pub fn stays_open(&self) -> bool {
        self.open.through && !self.wants_open()
    }

    /// Whether nothing but the chunk being filled is left to be read.
    pub fn wants_open(&self) -> bool {
        let here = self.reading.is_none() && self.chunks.back().is_none_or(|chunk| chunk.loaded);
        self.wanted && here && self.open.count > 0
    }

    /// The segments that the batch being filled waits for; they are asked for once.
    pub fn take_through(&mut self) -> Vec<u32> {
        let waits = |segment: &mut Segment| std::mem::take(&mut segment.through);
        let through =
            self.segments.iter_mut().filter_map(|(file, one)| waits(one).then_some(*file));
        through.collect()
    }

    /// Octets in the chunk being filled.
    pub fn open_octets(&self) -> usize {
        self.open.messages.len()
    }

    /// Closes the chunk being filled; says how many octets that adds.
    pub fn seal(&mut self, queue: QueueId, boot: u32, next_file: &mut u32) -> usize {
        if self.open.count == 0 {
            return 0;
        }
        let mut open = std::mem::take(&mut self.open);
        let messages = open.messages.len();
        let len = chunk::sealed_len(messages);
        let (file, create) = self.place(next_file);
        let unsynced = |(_, segment): &(&u32, &Segment)| segment.synced < segment.len;
        let unsynced = self.segments.range(..file).filter(unsynced).count();
        let segment = self.segments.entry(file).or_default();
        let header = Header {
            boot,
            queue,
            segment: file,
            first: open.first,
            last: open.last,
            count: open.count,
            durable: open.durable,
            // A segment has little more than `SEGMENT_OCTETS` and one message.
            synced: segment.synced as u32,
            unsynced: u16::try_from(unsynced).unwrap_or(u16::MAX),
        };
        let at = segment.len;
        segment.len += len as u64;
        segment.live += u64::from(open.count);
        segment.unloaded += 1;
        segment.last = open.last;
        if create {
            segment.first = open.first;
        }
        segment.owed.append(&mut open.owed);
        segment.through |= open.through;
        let (count, first, last) = (open.count, open.first, open.last);
        self.chunks.push_back(Chunk {
            file,
            at,
            len: len as u64,
            first,
            last,
            live: count,
            old: false,
            loaded: false,
        });
        self.write(file, at, create, chunk::seal(header, &mut open.messages), len);
        len - messages
    }

    fn write(&mut self, file: u32, at: u64, create: bool, mut pieces: Vec<Bytes>, octets: usize) {
        match self.writing.last_mut() {
            Some(last) if last.file == file => {
                last.pieces.append(&mut pieces);
                last.octets += octets;
            }
            _ => self.writing.push(Writing { file, at, create, pieces, octets }),
        }
    }

    /// The segment the next chunk goes to, and whether it is new.
    fn place(&mut self, next_file: &mut u32) -> (u32, bool) {
        let open = |segment: &Segment| {
            let stays = !segment.going && segment.leaving.is_none();
            segment.len < SEGMENT_OCTETS && !segment.closed && stays
        };
        if let Some((&number, last)) = self.segments.last_key_value()
            && open(last)
        {
            return (number, false);
        }
        let number = *next_file;
        *next_file += 1;
        (number, true)
    }

    /// What is to be written.
    pub fn take_writing(&mut self) -> Vec<Writing> {
        std::mem::take(&mut self.writing)
    }

    /// The chunks to be read next: up to so many octets, or a single one.
    pub fn next_reading(&self, max: u64) -> Option<Reading> {
        let start = self.chunks.partition_point(|chunk| chunk.loaded);
        let first = self.chunks.get(start)?;
        let mut len = first.len;
        for next in self.chunks.iter().skip(start + 1) {
            let behind = next.file == first.file && next.at == first.at + len;
            if !behind || len + next.len > max {
                break;
            }
            len += next.len;
        }
        Some(Reading { file: first.file, at: first.at, len })
    }

    /// The chunks that a read brings.
    pub fn chunks_of(&self, reading: Reading) -> impl Iterator<Item = usize> + use<> {
        let start = self.chunks.partition_point(|chunk| chunk.loaded);
        let within = |chunk: &&Chunk| {
            chunk.file == reading.file && chunk.at + chunk.len <= reading.at + reading.len
        };
        let count = self.chunks.iter().skip(start).take_while(within).count();
        start..start + count
    }

    /// Messages of a chunk have left for good; says whether their segment may go.
    pub fn left(&mut self, at: usize, count: u32) -> bool {
        let Some(chunk) = self.chunks.get_mut(at) else { return false };
        let file = chunk.file;
        chunk.live -= count;
        if chunk.live == 0 {
            self.chunks.remove(at);
        }
        let Some(segment) = self.segments.get_mut(&file) else { return false };
        segment.live -= u64::from(count);
        segment.live == 0 && !segment.going
    }

    /// The chunk that a message is in.
    pub fn chunk_with(&self, seq: u64) -> Option<usize> {
        let at = self.chunks.partition_point(|chunk| chunk.first <= seq).checked_sub(1)?;
        (self.chunks.get(at)?.last >= seq).then_some(at)
    }

    /// A segment is gone: what is known of its messages is not needed any more.
    pub fn gone(&mut self, file: u32) {
        self.segments.remove(&file);
        match self.segments.values().map(|segment| segment.first).min() {
            Some(first) => {
                self.settled.remove_below(first);
                self.delivered.remove_below(first);
            }
            None => {
                self.settled = Ranges::default();
                self.delivered = Ranges::default();
            }
        }
        if self.settled.is_empty() {
            self.told_in = None;
        }
    }

    /// Gives up the chunk being filled: the batches of the log its messages are in.
    pub fn drop_open(&mut self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.open).owed
    }

    /// Gives up what is to be written; how many octets that is.
    pub fn drop_writing(&mut self) -> usize {
        self.take_writing().iter().map(|writing| writing.octets).sum()
    }

    /// Whether nothing is left that would be missed.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.open.count == 0 && self.writing.is_empty()
    }

    /// A chunk is in memory from now on, or given up.
    pub fn load(&mut self, at: usize) {
        let Some(chunk) = self.chunks.get_mut(at) else { return };
        if std::mem::replace(&mut chunk.loaded, true) {
            return;
        }
        if let Some(segment) = self.segments.get_mut(&chunk.file) {
            segment.unloaded -= 1;
        }
    }

    /// The oldest of several segments that all messages have been loaded from: few keep it.
    pub fn stuck(&self) -> Option<u32> {
        const TOLERATED: usize = 3;
        let stays = |one: &Segment| {
            one.unloaded == 0 && one.live > 0 && !one.going && one.leaving.is_none()
        };
        let mut stuck = self.segments.iter().filter(|(_, one)| stays(one));
        let (number, _) = stuck.next()?;
        (stuck.count() >= TOLERATED).then_some(*number)
    }
}
