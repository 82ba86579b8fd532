//! The data folder: used by one process at a time, in a format that it knows.
//!
//! ```text
//!  lock     locked by the process that uses the folder, with its number inside
//!  format   `ringtail 1`
//!  log/ queues/ meta/
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::runtime::disk::{access, permissions};

/// The contents of `format`.
const FORMAT: &str = "ringtail 1\n";
/// The folders inside.
const FOLDERS: [&str; 3] = ["log", "queues", "meta"];

/// Why the data folder cannot be used. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
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
    /// It has another format.
    #[error(
        "the data folder {path} has the format {found:?}, this version reads {known:?}: run the \
         version that wrote it, or choose another folder with --data-dir"
    )]
    Format {
        /// The folder.
        path: PathBuf,
        /// The format in its file.
        found: String,
        /// The format of this version.
        known: &'static str,
    },
    /// It holds data, but no file with the format.
    #[error(
        "the data folder {path} holds {name}/ but no file `format`: restore that file if the \
         folder is a broker's, or choose another with --data-dir"
    )]
    NoFormat {
        /// The folder.
        path: PathBuf,
        /// The folder with data.
        name: &'static str,
    },
    /// It cannot be opened or written to.
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

/// The folder, locked for this process as long as this lives.
#[derive(Debug)]
pub struct DataDir {
    /// Closing it releases the lock.
    _lock: File,
}

impl DataDir {
    /// Locks the folder, creates what is missing and syncs it. Warns in the text log if other users
    /// may access something in it.
    ///
    /// # Errors
    ///
    /// See [`DataDirError`].
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let denied = |why: io::Error| {
            let advice = advice(&why);
            DataDirError::Denied { path: path.to_owned(), why, advice }
        };
        create(path).map_err(denied)?;
        let lock = lock(path, denied)?;
        check_format(path, denied)?;
        for folder in FOLDERS {
            create(&path.join(folder)).map_err(denied)?;
        }
        match permissions::wide(path) {
            Ok(None) => {}
            Ok(Some(wide)) => tracing::warn!("{wide}"),
            Err(error) => tracing::warn!("cannot look at the permissions in {path:?}: {error}"),
        }
        Ok(Self { _lock: lock })
    }
}

fn advice(why: &io::Error) -> &'static str {
    match why.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => "make room there, or choose another with --data-dir",
        Some(libc::EMFILE | libc::ENFILE) => "raise the limit of open files (`ulimit -n 65536`)",
        Some(libc::ENOMEM) => "give the process more memory",
        Some(libc::ELOOP) => {
            "`lock` in it is a link, which the broker does not follow: remove the link, or choose \
             another folder with --data-dir"
        }
        Some(libc::EROFS) => {
            "it is on a file system that is mounted read-only; mount it read-write, or choose \
             another with --data-dir"
        }
        _ => "let the user that runs ringtail write there, or choose another with --data-dir",
    }
}

/// Creates a folder and its parents, and syncs each.
fn create(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = match path.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    };
    create(above)?;
    access::create_folder(path)?;
    sync(above)
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn lock(path: &Path, denied: impl Fn(io::Error) -> DataDirError) -> Result<File, DataDirError> {
    let mut file = access::existing_or_new().open(path.join("lock")).map_err(&denied)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            // Without the number the text only says less.
            let by = match file.read_to_string(&mut text) {
                Ok(_) if !text.is_empty() => format!(" by process {}", text.trim()),
                _ => String::new(),
            };
            return Err(DataDirError::InUse { path: path.to_owned(), by });
        }
        Err(TryLockError::Error(why)) => return Err(denied(why)),
    }
    let written = file.set_len(0).and_then(|()| file.rewind());
    written.and_then(|()| writeln!(file, "{}", std::process::id())).map_err(denied)?;
    Ok(file)
}

/// Checks the format. A new folder gets its format file before anything else.
fn check_format(
    path: &Path,
    denied: impl Fn(io::Error) -> DataDirError,
) -> Result<(), DataDirError> {
    let file = path.join("format");
    match fs::read(&file) {
        Ok(found) if found == FORMAT.as_bytes() => Ok(()),
        Ok(found) => {
            let found = String::from_utf8_lossy(&found[..found.len().min(100)]).trim().to_owned();
            Err(DataDirError::Format { path: path.to_owned(), found, known: FORMAT.trim() })
        }
        Err(why) if why.kind() != io::ErrorKind::NotFound => Err(denied(why)),
        Err(_) => match FOLDERS.into_iter().find(|name| path.join(name).exists()) {
            Some(name) => Err(DataDirError::NoFormat { path: path.to_owned(), name }),
            None => write_format(path, &file).map_err(denied),
        },
    }
}

fn write_format(path: &Path, file: &Path) -> io::Result<()> {
    // A crash leaves either no format file or a whole one.
    let new = path.join("format.new");
    let mut written = access::replace(&new)?;
    written.write_all(FORMAT.as_bytes())?;
    written.sync_all()?;
    fs::rename(&new, file)?;
    sync(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use crate::runtime::disk::data_dir::*;

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
    fn what_is_made_is_for_the_owner_alone() {
        let above = tempfile::tempdir().unwrap();
        let path = above.path().join("a/b");
        drop(DataDir::open(&path).unwrap());
        assert_eq!(permissions::wide(&path).unwrap(), None);
        assert_eq!(permissions::wide(&above.path().join("a")).unwrap(), None);
    }

    #[test]
    fn links_in_the_place_of_files_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let [data, target] = ["data", "target"].map(|name| folder.path().join(name));
        fs::create_dir(&data).unwrap();
        fs::write(&target, "untouched").unwrap();
        symlink(&target, data.join("format.new")).unwrap();
        drop(DataDir::open(&data).unwrap());
        assert_eq!(fs::read_to_string(data.join("format")).unwrap(), FORMAT);
        fs::remove_file(data.join("lock")).unwrap();
        symlink(&target, data.join("lock")).unwrap();
        let text = refusal(&data);
        assert!(text.contains("remove the link"), "{text}");
        assert_eq!(fs::read_to_string(&target).unwrap(), "untouched");
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
        let words = [
            (libc::EROFS, "read-only"),
            (libc::ENOSPC, "make room"),
            (libc::EMFILE, "ulimit -n"),
            (libc::ELOOP, "remove the link"),
        ];
        for (code, word) in words {
            assert!(advice(&io::Error::from_raw_os_error(code)).contains(word));
        }
    }
}
