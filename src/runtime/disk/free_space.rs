//! Measures the free space of the data folder's file system, more often the nearer it is to the
//! limit.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::runtime::sys;
use crate::runtime::wakeup::Wakeup;

/// Milliseconds between two measurements, as in RabbitMQ.
const LEAST_MS: u64 = 100;
const MOST_MS: u64 = 10_000;
/// The same below the limit: measuring is cheap, and publishers wait.
const LOW_MS: u64 = 500;
/// Bytes that a fast disk takes in a millisecond, as RabbitMQ assumes.
const FAST: u64 = 250_000;

/// Bytes that this process may still use on the file system of that folder.
///
/// # Errors
///
/// The system's.
pub fn free(folder: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(folder)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Whether the disk has space, shared by all threads.
#[derive(Debug)]
pub struct FreeSpace {
    folder: PathBuf,
    /// Bytes that have to stay free.
    limit: u64,
    low: AtomicBool,
    /// Less than the limit is free.
    below_limit: AtomicBool,
    /// Shards with operations that lack a resource, whatever is free.
    lacking: AtomicUsize,
    /// Woken to measure at once.
    wakeup: Wakeup,
    stop: AtomicBool,
    /// Woken when [`Self::is_low`] changes.
    listener: Arc<Wakeup>,
}

/// The thread that measures.
#[derive(Debug)]
pub struct SpaceWatch {
    space: Arc<FreeSpace>,
    thread: JoinHandle<()>,
}

impl FreeSpace {
    /// Measures once and starts the thread for further measurements.
    ///
    /// # Errors
    ///
    /// The system's: no thread, no descriptor, or the free space cannot be read.
    pub fn start(folder: &Path, limit: u64, listener: Arc<Wakeup>) -> io::Result<SpaceWatch> {
        let space = Arc::new(Self {
            folder: folder.to_owned(),
            limit,
            low: AtomicBool::new(false),
            below_limit: AtomicBool::new(false),
            lacking: AtomicUsize::new(0),
            wakeup: Wakeup::new()?,
            stop: AtomicBool::new(false),
            listener,
        });
        let first = free(folder)?;
        space.looked(first);
        let watch = Arc::clone(&space);
        let run = move || watch.run(first);
        let thread = thread::Builder::new().name("ringtail-space".to_owned()).spawn(run)?;
        Ok(SpaceWatch { space, thread })
    }

    /// True if publishers have to wait.
    #[must_use]
    pub fn is_low(&self) -> bool {
        self.low.load(Ordering::Acquire)
    }

    /// Operations of a shard lack space, descriptors or memory; the first error. `None`: all of
    /// them have succeeded.
    pub fn shard_lacks(&self, why: Option<String>) {
        match why {
            Some(why) => {
                self.lacking.fetch_add(1, Ordering::AcqRel);
                tracing::warn!("{why}; it is tried again until it succeeds, publishers wait");
            }
            None => {
                self.lacking.fetch_sub(1, Ordering::AcqRel);
                tracing::info!("the disk operations that failed have succeeded");
            }
        }
        self.wakeup.wake_always();
    }

    fn run(&self, first: u64) {
        let mut free = first;
        while !self.stop.load(Ordering::Acquire) {
            let pause = Duration::from_millis(pause_ms(self.is_low(), free, self.limit));
            match sys::wait_any(&[self.wakeup.as_fd()], Some(pause), [false]) {
                Ok([true]) => drop(self.wakeup.wait()),
                Ok(_) => {}
                Err(error) => return tracing::error!("cannot watch the free disk space: {error}"),
            }
            match self::free(&self.folder) {
                Ok(found) => free = found,
                // The last measurement stays valid.
                Err(error) => tracing::warn!("cannot find out the free disk space: {error}"),
            }
            self.looked(free);
        }
    }

    fn looked(&self, free: u64) {
        let below = free < self.limit;
        if self.below_limit.swap(below, Ordering::AcqRel) != below {
            let state = if below { "insufficient" } else { "sufficient" };
            let limit = self.limit;
            tracing::info!("Free disk space is {state}. Free bytes: {free}. Limit: {limit}");
        }
        let low = below || self.lacking.load(Ordering::Acquire) > 0;
        if self.low.swap(low, Ordering::AcqRel) != low {
            self.listener.wake_always();
        }
    }
}

impl SpaceWatch {
    /// The shared state.
    #[must_use]
    pub fn space(&self) -> &Arc<FreeSpace> {
        &self.space
    }

    /// Ends the thread.
    pub fn stop(self) {
        self.space.stop.store(true, Ordering::Release);
        self.space.wakeup.wake_always();
        if self.thread.join().is_err() {
            tracing::error!("the thread that watches the free disk space died");
        }
    }
}

/// Milliseconds until the next measurement: half the time in which a fast disk reaches the limit.
fn pause_ms(low: bool, free: u64, limit: u64) -> u64 {
    if low {
        return LOW_MS;
    }
    (free.saturating_sub(limit) / (2 * FAST)).clamp(LEAST_MS, MOST_MS)
}

#[cfg(test)]
mod tests {
    use crate::runtime::disk::free_space::*;

    #[test]
    fn the_nearer_to_the_limit_the_sooner_the_next_look() {
        assert_eq!(pause_ms(false, 0, 0), LEAST_MS);
        assert_eq!(pause_ms(false, 1_000_000_000, 0), 2000);
        assert_eq!(pause_ms(false, u64::MAX, 5), MOST_MS);
        assert_eq!(pause_ms(true, 1, 2), LOW_MS);
    }

    #[test]
    fn too_little_is_seen_at_the_first_look() {
        let folder = tempfile::tempdir().unwrap();
        for (limit, low) in [(u64::MAX, true), (0, false)] {
            let listener = Arc::new(Wakeup::new().unwrap());
            let watching = FreeSpace::start(folder.path(), limit, listener).unwrap();
            assert_eq!(watching.space().is_low(), low);
            watching.stop();
        }
    }

    #[test]
    fn a_shard_whose_operations_fail_is_heard_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let listener = Arc::new(Wakeup::new().unwrap());
        let watching = FreeSpace::start(folder.path(), 0, Arc::clone(&listener)).unwrap();
        for full in [true, false] {
            watching.space().shard_lacks(full.then(|| "cannot write".to_owned()));
            listener.wait().unwrap();
            assert_eq!(watching.space().is_low(), full);
        }
        watching.stop();
    }
}
