//! ARCHITECTURE.md stays a map: short, in short paragraphs, and it says where additions go.

use crate::markdown;
use crate::source::File;
use std::collections::BTreeSet;

const LINES_MAX: usize = 200;
const PARAGRAPH_MAX: usize = 8;
/// How many files an addition may name.
const ADDITION_FILES_MAX: usize = 6;
const ADDITIONS: &str = "\n## Where would I add ...\n";
/// What has its paragraph there.
const WANTED: [&str; 6] = [
    "a delay for messages",
    "a stateful exchange type",
    "a quorum queue kind",
    "TLS",
    "MQTT",
    "an HTTP list of queues",
];

pub fn complaints(files: &[File]) -> Vec<String> {
    let Some(map) = files.iter().find(|file| file.path == "ARCHITECTURE.md") else {
        return vec!["ARCHITECTURE.md: not there".to_owned()];
    };
    let lines = map.text.lines().count();
    let mut complaints = Vec::new();
    if lines > LINES_MAX {
        complaints.push(format!("ARCHITECTURE.md: {lines} lines, at most {LINES_MAX}"));
    }
    complaints.extend(long_paragraphs(&map.text));
    complaints.extend(WANTED.iter().filter_map(|addition| addition_complaint(&map.text, addition)));
    complaints
}

/// Tables, lists and fenced blocks are no paragraphs; an item of a list is one.
fn long_paragraphs(text: &str) -> Vec<String> {
    let (mut complaints, mut length, mut fenced) = (Vec::new(), 0, false);
    for (index, line) in text.lines().chain([""]).enumerate() {
        let trimmed = line.trim_start();
        fenced ^= trimmed.starts_with("```");
        let item = trimmed.starts_with("- ");
        let none = fenced || trimmed.is_empty() || trimmed.starts_with(['|', '#', '`']);
        if none || item {
            if length > PARAGRAPH_MAX {
                let most = format!("{length} lines, at most {PARAGRAPH_MAX}");
                complaints.push(format!("ARCHITECTURE.md:{index}: a paragraph of {most}"));
            }
            length = usize::from(item);
        } else {
            length += 1;
        }
    }
    complaints
}

fn addition_complaint(text: &str, addition: &str) -> Option<String> {
    let behind = text.split_once(ADDITIONS).map_or("", |(_, behind)| behind);
    let section = behind.split("\n## ").next().unwrap_or_default();
    let start = format!("**... {addition}?**");
    let Some((_, paragraph)) = section.split_once(&start) else {
        return Some(format!("ARCHITECTURE.md: does not say where to add {addition}"));
    };
    let paragraph = paragraph.split("\n\n").next().unwrap_or_default();
    let spans = markdown::spans(paragraph);
    let files: BTreeSet<_> =
        spans.iter().map(|span| span.text).filter(|text| text.contains('/')).collect();
    let fits = (1..=ADDITION_FILES_MAX).contains(&files.len());
    (!fits).then(|| {
        let count = files.len();
        format!("ARCHITECTURE.md: {count} files for {addition}, at most {ADDITION_FILES_MAX}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Vec<String> {
        complaints(&[File { path: "ARCHITECTURE.md".to_owned(), text: text.to_owned() }])
    }

    fn additions(files: &str) -> String {
        let paragraphs = WANTED.iter().map(|wanted| format!("**... {wanted}?** In {files}.\n"));
        format!("{ADDITIONS}\n{}", paragraphs.collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn a_map_that_is_too_long_is_found() {
        assert_eq!(complaints(&[]).len(), 1);
        let fine = additions("`a/b.rs`");
        assert_eq!(check(&fine), Vec::<String>::new());
        assert_eq!(check(&format!("{fine}{}", "\n".repeat(200))).len(), 1);
        let paragraph = |lines: usize| format!("{}{fine}", "text\n".repeat(lines));
        assert_eq!(check(&paragraph(8)), Vec::<String>::new());
        assert_eq!(check(&paragraph(9)).len(), 1);
        assert_eq!(check(&format!("{}{fine}", "- text\n".repeat(20))), Vec::<String>::new());
        assert_eq!(check(&format!("- a\n{}{fine}", "  b\n".repeat(8))).len(), 1);
        assert_eq!(check(&format!("```\n{}```\n{fine}", "a\n".repeat(20))), Vec::<String>::new());
    }

    #[test]
    fn an_addition_without_its_place_is_found() {
        assert_eq!(check("\n").len(), WANTED.len());
        assert_eq!(check(&additions("no file")).len(), WANTED.len());
        let files = |count: usize| -> String {
            (0..count).map(|index| format!("`a/{index}.rs` ")).collect()
        };
        assert_eq!(check(&additions(&files(6))), Vec::<String>::new());
        assert_eq!(check(&additions(&files(7))).len(), WANTED.len());
        let elsewhere = additions("`a/b.rs`").replace("## Where", "## Somewhere");
        assert_eq!(check(&elsewhere).len(), WANTED.len());
    }
}
