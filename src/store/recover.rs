//! What becomes of the files of the last start: everything that lives goes into segments of queues,
//! and the logs go.
//!
//! ```text
//!   logs: enqueued - settled ──┐
//!                              ├─▶ chunks of each queue, in order ──▶ new segments, recovery log
//!   segments: chunks - settled ┘                                      synced, then the old logs go
//! ```
//!
//! A crash in the middle is no harm: until the old logs are gone, the next start finds them, and
//! what it finds twice counts once. Queues may live on other shards than before.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::mutant::{self, Mutant};
use model::{Body, Message, QueueId};

use super::RecoveredQueue;
use super::files::{Chunk, SEGMENT_OCTETS, Segment};
use super::format::batch::{self, Header, Record};
use super::format::{Damage, chunk};
use super::gather::Gather;
use super::op::{Failure, FileName, Files, RECOVERY};
use super::ranges::Ranges;
use super::scan::{self, ChunkScan, Torn};

/// Octets of a chunk that recovery writes.
const CHUNK_OCTETS: usize = 256 * 1024;

/// What recovery found and did.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The number of this start.
    pub boot: u32,
    /// The last stop was a clean one.
    pub clean: bool,
    /// What there is of each queue that has something.
    pub queues: BTreeMap<QueueId, RecoveredQueue>,
    /// What somebody should read: what was cut off.
    pub notes: Vec<String>,
}

/// Why there is nothing to start with.
#[derive(Debug, thiserror::Error)]
pub enum Unrecoverable {
    /// The disk refused.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// What was on stable storage is damaged.
    #[error(
        "{file} is damaged from octet {at} on ({damage}), and messages of which durability was \
         promised are behind that: restore the file, or move it away to start without what is in it"
    )]
    Damaged {
        /// The file.
        file: FileName,
        /// Where.
        at: u64,
        /// What is wrong.
        damage: Damage,
    },
    /// A segment of a log is missing.
    #[error("a segment of the log is missing: {file} has no predecessor; restore it")]
    Missing {
        /// The segment behind it.
        file: FileName,
    },
}

/// Recovers. `is_known` says which queues there are that outlive the process.
///
/// # Errors
///
/// See [`Unrecoverable`]. Nothing that was promised has been removed then.
pub fn recover(
    files: &mut impl Files,
    is_known: &dyn Fn(QueueId) -> bool,
) -> Result<Recovered, Unrecoverable> {
    let listed: BTreeMap<FileName, u64> = files.list()?.into_iter().collect();
    let mut found = Found::new(&listed);
    for (name, len) in &listed {
        if let FileName::Log { .. } = name {
            found.log(files, *name, *len, is_known)?;
        }
    }
    found.check()?;
    let segments: Vec<(FileName, u64)> = listed.iter().map(|(name, len)| (*name, *len)).collect();
    for of_queue in segments.chunk_by(|one, other| queue_of(one.0) == queue_of(other.0)) {
        found.segments(files, of_queue, is_known)?;
    }
    found.finish(files, &listed)
}

/// Where a shard's log has been read to.
#[derive(Debug, Default)]
struct Reached {
    last_batch: Option<u64>,
    last_number: u32,
    /// The greatest batch that was on stable storage.
    synced: u64,
    /// The first thing that is missing: where, and what is wrong.
    gap: Option<(FileName, u64, u64, Option<Damage>)>,
    clean: Option<u16>,
}

#[derive(Debug)]
struct LogMessage {
    record: Bytes,
    body: Option<Body>,
}

#[derive(Debug, Default)]
struct Found {
    last_boot: u32,
    logs: BTreeMap<(u32, u16), Reached>,
    enqueued: BTreeMap<QueueId, BTreeMap<u64, LogMessage>>,
    settled: BTreeMap<QueueId, Ranges>,
    delivered: BTreeMap<QueueId, Ranges>,
    queues: BTreeMap<QueueId, RecoveredQueue>,
    /// Segments that the last start has written and perhaps not synced: once the logs are gone
    /// nothing else has their messages.
    unsynced: Vec<FileName>,
    /// Segments that nothing live is in.
    dead: Vec<FileName>,
    notes: Vec<String>,
}

