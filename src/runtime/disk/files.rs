//! The names of the store's files, and the operations of recovery on them.
//!
//! ```text
//!  <data dir>/log/<boot>-<shard>-<number>.log      segments of the shards' logs
//!            /log/spare-<number>                   preallocated segments
//!            /queues/<queue>-<number>.seg          segments of queues
//! ```
//!
//! Numbers are hexadecimal with leading zeros, so names sort as the numbers do.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;

use bytes::{Bytes, BytesMut};
use model::QueueId;
use rustix::fs::{Advice, fadvise};

use crate::runtime::disk::access;
use crate::runtime::sys;
use crate::store::{self, Cause, DiskError, FileName, Files};

/// The start of the names of preallocated segments.
pub const SPARE: &str = "spare-";

/// One of the two folders with the store's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreFolder {
    /// The shards' logs.
    Log,
    /// Spilled messages of queues.
    Queues,
}

impl StoreFolder {
    /// The folder of a file.
    #[must_use]
    pub fn of(file: FileName) -> Self {
        match file {
            FileName::Log { .. } => Self::Log,
            FileName::Queue { .. } => Self::Queues,
        }
    }

    /// The folder's name in the data folder.
    #[must_use]
    pub fn folder(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Queues => "queues",
        }
    }
}

/// The path of a file below the data folder.
#[must_use]
pub fn path(data_dir: &Path, file: FileName) -> PathBuf {
    data_dir.join(StoreFolder::of(file).folder()).join(name(file))
}

fn name(file: FileName) -> String {
    match file {
        FileName::Log { boot, shard, number } => format!("{boot:08x}-{shard:04x}-{number:08x}.log"),
        FileName::Queue { queue: QueueId(queue), number } => {
            format!("{queue:016x}-{number:08x}.seg")
        }
    }
}

/// The file of that name in that folder. `None`: it is not a file of the store.
fn parse(place: StoreFolder, text: &str) -> Option<FileName> {
    let file = match place {
        StoreFolder::Log => {
            let mut parts = text.strip_suffix(".log")?.split('-');
            FileName::Log {
                boot: u32::from_str_radix(parts.next()?, 16).ok()?,
                shard: u16::from_str_radix(parts.next()?, 16).ok()?,
                number: u32::from_str_radix(parts.next()?, 16).ok()?,
            }
        }
        StoreFolder::Queues => {
            let (queue, number) = text.strip_suffix(".seg")?.split_once('-')?;
            FileName::Queue {
                queue: QueueId(u64::from_str_radix(queue, 16).ok()?),
                number: u32::from_str_radix(number, 16).ok()?,
            }
        }
    };
    // Each name has one spelling: no signs, capitals or missing zeros.
    (name(file) == text).then_some(file)
}

/// An error with its path and the system's reason.
#[must_use]
pub fn failure(doing: &str, path: &Path, error: &io::Error) -> DiskError {
    let doing = format!("{doing} {}", path.display());
    DiskError { doing, why: error.to_string(), cause: cause(error) }
}

/// The cause of an error of an operation other than a sync.
#[must_use]
pub fn cause(error: &io::Error) -> Cause {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => Cause::NoSpace,
        Some(libc::EMFILE | libc::ENFILE) => Cause::NoDescriptor,
        Some(libc::ENOMEM) => Cause::NoMemory,
        Some(libc::ENOENT) => Cause::NotFound,
        _ => Cause::Other,
    }
}

/// The error of a sync, which is never tried again, whatever the reason.
#[must_use]
pub fn sync_failure(path: &Path, error: &io::Error) -> DiskError {
    DiskError { cause: Cause::Other, ..failure("sync", path, error) }
}

/// Puts the names in a folder on stable storage.
///
/// # Errors
///
/// The system's.
fn sync_folder(path: &Path) -> Result<(), DiskError> {
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(|error| sync_failure(path, &error))
}

/// Puts everything in the file system of this folder on stable storage, names included.
///
/// # Errors
///
/// The system's, also of writes since the folder was opened.
pub fn sync_all(path: &Path, folder: &File) -> Result<(), DiskError> {
    sys::sync_file_system(folder.as_fd()).map_err(|error| sync_failure(path, &error))
}

/// The extension of a file that is not whole yet.
const DRAFT: &str = "draft";
/// Up to so many files are synced one by one.
const SYNCED_ONE_BY_ONE: usize = 8;

/// The files of a data folder, whose folders exist.
#[derive(Debug)]
pub struct DataFiles {
    data_dir: PathBuf,
    /// Files written under another name, each with its final name.
    drafts: Vec<(PathBuf, PathBuf)>,
    /// The file read last, open.
    reading: Option<(FileName, File)>,
}

/// Threads of [`DataFiles::read_ahead`].
const READERS: usize = 16;

