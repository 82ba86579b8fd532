//! The rules of the house, as a test: floors, purity, sizes, reachability, words and manifests.
//!
//! [`source`] reads files and blanks what is no code, [`paths`] lists the paths code names,
//! [`floors`] holds them against the order of rooms, [`imports`] finds the file behind each and
//! [`circles`] looks for circles of them, [`shape`] and [`folders`] measure, [`types`] looks for
//! names with two meanings, [`reach`] follows `mod`, [`words`] and [`banned`] look at every text
//! file, [`docs`] at what documents name, [`map`] and [`tour`] at ARCHITECTURE.md, [`mutants`] at
//! the deliberate faults, [`manifests`] at what Cargo is told. Each check returns complaints;
//! beside each stands a test that it can complain.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod banned;
mod circles;
mod docs;
mod floors;
mod folders;
mod imports;
mod manifests;
mod map;
mod markdown;
mod mutants;
mod paths;
mod reach;
mod shape;
mod source;
mod tour;
mod types;
mod words;

use source::{File, Source};
use std::sync::LazyLock;

static FILES: LazyLock<Vec<File>> = LazyLock::new(source::repository);
static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(sources);

fn sources() -> Vec<Source> {
    let sources: Vec<_> = FILES.iter().filter_map(Source::of).collect();
    assert!(sources.len() > 20, "the repository was not found");
    sources
}

/// Fails with all complaints.
fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn a_room_imports_only_rooms_above_it() {
    none(&floors::complaints(&SOURCES));
}

#[test]
fn no_files_of_a_room_import_one_another() {
    none(&circles::complaints(&SOURCES));
}

#[test]
fn files_functions_and_lines_have_their_size() {
    none(&shape::complaints(&SOURCES));
}

#[test]
fn folders_have_at_most_14_files() {
    none(&folders::complaints(&FILES));
}

#[test]
fn a_type_name_has_one_meaning() {
    none(&types::complaints(&SOURCES));
}

#[test]
fn every_file_is_reached() {
    let manifests: Vec<&File> =
        FILES.iter().filter(|file| file.path.ends_with("Cargo.toml")).collect();
    none(&reach::complaints(&SOURCES, &manifests));
}

#[test]
fn no_text_holds_a_marker_or_a_place() {
    none(&words::complaints(&FILES));
}

#[test]
fn every_text_uses_the_words_of_the_field() {
    none(&banned::complaints(&FILES));
}

#[test]
fn what_documents_name_exists() {
    none(&docs::complaints(&FILES));
}

#[test]
fn the_architecture_is_a_map() {
    none(&map::complaints(&FILES));
}

#[test]
fn the_tour_of_one_publish_is_short() {
    none(&tour::complaints(&FILES, &SOURCES));
}

#[test]
fn a_mutant_stands_in_one_place() {
    none(&mutants::complaints(&SOURCES));
}

#[test]
fn manifests_know_no_higher_crate() {
    none(&manifests::complaints(&FILES));
}
