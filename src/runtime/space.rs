//! How much is free where the data folder is.

use std::io;
use std::path::Path;

/// Octets that this process may still use on the file system of that folder.
///
/// # Errors
///
/// The system's.
pub fn free(folder: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(folder)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}
