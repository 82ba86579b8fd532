//! What the disk carries without a broker: batches written to a file one after the other, each
//! synced (`fdatasync`) before the next. No broker with one log that confirms after the sync makes
//! more syncs.
//!
//! The file is appended to, as a log is, so a sync also writes the new file length. A large file is
//! truncated, which is not measured.

use crate::report::baselines::FsyncFigures;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::measure::latency::LatencyRecorder;
use crate::messages::pseudo_random::scramble;
use crate::system::clock::{self, SECOND};
use crate::system::error::LoadgenError;
use crate::system::interrupt;
use crate::system::threads;

/// The length at which the file is truncated (bytes).
const FILE_MAX: u64 = 256 << 20;

/// What to write.
#[derive(Debug, Clone)]
pub struct FsyncLoad {
    /// Where the file is created.
    pub folder: PathBuf,
    /// Bytes per message.
    pub size: usize,
    /// Messages per batch.
    pub batch: u32,
    /// The duration (ns), warm-up included.
    pub time: u64,
    /// The warm-up (ns).
    pub warmup: u64,
    /// The CPU to run on.
    pub cpu: Option<usize>,
}

/// Writes and syncs batches on a thread of its own and removes the file afterwards. Returns the
/// figures and the latencies of a write with its sync.
///
/// # Errors
/// The file cannot be created, or a write or a sync fails.
pub fn measure(batches: &FsyncLoad) -> Result<(FsyncFigures, LatencyRecorder), LoadgenError> {
    std::thread::scope(|scope| {
        let body = || threads::prepare(batches.cpu).and_then(|()| write_and_sync(batches));
        scope.spawn(body).join().map_err(|_| {
            LoadgenError::Settings(
                "the writing thread panicked; this is a bug in loadgen".to_owned(),
            )
        })?
    })
}

fn write_and_sync(batches: &FsyncLoad) -> Result<(FsyncFigures, LatencyRecorder), LoadgenError> {
    let path = batches.folder.join(format!("loadgen.{:08x}.sync", std::process::id()));
    let failed = |source| LoadgenError::File { path: path.clone(), source };
    let file = File::create_new(&path).map_err(failed)?;
    let _gone_at_the_end = RemoveOnDrop(&path);
    let bytes = bodies(batches.size * batches.batch as usize);
    let (mut latency, mut syncs, mut at) = (LatencyRecorder::new(), 0, 0);
    let start = clock::now();
    let (begin, end) = (start + batches.warmup, start + batches.time);
    let mut last = start;
    loop {
        let now = clock::now();
        if now >= end || interrupt::is_requested() {
            return Ok((figures(batches, syncs, last.saturating_sub(begin)), latency));
        }
        if at + bytes.len() as u64 > FILE_MAX && at > 0 {
            file.set_len(0).and_then(|()| file.sync_data()).map_err(failed)?;
            at = 0;
            continue;
        }
        file.write_all_at(&bytes, at).and_then(|()| file.sync_data()).map_err(failed)?;
        at += bytes.len() as u64;
        last = clock::now();
        if now >= begin {
            syncs += 1;
            latency.record(last - now);
        }
    }
}

fn figures(batches: &FsyncLoad, syncs: u64, time: u64) -> FsyncFigures {
    let seconds = time as f64 / SECOND as f64;
    let rate = if seconds > 0.0 { syncs as f64 / seconds } else { 0.0 };
    let bytes = batches.size * batches.batch as usize;
    let (messages, megabytes) = (rate * f64::from(batches.batch), rate * bytes as f64 / 1e6);
    FsyncFigures { batch: batches.batch, bytes, syncs, seconds, rate, messages, megabytes }
}

/// Bytes that no file system can compress.
fn bodies(len: usize) -> Vec<u8> {
    let bytes = (0..len.div_ceil(8) as u64).flat_map(|n| scramble(n).to_le_bytes());
    bytes.take(len).collect()
}

/// Removes a file when it is dropped.
struct RemoveOnDrop<'a>(&'a Path);

impl Drop for RemoveOnDrop<'_> {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::clock::MILLISECOND;

    fn batches(folder: PathBuf) -> FsyncLoad {
        let (time, warmup, cpu) = (60 * MILLISECOND, 10 * MILLISECOND, None);
        FsyncLoad { folder, size: 100, batch: 5, time, warmup, cpu }
    }

    #[test]
    fn batches_are_counted_and_the_file_is_removed() {
        let folder = std::env::temp_dir().join(format!("loadgen-synced-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let (figures, mut latency) = measure(&batches(folder.clone())).unwrap();
        assert_eq!((figures.batch, figures.bytes), (5, 500));
        assert_eq!(latency.percentiles().map_or(0, |seen| seen.count), figures.syncs);
        assert!((figures.messages - 5.0 * figures.rate).abs() < 1e-6);
        // A folder can be removed only if it is empty.
        std::fs::remove_dir(&folder).unwrap();
    }

    #[test]
    fn a_missing_folder_is_an_error() {
        let failure = measure(&batches(PathBuf::from("/nowhere"))).unwrap_err().to_string();
        assert!(failure.starts_with("cannot write /nowhere/loadgen."), "{failure}");
    }
}
