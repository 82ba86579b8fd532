//! Segments that recovery writes: what only the logs have, in chunks.

use std::collections::BTreeMap;

use model::{Message, QueueId};

use super::LogMessage;
use crate::store::RecoveredQueue;
use crate::store::files::{Chunk, SEGMENT_OCTETS, Segment};
use crate::store::format::chunk;
use crate::store::gather::Gather;
use crate::store::op::{Failure, FileName, Files};

/// Octets of a chunk that recovery writes.
const CHUNK_OCTETS: usize = 256 * 1024;

/// Writes messages into new segments of a queue.
pub(super) struct Writer {
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
    pub(super) fn new(queue: QueueId, boot: u32, number: u32) -> Self {
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

    pub(super) fn add(
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

    pub(super) fn seal(&mut self) {
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

    pub(super) fn write(&mut self, files: &mut impl Files) -> Result<(), Failure> {
        files.write(FileName::Queue { queue: self.queue, number: self.number }, &self.octets)?;
        self.octets.clear();
        self.number += 1;
        Ok(())
    }

    pub(super) fn finish(
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
