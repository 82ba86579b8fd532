//! Which file imports which: paths resolved through `use`, `mod` and re-exports.

use crate::paths::{self, Named};
use crate::source::{Source, is_word};
use std::collections::{BTreeMap, BTreeSet};

/// A module is named by its segments below the root of its crate.
type ModulePath = Vec<String>;

/// How far re-exports of re-exports are followed.
const REEXPORTS_MAX: usize = 8;

/// The modules of one crate that are compiled without tests.
pub struct Crate<'s> {
    modules: BTreeMap<ModulePath, Module<'s>>,
}

struct Module<'s> {
    source: &'s Source,
    /// Names that a `use` brings in, with the path behind each; a glob has the name `*`.
    imported: Vec<(String, ModulePath)>,
    /// Every path with its line, `use` and others.
    paths: Vec<Named>,
}

/// An import: the file that is named and the line that names it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    pub file: String,
    pub line: usize,
}

impl<'s> Crate<'s> {
    /// The crate whose root stands in `folder`, for example `src/`. Leave out the files of tests.
    pub fn new(folder: &str, sources: &'s [Source]) -> Self {
        let files = sources.iter().filter_map(|source| {
            let path = module_path(source.path.strip_prefix(folder)?)?;
            Some((path, Module::new(source)))
        });
        Self { modules: files.collect() }
    }

    /// The imports of every file that is a module of this crate, without those of itself.
    pub fn imports(&self) -> BTreeMap<String, BTreeSet<Import>> {
        let files = self.modules.iter().map(|(path, module)| {
            let own = &module.source.path;
            let mut found = BTreeSet::new();
            // A single word is `mod name;`, a local name, or one that a `use` told already.
            for named in module.paths.iter().filter(|named| named.segments.len() > 1) {
                let file = self.resolve(path, &named.segments, REEXPORTS_MAX);
                if let Some(file) = file.filter(|file| file != own) {
                    found.insert(Import { file: file.to_owned(), line: named.line });
                }
            }
            (own.clone(), found)
        });
        files.collect()
    }

    /// The file that defines what `segments` names in the module `from`; `None` outside this crate.
    fn resolve(&self, from: &ModulePath, segments: &[String], depth: usize) -> Option<&str> {
        let first = segments.first()?;
        match first.as_str() {
            "crate" => return self.descend(Vec::new(), &segments[1..], depth),
            "self" => return self.descend(from.clone(), &segments[1..], depth),
            "super" => {
                let supers = segments.iter().take_while(|segment| *segment == "super").count();
                let base = from[..from.len().checked_sub(supers)?].to_vec();
                return self.descend(base, &segments[supers..], depth);
            }
            _ => {}
        }
        if self.modules.contains_key(&child(from, first)) {
            return self.descend(from.clone(), segments, depth);
        }
        let (_, target) = self.modules[from].imported.iter().find(|(name, _)| name == first)?;
        let target = [target.as_slice(), &segments[1..]].concat();
        // A name that stands for itself is that of another crate.
        (target != segments && depth > 0).then(|| self.resolve(from, &target, depth - 1)).flatten()
    }

    fn descend(&self, base: ModulePath, segments: &[String], depth: usize) -> Option<&str> {
        let Some(first) = segments.first() else {
            return self.modules.get(&base).map(|module| module.source.path.as_str());
        };
        let below = child(&base, first);
        if self.modules.contains_key(&below) {
            return self.descend(below, &segments[1..], depth);
        }
        let module = self.modules.get(&base)?;
        let own = module.source.path.as_str();
        if depth == 0 || module.defines(first) {
            return Some(own);
        }
        let again = |(name, path): &(String, ModulePath)| {
            let target = if name == "*" { child(path, first) } else { path.clone() };
            let file = self.resolve(&base, &target, depth - 1)?;
            // A glob leads to the item only if the file defines it.
            let defined = name != "*" || self.defined_in(file, first);
            defined.then_some(file)
        };
        let named = module.imported.iter().filter(|(name, _)| name == first);
        let globs = module.imported.iter().filter(|(name, _)| name == "*");
        named.chain(globs).find_map(again).or(Some(own))
    }

    fn defined_in(&self, file: &str, item: &str) -> bool {
        self.modules.values().any(|module| module.source.path == file && module.defines(item))
    }
}

impl<'s> Module<'s> {
    fn new(source: &'s Source) -> Self {
        let mut imported = Vec::new();
        let mut paths = paths::named(source);
        for (statement, public) in statements(source) {
            let tree = Source::new("", statement);
            for (name, path) in leaves(&tree) {
                if public && used_once(source, &name) {
                    // Passing a name on is no use of it.
                    paths.retain(|named| named.segments != path);
                }
                imported.push((name, path));
            }
        }
        Self { source, imported, paths }
    }

    fn defines(&self, item: &str) -> bool {
        let tokens = self.source.tokens();
        tokens.windows(2).any(|pair| {
            let keyword = matches!(
                pair[0].1,
                "struct" | "enum" | "union" | "trait" | "type" | "fn" | "const" | "static" | "mod"
            );
            keyword && pair[1].1 == item
        })
    }
}

