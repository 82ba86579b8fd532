//! Every file of Rust is reached by a `mod` from a file that Cargo builds.

use crate::source::{File, Source};
use std::collections::{BTreeMap, BTreeSet};

pub fn complaints(sources: &[Source], manifests: &[&File]) -> Vec<String> {
    let by_path: BTreeMap<_, _> =
        sources.iter().map(|source| (source.path.as_str(), source)).collect();
    let mut reached = BTreeSet::new();
    let mut open: Vec<_> = sources
        .iter()
        .filter(|source| manifests.iter().any(|manifest| is_root(&source.path, manifest)))
        .map(|source| (source.path.clone(), true))
        .collect();
    while let Some((path, root)) = open.pop() {
        let Some(source) = by_path.get(path.as_str()) else {
            continue;
        };
        if reached.insert(path) {
            let modules = modules(source, root).into_iter();
            open.extend(modules.flatten().map(|path| (path, false)));
        }
    }
    let lost = sources.iter().filter(|source| !reached.contains(&source.path));
    lost.map(|source| format!("{}: no mod leads to it", source.path)).collect()
}

/// Whether Cargo takes the file as the root of a target of this package.
fn is_root(path: &str, manifest: &File) -> bool {
    let Some(folder) = manifest.path.strip_suffix("Cargo.toml") else {
        return false;
    };
    let Some(inner) = path.strip_prefix(folder) else {
        return false;
    };
    let written = manifest.text.lines().filter_map(|line| line.trim().strip_prefix("path = \""));
    let mut written = written.filter_map(|rest| rest.split('"').next());
    let found = matches!(
        inner.split('/').collect::<Vec<_>>()[..],
        ["build.rs"]
            | ["src", "lib.rs" | "main.rs"]
            | ["src", "bin", _]
            | ["tests" | "benches" | "examples", _]
            | ["tests" | "benches" | "examples", _, "main.rs"]
    );
    found || written.any(|root| root == inner)
}

/// The files that each `mod name;` may mean.
fn modules(source: &Source, root: bool) -> Vec<Vec<String>> {
    let (folder, name) = source.path.rsplit_once('/').unwrap_or((".", &source.path));
    let below = match name.strip_suffix(".rs") {
        Some(stem) if !root && stem != "mod" => format!("{folder}/{stem}"),
        _ => folder.to_owned(),
    };
    let tokens = source.tokens();
    let declared = tokens.windows(3).filter(|window| window[0].1 == "mod" && window[2].1 == ";");
    declared
        .map(|window| match path_attribute(source, window[0].0) {
            Some(path) => vec![without_dots(&format!("{folder}/{path}"))],
            None => {
                let name = window[1].1;
                vec![format!("{below}/{name}.rs"), format!("{below}/{name}/mod.rs")]
            }
        })
        .collect()
}

/// `a/../b` is `b`.
fn without_dots(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The path that `#[path = "…"]` gives to the `mod` at this offset.
fn path_attribute(source: &Source, at: usize) -> Option<&str> {
    let start = source.code[..at].rfind([';', '}', '{']).map_or(0, |end| end + 1);
    let attribute = source.code[start..at].find("#[path =")?;
    source.text[start + attribute..].split('"').nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)]) -> Vec<String> {
        let root = File { path: "Cargo.toml".to_owned(), text: String::new() };
        let text = "[lib]\npath = \"lib.rs\"\n".to_owned();
        let inner = File { path: "src/amqp/Cargo.toml".to_owned(), text };
        let sources: Vec<_> = files.iter().map(|(path, text)| Source::new(path, text)).collect();
        complaints(&sources, &[&root, &inner])
    }

    #[test]
    fn a_file_without_a_way_to_it_is_found() {
        let lost = |path: &str| vec![format!("{path}: no mod leads to it")];
        assert_eq!(check(&[("src/lib.rs", "mod a;"), ("src/b.rs", "")]), lost("src/b.rs"));
        assert_eq!(check(&[("src/lib.rs", "// mod b;"), ("src/b.rs", "")]), lost("src/b.rs"));
        let beside = [("src/lib.rs", "mod a;"), ("src/a.rs", "mod c;"), ("src/c.rs", "")];
        assert_eq!(check(&beside), lost("src/c.rs"));
        let helper = [("tests/x/main.rs", "mod y;"), ("tests/x/z.rs", "")];
        assert_eq!(check(&helper), lost("tests/x/z.rs"));
        let pathed = [("src/amqp/lib.rs", "#[path = \"u.rs\"] mod t;"), ("src/amqp/t.rs", "")];
        assert_eq!(check(&pathed), lost("src/amqp/t.rs"));
        // Two modules that only name each other.
        let ring = [("src/lib.rs", ""), ("src/a.rs", "mod b;"), ("src/a/b.rs", "mod a;")];
        assert_eq!(check(&ring).len(), 2);
    }

    #[test]
    fn the_ways_that_cargo_knows_are_followed() {
        let files = [
            ("build.rs", ""),
            ("benches/x.rs", ""),
            ("tests/x.rs", "mod shared;"),
            ("tests/shared/mod.rs", ""),
            ("tests/y/main.rs", "mod z;"),
            ("tests/y/z.rs", "#[path = \"../shared/w.rs\"]\nmod w;"),
            ("tests/shared/w.rs", ""),
            ("src/main.rs", ""),
            ("src/lib.rs", "pub mod a;\n#[cfg(test)]\nmod b;"),
            ("src/a/mod.rs", "mod c;"),
            ("src/a/c.rs", "pub(crate) mod d;"),
            ("src/a/c/d.rs", ""),
            ("src/b.rs", ""),
            ("src/amqp/lib.rs", "mod e;"),
            ("src/amqp/e.rs", "#[cfg(test)]\n#[path = \"e_test.rs\"]\nmod tests;"),
            ("src/amqp/e_test.rs", ""),
        ];
        assert_eq!(check(&files), Vec::<String>::new());
    }
}
