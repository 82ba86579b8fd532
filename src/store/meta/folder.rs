//! What the log of metadata asks of the folder it has for itself.

use crate::store::op::Failure;

/// A folder whose files are named without it. Everything is done when the call returns, but what is
/// written, renamed or removed is on stable storage only when the file, or the folder, was synced.
pub trait Folder {
    /// The names of all files, in no order.
    ///
    /// # Errors
    ///
    /// The system's.
    fn list(&mut self) -> Result<Vec<String>, Failure>;
    /// All octets of a file.
    ///
    /// # Errors
    ///
    /// The system's.
    fn read(&mut self, name: &str) -> Result<Vec<u8>, Failure>;
    /// Writes behind the first `at` octets of a file, which is made if it does not exist. A write
    /// that failed may have left some of the octets there.
    ///
    /// # Errors
    ///
    /// The system's; only if it is [`Failure::full`] is the write tried once more.
    fn write(&mut self, name: &str, at: u64, octets: &[u8]) -> Result<(), Failure>;
    /// Cuts a file to its first `len` octets.
    ///
    /// # Errors
    ///
    /// The system's.
    fn cut(&mut self, name: &str, len: u64) -> Result<(), Failure>;
    /// Waits until a file's octets are on stable storage.
    ///
    /// # Errors
    ///
    /// The system's, never [`Failure::full`]: a sync that failed is not tried once more.
    fn sync(&mut self, name: &str) -> Result<(), Failure>;
    /// Gives a file another name.
    ///
    /// # Errors
    ///
    /// The system's.
    fn rename(&mut self, from: &str, to: &str) -> Result<(), Failure>;
    /// Removes a file, if it exists.
    ///
    /// # Errors
    ///
    /// The system's.
    fn remove(&mut self, name: &str) -> Result<(), Failure>;
    /// Waits until the names of files are on stable storage.
    ///
    /// # Errors
    ///
    /// The system's, never [`Failure::full`].
    fn sync_folder(&mut self) -> Result<(), Failure>;
    /// The file's path as people are told it.
    fn path(&self, name: &str) -> String;
}
