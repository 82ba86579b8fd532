//! The tour of one publish that ARCHITECTURE.md lists: its functions exist, and are not too many.

use crate::shape::{self, Function};
use crate::source::{File, Source};

const HEADING: &str = "\n## One publish, from socket to socket\n";
const FILES_MAX: usize = 20;
const LINES_MAX: usize = 1300;

pub fn complaints(files: &[File], sources: &[Source]) -> Vec<String> {
    let text = files.iter().find(|file| file.path == "ARCHITECTURE.md").map(|file| &file.text);
    let stops = stops(text.map_or("", |text| text.as_str()));
    if stops.is_empty() {
        return vec!["ARCHITECTURE.md: no tour of one publish".to_owned()];
    }
    let mut complaints = Vec::new();
    let mut total = 0;
    for stop in &stops {
        match lines(stop, sources) {
            Ok(lines) => total += lines,
            Err(wrong) => complaints.extend(wrong),
        }
    }
    if stops.len() > FILES_MAX {
        complaints.push(format!("the tour: {} files, at most {FILES_MAX}", stops.len()));
    }
    if total > LINES_MAX {
        complaints.push(format!("the tour: {total} lines of functions, at most {LINES_MAX}"));
    }
    complaints
}

/// A file of the tour and its functions: `name`, or `Type::name` where a name is there twice.
struct Stop<'t> {
    path: &'t str,
    functions: Vec<&'t str>,
}

/// The lines `path/file.rs: function, function` of the first fenced block below the heading. A line
/// that begins with a space goes on with the file above.
fn stops(text: &str) -> Vec<Stop<'_>> {
    let behind = text.split_once(HEADING).map_or("", |(_, behind)| behind);
    let section = behind.split("\n## ").next().unwrap_or_default();
    let mut stops: Vec<Stop> = Vec::new();
    for line in section.split("```").nth(1).unwrap_or_default().lines().skip(1) {
        let (path, functions) = line.split_once(": ").unwrap_or(("", line));
        let functions = functions.split(',').map(str::trim).filter(|name| !name.is_empty());
        match stops.last_mut() {
            Some(stop) if line.starts_with(' ') => stop.functions.extend(functions),
            _ => stops.push(Stop { path, functions: functions.collect() }),
        }
    }
    stops
}

/// The lines of a stop's functions, or what is wrong with it.
fn lines(stop: &Stop, sources: &[Source]) -> Result<usize, Vec<String>> {
    let path = stop.path;
    let Some(source) = sources.iter().find(|source| source.path == path) else {
        return Err(vec![format!("the tour: there is no {path}")]);
    };
    let functions = shape::functions(&source.without_tests());
    let (mut total, mut wrong) = (0, Vec::new());
    for name in &stop.functions {
        let fits = |function: &&Function| match name.rsplit_once("::") {
            Some((owner, name)) => function.name == name && function.owner == owner,
            None => function.name == *name,
        };
        match functions.iter().filter(fits).collect::<Vec<_>>()[..] {
            [function] => total += function.lines,
            [] => wrong.push(format!("the tour: there is no {name} in {path}")),
            _ => wrong.push(format!("the tour: {name} is there twice in {path}; name its type")),
        }
    }
    if wrong.is_empty() { Ok(total) } else { Err(wrong) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(list: &str) -> Vec<String> {
        let text = format!("# A\n{HEADING}\nWords.\n\n```text\n{list}```\n\n## B\n");
        let map = File { path: "ARCHITECTURE.md".to_owned(), text };
        let long = format!("fn long() {{{}}}", "\n".repeat(699));
        let text = "fn f() {}\nimpl A { fn g(&self) {} }\nimpl<T> B<T> for A<T> { fn h() {} }\n\
                    impl B { fn h() {\n} }\n#[cfg(test)]\nmod tests { fn t() {} }";
        let sources = [Source::new("src/a.rs", text), Source::new("src/b.rs", &long)];
        complaints(&[map], &sources)
    }

    #[test]
    fn a_tour_that_rots_is_found() {
        for (list, what) in [
            ("", "ARCHITECTURE.md: no tour of one publish"),
            ("src/c.rs: f\n", "the tour: there is no src/c.rs"),
            ("src/a.rs: f, t\n", "the tour: there is no t in src/a.rs"),
            ("src/a.rs: h\n", "the tour: h is there twice in src/a.rs; name its type"),
            ("src/a.rs: C::h\n", "the tour: there is no C::h in src/a.rs"),
            ("src/a.rs: f\nsrc/b.rs: long\nsrc/b.rs: long\n", "the tour: 1401 lines"),
        ] {
            let found = check(list);
            assert!(found.len() == 1 && found[0].starts_with(what), "{list}: {found:?}");
        }
        let many = "src/a.rs: f\n".repeat(21);
        assert_eq!(check(&many), ["the tour: 21 files, at most 20"]);
    }

    #[test]
    fn a_tour_of_what_is_there_is_fine() {
        assert_eq!(check("src/a.rs: f, g,\n  A::h, B::h\nsrc/b.rs: long\n"), Vec::<String>::new());
    }
}
