//! The log of durable facts: read at the start, appended to, and begun anew when it has grown.

use model::mutant::{self, Mutant};

use super::batch::{self, HEADER_LEN, Header, Next, VERSION};
use super::fact::{Fact, Malformed};
use super::folder::Folder;
use super::state::MetaState;
use crate::store::op::Failure;

/// Octets a file has at least before another follows it.
const GROWN_MIN: u64 = 1024 * 1024;
/// A file is followed by another when it is so many times as long as what it began with.
const GROWN_FACTOR: u64 = 4;

/// The facts in a folder. Only one process may have it open.
#[derive(Debug)]
pub struct Log<F> {
    folder: F,
    state: MetaState,
    nonce: u64,
    /// The number of the file.
    file: u32,
    /// The number of the next batch in it.
    batch: u64,
    /// Octets of the file that count.
    len: u64,
    /// From so many octets on another file follows.
    grown: u64,
    grown_min: u64,
    notes: Vec<Note>,
    /// What is being written, kept to be used again.
    octets: Vec<u8>,
}

/// What went otherwise than it should, but is no reason not to go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Note {
    /// The end of the file was no whole batch.
    #[error(
        "{octets} octets were cut off the end of {path}: the process ended while it wrote them, \
         and what they stood for was confirmed to nobody"
    )]
    Cut {
        /// The file.
        path: String,
        /// How many were cut off.
        octets: u64,
    },
    /// There is no room for a shorter file.
    #[error("{path} cannot be made shorter for now: {why}")]
    NoRoom {
        /// The file.
        path: String,
        /// The system's reason.
        why: Failure,
    },
}

/// Why the facts cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The system does not let it.
    #[error(transparent)]
    Failed(#[from] Failure),
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
    /// The file says something that this version does not know.
    #[error(
        "{path} says at octet {at} what this Ringtail does not understand ({what}): start the \
         version of Ringtail that wrote it, or a newer one"
    )]
    Unknown {
        /// The file.
        path: String,
        /// Octets in front of it.
        at: u64,
        /// What is not understood.
        what: Malformed,
    },
    /// Octets have changed since they were written.
    #[error(
        "{path} is damaged from octet {at} on, and not by a crash: restore the data folder from a \
         backup, or move {path} away to start without users, exchanges, queues and bindings"
    )]
    Damaged {
        /// The file.
        path: String,
        /// Octets in front of the damage.
        at: u64,
    },
}

/// What a file says.
struct Contents {
    state: MetaState,
    nonce: u64,
    batches: u64,
    /// Octets up to the end of the first batch.
    began: u64,
    /// Octets that count.
    len: u64,
    /// Octets behind them.
    torn: u64,
}

impl<F: Folder> Log<F> {
    /// Reads what there is; if there is nothing, begins. `nonce` is random.
    ///
    /// # Errors
    ///
    /// See [`Refused`].
    pub fn open(folder: F, nonce: u64) -> Result<Self, Refused> {
        Self::open_with(folder, nonce, GROWN_MIN)
    }

