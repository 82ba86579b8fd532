//! The paths that code names: `a::b::c` anywhere, and every leaf of a `use` tree.

use crate::source::{Source, is_word};

/// A path and the line it stands on.
#[derive(Debug, PartialEq)]
pub struct Named {
    pub line: usize,
    pub segments: Vec<String>,
}

impl Named {
    pub fn text(&self) -> String {
        self.segments.join("::")
    }

    /// Whether the segments of `part` stand in the path one behind the other.
    pub fn has(&self, part: &str) -> bool {
        let part: Vec<_> = part.split("::").collect();
        self.segments.windows(part.len()).any(|window| window == part)
    }
}

/// Every path of more than nothing; a leaf of a `use` tree comes with all its prefixes.
pub fn named(source: &Source) -> Vec<Named> {
    let tokens = source.tokens();
    let mut walk = Walk { source, tokens: &tokens, at: 0, found: Vec::new() };
    while walk.at < tokens.len() {
        walk.path(&[]);
    }
    walk.found
}

struct Walk<'s> {
    source: &'s Source,
    tokens: &'s [(usize, &'s str)],
    at: usize,
    found: Vec<Named>,
}

impl Walk<'_> {
    fn token(&self, ahead: usize) -> &str {
        self.tokens.get(self.at + ahead).map_or("", |(_, token)| token)
    }

    fn colons(&self) -> bool {
        self.token(0) == ":" && self.token(1) == ":"
    }

    /// A path behind `prefix`, or one token that begins none.
    fn path(&mut self, prefix: &[String]) {
        let line = self.tokens.get(self.at).map_or(0, |(offset, _)| self.source.line(*offset));
        let mut segments = prefix.to_vec();
        while self.token(0).starts_with(is_word) || (self.token(0) == "*" && !prefix.is_empty()) {
            segments.push(self.token(0).to_owned());
            self.at += 1;
            if !self.colons() {
                break;
            }
            self.at += 2;
            if self.token(0) == "{" {
                return self.group(&segments);
            }
            if self.token(0) == "*" {
                segments.push("*".to_owned());
                self.at += 1;
            }
        }
        if segments.len() == prefix.len() {
            self.at += 1;
        } else {
            self.found.push(Named { line, segments });
        }
    }

    /// `{a, b::c}` of a `use` tree.
    fn group(&mut self, prefix: &[String]) {
        self.at += 1;
        while self.at < self.tokens.len() && self.token(0) != "}" {
            match self.token(0) {
                "{" => self.group(prefix),
                // A new name for the leaf in front of it is no path.
                "as" => self.at += 2,
                _ => self.path(prefix),
            }
        }
        self.at += 1;
    }
}

#[test]
fn use_trees_are_taken_apart() {
    let text = "use std::{fs, net::{SocketAddr, TcpStream as S}, io::*};\nfn f() { a::b(c) }";
    let named = named(&Source::new("x.rs", text));
    let texts: Vec<_> = named.iter().map(Named::text).collect();
    for path in ["std::fs", "std::net::SocketAddr", "std::net::TcpStream", "std::io::*", "a::b"] {
        assert!(texts.contains(&path.to_owned()), "{path} not in {texts:?}");
    }
    assert!(!texts.iter().any(|text| text.contains("::as") || text.ends_with("::S")), "{texts:?}");
    let call = named.iter().find(|path| path.text() == "a::b").unwrap();
    assert_eq!(call.line, 2);
    assert!(call.has("a::b") && call.has("b") && !call.has("b::a"));
}
