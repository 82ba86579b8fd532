//! The store's files by their names, and what recovery does with them.
//!
//! ```text
//!  <data dir>/log/<boot>-<shard>-<number>.log      segments of the shards' logs
//!            /log/spare-<number>                   written already, to become such a segment
//!            /queues/<queue>-<number>.seg          segments of queues
//! ```
//!
//! Numbers are hexadecimal with leading zeros, so names sort as the numbers do.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;

use bytes::{Bytes, BytesMut};
use model::QueueId;
use rustix::fs::{Advice, fadvise};

use super::sys;
use crate::store::{self, Failure, FileName, Files};

/// What the names of spare segments begin with.
pub const SPARE: &str = "spare-";

/// One of the two folders with the store's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The shards' logs.
    Log,
    /// What queues spilled.
    Queues,
}

impl Place {
    /// Where that file is.
    #[must_use]
    pub fn of(file: FileName) -> Self {
        match file {
            FileName::Log { .. } => Self::Log,
            FileName::Queue { .. } => Self::Queues,
        }
    }

    /// The folder's name inside of the data folder.
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
    data_dir.join(Place::of(file).folder()).join(name(file))
}

fn name(file: FileName) -> String {
    match file {
        FileName::Log { boot, shard, number } => format!("{boot:08x}-{shard:04x}-{number:08x}.log"),
        FileName::Queue { queue: QueueId(queue), number } => {
            format!("{queue:016x}-{number:08x}.seg")
        }
    }
}

/// The file of that name in that folder. `None`: it is none of the store's.
fn parse(place: Place, text: &str) -> Option<FileName> {
    let file = match place {
        Place::Log => {
            let mut parts = text.strip_suffix(".log")?.split('-');
            FileName::Log {
                boot: u32::from_str_radix(parts.next()?, 16).ok()?,
                shard: u16::from_str_radix(parts.next()?, 16).ok()?,
                number: u32::from_str_radix(parts.next()?, 16).ok()?,
            }
        }
        Place::Queues => {
            let (queue, number) = text.strip_suffix(".seg")?.split_once('-')?;
            FileName::Queue {
                queue: QueueId(u64::from_str_radix(queue, 16).ok()?),
                number: u32::from_str_radix(number, 16).ok()?,
            }
        }
    };
    // Only the one way of writing it is a name: no signs, capitals or missing zeros.
    (name(file) == text).then_some(file)
}

/// A failure with its path and the system's reason.
#[must_use]
pub fn failure(doing: &str, path: &Path, error: &io::Error) -> Failure {
    let full = matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT));
    Failure { doing: format!("{doing} {}", path.display()), why: error.to_string(), full }
}

/// A failure to sync: whatever the reason, it cannot be tried again.
#[must_use]
pub fn sync_failure(path: &Path, error: &io::Error) -> Failure {
    Failure { full: false, ..failure("sync", path, error) }
}

/// Makes the names in a folder outlive a power loss.
///
/// # Errors
///
/// The system's.
pub fn sync_folder(path: &Path) -> Result<(), Failure> {
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(|error| sync_failure(path, &error))
}

/// Opens a folder, for [`sync_all`].
///
/// # Errors
///
/// The system's.
pub fn root(folder: &Path) -> Result<File, Failure> {
    File::open(folder).map_err(|error| failure("open", folder, &error))
}

/// Puts everything in the file system of this folder on stable storage, names included.
///
/// # Errors
///
/// The system's, also of writes since the folder was opened.
pub fn sync_all(path: &Path, folder: &File) -> Result<(), Failure> {
    sys::sync_file_system(folder.as_fd()).map_err(|error| sync_failure(path, &error))
}

/// The ending of a file that is not whole yet.
const DRAFT: &str = "draft";
/// Up to so many files are synced one by one.
const SYNCED_ONE_BY_ONE: usize = 8;

/// The files below a data folder whose folders exist.
#[derive(Debug)]
pub struct DataFiles {
    data_dir: PathBuf,
    /// Written under another name, and the names they are to have.
    drafts: Vec<(PathBuf, PathBuf)>,
    /// The file that was read last.
    reading: Option<(FileName, File)>,
}

/// So many threads read at once what a start reads piece by piece.
const READERS: usize = 16;

