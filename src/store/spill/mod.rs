//! What queues have spilled: written in chunks, read back in order, removed when it is settled.

mod sync;
mod through;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use model::mutant::{self, Mutant};
use model::{Now, QueueId, Stored};

use self::sync::Synced;
use self::through::Through;
use super::files::{QueueFiles, Reading, Segment, Writing};
use super::format::chunk;
use super::log::{Log, News};
use super::op::{Failure, FileName, Work};
use super::ops::Ops;
use super::{Loaded, RecoveredQueue, Relief, Spilled, StoreConfig, Trouble};

/// A write for which there was no room is tried again after so many microseconds.
const RETRY_US: u64 = 100_000;
/// So many segments are removed at once: that is slow, and what is to be read stands behind it.
const REMOVED_AT_ONCE: usize = 8;
/// What a chunk has at least, however many queues there are.
const CHUNK_MIN: usize = 8 * 1024;

/// An operation whose answer is awaited.
#[derive(Debug)]
struct Pending {
    queue: QueueId,
    what: What,
}

#[derive(Debug)]
enum What {
    Write { file: u32, octets: usize, work: Work, again: bool },
    Read(Reading),
    Sync(Vec<Synced>),
    Delete { file: u32 },
}

/// The segments of all queues of a shard.
#[derive(Debug)]
pub(super) struct Spill {
    config: StoreConfig,
    queues: BTreeMap<QueueId, QueueFiles>,
    pending: BTreeMap<u64, Pending>,
    /// Queues with something to hand out.
    listed: Vec<QueueId>,
    /// Writes that wait for room: when they are tried again.
    retries: VecDeque<(u64, Pending)>,
    loaded: VecDeque<Loaded>,
    /// What queues are still to be asked.
    reliefs: VecDeque<Relief>,
    troubles: VecDeque<Trouble>,
    through: Through,
    /// Octets on their way to the disk.
    waiting: usize,
    /// Segments being removed, or to be removed.
    removals: usize,
    /// Those of them whose turn has not come.
    removable: VecDeque<(QueueId, u32)>,
    /// Removals that are under way.
    removing: usize,
    full: bool,
    /// Octets of a chunk.
    chunk: usize,
    /// All segments were looked through for messages in batches before this one,
    looked_before: u64,
    /// and nothing was written since that could hold one.
    looked_over: bool,
    /// The number of the next new segment, of whichever queue: none is used twice, so that what is
    /// still on its way to one that is gone meets no other.
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
            troubles: VecDeque::new(),
            through: Through::new(config.write_through_batch),
            waiting: 0,
            removals: 0,
            removable: VecDeque::new(),
            removing: 0,
            full: false,
            chunk: config.chunk_octets,
            looked_before: 0,
            looked_over: false,
            next_file: 0,
        }
    }

    pub fn adopt(&mut self, queue: QueueId, found: RecoveredQueue) {
        if let Some((last, _)) = found.segments.last_key_value() {
            self.next_file = self.next_file.max(last + 1);
            self.queues.insert(queue, QueueFiles::recovered(found));
        }
    }

    // What queues do.

    pub fn spill(&mut self, queue: QueueId, what: Spilled<'_>) {
        self.waiting += self.queues.entry(queue).or_default().add(what);
        self.added(queue);
    }

    /// Closes the chunk being filled if it is full.
    fn added(&mut self, queue: QueueId) {
        if let Some(files) = self.queues.get_mut(&queue)
            && files.open_octets() >= self.chunk
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

    /// One read is to bring no more than so many octets, unless it is a single message.
    pub fn share(&mut self, octets: usize) {
        let most = self.config.chunk_octets;
        self.chunk = (octets / 2).clamp(CHUNK_MIN.min(most), most);
    }

    pub fn fetch(&mut self, queue: QueueId) {
        if let Some(files) = self.queues.get_mut(&queue) {
            files.wanted = true;
            self.list(queue);
        }
    }

    /// A message that was spilled is settled.
    pub fn settled(&mut self, queue: QueueId, seq: u64, stored: Stored, log: &mut Log) {
        let Some(files) = self.queues.get_mut(&queue) else { return };
        if stored.is_durable() {
            log.settle(queue, seq, seq);
            files.settled.insert(seq, seq);
            files.told_in.get_or_insert(log.next_batch());
        }
        if files.chunk_with(seq).is_some_and(|at| files.left(at, 1)) {
            self.list(queue);
        }
    }

    /// What was spilled and not loaded is settled.
    pub fn purge(&mut self, queue: QueueId, log: &mut Log) {
        let boot = self.config.boot;
        self.through.end(queue);
        self.loaded.retain(|loaded| loaded.queue != queue);
        let Some(files) = self.queues.get_mut(&queue) else { return };
        // Sealed first, so that what is in it has a place in a segment like the rest.
        self.waiting += files.seal(queue, boot, &mut self.next_file);
        files.reading = None;
        files.wanted = false;
        while let Some(at) = files.chunks.iter().rposition(|chunk| !chunk.loaded) {
            let Some(chunk) = files.chunks.get(at) else { break };
            let (first, last, live) = (chunk.first, chunk.last, chunk.live);
            log.settle(queue, first, last);
            files.settled.insert(first, last);
            files.told_in.get_or_insert(log.next_batch());
            files.load(at);
            files.left(at, live);
        }
        self.list(queue);
    }

    /// The queue is deleted.
    pub fn forget(&mut self, queue: QueueId, log: &mut Log, ops: &mut Ops) {
        self.through.end(queue);
        self.loaded.retain(|loaded| loaded.queue != queue);
        let Some(mut files) = self.queues.remove(&queue) else { return };
        self.waiting -= files.open_octets() + files.drop_writing();
        let owed = files.drop_open();
        let segments = files.segments.values().flat_map(|segment| segment.owed.iter().copied());
        for (batch, count) in owed.into_iter().chain(segments) {
            log.left(batch, count);
        }
        for (file, segment) in files.segments {
            if !segment.going {
                ops.hand_out(name(queue, file), Work::Delete { sync: false });
            }
            self.removals -= usize::from(segment.going || segment.leaving.is_some());
        }
    }

    // What others want to know.

    pub fn next_loaded(&mut self) -> Option<Loaded> {
        self.loaded.pop_front()
    }

    pub fn trouble(&mut self) -> Option<Trouble> {
        self.troubles.pop_front()
    }

    pub fn full(&self) -> bool {
        self.waiting > self.config.waiting_max
    }

    pub fn waiting(&self) -> usize {
        let loaded: usize = self.loaded.iter().map(Loaded::octets).sum();
        self.waiting + loaded
    }

    pub fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.is_resting()
    }

    /// Whether there is nothing to do at the end of a turn.
    #[inline]
    pub fn is_resting(&self) -> bool {
        self.listed.is_empty() && self.retries.is_empty() && self.removable.is_empty()
    }

    /// Whether no segment is being removed.
    pub fn is_settled(&self) -> bool {
        self.removals == 0
    }

    pub fn deadline_us(&self) -> Option<u64> {
        self.retries.front().map(|(when, _)| *when)
    }

    // Space.

    /// A queue with few messages in old segments, chunk by chunk.
    pub fn relief(&mut self, log: &Log) -> Option<Relief> {
        if let Some(relief) = self.reliefs.pop_front() {
            return Some(relief);
        }
        let (queue, file) = self
            .listed
            .iter()
            .find_map(|queue| Some((*queue, self.queues.get(queue)?.stuck()?)))?;
        let files = self.queues.get_mut(&queue)?;
        // What moves out of it is logged in the batch that is being filled.
        files.segments.get_mut(&file)?.leaving = Some(log.next_batch());
        self.removals += 1;
        let chunks = files.chunks.iter().filter(|chunk| chunk.file == file);
        self.reliefs.extend(chunks.map(|chunk| {
            let (from, to) = (chunk.first, chunk.last);
            Relief::Segment { queue, from, to }
        }));
        self.reliefs.pop_front()
    }

    /// Octets that [`Self::tell_again`] would write.
    pub fn to_tell_again(&self, last: u64) -> u64 {
        const RANGE: u64 = 25;
        let due = |files: &&QueueFiles| files.told_in.is_some_and(|batch| batch <= last);
        let ranges = self.queues.values().filter(due).map(|files| files.settled.iter().count());
        RANGE * ranges.sum::<usize>() as u64
    }

    /// Tells the log again of what is settled, where only batches up to `last` tell of it.
    pub fn tell_again(&mut self, last: u64, log: &mut Log) {
        for (queue, files) in &mut self.queues {
            if files.told_in.is_none_or(|batch| batch > last) {
                continue;
            }
            if mutant::active(Mutant::SettleForgotten) {
                continue;
            }
            files.told_in = Some(log.next_batch());
            for (from, to) in files.settled.iter() {
                log.settle_again(*queue, from, to);
            }
        }
    }

    // What goes out.

    pub fn end_turn(&mut self, now: Now, log: &mut Log, ops: &mut Ops) {
        while self.retries.front().is_some_and(|(when, _)| *when <= now.monotonic_us) {
            if let Some((_, pending)) = self.retries.pop_front() {
                self.again(pending, ops);
            }
        }
        for queue in std::mem::take(&mut self.listed) {
            self.hand_out(queue, log, ops);
        }
        self.sync_awaited(ops);
        self.remove(ops);
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

    fn hand_out(&mut self, queue: QueueId, log: &mut Log, ops: &mut Ops) {
        let Some(files) = self.queues.get_mut(&queue) else { return };
        files.listed = false;
        if files.wants_open() {
            // What it gets is read at once: memory is the better place.
            self.through.end(queue);
        }
        if !files.stays_open() {
            self.waiting += files.seal(queue, self.config.boot, &mut self.next_file);
        }
        self.write(queue, ops);
        self.read(queue, ops);
        self.remove_settled(queue, log);
    }

    fn write(&mut self, queue: QueueId, ops: &mut Ops) {
        let Some(files) = self.queues.get_mut(&queue) else { return };
        for writing in files.take_writing() {
            self.looked_over = false;
            let Writing { file, at, create, pieces, octets } = writing;
            let work = Work::Write { at, pieces, create, sync: false };
            let op = ops.hand_out(name(queue, file), work.clone());
            let what = What::Write { file, octets, work, again: false };
            self.pending.insert(op, Pending { queue, what });
        }
    }

    fn read(&mut self, queue: QueueId, ops: &mut Ops) {
        let Some(files) = self.queues.get_mut(&queue) else { return };
        let unwritten = self.retries.iter().any(|(_, pending)| pending.queue == queue);
        if !files.wanted || files.reading.is_some() || unwritten {
            return;
        }
        let Some(reading) = files.next_reading(2 * self.chunk as u64) else { return };
        files.wanted = false;
        let work = Work::Read { at: reading.at, len: reading.len as usize };
        let op = ops.hand_out(name(queue, reading.file), work);
        files.reading = Some((op, reading));
        self.pending.insert(op, Pending { queue, what: What::Read(reading) });
    }

    /// Removes segments that nothing live is in.
    fn remove_settled(&mut self, queue: QueueId, log: &mut Log) {
        let Some(files) = self.queues.get_mut(&queue) else { return };
        let mut waits = false;
        for (file, segment) in &mut files.segments {
            // A batch that nothing was put into never comes.
            let moved = |batch| batch <= log.synced() || batch > log.batch();
            let moved = segment.leaving.is_some_and(moved);
            waits |= segment.leaving.is_some() && !moved;
            if segment.going || !(moved || segment.live == 0 && segment.len > 0) {
                continue;
            }
            self.removals += usize::from(segment.leaving.is_none());
            segment.leaving = None;
            segment.going = true;
            for (batch, count) in std::mem::take(&mut segment.owed) {
                log.left(batch, count);
            }
            self.removable.push_back((queue, *file));
        }
        let going: Vec<u32> =
            files.segments.iter().filter(|(_, one)| one.going).map(|(file, _)| *file).collect();
        files.chunks.retain(|chunk| !going.contains(&chunk.file));
        if waits {
            self.list(queue);
        }
    }

    // The disk's answers.

    /// Takes an answer, if it is to an operation on a segment.
    pub fn done(
        &mut self,
        op: u64,
        result: Result<Bytes, Failure>,
        log: &mut Log,
        now: Now,
    ) -> bool {
        let Some(Pending { queue, what }) = self.pending.remove(&op) else { return false };
        match (what, result) {
            (What::Write { file, octets, work, again }, Err(failure)) if failure.full => {
                self.no_room(true);
                if let Some(segment) = self.segment(queue, file).filter(|_| !again) {
                    segment.missing += 1;
                }
                let what = What::Write { file, octets, work, again: true };
                self.retries.push_back((now.monotonic_us + RETRY_US, Pending { queue, what }));
            }
            (What::Write { file, octets, again, .. }, result) => {
                self.waiting -= octets;
                self.no_room(false);
                let written = self.poison_unless(result);
                if let Some(segment) = self.segment(queue, file).filter(|_| again || !written) {
                    // No sync makes up for what is missing for ever.
                    segment.missing = segment.missing + usize::from(!written) - usize::from(again);
                    self.looked_over = false;
                }
                self.list(queue);
            }
            (What::Read(reading), result) => self.was_read(op, queue, reading, result),
            (What::Sync(these), result) => self.were_synced(op, these, result, log),
            (What::Delete { file }, result) => {
                self.removing -= 1;
                if self.poison_unless(result) {
                    self.removed(queue, file);
                }
            }
        }
        true
    }

    fn again(&mut self, pending: Pending, ops: &mut Ops) {
        let Pending { queue, what } = pending;
        let What::Write { file, work, octets, .. } = what else { return };
        if self.segment(queue, file).is_none_or(|segment| segment.going) {
            self.waiting -= octets;
            // What is to be read has waited for it.
            self.list(queue);
            return;
        }
        let op = ops.hand_out(name(queue, file), work.clone());
        let what = What::Write { file, work, octets, again: true };
        self.pending.insert(op, Pending { queue, what });
    }

    fn removed(&mut self, queue: QueueId, file: u32) {
        let Some(files) = self.queues.get_mut(&queue) else { return };
        files.gone(file);
        self.removals -= 1;
        if files.is_empty() {
            self.queues.remove(&queue);
            self.listed.retain(|listed| *listed != queue);
        }
    }

    fn no_room(&mut self, full: bool) {
        if full != std::mem::replace(&mut self.full, full) {
            self.troubles.push_back(Trouble::Full(full));
        }
    }

    fn segment(&mut self, queue: QueueId, file: u32) -> Option<&mut Segment> {
        self.queues.get_mut(&queue)?.segments.get_mut(&file)
    }

    /// Whether it went well; if not, nothing goes on.
    fn poison_unless(&mut self, result: Result<Bytes, Failure>) -> bool {
        match result {
            Err(failure) if !mutant::active(Mutant::FailedSyncIgnored) => {
                self.troubles.push_back(Trouble::Poisoned(failure.to_string()));
                false
            }
            _ => true,
        }
    }

    fn was_read(
        &mut self,
        op: u64,
        queue: QueueId,
        reading: Reading,
        result: Result<Bytes, Failure>,
    ) {
        let Some(files) = self.queues.get_mut(&queue) else { return };
        if files.reading.take_if(|(awaited, _)| *awaited == op).is_none() {
            return;
        }
        let loaded = match result {
            Ok(octets) if (octets.len() as u64) < reading.len => {
                let (file, end) = (name(queue, reading.file), reading.at + octets.len() as u64);
                Err(format!("cannot read {file}: it ends at octet {end}, before its messages do"))
            }
            Ok(octets) => load(queue, files, reading, &octets),
            Err(failure) => Err(failure.to_string()),
        };
        match loaded {
            Ok(loaded) => self.loaded.push_back(loaded),
            // It was read behind a write for which there was no room.
            Err(_) if files.segments.get(&reading.file).is_some_and(|one| one.missing > 0) => {
                files.wanted = true;
            }
            Err(why) => self.troubles.push_back(Trouble::Unreadable(queue, why)),
        }
        if files.wanted {
            self.list(queue);
        }
    }
}

