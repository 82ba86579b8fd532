//! The layout of loadgen's source: no import circle of files, small folders, unique type names.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The most files in one folder, `mod.rs` included.
const FILES_MAX: usize = 14;

/// Files by module path, such as `["run", "setup"]`; their code without tests and comments.
type Modules = BTreeMap<Vec<String>, String>;

#[test]
fn no_file_imports_a_file_that_imports_it() {
    assert_eq!(circle(&modules()), None);
}

#[test]
fn folders_have_at_most_14_files() {
    let mut counts: BTreeMap<Vec<String>, usize> = BTreeMap::new();
    for path in files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        *counts.entry(path[..path.len() - 1].to_vec()).or_default() += 1;
    }
    assert!(counts.len() > 10, "the source was not found");
    let large: Vec<_> = counts.iter().filter(|(_, count)| **count > FILES_MAX).collect();
    assert!(large.is_empty(), "{large:?}");
}

#[test]
fn no_type_name_is_used_twice() {
    let mut seen = BTreeMap::new();
    for (module, code) in modules() {
        let declared = code.lines().filter_map(|line| {
            let line = line.strip_prefix("pub ").unwrap_or(line);
            let line = ["struct ", "enum ", "trait ", "type "]
                .iter()
                .find_map(|keyword| line.strip_prefix(keyword))?;
            line.split(|c: char| !is_word(c)).next()
        });
        for name in declared {
            let before = seen.insert(name.to_owned(), module.clone());
            assert_eq!(before, None, "{name} is also in {module:?}");
        }
    }
    assert!(seen.len() > 50, "the source was not found");
}

#[test]
fn a_circle_is_found() {
    let modules = |codes: &[(&str, &str)]| -> Modules {
        let path = |text: &str| text.split("::").map(str::to_owned).collect();
        codes.iter().map(|(name, code)| (path(name), (*code).to_owned())).collect()
    };
    let found = |codes: &[(&str, &str)]| circle(&modules(codes)).is_some();
    let (to_b, to_c, to_a) = (
        "use crate::x::b::B;",
        "use crate::{\n    x::c::{self, C},\n};",
        "use super::super::x::a::A;",
    );
    assert!(found(&[("x::a", to_b), ("x::b", to_c), ("x::c", to_a)]));
    assert!(!found(&[("x::a", to_b), ("x::b", to_c), ("x::c", "use crate::y::A;")]));
    assert!(found(&[("x::a", "fn f() { crate::x::b::g() }"), ("x::b", "use super::a::A;")]));
}

fn modules() -> Modules {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let production = files(&root).into_iter().filter(|path| !path.concat().ends_with("_test.rs"));
    production
        .map(|path| {
            let text = fs::read_to_string(root.join(path.join("/"))).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
            (module(path), code.collect::<Vec<_>>().join("\n"))
        })
        .collect()
}

/// The parts of every Rust file's path below `root`.
fn files(root: &Path) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            let inner = files(&entry.path()).into_iter();
            found.extend(inner.map(|path| [vec![name.clone()], path].concat()));
        } else if name.ends_with(".rs") {
            found.push(vec![name]);
        }
    }
    found
}

fn module(mut path: Vec<String>) -> Vec<String> {
    let file = path.pop().unwrap();
    if !["mod.rs", "main.rs"].contains(&file.as_str()) {
        path.push(file.trim_end_matches(".rs").to_owned());
    }
    path
}

/// A file that is reached by its own imports.
fn circle(modules: &Modules) -> Option<Vec<String>> {
    let imports: BTreeMap<_, _> =
        modules.iter().map(|(module, code)| (module, imports(module, code, modules))).collect();
    modules.keys().find(|start| reaches_itself(start, &imports)).cloned()
}

fn reaches_itself(
    start: &Vec<String>,
    imports: &BTreeMap<&Vec<String>, BTreeSet<Vec<String>>>,
) -> bool {
    let mut open: Vec<_> = imports[start].iter().collect();
    let mut seen = BTreeSet::new();
    while let Some(module) = open.pop() {
        if module == start {
            return true;
        }
        if seen.insert(module) {
            open.extend(&imports[module]);
        }
    }
    false
}

/// The modules that the paths in `code` lead to, except itself.
fn imports(own: &[String], code: &str, modules: &Modules) -> BTreeSet<Vec<String>> {
    let paths = paths(code).into_iter().filter_map(|path| absolute(own, &path));
    let targets = paths.filter_map(|path| {
        (1..=path.len())
            .rev()
            .map(|len| path[..len].to_vec())
            .find(|path| modules.contains_key(path))
    });
    targets.filter(|target| target != own).collect()
}

fn absolute(own: &[String], path: &[String]) -> Option<Vec<String>> {
    let supers = path.iter().take_while(|part| *part == "super").count();
    match path[0].as_str() {
        "crate" => Some(path[1..].to_vec()),
        "super" => Some([&own[..own.len().checked_sub(supers)?], &path[supers..]].concat()),
        _ => None,
    }
}

/// Every path in the code; of a `use` tree, every leaf with its prefix.
fn paths(code: &str) -> Vec<Vec<String>> {
    let spaced = code.replace("::{", " ::{ ").replace('}', " } ").replace(',', " , ");
    let mut prefixes: Vec<Vec<String>> = Vec::new();
    let (mut found, mut last) = (Vec::new(), Vec::new());
    for word in spaced.split(|c: char| c.is_whitespace() || "();<>&[]".contains(c)) {
        match word {
            "::{" => prefixes.push(std::mem::take(&mut last)),
            "{" => prefixes.push(Vec::new()),
            "}" => drop(prefixes.pop()),
            word if word.starts_with(is_word) => {
                let parts = word.split("::").map(str::to_owned);
                last = prefixes.last().into_iter().flatten().cloned().chain(parts).collect();
                found.push(last.clone());
            }
            _ => {}
        }
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
