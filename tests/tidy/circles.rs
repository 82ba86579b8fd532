//! No circle of imports among the files of a room.

use crate::imports::{Crate, Import};
use crate::source::Source;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The folder of a crate and the rooms in it that have no circle.
const ROOMS: [(&str, &str); 6] = [
    ("src/", "src/mesh/"),
    ("src/", "src/coordinator/"),
    ("src/", "src/queues/"),
    ("src/", "src/sessions/"),
    ("src/", "src/shard/"),
    ("loadgen/src/", "loadgen/src/"),
];

type Imports = BTreeMap<String, BTreeSet<Import>>;

pub fn complaints(sources: &[Source]) -> Vec<String> {
    let product: Vec<_> =
        sources.iter().filter(|source| !source.is_test()).map(Source::without_tests).collect();
    let folders: BTreeSet<_> = ROOMS.iter().map(|(folder, _)| *folder).collect();
    let imports: BTreeMap<_, _> =
        folders.iter().map(|folder| (*folder, Crate::new(folder, &product).imports())).collect();
    ROOMS.iter().flat_map(|(folder, room)| circles(room, &imports[folder])).collect()
}

/// A complaint for each group of files that import one another, with one of its circles.
fn circles(room: &str, imports: &Imports) -> Vec<String> {
    let mut told = BTreeSet::new();
    let mut complaints = Vec::new();
    for file in imports.keys().filter(|file| file.starts_with(room)) {
        if told.contains(file) {
            continue;
        }
        let Some(circle) = way(room, imports, file, file) else { continue };
        let together = imports.keys().filter(|other| {
            way(room, imports, file, other).is_some() && way(room, imports, other, file).is_some()
        });
        let together: Vec<_> = together.cloned().collect();
        let count = together.len();
        complaints.push(format!("{}; {count} files import one another", circle.join(" -> ")));
        told.extend(together);
    }
    complaints
}

/// The shortest way of imports between two files of a room, each step with its line.
fn way(room: &str, imports: &Imports, from: &str, to: &str) -> Option<Vec<String>> {
    let mut before: BTreeMap<&str, &str> = BTreeMap::new();
    let mut open = VecDeque::from([from]);
    while let Some(file) = open.pop_front() {
        for import in imports.get(file)? {
            let next = import.file.as_str();
            if next.starts_with(room) && !before.contains_key(next) {
                before.insert(next, file);
                open.push_back(next);
            }
        }
    }
    let mut steps = vec![to.to_owned()];
    let mut file = to;
    loop {
        let importer = *before.get(file)?;
        let line = imports[importer].iter().find(|import| import.file == file)?.line;
        steps.push(format!("{importer}:{line}"));
        if importer == from {
            steps.reverse();
            return Some(steps);
        }
        file = importer;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<_> = files.iter().map(|(path, text)| Source::new(path, text)).collect();
        complaints(&sources)
    }

    #[test]
    fn a_circle_is_found() {
        let two = [
            ("src/mesh/mod.rs", "mod a; mod b; mod c;"),
            ("src/mesh/a.rs", "\nuse super::b::B;"),
            ("src/mesh/b.rs", "use crate::mesh::a;"),
            ("src/mesh/c.rs", "use super::a;"),
        ];
        let circle =
            "src/mesh/a.rs:2 -> src/mesh/b.rs:1 -> src/mesh/a.rs; 2 files import one another";
        assert_eq!(check(&two), [circle]);
        let parent = [
            ("src/queues/mod.rs", "mod a; use a::A; pub struct B;"),
            ("src/queues/a.rs", "fn f() { super::B }"),
        ];
        assert_eq!(check(&parent).len(), 1);
        let through_parent = [
            ("src/queues/mod.rs", "mod a; mod b; pub use a::A; pub use b::B;"),
            ("src/queues/a.rs", "use super::B;"),
            ("src/queues/b.rs", "use super::A;"),
        ];
        assert_eq!(check(&through_parent).len(), 1);
        let three = [
            ("loadgen/src/a.rs", "use crate::b;"),
            ("loadgen/src/b.rs", "use crate::c::d;"),
            ("loadgen/src/c/mod.rs", ""),
            ("loadgen/src/c/d.rs", "use crate::a;"),
        ];
        assert!(check(&three)[0].ends_with("3 files import one another"));
    }

    #[test]
    fn what_is_no_circle_is_left_alone() {
        let fine = [
            ("src/mesh/mod.rs", "mod a; mod b; pub use a::A;"),
            ("src/mesh/a.rs", "use super::b::B;\n#[cfg(test)]\nmod tests { use super::super::c; }"),
            ("src/mesh/b.rs", "// use super::a;"),
            ("src/mesh/c.rs", "use super::A;"),
            ("src/mesh/a_test.rs", "use super::c;"),
        ];
        assert_eq!(check(&fine), Vec::<String>::new());
        let outside = [("src/store/a.rs", "use super::b;"), ("src/store/b.rs", "use super::a;")];
        assert_eq!(check(&outside), Vec::<String>::new());
    }
}
