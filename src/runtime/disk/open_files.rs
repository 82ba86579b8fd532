//! The files that a disk thread keeps open: a bounded number, the least recently used is closed
//! first.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::Map;

use crate::config::{DiskAction, DiskWorker};
use crate::runtime::disk::access;
use crate::runtime::disk::faults::Faults;
use crate::runtime::disk::files;
use crate::store::{DiskError, FileName};

/// An open file.
#[derive(Debug)]
pub struct OpenFile {
    /// The file.
    pub file: File,
    /// Its path, for error messages.
    pub path: PathBuf,
    used: u64,
}

/// The open files of one thread.
#[derive(Debug)]
pub struct OpenFiles {
    data_dir: PathBuf,
    most: usize,
    /// By name. It is only walked to find a unique minimum, so its order has no effect.
    open: Map<FileName, OpenFile>,
    uses: u64,
    /// Files of which a sync failed.
    broken: Map<FileName, DiskError>,
    worker: DiskWorker,
    faults: Arc<Faults>,
}

impl OpenFiles {
    /// At most `most` open files of the data folder.
    #[must_use]
    pub fn new(data_dir: &Path, most: usize, worker: DiskWorker, faults: Arc<Faults>) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            most,
            open: Map::default(),
            uses: 0,
            broken: Map::default(),
            worker,
            faults,
        }
    }

    /// The path of a file.
    #[must_use]
    pub fn path(&self, name: FileName) -> PathBuf {
        files::path(&self.data_dir, name)
    }

    /// The file, opened if it is not open. With `create` it is created if it does not exist.
    ///
    /// # Errors
    ///
    /// The system's, or that of an earlier failed sync of this file, until the file is deleted.
    pub fn get(&mut self, name: FileName, create: bool) -> Result<&mut OpenFile, DiskError> {
        if let Some(failure) = self.broken.get(&name) {
            return Err(failure.clone());
        }
        self.uses += 1;
        if !self.open.contains_key(&name) {
            let opened = self.open_new(name, create)?;
            self.close_one_if_full();
            self.open.insert(name, opened);
        }
        let open = self.open.get_mut(&name).ok_or_else(|| {
            files::failure("open", &files::path(&self.data_dir, name), &io::Error::other("gone"))
        })?;
        open.used = self.uses;
        Ok(open)
    }

    fn open_new(&self, name: FileName, create: bool) -> Result<OpenFile, DiskError> {
        let path = self.path(name);
        // A write that failed is tried again, and may find the file that it created before.
        let options = if create { access::existing_or_new() } else { access::existing() };
        let injected = self.faults.inject(self.worker, DiskAction::Open);
        let opened = injected.and_then(|_| options.open(&path));
        let file = opened.map_err(|error| files::failure("open", &path, &error))?;
        Ok(OpenFile { file, path, used: self.uses })
    }

    /// Closes a file if too many are open. It is not synced before: Linux reports an error that no
    /// descriptor has seen to the next sync of the file or the file system.
    fn close_one_if_full(&mut self) {
        if self.open.len() < self.most {
            return;
        }
        let least = self.open.iter().min_by_key(|(_, open)| open.used);
        if let Some(name) = least.map(|(name, _)| *name) {
            self.open.remove(&name);
        }
    }

    /// Marks a file whose sync failed. Its contents are unknown, and a second sync, which would
    /// succeed, must not hide that.
    pub fn break_off(&mut self, name: FileName, failure: DiskError) {
        self.open.remove(&name);
        self.broken.insert(name, failure);
    }

    /// Closes a file that is about to be deleted.
    pub fn forget(&mut self, name: FileName) {
        self.open.remove(&name);
        self.broken.remove(&name);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use model::QueueId;

    use crate::runtime::disk::open_files::*;

    fn name(number: u32) -> FileName {
        FileName::Queue { queue: QueueId(1), number }
    }

    fn files(most: usize) -> (tempfile::TempDir, OpenFiles) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("queues")).unwrap();
        let faults = Arc::new(Faults::default());
        let files = OpenFiles::new(folder.path(), most, DiskWorker::Queue, faults);
        (folder, files)
    }

    #[test]
    fn the_least_recently_used_is_closed_first() {
        let (_folder, mut files) = files(3);
        for number in 0..3 {
            files.get(name(number), true).unwrap();
        }
        files.get(name(0), false).unwrap();
        files.get(name(3), true).unwrap();
        let mut open: Vec<_> = files.open.keys().copied().collect();
        open.sort();
        assert_eq!(open, [name(0), name(2), name(3)]);
    }

    #[test]
    fn a_file_that_was_closed_is_opened_again_as_it_was() {
        let (_folder, mut files) = files(1);
        files.get(name(1), true).unwrap().file.write_all(b"bytes").unwrap();
        files.get(name(2), true).unwrap();
        let again = files.get(name(1), false).unwrap();
        assert_eq!(fs::read(&again.path).unwrap(), b"bytes");
        files.forget(name(1));
        fs::remove_file(files.path(name(1))).unwrap();
        let failure = files.get(name(1), false).unwrap_err();
        assert!(failure.to_string().contains("0000000000000001-00000001.seg"), "{failure}");
    }
}
