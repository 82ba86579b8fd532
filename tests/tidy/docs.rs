//! What documents name exists: flags, environment variables, keys, files, links, tests, mutants,
//! and every other name in backticks.

use crate::markdown::{self, Piece, Row};
use crate::source::{File, is_word};
use std::collections::{BTreeMap, BTreeSet};

/// Flags of other programs, by program.
const FOREIGN: [(&str, &[&str]); 4] = [
    ("cargo", &["release", "package", "profile", "bench"]),
    ("docker", &["tag", "security-opt", "ulimit", "network", "cpuset-cpus", "memory", "cpus"]),
    ("celery", &["without-gossip"]),
    ("every program", &["help", "version"]),
];
/// Beginnings of environment variables.
const VARIABLES: [&str; 2] = ["RINGTAIL_", "RABBITMQ_"];
/// Names in backticks that stand for something else than code of this repository.
const OTHERS: [(&str, &str); 1] =
    [("x-queue-leader-locator", "an argument of RabbitMQ that is taken like any unknown one")];
/// Ends of file names.
const ENDINGS: [&str; 8] = [".rs", ".py", ".md", ".toml", ".yaml", ".txt", ".js", ".html"];

pub fn complaints(files: &[File]) -> Vec<String> {
    let known = Known::new(files);
    let documents = files.iter().filter(|file| is_document(&file.path));
    documents.flat_map(|file| known.document(file)).collect()
}

fn is_document(path: &str) -> bool {
    path.ends_with(".md") && (!path.contains('/') || path.starts_with("docs/"))
}

/// What there is to be named.
struct Known<'f> {
    files: BTreeMap<&'f str, &'f File>,
    flags: BTreeSet<String>,
    keys: Vec<&'f str>,
    /// Every word of code, scripts and manifests.
    words: BTreeSet<&'f str>,
    code: Vec<&'f File>,
    tests: BTreeSet<&'f str>,
    mutants: BTreeSet<&'f str>,
}

impl<'f> Known<'f> {
    fn new(files: &'f [File]) -> Self {
        // The checks themselves hold made-up names.
        let code = files.iter().filter(|file| {
            !file.path.ends_with(".md")
                && !file.path.starts_with("docs/")
                && (!file.path.starts_with("tests/tidy/") || file.path == "tests/tidy/main.rs")
        });
        let code: Vec<_> = code.collect();
        let text = |path: &str| code.iter().find(|file| file.path == path).map(|file| &file.text);
        let keys = ["src/config/keys.rs", "src/config/defaults.rs", "src/config/credentials.rs"];
        let keys = keys.map(|path| text(path).map_or("", |text| text.as_str()));
        let mutants = text("src/model/mutant.rs").map_or("", |text| text.as_str());
        Self {
            files: files.iter().map(|file| (file.path.as_str(), file)).collect(),
            flags: code.iter().flat_map(|file| flags(file)).chain(foreign()).collect(),
            keys: keys.into_iter().flat_map(|text| quoted_behind(text, "key_of(")).collect(),
            words: code.iter().flat_map(|file| file.text.split(|c| !is_word(c))).collect(),
            tests: code.iter().flat_map(|file| functions(&file.text)).collect(),
            mutants: mutants.split(|c| !is_word(c)).collect(),
            code,
        }
    }

    fn document(&self, file: &File) -> Vec<String> {
        let mut wrong = Vec::new();
        for (line, text) in file.text.lines().enumerate() {
            wrong.extend(self.line(text).map(|what| (line + 1, what)));
        }
        let links = markdown::links(&file.text);
        wrong.extend(links.iter().filter_map(|link| self.link(&file.path, link)));
        let rows = markdown::rows(&file.text);
        let keys: Vec<_> = rows.iter().filter(|row| row.header == "key").collect();
        wrong.extend(keys.iter().flat_map(|row| self.key_row(row)));
        wrong.extend(
            rows.iter().filter(|row| row.header == "rule").flat_map(|row| self.rule_row(row)),
        );
        // What the page of compatibility names is RabbitMQ's, and checked where it is made.
        if file.path != "docs/compatibility.md" {
            let is_key = |span: &Piece| {
                keys.iter().any(|row| row.line == span.line && row.cells[0].contains(span.text))
            };
            let spans = markdown::spans(&file.text);
            let spans = spans.iter().filter(|span| !is_key(span));
            wrong.extend(spans.filter_map(|span| self.span(span)));
        }
        wrong.sort();
        wrong.dedup();
        let complaint = |(line, what)| format!("{}:{line}: there is no {what}", file.path);
        wrong.into_iter().map(complaint).collect()
    }