/// `sessions/amqp/mod.rs` is `[sessions, amqp]`; a root is empty.
fn module_path(file: &str) -> Option<ModulePath> {
    let stem = file.strip_suffix(".rs")?;
    let mut path: Vec<_> = stem.split('/').map(str::to_owned).collect();
    let root = path.len() == 1 && matches!(path[0].as_str(), "lib" | "main");
    if root || path.last().is_some_and(|name| name == "mod") {
        path.pop();
    }
    Some(path)
}

fn child(base: &[String], name: &str) -> ModulePath {
    let mut path = base.to_vec();
    path.push(name.to_owned());
    path
}

/// Each `use …;` of the file, and whether it passes names on.
fn statements(source: &Source) -> Vec<(&str, bool)> {
    let tokens = source.tokens();
    let uses = tokens.iter().enumerate().filter(|(_, (_, token))| *token == "use");
    uses.filter_map(|(index, (at, _))| {
        let end = at + source.code[*at..].find(';')?;
        let before = index.checked_sub(1).map_or("", |before| tokens[before].1);
        let public = before == "pub" || before == ")";
        Some((&source.code[*at..=end], public))
    })
    .collect()
}

/// The names that a `use` brings in, each with its path.
fn leaves(tree: &Source) -> Vec<(String, ModulePath)> {
    let tokens = tree.tokens();
    let mut renamed = BTreeMap::new();
    for window in tokens.windows(3).filter(|window| window[1].1 == "as") {
        renamed.insert(window[0].1.to_owned(), window[2].1.to_owned());
    }
    let named = paths::named(tree).into_iter().map(|named| named.segments);
    let paths = named.filter(|path| path[0] != "use" && path[0] != "as");
    let alone =
        |path: &ModulePath| path.len() == 1 && renamed.values().any(|name| *name == path[0]);
    paths
        .filter(|path| !alone(path))
        .filter_map(|mut path| {
            if path.last().is_some_and(|last| last == "self") {
                path.pop();
            }
            let last = path.last()?;
            Some((renamed.get(last).unwrap_or(last).clone(), path))
        })
        .collect()
}

fn used_once(source: &Source, name: &str) -> bool {
    let whole = |at: usize| {
        let before = source.code[..at].chars().next_back();
        let behind = source.code[at + name.len()..].chars().next();
        !before.is_some_and(is_word) && !behind.is_some_and(is_word)
    };
    source.code.match_indices(name).filter(|(at, _)| whole(*at)).count() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `src/a/b.rs` imports, among these files.
    fn check(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<_> = files.iter().map(|(path, text)| Source::new(path, text)).collect();
        let imports = Crate::new("src/", &sources).imports();
        imports["src/a/b.rs"].iter().map(|import| import.file.clone()).collect()
    }

    fn beside(text: &str) -> Vec<String> {
        check(&[
            ("src/lib.rs", "mod a;"),
            ("src/a/mod.rs", "mod b; mod c; pub use c::Far; pub use self::d::*; pub struct Near;"),
            ("src/a/b.rs", text),
            ("src/a/c.rs", "pub struct Far; pub mod inner {}"),
            ("src/a/d.rs", "pub struct Wide;"),
            ("src/e.rs", ""),
        ])
    }

    #[test]
    fn an_import_leads_to_the_file_that_defines_the_item() {
        for (text, file) in [
            ("use super::c::Far;", "src/a/c.rs"),
            ("use super::c;", "src/a/c.rs"),
            ("use crate::a::{c::Far as X};", "src/a/c.rs"),
            ("use crate::a::Far;", "src/a/c.rs"),
            ("use super::{Far};", "src/a/c.rs"),
            ("use super::Wide;", "src/a/d.rs"),
            ("use super::Near;", "src/a/mod.rs"),
            ("use super::*;", "src/a/mod.rs"),
            ("fn f() { super::c::g() }", "src/a/c.rs"),
            ("fn f() { crate::e::g() }", "src/e.rs"),
            ("use super::super::e;", "src/e.rs"),
        ] {
            assert_eq!(beside(text), [file], "{text}");
        }
        let through = beside("use crate::a;\nfn f() -> a::Far { a::c::g() }");
        assert_eq!(through, ["src/a/c.rs", "src/a/mod.rs"]);
    }

    #[test]
    fn what_is_no_import_is_none() {
        for text in [
            "mod inner; use std::fmt;",
            "// use super::c;",
            "use c::Far; fn c() {}",
            "fn f() { Self::c(); self::f() }",
            "use model::Far;",
            "use a::b::C;",
        ] {
            assert_eq!(beside(text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn a_name_passed_on_is_imported_only_if_it_is_used_too() {
        let files = |text| [("src/a/b.rs", text), ("src/a/b/c.rs", "pub struct C;")];
        assert_eq!(check(&files("mod c; pub use c::C;")), Vec::<String>::new());
        let used = check(&files("mod c; pub use c::C; fn f(c: C) {}"));
        assert_eq!(used, ["src/a/b/c.rs"]);
    }
}
