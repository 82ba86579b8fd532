//! Writes the segments of recovery: messages that only the logs have, in chunks.

use std::collections::BTreeMap;

use model::queue::{Spilled, lane};
use model::{Message, QueueId, Stored};

use super::LogMessage;
use crate::store::format::chunk::{self, ChunkDigest};
use crate::store::gather::Gather;
use crate::store::op::{DiskError, FileName, Files};
use crate::store::queue_files::RecoveredQueue;
use crate::store::queue_files::{QueueSegment, SEGMENT_BYTES, StoredChunk};

/// Bytes of a chunk.
const CHUNK_BYTES: usize = 256 * 1024;

/// Writes messages into new segments of a queue.
pub(super) struct SegmentWriter {
    queue: QueueId,
    boot: u32,
    number: u32,
    bytes: Vec<u8>,
    messages: Gather,
    first: u64,
    last: u64,
    count: u32,
    digest: ChunkDigest,
    /// The position among existing chunks: a new chunk must not span an existing one.
    place: usize,
    chunks: Vec<StoredChunk>,
    segments: BTreeMap<u32, QueueSegment>,
}

impl SegmentWriter {
    pub(super) fn new(queue: QueueId, boot: u32, number: u32) -> Self {
        Self {
            queue,
            boot,
            number,
            bytes: Vec::new(),
            messages: Gather::default(),
            first: 0,
            last: 0,
            count: 0,
            digest: ChunkDigest::default(),
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
    ) -> Result<(), DiskError> {
        let lane_ends = lane::of(seq) != lane::of(self.last);
        let ends = place != self.place || lane_ends || self.messages.len() >= CHUNK_BYTES;
        if self.count > 0 && ends {
            self.seal();
            // Each segment has one lane.
            if lane_ends || self.bytes.len() as u64 >= SEGMENT_BYTES {
                self.write(files)?;
            }
        }
        if self.count == 0 {
            self.first = seq;
            self.place = place;
        }
        self.last = seq;
        self.count += 1;
        let LogMessage { record, body, expiry } = message;
        let message = Message::new(&record, body.as_ref());
        self.digest.add(expiry, message.body_len(), true);
        let (redelivered, stored) = (false, Stored::SPILLED_DURABLE);
        chunk::write(&mut self.messages, Spilled { seq, redelivered, stored, expiry, message });
        Ok(())
    }

    pub(super) fn seal(&mut self) {
        let (first, last, count) = (self.first, self.last, self.count);
        let header = chunk::ChunkHeader {
            boot: self.boot,
            queue: self.queue,
            segment: self.number,
            first,
            last,
            count,
            durable: count,
            // The whole segment is synced before anything relies on it.
            synced: u32::MAX,
            unsynced: 0,
            digest: std::mem::take(&mut self.digest),
        };
        let at = self.bytes.len() as u64;
        for piece in chunk::seal(header, &mut self.messages) {
            self.bytes.extend_from_slice(&piece);
        }
        let len = self.bytes.len() as u64 - at;
        let (file, live) = (self.number, count);
        self.chunks.push(StoredChunk {
            file,
            at,
            len,
            first,
            last,
            live,
            old: true,
            loaded: false,
            earliest: header.digest.earliest,
            latest: header.digest.latest,
            bodies: header.digest.bodies,
        });
        let segment = self.segments.entry(file).or_insert_with(|| QueueSegment {
            first,
            closed: true,
            ..QueueSegment::default()
        });
        segment.last = last;
        segment.live += u64::from(count);
        segment.unloaded += 1;
        segment.len = self.bytes.len() as u64;
        segment.synced = segment.len;
        self.count = 0;
    }

    pub(super) fn write(&mut self, files: &mut impl Files) -> Result<(), DiskError> {
        files.write(FileName::Queue { queue: self.queue, number: self.number }, &self.bytes)?;
        self.bytes.clear();
        self.number += 1;
        Ok(())
    }

    pub(super) fn finish(
        mut self,
        files: &mut impl Files,
        recovered: &mut RecoveredQueue,
    ) -> Result<(), DiskError> {
        if self.count > 0 {
            self.seal();
        }
        if !self.bytes.is_empty() {
            self.write(files)?;
        }
        recovered.chunks.append(&mut self.chunks);
        recovered.segments.append(&mut self.segments);
        Ok(())
    }
}
