//! The folder of the metadata on the real file system.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::faults::Faults;
use super::sys;
use crate::config::{DiskDeed, DiskLane};
use crate::store::meta::{Folder, Log, Refused};
use crate::store::op::Failure;

/// Opens the metadata in a folder, which is made if it does not exist. The folder must be nobody
/// else's: the caller holds the lock of the data folder. `faults` is what a test has go wrong.
///
/// # Errors
///
/// See [`Refused`].
pub fn open(folder: &Path, faults: Faults) -> Result<Log<Disk>, Refused> {
    let nonce = sys::random().map_err(|why| failure("get random numbers", &why, false))?;
    let disk = Disk { folder: folder.to_owned(), open: None, faults };
    if !folder.exists() {
        let doing = format!("make {}", folder.display());
        let made = fs::create_dir_all(folder).and_then(|()| sync_folder(parent(folder)));
        made.map_err(|why| failure(doing, &why, false))?;
    }
    Log::open(disk, nonce)
}

/// The folder, and the file that was used last.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    open: Option<(String, File)>,
    faults: Faults,
}

impl Disk {
    /// The file, which is made if it does not exist.
    fn file(&mut self, name: &str) -> io::Result<&File> {
        let (known, file) = match self.open.take() {
            Some((known, file)) if known == name => (known, file),
            _ => {
                let mut options = OpenOptions::new();
                let options = options.read(true).write(true).create(true).truncate(false);
                (name.to_owned(), options.open(self.folder.join(name))?)
            }
        };
        Ok(&self.open.insert((known, file)).1)
    }

    fn failed(&self, doing: &str, name: &str) -> impl FnOnce(io::Error) -> Failure + use<> {
        let doing = format!("{doing} {}", self.path(name));
        move |why| failure(doing, &why, false)
    }
}

impl Folder for Disk {
    fn list(&mut self) -> Result<Vec<String>, Failure> {
        let entries = fs::read_dir(&self.folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = entries.map_err(self.failed("list the files of", ""))?;
        // A name that is not UTF-8 is none of ours.
        Ok(entries.into_iter().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    fn read(&mut self, name: &str) -> Result<Vec<u8>, Failure> {
        let befallen = self.faults.befall(DiskLane::Meta, DiskDeed::Read);
        let read = befallen.and_then(|_| fs::read(self.folder.join(name)));
        read.map_err(self.failed("read", name))
    }

    fn write(&mut self, name: &str, at: u64, octets: &[u8]) -> Result<(), Failure> {
        let doing = format!("write to {}", self.path(name));
        let written = self.faults.befall(DiskLane::Meta, DiskDeed::Write).and_then(|short| {
            // As the system may do, which is no error.
            let (first, rest) = octets.split_at(if short { octets.len() / 2 } else { 0 });
            let file = self.file(name)?;
            file.write_all_at(first, at)?;
            file.write_all_at(rest, at + first.len() as u64)
        });
        written.map_err(|why| failure(doing, &why, is_full(&why)))
    }

    fn cut(&mut self, name: &str, len: u64) -> Result<(), Failure> {
        let failed = self.failed("cut", name);
        self.file(name).and_then(|file| file.set_len(len)).map_err(failed)
    }

    fn sync(&mut self, name: &str) -> Result<(), Failure> {
        let failed = self.failed("sync", name);
        let befallen = self.faults.befall(DiskLane::Meta, DiskDeed::Sync);
        befallen.and_then(|_| self.file(name)?.sync_data()).map_err(failed)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), Failure> {
        self.open = None;
        let renamed = fs::rename(self.folder.join(from), self.folder.join(to));
        renamed.map_err(self.failed("rename", from))
    }

    fn remove(&mut self, name: &str) -> Result<(), Failure> {
        self.open.take_if(|(known, _)| known == name);
        match fs::remove_file(self.folder.join(name)) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => {
                Err(self.failed("remove", name)(why))
            }
            _ => Ok(()),
        }
    }

    fn sync_folder(&mut self) -> Result<(), Failure> {
        let befallen = self.faults.befall(DiskLane::Meta, DiskDeed::Sync);
        befallen.and_then(|_| sync_folder(&self.folder)).map_err(self.failed("sync", ""))
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

/// The folder that a name is in.
fn parent(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn is_full(why: &io::Error) -> bool {
    matches!(why.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn failure(doing: impl Into<String>, why: &io::Error, full: bool) -> Failure {
    Failure { doing: doing.into(), why: why.to_string(), full }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use model::QueueId;

    use super::*;
    use crate::store::meta::{Fact, Note};

    const FIRST: &str = "00000001.meta";

    /// A folder that goes with the test.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let name = format!("ringtail-meta-{}-{name}", std::process::id());
            let place = Self(std::env::temp_dir().join(name));
            fs::create_dir(&place.0).unwrap();
            place
        }

        fn open(&self) -> Result<Log<Disk>, Refused> {
            open(&self.0.join("meta"), Faults::default())
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn facts(number: u64) -> [Fact; 1] {
        [Fact::QueuesBelow(QueueId(number))]
    }

    #[test]
    fn what_was_appended_is_there_at_the_next_start() {
        let place = Place::new("appended");
        for number in 1..4 {
            let mut log = place.open().unwrap();
            assert_eq!(log.state().queues_below, QueueId(number - 1));
            log.append(&facts(number)).unwrap();
        }
        let file = place.0.join("meta").join(FIRST);
        let octets = fs::read(&file).unwrap();
        fs::write(&file, &octets[..octets.len() - 1]).unwrap();
        let mut log = place.open().unwrap();
        assert_eq!(log.state().queues_below, QueueId(2));
        let path = file.display().to_string();
        assert!(matches!(&log.take_notes()[..], [Note::Cut { path: told, .. }] if *told == path));
    }

    #[test]
    fn a_file_that_grows_is_followed_by_another() {
        let place = Place::new("grows");
        let mut log = place.open().unwrap();
        let many: Vec<_> = (0..50_000).flat_map(facts).collect();
        for _ in 0..3 {
            log.append(&many).unwrap();
        }
        let names = fs::read_dir(place.0.join("meta")).unwrap();
        let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["00000002.meta"]);
        assert_eq!(place.open().unwrap().state().queues_below, QueueId(49_999));
    }

    #[test]
    fn a_full_disk_is_told_apart_and_files_are_what_they_are_made_to_be() {
        let place = Place::new("full");
        let mut disk = Disk { folder: place.0.clone(), open: None, faults: Faults::default() };
        symlink("/dev/full", place.0.join("a")).unwrap();
        assert!(disk.write("a", 0, b"x").unwrap_err().full);
        disk.remove("a").unwrap();
        disk.remove("a").unwrap();
        disk.write("a", 2, b"xy").unwrap();
        disk.cut("a", 3).unwrap();
        disk.sync("a").unwrap();
        disk.rename("a", "b").unwrap();
        disk.sync_folder().unwrap();
        assert_eq!(disk.list().unwrap(), ["b"]);
        assert_eq!(disk.read("b").unwrap(), b"\0\0x");
        assert!(!disk.read("a").unwrap_err().full);
    }

    #[test]
    fn what_cannot_be_done_names_the_file_and_the_reason() {
        let place = Place::new("names");
        fs::write(place.0.join("meta"), b"no folder").unwrap();
        let text = place.open().unwrap_err().to_string();
        let path = place.0.join("meta").display().to_string();
        assert!(text.starts_with("cannot list the files of") && text.contains(&path), "{text}");
    }
}