    /// Flags and environment variables anywhere in a line.
    fn line(&self, text: &str) -> impl Iterator<Item = String> {
        let flags = behind(text, "--", |c| c.is_ascii_lowercase() || c == '-');
        let flags = flags.into_iter().filter(|flag| {
            flag.starts_with(|c: char| c.is_ascii_lowercase()) && !self.flags.contains(*flag)
        });
        let variables = VARIABLES.iter().flat_map(|start| {
            let ends = behind(text, start, |c| c.is_ascii_uppercase() || c == '_');
            ends.into_iter().map(move |end| format!("{start}{end}"))
        });
        // One that ends in a line stands for all that begin like it.
        let variables =
            variables.filter(|name| !name.ends_with('_') && !self.words.contains(name.as_str()));
        let flags: Vec<_> = flags.map(|flag| format!("flag --{flag}")).collect();
        flags.into_iter().chain(variables.collect::<Vec<_>>())
    }

    fn link(&self, from: &str, link: &Piece) -> Option<(usize, String)> {
        if link.text.contains("://") {
            return None;
        }
        let (path, anchor) = link.text.split_once('#').unwrap_or((link.text, ""));
        let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
        let target = match path {
            "" => from.to_owned(),
            path => match path.strip_prefix("../") {
                Some(above) => above.to_owned(),
                None if folder.is_empty() => path.to_owned(),
                None => format!("{folder}/{path}"),
            },
        };
        let Some(file) = self.files.get(target.as_str()) else {
            // Pictures are no text, so they are not among the files.
            let pictured = self.has_path(&target) || target.ends_with(".svg");
            return (!pictured).then(|| (link.line, format!("file {target}")));
        };
        let found = anchor.is_empty() || markdown::anchors(&file.text).iter().any(|a| a == anchor);
        (!found).then(|| (link.line, format!("heading #{anchor} in {target}")))
    }

    fn span(&self, span: &Piece) -> Option<(usize, String)> {
        let text = span.text;
        let strange = [' ', '<', '…', '$', '*', '@', '{', '='].iter().any(|c| text.contains(*c));
        let value = text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        let variable = VARIABLES.iter().any(|start| text.starts_with(start));
        if strange
            || value
            || variable
            || text.contains("://")
            || OTHERS.iter().any(|(name, _)| *name == text)
        {
            return None;
        }
        if text.starts_with('/') {
            return (!self.in_code(text)).then(|| (span.line, format!("path {text}")));
        }
        if is_path(text) {
            let known = self.has_path(text) || self.in_code(text);
            return (!known).then(|| (span.line, format!("path {text}")));
        }
        let mut words = text.split(|c| !is_word(c)).filter(|word| !word.is_empty());
        let known = self.in_code(text) || words.all(|word| self.words.contains(word));
        let known = known || self.has_path(text);
        (!known).then(|| (span.line, format!("{text} in the code")))
    }

    /// Whether a file or a folder has this path, or one that ends with it.
    fn has_path(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        self.files.keys().any(|file| {
            file.match_indices(path).any(|(at, _)| {
                let behind = &file[at + path.len()..];
                (at == 0 || file[..at].ends_with('/'))
                    && (behind.is_empty() || behind.starts_with('/'))
            })
        })
    }

    fn in_code(&self, text: &str) -> bool {
        self.code.iter().any(|file| file.text.contains(text))
    }

