//! What the configuration gives the broker before it starts: definitions, read from a file or a
//! folder and made durable in one batch, users and a name.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use model::access::defaults::VhostDefaults;
use model::{Entropy, Name};

use super::probe::StartError;
use crate::config::Config;
use crate::coordinator::definitions::{self, ImportRules};
use crate::runtime::disk::meta::MetaFolder;
use crate::store::meta::MetaLog;

/// The most bytes that all files together may have.
const BYTES_MAX: u64 = 256 << 20;
/// The name of the cluster that clients are told if no definitions file gives one.
const CLUSTER_NAME: &str = "ringtail";

/// What the parts of the broker are made with.
#[derive(Debug, Default)]
pub struct GivenState {
    /// What new vhosts get.
    pub vhost_defaults: VhostDefaults,
    /// The name of the cluster.
    pub cluster_name: Name,
}

/// Imports the definitions that the configuration names, and says what else it gives.
///
/// # Errors
/// [`StartError::Definitions`], and then nothing was imported; [`StartError::DefaultPass`].
pub fn load(
    config: &Config,
    entropy: Entropy,
    meta: &mut MetaLog<MetaFolder>,
) -> Result<GivenState, StartError> {
    let (mut salts, validator) = (entropy.salts(), config.credentials.validator());
    let mut defaults = config.vhost_defaults.clone();
    defaults.users.values_mut().for_each(|user| user.salt = salts.bytes());
    if let Some(path) = &config.load_definitions {
        let rules = ImportRules { defaults: &defaults, validator: &validator, salts: &mut salts };
        import(path, rules, meta)?;
    }
    if meta.state().is_empty() {
        // The first user is about to be made.
        validator.check(config.default_pass.expose())?;
    }
    let name = definitions::cluster_name(meta.state());
    let cluster_name = name.unwrap_or_else(|| CLUSTER_NAME.into());
    Ok(GivenState { vhost_defaults: defaults, cluster_name })
}

/// Imports a file, or every file of a folder that ends in `.json`, in the order of names.
fn import(
    path: &Path,
    rules: ImportRules<'_>,
    meta: &mut MetaLog<MetaFolder>,
) -> Result<(), StartError> {
    let refused = |why: String| StartError::Definitions { path: path.display().to_string(), why };
    let texts = read(path).map_err(|why| refused(why.to_string()))?;
    let import = definitions::import(meta.state(), rules, &texts);
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