impl DataFiles {
    /// The files of that data folder.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_owned(), drafts: Vec::new(), reading: None }
    }

    /// Reads the parts of queues' segments that recovery will read, with several threads, so that
    /// they are in the page cache. One thread would wait for the disk at each of many thousand
    /// reads.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn read_ahead(&mut self) -> Result<(), DiskError> {
        let of_queues = |file: &(FileName, u64)| matches!(file.0, FileName::Queue { .. });
        let segments: Vec<_> = self.list()?.into_iter().filter(of_queues).collect();
        let share = segments.len().div_ceil(READERS).max(1);
        let data_dir = &self.data_dir;
        thread::scope(|scope| {
            for part in segments.chunks(share) {
                let read = move || walk_all(data_dir, part);
                let name = "ringtail-read".to_owned();
                if let Err(error) = thread::Builder::new().name(name).spawn_scoped(scope, read) {
                    tracing::info!("the start reads with fewer threads: {error}");
                    break;
                }
            }
        });
        Ok(())
    }

    fn open(&mut self, name: FileName) -> io::Result<&File> {
        if self.reading.as_ref().is_none_or(|(open, _)| *open != name) {
            let file = File::open(path(&self.data_dir, name))?;
            if matches!(name, FileName::Queue { .. }) {
                // Recovery reads headers, which are far apart.
                fadvise(&file, 0, None, Advice::Random)?;
            }
            self.reading = Some((name, file));
        }
        self.reading.as_ref().map(|(_, file)| file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_paths(&self, paths: &[&Path]) -> Result<(), DiskError> {
        if paths.len() > SYNCED_ONE_BY_ONE {
            let folder = File::open(&self.data_dir);
            let folder = folder.map_err(|error| failure("open", &self.data_dir, &error))?;
            return sync_all(&self.data_dir, &folder);
        }
        paths.iter().try_for_each(|path| {
            let synced = File::open(path).and_then(|file| file.sync_all());
            synced.map_err(|error| sync_failure(path, &error))
        })
    }

    fn list_in(
        &self,
        place: StoreFolder,
        found: &mut Vec<(FileName, u64)>,
    ) -> Result<(), DiskError> {
        let folder = self.data_dir.join(place.folder());
        let listing = |error: io::Error| failure("list", &folder, &error);
        for entry in fs::read_dir(&folder).map_err(listing)? {
            let entry = entry.map_err(listing)?;
            let name = entry.file_name();
            match name.to_str().and_then(|name| parse(place, name)) {
                Some(file) => found.push((file, entry.metadata().map_err(listing)?.len())),
                // Recovery may need the space of preallocated segments. Drafts are left by a crash.
                None if is_spare(&name) || is_draft(&name) => remove(&entry.path())?,
                None => tracing::warn!(
                    "{} is not a file of the broker and is ignored",
                    entry.path().display()
                ),
            }
        }
        Ok(())
    }
}

fn walk_all(data_dir: &Path, segments: &[(FileName, u64)]) {
    let mut files = DataFiles::new(data_dir);
    for (name, len) in segments {
        // Recovery meets the same error and reports it.
        drop(store::walk(&mut files, *name, *len));
    }
}

fn is_spare(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(SPARE))
}

fn is_draft(name: &OsStr) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == DRAFT)
}

impl Files for DataFiles {
    fn list(&mut self) -> Result<Vec<(FileName, u64)>, DiskError> {
        let mut found = Vec::new();
        self.list_in(StoreFolder::Log, &mut found)?;
        self.list_in(StoreFolder::Queues, &mut found)?;
        Ok(found)
    }

    fn read(&mut self, file: FileName, at: u64, len: usize) -> Result<Bytes, DiskError> {
        let mut bytes = BytesMut::zeroed(len);
        let read = self.open(file).and_then(|file| read_up_to(file, &mut bytes, at));
        let failed = |error| failure("read", &path(&self.data_dir, file), &error);
        bytes.truncate(read.map_err(failed)?);
        Ok(bytes.freeze())
    }

    fn write(&mut self, file: FileName, bytes: &[u8]) -> Result<(), DiskError> {
        self.reading = None;
        let path = path(&self.data_dir, file);
        // Not listed, and replaced by the next write of this file.
        let draft = path.with_extension(DRAFT);
        let written = access::replace(&draft).and_then(|mut file| file.write_all(bytes));
        written.map_err(|error| failure("write", &draft, &error))?;
        self.drafts.retain(|(_, before)| *before != path);
        self.drafts.push((draft, path));
        Ok(())
    }

    fn commit(&mut self) -> Result<(), DiskError> {
        self.reading = None;
        let drafts = std::mem::take(&mut self.drafts);
        let paths: Vec<&Path> = drafts.iter().map(|(draft, _)| draft.as_path()).collect();
        self.sync_paths(&paths)?;
        for (draft, path) in &drafts {
            fs::rename(draft, path).map_err(|error| failure("rename", draft, &error))?;
        }
        self.sync_folders()
    }

    fn sync(&mut self, files: &[FileName]) -> Result<(), DiskError> {
        let paths: Vec<PathBuf> = files.iter().map(|file| path(&self.data_dir, *file)).collect();
        self.sync_paths(&paths.iter().map(PathBuf::as_path).collect::<Vec<_>>())
    }

    fn sync_folders(&mut self) -> Result<(), DiskError> {
        let places = [StoreFolder::Log, StoreFolder::Queues];
        places.iter().try_for_each(|place| sync_folder(&self.data_dir.join(place.folder())))
    }

