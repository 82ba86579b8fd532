//! What a disk thread does with operations: those that belong together at once, each file's in
//! order. Deletions come last: nobody is in such a hurry for them as for a read.
//!
//! ```text
//!  write a 0..9 · write a 9..20 sync · delete c · read b · delete d sync
//!  └──── one pwritev, one fdatasync ─┘     │        └┘       │
//!                                           └─────────────────┴ two unlinks, one fsync
//! ```

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::cached::Cached;
use super::faults::Faults;
use super::files::{self, Place};
use super::open_files::{Open, OpenFiles};
use super::spare::Spares;
use crate::config::{DiskDeed, DiskLane};
use crate::store::{Done, Failure, FileName, Op, Work};

/// Slices in one write; Linux takes 1,024.
const SLICES: usize = 256;

/// Carries operations out, one after the other.
#[derive(Debug)]
pub struct Lane {
    lane: DiskLane,
    data_dir: PathBuf,
    files: OpenFiles,
    cached: Cached,
    /// Only for logs.
    spares: Option<Arc<Spares>>,
    faults: Arc<Faults>,
    writes: Writes,
    deletes: Deletes,
    /// Files were made whose names are not on stable storage: the next sync sees to that too.
    unnamed: bool,
    /// The data folder, open all the time: only so a sync of the whole file system tells of all
    /// writes that failed meanwhile.
    root: Option<File>,
}

/// Writes and syncs of one file that become one; kept for its memory.
#[derive(Debug, Default)]
struct Writes {
    file: Option<FileName>,
    ids: Vec<u64>,
    at: u64,
    len: u64,
    pieces: Vec<Bytes>,
    /// The folder is to be synced, if the file is to be made.
    create: Option<bool>,
    sync: bool,
}

/// Deletions that need one sync of the folder.
#[derive(Debug, Default)]
struct Deletes {
    files: Vec<(u64, FileName)>,
    sync: bool,
}

impl Lane {
    /// Nothing is open yet; at most `most` files ever are.
    #[must_use]
    pub fn new(
        lane: DiskLane,
        data_dir: &Path,
        most: usize,
        spares: Option<Arc<Spares>>,
        faults: Arc<Faults>,
    ) -> Self {
        Self {
            lane,
            data_dir: data_dir.to_owned(),
            files: OpenFiles::new(data_dir, most),
            cached: Cached::default(),
            spares,
            faults,
            writes: Writes::default(),
            deletes: Deletes::default(),
            unnamed: false,
            root: files::root(data_dir).ok(),
        }
    }

    /// Carries them out and answers each, those of a file in order; `ops` is empty then.
    pub fn run(&mut self, ops: &mut Vec<Op>, mut answer: impl FnMut(Done)) {
        for Op { id, file, work } in ops.drain(..) {
            if !self.writes.takes(file, &work) {
                self.finish_writes(&mut answer);
            }
            if self.deletes.files.iter().any(|(_, deleted)| *deleted == file) {
                self.finish_deletes(&mut answer);
            }
            match work {
                Work::Write { at, pieces, create, sync } => {
                    self.writes.write(id, file, at, pieces);
                    if create {
                        self.writes.create = Some(sync);
                    }
                    self.writes.sync |= sync;
                }
                Work::Sync => {
                    self.writes.file = Some(file);
                    self.writes.ids.push(id);
                    self.writes.sync = true;
                }
                Work::SyncAll => answer(Done { id, result: self.sync_all() }),
                Work::Read { at, len } => answer(Done { id, result: self.read(file, at, len) }),
                Work::Delete { sync } => {
                    self.deletes.files.push((id, file));
                    self.deletes.sync |= sync;
                }
            }
        }
        self.finish_writes(&mut answer);
        self.finish_deletes(&mut answer);
    }

    fn finish_writes(&mut self, answer: &mut impl FnMut(Done)) {
        let Some(file) = self.writes.file.take() else { return };
        let mut writes = std::mem::take(&mut self.writes);
        let result = self.write(file, &writes);
        for id in writes.ids.drain(..) {
            answer(Done { id, result: result.clone().map(|()| Bytes::new()) });
        }
        writes.pieces.clear();
        let Writes { ids, pieces, .. } = writes;
        self.writes = Writes { ids, pieces, ..Writes::default() };
    }

    fn write(&mut self, name: FileName, writes: &Writes) -> Result<(), Failure> {
        if let Some(sync) = writes.create {
            self.create(name, sync)?;
        }
        let (lane, faults) = (self.lane, Arc::clone(&self.faults));
        let open = self.files.get(name, false)?;
        let written =
            write_all(open, &writes.pieces, writes.at, || faults.befall(lane, DiskDeed::Write));
        written.map_err(|error| files::failure("write", &open.path, &error))?;
        if writes.sync {
            if std::mem::take(&mut self.unnamed)
                && let Err(failure) = self.sync_folder(name)
            {
                self.files.break_off(name, failure.clone());
                return Err(failure);
            }
            let open = self.files.get(name, false)?;
            let synced = faults.befall(lane, DiskDeed::Sync).and_then(|_| open.file.sync_data());
            if let Err(error) = synced {
                let failure = files::sync_failure(&open.path, &error);
                self.files.break_off(name, failure.clone());
                return Err(failure);
            }
            if let Err(error) = self.cached.synced(name, &open.file) {
                tracing::debug!("{} stays in the page cache: {error}", open.path.display());
            }
        }
        Ok(())
    }

