//! The folder of the metadata log, as the operations that the log needs.

use crate::store::op::DiskError;

/// A folder with files by name. A call has its effect before it returns, but that is on stable
/// storage only after a sync: of the file for its bytes, of the folder for its name.
pub trait Folder {
    /// The names of all files, in no order.
    ///
    /// # Errors
    ///
    /// The system's.
    fn list(&mut self) -> Result<Vec<String>, DiskError>;
    /// All bytes of a file.
    ///
    /// # Errors
    ///
    /// The system's.
    fn read(&mut self, name: &str) -> Result<Vec<u8>, DiskError>;
    /// Writes at offset `at` of a file, which is created if it does not exist. A write that failed
    /// may have written some of the bytes.
    ///
    /// # Errors
    ///
    /// The system's; only if [`DiskError::may_retry`] is true is the write tried again.
    fn write(&mut self, name: &str, at: u64, bytes: &[u8]) -> Result<(), DiskError>;
    /// Cuts a file to its first `len` bytes.
    ///
    /// # Errors
    ///
    /// The system's.
    fn cut(&mut self, name: &str, len: u64) -> Result<(), DiskError>;
    /// Puts a file's bytes on stable storage.
    ///
    /// # Errors
    ///
    /// The system's, never one that [`DiskError::may_retry`] allows: a sync that failed is not
    /// tried again.
    fn sync(&mut self, name: &str) -> Result<(), DiskError>;
    /// Renames a file.
    ///
    /// # Errors
    ///
    /// The system's.
    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError>;
    /// Removes a file, if it exists.
    ///
    /// # Errors
    ///
    /// The system's.
    fn remove(&mut self, name: &str) -> Result<(), DiskError>;
    /// Puts the names of files on stable storage.
    ///
    /// # Errors
    ///
    /// As for [`Self::sync`].
    fn sync_folder(&mut self) -> Result<(), DiskError>;
    /// The file's path for error messages.
    fn path(&self, name: &str) -> String;
}
