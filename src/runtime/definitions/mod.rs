//! Definitions that a start imports: read from a file or a folder, made durable in one batch.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use model::access::defaults::VhostDefaults;

use super::probe::StartError;
use crate::coordinator::definitions;
use crate::runtime::disk::meta::MetaFolder;
use crate::store::meta::MetaLog;

/// The most bytes that all files together may have.
const BYTES_MAX: u64 = 256 << 20;

/// Imports a file, or every file of a folder that ends in `.json`, in the order of names.
///
/// # Errors
/// [`StartError::Definitions`]; then nothing was imported.
pub fn load(
    path: &Path,
    defaults: &VhostDefaults,
    meta: &mut MetaLog<MetaFolder>,
) -> Result<(), StartError> {
    let refused = |why: String| StartError::Definitions { path: path.display().to_string(), why };
    let texts = read(path).map_err(|why| refused(why.to_string()))?;
    let import = definitions::import(meta.state(), defaults, &texts);
    let import = import.map_err(|why| refused(why.to_string()))?;
    import.warnings.iter().for_each(|warning| tracing::warn!("load_definitions: {warning}"));
    meta.append(&import.facts).map_err(|why| refused(why.to_string()))?;
    tracing::info!("{}: {} changes imported", path.display(), import.facts.len());
    Ok(())
}

fn read(path: &Path) -> io::Result<Vec<String>> {
    let mut left = BYTES_MAX;
    files(path)?.iter().map(|file| read_file(file, &mut left)).collect()
}

fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path()));
    let mut files = entries.collect::<io::Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|end| end == "json"));
    files.sort_unstable();
    Ok(files)
}

fn read_file(file: &Path, left: &mut u64) -> io::Result<String> {
    let mut text = String::new();
    let read = fs::File::open(file)?.take(*left + 1).read_to_string(&mut text)? as u64;
    *left = left
        .checked_sub(read)
        .ok_or_else(|| io::Error::other(format!("the files have more than {BYTES_MAX} bytes")))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folders_files_come_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("b.json", "2"), ("a.json", "1"), ("c.txt", "3")] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        assert_eq!(read(folder.path()).unwrap(), ["1", "2"]);
        assert_eq!(read(&folder.path().join("c.txt")).unwrap(), ["3"]);
        assert!(read(&folder.path().join("d")).is_err());
        let mut left = 0;
        assert!(read_file(&folder.path().join("a.json"), &mut left).is_err());
    }
}
