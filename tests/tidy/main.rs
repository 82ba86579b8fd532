//! The rules of the house, as a test: floors, purity, sizes, reachability, words and manifests.
//!
//! [`source`] reads files and blanks what is no code, [`paths`] lists the paths code names,
//! [`floors`] holds them against the order of rooms, [`shape`] measures, [`reach`] follows `mod`,
//! [`words`] looks at every text file and [`manifests`] at what Cargo is told. Each check returns
//! complaints; beside each stands a test that it can complain.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod floors;
mod manifests;
mod paths;
mod reach;
mod shape;
mod source;
mod words;

use source::{File, Source};

#[test]
fn the_tree_is_tidy() {
    let files = source::repository();
    let sources: Vec<Source> = files.iter().filter_map(Source::of).collect();
    let manifests: Vec<&File> =
        files.iter().filter(|file| file.path.ends_with("Cargo.toml")).collect();
    let complaints = [
        floors::complaints(&sources),
        shape::complaints(&sources),
        reach::complaints(&sources, &manifests),
        words::complaints(&files),
        manifests::complaints(&files),
    ]
    .concat();
    assert!(sources.len() > 20, "the repository was not found");
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}
