//! What the disk alone carries: batches written to a file one after the other, each on stable
//! storage (`fdatasync`) before the next. No broker that confirms after that makes more syncs with
//! one log.
//!
//! The file is appended to, as a log is, so that a sync has its new length to write too; when it is
//! large it begins anew, and that is not measured.

use std::fmt::{self, Display, Formatter};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::clock::{self, SECOND};
use crate::failure::Failure;
use crate::interrupt;
use crate::latency::Latency;
use crate::sizes::scramble;
use crate::threads;

/// The length at which a file begins anew (octets).
const FILE_MAX: u64 = 256 << 20;

/// What is written.
#[derive(Debug, Clone)]
pub struct Batches {
    /// Where the file is made.
    pub folder: PathBuf,
    /// Octets of a message.
    pub size: usize,
    /// Messages written and synced together.
    pub batch: u32,
    /// How long (ns), warm-up included.
    pub time: u64,
    /// How much of the beginning is left out (ns).
    pub warmup: u64,
    /// The CPU to run on.
    pub cpu: Option<usize>,
}

/// What a disk did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Synced {
    /// Messages of a batch.
    pub batch: u32,
    /// Octets of a batch.
    pub octets: usize,
    /// Batches that were synced.
    pub syncs: u64,
    /// How long they took together.
    pub seconds: f64,
    /// Syncs a second.
    pub rate: f64,
    /// Messages a second.
    pub messages: f64,
    /// Megabytes (10^6 octets) a second.
    pub megabytes: f64,
}

impl Display for Synced {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { batch, octets, syncs, seconds, rate, messages, megabytes } = self;
        writeln!(
            f,
            "\n{syncs} syncs in {seconds:.2} s, each of {batch} messages, {octets} octets\n\
             {rate:.0} syncs/s, {messages:.0} messages/s, {megabytes:.2} MB/s"
        )
    }
}

/// Writes and syncs batches on a thread of its own; the file is gone behind it. The latencies are
/// those of a write with its sync.
///
/// # Errors
/// The folder cannot be written to, or a write or a sync fails.
pub fn measure(batches: &Batches) -> Result<(Synced, Latency), Failure> {
    std::thread::scope(|scope| {
        let body = || threads::prepare(batches.cpu).and_then(|()| write_and_sync(batches));
        scope.spawn(body).join().map_err(|_| {
            Failure::Settings("the writing thread panicked; this is a fault of loadgen".to_owned())
        })?
    })
}

fn write_and_sync(batches: &Batches) -> Result<(Synced, Latency), Failure> {
    let path = batches.folder.join(format!("loadgen.{:08x}.sync", std::process::id()));
    let failed = |source| Failure::File { path: path.clone(), source };
    let file = File::create_new(&path).map_err(failed)?;
    let _gone_at_the_end = Removed(&path);
    let octets = bodies(batches.size * batches.batch as usize);
    let (mut latency, mut syncs, mut at) = (Latency::new(), 0, 0);
    let start = clock::now();
    let (begin, end) = (start + batches.warmup, start + batches.time);
    let mut last = start;
    loop {
        let now = clock::now();
        if now >= end || interrupt::came() {
            return Ok((synced(batches, syncs, last.saturating_sub(begin)), latency));
        }
        if at + octets.len() as u64 > FILE_MAX && at > 0 {
            file.set_len(0).and_then(|()| file.sync_data()).map_err(failed)?;
            at = 0;
            continue;
        }
        file.write_all_at(&octets, at).and_then(|()| file.sync_data()).map_err(failed)?;
        at += octets.len() as u64;
        last = clock::now();
        if now >= begin {
            syncs += 1;
            latency.record(last - now);
        }
    }
}

fn synced(batches: &Batches, syncs: u64, time: u64) -> Synced {
    let seconds = time as f64 / SECOND as f64;
    let rate = if seconds > 0.0 { syncs as f64 / seconds } else { 0.0 };
    let octets = batches.size * batches.batch as usize;
    let (messages, megabytes) = (rate * f64::from(batches.batch), rate * octets as f64 / 1e6);
    Synced { batch: batches.batch, octets, syncs, seconds, rate, messages, megabytes }
}

/// Octets that no file system can compress.
fn bodies(len: usize) -> Vec<u8> {
    let octets = (0..len.div_ceil(8) as u64).flat_map(|n| scramble(n).to_le_bytes());
    octets.take(len).collect()
}

/// A file that goes when this does.
struct Removed<'a>(&'a Path);

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::MILLISECOND;

    fn batches(folder: PathBuf) -> Batches {
        let (time, warmup, cpu) = (60 * MILLISECOND, 10 * MILLISECOND, None);
        Batches { folder, size: 100, batch: 5, time, warmup, cpu }
    }

    #[test]
    fn batches_are_counted_and_the_file_is_gone() {
        let folder = std::env::temp_dir().join(format!("loadgen-synced-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let (synced, mut latency) = measure(&batches(folder.clone())).unwrap();
        assert_eq!((synced.batch, synced.octets), (5, 500));
        assert_eq!(latency.percentiles().map_or(0, |seen| seen.count), synced.syncs);
        assert!((synced.messages - 5.0 * synced.rate).abs() < 1e-6);
        // It can be removed only if it is empty.
        std::fs::remove_dir(&folder).unwrap();
    }

    #[test]
    fn a_folder_that_is_not_there_is_told() {
        let failure = measure(&batches(PathBuf::from("/nowhere"))).unwrap_err().to_string();
        assert!(failure.starts_with("cannot write /nowhere/loadgen."), "{failure}");
    }
}
