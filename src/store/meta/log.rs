//! The log of durable facts: read at the start, appended to, and rewritten when it has grown.

use model::mutant::{self, Mutant};

use super::batch::{self, FileHeader, HEADER_LEN, NextBatch, VERSION};
use super::fact::{Fact, Malformed};
use super::folder::Folder;
use super::state::MetaState;
use crate::store::op::{Cause, DiskError};

/// A shorter file, in bytes, is not replaced by a new one.
const GROWN_MIN: u64 = 1024 * 1024;
/// A file is replaced by a new one when it has grown to so many times its first batch.
const GROWN_FACTOR: u64 = 4;

/// The metadata log in a folder. Only one process may have it open.
#[derive(Debug)]
pub struct MetaLog<F> {
    folder: F,
    state: MetaState,
    nonce: u64,
    /// The number of the file.
    file: u32,
    /// The number of the next batch in it.
    batch: u64,
    /// Bytes of the file, without a torn end.
    len: u64,
    /// From so many bytes on the file is replaced by a new one.
    grown: u64,
    grown_min: u64,
    notes: Vec<MetaNote>,
    /// Scratch space for writes.
    bytes: Vec<u8>,
}

/// A problem that the operator should know and that does not stop the broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetaNote {
    /// The file ended with part of a batch.
    #[error(
        "{bytes} bytes were cut off the end of {path}: the process ended while it wrote them, \
         and nothing in them was confirmed"
    )]
    Cut {
        /// The file.
        path: String,
        /// How many bytes were cut off.
        bytes: u64,
    },
    /// The file could not be replaced by a shorter one for now.
    #[error("{path} cannot be made shorter for now: {why}")]
    NoRoom {
        /// The file.
        path: String,
        /// Why.
        why: DiskError,
    },
}

/// Why the metadata cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetaError {
    /// An operation failed.
    #[error("{0}{advice}", advice = .0.advice())]
    Failed(#[from] DiskError),
    /// The file has another format.
    #[error(
        "{path} has format {version}, this Ringtail reads format {VERSION}: start the version of \
         Ringtail that wrote it, or a newer one"
    )]
    Version {
        /// The file.
        path: String,
        /// Its format.
        version: u32,
    },
    /// The file has a fact that this version does not know.
    #[error(
        "{path} has at byte {at} what this Ringtail does not know ({what}): start the version of \
         Ringtail that wrote it, or a newer one"
    )]
    Unknown {
        /// The file.
        path: String,
        /// Its offset in bytes.
        at: u64,
        /// What is not known.
        what: Malformed,
    },
    /// Bytes have changed since they were written.
    #[error(
        "{path} is damaged from byte {at} on, and not by a crash: restore the data folder from a \
         backup, or move {path} away to start without users, exchanges, queues and bindings"
    )]
    Damaged {
        /// The file.
        path: String,
        /// The offset of the damage.
        at: u64,
    },
}

/// A decoded file.
struct Contents {
    state: MetaState,
    nonce: u64,
    batches: u64,
    /// Bytes up to the end of the first batch.
    began: u64,
    /// Bytes up to the end of the last whole batch.
    len: u64,
    /// Bytes after that.
    torn: u64,
}

impl<F: Folder> MetaLog<F> {
    /// Reads the newest file, or creates the first one. `nonce` is random.
    ///
    /// # Errors
    ///
    /// See [`MetaError`].
    pub fn open(folder: F, nonce: u64) -> Result<Self, MetaError> {
        Self::open_with(folder, nonce, GROWN_MIN)
    }

    /// As [`Self::open`]. A file of fewer than `grown_min` bytes is not replaced.
    ///
    /// # Errors
    ///
    /// See [`MetaError`].
    pub fn open_with(mut folder: F, nonce: u64, grown_min: u64) -> Result<Self, MetaError> {
        let (files, unnamed) = files(&mut folder)?;
        for name in unnamed {
            folder.remove(&name)?;
        }
        let Some((&file, older)) = files.split_last() else {
            return Self::begin(folder, nonce, grown_min);
        };
        let contents = read(&mut folder, file)?;
        let mut notes = Vec::new();
        if contents.torn > 0 {
            folder.cut(&name(file), contents.len)?;
            notes.push(MetaNote::Cut { path: folder.path(&name(file)), bytes: contents.torn });
        }
        // A killed process may have left both unsynced.
        folder.sync(&name(file))?;
        folder.sync_folder()?;
        for &old in older {
            folder.remove(&name(old))?;
        }
        Ok(Self {
            folder,
            state: contents.state,
            nonce: contents.nonce,
            file,
            batch: contents.batches,
            len: contents.len,
            grown: grown(contents.began, grown_min),
            grown_min,
            notes,
            bytes: Vec::new(),
        })
    }

    fn begin(folder: F, nonce: u64, grown_min: u64) -> Result<Self, MetaError> {
        let mut log = Self {
            folder,
            state: MetaState::default(),
            nonce,
            file: 0,
            batch: 0,
            len: 0,
            grown: 0,
            grown_min,
            notes: Vec::new(),
            bytes: Vec::new(),
        };
        log.begin_file()?;
        Ok(log)
    }

    /// The state after all appended facts.
    #[must_use]
    pub fn state(&self) -> &MetaState {
        &self.state
    }

    /// The notes since the last call.
    pub fn take_notes(&mut self) -> Vec<MetaNote> {
        std::mem::take(&mut self.notes)
    }

