//! The segments of queues that earlier starts have left: what of them is whole, and what lives.

use model::QueueId;

use super::{Found, LogMessage, Unrecoverable, queue_of};
use crate::store::files::{Chunk, Segment};
use crate::store::format::{Damage, chunk};
use crate::store::op::{Failure, FileName, Files};
use crate::store::scan::{self, ChunkScan, Torn};

impl Found {
    /// The segments of one queue, in order.
    pub(super) fn segments(
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

    pub(super) fn segment(
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
            // Also where nothing lives: what is settled is known as long as the file is there.
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

    /// What was not synced may be there in part: what is missing is still in the log, or was
    /// never promised, or is settled. Says whether everything is there.
    pub(super) fn drop_torn_chunks(
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
    pub(super) fn absorb(
        &mut self,
        files: &mut impl Files,
        name: FileName,
        chunks: &[ChunkScan],
        synced: u64,
    ) -> Result<(), Unrecoverable> {
        let FileName::Queue { queue, .. } = name else { return Ok(()) };
        // If the power goes before this start is through, the next one has to find it torn as well:
        // else it would count beside what is made of it now.
        files.sync(&[name])?;
        let messages = self.enqueued.entry(queue).or_default();
        let delivered = self.delivered.entry(queue).or_default();
        for one in chunks {
            let len = chunk::sealed_len(one.found.len) as u64;
            let octets = scan::read(files, name, one.at, len)?;
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
    pub(super) fn chunk(
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
}

/// The sequence numbers in a chunk.
fn read(
    files: &mut impl Files,
    name: FileName,
    one: &ChunkScan,
) -> Result<Result<Vec<u64>, Damage>, Failure> {
    let len = chunk::sealed_len(one.found.len) as u64;
    let octets = scan::read(files, name, one.at, len)?;
    let mut seqs = Vec::new();
    let read = one.found.each(&octets, |entry| {
        if entry.durable {
            seqs.push(entry.seq);
        }
    });
    Ok(read.map(|()| seqs))
}