impl Found {
    fn new(listed: &BTreeMap<FileName, u64>) -> Self {
        let boots = listed.keys().filter_map(|name| match name {
            FileName::Log { boot, .. } => Some(*boot),
            FileName::Queue { .. } => None,
        });
        Self { last_boot: boots.max().unwrap_or(0), ..Self::default() }
    }

    // The logs.

    fn log(
        &mut self,
        files: &mut impl Files,
        name: FileName,
        len: u64,
        is_known: &dyn Fn(QueueId) -> bool,
    ) -> Result<(), Unrecoverable> {
        let FileName::Log { boot, shard, number } = name else { return Ok(()) };
        let scan = scan::log(files, name, len)?;
        if let Some(Torn { damage: damage @ Damage::Version(_), at, .. }) = scan.torn {
            return Err(Unrecoverable::Damaged { file: name, at, damage });
        }
        let reached = self.logs.entry((boot, shard)).or_default();
        let lost = reached.last_batch.is_some() && number != reached.last_number + 1;
        if lost && reached.gap.is_none() {
            reached.gap = Some((name, 0, reached.last_batch.unwrap_or(0) + 1, None));
        }
        reached.last_number = number;
        reached.synced = reached.synced.max(scan.synced);
        if !scan.records.is_empty() {
            reached.last_batch = Some(scan.last_batch);
            reached.clean = match scan.records.iter().rev().find(|one| !is_range(one)) {
                Some(Record::Clean(shards)) => Some(*shards),
                _ => None,
            };
        }
        if let Some(torn) = scan.torn {
            let next = reached.last_batch.unwrap_or(0) + 1;
            reached.synced = reached.synced.max(torn.synced_behind.unwrap_or(0));
            reached.clean = None;
            let gap = (name, torn.at, next, Some(torn.damage.clone()));
            reached.gap.get_or_insert(gap);
            self.note_cut(name, &torn);
        }
        self.replay(scan.records, is_known);
        Ok(())
    }

    fn note_cut(&mut self, name: FileName, torn: &Torn) {
        let Torn { at, octets, damage, .. } = torn;
        self.notes.push(format!(
            "{name}: cut off {octets} octets behind octet {at}, a write that was not finished \
             ({damage})"
        ));
    }

    fn replay(&mut self, records: Vec<Record>, is_known: &dyn Fn(QueueId) -> bool) {
        let mut last: Option<(Bytes, Option<Body>)> = None;
        for record in records {
            match record {
                Record::Enqueue { queue, seq, record, body } => {
                    let body = body.map(|body| Body::new(vec![body]));
                    last = Some((record.clone(), body.clone()));
                    self.enqueue(queue, seq, LogMessage { record, body }, is_known);
                }
                Record::Also { queue, seq } => {
                    if let Some((record, body)) = last.clone() {
                        self.enqueue(queue, seq, LogMessage { record, body }, is_known);
                    }
                }
                Record::Settle(queue, from, to) => {
                    self.settled.entry(queue).or_default().insert(from, to);
                }
                Record::Delivered(queue, from, to) => {
                    self.delivered.entry(queue).or_default().insert(from, to);
                }
                Record::Clean(_) => {}
            }
        }
    }

    fn enqueue(
        &mut self,
        queue: QueueId,
        seq: u64,
        message: LogMessage,
        is_known: &dyn Fn(QueueId) -> bool,
    ) {
        if is_known(queue) {
            self.enqueued.entry(queue).or_default().insert(seq, message);
        }
    }

    /// Damage in front of what is known to have been on stable storage is no torn write.
    fn check(&self) -> Result<(), Unrecoverable> {
        for reached in self.logs.values() {
            let Some((file, at, batch, damage)) = &reached.gap else { continue };
            if reached.synced < *batch {
                continue;
            }
            let (file, at) = (*file, *at);
            return Err(match damage.clone() {
                Some(damage) => Unrecoverable::Damaged { file, at, damage },
                None => Unrecoverable::Missing { file },
            });
        }
        Ok(())
    }

