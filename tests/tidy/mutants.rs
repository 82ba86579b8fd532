//! Each mutant stands in one marked place of the product, and nowhere else.

use crate::source::{Source, is_word};
use std::collections::BTreeMap;

const LIST: &str = "src/model/mutant.rs";
/// Mutants with more than one place, each with the reason.
const SEVERAL: [(&str, &str); 2] = [
    ("BypassOvertakes", "a queue and its backlog must agree on where a message goes"),
    ("PriorityIgnored", "the round and the permits rank consumers apart"),
];

pub fn complaints(sources: &[Source]) -> Vec<String> {
    let Some(list) = sources.iter().find(|source| source.path == LIST) else {
        return vec![format!("{LIST}: not there")];
    };
    let mut places: BTreeMap<String, Vec<String>> =
        names(list).into_iter().map(|name| (name, Vec::new())).collect();
    let mut complaints = Vec::new();
    let product = sources.iter().filter(|source| source.path.starts_with("src/"));
    for source in product.filter(|source| !source.is_test() && !source.is_mutant()) {
        for (name, line, marked) in named(&source.without_tests()) {
            let place = format!("{}:{line}", source.path);
            if !marked {
                complaints.push(format!("{place}: not mutant::active(Mutant::{name})"));
            }
            places.entry(name).or_default().push(place);
        }
    }
    let several = |name: &str| SEVERAL.iter().any(|(several, _)| *several == name);
    let wrong = places.iter().filter(|(name, at)| match at.len() {
        0 => true,
        1 => false,
        _ => !several(name),
    });
    complaints.extend(wrong.map(|(name, at)| match at.len() {
        0 => format!("{LIST}: {name} stands nowhere"),
        count => format!("{name} stands in {count} places: {}", at.join(", ")),
    }));
    complaints
}

/// The names behind their rules: `4 NoBarrier`.
fn names(list: &Source) -> Vec<String> {
    let tokens = list.tokens();
    let pairs = tokens.windows(2).filter(|pair| pair[0].1.parse::<u8>().is_ok());
    let named = pairs.filter(|pair| pair[1].1.starts_with(|c: char| c.is_uppercase()));
    named.map(|pair| pair[1].1.to_owned()).collect()
}

/// Each `Mutant::Name` with its line, and whether it is marked by `mutant::active(…)`.
fn named(source: &Source) -> Vec<(String, usize, bool)> {
    let tokens = source.tokens();
    let text: Vec<_> = tokens.iter().map(|(_, token)| *token).collect();
    let found = (0..text.len()).filter(|at| {
        text[*at..].starts_with(&["Mutant", ":", ":"])
            && text.get(at + 3).is_some_and(|name| name.starts_with(is_word))
    });
    found
        .map(|at| {
            let marked = text[..at].ends_with(&["mutant", ":", ":", "active", "("]);
            (text[at + 3].to_owned(), source.line(tokens[at].0), marked)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Vec<String> {
        let list = "mutants! {\n    /// A.\n    1 One\n    /// B.\n    2 Two\n}\n";
        complaints(&[Source::new(LIST, list), Source::new("src/a.rs", text)])
    }

    #[test]
    fn a_mutant_without_its_one_place_is_found() {
        let both = "if mutant::active(Mutant::One) {}\nlet a = b || mutant::active(Mutant::Two);";
        assert_eq!(check(both), Vec::<String>::new());
        assert_eq!(check(&both.replace("Two", "One")).len(), 2);
        let again = format!("{both}\nmutant::active(Mutant::One)");
        assert_eq!(check(&again), ["One stands in 2 places: src/a.rs:1, src/a.rs:3"]);
        let tested = format!("{both}\n#[cfg(test)]\nmod tests {{ fn f() {{ a(Mutant::One) }} }}");
        assert_eq!(check(&tested), Vec::<String>::new());
        assert_eq!(check(&both.replace("mutant::active(Mutant::Two)", "is(Mutant::Two)")).len(), 1);
        assert_eq!(complaints(&[]).len(), 1);
    }
}