    /// The first cell of a table of keys.
    fn key_row(&self, row: &Row) -> Vec<(usize, String)> {
        let spans = markdown::spans(row.cells[0]);
        let mut before = "";
        let mut wrong = Vec::new();
        for span in spans {
            // `a.b.c`, `.d` stands for a.b.d.
            let stem = before.rsplit_once('.').map_or("", |(stem, _)| stem);
            let name = match span.text.strip_prefix('.') {
                Some(_) => format!("{stem}{}", span.text),
                None => span.text.to_owned(),
            };
            let open = name.strip_suffix('…');
            let any = |start, end| name.strip_prefix(start)?.strip_suffix(end);
            let found = self.keys.iter().any(|key| match (open, key.split_once('*')) {
                (Some(start), _) => key.starts_with(start),
                // What stands for any name is in capitals.
                (None, Some((start, end))) => any(start, end).is_some_and(capitals),
                (None, None) => *key == name,
            });
            if !found {
                wrong.push((row.line, format!("key {name}")));
            }
            before = span.text;
        }
        wrong
    }

    /// The last cell of the table of rules: mutants, tests and files.
    fn rule_row(&self, row: &Row) -> Vec<(usize, String)> {
        let last = row.cells.last().unwrap_or(&"");
        let wrong = markdown::spans(last).into_iter().filter_map(|span| {
            let text = span.text;
            if is_path(text) {
                return None;
            }
            if text.starts_with(|c: char| c.is_uppercase()) {
                return (!self.mutants.contains(text)).then(|| format!("mutant {text}"));
            }
            (!self.tests.contains(text)).then(|| format!("test {text}"))
        });
        wrong.map(|what| (row.line, what)).collect()
    }
}

fn is_path(text: &str) -> bool {
    text.contains('/') || ENDINGS.iter().any(|end| text.ends_with(end))
}

fn capitals(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_uppercase())
}

/// What follows each `start` that is joined to nothing in front of it, as long as `part` is true.
fn behind<'t>(text: &'t str, start: &str, part: fn(char) -> bool) -> Vec<&'t str> {
    let found = text
        .match_indices(start)
        .filter(|(at, _)| !text[..*at].ends_with(|c: char| is_word(c) || c == '-'));
    found
        .map(|(at, _)| {
            let rest = &text[at + start.len()..];
            &rest[..rest.find(|c| !part(c)).unwrap_or(rest.len())]
        })
        .collect()
}

/// The first string behind each `call` of the text.
fn quoted_behind<'t>(text: &'t str, call: &str) -> Vec<&'t str> {
    let calls = text.split(call).skip(1);
    calls.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next()).collect()
}

/// Names of functions of Rust, and of tests of Python without their `test_`.
fn functions(text: &str) -> Vec<&str> {
    let names = ["fn ", "def test_"].iter().flat_map(|start| text.split(*start).skip(1));
    names.map(|rest| rest.split(|c| !is_word(c)).next().unwrap_or_default()).collect()
}

fn foreign() -> impl Iterator<Item = String> {
    FOREIGN.iter().flat_map(|(_, flags)| *flags).map(|flag| (*flag).to_owned())
}

/// The flags that a file lets its program take.
fn flags(file: &File) -> Vec<String> {
    if file.path.ends_with(".rs") {
        return clap_flags(&file.text);
    }
    // argparse, pytest, and the `case` of a shell script.
    let mut flags = quoted_behind(&file.text, "add_argument(");
    flags.extend(quoted_behind(&file.text, "addoption("));
    let shell = file.text.starts_with("#!/usr/bin/env bash");
    let cases = file.text.lines().filter(|_| shell).filter_map(|line| line.trim().split_once(')'));
    flags.extend(cases.map(|(case, _)| case));
    flags.iter().filter_map(|flag| flag.strip_prefix("--")).map(str::to_owned).collect()
}