    fn is_clean(&self) -> bool {
        let last = self
            .logs
            .iter()
            .filter(|((boot, shard), _)| *boot == self.last_boot && *shard != RECOVERY);
        let marks: BTreeMap<u16, Option<u16>> =
            last.map(|((_, shard), reached)| (*shard, reached.clean)).collect();
        let shards = marks.values().flatten().copied().max().unwrap_or(0);
        let all = |shard| marks.get(&shard) == Some(&Some(shards));
        self.logs.is_empty() || shards > 0 && (0..shards).all(all)
    }

    // The segments.

    /// The segments of one queue, in order.
    fn segments(
        &mut self,
        files: &mut impl Files,
        segments: &[(FileName, u64)],
        is_known: &dyn Fn(QueueId) -> bool,
    ) -> Result<(), Unrecoverable> {
        let Some(queue) = segments.first().and_then(|(name, _)| queue_of(*name)) else {
            return Ok(());
        };
        if !is_known(queue) {
            self.dead.extend(segments.iter().map(|(name, _)| *name));
            return Ok(());
        }
        let mut scans = Vec::new();
        for (name, len) in segments {
            let (chunks, torn) = scan::segment(files, *name, *len)?;
            scans.push((*name, *len, chunks, torn));
        }
        // How many of the first ones a later header says are whole.
        let said =
            |(at, one): (usize, &ChunkScan)| at.saturating_sub(one.found.header.unsynced.into());
        let whole = scans.iter().enumerate().filter_map(|(at, scan)| {
            let recent = scan.2.iter().filter(|one| self.is_recent(one));
            recent.map(|one| said((at, one))).max()
        });
        let whole = whole.max().unwrap_or(0);
        for (at, (name, len, chunks, torn)) in scans.into_iter().enumerate() {
            self.segment(files, (name, len), chunks, torn, at < whole)?;
        }
        Ok(())
    }

    fn segment(
        &mut self,
        files: &mut impl Files,
        (name, len): (FileName, u64),
        mut chunks: Vec<ChunkScan>,
        torn: Option<Torn>,
        is_whole: bool,
    ) -> Result<(), Unrecoverable> {
        let FileName::Queue { queue, number } = name else { return Ok(()) };
        let said = |one: &ChunkScan| u64::from(one.found.header.synced);
        let mut synced = chunks.iter().map(said).max().unwrap_or(0);
        if is_whole {
            synced = u64::MAX;
        }
        let mut whole = torn.is_none();
        if let Some(torn) = torn {
            synced = synced.max(torn.synced_behind.unwrap_or(0));
            if synced > torn.at || matches!(torn.damage, Damage::Version(_)) {
                let Torn { at, damage, .. } = torn;
                return Err(Unrecoverable::Damaged { file: name, at, damage });
            }
            self.note_cut(name, &torn);
        }
        whole &= self.drop_torn_chunks(files, name, &mut chunks, synced)?;
        if !whole {
            return self.absorb(files, name, &chunks, synced);
        }
        let mut segment =
            Segment { len, synced: len, first: u64::MAX, closed: true, ..Segment::default() };
        for one in &chunks {
            let chunk = self.chunk(files, name, number, one, synced)?;
            let header = one.found.header;
            let recovered = self.queues.entry(queue).or_default();
            recovered.next_seq = recovered.next_seq.max(header.last + 1);
            // Also where nothing lives: what is settled is to be known as long as the file is there.
            segment.first = segment.first.min(chunk.first);
            segment.last = segment.last.max(chunk.last);
            if chunk.live > 0 {
                segment.live += u64::from(chunk.live);
                segment.unloaded += 1;
                recovered.chunks.push(chunk);
            }
        }
        if segment.live == 0 {
            self.dead.push(name);
        } else {
            if chunks.iter().any(|one| self.is_recent(one)) {
                self.unsynced.push(name);
            }
            self.queues.entry(queue).or_default().segments.insert(number, segment);
        }
        Ok(())
    }

