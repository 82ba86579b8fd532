//! No name for two types in one product: a reader who searches for a name finds one meaning.

use crate::source::{Source, is_word};
use std::collections::BTreeMap;

/// What is one product, by the folder of its files.
const PRODUCTS: [&str; 2] = ["src/", "loadgen/src/"];
/// Not in a build that is used: what a feature for tests adds.
const FEATURES: [&str; 2] = ["src/model/queue/shuffled/", "src/model/queue/twins.rs"];
/// Names that may stand for several types, each with the reason.
const SEVERAL: [(&str, &str); 0] = [];

pub fn complaints(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for product in PRODUCTS {
        let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let own = sources.iter().filter(|source| source.path.starts_with(product));
        let featured = |path: &str| FEATURES.iter().any(|at| path.starts_with(at));
        let used = own.filter(|source| !source.is_test() && !source.is_mutant());
        for source in used.filter(|source| !featured(&source.path)) {
            let mut types = types(&source.without_tests());
            // Definitions under one condition and its opposite are one.
            types.dedup_by(|a, b| a.name == b.name && a.conditional && b.conditional);
            for Type { name, line, .. } in types {
                places.entry(name).or_default().push(format!("{}:{line}", source.path));
            }
        }
        let twice = places.into_iter().filter(|(name, places)| {
            places.len() > 1 && !SEVERAL.iter().any(|(several, _)| several == name)
        });
        complaints.extend(twice.map(|(name, at)| format!("{name} is a type in {}", at.join(", "))));
    }
    complaints
}

struct Type {
    name: String,
    line: usize,
    /// It has an attribute `cfg`.
    conditional: bool,
}

/// Structs, enums, unions, traits and aliases; no associated types.
fn types(source: &Source) -> Vec<Type> {
    let tokens = source.tokens();
    let (mut found, mut blocks, mut associated) = (Vec::new(), Vec::new(), false);
    let mut conditional = false;
    for (index, (at, token)) in tokens.iter().enumerate() {
        let next = tokens.get(index + 1).map_or("", |(_, next)| next);
        let named = next.starts_with(is_word);
        match *token {
            "{" => {
                blocks.push(associated);
                (associated, conditional) = (false, false);
            }
            "}" => {
                blocks.pop();
                (associated, conditional) = (false, false);
            }
            ";" => (associated, conditional) = (false, false),
            "cfg" => conditional = true,
            "impl" => associated = true,
            "trait" | "struct" | "enum" | "union" | "type" if named => {
                let inner = *token == "type" && blocks.last() == Some(&true);
                if !inner {
                    let line = source.line(*at);
                    found.push(Type { name: next.to_owned(), line, conditional });
                }
                associated = *token == "trait";
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<_> = files.iter().map(|(path, text)| Source::new(path, text)).collect();
        complaints(&sources)
    }

    #[test]
    fn a_name_of_two_types_is_found() {
        let kinds = ["struct A;", "pub enum A {}", "trait A {}", "type A = u8;", "struct A<T>(T);"];
        for kind in kinds {
            let found = check(&[("src/a.rs", "pub struct A { b: u8 }"), ("src/model/b.rs", kind)]);
            assert_eq!(found, ["A is a type in src/a.rs:1, src/model/b.rs:1"], "{kind}");
        }
        let inside = [("loadgen/src/a.rs", "struct A;\nfn f() { struct A; }")];
        assert_eq!(check(&inside), ["A is a type in loadgen/src/a.rs:1, loadgen/src/a.rs:2"]);
    }

    #[test]
    fn one_name_in_a_product_is_left_alone() {
        for files in [
            [("src/a.rs", "struct A;"), ("loadgen/src/b.rs", "struct A;")],
            [("src/a.rs", "struct A;"), ("src/b.rs", "#[cfg(test)]\nmod tests { struct A; }")],
            [("src/a.rs", "struct A;"), ("src/b_test.rs", "struct A;")],
            [("src/a.rs", "struct A;"), ("src/b.rs", "use a::A; impl A { fn f(a: A) {} }")],
            [("src/a.rs", "type A = u8;"), ("src/b.rs", "impl I for B { type A = u8; }")],
            [("src/a.rs", "type A = u8;"), ("src/b.rs", "trait I { fn f() {} type A; }")],
            [("src/a.rs", ""), ("src/b.rs", "#[cfg(not(x))]\nstruct A;\n#[cfg(x)]\nstruct A;")],
        ] {
            assert_eq!(check(&files), Vec::<String>::new(), "{files:?}");
        }
    }
}