/// The fields with `#[arg(…long…)]`.
fn clap_flags(text: &str) -> Vec<String> {
    let mut flags = Vec::new();
    let mut attribute = String::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[arg(") || (!attribute.is_empty() && !line.contains("pub ")) {
            attribute.push_str(line);
            continue;
        }
        let field = line.strip_prefix("pub ").and_then(|line| line.split_once(':'));
        if let Some((name, _)) = field
            && attribute.split(|c| !is_word(c)).any(|word| word == "long")
        {
            let named = attribute.split("long = \"").nth(1).and_then(|rest| rest.split('"').next());
            flags.push(named.map_or_else(|| name.replace('_', "-"), str::to_owned));
        }
        attribute.clear();
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_at(path: &str, text: &str) -> Vec<String> {
        let keys = "key_of(\"a.b\", x)\nkey_of(\n\"a.c.*\")\nkey_of(\"t.one\")\nkey_of(\"t.two\")";
        let flags = "#[arg(short, long, env = \"RINGTAIL_X\")]\npub a_flag: u8,\npub not: u8,\n\
                     #[arg(long = \"type\")]\n#[arg(value_parser = address)]\npub kind: u8,";
        let files = [
            (path, text),
            ("src/config/keys.rs", keys),
            ("src/config/options.rs", flags),
            ("src/model/mutant.rs", "4 NoBarrier"),
            ("src/a/b.rs", "fn is_there() { \"/var/x\" } struct Known; // x-known"),
            ("tests/c.py", "def test_here(): parser.add_argument(\"--rounds\")"),
            ("tests/run", "#!/usr/bin/env bash\n    --target) a"),
            ("tests/tidy/docs.rs", "made_up"),
            ("docs/d.md", "# A heading"),
        ];
        let file = |(path, text): &(&str, &str)| File {
            path: (*path).to_owned(),
            text: (*text).to_owned(),
        };
        complaints(&files.iter().map(file).collect::<Vec<_>>())
    }

    fn check(text: &str) -> Vec<String> {
        check_at("README.md", text)
    }

    #[test]
    fn what_does_not_exist_is_found() {
        for (text, what) in [
            ("run --made-up", "flag --made-up"),
            ("`--not`", "flag --not"),
            ("    ringtail --a-flags", "flag --a-flags"),
            ("set RINGTAIL_Y", "RINGTAIL_Y"),
            ("`src/c.rs`", "path src/c.rs"),
            ("`a/bb/`", "path a/bb/"),
            ("`b/a.rs`", "path b/a.rs"),
            ("`/var/y`", "path /var/y"),
            ("`made_up`", "made_up in the code"),
            ("`Known::made_up`", "Known::made_up in the code"),
            ("`x-unknown`", "x-unknown in the code"),
            ("[x](docs/e.md)", "file docs/e.md"),
            ("[x](docs/d.md#another)", "heading #another in docs/d.md"),
            ("[x](#nowhere)", "heading #nowhere in README.md"),
        ] {
            assert_eq!(check(text), [format!("README.md:1: there is no {what}")], "{text}");
        }
    }

    #[test]
    fn rows_of_keys_and_of_rules_are_read() {
        let key = |cell: &str| check(&format!("| key | x |\n|---|---|\n| {cell} | y |"));
        for cell in ["`a.b`", "`a.c.NAME`", "`t.…`", "`t.one`, `.two`"] {
            assert_eq!(key(cell), Vec::<String>::new(), "{cell}");
        }
        for cell in ["`t.known`", "`a.c`", "`t.one`, `.known`", "`b.…`"] {
            assert_eq!(key(cell).iter().filter(|found| found.contains("key")).count(), 1, "{cell}");
        }
        let rule = |cell: &str| check(&format!("| rule | x |\n|---|---|\n| a | {cell} |"));
        assert_eq!(rule("`NoBarrier`; `is_there`, `here`, `src/a/b.rs`"), Vec::<String>::new());
        assert_eq!(rule("`Known`"), ["README.md:3: there is no mutant Known"]);
        assert_eq!(rule("`target`"), ["README.md:3: there is no test target"]);
    }

    #[test]
    fn what_exists_is_left_alone() {
        for text in [
            "--a-flag, `--type X`, --rounds, --target, --release, a--b, a -- b, ---",
            "RINGTAIL_X and `RINGTAIL_…`",
            "`src/a/b.rs`, `a/b.rs`, `b.rs`, `src/a/`, `tests`, `/var/x`",
            "`Known`, `is_there`, `Known::is_there()`, `x-known`, `two words`, `a.<n>`",
            "[x](docs/d.md#a-heading), [y](https://example.com/z), [z](docs)",
            "```\n`made_up`\n```",
        ] {
            assert_eq!(check(text), Vec::<String>::new(), "{text}");
        }
        assert_eq!(check_at("docs/e.md", "[x](d.md), [y](../tests/c.py)"), Vec::<String>::new());
        assert_eq!(check_at("src/e.md", "`made_up`"), Vec::<String>::new());
    }
}
