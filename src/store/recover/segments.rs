//! Reads the segments of queues: which chunks are whole, and which messages are live.

use model::QueueId;
use model::queue::lane;

use super::{LogMessage, Recovery, RecoveryError, queue_of};
use crate::store::format::{Damage, chunk};
use crate::store::op::{DiskError, FileName, Files};
use crate::store::queue_files::{QueueSegment, StoredChunk};
use crate::store::scan::{self, ChunkScan, Torn};

impl Recovery {
    /// The segments of one queue, in order.
    pub(super) fn segments(
        &mut self,
        files: &mut impl Files,
        segments: &[(FileName, u64)],
        is_known: &dyn Fn(QueueId) -> bool,
    ) -> Result<(), RecoveryError> {
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
        // A later header says how many of the first segments are whole.
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

    pub(super) fn segment(
        &mut self,
        files: &mut impl Files,
        (name, len): (FileName, u64),
        mut chunks: Vec<ChunkScan>,
        torn: Option<Torn>,
        is_whole: bool,
    ) -> Result<(), RecoveryError> {
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
                return Err(RecoveryError::Damaged { file: name, at, damage });
            }
            self.note_cut(name, &torn);
        }
        whole &= self.drop_torn_chunks(files, name, &mut chunks, synced)?;
        if !whole {
            return self.absorb(files, name, &chunks, synced);
        }
        let mut segment = QueueSegment {
            len,
            synced: len,
            first: u64::MAX,
            closed: true,
            ..QueueSegment::default()
        };
        for one in &chunks {
            let chunk = self.chunk(files, name, number, one, synced)?;
            let header = one.found.header;
            let recovered = self.queues.entry(queue).or_default();
            recovered.next_seq = recovered.next_seq.max(lane::place(header.last) + 1);
            // Also without a live message: settles are kept as long as the file exists.
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

    pub(super) fn is_recent(&self, one: &ChunkScan) -> bool {
        let header = one.found.header;
        header.boot == self.last_boot && header.synced != u32::MAX
    }

    /// Drops chunks that were not synced and are not whole: their messages are still in the log, or
    /// were never promised, or are settled. True if all chunks are whole.
    pub(super) fn drop_torn_chunks(
        &mut self,
        files: &mut impl Files,
        name: FileName,
        chunks: &mut Vec<ChunkScan>,
        synced: u64,
    ) -> Result<bool, DiskError> {
        let before = chunks.len();
        let mut whole = Vec::with_capacity(before);
        for one in chunks.drain(..) {
            let header = one.found.header;
            let in_doubt = one.at >= synced && header.durable > 0 && self.is_recent(&one);
            match in_doubt.then(|| read(files, name, &one)).transpose()?.and_then(Result::err) {
                None => whole.push(one),
                Some(damage) => self.notes.push(format!(
                    "{name}: ignored a chunk at byte {} that was not finished ({damage})",
                    one.at
                )),
            }
        }
        *chunks = whole;
        Ok(chunks.len() == before)
    }

    /// Takes the good messages of a segment that is not whole as if the log had them. The segment
    /// is removed, so that its torn part is never read as something else.
    pub(super) fn absorb(
        &mut self,
        files: &mut impl Files,
        name: FileName,
        chunks: &[ChunkScan],
        synced: u64,
    ) -> Result<(), RecoveryError> {
        let FileName::Queue { queue, .. } = name else { return Ok(()) };
        // After a power loss during this start, the next one has to find the segment torn as well.
        // Else it would count in addition to the copies written now.
        files.sync(&[name])?;
        let messages = self.enqueued.entry(queue).or_default();
        let delivered = self.delivered.entry(queue).or_default();
        for one in chunks {
            let len = chunk::sealed_len(one.found.len) as u64;
            let bytes = scan::read(files, name, one.at, len)?;
            let read = one.found.each(&bytes, |entry| {
                if !entry.durable {
                    return;
                }
                if entry.redelivered {
                    delivered.insert(entry.seq, entry.seq);
                }
                let (seq, expiry) = (entry.seq, entry.expiry);
                let (record, body) = entry.into_parts();
                messages.insert(seq, LogMessage { record, body, expiry });
            });
            // An unfinished message that is no longer in the log was settled.
            if let Err(damage) = read
                && one.at < synced
            {
                return Err(RecoveryError::Damaged { file: name, at: one.at, damage });
            }
        }
        self.dead.push(name);
        Ok(())
    }

    /// Counts the live messages of a chunk.
    pub(super) fn chunk(
        &self,
        files: &mut impl Files,
        name: FileName,
        file: u32,
        one: &ChunkScan,
        synced: u64,
    ) -> Result<StoredChunk, DiskError> {
        let header = one.found.header;
        let (first, last) = (header.first, header.last);
        let all = (header.durable, header.digest.durable_bodies);
        let (live, bodies) = match self.settled.get(&header.queue) {
            Some(settled) if settled.covers(first, last) => (0, 0),
            Some(settled) if settled.touches(first, last) => match read(files, name, one)? {
                Ok(found) => found
                    .iter()
                    .filter(|(seq, _)| !settled.contains(*seq))
                    .fold((0, 0), |(live, bodies), (_, body)| (live + 1, bodies + body)),
                // Not finished and no longer in the log: all its messages were settled.
                Err(_) if one.at >= synced => (0, 0),
                // The error is reported when the messages are to be delivered.
                Err(_) => all,
            },
            _ => all,
        };
        Ok(StoredChunk {
            file,
            at: one.at,
            len: chunk::sealed_len(one.found.len) as u64,
            first,
            last,
            live,
            old: true,
            loaded: false,
            earliest: header.digest.earliest,
            latest: header.digest.latest,
            bodies,
        })
    }
}

/// The sequence numbers of the durable messages in a chunk, with the bytes of their bodies.
fn read(
    files: &mut impl Files,
    name: FileName,
    one: &ChunkScan,
) -> Result<Result<Vec<(u64, u64)>, Damage>, DiskError> {
    let len = chunk::sealed_len(one.found.len) as u64;
    let bytes = scan::read(files, name, one.at, len)?;
    let mut found = Vec::new();
    let read = one.found.each(&bytes, |entry| {
        if entry.durable {
            found.push((entry.seq, entry.message().body_len() as u64));
        }
    });
    Ok(read.map(|()| found))
}
