//! Finds files of the data folder that other users of the machine may access.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Permission bits of group and others.
const OTHERS: u32 = 0o077;

/// Files of the data folder that group or others may access.
#[derive(Debug, PartialEq, Eq)]
pub struct Wide {
    /// The data folder.
    folder: PathBuf,
    /// The first such file or folder.
    first: PathBuf,
    /// Its permission bits.
    mode: u32,
    /// The number of others.
    more: usize,
}

impl fmt::Display for Wide {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { folder, first, mode, more } = self;
        let more = match more {
            0 => String::new(),
            more => format!(" and {more} more in it"),
        };
        let (first, folder) = (first.display(), folder.display());
        write!(
            out,
            "{first} (mode {mode:04o}){more} can be accessed by other users of this machine; it \
             holds messages and password hashes: run `chmod -R go= {folder}`"
        )
    }
}

/// Looks for files and folders that group or others may access: the data folder, its folders, and
/// the files in these.
///
/// # Errors
///
/// The system's.
pub fn wide(folder: &Path) -> io::Result<Option<Wide>> {
    let mut found: Option<Wide> = None;
    let mut folders = vec![folder.to_owned()];
    look(folder, &mut found, folder)?;
    while let Some(inner) = folders.pop() {
        for entry in fs::read_dir(&inner)? {
            let path = entry?.path();
            look(folder, &mut found, &path)?;
            if inner == folder && path.is_dir() {
                folders.push(path);
            }
        }
    }
    Ok(found)
}

fn look(folder: &Path, found: &mut Option<Wide>, path: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    let mode = metadata.permissions().mode() & 0o7777;
    // The mode of a link has no meaning.
    if metadata.is_symlink() || mode & OTHERS == 0 {
        return Ok(());
    }
    match found {
        Some(found) => found.more += 1,
        None => {
            let (folder, first) = (folder.to_owned(), path.to_owned());
            *found = Some(Wide { folder, first, mode, more: 0 });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use crate::runtime::disk::access::{create_folder, replace};
    use crate::runtime::disk::permissions::*;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_others_may_access_is_found_at_every_depth() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("log");
        create_folder(&inner).unwrap();
        let file = inner.join("file");
        replace(&file).unwrap();
        symlink(&file, folder.path().join("link")).unwrap();
        chmod(folder.path(), 0o700);
        assert_eq!(wide(folder.path()).unwrap(), None);
        chmod(&file, 0o640);
        let text = wide(folder.path()).unwrap().unwrap().to_string();
        assert!(text.starts_with(&format!("{} (mode 0640) can be", file.display())), "{text}");
        assert!(text.ends_with(&format!("`chmod -R go= {}`", folder.path().display())), "{text}");
        chmod(folder.path(), 0o755);
        let text = wide(folder.path()).unwrap().unwrap().to_string();
        assert!(text.contains("(mode 0755) and 1 more in it"), "{text}");
    }
}
