//! A folder in memory. Its crashes lose unsynced changes at random.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fastrand::Rng;

use crate::store::meta::Folder;
use crate::store::op::{Cause, DiskError};

/// A file's bytes: current and synced.
#[derive(Debug, Clone, Default)]
struct MemoryFile {
    now: Vec<u8>,
    synced: Vec<u8>,
}

/// An unsynced change of a name.
#[derive(Debug, Clone)]
enum NameChange {
    Made(String, usize),
    Renamed(String, String, usize),
    Removed(String),
}

#[derive(Debug, Default)]
struct MemoryDisk {
    files: Vec<MemoryFile>,
    names: BTreeMap<String, usize>,
    synced: BTreeMap<String, usize>,
    steps: Vec<NameChange>,
    /// So many operations succeed, then all fail.
    left: Option<u64>,
    /// Bytes that still fit.
    room: Option<usize>,
    /// So many writes find no space.
    waits: u32,
    /// Syncs fail.
    broken: bool,
}

/// The folder; a clone is the same one.
#[derive(Debug, Clone, Default)]
pub struct MemoryFolder(Arc<Mutex<MemoryDisk>>);

impl NameChange {
    fn take(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Made(name, file) => {
                names.insert(name.clone(), *file);
            }
            Self::Renamed(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
            Self::Removed(name) => {
                names.remove(name);
            }
        }
    }
}

impl MemoryFile {
    /// Applies a crash: of unsynced bytes it leaves none, all, a part, or other bytes.
    fn crash(&mut self, random: &mut Rng) {
        let kept = self.synced.iter().zip(&self.now).take_while(|(old, new)| old == new).count();
        let fresh = self.now.len().saturating_sub(kept);
        match random.u8(0..5) {
            0 => self.now.clone_from(&self.synced),
            1 => {}
            2 => self.now.truncate(kept + random.usize(0..=fresh)),
            3 => self.now[kept + random.usize(0..=fresh)..].fill(0),
            _ => {
                for byte in &mut self.now[kept..] {
                    *byte = if random.u8(0..8) == 0 { random.u8(..) } else { *byte };
                }
            }
        }
        self.synced.clone_from(&self.now);
    }
}

impl MemoryFolder {
    fn disk(&self) -> MutexGuard<'_, MemoryDisk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets every operation wait until the result is dropped.
    pub fn hold(&self) -> impl Sized + '_ {
        self.disk()
    }

    /// All operations fail after so many.
    pub fn ends_after(&self, operations: u64) {
        self.disk().left = Some(operations);
    }

    /// So many bytes still fit; `None`: any number.
    pub fn has_room(&self, bytes: Option<usize>) {
        self.disk().room = bytes;
    }

    /// So many writes find no space.
    pub fn is_full_for(&self, writes: u32) {
        self.disk().waits = writes;
    }

    /// Every sync fails from now on.
    pub fn breaks(&self) {
        self.disk().broken = true;
    }

    /// All operations succeed again.
    pub fn heals(&self) {
        let disk = &mut *self.disk();
        (disk.left, disk.broken, disk.waits) = (None, false, 0);
    }

    /// Loses power and starts again.
    pub fn crash(&self, random: &mut Rng) {
        self.heals();
        let disk = &mut *self.disk();
        for step in std::mem::take(&mut disk.steps) {
            if random.bool() {
                step.take(&mut disk.synced);
            }
        }
        disk.names.clone_from(&disk.synced);
        disk.files.iter_mut().for_each(|file| file.crash(random));
    }

    /// Puts a file on stable storage.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let mut folder = self.clone();
        folder.write(name, 0, bytes).unwrap();
        folder.sync(name).unwrap();
        folder.sync_folder().unwrap();
    }

    fn operate<T>(
        &self,
        work: impl FnOnce(&mut MemoryDisk) -> Result<T, DiskError>,
    ) -> Result<T, DiskError> {
        let disk = &mut *self.disk();
        if let Some(left) = &mut disk.left {
            *left = left.checked_sub(1).ok_or_else(|| failure(false))?;
        }
        work(disk)
    }
}

impl MemoryDisk {
    fn at(&mut self, name: &str) -> Result<&mut MemoryFile, DiskError> {
        let file = self.names.get(name).copied().ok_or_else(|| failure(false))?;
        Ok(&mut self.files[file])
    }

    fn step(&mut self, step: NameChange) {
        step.take(&mut self.names);
        self.steps.push(step);
    }
}

fn failure(full: bool) -> DiskError {
    let cause = if full { Cause::NoSpace } else { Cause::Other };
    DiskError { doing: "go on".to_owned(), why: "the test says so".to_owned(), cause }
}

impl Folder for MemoryFolder {
    fn list(&mut self) -> Result<Vec<String>, DiskError> {
        self.operate(|disk| Ok(disk.names.keys().cloned().collect()))
    }

    fn read(&mut self, name: &str) -> Result<Vec<u8>, DiskError> {
        self.operate(|disk| Ok(disk.at(name)?.now.clone()))
    }

    fn write(&mut self, name: &str, at: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.operate(|disk| {
            if disk.waits > 0 {
                disk.waits -= 1;
                return Err(failure(true));
            }
            if !disk.names.contains_key(name) {
                disk.files.push(MemoryFile::default());
                let file = disk.files.len() - 1;
                disk.step(NameChange::Made(name.to_owned(), file));
            }
            let fitting = disk.room.map_or(bytes.len(), |room| room.min(bytes.len()));
            disk.room = disk.room.map(|room| room - fitting);
            let file = disk.at(name)?;
            let at = at as usize;
            file.now.resize(file.now.len().max(at + fitting), 0);
            file.now[at..at + fitting].copy_from_slice(&bytes[..fitting]);
            if fitting < bytes.len() { Err(failure(true)) } else { Ok(()) }
        })
    }

    fn cut(&mut self, name: &str, len: u64) -> Result<(), DiskError> {
        self.operate(|disk| {
            disk.at(name)?.now.truncate(len as usize);
            Ok(())
        })
    }

    fn sync(&mut self, name: &str) -> Result<(), DiskError> {
        self.operate(|disk| {
            if disk.broken {
                return Err(failure(false));
            }
            let file = disk.at(name)?;
            file.synced.clone_from(&file.now);
            Ok(())
        })
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.operate(|disk| {
            let file = disk.names.get(from).copied().ok_or_else(|| failure(false))?;
            disk.step(NameChange::Renamed(from.to_owned(), to.to_owned(), file));
            Ok(())
        })
    }

    fn remove(&mut self, name: &str) -> Result<(), DiskError> {
        self.operate(|disk| {
            disk.step(NameChange::Removed(name.to_owned()));
            Ok(())
        })
    }

    fn sync_folder(&mut self) -> Result<(), DiskError> {
        self.operate(|disk| {
            disk.synced.clone_from(&disk.names);
            disk.steps.clear();
            Ok(())
        })
    }

    fn path(&self, name: &str) -> String {
        format!("meta/{name}")
    }
}
