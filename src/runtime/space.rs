//! How much is free where the data folder is, looked at now and then; the nearer to the limit, the
//! more often.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::bell::Bell;
use super::sys;

/// Milliseconds between two looks, at least and at most, as in RabbitMQ.
const LEAST_MS: u64 = 100;
const MOST_MS: u64 = 10_000;
/// While there is too little, a look is taken so often: it costs nothing, and publishers wait.
const LOW_MS: u64 = 500;
/// Octets that a fast disk is filled with in a millisecond, as RabbitMQ assumes.
const FAST: u64 = 250_000;

/// Octets that this process may still use on the file system of that folder.
///
/// # Errors
///
/// The system's.
pub fn free(folder: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(folder)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Whether there is room, for all threads.
#[derive(Debug)]
pub struct Space {
    folder: PathBuf,
    /// Octets that are to stay free.
    limit: u64,
    low: AtomicBool,
    /// Shards of which a write found no room, whatever the system says is free.
    full: AtomicUsize,
    /// Rung to have a look taken at once.
    bell: Bell,
    stop: AtomicBool,
    /// Rung when [`Self::is_low`] says something else.
    listener: Arc<Bell>,
}

/// The thread that looks.
#[derive(Debug)]
pub struct Watching {
    space: Arc<Space>,
    thread: JoinHandle<()>,
}

impl Space {
    /// Takes a first look, and starts the thread that takes the others.
    ///
    /// # Errors
    ///
    /// The system's: no threads, no descriptors, or it does not tell what is free.
    pub fn start(folder: &Path, limit: u64, listener: Arc<Bell>) -> io::Result<Watching> {
        let space = Arc::new(Self {
            folder: folder.to_owned(),
            limit,
            low: AtomicBool::new(false),
            full: AtomicUsize::new(0),
            bell: Bell::new()?,
            stop: AtomicBool::new(false),
            listener,
        });
        let first = free(folder)?;
        space.looked(first);
        let watch = Arc::clone(&space);
        let run = move || watch.run(first);
        let thread = thread::Builder::new().name("ringtail-space".to_owned()).spawn(run)?;
        Ok(Watching { space, thread })
    }

    /// Whether publishers have to wait.
    #[must_use]
    pub fn is_low(&self) -> bool {
        self.low.load(Ordering::Acquire)
    }

    /// A shard found no room (`true`), or again some.
    pub fn shard_is_full(&self, full: bool) {
        if full {
            self.full.fetch_add(1, Ordering::AcqRel);
        } else {
            self.full.fetch_sub(1, Ordering::AcqRel);
        }
        self.bell.ring_always();
    }

    fn run(&self, first: u64) {
        let mut free = first;
        while !self.stop.load(Ordering::Acquire) {
            let pause = Duration::from_millis(pause_ms(self.is_low(), free, self.limit));
            match sys::wait_any(&[self.bell.as_fd()], Some(pause), [false]) {
                Ok([true]) => drop(self.bell.take()),
                Ok(_) => {}
                Err(error) => return tracing::error!("cannot watch the free disk space: {error}"),
            }
            match self::free(&self.folder) {
                Ok(found) => free = found,
                // What was known last stands.
                Err(error) => tracing::warn!("cannot find out the free disk space: {error}"),
            }
            self.looked(free);
        }
    }

    fn looked(&self, free: u64) {
        let low = free < self.limit || self.full.load(Ordering::Acquire) > 0;
        if self.low.swap(low, Ordering::AcqRel) == low {
            return;
        }
        let state = if low { "insufficient" } else { "sufficient" };
        let limit = self.limit;
        tracing::info!("Free disk space is {state}. Free bytes: {free}. Limit: {limit}");
        self.listener.ring_always();
    }
}

impl Watching {
    /// What is watched.
    #[must_use]
    pub fn space(&self) -> &Arc<Space> {
        &self.space
    }

    /// Ends the thread.
    pub fn stop(self) {
        self.space.stop.store(true, Ordering::Release);
        self.space.bell.ring_always();
        if self.thread.join().is_err() {
            tracing::error!("the thread that watches the free disk space died");
        }
    }
}

/// How long until the next look: half the time in which a fast disk could be filled up to the
/// limit.
fn pause_ms(low: bool, free: u64, limit: u64) -> u64 {
    if low {
        return LOW_MS;
    }
    (free.saturating_sub(limit) / (2 * FAST)).clamp(LEAST_MS, MOST_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let listener = Arc::new(Bell::new().unwrap());
            let watching = Space::start(folder.path(), limit, listener).unwrap();
            assert_eq!(watching.space().is_low(), low);
            watching.stop();
        }
    }

    #[test]
    fn a_shard_without_room_is_heard_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let listener = Arc::new(Bell::new().unwrap());
        let watching = Space::start(folder.path(), 0, Arc::clone(&listener)).unwrap();
        for full in [true, false] {
            watching.space().shard_is_full(full);
            listener.take().unwrap();
            assert_eq!(watching.space().is_low(), full);
        }
        watching.stop();
    }
}