    fn delete(&mut self, file: FileName) -> Result<(), DiskError> {
        self.reading = None;
        remove(&path(&self.data_dir, file))
    }
}

/// Removes a file, if it exists.
///
/// # Errors
///
/// The system's.
pub fn remove(path: &Path) -> Result<(), DiskError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failure("remove", path, &error))
        }
        _ => Ok(()),
    }
}

/// Fills the buffer up to the end of the file.
fn read_up_to(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(bytes) => filled += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use crate::runtime::disk::files::*;

    const LOG: FileName = FileName::Log { boot: 0x12, shard: 0xffff, number: 3 };
    const SEGMENT: FileName = FileName::Queue { queue: QueueId(0xffff_0000_0000_0007), number: 9 };

    fn files() -> (tempfile::TempDir, DataFiles) {
        let folder = tempfile::tempdir().unwrap();
        for place in [StoreFolder::Log, StoreFolder::Queues] {
            fs::create_dir(folder.path().join(place.folder())).unwrap();
        }
        let files = DataFiles::new(folder.path());
        (folder, files)
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        assert_eq!(path(Path::new("/d"), LOG), Path::new("/d/log/00000012-ffff-00000003.log"));
        let expected = Path::new("/d/queues/ffff000000000007-00000009.seg");
        assert_eq!(path(Path::new("/d"), SEGMENT), expected);
        assert_eq!(parse(StoreFolder::Log, &name(LOG)), Some(LOG));
        assert_eq!(parse(StoreFolder::Queues, &name(SEGMENT)), Some(SEGMENT));
        for other in ["", ".log", "12-1-3.log", "00000012-FFFF-00000003.log", "spare-1", "+.log"] {
            assert_eq!(parse(StoreFolder::Log, other), None, "{other}");
        }
        assert_eq!(parse(StoreFolder::Log, "00000012-ffff-00000003-0.log"), None);
        assert_eq!(parse(StoreFolder::Queues, "0000000000000001-+0000002.seg"), None);
    }

    #[test]
    fn what_is_written_is_listed_read_and_deleted() {
        let (_folder, mut files) = files();
        files.write(LOG, b"long before").unwrap();
        files.write(LOG, b"0123456789").unwrap();
        files.write(SEGMENT, b"").unwrap();
        files.commit().unwrap();
        let mut found = files.list().unwrap();
        found.sort();
        assert_eq!(found, [(LOG, 10), (SEGMENT, 0)]);
        assert_eq!(files.read(LOG, 4, 3).unwrap(), &b"456"[..]);
        assert_eq!(files.read(LOG, 8, 100).unwrap(), &b"89"[..]);
        assert_eq!(files.read(LOG, 100, 1).unwrap(), &b""[..]);
        files.delete(LOG).unwrap();
        files.delete(LOG).unwrap();
        assert_eq!(files.list().unwrap(), [(SEGMENT, 0)]);
        let failure = files.read(LOG, 0, 1).unwrap_err();
        assert!(failure.to_string().contains("00000012-ffff-00000003.log"), "{failure}");
        assert_eq!(failure.cause, Cause::NotFound);
    }

    #[test]
    fn what_is_written_anew_is_read_anew() {
        let (_folder, mut files) = files();
        for text in ["old", "new"] {
            files.write(SEGMENT, text.as_bytes()).unwrap();
            files.commit().unwrap();
            assert_eq!(files.read(SEGMENT, 0, 3).unwrap(), text);
        }
    }

    #[test]
    fn reading_ahead_changes_nothing_and_leaves_damage_to_recovery() {
        let (_folder, mut files) = files();
        let segment = |number| FileName::Queue { queue: QueueId(1), number };
        for number in 0..40 {
            files.write(segment(number), &[7; 100]).unwrap();
        }
        files.commit().unwrap();
        files.read_ahead().unwrap();
        assert_eq!(files.list().unwrap().len(), 40);
        assert_eq!(files.read(segment(39), 99, 5).unwrap(), &[7][..]);
    }

    #[test]
    fn files_of_others_are_left_alone() {
        let (folder, mut files) = files();
        for strange in ["log/notes.txt", "log/spare-0", "queues/1.seg"] {
            fs::write(folder.path().join(strange), b"x").unwrap();
        }
        assert_eq!(files.list().unwrap(), []);
        assert!(folder.path().join("queues/1.seg").exists());
    }

    #[test]
    fn errors_that_pass_are_told_apart() {
        let error = |code| failure("write", Path::new("f"), &io::Error::from_raw_os_error(code));
        for code in [libc::ENOSPC, libc::EDQUOT, libc::EMFILE, libc::ENFILE, libc::ENOMEM] {
            assert!(error(code).may_retry(), "{code}");
            let sync = sync_failure(Path::new("f"), &io::Error::from_raw_os_error(code));
            assert!(!sync.may_retry(), "{code}");
        }
        assert!(!error(libc::EIO).may_retry() && !error(libc::ENOENT).may_retry());
        assert!(error(libc::EMFILE).advice().contains("ulimit -n"));
    }
}
