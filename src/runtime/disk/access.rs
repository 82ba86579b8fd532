//! Opens files of the data folder: never through a symbolic link, and created for their owner only,
//! since they hold message bodies and password hashes.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Mode of created files.
const FILE_MODE: u32 = 0o600;
/// Mode of created folders.
const FOLDER_MODE: u32 = 0o700;

/// Options to read and write a file that exists. Fails with ELOOP if the name is a link.
#[must_use]
pub fn existing() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(FILE_MODE).custom_flags(libc::O_NOFOLLOW);
    options
}

/// As [`existing`]; a file that does not exist is created. Its contents stay.
#[must_use]
pub fn existing_or_new() -> OpenOptions {
    let mut options = existing();
    options.create(true).truncate(false);
    options
}

/// Creates a file. A file or link with its name is removed before.
///
/// # Errors
///
/// The system's.
pub fn replace(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => existing().create_new(true).open(path),
    }
}

/// Creates a folder whose parent exists, unless the folder exists.
///
/// # Errors
///
/// The system's.
pub fn create_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(FOLDER_MODE).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        created => created,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use crate::runtime::disk::access::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn created_files_and_folders_are_for_the_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let [inner, first, second] = ["inner", "first", "second"].map(|n| folder.path().join(n));
        create_folder(&inner).unwrap();
        create_folder(&inner).unwrap();
        existing_or_new().open(&first).unwrap();
        replace(&second).unwrap();
        assert_eq!([mode(&inner), mode(&first), mode(&second)], [0o700, 0o600, 0o600]);
    }

    #[test]
    fn links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let [target, link] = ["target", "link"].map(|name| folder.path().join(name));
        fs::write(&target, "untouched").unwrap();
        symlink(&target, &link).unwrap();
        for options in [existing(), existing_or_new()] {
            let error = options.open(&link).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
        }
        replace(&link).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_file());
        assert_eq!(fs::read_to_string(&target).unwrap(), "untouched");
    }
}