impl DataFiles {
    /// Those below that folder.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_owned(), drafts: Vec::new(), reading: None }
    }

    /// Reads what recovery will read of the queues' segments, several at once, so that it finds
    /// that in memory: one after the other each of many thousand reads waits for the disk.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn read_ahead(&mut self) -> Result<(), Failure> {
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
                // Heads lie far apart; what is between them is not wanted.
                fadvise(&file, 0, None, Advice::Random)?;
            }
            self.reading = Some((name, file));
        }
        self.reading.as_ref().map(|(_, file)| file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_paths(&self, paths: &[&Path]) -> Result<(), Failure> {
        if paths.len() > SYNCED_ONE_BY_ONE {
            return sync_all(&self.data_dir, &root(&self.data_dir)?);
        }
        paths.iter().try_for_each(|path| {
            let synced = File::open(path).and_then(|file| file.sync_all());
            synced.map_err(|error| sync_failure(path, &error))
        })
    }

    fn list_in(&self, place: Place, found: &mut Vec<(FileName, u64)>) -> Result<(), Failure> {
        let folder = self.data_dir.join(place.folder());
        let listing = |error: io::Error| failure("list", &folder, &error);
        for entry in fs::read_dir(&folder).map_err(listing)? {
            let entry = entry.map_err(listing)?;
            let name = entry.file_name();
            match name.to_str().and_then(|name| parse(place, name)) {
                Some(file) => found.push((file, entry.metadata().map_err(listing)?.len())),
                // Room that recovery may need; others are made when there is time. And what a crash
                // left half written.
                None if is_spare(&name) || is_draft(&name) => remove(&entry.path())?,
                None => tracing::warn!(
                    "{} is none of the broker's files and is left alone",
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
        // Whatever is wrong, recovery meets it too and says so.
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
    fn list(&mut self) -> Result<Vec<(FileName, u64)>, Failure> {
        let mut found = Vec::new();
        self.list_in(Place::Log, &mut found)?;
        self.list_in(Place::Queues, &mut found)?;
        Ok(found)
    }

    fn read(&mut self, file: FileName, at: u64, len: usize) -> Result<Bytes, Failure> {
        let mut octets = BytesMut::zeroed(len);
        let read = self.open(file).and_then(|file| read_up_to(file, &mut octets, at));
        let failed = |error| failure("read", &path(&self.data_dir, file), &error);
        octets.truncate(read.map_err(failed)?);
        Ok(octets.freeze())
    }

    fn write(&mut self, file: FileName, octets: &[u8]) -> Result<(), Failure> {
        self.reading = None;
        let path = path(&self.data_dir, file);
        // Listed by nobody, and begun anew by the next who writes this file.
        let draft = path.with_extension(DRAFT);
        fs::write(&draft, octets).map_err(|error| failure("write", &draft, &error))?;
        self.drafts.retain(|(_, before)| *before != path);
        self.drafts.push((draft, path));
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Failure> {
        self.reading = None;
        let drafts = std::mem::take(&mut self.drafts);
        let paths: Vec<&Path> = drafts.iter().map(|(draft, _)| draft.as_path()).collect();
        self.sync_paths(&paths)?;
        for (draft, path) in &drafts {
            fs::rename(draft, path).map_err(|error| failure("rename", draft, &error))?;
        }
        self.sync_folders()
    }

    fn sync(&mut self, files: &[FileName]) -> Result<(), Failure> {
        let paths: Vec<PathBuf> = files.iter().map(|file| path(&self.data_dir, *file)).collect();
        self.sync_paths(&paths.iter().map(PathBuf::as_path).collect::<Vec<_>>())
    }

    fn sync_folders(&mut self) -> Result<(), Failure> {
        let places = [Place::Log, Place::Queues];
        places.iter().try_for_each(|place| sync_folder(&self.data_dir.join(place.folder())))
    }

    fn delete(&mut self, file: FileName) -> Result<(), Failure> {
        self.reading = None;
        remove(&path(&self.data_dir, file))
    }
}

/// Removes a file; that it does not exist is no error.
///
/// # Errors
///
/// The system's.
pub fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failure("remove", path, &error))
        }
        _ => Ok(()),
    }
}

/// Fills the buffer as far as the file goes.
fn read_up_to(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(octets) => filled += octets,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: FileName = FileName::Log { boot: 0x12, shard: 0xffff, number: 3 };
    const SEGMENT: FileName = FileName::Queue { queue: QueueId(0xffff_0000_0000_0007), number: 9 };

    fn files() -> (tempfile::TempDir, DataFiles) {
        let folder = tempfile::tempdir().unwrap();
        for place in [Place::Log, Place::Queues] {
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
        assert_eq!(parse(Place::Log, &name(LOG)), Some(LOG));
        assert_eq!(parse(Place::Queues, &name(SEGMENT)), Some(SEGMENT));
        for other in ["", ".log", "12-1-3.log", "00000012-FFFF-00000003.log", "spare-1", "+.log"] {
            assert_eq!(parse(Place::Log, other), None, "{other}");
        }
        assert_eq!(parse(Place::Log, "00000012-ffff-00000003-0.log"), None);
        assert_eq!(parse(Place::Queues, "0000000000000001-+0000002.seg"), None);
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
        assert!(!failure.full);
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
    fn no_room_is_told_apart() {
        let error = |code| failure("write", Path::new("f"), &io::Error::from_raw_os_error(code));
        assert!(error(libc::ENOSPC).full && error(libc::EDQUOT).full && !error(libc::EIO).full);
        let sync = sync_failure(Path::new("f"), &io::Error::from_raw_os_error(libc::ENOSPC));
        assert!(!sync.full);
    }
}
