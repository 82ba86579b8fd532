//! At most so many files in a folder of the product.

use crate::source::File;
use std::collections::BTreeMap;

const FILES_MAX: usize = 14;
const PRODUCT: [&str; 2] = ["src/", "loadgen/src/"];

pub fn complaints(files: &[File]) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for file in files.iter().filter(|file| PRODUCT.iter().any(|at| file.path.starts_with(at))) {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        *counts.entry(folder).or_default() += 1;
    }
    let full = counts.iter().filter(|(_, count)| **count > FILES_MAX);
    full.map(|(folder, count)| format!("{folder}: {count} files, at most {FILES_MAX}")).collect()
}

#[test]
fn a_full_folder_is_found() {
    let files = |folder: &str, count: usize| -> Vec<File> {
        let file = |index| File { path: format!("{folder}/{index}.rs"), text: String::new() };
        (0..count).map(file).collect()
    };
    assert_eq!(complaints(&files("src/a", 14)), Vec::<String>::new());
    assert_eq!(complaints(&files("src/a", 15)), ["src/a: 15 files, at most 14"]);
    assert_eq!(complaints(&files("loadgen/src", 15)).len(), 1);
    assert_eq!(complaints(&files("tests/a", 15)), Vec::<String>::new());
    let apart = [files("src/a", 14), files("src/a/b", 14)].concat();
    assert_eq!(complaints(&apart), Vec::<String>::new());
}
