//! Recovery: moves live messages of the last start's logs into segments of their queues, and
//! removes the logs.
//!
//! ```text
//!   logs: enqueued - settled ──┐
//!                              ├─▶ chunks of each queue, in order ──▶ new segments, recovery log
//!   segments: chunks - settled ┘                                      synced, then the old logs go
//! ```
//!
//! A crash in between does no harm: until the old logs are removed, the next start reads them
//! again, and a message found twice counts once. Queues may have other home shards than before.

mod logs;
mod segments;
mod writer;

use std::collections::BTreeMap;

use bytes::Bytes;
use model::mutant::{self, Mutant};
use model::queue::{Expiry, RestoredLane, lane};
use model::{Body, QueueId};

use self::writer::SegmentWriter;
use super::format::Damage;
use super::format::batch::{self, BatchHeader};
use super::gather::Gather;
use super::op::{Cause, DiskError, FileName, Files, RECOVERY};
use super::queue_files::{RecoveredQueue, StoredChunk, firsts, forget_others};
use super::ranges::Ranges;

/// The result of recovery.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The number of this start.
    pub boot: u32,
    /// The last stop was clean.
    pub clean: bool,
    /// The queues that have messages or segments.
    pub queues: BTreeMap<QueueId, RecoveredQueue>,
    /// Messages for the operator: what was cut off.
    pub notes: Vec<String>,
}

/// Why the messages of the last start cannot be recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// An operation failed.
    #[error("{0}{advice}", advice = .0.advice())]
    Disk(#[from] DiskError),
    /// The disk is too full to move the contents of the logs into segments.
    #[error(
        "{error}; a start copies the contents of the last logs before it removes these, here about \
         {} MiB: make room for that and start again, nothing is lost",
        bytes.div_ceil(1 << 20)
    )]
    NoRoom {
        /// What failed.
        error: DiskError,
        /// About how many bytes have to be free.
        bytes: u64,
    },
    /// Bytes that were on stable storage are damaged.
    #[error(
        "{file} is damaged from byte {at} on ({damage}), and confirmed messages follow the damage: \
         restore the file, or move it away to start without its messages"
    )]
    Damaged {
        /// The file.
        file: FileName,
        /// The offset of the damage.
        at: u64,
        /// What is wrong.
        damage: Damage,
    },
    /// A segment of a log is missing.
    #[error("a segment of the log is missing: {file} has no predecessor; restore it")]
    Missing {
        /// The segment that follows it.
        file: FileName,
    },
}

/// Recovers. `is_known` tells which queues are durable and still exist.
///
/// # Errors
///
/// See [`RecoveryError`]. No confirmed message has been removed then.
pub fn recover(
    files: &mut impl Files,
    is_known: &dyn Fn(QueueId) -> bool,
) -> Result<Recovered, RecoveryError> {
    let listed: BTreeMap<FileName, u64> = files.list()?.into_iter().collect();
    let mut found = Recovery::new(&listed);
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
    let bytes = found.to_write();
    found.finish(files, &listed).map_err(|refused| match refused {
        RecoveryError::Disk(error) if error.cause == Cause::NoSpace => {
            RecoveryError::NoRoom { error, bytes }
        }
        other => other,
    })
}

/// How far a shard's log was read.
#[derive(Debug, Default)]
struct LogReached {
    last_batch: Option<u64>,
    last_number: u32,
    /// The last segment had no batch.
    empty: bool,
    /// The last batch that was on stable storage.
    synced: u64,
    /// The first gap: file, offset, missing batch, and the damage if there is one.
    gap: Option<(FileName, u64, u64, Option<Damage>)>,
    clean: Option<u16>,
}

#[derive(Debug)]
struct LogMessage {
    record: Bytes,
    body: Option<Body>,
    expiry: Expiry,
}

#[derive(Debug, Default)]
struct Recovery {
    last_boot: u32,
    logs: BTreeMap<(u32, u16), LogReached>,
    enqueued: BTreeMap<QueueId, BTreeMap<u64, LogMessage>>,
    settled: BTreeMap<QueueId, Ranges>,
    delivered: BTreeMap<QueueId, Ranges>,
    queues: BTreeMap<QueueId, RecoveredQueue>,
    /// Segments that the last start may not have synced. Once the logs are removed, their messages
    /// are nowhere else.
    unsynced: Vec<FileName>,
    /// Segments without a live message.
    dead: Vec<FileName>,
    notes: Vec<String>,
}

impl Recovery {
    fn new(listed: &BTreeMap<FileName, u64>) -> Self {
        let boots = listed.keys().filter_map(|name| match name {
            FileName::Log { boot, .. } => Some(*boot),
            FileName::Queue { .. } => None,
        });
        Self { last_boot: boots.max().unwrap_or(0), ..Self::default() }
    }

    /// An upper estimate of the bytes that [`Self::finish`] writes.
    fn to_write(&self) -> u64 {
        /// Bytes around a message, and around the messages of a queue.
        const AROUND: usize = 64;
        const CHUNKED: usize = 8 * 1024;
        let bytes = |message: &LogMessage| {
            let body = message.body.as_ref().map_or(0, Body::len);
            AROUND + message.record.len() + body
        };
        let of_queue = |(queue, messages): (&QueueId, &BTreeMap<u64, LogMessage>)| {
            let settled = self.settled.get(queue);
            let lives = |seq: &u64| settled.is_none_or(|settled| !settled.contains(*seq));
            let live = messages.iter().filter(|(seq, _)| lives(seq));
            CHUNKED + live.map(|(_, message)| bytes(message)).sum::<usize>()
        };
        let messages: usize = self.enqueued.iter().map(of_queue).sum();
        let ranges = self.settled.values().chain(self.delivered.values());
        let ranges: usize = ranges.map(|ranges| ranges.iter().count()).sum();
        (messages + AROUND * ranges) as u64
    }

