//! Preallocated segments of logs.
//!
//! A sync after an append to a growing file also flushes file-system metadata. A sync of
//! overwritten bytes does not, and takes about half as long. So a thread fills segments with zeros
//! in advance, and zeros may follow the batches in a log's file. Reusing a deleted segment would be
//! as fast, but recovery could not tell its old bytes from a damaged batch.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::runtime::disk::access;
use crate::runtime::disk::files::{SPARE, StoreFolder};
use crate::runtime::disk::free_space;

/// Bytes of zeros written at once.
const ZEROS: usize = 256 * 1024;
/// A segment is only preallocated if so many times its bytes are free.
const FREE: u64 = 8;

/// The preallocated segments, shared by the threads that write logs.
#[derive(Debug)]
pub struct PreallocatedSegments {
    folder: PathBuf,
    bytes: u64,
    most: usize,
    state: Mutex<Prepared>,
    wanted: SyncSender<()>,
}

#[derive(Debug)]
struct Prepared {
    ready: Vec<PathBuf>,
    next: u64,
}

impl PreallocatedSegments {
    /// Takes over the segments in the data folder, and starts a thread that fills more as long as
    /// this lives. At most `most` are kept, each of `bytes`.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn start(data_dir: &Path, bytes: u64, most: usize) -> io::Result<Arc<Self>> {
        let folder = data_dir.join(StoreFolder::Log.folder());
        let (wanted, orders) = sync_channel(1);
        let state = Prepared { ready: Vec::new(), next: 0 };
        let spares = Arc::new(Self { folder, bytes, most, state: Mutex::new(state), wanted });
        spares.find()?;
        let weak = Arc::downgrade(&spares);
        let fill = move || {
            fill_when_asked(&orders, || {
                let Some(spares) = weak.upgrade() else { return };
                if let Err(error) = spares.fill() {
                    tracing::info!("cannot preallocate a segment of the log: {error}");
                }
            });
        };
        thread::Builder::new().name("ringtail-spare".to_owned()).spawn(fill)?;
        Ok(spares)
    }

    /// Takes over segments of an earlier start. Those of another size are removed.
    fn find(&self) -> io::Result<()> {
        let mut state = self.state();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(number) = name.to_str().and_then(|name| name.strip_prefix(SPARE)) else {
                continue;
            };
            state.next = state.next.max(number.parse().unwrap_or(0));
            if entry.metadata()?.len() == self.bytes && state.ready.len() < self.most {
                state.ready.push(entry.path());
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Renames a preallocated segment to `path`, if there is one. The caller has to sync the folder
    /// before it writes to the file: else a power loss could restore the old name with new bytes.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn take(&self, path: &Path) -> io::Result<bool> {
        let spare = self.state().ready.pop();
        let taken = match spare {
            Some(spare) => fs::rename(spare, path).map(|()| true),
            None => Ok(false),
        };
        self.order();
        taken
    }

    /// Orders a segment unless one is ready.
    pub fn order(&self) {
        if self.state().ready.is_empty() {
            match self.wanted.try_send(()) {
                // One order is enough. Without the thread, logs grow as they are written.
                Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
            }
        }
    }

    fn name(&self) -> PathBuf {
        let mut state = self.state();
        state.next += 1;
        self.folder.join(format!("{SPARE}{}", state.next))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Prepared> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill(&self) -> io::Result<()> {
        if free_space::free(&self.folder)? < self.bytes.saturating_mul(FREE) {
            return Ok(());
        }
        let path = self.name();
        let filled = write_zeros(&path, self.bytes);
        if filled.is_err() {
            // Removed so that it takes no space. The error of the write is reported.
            drop(fs::remove_file(&path));
        }
        filled?;
        self.state().ready.push(path);
        Ok(())
    }
}

fn fill_when_asked(orders: &Receiver<()>, mut fill: impl FnMut()) {
    while orders.recv().is_ok() {
        fill();
    }
}

fn write_zeros(path: &Path, bytes: u64) -> io::Result<()> {
    use std::io::Write;
    let mut file = access::replace(path)?;
    let zeros = [0; ZEROS];
    let mut left = bytes;
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS);
        file.write_all(&zeros[..part])?;
        left -= part as u64;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use crate::runtime::disk::preallocate::*;

    const BYTES: u64 = 300_000;

    fn start(folder: &Path) -> Arc<PreallocatedSegments> {
        PreallocatedSegments::start(folder, BYTES, 2).unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder.join("log")).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_spare_of_zeros_becomes_another_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("log")).unwrap();
        let spares = start(folder.path());
        let path = folder.path().join("log/a");
        spares.fill().unwrap();
        assert!(spares.take(&path).unwrap());
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.len() as u64 == BYTES && bytes.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn one_is_filled_beside_the_work_while_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("log")).unwrap();
        let spares = start(folder.path());
        assert!(!spares.take(&folder.path().join("log/a")).unwrap());
        while spares.state().ready.is_empty() {
            thread::yield_now();
        }
        assert!(spares.take(&folder.path().join("log/a")).unwrap());
    }

    #[test]
    fn those_of_another_start_are_found_up_to_a_number() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        fs::create_dir(&log).unwrap();
        for name in ["spare-7", "spare-8", "spare-9", "other"] {
            write_zeros(&log.join(name), BYTES).unwrap();
        }
        write_zeros(&log.join("spare-1"), 5).unwrap();
        let spares = start(folder.path());
        assert_eq!(names(folder.path()).len(), 3);
        assert!(spares.take(&log.join("new")).unwrap());
        spares.fill().unwrap();
        let names = names(folder.path());
        assert!(names.contains(&"spare-10".to_owned()), "{names:?}");
    }
}