    /// Makes the facts durable before it returns: all of them or none.
    ///
    /// # Errors
    ///
    /// The system's. If [`DiskError::may_retry`] is true nothing has changed, and the same facts
    /// may be appended again. Else the contents of the disk are unknown.
    pub fn append(&mut self, facts: &[Fact]) -> Result<(), DiskError> {
        if facts.is_empty() {
            return Ok(());
        }
        let file = name(self.file);
        self.bytes.clear();
        let written = batch::write_batch(&mut self.bytes, self.nonce, self.batch, facts.iter());
        written.map_err(|_| self.too_long())?;
        self.folder.write(&file, self.len, &self.bytes)?;
        self.sync(&file)?;
        self.len += self.bytes.len() as u64;
        self.batch += 1;
        facts.iter().for_each(|fact| self.state.apply(fact));
        self.follow()
    }

    fn sync(&mut self, file: &str) -> Result<(), DiskError> {
        if mutant::active(Mutant::MetaSyncSkipped) {
            return Ok(());
        }
        self.folder.sync(file)
    }

    /// Replaces the file by a new one if it has grown.
    fn follow(&mut self) -> Result<(), DiskError> {
        if self.len < self.grown {
            return Ok(());
        }
        let old = self.file;
        match self.begin_file() {
            Ok(()) => self.folder.remove(&name(old)),
            Err(why) if why.may_retry() => {
                let path = self.folder.path(&name(old));
                self.notes.push(MetaNote::NoRoom { path, why });
                self.grown = self.len + self.grown_min;
                self.folder.remove(&unnamed(old + 1))
            }
            Err(why) => Err(why),
        }
    }

    /// Writes all facts into the next file. It replaces the last one when it gets its name, which
    /// is when it is whole.
    fn begin_file(&mut self) -> Result<(), DiskError> {
        let file = self.file + 1;
        self.bytes.clear();
        batch::write_header(&mut self.bytes, self.nonce);
        let written = batch::write_batch(&mut self.bytes, self.nonce, 0, self.state.facts());
        written.map_err(|_| self.too_long())?;
        self.folder.write(&unnamed(file), 0, &self.bytes)?;
        self.sync(&unnamed(file))?;
        self.folder.rename(&unnamed(file), &name(file))?;
        if !mutant::active(Mutant::MetaFolderUnsynced) {
            self.folder.sync_folder()?;
        }
        self.file = file;
        self.batch = 1;
        self.len = self.bytes.len() as u64;
        self.grown = grown(self.len, self.grown_min);
        Ok(())
    }

    fn too_long(&self) -> DiskError {
        DiskError {
            doing: format!("write to {}", self.folder.path(&name(self.file))),
            why: "more than 4 GiB at once".to_owned(),
            cause: Cause::Other,
        }
    }
}

fn grown(began: u64, min: u64) -> u64 {
    (began * GROWN_FACTOR).max(min)
}

/// The numbers of the files, increasing, and the names of unfinished files. Other files are not the
/// broker's.
fn files<F: Folder>(folder: &mut F) -> Result<(Vec<u32>, Vec<String>), DiskError> {
    let names = folder.list()?;
    let mut files: Vec<_> = names.iter().filter_map(|name| number(name, "")).collect();
    files.sort_unstable();
    let unnamed = names.into_iter().filter(|name| number(name, UNNAMED).is_some()).collect();
    Ok((files, unnamed))
}

const EXTENSION: &str = ".meta";
const UNNAMED: &str = ".new";

fn name(file: u32) -> String {
    format!("{file:08x}{EXTENSION}")
}

/// The name of a file that is not whole yet.
fn unnamed(file: u32) -> String {
    format!("{file:08x}{EXTENSION}{UNNAMED}")
}

fn number(name: &str, behind: &str) -> Option<u32> {
    let digits = name.strip_suffix(behind)?.strip_suffix(EXTENSION)?;
    let is_plain = digits.len() == 8 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_plain.then(|| u32::from_str_radix(digits, 16).ok())?
}

fn read<F: Folder>(folder: &mut F, file: u32) -> Result<Contents, MetaError> {
    let bytes = folder.read(&name(file))?;
    let path = folder.path(&name(file));
    let nonce = match batch::read_header(&bytes) {
        FileHeader::Known { nonce } => nonce,
        FileHeader::Version(version) => return Err(MetaError::Version { path, version }),
        FileHeader::Damaged => return Err(MetaError::Damaged { path, at: 0 }),
    };
    let mut state = MetaState::default();
    let (mut at, mut batches, mut began) = (HEADER_LEN, 0, 0);
    loop {
        match batch::next(&bytes, at, nonce, batches) {
            NextBatch::Batch(facts, end) => {
                facts.iter().for_each(|fact| state.apply(fact));
                (at, batches) = (end, batches + 1);
            }
            NextBatch::Unknown(what) => {
                return Err(MetaError::Unknown { path, at: at as u64, what });
            }
            // A file gets its name only when its first batch is whole.
            NextBatch::End if batches > 0 => break,
            NextBatch::Damaged if batches > 0 && !batch::any_behind(&bytes, at, nonce, batches) => {
                break;
            }
            NextBatch::End | NextBatch::Damaged => {
                return Err(MetaError::Damaged { path, at: at as u64 });
            }
        }
        if batches == 1 {
            began = at as u64;
        }
    }
    let (len, torn) = (at as u64, (bytes.len() - at) as u64);
    Ok(Contents { state, nonce, batches, began, len, torn })
}
