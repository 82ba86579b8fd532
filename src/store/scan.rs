//! Reads logs and segments after any kind of stop. Decides nothing.

use bytes::Bytes;

use super::format::batch::{self, LogRecord};
use super::format::chunk;
use super::format::{ALIGNMENT, Damage};
use super::op::{Cause, DiskError, FileName, Files};

/// Bytes read at once while searching for a header.
const STRIDE: usize = 64 * 1024;

/// Damage that a scan found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Torn {
    /// The offset at which the good part ends.
    pub at: u64,
    /// Bytes from there to the end of the file.
    pub bytes: u64,
    /// What is wrong.
    pub damage: Damage,
    /// The first good header after the damage says that so much was on stable storage.
    pub synced_behind: Option<u64>,
    /// In a log: the number of the batch with that header.
    pub batch_behind: Option<u64>,
}

/// The records of a segment of a log.
#[derive(Debug, Default)]
pub(super) struct LogScan {
    /// In order.
    pub records: Vec<LogRecord>,
    /// The first batch.
    pub first_batch: u64,
    /// The last batch on stable storage when that one was written.
    pub first_synced: u64,
    /// The last batch.
    pub last_batch: u64,
    /// The last batch that a header says was on stable storage.
    pub synced: u64,
    /// The file ends with bytes that are not a batch.
    pub torn: Option<Torn>,
}

impl LogScan {
    /// True if there is no batch. Batches are numbered from 1, and a batch may have no records.
    pub fn is_empty(&self) -> bool {
        self.last_batch == 0
    }
}

/// Reads bytes that exist according to the list of files. A short read is continued; if the file
/// ends early that is an error, never the end of what was written.
pub(super) fn read(
    files: &mut impl Files,
    name: FileName,
    at: u64,
    len: u64,
) -> Result<Bytes, DiskError> {
    let all = usize::try_from(len).unwrap_or(usize::MAX);
    let first = files.read(name, at, all)?;
    if first.len() == all {
        return Ok(first);
    }
    let mut bytes = first.to_vec();
    while bytes.len() < all {
        let behind = at + bytes.len() as u64;
        let more = files.read(name, behind, all - bytes.len())?;
        if more.is_empty() {
            let why = format!("it ends at byte {behind}, and not at byte {}", at + len);
            return Err(DiskError { doing: format!("read {name}"), why, cause: Cause::Other });
        }
        bytes.extend_from_slice(&more);
    }
    Ok(bytes.into())
}

/// Reads a whole segment of a log. Its size is bounded.
pub(super) fn log(files: &mut impl Files, name: FileName, len: u64) -> Result<LogScan, DiskError> {
    let whole = read(files, name, 0, len)?;
    let mut scan = LogScan::default();
    let mut at = 0;
    while at < whole.len() {
        let rest = whole.slice(at..);
        let read = own_batch(name, &rest);
        match read {
            Ok((found, mut records)) => {
                if scan.is_empty() {
                    scan.first_batch = found.header.batch;
                    scan.first_synced = found.header.synced;
                }
                scan.records.append(&mut records);
                scan.last_batch = found.header.batch;
                scan.synced = scan.synced.max(found.header.synced);
                at += batch::sealed_len(found.len);
            }
            Err(damage) => {
                let behind = batch_behind(name, &whole, at);
                let synced_behind = behind.map(|header| header.synced);
                let batch_behind = behind.map(|header| header.batch);
                let bytes = (whole.len() - at) as u64;
                // Preallocated zeros are no damage.
                if rest.iter().any(|byte| *byte != 0) {
                    let at = at as u64;
                    scan.torn = Some(Torn { at, bytes, damage, synced_behind, batch_behind });
                }
                break;
            }
        }
    }
    Ok(scan)
}

fn own_batch(name: FileName, bytes: &Bytes) -> Result<(batch::FoundBatch, Vec<LogRecord>), Damage> {
    let found = batch::open(bytes)?;
    if !is_of(&found, name) {
        return Err(Damage::Header);
    }
    let records = found.records(bytes)?;
    Ok((found, records))
}

fn is_of(found: &batch::FoundBatch, name: FileName) -> bool {
    let header = found.header;
    let of = FileName::Log { boot: header.boot, shard: header.shard, number: header.segment };
    of == name
}

/// The header of the first whole batch after a damaged one.
fn batch_behind(name: FileName, whole: &Bytes, at: usize) -> Option<batch::BatchHeader> {
    let starts = (at + ALIGNMENT..whole.len()).step_by(ALIGNMENT);
    let found = |start: usize| {
        let rest = whole.slice(start..);
        own_batch(name, &rest).ok().map(|(found, _)| found.header)
    };
    starts.filter(|start| whole[*start..].starts_with(b"RTLB")).find_map(found)
}

/// A chunk according to its header.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChunkScan {
    /// Its offset in bytes.
    pub at: u64,
    /// The header.
    pub found: chunk::FoundChunk,
}

/// Reads the headers of a queue's segment of `len` bytes as recovery will do, so that they are in
/// the page cache then. Several threads do this at once before recovery begins.
///
/// # Errors
///
/// The system's.
pub fn walk(files: &mut impl Files, name: FileName, len: u64) -> Result<(), DiskError> {
    segment(files, name, len).map(drop)
}

/// Reads the headers of a queue's segment.
pub(super) fn segment(
    files: &mut impl Files,
    name: FileName,
    len: u64,
) -> Result<(Vec<ChunkScan>, Option<Torn>), DiskError> {
    let mut chunks: Vec<ChunkScan> = Vec::new();
    let mut at = 0;
    while at < len {
        let header = read(files, name, at, (len - at).min(chunk::HEADER as u64))?;
        let found = chunk::open(&header).and_then(|found| fits(name, found, at, len));
        match found {
            Ok(found) => {
                chunks.push(ChunkScan { at, found });
                at += chunk::sealed_len(found.len) as u64;
            }
            Err(damage) => {
                let synced_behind = chunk_behind(files, name, at, len)?;
                let (bytes, batch_behind) = (len - at, None);
                let torn = Torn { at, bytes, damage, synced_behind, batch_behind };
                return Ok((chunks, Some(torn)));
            }
        }
    }
    Ok((chunks, None))
}

fn fits(
    name: FileName,
    found: chunk::FoundChunk,
    at: u64,
    len: u64,
) -> Result<chunk::FoundChunk, Damage> {
    let header = found.header;
    if name != (FileName::Queue { queue: header.queue, number: header.segment }) {
        return Err(Damage::Header);
    }
    if at + chunk::sealed_len(found.len) as u64 > len { Err(Damage::Short) } else { Ok(found) }
}

fn chunk_behind(
    files: &mut impl Files,
    name: FileName,
    from: u64,
    len: u64,
) -> Result<Option<u64>, DiskError> {
    let mut at = from + ALIGNMENT as u64;
    while at < len {
        // One header more than the stride, so that no header is cut in two.
        let part = read(files, name, at, (len - at).min((STRIDE + chunk::HEADER) as u64))?;
        for start in (0..part.len().min(STRIDE)).step_by(ALIGNMENT) {
            let header = &part[start..];
            if header.starts_with(b"RTQC")
                && let Ok(found) = chunk::open(header)
                && fits(name, found, at + start as u64, len).is_ok()
            {
                return Ok(Some(found.header.synced.into()));
            }
        }
        at += STRIDE as u64;
    }
    Ok(None)
}