/// The messages of chunks that were read, which are loaded from now on.
fn load(
    queue: QueueId,
    files: &mut QueueFiles,
    reading: Reading,
    octets: &Bytes,
) -> Result<Loaded, String> {
    let mut loaded = Loaded { queue, entries: Vec::new() };
    let mut at = 0;
    for number in files.chunks_of(reading) {
        let Some(chunk) = files.chunks.get(number) else { continue };
        let damaged = |damage: super::format::Damage| {
            let (file, at) = (name(queue, reading.file), chunk.at);
            format!("the messages from octet {at} of {file} on are damaged: {damage}")
        };
        let rest = octets.slice(at.min(octets.len())..);
        let found = chunk::open(&rest).map_err(damaged)?;
        if found.header.queue != queue || found.header.first != chunk.first {
            return Err(damaged(super::format::Damage::Header));
        }
        let (old, settled, delivered) = (chunk.old, &files.settled, &files.delivered);
        found
            .each(&rest, |mut entry| {
                if old && (!entry.durable || settled.contains(entry.seq)) {
                    return;
                }
                entry.redelivered |= old && delivered.contains(entry.seq);
                loaded.entries.push(entry);
            })
            .map_err(damaged)?;
        at += chunk.len as usize;
    }
    // All or none: what is not handed over is read again.
    files.chunks_of(reading).for_each(|number| files.load(number));
    Ok(loaded)
}

fn name(queue: QueueId, number: u32) -> FileName {
    FileName::Queue { queue, number }
}

/// What the log has to tell, as others see it.
pub(super) fn trouble_of(news: News) -> Trouble {
    match news {
        News::Poisoned(why) => Trouble::Poisoned(why),
        News::Full(full) => Trouble::Full(full),
    }
}
