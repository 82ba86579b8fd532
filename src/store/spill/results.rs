//! Results of operations on segments: what was written and read, errors, and what is tried again.

use std::ops::Range;

use bytes::Bytes;
use model::{Now, QueueId};

use super::sync::SyncedSegment;
use super::{Spill, name};
use crate::store::effects::{Loaded, StoreError};
use crate::store::format::{Damage, chunk};
use crate::store::log::MessageLog;
use crate::store::op::{Cause, DiskError, Work};
use crate::store::ops::Ops;
use crate::store::queue_files::{QueueFiles, QueueSegment, SegmentRead};

/// Microseconds after which an operation that lacked a resource is tried again.
const RETRY_US: u64 = 100_000;

/// An operation in flight, or to be tried again.
#[derive(Debug)]
pub(super) struct Pending {
    pub queue: QueueId,
    pub what: What,
}

#[derive(Debug)]
pub(super) enum What {
    Write {
        file: u32,
        bytes: usize,
        work: Work,
        again: bool,
    },
    Read(SegmentRead),
    Sync(Vec<SyncedSegment>),
    /// No operation: after a sync that lacked a resource, no other is handed out before.
    SyncAgain,
    Delete {
        file: u32,
    },
}

impl What {
    /// The bytes of a segment that a write which is tried again has not written.
    pub fn unwritten(&self, segment: u32) -> Option<Range<u64>> {
        match self {
            Self::Write { file, work: Work::Write { at, pieces, .. }, again: true, .. }
                if *file == segment =>
            {
                Some(*at..*at + pieces.iter().map(Bytes::len).sum::<usize>() as u64)
            }
            _ => None,
        }
    }
}

impl Spill {
    /// Takes a result. False if the operation is not on a segment.
    pub fn done(
        &mut self,
        op: u64,
        result: Result<Bytes, DiskError>,
        log: &mut MessageLog,
        now: Now,
    ) -> bool {
        let Some(Pending { queue, what }) = self.pending.remove(&op) else { return false };
        let error = result.as_ref().err().filter(|error| error.may_retry()).cloned();
        match what {
            What::Write { file, bytes, work, again } => {
                self.was_written(queue, (file, bytes, work, again), result, now);
            }
            What::Read(reading) => self.was_read((op, queue, reading), result, now),
            What::Sync(segments) => self.were_synced(op, segments, result, log, now),
            What::SyncAgain => {}
            What::Delete { file } => {
                self.removing -= 1;
                if self.fatal_unless(result) {
                    self.removed(queue, file);
                }
            }
        }
        self.update_lack(error);
        true
    }

    fn was_written(
        &mut self,
        queue: QueueId,
        (file, bytes, work, again): (u32, usize, Work, bool),
        result: Result<Bytes, DiskError>,
        now: Now,
    ) {
        let others = |segment: &mut QueueSegment| segment.missing > usize::from(again);
        // Of a segment that is gone, the write that creates it may have been given up.
        let others = self.segment(queue, file).is_none_or(others);
        if matches!(&result, Err(error) if is_retried(error, others)) {
            if let Some(segment) = self.segment(queue, file).filter(|_| !again) {
                segment.missing += 1;
            }
            let what = What::Write { file, bytes, work, again: true };
            return self.retry_later(queue, what, now);
        }
        self.waiting -= bytes;
        let written = self.fatal_unless(result);
        if let Some(segment) = self.segment(queue, file).filter(|_| again || !written) {
            // A write that failed for good stays missing, so no sync of the segment ever counts.
            segment.missing = segment.missing + usize::from(!written) - usize::from(again);
            self.is_clean = false;
        }
        self.list(queue);
    }

    pub(super) fn retry_later(&mut self, queue: QueueId, what: What, now: Now) {
        self.retries.push_back((now.monotonic_us + RETRY_US, Pending { queue, what }));
    }

    pub(super) fn retry(&mut self, pending: Pending, ops: &mut Ops) {
        let Pending { queue, what } = pending;
        let What::Write { file, work, bytes, .. } = what else {
            // Reads and syncs are handed out as if for the first time.
            self.is_clean = false;
            return self.list(queue);
        };
        if self.segment(queue, file).is_none_or(|segment| segment.removing) {
            self.waiting -= bytes;
            // A read may have waited for the write.
            return self.list(queue);
        }
        let op = ops.hand_out(name(queue, file), work.clone());
        let what = What::Write { file, work, bytes, again: true };
        self.pending.insert(op, Pending { queue, what });
    }

