//! Words that no text of the repository holds: markers of unfinished work and of unresolved merges,
//! and paths of the machine it was written on.

use crate::source::{File, is_word};

/// Written in two parts, so that this file does not hold them.
const MARKERS: [&str; 4] =
    [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];
/// The beginnings of lines that git writes around a conflict.
const CONFLICTS: [&str; 3] =
    [concat!("<<<<", "<<< "), concat!("||||", "||| "), concat!(">>>>", ">>> ")];
const PLACES: [&str; 2] = [concat!("/wo", "rk/"), concat!("/ro", "ot/")];

pub fn complaints(files: &[File]) -> Vec<String> {
    files.iter().flat_map(file).collect()
}

fn file(file: &File) -> Vec<String> {
    let mut complaints = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        let markers = MARKERS.iter().filter(|marker| has(line, marker, is_word));
        let places = PLACES.iter().filter(|place| has(line, place, is_part_of_path));
        let conflicts = CONFLICTS.iter().filter(|start| line.starts_with(**start));
        for found in markers.chain(places).chain(conflicts) {
            complaints.push(format!("{}:{}: says {found}", file.path, index + 1));
        }
    }
    complaints
}

fn is_part_of_path(char: char) -> bool {
    is_word(char) || matches!(char, '-' | '.' | '}' | '$')
}

/// Whether the word stands in the line with nothing joined to its front, nor to a last letter.
fn has(line: &str, word: &str, joins: fn(char) -> bool) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let behind = line[at + word.len()..].chars().next();
        let open = word.ends_with(is_word) && behind.is_some_and(is_word);
        !before.is_some_and(joins) && !open
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> usize {
        let path = "docs/a.md".to_owned();
        complaints(&[File { path, text: text.to_owned() }]).len()
    }

    #[test]
    fn markers_are_found() {
        for marker in MARKERS {
            assert_eq!(check(&format!("fine\n// {marker}: later")), 1, "{marker}");
            assert_eq!(check(&format!("A{marker}, {marker}S, {marker}_")), 0, "{marker}");
        }
    }

    #[test]
    fn conflicts_are_found() {
        for start in CONFLICTS {
            assert_eq!(check(&format!("a\n{start}main\n")), 1, "{start}");
            assert_eq!(check(&format!("a {start}main\n")), 0, "{start}");
        }
    }

    #[test]
    fn places_are_found() {
        for place in PLACES {
            assert_eq!(check(&format!("see {place}x")), 1, "{place}");
            assert_eq!(check(&format!("\"{place}x\"")), 1, "{place}");
        }
        let inner = PLACES[0];
        assert_eq!(check(&format!("http://example.com{inner}x and frame{inner}x")), 0);
    }
}
