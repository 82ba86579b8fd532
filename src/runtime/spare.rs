//! Segments of logs that are written already.
//!
//! A sync after an append to a file that grows has the file system write its own books too. One
//! over octets that were written before does not, and takes about half as long. So a segment is
//! filled with zeros beside the work, and behind the batches of a log's file there may be zeros.
//! The octets of a deleted segment would do as well for the disk, but recovery could not tell them
//! from a damaged batch.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::files::{Place, SPARE};
use super::space;

/// Octets of zeros written at once.
const ZEROS: usize = 256 * 1024;
/// No spare is filled where less than so many times its octets is free.
const FREE: u64 = 8;

/// The spares, shared by the threads that write logs.
#[derive(Debug)]
pub struct Spares {
    folder: PathBuf,
    octets: u64,
    most: usize,
    state: Mutex<State>,
    wanted: SyncSender<()>,
}

#[derive(Debug)]
struct State {
    ready: Vec<PathBuf>,
    next: u64,
}

impl Spares {
    /// Those in the data folder, and a thread that makes more until nobody has this any more;
    /// `most` are kept, each of `octets`.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn start(data_dir: &Path, octets: u64, most: usize) -> io::Result<Arc<Self>> {
        let folder = data_dir.join(Place::Log.folder());
        let (wanted, orders) = sync_channel(1);
        let state = State { ready: Vec::new(), next: 0 };
        let spares = Arc::new(Self { folder, octets, most, state: Mutex::new(state), wanted });
        spares.find()?;
        let weak = Arc::downgrade(&spares);
        let fill = move || {
            fill_when_asked(&orders, || {
                let Some(spares) = weak.upgrade() else { return };
                if let Err(error) = spares.fill() {
                    tracing::info!("no segment of the log can be prepared: {error}");
                }
            });
        };
        thread::Builder::new().name("ringtail-spare".to_owned()).spawn(fill)?;
        Ok(spares)
    }

    /// Takes over what another start left; of another size it is removed.
    fn find(&self) -> io::Result<()> {
        let mut state = self.state();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(number) = name.to_str().and_then(|name| name.strip_prefix(SPARE)) else {
                continue;
            };
            state.next = state.next.max(number.parse().unwrap_or(0));
            if entry.metadata()?.len() == self.octets && state.ready.len() < self.most {
                state.ready.push(entry.path());
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Gives a spare that file's name, if there is one. Its folder is to be synced before it is
    /// written to: else a power loss could bring the old name back, with octets of the new file.
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

    /// Has a spare filled unless there is one.
    pub fn order(&self) {
        if self.state().ready.is_empty() {
            match self.wanted.try_send(()) {
                // One order is enough. Without the thread there are only those that come back.
                Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
            }
        }
    }

    fn name(&self) -> PathBuf {
        let mut state = self.state();
        state.next += 1;
        self.folder.join(format!("{SPARE}{}", state.next))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill(&self) -> io::Result<()> {
        if space::free(&self.folder)? < self.octets.saturating_mul(FREE) {
            return Ok(());
        }
        let path = self.name();
        let filled = write_zeros(&path, self.octets);
        if filled.is_err() {
            // What could not be filled takes no room; the reason given is the first one.
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

fn write_zeros(path: &Path, octets: u64) -> io::Result<()> {
    use std::io::Write;
    let mut file = File::create(path)?;
    let zeros = [0; ZEROS];
    let mut left = octets;
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS);
        file.write_all(&zeros[..part])?;
        left -= part as u64;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OCTETS: u64 = 300_000;

    fn start(folder: &Path) -> Arc<Spares> {
        Spares::start(folder, OCTETS, 2).unwrap()
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
        let octets = fs::read(&path).unwrap();
        assert!(octets.len() as u64 == OCTETS && octets.iter().all(|octet| *octet == 0));
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
            write_zeros(&log.join(name), OCTETS).unwrap();
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
