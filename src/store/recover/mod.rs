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

mod logs;
mod segments;
mod writer;

use std::collections::BTreeMap;

use bytes::Bytes;
use model::mutant::{self, Mutant};
use model::{Body, QueueId};

use self::writer::Writer;
use super::RecoveredQueue;
use super::format::Damage;
use super::format::batch::{self, Header};
use super::gather::Gather;
use super::op::{Failure, FileName, Files, RECOVERY};
use super::ranges::Ranges;

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
    /// The disk is too full for what is in the logs to be moved into segments.
    #[error(
        "{failure}; a start writes what the logs of the last one hold before it removes them, here \
         about {} MiB: make room for that and start again, nothing is lost",
        octets.div_ceil(1 << 20)
    )]
    NoRoom {
        /// What was tried.
        failure: Failure,
        /// About how many octets have to be free.
        octets: u64,
    },
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
    let octets = found.to_write();
    found.finish(files, &listed).map_err(|refused| match refused {
        Unrecoverable::Failure(failure) if failure.full => {
            Unrecoverable::NoRoom { failure, octets }
        }
        other => other,
    })
}

/// Where a shard's log has been read to.
#[derive(Debug, Default)]
struct Reached {
    last_batch: Option<u64>,
    last_number: u32,
    /// There was no batch in the last segment.
    empty: bool,
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

    /// About how many octets [`Self::finish`] writes, rather more than fewer.
    fn to_write(&self) -> u64 {
        /// What stands around a message, and around a queue's.
        const AROUND: usize = 64;
        const CHUNKED: usize = 8 * 1024;
        let octets = |message: &LogMessage| {
            let body = message.body.as_ref().map_or(0, Body::len);
            AROUND + message.record.len() + body
        };
        let of_queue = |(queue, messages): (&QueueId, &BTreeMap<u64, LogMessage>)| {
            let settled = self.settled.get(queue);
            let lives = |seq: &u64| settled.is_none_or(|settled| !settled.contains(*seq));
            let live = messages.iter().filter(|(seq, _)| lives(seq));
            CHUNKED + live.map(|(_, message)| octets(message)).sum::<usize>()
        };
        let messages: usize = self.enqueued.iter().map(of_queue).sum();
        let ranges = self.settled.values().chain(self.delivered.values());
        let ranges: usize = ranges.map(|ranges| ranges.iter().count()).sum();
        (messages + AROUND * ranges) as u64
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
        // Until there is a log of this start, the next one looks at everything as this one did. A
        // broker that was killed may have left its log unsynced, if it was a relaxed one.
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