    fn is_recent(&self, one: &ChunkScan) -> bool {
        let header = one.found.header;
        header.boot == self.last_boot && header.synced != u32::MAX
    }

    /// What was not synced may be there in part: what is missing is still in the log, or was
    /// never promised, or is settled. Says whether everything is there.
    fn drop_torn_chunks(
        &mut self,
        files: &mut impl Files,
        name: FileName,
        chunks: &mut Vec<ChunkScan>,
        synced: u64,
    ) -> Result<bool, Failure> {
        let before = chunks.len();
        let mut whole = Vec::with_capacity(before);
        for one in chunks.drain(..) {
            let header = one.found.header;
            let in_doubt = one.at >= synced && header.durable > 0 && self.is_recent(&one);
            match in_doubt.then(|| read(files, name, &one)).transpose()?.and_then(Result::err) {
                None => whole.push(one),
                Some(damage) => self.notes.push(format!(
                    "{name}: left out a chunk at octet {} that was not finished ({damage})",
                    one.at
                )),
            }
        }
        *chunks = whole;
        Ok(chunks.len() == before)
    }

    /// Takes what is good out of a segment that is not whole, as if it came from the log: the
    /// segment goes, so that what is torn in it cannot be taken for something later.
    fn absorb(
        &mut self,
        files: &mut impl Files,
        name: FileName,
        chunks: &[ChunkScan],
        synced: u64,
    ) -> Result<(), Unrecoverable> {
        let FileName::Queue { queue, .. } = name else { return Ok(()) };
        let messages = self.enqueued.entry(queue).or_default();
        let delivered = self.delivered.entry(queue).or_default();
        for one in chunks {
            let octets = files.read(name, one.at, chunk::sealed_len(one.found.len))?;
            let read = one.found.each(&octets, |entry| {
                if !entry.durable {
                    return;
                }
                if entry.redelivered {
                    delivered.insert(entry.seq, entry.seq);
                }
                let seq = entry.seq;
                let (record, body) = entry.into_parts();
                messages.insert(seq, LogMessage { record, body });
            });
            // What was not finished and is no longer in the log was settled.
            if let Err(damage) = read
                && one.at < synced
            {
                return Err(Unrecoverable::Damaged { file: name, at: one.at, damage });
            }
        }
        self.dead.push(name);
        Ok(())
    }

    /// How much of a chunk lives.
    fn chunk(
        &self,
        files: &mut impl Files,
        name: FileName,
        file: u32,
        one: &ChunkScan,
        synced: u64,
    ) -> Result<Chunk, Failure> {
        let header = one.found.header;
        let (first, last) = (header.first, header.last);
        let live = match self.settled.get(&header.queue) {
            Some(settled) if settled.covers(first, last) => 0,
            Some(settled) if settled.touches(first, last) => match read(files, name, one)? {
                Ok(seqs) => seqs.iter().filter(|seq| !settled.contains(**seq)).count() as u32,
                // Not finished, and no longer in the log: all of it was settled.
                Err(_) if one.at >= synced => 0,
                // That it cannot be read is told when it is to be delivered.
                Err(_) => header.durable,
            },
            _ => header.durable,
        };
        let len = chunk::sealed_len(one.found.len) as u64;
        Ok(Chunk { file, at: one.at, len, first, last, live, old: true, loaded: false })
    }

    // What is made of it.

