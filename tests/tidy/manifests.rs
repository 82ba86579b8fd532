//! What Cargo is told: all members are built by default, lower crates know no higher ones.

use crate::source::File;
use std::collections::BTreeSet;

/// A manifest and the crates of this workspace that it must not depend on.
const BLIND: [(&str, &[&str]); 3] = [
    ("src/amqp/Cargo.toml", &["ringtail", "model", "loadgen"]),
    ("src/model/Cargo.toml", &["ringtail", "loadgen"]),
    ("loadgen/Cargo.toml", &["ringtail", "model"]),
];

pub fn complaints(files: &[File]) -> Vec<String> {
    let text = |path: &str| {
        files.iter().find(|file| file.path == path).map_or("", |file| file.text.as_str())
    };
    let mut complaints = members(text("Cargo.toml"));
    for (path, names) in BLIND {
        let known = names.iter().filter(|name| depends(text(path), name));
        complaints.extend(known.map(|name| format!("{path}: depends on {name}")));
    }
    // A module of that name would be a second copy of the crate.
    let root = text("src/lib.rs");
    let copies = ["amqp", "model"].iter().filter(|name| root.contains(&format!("mod {name};")));
    complaints.extend(copies.map(|name| format!("src/lib.rs: {name} is a crate of its own")));
    complaints
}

fn members(manifest: &str) -> Vec<String> {
    let (all, default) = (list(manifest, "members"), list(manifest, "default-members"));
    if all.is_empty() {
        return vec!["Cargo.toml: names no members".to_owned()];
    }
    let missing = all.difference(&default);
    missing.map(|name| format!("Cargo.toml: default-members lacks {name}")).collect()
}

/// The strings of `key = ["…", "…"]`.
fn list<'m>(manifest: &'m str, key: &str) -> BTreeSet<&'m str> {
    let start = format!("\n{key} = [");
    let Some((_, behind)) = manifest.split_once(&start) else {
        return BTreeSet::new();
    };
    let inside = behind.split(']').next().unwrap_or_default();
    inside.split('"').skip(1).step_by(2).collect()
}

/// Whether a dependency is this crate, under its own name or as `package`.
fn depends(manifest: &str, name: &str) -> bool {
    let lines = manifest.lines().filter(|line| !line.starts_with("description"));
    let mut words = lines.flat_map(|line| line.split(['.', ' ', '=', '"', '/', '[', ']']));
    words.any(|word| word == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str) -> Vec<String> {
        let members = "[workspace]\nmembers = [\".\", \"a\"]\ndefault-members = [\"a\", \".\"]\n";
        let file = |path: &str, text: &str| File { path: path.to_owned(), text: text.to_owned() };
        complaints(&[file(path, text), file("Cargo.toml", members)])
    }

    #[test]
    fn a_member_that_is_not_built_by_default_is_found() {
        assert_eq!(check("x", ""), Vec::<String>::new());
        let lacking =
            "[workspace]\nmembers = [\n  \".\",\n  \"a\",\n]\ndefault-members = [\".\"]\n";
        assert_eq!(check("Cargo.toml", lacking), ["Cargo.toml: default-members lacks a"]);
        assert_eq!(check("Cargo.toml", "").len(), 1);
    }

    #[test]
    fn a_dependency_on_a_higher_crate_is_found() {
        for text in [
            "[dependencies]\nringtail = { path = \"..\" }",
            "[dependencies]\nringtail.workspace = true",
            "[dependencies]\nx = { package = \"ringtail\", path = \"..\" }",
            "[dev-dependencies.ringtail]\npath = \"..\"",
        ] {
            assert_eq!(
                check("loadgen/Cargo.toml", text),
                ["loadgen/Cargo.toml: depends on ringtail"]
            );
        }
        let fine = "description = \"measures ringtail\"\n[dependencies]\namqp.workspace = true";
        assert_eq!(check("loadgen/Cargo.toml", fine), Vec::<String>::new());
        assert_eq!(check("src/amqp/Cargo.toml", "[dependencies]\nmodel.workspace = true").len(), 1);
        assert_eq!(check("src/model/Cargo.toml", "[dependencies]\nmodel2 = \"1\"").len(), 0);
    }

    #[test]
    fn a_second_copy_of_a_crate_is_found() {
        assert_eq!(check("src/lib.rs", "//! t\npub mod amqp;\n").len(), 1);
    }
}