    /// As [`Self::open`]; a file of fewer than `grown_min` octets is not followed by another.
    ///
    /// # Errors
    ///
    /// See [`Refused`].
    pub fn open_with(mut folder: F, nonce: u64, grown_min: u64) -> Result<Self, Refused> {
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
            notes.push(Note::Cut { path: folder.path(&name(file)), octets: contents.torn });
        }
        // A process that was killed may have left both unsynced.
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
            octets: Vec::new(),
        })
    }

    fn begin(folder: F, nonce: u64, grown_min: u64) -> Result<Self, Refused> {
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
            octets: Vec::new(),
        };
        log.begin_file()?;
        Ok(log)
    }

    /// Everything that was appended.
    #[must_use]
    pub fn state(&self) -> &MetaState {
        &self.state
    }

    /// What was noted since the last call.
    pub fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    /// Makes the facts durable, all of them or none. They are when it returns.
    ///
    /// # Errors
    ///
    /// The system's. If it is [`Failure::full`] nothing has happened, and the same facts may be
    /// appended once more; else nothing more can be said about what is on the disk.
    pub fn append(&mut self, facts: &[Fact]) -> Result<(), Failure> {
        if facts.is_empty() {
            return Ok(());
        }
        let file = name(self.file);
        self.octets.clear();
        let written = batch::write_batch(&mut self.octets, self.nonce, self.batch, facts.iter());
        written.map_err(|_| self.too_long())?;
        self.folder.write(&file, self.len, &self.octets)?;
        if !mutant::active(Mutant::MetaSyncSkipped) {
            self.folder.sync(&file)?;
        }
        self.len += self.octets.len() as u64;
        self.batch += 1;
        facts.iter().for_each(|fact| self.state.apply(fact));
        self.follow()
    }

    /// Goes on in a new file if this one has grown.
    fn follow(&mut self) -> Result<(), Failure> {
        if self.len < self.grown {
            return Ok(());
        }
        let old = self.file;
        match self.begin_file() {
            Ok(()) => self.folder.remove(&name(old)),
            Err(why) if why.full => {
                let path = self.folder.path(&name(old));
                self.notes.push(Note::NoRoom { path, why });
                self.grown = self.len + self.grown_min;
                self.folder.remove(&unnamed(old + 1))
            }
            Err(why) => Err(why),
        }
    }

    /// Writes all facts into the next file. It gets its name when it is whole, and from then on it
    /// is the one.
    fn begin_file(&mut self) -> Result<(), Failure> {
        let file = self.file + 1;
        self.octets.clear();
        batch::write_header(&mut self.octets, self.nonce);
        let written = batch::write_batch(&mut self.octets, self.nonce, 0, self.state.facts());
        written.map_err(|_| self.too_long())?;
        self.folder.write(&unnamed(file), 0, &self.octets)?;
        if !mutant::active(Mutant::MetaSyncSkipped) {
            self.folder.sync(&unnamed(file))?;
        }
        self.folder.rename(&unnamed(file), &name(file))?;
        if !mutant::active(Mutant::MetaFolderUnsynced) {
            self.folder.sync_folder()?;
        }
        self.file = file;
        self.batch = 1;
        self.len = self.octets.len() as u64;
        self.grown = grown(self.len, self.grown_min);
        Ok(())
    }

    fn too_long(&self) -> Failure {
        Failure {
            doing: format!("write to {}", self.folder.path(&name(self.file))),
            why: "more than 4 GiB at once".to_owned(),
            full: false,
        }
    }
}

fn grown(began: u64, min: u64) -> u64 {
    (began * GROWN_FACTOR).max(min)
}

/// The numbers of the files, increasing, and the names of those that were never given theirs. What
/// is called otherwise is somebody else's.
fn files<F: Folder>(folder: &mut F) -> Result<(Vec<u32>, Vec<String>), Failure> {
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

/// What a file is called while it is not whole.
fn unnamed(file: u32) -> String {
    format!("{file:08x}{EXTENSION}{UNNAMED}")
}

fn number(name: &str, behind: &str) -> Option<u32> {
    let digits = name.strip_suffix(behind)?.strip_suffix(EXTENSION)?;
    let is_plain = digits.len() == 8 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_plain.then(|| u32::from_str_radix(digits, 16).ok())?
}

fn read<F: Folder>(folder: &mut F, file: u32) -> Result<Contents, Refused> {
    let octets = folder.read(&name(file))?;
    let path = folder.path(&name(file));
    let nonce = match batch::read_header(&octets) {
        Header::Known { nonce } => nonce,
        Header::Version(version) => return Err(Refused::Version { path, version }),
        Header::Damaged => return Err(Refused::Damaged { path, at: 0 }),
    };
    let mut state = MetaState::default();
    let (mut at, mut batches, mut began) = (HEADER_LEN, 0, 0);
    loop {
        match batch::next(&octets, at, nonce, batches) {
            Next::Batch(facts, end) => {
                facts.iter().for_each(|fact| state.apply(fact));
                (at, batches) = (end, batches + 1);
            }
            Next::Unknown(what) => return Err(Refused::Unknown { path, at: at as u64, what }),
            // A file gets its name only when its first batch is whole.
            Next::End if batches > 0 => break,
            Next::Damaged if batches > 0 && !batch::any_behind(&octets, at, nonce, batches) => {
                break;
            }
            Next::End | Next::Damaged => return Err(Refused::Damaged { path, at: at as u64 }),
        }
        if batches == 1 {
            began = at as u64;
        }
    }
    let (len, torn) = (at as u64, (octets.len() - at) as u64);
    Ok(Contents { state, nonce, batches, began, len, torn })
}
