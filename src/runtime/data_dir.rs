//! The data folder: one process at a time, in a format that it knows.
//!
//! ```text
//!  lock     locked by the process that uses the folder, with its number inside
//!  format   `ringtail 1`
//!  log/ queues/ meta/
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// What `format` holds.
const FORMAT: &str = "ringtail 1\n";
/// The folders inside.
const FOLDERS: [&str; 3] = ["log", "queues", "meta"];

/// Why the data folder cannot be used; each a line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// Another process uses it.
    #[error(
        "the data folder {path} is in use{by}: stop the broker that uses it, or choose another \
         with --data-dir"
    )]
    InUse {
        /// The folder.
        path: PathBuf,
        /// ` by process 17`, where that is known.
        by: String,
    },
    /// Written by a version that does things differently.
    #[error(
        "the data folder {path} has the format {found:?}, this version reads {known:?}: run the \
         version that wrote it, or choose another folder with --data-dir"
    )]
    Format {
        /// The folder.
        path: PathBuf,
        /// What its file says.
        found: String,
        /// What is understood.
        known: &'static str,
    },
    /// It holds data, but nothing says in which format.
    #[error(
        "the data folder {path} holds {name}/ but no file `format`: restore that file if the \
         folder is a broker's, or choose another with --data-dir"
    )]
    NoFormat {
        /// The folder.
        path: PathBuf,
        /// What is there.
        name: &'static str,
    },
    /// It cannot be written to.
    #[error("cannot write to the data folder {path}: {why}: {advice}")]
    Denied {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        why: io::Error,
        /// What to do.
        advice: &'static str,
    },
}

/// The folder, which is this process's own as long as this lives.
#[derive(Debug)]
pub struct DataDir {
    /// Closing it ends the lock.
    _lock: File,
}

impl DataDir {
    /// Takes the folder, creates what is missing in it and syncs that.
    ///
    /// # Errors
    ///
    /// See [`Unusable`].
    pub fn open(path: &Path) -> Result<Self, Unusable> {
        let denied = |why: io::Error| {
            let advice = advice(&why);
            Unusable::Denied { path: path.to_owned(), why, advice }
        };
        create(path).map_err(denied)?;
        let lock = lock(path, denied)?;
        check_format(path, denied)?;
        for folder in FOLDERS {
            create(&path.join(folder)).map_err(denied)?;
        }
        Ok(Self { _lock: lock })
    }
}

fn advice(why: &io::Error) -> &'static str {
    match why.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => "make room there, or choose another with --data-dir",
        Some(libc::EROFS) => {
            "it is on a file system that is mounted read-only; mount it read-write, or choose \
             another with --data-dir"
        }
        _ => "let the user that runs ringtail write there, or choose another with --data-dir",
    }
}

/// Makes a folder with those above it, each of which outlives a power loss.
fn create(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = match path.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    };
    create(above)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync(above)
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn lock(path: &Path, denied: impl Fn(io::Error) -> Unusable) -> Result<File, Unusable> {
    let mut options = OpenOptions::new();
    let opened = options.read(true).write(true).create(true).truncate(false);
    let mut file = opened.open(path.join("lock")).map_err(&denied)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            // Only for the sentence: without the number it says less.
            let by = match file.read_to_string(&mut text) {
                Ok(_) if !text.is_empty() => format!(" by process {}", text.trim()),
                _ => String::new(),
            };
            return Err(Unusable::InUse { path: path.to_owned(), by });
        }
        Err(TryLockError::Error(why)) => return Err(denied(why)),
    }
    let written = file.set_len(0).and_then(|()| file.rewind());
    written.and_then(|()| writeln!(file, "{}", std::process::id())).map_err(denied)?;
    Ok(file)
}

/// Reads the format. A new folder gets it before anything else.
fn check_format(path: &Path, denied: impl Fn(io::Error) -> Unusable) -> Result<(), Unusable> {
    let file = path.join("format");
    match fs::read(&file) {
        Ok(found) if found == FORMAT.as_bytes() => Ok(()),
        Ok(found) => {
            let found = String::from_utf8_lossy(&found[..found.len().min(100)]).trim().to_owned();
            Err(Unusable::Format { path: path.to_owned(), found, known: FORMAT.trim() })
        }
        Err(why) if why.kind() != io::ErrorKind::NotFound => Err(denied(why)),
        Err(_) => match FOLDERS.into_iter().find(|name| path.join(name).exists()) {
            Some(name) => Err(Unusable::NoFormat { path: path.to_owned(), name }),
            None => write_format(path, &file).map_err(denied),
        },
    }
}

fn write_format(path: &Path, file: &Path) -> io::Result<()> {
    // A crash leaves either no format, or the whole of it.
    let new = path.join("format.new");
    let mut written = File::create(&new)?;
    written.write_all(FORMAT.as_bytes())?;
    written.sync_all()?;
    fs::rename(&new, file)?;
    sync(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &Path) -> String {
        DataDir::open(path).unwrap_err().to_string()
    }

    #[test]
    fn a_new_folder_is_made_with_all_that_is_in_it() {
        let above = tempfile::tempdir().unwrap();
        let path = above.path().join("a/b");
        let opened = DataDir::open(&path).unwrap();
        assert_eq!(fs::read_to_string(path.join("format")).unwrap(), FORMAT);
        assert!(FOLDERS.iter().all(|folder| path.join(folder).is_dir()));
        drop(opened);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn a_folder_in_use_is_refused_with_the_process_that_uses_it() {
        let folder = tempfile::tempdir().unwrap();
        let opened = DataDir::open(folder.path()).unwrap();
        let text = refusal(folder.path());
        let process = format!("in use by process {}", std::process::id());
        assert!(text.contains(&process) && text.contains("--data-dir"), "{text}");
        assert!(text.contains(&folder.path().display().to_string()), "{text}");
        drop(opened);
        DataDir::open(folder.path()).unwrap();
    }

    #[test]
    fn an_unknown_format_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        drop(DataDir::open(folder.path()).unwrap());
        fs::write(folder.path().join("format"), "ringtail 2\n").unwrap();
        let text = refusal(folder.path());
        assert!(text.contains("\"ringtail 2\"") && text.contains("\"ringtail 1\""), "{text}");
    }

    #[test]
    fn data_without_a_format_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("log")).unwrap();
        assert!(refusal(folder.path()).contains("holds log/ but no file `format`"));
    }

    #[test]
    fn a_folder_that_cannot_be_written_to_is_refused() {
        let text = refusal(Path::new("/proc/version/x"));
        assert!(text.contains("/proc/version/x") && text.contains("--data-dir"), "{text}");
        for (code, word) in [(libc::EROFS, "read-only"), (libc::ENOSPC, "make room")] {
            assert!(advice(&io::Error::from_raw_os_error(code)).contains(word));
        }
    }
}
