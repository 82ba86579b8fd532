//! Carries out the operations of a disk thread: adjacent ones of a file together, those of each
//! file in order. Deletions come last, since they are less urgent than reads.
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

use crate::config::{DiskAction, DiskWorker};
use crate::runtime::disk::faults::Faults;
use crate::runtime::disk::files::{self, StoreFolder};
use crate::runtime::disk::open_files::{OpenFile, OpenFiles};
use crate::runtime::disk::page_cache::PageCache;
use crate::runtime::disk::preallocate::PreallocatedSegments;
use crate::store::{DiskError, Done, FileName, Op, Work};

/// Slices in one write. Linux allows 1,024.
const SLICES: usize = 256;

/// Carries operations out, one after the other.
#[derive(Debug)]
pub struct Worker {
    worker: DiskWorker,
    data_dir: PathBuf,
    files: OpenFiles,
    cached: PageCache,
    /// Only for logs.
    preallocated: Option<Arc<PreallocatedSegments>>,
    faults: Arc<Faults>,
    writes: Writes,
    deletes: Deletes,
    /// Files were created whose names are not on stable storage: the next sync covers them too.
    unnamed: bool,
    /// The data folder. It stays open, so that a sync of the file system reports all writes that
    /// failed meanwhile.
    root: File,
    /// The folder of this worker's files. It stays open, so that its sync needs no descriptor.
    folder: File,
    folder_path: PathBuf,
}

/// Writes and syncs of one file that are carried out as one. Kept for its memory.
#[derive(Debug, Default)]
struct Writes {
    file: Option<FileName>,
    ids: Vec<u64>,
    at: u64,
    len: u64,
    pieces: Vec<Bytes>,
    /// Set if the file is to be created: whether the folder is to be synced.
    create: Option<bool>,
    sync: bool,
}

/// Deletions that need one sync of the folder.
#[derive(Debug, Default)]
struct Deletes {
    files: Vec<(u64, FileName)>,
    sync: bool,
}

impl Worker {
    /// A worker with no open files yet, and at most `most` later.
    ///
    /// # Errors
    ///
    /// The system's: the folders cannot be opened.
    pub fn new(
        worker: DiskWorker,
        data_dir: &Path,
        most: usize,
        preallocated: Option<Arc<PreallocatedSegments>>,
        faults: Arc<Faults>,
    ) -> io::Result<Self> {
        let place = if worker == DiskWorker::Log { StoreFolder::Log } else { StoreFolder::Queues };
        let folder_path = data_dir.join(place.folder());
        Ok(Self {
            worker,
            data_dir: data_dir.to_owned(),
            files: OpenFiles::new(data_dir, most, worker, Arc::clone(&faults)),
            cached: PageCache::default(),
            preallocated,
            faults,
            writes: Writes::default(),
            deletes: Deletes::default(),
            unnamed: false,
            root: File::open(data_dir)?,
            folder: File::open(&folder_path)?,
            folder_path,
        })
    }

    /// Carries out all of `ops` and calls `answer` with each result, those of a file in order.
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

    fn write(&mut self, name: FileName, writes: &Writes) -> Result<(), DiskError> {
        if let Some(sync) = writes.create {
            self.create(name, sync)?;
        }
        let (worker, faults) = (self.worker, Arc::clone(&self.faults));
        let open = self.files.get(name, false)?;
        let written =
            write_all(open, &writes.pieces, writes.at, || faults.inject(worker, DiskAction::Write));
        written.map_err(|error| files::failure("write", &open.path, &error))?;
        if writes.sync {
            if std::mem::take(&mut self.unnamed)
                && let Err(failure) = self.sync_folder()
            {
                self.files.break_off(name, failure.clone());
                return Err(failure);
            }
            let open = self.files.get(name, false)?;
            let synced =
                faults.inject(worker, DiskAction::Sync).and_then(|_| open.file.sync_data());
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

    fn create(&mut self, name: FileName, sync: bool) -> Result<(), DiskError> {
        let path = self.files.path(name);
        let taken = match &self.preallocated {
            Some(preallocated) if !path.exists() => preallocated.take(&path),
            _ => Ok(false),
        };
        let taken = taken.map_err(|error| files::failure("create", &path, &error))?;
        self.files.get(name, true)?;
        // See `PreallocatedSegments::take`.
        if taken || sync {
            return self.sync_folder();
        }
        self.unnamed = true;
        Ok(())
    }

    fn sync_folder(&self) -> Result<(), DiskError> {
        let injected = self.faults.inject(self.worker, DiskAction::Sync);
        let synced = injected.and_then(|_| self.folder.sync_all());
        synced.map_err(|error| files::sync_failure(&self.folder_path, &error))
    }

    fn sync_all(&mut self) -> Result<Bytes, DiskError> {
        let injected = self.faults.inject(self.worker, DiskAction::Sync);
        injected.map_err(|error| files::sync_failure(&self.data_dir, &error))?;
        files::sync_all(&self.data_dir, &self.root)?;
        self.unnamed = false;
        Ok(Bytes::new())
    }

    fn read(&mut self, name: FileName, at: u64, len: usize) -> Result<Bytes, DiskError> {
        let injected = self.faults.inject(self.worker, DiskAction::Read);
        let open = self.files.get(name, false)?;
        let mut bytes = BytesMut::zeroed(len);
        let read = injected.and_then(|short| read_all(&open.file, &mut bytes, at, short));
        read.map_err(|error| files::failure("read", &open.path, &error))?;
        Ok(bytes.freeze())
    }

    fn finish_deletes(&mut self, answer: &mut impl FnMut(Done)) {
        if self.deletes.files.is_empty() {
            return;
        }
        let Deletes { mut files, sync } = std::mem::take(&mut self.deletes);
        let removed: Vec<_> = files.iter().map(|(_, file)| self.remove(*file)).collect();
        let synced = if sync { self.sync_folder() } else { Ok(()) };
        for ((id, _), removed) in files.drain(..).zip(removed) {
            let result = removed.and(synced.clone()).map(|()| Bytes::new());
            answer(Done { id, result });
        }
        self.deletes.files = files;
    }

    fn remove(&mut self, name: FileName) -> Result<(), DiskError> {
        self.files.forget(name);
        self.cached.removed(name);
        files::remove(&self.files.path(name))
    }
}

impl Writes {
    /// True if the operation can be joined with those collected so far.
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

/// Fills `bytes`. With `short`, the first read covers half of them.
fn read_all(file: &File, bytes: &mut [u8], at: u64, short: bool) -> io::Result<()> {
    let end = at + bytes.len() as u64;
    let half = if short { bytes.len() / 2 } else { 0 };
    let (first, rest) = bytes.split_at_mut(half);
    let read = file.read_exact_at(first, at).and_then(|()| {
        let behind = at + half as u64;
        file.read_exact_at(rest, behind)
    });
    read.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::other(format!("it ends before byte {end}")),
        _ => error,
    })
}

/// Writes all pieces, with as many writes as it takes. `inject` is called before each.
fn write_all(
    open: &OpenFile,
    pieces: &[Bytes],
    mut at: u64,
    inject: impl Fn() -> io::Result<bool>,
) -> io::Result<()> {
    // The first piece that is not fully written, and how many of its bytes are.
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
        if inject()? {
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

fn write_some(open: &OpenFile, slices: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
    let wrote = rustix::io::retry_on_intr(|| rustix::io::pwritev(&open.file, slices, at))?;
    if wrote == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(wrote) }
}

#[cfg(test)]
#[path = "worker_test.rs"]
mod tests;
