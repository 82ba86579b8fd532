//! As much of Markdown as the checks of documents need: code spans, tables, links, headings.

/// A piece of text and the line it begins on, from 1.
#[derive(Debug, PartialEq)]
pub struct Piece<'t> {
    pub line: usize,
    pub text: &'t str,
}

/// What stands between single backticks outside of fenced blocks.
pub fn spans(text: &str) -> Vec<Piece<'_>> {
    let lines = prose(text).flat_map(|(line, text)| {
        text.split('`').skip(1).step_by(2).map(move |text| Piece { line, text: text.trim() })
    });
    lines.collect()
}

/// The targets of links: `[text](target)`.
pub fn links(text: &str) -> Vec<Piece<'_>> {
    let lines = prose(text).flat_map(|(line, text)| {
        let behind = text.split("](").skip(1);
        behind.filter_map(move |rest| Some(Piece { line, text: rest.split_once(')')?.0 }))
    });
    lines.collect()
}

/// A row of a table: its line, the first header cell of its table, and its cells.
#[derive(Debug, PartialEq)]
pub struct Row<'t> {
    pub line: usize,
    pub header: &'t str,
    pub cells: Vec<&'t str>,
}

/// The rows of all tables, without headers and rules.
pub fn rows(text: &str) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    let mut header = None;
    for (line, text) in prose(text) {
        let Some(inner) = text.trim().strip_prefix('|') else {
            header = None;
            continue;
        };
        let cells: Vec<_> = inner.trim_end_matches('|').split('|').map(str::trim).collect();
        match header {
            None => header = Some(cells[0]),
            Some(_) if cells.iter().all(|cell| cell.trim_matches([':', '-']).is_empty()) => {}
            Some(header) => rows.push(Row { line, header, cells }),
        }
    }
    rows
}

/// The anchors that headings have on GitHub.
pub fn anchors(text: &str) -> Vec<String> {
    let headings = prose(text).filter_map(|(_, line)| line.strip_prefix('#'));
    headings
        .map(|heading| {
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || " _-".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// The lines outside of fenced blocks, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fenced && !fence).then_some((index + 1, line))
    })
}

#[test]
fn a_document_is_taken_apart() {
    let text = "# A b, `C`\n```\n`not` [n](o)\n```\nsee `x` and `y z` [t](a.md#b)\n\n\
                | key | v |\n|---|:-:|\n| `k` | 1 |\n";
    let found: Vec<_> = spans(text).iter().map(|span| (span.line, span.text)).collect();
    assert_eq!(found, [(1, "C"), (5, "x"), (5, "y z"), (9, "k")]);
    assert_eq!(links(text), [Piece { line: 5, text: "a.md#b" }]);
    assert_eq!(rows(text), [Row { line: 9, header: "key", cells: vec!["`k`", "1"] }]);
    assert_eq!(anchors(text), ["a-b-c"]);
}
