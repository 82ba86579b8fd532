//! Sizes: lines of a file, columns of a line, lines of a function; and the first line of a file.

use crate::source::Source;

const LINES_MAX: usize = 600;
const COLUMNS_MAX: usize = 100;
const FUNCTION_MAX: usize = 70;
/// Half of all functions are shorter than this …
const HALF_BELOW: usize = 10;
/// … and 95 of 100 shorter than this.
const MOST_BELOW: usize = 40;

pub fn complaints(sources: &[Source]) -> Vec<String> {
    let mut complaints: Vec<_> = sources.iter().flat_map(file).collect();
    let mut lengths: Vec<_> =
        sources.iter().flat_map(functions).map(|function| function.lines).collect();
    lengths.sort_unstable();
    complaints.extend(spread(&lengths));
    complaints
}

fn file(source: &Source) -> Vec<String> {
    let path = &source.path;
    let mut complaints = Vec::new();
    if !source.text.starts_with("//!") {
        complaints.push(format!("{path}: does not begin with //!"));
    }
    let lines = source.text.lines().count();
    if lines > LINES_MAX {
        complaints.push(format!("{path}: {lines} lines, at most {LINES_MAX}"));
    }
    complaints.extend(wide(source));
    for function in functions(source).iter().filter(|function| function.lines > FUNCTION_MAX) {
        let Function { name, line, lines, .. } = function;
        complaints.push(format!("{path}:{line}: fn {name} has {lines} lines, at most 70"));
    }
    complaints
}

/// Lines that are too wide. A row of the table of methods is one line, however long.
fn wide(source: &Source) -> Vec<String> {
    let rows = methods_table(source);
    let lines = source.text.lines().enumerate().map(|(index, line)| (index + 1, line));
    let wide = lines.filter(|(number, line)| {
        let row = rows.contains(number) && line.trim_start().starts_with(|c: char| c.is_numeric());
        line.chars().count() > COLUMNS_MAX && !row
    });
    wide.map(|(number, _)| format!("{}:{number}: over {COLUMNS_MAX} columns", source.path))
        .collect()
}

/// The lines of `methods! { … }`.
fn methods_table(source: &Source) -> std::ops::Range<usize> {
    let tokens = source.tokens();
    let start = tokens
        .windows(3)
        .position(|window| window[0].1 == "methods" && window[1].1 == "!" && window[2].1 == "{");
    let Some(start) = start else { return 0..0 };
    let end = closing(&tokens, start + 2).map_or(source.code.len(), |(offset, _)| offset);
    source.line(tokens[start].0)..source.line(end)
}

/// A function with a body.
pub struct Function {
    pub name: String,
    /// The type whose `impl` holds it, or the trait; empty for a free function.
    pub owner: String,
    pub line: usize,
    pub lines: usize,
}

/// Every function with a body, those inside others and inside macros too.
pub fn functions(source: &Source) -> Vec<Function> {
    let tokens = source.tokens();
    let mut functions = Vec::new();
    let mut owner = ("", 0);
    for (index, pair) in tokens.windows(2).enumerate() {
        if matches!(pair[0].1, "impl" | "trait")
            && let Some((end, _)) = body(&tokens, index + 1)
        {
            owner = (owner_of(&tokens[index..]), end);
        }
        let named = pair[0].1 == "fn" && pair[1].1.starts_with(crate::source::is_word);
        if named && let Some((end, _)) = body(&tokens, index + 2) {
            let line = source.line(pair[0].0);
            let lines = source.line(end) - line + 1;
            let owner = if pair[0].0 < owner.1 { owner.0 } else { "" }.to_owned();
            functions.push(Function { name: pair[1].1.to_owned(), owner, line, lines });
        }
    }
    functions
}

/// The name of the type in `impl<…> Trait for path::Type<…>`, or of the trait in `trait Name`.
fn owner_of<'s>(header: &[(usize, &'s str)]) -> &'s str {
    let (mut depth, mut name) = (0, "");
    let mut before = "";
    for (_, token) in header.iter().skip(1) {
        match *token {
            "{" | "where" => break,
            "<" => depth += 1,
            // Not the end of an arrow.
            ">" if before != "-" => depth -= 1,
            "for" if depth == 0 => name = "",
            word if depth == 0 && word.starts_with(crate::source::is_word) => name = word,
            _ => {}
        }
        before = token;
    }
    name
}