    // Rebuilding.

    fn finish(
        mut self,
        files: &mut impl Files,
        listed: &BTreeMap<FileName, u64>,
    ) -> Result<Recovered, RecoveryError> {
        let boot = self.last_boot + 1;
        let clean = self.is_clean();
        for (queue, messages) in std::mem::take(&mut self.enqueued) {
            self.move_to_segments(files, boot, queue, messages)?;
        }
        for (queue, recovered) in &mut self.queues {
            complete(recovered, self.settled.remove(queue), self.delivered.remove(queue), clean);
        }
        // Until this start has a log, the next start reads the same files as this one. A killed
        // broker with a relaxed log may have left that unsynced.
        self.unsynced.extend(listed.keys().filter(|name| matches!(name, FileName::Log { .. })));
        files.sync(&self.unsynced)?;
        files.commit()?;
        for name in &self.dead {
            files.delete(*name)?;
        }
        files.sync_folders()?;
        self.write_log(files, boot)?;
        if !mutant::active(Mutant::FolderNotSynced) {
            files.commit()?;
        }
        // Oldest first, each removal synced before the next: no enqueue outlives its settle.
        for name in listed.keys().filter(|name| matches!(name, FileName::Log { .. })) {
            files.delete(*name)?;
            files.sync_folders()?;
        }
        Ok(Recovered { boot, clean, queues: self.queues, notes: self.notes })
    }

    /// Writes messages of a queue that only the logs have into segments.
    fn move_to_segments(
        &mut self,
        files: &mut impl Files,
        boot: u32,
        queue: QueueId,
        messages: BTreeMap<u64, LogMessage>,
    ) -> Result<(), DiskError> {
        let recovered = self.queues.entry(queue).or_default();
        recovered.chunks.sort_unstable_by_key(|chunk| chunk.first);
        let known = recovered.chunks.clone();
        let last = messages.keys().map(|seq| lane::place(*seq)).max().unwrap_or(0);
        recovered.next_seq = recovered.next_seq.max(last + 1);
        let empty = Ranges::default();
        let settled = self.settled.get(&queue).unwrap_or(&empty);
        let number = self.dead.iter().filter_map(|name| number_of(*name, queue));
        let number = number.chain(recovered.segments.keys().copied()).max();
        let mut writer = SegmentWriter::new(queue, boot, number.map_or(0, |number| number + 1));
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
    fn write_log(&self, files: &mut impl Files, boot: u32) -> Result<(), DiskError> {
        let mut records = Gather::default();
        for (queue, recovered) in &self.queues {
            for (from, to) in recovered.settled.iter() {
                batch::write_settle(&mut records, *queue, from, to);
            }
            for (from, to) in recovered.delivered.iter() {
                batch::write_delivered(&mut records, *queue, from, to);
            }
        }
        let header = BatchHeader { shard: RECOVERY, boot, segment: 0, batch: 1, synced: 0 };
        let bytes = batch::seal(header, &mut records).concat();
        files.write(FileName::Log { boot, shard: RECOVERY, number: 0 }, &bytes)
    }
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

fn complete(
    recovered: &mut RecoveredQueue,
    settled: Option<Ranges>,
    delivered: Option<Ranges>,
    clean: bool,
) {
    recovered.chunks.sort_unstable_by_key(|chunk| chunk.first);
    // What is known of a number counts for that message alone: none is given out twice.
    let known = [&settled, &delivered].into_iter().flatten().flat_map(Ranges::iter);
    let known = known.map(|(_, last)| lane::place(last)).max();
    recovered.next_seq = recovered.next_seq.max(known.map_or(1, |last| last + 1));
    recovered.messages = recovered.chunks.iter().map(|chunk| u64::from(chunk.live)).sum();
    recovered.bodies = recovered.chunks.iter().map(|chunk| chunk.bodies).sum();
    recovered.expires = recovered.chunks.iter().any(|chunk| chunk.earliest != Expiry::NEVER);
    recovered.lanes = lanes(&recovered.chunks);
    recovered.settled = settled.unwrap_or_default();
    forget_others(&mut recovered.settled, &recovered.segments);
    recovered.delivered = delivered.unwrap_or_default();
    forget_others(&mut recovered.delivered, &recovered.segments);
    for (lane, first) in firsts(&recovered.segments).into_iter().filter(|_| !clean) {
        // Nothing proves that any of them was not sent.
        recovered.delivered.insert(first, lane::seq(lane, recovered.next_seq - 1));
    }
}

/// How much of each lane there is.
fn lanes(chunks: &[StoredChunk]) -> Vec<RestoredLane> {
    let of_lane = |chunks: &[StoredChunk]| RestoredLane {
        lane: chunks.first().map_or(0, |chunk| lane::of(chunk.first)),
        messages: chunks.iter().map(|chunk| u64::from(chunk.live)).sum(),
        bodies: chunks.iter().map(|chunk| chunk.bodies).sum(),
    };
    chunks.chunk_by(|one, next| lane::of(one.first) == lane::of(next.first)).map(of_lane).collect()
}
