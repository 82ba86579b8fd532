//! The descriptors that a disk thread keeps open: not more than a bound, the least recently used
//! goes first.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use model::Map;

use super::files;
use crate::store::{Failure, FileName};

/// An open file.
#[derive(Debug)]
pub struct Open {
    /// The file.
    pub file: File,
    /// Its path, for what may have to be said about it.
    pub path: PathBuf,
    used: u64,
}

/// The open files of one thread.
#[derive(Debug)]
pub struct OpenFiles {
    data_dir: PathBuf,
    most: usize,
    /// Looked up by name; what is walked is walked for a minimum of distinct numbers.
    open: Map<FileName, Open>,
    uses: u64,
    /// Files of which a sync failed.
    broken: Map<FileName, Failure>,
}

impl OpenFiles {
    /// At most so many files below the data folder.
    #[must_use]
    pub fn new(data_dir: &Path, most: usize) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            most,
            open: Map::default(),
            uses: 0,
            broken: Map::default(),
        }
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self, name: FileName) -> PathBuf {
        files::path(&self.data_dir, name)
    }

    /// The file, opened if it is not. With `create` it is made if it does not exist.
    ///
    /// # Errors
    ///
    /// The system's; that of an earlier sync of this file, until it is deleted.
    pub fn get(&mut self, name: FileName, create: bool) -> Result<&mut Open, Failure> {
        if let Some(failure) = self.broken.get(&name) {
            return Err(failure.clone());
        }
        self.uses += 1;
        if !self.open.contains_key(&name) {
            let opened = self.open_new(name, create)?;
            self.make_room();
            self.open.insert(name, opened);
        }
        let open = self.open.get_mut(&name).ok_or_else(|| {
            files::failure("open", &files::path(&self.data_dir, name), &io::Error::other("gone"))
        })?;
        open.used = self.uses;
        Ok(open)
    }

    fn open_new(&self, name: FileName, create: bool) -> Result<Open, Failure> {
        let path = self.path(name);
        let mut options = OpenOptions::new();
        // A write that found no room is repeated, and then finds the file it made.
        let opened = options.read(true).write(true).create(create).truncate(false).open(&path);
        let file = opened.map_err(|error| files::failure("open", &path, &error))?;
        Ok(Open { file, path, used: self.uses })
    }

    /// Closes one if there are too many. One that was written to is not synced first: whoever syncs
    /// next, this file or the whole file system, is told by Linux of an error that nobody heard of.
    fn make_room(&mut self) {
        if self.open.len() < self.most {
            return;
        }
        let least = self.open.iter().min_by_key(|(_, open)| open.used);
        if let Some(name) = least.map(|(name, _)| *name) {
            self.open.remove(&name);
        }
    }

    /// A sync of the file failed: what it holds is not known any more, and a second sync, which
    /// would succeed, must not say otherwise.
    pub fn break_off(&mut self, name: FileName, failure: Failure) {
        self.open.remove(&name);
        self.broken.insert(name, failure);
    }

    /// Closes the file: it is going to be deleted.
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

    use super::*;

    fn name(number: u32) -> FileName {
        FileName::Queue { queue: QueueId(1), number }
    }

    fn files(most: usize) -> (tempfile::TempDir, OpenFiles) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("queues")).unwrap();
        let files = OpenFiles::new(folder.path(), most);
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
        files.get(name(1), true).unwrap().file.write_all(b"octets").unwrap();
        files.get(name(2), true).unwrap();
        let again = files.get(name(1), false).unwrap();
        assert_eq!(fs::read(&again.path).unwrap(), b"octets");
        files.forget(name(1));
        fs::remove_file(files.path(name(1))).unwrap();
        let failure = files.get(name(1), false).unwrap_err();
        assert!(failure.to_string().contains("0000000000000001-00000001.seg"), "{failure}");
    }
}
