//! Reads what logs and segments hold after a stop of any kind. Decides nothing.

use bytes::Bytes;

use super::format::batch::{self, Record};
use super::format::chunk;
use super::format::{ALIGNMENT, Damage, HEADER, padded};
use super::op::{Failure, FileName, Files};

/// So many octets are read at once when a header is looked for.
const STRIDE: usize = 64 * 1024;

/// What a scan found wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Torn {
    /// Where the good part ends.
    pub at: u64,
    /// Octets behind it.
    pub octets: u64,
    /// What is wrong.
    pub damage: Damage,
    /// How far a good header behind the damage says that all was on stable storage.
    pub synced_behind: Option<u64>,
    /// The number of the batch that has that header, in a log.
    pub batch_behind: Option<u64>,
}

/// The records of a segment of a log.
#[derive(Debug, Default)]
pub(super) struct LogScan {
    /// In order.
    pub records: Vec<Record>,
    /// The first batch that was read,
    pub first_batch: u64,
    /// what it says was on stable storage then,
    pub first_synced: u64,
    /// and the last.
    pub last_batch: u64,
    /// The last batch that the headers say was on stable storage.
    pub synced: u64,
    /// The file ends with something that is not a batch.
    pub torn: Option<Torn>,
}

impl LogScan {
    /// Whether there is no batch in it; batches are numbered from 1, and one may be empty.
    pub fn is_empty(&self) -> bool {
        self.last_batch == 0
    }
}

/// Reads octets that are there, as the list of files says: fewer are read on, or refused, never
/// taken for the end of what was written.
pub(super) fn read(
    files: &mut impl Files,
    name: FileName,
    at: u64,
    len: u64,
) -> Result<Bytes, Failure> {
    let all = usize::try_from(len).unwrap_or(usize::MAX);
    let first = files.read(name, at, all)?;
    if first.len() == all {
        return Ok(first);
    }
    let mut octets = first.to_vec();
    while octets.len() < all {
        let behind = at + octets.len() as u64;
        let more = files.read(name, behind, all - octets.len())?;
        if more.is_empty() {
            let why = format!("it ends at octet {behind}, and not at octet {}", at + len);
            return Err(Failure { doing: format!("read {name}"), why, full: false });
        }
        octets.extend_from_slice(&more);
    }
    Ok(octets.into())
}

/// Reads a segment of a log whole: it is bounded.
pub(super) fn log(files: &mut impl Files, name: FileName, len: u64) -> Result<LogScan, Failure> {
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
                at += HEADER + padded(found.len);
            }
            Err(damage) => {
                let behind = batch_behind(name, &whole, at);
                let synced_behind = behind.map(|header| header.synced);
                let batch_behind = behind.map(|header| header.batch);
                let octets = (whole.len() - at) as u64;
                // Room that was set aside and never written is no damage.
                if rest.iter().any(|octet| *octet != 0) {
                    let at = at as u64;
                    scan.torn = Some(Torn { at, octets, damage, synced_behind, batch_behind });
                }
                break;
            }
        }
    }
    Ok(scan)
}

fn own_batch(name: FileName, octets: &Bytes) -> Result<(batch::Found, Vec<Record>), Damage> {
    let found = batch::open(octets)?;
    if !is_of(&found, name) {
        return Err(Damage::Header);
    }
    let records = found.records(octets)?;
    Ok((found, records))
}

fn is_of(found: &batch::Found, name: FileName) -> bool {
    let header = found.header;
    let of = FileName::Log { boot: header.boot, shard: header.shard, number: header.segment };
    of == name
}

/// The header of the first whole batch behind a damaged one.
fn batch_behind(name: FileName, whole: &Bytes, at: usize) -> Option<batch::Header> {
    let starts = (at + ALIGNMENT..whole.len()).step_by(ALIGNMENT);
    let found = |start: usize| {
        let rest = whole.slice(start..);
        own_batch(name, &rest).ok().map(|(found, _)| found.header)
    };
    starts.filter(|start| whole[*start..].starts_with(b"RTLB")).find_map(found)
}

/// A chunk as its header describes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChunkScan {
    /// Octets in front of it.
    pub at: u64,
    /// What it says.
    pub found: chunk::Found,
}

/// Reads the heads in a segment of a queue, of `len` octets, as recovery does, for the sake of the
/// reading: what is slow can be done several times at once before recovery begins.
///
/// # Errors
///
/// The system's.
pub fn walk(files: &mut impl Files, name: FileName, len: u64) -> Result<(), Failure> {
    segment(files, name, len).map(drop)
}

/// Reads the headers of a queue's segment.
pub(super) fn segment(
    files: &mut impl Files,
    name: FileName,
    len: u64,
) -> Result<(Vec<ChunkScan>, Option<Torn>), Failure> {
    let mut chunks: Vec<ChunkScan> = Vec::new();
    let mut at = 0;
    while at < len {
        let header = read(files, name, at, (len - at).min(HEADER as u64))?;
        let found = chunk::open(&header).and_then(|found| fits(name, found, at, len));
        match found {
            Ok(found) => {
                chunks.push(ChunkScan { at, found });
                at += chunk::sealed_len(found.len) as u64;
            }
            Err(damage) => {
                let synced_behind = chunk_behind(files, name, at, len)?;
                let (octets, batch_behind) = (len - at, None);
                let torn = Torn { at, octets, damage, synced_behind, batch_behind };
                return Ok((chunks, Some(torn)));
            }
        }
    }
    Ok((chunks, None))
}

fn fits(name: FileName, found: chunk::Found, at: u64, len: u64) -> Result<chunk::Found, Damage> {
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
) -> Result<Option<u64>, Failure> {
    let mut at = from + ALIGNMENT as u64;
    while at < len {
        // One header more than the stride, so that none is cut in two.
        let part = read(files, name, at, (len - at).min((STRIDE + HEADER) as u64))?;
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
