//! The folder of the metadata on the real file system.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::config::{DiskAction, DiskWorker};
use crate::runtime::disk::access;
use crate::runtime::disk::faults::Faults;
use crate::runtime::disk::files;
use crate::runtime::sys;
use crate::store::meta::{Folder, MetaError, MetaLog};
use crate::store::op::{Cause, DiskError};

/// Opens the metadata log in a folder, which is created if it does not exist. The caller holds the
/// lock of the data folder. `faults` are injected by tests.
///
/// # Errors
///
/// See [`MetaError`].
pub fn open(folder: &Path, faults: Faults) -> Result<MetaLog<MetaFolder>, MetaError> {
    let nonce = sys::random().map_err(|why| failure("get random numbers", &why))?;
    let nonce = u64::from_ne_bytes(nonce);
    if !folder.exists() {
        let doing = format!("make {}", folder.display());
        let made = access::create_folder(folder).and_then(|()| sync_folder(parent(folder)));
        made.map_err(|why| failure(doing, &why))?;
    }
    let disk = MetaFolder::new(folder, faults);
    let disk = disk.map_err(|why| failure(format!("open {}", folder.display()), &why))?;
    MetaLog::open(disk, nonce)
}

/// The folder, and the file used last.
#[derive(Debug)]
pub struct MetaFolder {
    folder: PathBuf,
    /// The folder stays open, so that its sync needs no descriptor.
    folder_file: File,
    open: Option<(String, File)>,
    faults: Faults,
}

impl MetaFolder {
    fn new(folder: &Path, faults: Faults) -> io::Result<Self> {
        let folder_file = File::open(folder)?;
        Ok(Self { folder: folder.to_owned(), folder_file, open: None, faults })
    }

    /// The open file. It is created if it does not exist.
    fn file(&mut self, name: &str) -> io::Result<&File> {
        let (known, file) = match self.open.take() {
            Some((known, file)) if known == name => (known, file),
            _ => {
                self.faults.inject(DiskWorker::Meta, DiskAction::Open)?;
                let path = self.folder.join(name);
                (name.to_owned(), access::existing_or_new().open(path)?)
            }
        };
        Ok(&self.open.insert((known, file)).1)
    }

    fn failed(&self, doing: &str, name: &str) -> impl FnOnce(io::Error) -> DiskError + use<> {
        let doing = format!("{doing} {}", self.path(name));
        move |why| DiskError { cause: Cause::Other, ..failure(doing, &why) }
    }
}

impl Folder for MetaFolder {
    fn list(&mut self) -> Result<Vec<String>, DiskError> {
        let entries = fs::read_dir(&self.folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = entries.map_err(self.failed("list the files of", ""))?;
        // The broker's names are UTF-8.
        Ok(entries.into_iter().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    fn read(&mut self, name: &str) -> Result<Vec<u8>, DiskError> {
        let injected = self.faults.inject(DiskWorker::Meta, DiskAction::Read);
        let read = injected.and_then(|_| fs::read(self.folder.join(name)));
        read.map_err(self.failed("read", name))
    }

    fn write(&mut self, name: &str, at: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let doing = format!("write to {}", self.path(name));
        let written = self.faults.inject(DiskWorker::Meta, DiskAction::Write).and_then(|short| {
            // A short write, as the system may do, is no error.
            let (first, rest) = bytes.split_at(if short { bytes.len() / 2 } else { 0 });
            let file = self.file(name)?;
            file.write_all_at(first, at)?;
            file.write_all_at(rest, at + first.len() as u64)
        });
        written.map_err(|why| failure(doing, &why))
    }

    fn cut(&mut self, name: &str, len: u64) -> Result<(), DiskError> {
        let failed = self.failed("cut", name);
        self.file(name).and_then(|file| file.set_len(len)).map_err(failed)
    }

    fn sync(&mut self, name: &str) -> Result<(), DiskError> {
        let failed = self.failed("sync", name);
        let injected = self.faults.inject(DiskWorker::Meta, DiskAction::Sync);
        injected.and_then(|_| self.file(name)?.sync_data()).map_err(failed)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.open = None;
        let renamed = fs::rename(self.folder.join(from), self.folder.join(to));
        renamed.map_err(self.failed("rename", from))
    }

    fn remove(&mut self, name: &str) -> Result<(), DiskError> {
        self.open.take_if(|(known, _)| known == name);
        match fs::remove_file(self.folder.join(name)) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => {
                Err(self.failed("remove", name)(why))
            }
            _ => Ok(()),
        }
    }

    fn sync_folder(&mut self) -> Result<(), DiskError> {
        let injected = self.faults.inject(DiskWorker::Meta, DiskAction::Sync);
        injected.and_then(|_| self.folder_file.sync_all()).map_err(self.failed("sync", ""))
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

/// The parent folder.
fn parent(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn failure(doing: impl Into<String>, why: &io::Error) -> DiskError {
    DiskError { doing: doing.into(), why: why.to_string(), cause: files::cause(why) }
}

#[cfg(test)]
mod tests {
    use model::QueueId;

    use crate::config::{DiskEffect, DiskFault};
    use crate::runtime::disk::meta::*;
    use crate::store::meta::{Fact, MetaNote};

    const FIRST: &str = "00000001.meta";

    /// A folder that is removed after the test.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let name = format!("ringtail-meta-{}-{name}", std::process::id());
            let place = Self(std::env::temp_dir().join(name));
            fs::create_dir(&place.0).unwrap();
            place
        }

        fn open(&self) -> Result<MetaLog<MetaFolder>, MetaError> {
            open(&self.0.join("meta"), Faults::default())
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    /// Faults of the first write and of the next three opens.
    fn failing() -> Vec<DiskFault> {
        let fault = |action, code, at| DiskFault {
            worker: DiskWorker::Meta,
            action,
            effect: DiskEffect::Error(code),
            which: (at, at),
        };
        vec![
            fault(DiskAction::Write, libc::ENOSPC, 1),
            fault(DiskAction::Open, libc::EMFILE, 1),
            fault(DiskAction::Open, libc::ENFILE, 2),
            fault(DiskAction::Open, libc::ENOMEM, 3),
        ]
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
        let bytes = fs::read(&file).unwrap();
        fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
        let mut log = place.open().unwrap();
        assert_eq!(log.state().queues_below, QueueId(2));
        let path = file.display().to_string();
        assert!(
            matches!(&log.take_notes()[..], [MetaNote::Cut { path: told, .. }] if *told == path)
        );
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
    fn a_write_that_may_be_tried_again_is_told_apart_from_others() {
        let place = Place::new("full");
        let mut disk = MetaFolder::new(&place.0, Faults::new(failing())).unwrap();
        for cause in [Cause::NoSpace, Cause::NoDescriptor, Cause::NoDescriptor, Cause::NoMemory] {
            assert_eq!(disk.write("a", 0, b"x").unwrap_err().cause, cause);
        }
        disk.remove("a").unwrap();
        disk.remove("a").unwrap();
        disk.write("a", 2, b"xy").unwrap();
        disk.cut("a", 3).unwrap();
        disk.sync("a").unwrap();
        disk.rename("a", "b").unwrap();
        disk.sync_folder().unwrap();
        assert_eq!(disk.list().unwrap(), ["b"]);
        assert_eq!(disk.read("b").unwrap(), b"\0\0x");
        assert!(!disk.read("a").unwrap_err().may_retry());
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