    fn finish(
        mut self,
        files: &mut impl Files,
        listed: &BTreeMap<FileName, u64>,
    ) -> Result<Recovered, Unrecoverable> {
        let boot = self.last_boot + 1;
        let clean = self.is_clean();
        for (queue, messages) in std::mem::take(&mut self.enqueued) {
            self.move_to_segments(files, boot, queue, messages)?;
        }
        for (queue, recovered) in &mut self.queues {
            complete(recovered, self.settled.remove(queue), self.delivered.remove(queue), clean);
        }
        for name in &self.unsynced {
            files.sync(*name)?;
        }
        // Until there is a log of this start, the next one looks at everything as this one did.
        files.sync_folders()?;
        for name in &self.dead {
            files.delete(*name)?;
        }
        files.sync_folders()?;
        self.write_log(files, boot)?;
        if !mutant::active(Mutant::FolderNotSynced) {
            files.sync_folders()?;
        }
        // Oldest first, each for good before the next: no enqueue outlives its settle.
        for name in listed.keys().filter(|name| matches!(name, FileName::Log { .. })) {
            files.delete(*name)?;
            files.sync_folders()?;
        }
        Ok(Recovered { boot, clean, queues: self.queues, notes: self.notes })
    }

    /// Writes the messages of a queue that only the log has into segments.
    fn move_to_segments(
        &mut self,
        files: &mut impl Files,
        boot: u32,
        queue: QueueId,
        messages: BTreeMap<u64, LogMessage>,
    ) -> Result<(), Failure> {
        let recovered = self.queues.entry(queue).or_default();
        recovered.chunks.sort_unstable_by_key(|chunk| chunk.first);
        let known = recovered.chunks.clone();
        let last = messages.last_key_value().map_or(0, |(seq, _)| *seq);
        recovered.next_seq = recovered.next_seq.max(last + 1);
        let empty = Ranges::default();
        let settled = self.settled.get(&queue).unwrap_or(&empty);
        let number = self.dead.iter().filter_map(|name| number_of(*name, queue));
        let number = number.chain(recovered.segments.keys().copied()).max();
        let mut writer = Writer::new(queue, boot, number.map_or(0, |number| number + 1));
        for (seq, message) in messages {
            let place = known.partition_point(|chunk| chunk.first <= seq);
            let before = place.checked_sub(1).and_then(|at| known.get(at));
            if settled.contains(seq) || before.is_some_and(|chunk| chunk.last >= seq) {
                continue;
            }
            writer.add(files, place, seq, message)?;
        }
        writer.finish(files, recovered)?;
        recovered.chunks.sort_unstable_by_key(|chunk| chunk.first);
        Ok(())
    }

    /// The log of this start that says what is settled and delivered of what is in segments.
    fn write_log(&self, files: &mut impl Files, boot: u32) -> Result<(), Failure> {
        let mut records = Gather::default();
        for (queue, recovered) in &self.queues {
            for (from, to) in recovered.settled.iter() {
                batch::write_settle(&mut records, *queue, from, to);
            }
            for (from, to) in recovered.delivered.iter() {
                batch::write_delivered(&mut records, *queue, from, to);
            }
        }
        let header = Header { shard: RECOVERY, boot, segment: 0, batch: 1, synced: 0 };
        let octets = batch::seal(header, &mut records).concat();
        files.write(FileName::Log { boot, shard: RECOVERY, number: 0 }, &octets)
    }
}

fn is_range(record: &Record) -> bool {
    matches!(record, Record::Settle(..) | Record::Delivered(..))
}

fn queue_of(name: FileName) -> Option<QueueId> {
    match name {
        FileName::Queue { queue, .. } => Some(queue),
        FileName::Log { .. } => None,
    }
}

fn number_of(name: FileName, of: QueueId) -> Option<u32> {
    match name {
        FileName::Queue { queue, number } if queue == of => Some(number),
        _ => None,
    }
}

/// The sequence numbers in a chunk.
fn read(
    files: &mut impl Files,
    name: FileName,
    one: &ChunkScan,
) -> Result<Result<Vec<u64>, Damage>, Failure> {
    let len = chunk::sealed_len(one.found.len);
    let octets = files.read(name, one.at, len)?;
    let mut seqs = Vec::new();
    let read = one.found.each(&octets, |entry| {
        if entry.durable {
            seqs.push(entry.seq);
        }
    });
    Ok(read.map(|()| seqs))
}