    fn create(&mut self, name: FileName, sync: bool) -> Result<(), Failure> {
        let path = self.files.path(name);
        let taken = match &self.spares {
            Some(spares) if !path.exists() => spares.take(&path),
            _ => Ok(false),
        };
        let taken = taken.map_err(|error| files::failure("create", &path, &error))?;
        self.files.get(name, true)?;
        // A spare is synced in any case, see there.
        if taken || sync {
            return self.sync_folder(name);
        }
        self.unnamed = true;
        Ok(())
    }

    fn sync_folder(&self, name: FileName) -> Result<(), Failure> {
        let folder = self.data_dir.join(Place::of(name).folder());
        let befallen = self.faults.befall(self.lane, DiskDeed::Sync);
        befallen.map_err(|error| files::sync_failure(&folder, &error))?;
        files::sync_folder(&folder)
    }

    fn sync_all(&mut self) -> Result<Bytes, Failure> {
        let befallen = self.faults.befall(self.lane, DiskDeed::Sync);
        befallen.map_err(|error| files::sync_failure(&self.data_dir, &error))?;
        let root = match &self.root {
            Some(root) => root,
            None => self.root.insert(files::root(&self.data_dir)?),
        };
        files::sync_all(&self.data_dir, root)?;
        self.unnamed = false;
        Ok(Bytes::new())
    }

    fn read(&mut self, name: FileName, at: u64, len: usize) -> Result<Bytes, Failure> {
        let befallen = self.faults.befall(self.lane, DiskDeed::Read);
        let open = self.files.get(name, false)?;
        let mut octets = BytesMut::zeroed(len);
        let read = befallen.and_then(|short| read_all(&open.file, &mut octets, at, short));
        read.map_err(|error| files::failure("read", &open.path, &error))?;
        Ok(octets.freeze())
    }

    fn finish_deletes(&mut self, answer: &mut impl FnMut(Done)) {
        let Some((_, first)) = self.deletes.files.first().copied() else { return };
        let Deletes { mut files, sync } = std::mem::take(&mut self.deletes);
        let removed: Vec<_> = files.iter().map(|(_, file)| self.remove(*file)).collect();
        let synced = if sync { self.sync_folder(first) } else { Ok(()) };
        for ((id, _), removed) in files.drain(..).zip(removed) {
            let result = removed.and(synced.clone()).map(|()| Bytes::new());
            answer(Done { id, result });
        }
        self.deletes.files = files;
    }

    fn remove(&mut self, name: FileName) -> Result<(), Failure> {
        self.files.forget(name);
        self.cached.removed(name);
        files::remove(&self.files.path(name))
    }
}

impl Writes {
    /// Whether that can be done together with what is here already.
    fn takes(&self, file: FileName, work: &Work) -> bool {
        let joins = match work {
            Work::Write { at, create, .. } => !create && self.joins_at(*at),
            Work::Sync => true,
            Work::SyncAll | Work::Read { .. } | Work::Delete { .. } => false,
        };
        self.file.is_none() || (self.file == Some(file) && joins)
    }

    fn joins_at(&self, at: u64) -> bool {
        self.len == 0 || self.at + self.len == at
    }

    fn write(&mut self, id: u64, file: FileName, at: u64, pieces: Vec<Bytes>) {
        if self.len == 0 {
            self.at = at;
        }
        self.file = Some(file);
        self.ids.push(id);
        self.len += pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        self.pieces.extend(pieces);
    }
}

/// Reads all, at first only half of it if it is to be `short`.
fn read_all(file: &File, octets: &mut [u8], at: u64, short: bool) -> io::Result<()> {
    let end = at + octets.len() as u64;
    let half = if short { octets.len() / 2 } else { 0 };
    let (first, rest) = octets.split_at_mut(half);
    let read = file.read_exact_at(first, at).and_then(|()| {
        let behind = at + half as u64;
        file.read_exact_at(rest, behind)
    });
    read.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::other(format!("it ends before octet {end}")),
        _ => error,
    })
}

/// Writes all, however often the system stops short. `befall` is asked before each write.
fn write_all(
    open: &Open,
    pieces: &[Bytes],
    mut at: u64,
    befall: impl Fn() -> io::Result<bool>,
) -> io::Result<()> {
    // The first piece that is not wholly written, and how much of it is.
    let (mut first, mut skip) = (0, 0);
    loop {
        while pieces.get(first).is_some_and(|piece| piece.len() == skip) {
            (first, skip) = (first + 1, 0);
        }
        if first == pieces.len() {
            return Ok(());
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(&pieces[first..]) {
            *slice = IoSlice::new(if count == 0 { &piece[skip..] } else { piece });
            count += 1;
        }
        if befall()? {
            let half = slices[0].len().div_ceil(2);
            slices[0] = IoSlice::new(&pieces[first][skip..skip + half]);
            count = 1;
        }
        let mut wrote = write_some(open, &slices[..count], at)?;
        at += wrote as u64;
        while wrote > 0 {
            let left = pieces[first].len() - skip;
            if wrote < left {
                skip += wrote;
                break;
            }
            wrote -= left;
            (first, skip) = (first + 1, 0);
        }
    }
}

fn write_some(open: &Open, slices: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
    let wrote = rustix::io::retry_on_intr(|| rustix::io::pwritev(&open.file, slices, at))?;
    if wrote == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(wrote) }
}

#[cfg(test)]
#[path = "lane_test.rs"]
mod tests;
