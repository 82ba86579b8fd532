//! The files of the repository, and Rust text with its comments and literals blanked.

use std::fs;
use std::path::Path;

/// Folders that hold no text of ours.
const SKIPPED: [&str; 6] = ["target", ".git", "data", "__pycache__", ".venv", "node_modules"];

/// A text file, its path relative to the root with `/` between the parts.
#[derive(Clone)]
pub struct File {
    pub path: String,
    pub text: String,
}

/// A Rust file. `code` is `text` with comments, strings and characters blanked, byte for byte.
pub struct Source {
    pub path: String,
    pub text: String,
    pub code: String,
    /// The offset of each line feed.
    line_ends: Vec<usize>,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let code = blanked(text);
        let line_ends = code.match_indices('\n').map(|(at, _)| at).collect();
        Self { path: path.to_owned(), text: text.to_owned(), code, line_ends }
    }

    pub fn of(file: &File) -> Option<Self> {
        file.path.ends_with(".rs").then(|| Self::new(&file.path, &file.text))
    }

    /// The number of the line that holds this offset, from 1.
    pub fn line(&self, offset: usize) -> usize {
        self.line_ends.partition_point(|end| *end < offset) + 1
    }

    /// Whether only builds for tests have the file.
    pub fn is_test(&self) -> bool {
        const PLACES: [&str; 3] = ["/tests/", "/checks/", "/store/sim/"];
        let name = self.path.rsplit('/').next().unwrap_or_default();
        PLACES.iter().any(|place| self.path.contains(place))
            || name.ends_with("_test.rs")
            || matches!(name, "tests.rs" | "draw.rs" | "memory.rs")
    }

    /// Whether the file holds the deliberate faults that the simulation must catch.
    pub fn is_mutant(&self) -> bool {
        self.path.ends_with("/mutant.rs")
    }

    /// The code without modules for tests: what a build without tests compiles.
    pub fn without_tests(&self) -> Self {
        let mut code = self.code.clone();
        while let Some((start, end)) = test_module(&code) {
            let blank: String =
                code[start..end].chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
            code.replace_range(start..end, &blank);
        }
        Self {
            path: self.path.clone(),
            text: self.text.clone(),
            code,
            line_ends: self.line_ends.clone(),
        }
    }

    /// Words and single punctuation characters with their offsets.
    pub fn tokens(&self) -> Vec<(usize, &str)> {
        let mut tokens = Vec::new();
        let mut rest = self.code.as_str();
        while let Some(first) = rest.chars().next() {
            let word = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
            let len = word.max(first.len_utf8());
            if !first.is_whitespace() {
                tokens.push((self.code.len() - rest.len(), &rest[..len]));
            }
            rest = &rest[len..];
        }
        tokens
    }
}

/// The first `#[cfg(test)] mod name { … }` of the code, from its attribute to its last brace.
fn test_module(code: &str) -> Option<(usize, usize)> {
    let mut from = 0;
    loop {
        let start = from + code[from..].find("#[cfg(test)]")?;
        from = start + 1;
        let behind = &code[start + "#[cfg(test)]".len()..];
        let item = behind.find(['{', ';']).unwrap_or(behind.len());
        let module = behind[..item].split_whitespace().any(|word| word == "mod");
        if module && behind[item..].starts_with('{') {
            let open = code.len() - behind.len() + item;
            return Some((start, open + braces(&code[open..])));
        }
    }
}

/// The length of the block that `code` begins with.
fn braces(code: &str) -> usize {
    let mut depth = 0;
    for (at, char) in code.char_indices() {
        match char {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

pub fn is_word(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

/// Every file below the root that is UTF-8.
pub fn repository() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let skipped = SKIPPED.iter().any(|name| entry.file_name() == *name);
            if kind.is_dir() && !skipped {
                folders.push(path);
            } else if kind.is_file()
                && !skipped
                && let Ok(text) = fs::read_to_string(&path)
            {
                let path = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
                files.push(File { path, text });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn blanked(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let after_word = code.chars().next_back().is_some_and(is_word);
        match literal(rest, after_word) {
            Some(len) => {
                blank(&mut code, &rest[..len]);
                rest = &rest[len..];
            }
            None => {
                let len = rest.chars().next().map_or(0, char::len_utf8);
                code.push_str(&rest[..len]);
                rest = &rest[len..];
            }
        }
    }
    code
}

fn blank(code: &mut String, text: &str) {
    for byte in text.bytes() {
        code.push(if byte == b'\n' { '\n' } else { ' ' });
    }
}

/// The length of the comment, string or character that `rest` begins with.
fn literal(rest: &str, after_word: bool) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(block_comment(rest));
    }
    if !after_word && let Some(len) = raw_string(rest) {
        return Some(len);
    }
    if rest.starts_with('"') {
        return Some(string(rest));
    }
    rest.starts_with('\'').then(|| character(rest)).flatten()
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while let Some(next) = rest[at..].find(['/', '*']) {
        at += next;
        let step = if rest[at..].starts_with("/*") {
            depth += 1;
            2
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            2
        } else {
            1
        };
        at += step;
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// `r"…"`, `r#"…"#`, also with a `b` or `c` before it.
fn raw_string(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix(['b', 'c']).unwrap_or(rest).strip_prefix('r')?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    let opened = body[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let len = opened.find(&end).map_or(opened.len(), |at| at + end.len());
    Some(rest.len() - opened.len() + len)
}

fn string(rest: &str) -> usize {
    let mut escaped = false;
    for (at, char) in rest.char_indices().skip(1) {
        match char {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A character literal; a lifetime or a label is none.
fn character(rest: &str) -> Option<usize> {
    let body = &rest[1..];
    if body.starts_with('\\') {
        return body.get(2..)?.find('\'').map(|at| at + 4);
    }
    let len = body.chars().next()?.len_utf8();
    body[len..].starts_with('\'').then_some(len + 2)
}

#[test]
fn only_code_is_left() {
    let cases = [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        ("f(\"x\\\"y\", 1)", "f(      , 1)"),
        ("r#\"a\"b\"# z", "         z"),
        ("br\"a\" z", "      z"),
        ("'a' 'b \"c\"", "    'b    "),
        ("'\\'' '\\u{1F}' z", "              z"),
        ("for_r\"a\"", "for_r   "),
        ("\"é\"x", "    x"),
    ];
    for (text, code) in cases {
        assert_eq!(blanked(text), code, "{text}");
    }
}

#[test]
fn tokens_are_words_and_marks() {
    let source = Source::new("x.rs", "fn a_1(b: &'c str)");
    let tokens: Vec<_> = source.tokens().into_iter().map(|(_, token)| token).collect();
    assert_eq!(tokens, ["fn", "a_1", "(", "b", ":", "&", "'", "c", "str", ")"]);
}

#[test]
fn modules_of_tests_are_left_out() {
    let text = "a\n#[cfg(test)]\nfn b() {}\n#[cfg(test)]\nmod tests { fn c() { d {} } }\ne";
    let source = Source::new("x.rs", text).without_tests();
    let tokens: Vec<_> = source.tokens().into_iter().map(|(_, token)| token).collect();
    assert_eq!(tokens.concat(), "a#[cfg(test)]fnb(){}e");
    assert_eq!(source.line(text.len() - 1), 6);
}