    /// Notes if operations begin to lack a resource, or if none does any more.
    pub(super) fn update_lack(&mut self, error: Option<DiskError>) {
        if self.lack.is_none() && error.is_none() {
            return;
        }
        let again = |one: &Pending| matches!(one.what, What::Write { again: true, .. });
        let lacks = |segment: &QueueSegment| segment.lacks && !segment.removing;
        let lacks = |files: &QueueFiles| files.lacks || files.segments.values().any(lacks);
        let lacks = self.retries.iter().any(|(_, one)| again(one))
            || self.pending.values().any(again)
            || self.queues.values().any(lacks);
        if !lacks {
            self.lack = None;
        } else if self.lack.is_none() {
            self.lack = error.map(|error| error.to_string());
        }
    }

    fn removed(&mut self, queue: QueueId, file: u32) {
        let Some(files) = self.queues.get_mut(&queue) else { return };
        files.removed(file);
        self.removals -= 1;
        if files.is_empty() {
            self.queues.remove(&queue);
            self.listed.retain(|listed| *listed != queue);
        }
    }

    /// True if it succeeded; if not, the process cannot go on.
    pub(super) fn fatal_unless(&mut self, result: Result<Bytes, DiskError>) -> bool {
        match result {
            Err(error) if !DiskError::ignored() => {
                self.errors.push_back(StoreError::Fatal(error.to_string()));
                false
            }
            _ => true,
        }
    }

    fn was_read(
        &mut self,
        (op, queue, reading): (u64, QueueId, SegmentRead),
        result: Result<Bytes, DiskError>,
        now: Now,
    ) {
        let unwritten = self.unwritten_from(queue, reading).is_some();
        let Some(files) = self.queues.get_mut(&queue) else { return };
        if files.reading.take_if(|(awaited, _)| *awaited == op).is_none() {
            return;
        }
        files.lacks = matches!(&result, Err(error) if error.may_retry());
        if files.lacks {
            files.wanted = true;
            return self.retry_later(queue, What::Read(reading), now);
        }
        let loaded = match result {
            Ok(bytes) if (bytes.len() as u64) < reading.len => {
                let (file, end) = (name(queue, reading.file), reading.at + bytes.len() as u64);
                Err(format!("cannot read {file}: it ends at byte {end}, before its messages do"))
            }
            Ok(bytes) => load(queue, files, reading, &bytes),
            Err(error) => Err(error.to_string()),
        };
        match loaded {
            Ok(loaded) => self.loaded.push_back(loaded),
            // The read came behind a write that failed and is tried again.
            Err(_) if unwritten => files.wanted = true,
            Err(why) => self.errors.push_back(StoreError::Unreadable(queue, why)),
        }
        if files.wanted {
            self.list(queue);
        }
    }
}

/// True if a failed write is tried again: it lacked a resource, or the file does not exist since
/// the write that creates it is among `others` that failed.
fn is_retried(error: &DiskError, others: bool) -> bool {
    error.may_retry() || error.cause == Cause::NotFound && others
}

/// Decodes chunks that were read and marks them as loaded: all or none.
fn load(
    queue: QueueId,
    files: &mut QueueFiles,
    reading: SegmentRead,
    bytes: &Bytes,
) -> Result<Loaded, String> {
    let mut loaded = Loaded { queue, entries: Vec::new() };
    let mut at = 0;
    for number in files.chunks_of(reading) {
        let Some(chunk) = files.chunks.get(number) else { continue };
        let damaged = |damage: Damage| {
            let (file, at) = (name(queue, reading.file), chunk.at);
            format!("the messages from byte {at} of {file} on are damaged: {damage}")
        };
        let rest = bytes.slice(at.min(bytes.len())..);
        let found = chunk::open(&rest).map_err(damaged)?;
        if found.header.queue != queue || found.header.first != chunk.first {
            return Err(damaged(Damage::Header));
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
    files.chunks_of(reading).for_each(|number| files.load(number));
    Ok(loaded)
}