/// The brace that closes the body of a function whose name stands before `from`; `None` when a
/// semicolon comes first.
fn body<'s>(tokens: &[(usize, &'s str)], from: usize) -> Option<(usize, &'s str)> {
    let mut depth = 0i32;
    for (index, (_, token)) in tokens.iter().enumerate().skip(from) {
        match *token {
            "(" | "[" => depth += 1,
            ")" | "]" => depth -= 1,
            ";" if depth == 0 => return None,
            "{" if depth == 0 => return closing(tokens, index),
            _ => {}
        }
    }
    None
}

fn closing<'s>(tokens: &[(usize, &'s str)], open: usize) -> Option<(usize, &'s str)> {
    let mut depth = 0;
    for token in &tokens[open..] {
        match token.1 {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(*token);
        }
    }
    None
}

fn spread(sorted: &[usize]) -> Vec<String> {
    let below = |limit: usize| sorted.partition_point(|lines| *lines < limit);
    let mut complaints = Vec::new();
    if 2 * below(HALF_BELOW) < sorted.len() {
        complaints.push(format!("fewer than half of all functions are below {HALF_BELOW} lines"));
    }
    if 100 * below(MOST_BELOW) < 95 * sorted.len() {
        complaints.push(format!("fewer than 95 % of all functions are below {MOST_BELOW} lines"));
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Vec<String> {
        file(&Source::new("src/a.rs", text))
    }

    fn long_function(lines: usize) -> String {
        format!("//! t\nimpl A {{\n    fn f(a: [u8; 2]) {{{}}}\n}}\n", "\n".repeat(lines - 1))
    }

    #[test]
    fn a_file_without_its_line_and_one_too_long_are_found() {
        assert_eq!(check("use a;\n"), ["src/a.rs: does not begin with //!"]);
        assert_eq!(check(&format!("//! t\n{}", "\n".repeat(599))), Vec::<String>::new());
        assert_eq!(check(&format!("//! t\n{}", "\n".repeat(600))).len(), 1);
    }

    #[test]
    fn a_wide_line_is_found_unless_it_is_a_row_of_methods() {
        let wide = "é".repeat(101);
        assert_eq!(check(&format!("//! t\n// {wide}")), ["src/a.rs:2: over 100 columns"]);
        assert_eq!(check(&format!("//! t\n{}", "é".repeat(100))), Vec::<String>::new());
        let table = format!("//! t\nmethods! {{\n  10 10 {wide}\n}}\n");
        assert_eq!(check(&table), Vec::<String>::new());
        assert_eq!(check(&format!("{table}10 {wide}")), ["src/a.rs:5: over 100 columns"]);
        assert_eq!(check(&table.replace("10 10", "// 10")).len(), 1);
    }

    #[test]
    fn a_long_function_is_found() {
        assert_eq!(check(&long_function(70)), Vec::<String>::new());
        assert_eq!(check(&long_function(71)), ["src/a.rs:3: fn f has 71 lines, at most 70"]);
        let declared = "//! t\ntrait A { fn f(a: [u8; 3]); }\ntype B = fn(u8);\n";
        assert!(functions(&Source::new("src/a.rs", declared)).is_empty());
    }

    #[test]
    fn a_bad_spread_is_found() {
        assert_eq!(spread(&[9; 10]), Vec::<String>::new());
        assert_eq!(spread(&[vec![9; 49], vec![10; 51]].concat()).len(), 1);
        assert_eq!(spread(&[vec![9; 95], vec![40; 5]].concat()).len(), 0);
        assert_eq!(spread(&[vec![9; 94], vec![40; 6]].concat()).len(), 1);
        let sources = [Source::new("src/a.rs", &long_function(60))];
        assert_eq!(complaints(&sources).len(), 2);
    }
}