fn complete(
    recovered: &mut RecoveredQueue,
    settled: Option<Ranges>,
    delivered: Option<Ranges>,
    clean: bool,
) {
    recovered.chunks.sort_unstable_by_key(|chunk| chunk.first);
    // What is known of a number counts for that message alone: none is given out twice.
    let known = [&settled, &delivered].into_iter().flatten().filter_map(Ranges::last).max();
    recovered.next_seq = recovered.next_seq.max(known.map_or(1, |last| last + 1));
    recovered.messages = recovered.chunks.iter().map(|chunk| u64::from(chunk.live)).sum();
    let Some(first) = recovered.segments.values().map(|segment| segment.first).min() else {
        return;
    };
    recovered.settled = settled.unwrap_or_default();
    recovered.settled.remove_below(first);
    recovered.delivered = delivered.unwrap_or_default();
    recovered.delivered.remove_below(first);
    if !clean {
        // Nothing proves that any of them was not sent.
        recovered.delivered.insert(first, recovered.next_seq - 1);
    }
}

/// Writes messages into new segments of a queue.
struct Writer {
    queue: QueueId,
    boot: u32,
    number: u32,
    octets: Vec<u8>,
    messages: Gather,
    first: u64,
    last: u64,
    count: u32,
    /// Among the chunks there are already: one chunk is not to reach over another.
    place: usize,
    chunks: Vec<Chunk>,
    segments: BTreeMap<u32, Segment>,
}

impl Writer {
    fn new(queue: QueueId, boot: u32, number: u32) -> Self {
        Self {
            queue,
            boot,
            number,
            octets: Vec::new(),
            messages: Gather::default(),
            first: 0,
            last: 0,
            count: 0,
            place: 0,
            chunks: Vec::new(),
            segments: BTreeMap::new(),
        }
    }

    fn add(
        &mut self,
        files: &mut impl Files,
        place: usize,
        seq: u64,
        message: LogMessage,
    ) -> Result<(), Failure> {
        if self.count > 0 && (place != self.place || self.messages.len() >= CHUNK_OCTETS) {
            self.seal();
            if self.octets.len() as u64 >= SEGMENT_OCTETS {
                self.write(files)?;
            }
        }
        if self.count == 0 {
            self.first = seq;
            self.place = place;
        }
        self.last = seq;
        self.count += 1;
        let message = Message::new(&message.record, message.body.as_ref());
        chunk::write(&mut self.messages, seq, false, true, message);
        Ok(())
    }

    fn seal(&mut self) {
        let (first, last, count) = (self.first, self.last, self.count);
        let header = chunk::Header {
            boot: self.boot,
            queue: self.queue,
            segment: self.number,
            first,
            last,
            count,
            durable: count,
            // The whole segment is synced before it counts.
            synced: u32::MAX,
            unsynced: 0,
        };
        let at = self.octets.len() as u64;
        for piece in chunk::seal(header, &mut self.messages) {
            self.octets.extend_from_slice(&piece);
        }
        let len = self.octets.len() as u64 - at;
        let (file, live) = (self.number, count);
        self.chunks.push(Chunk { file, at, len, first, last, live, old: true, loaded: false });
        let segment = self.segments.entry(file).or_insert_with(|| Segment {
            first,
            closed: true,
            ..Segment::default()
        });
        segment.last = last;
        segment.live += u64::from(count);
        segment.unloaded += 1;
        segment.len = self.octets.len() as u64;
        segment.synced = segment.len;
        self.count = 0;
    }

    fn write(&mut self, files: &mut impl Files) -> Result<(), Failure> {
        files.write(FileName::Queue { queue: self.queue, number: self.number }, &self.octets)?;
        self.octets.clear();
        self.number += 1;
        Ok(())
    }

    fn finish(
        mut self,
        files: &mut impl Files,
        recovered: &mut RecoveredQueue,
    ) -> Result<(), Failure> {
        if self.count > 0 {
            self.seal();
        }
        if !self.octets.is_empty() {
            self.write(files)?;
        }
        recovered.chunks.append(&mut self.chunks);
        recovered.segments.append(&mut self.segments);
        Ok(())
    }
}
