//! Private terms, and phrases that a reader has to read twice: which ones, and what to say instead.

use crate::source::File;
use std::collections::BTreeMap;

/// Words that must not stand next to each other, in comments, names and prose alike.
/// `writeThrough`, `write_through` and `write-through` are the words `write through`. A last word
/// with `*` stands for all that begin like it.
struct Ban {
    phrase: &'static str,
    better: &'static str,
    /// Where the phrase may stand, by the beginning of the path, each with its reason.
    except: &'static [(&'static str, &'static str)],
}

const fn ban(phrase: &'static str, better: &'static str) -> Ban {
    Ban { phrase, better, except: &[] }
}

const BANS: &[Ban] = &[
    ban("befall*", "inject"),
    ban("nobody knows it", "say what is deleted"),
    ban("not to be had", "cannot bind, cannot open"),
    ban("for the other's sake", "say what waits for what"),
    ban("deed", "action"),
    ban("deeds", "actions"),
    ban("ear", "monitor"),
    ban("ears", "monitors"),
    ban("obstacle*", "StartError, what stops the start"),
    ban("outlet*", "QueueOutput"),
    ban("crowded", "backpressure"),
    ban("hurry", "flush_requested"),
    ban("bell", "wakeup"),
    ban("bells", "wakeups"),
    ban("write through", "bypass the log"),
    ban("writes through", "bypasses the log"),
    ban("wrote through", "bypassed the log"),
    ban("written through", "bypassed the log"),
    ban("is away", "is spilled"),
    ban("are away", "are spilled"),
    ban("be away", "be spilled"),
    Ban {
        phrase: "half received",
        better: "partial message",
        except: &[("src/sessions/timers.rs", "a reply text that clients know")],
    },
    ban("whoever", "name who"),
    ban("somebody else", "another client, another thread"),
    ban("has to do with", "say how"),
    ban("is let go", "is released, is closed"),
    ban("are let go", "are released, are closed"),
    ban("lets go of", "releases"),
    ban("let go of", "released"),
    ban("as it likes", "say in which order"),
    ban("its worst", "say what it does"),
    ban("another story", "a state that never existed"),
    ban("own books", "file-system metadata"),
    ban("the first thought of", "creating"),
    ban("goes wrong with", "say what fails"),
    ban("is owed", "is pending"),
    ban("are owed", "are pending"),
    Ban {
        phrase: "octet*",
        better: "byte",
        except: &[
            ("src/amqp/", "the term of the wire"),
            ("src/model/refusal/", "RabbitMQ's reply texts have it"),
            ("src/mesh/batch.rs", "calls the writer of the wire crate"),
            ("src/mesh/record.rs", "calls the reader of the wire crate"),
            ("src/store/meta/access_fact.rs", "calls the writer of the wire crate"),
            ("src/store/meta/fact.rs", "calls the writer of the wire crate"),
            ("tests/blackbox/", "RabbitMQ's reply texts have it"),
            ("docs/compatibility.md", "RabbitMQ's reply texts have it"),
            ("docs/glossary.md", "says where it is used"),
            ("ARCHITECTURE.md", "names the module of the wire crate"),
            ("loadgen/src/report/baselines.rs", "reads results that older versions wrote"),
            ("tests/session/limits.rs", "the reply text has it"),
            ("loadgen/tests/ceiling.rs", "reads results that older versions can read"),
            ("tests/fuzz/wire.rs", "the term of the wire"),
        ],
    },
];

/// Texts that are not ours, data, and the list itself.
const NOT_OURS: [&str; 6] = [
    "LICENSE-",
    "Cargo.lock",
    "docs/suite.",
    "tests/clients/lapin/Cargo.lock",
    "tests/clients/node/package-lock.json",
    "tests/tidy/banned.rs",
];

pub fn complaints(files: &[File]) -> Vec<String> {
    let phrases = by_first_word(BANS);
    let ours = files.iter().filter(|file| !NOT_OURS.iter().any(|at| file.path.starts_with(at)));
    ours.flat_map(|file| in_file(file, &phrases)).collect()
}

type Phrases = BTreeMap<&'static str, Vec<&'static Ban>>;

fn by_first_word(bans: &'static [Ban]) -> Phrases {
    let mut phrases = Phrases::new();
    for ban in bans {
        let first = ban.phrase.split(' ').next().unwrap_or_default();
        phrases.entry(first).or_default().push(ban);
    }
    phrases
}

fn in_file(file: &File, phrases: &Phrases) -> Vec<String> {
    let words = words(&file.text);
    let mut complaints = Vec::new();
    for at in 0..words.len() {
        let word = words[at].1.as_str();
        // A phrase of one word with `*` is found by a beginning of the word.
        let beginnings = (1..=word.len()).filter_map(|end| word.get(..end));
        let starred = beginnings.filter_map(|start| phrases.get(format!("{start}*").as_str()));
        let found = phrases.get(word).into_iter().chain(starred).flatten();
        for ban in found.filter(|ban| stands_at(ban.phrase, &words[at..])) {
            if !ban.except.iter().any(|(path, _)| file.path.starts_with(path)) {
                let Ban { phrase, better, .. } = ban;
                let line = words[at].0;
                complaints.push(format!("{}:{line}: \"{phrase}\"; better: {better}", file.path));
            }
        }
    }
    complaints
}

fn stands_at(phrase: &str, words: &[(usize, String)]) -> bool {
    let mut words = words.iter().map(|(_, word)| word.as_str());
    phrase.split(' ').all(|wanted| {
        words.next().is_some_and(|word| match wanted.strip_suffix('*') {
            Some(start) => word.starts_with(start),
            None => word == wanted,
        })
    })
}

/// Every word in lower case with its line. What ends a clause is a word of its own, so that no
/// phrase is found across it; the marks of comments and the parts of names are none.
fn words(text: &str) -> Vec<(usize, String)> {
    let mut words: Vec<(usize, String)> = Vec::new();
    let mut joined = false;
    let mut before = ' ';
    let mut line = 1;
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        let inner = char == '\'' && joined && chars.peek().is_some_and(|next| next.is_alphabetic());
        if char.is_alphabetic() || inner {
            let hump = char.is_uppercase() && before.is_lowercase();
            match words.last_mut() {
                Some((_, word)) if joined && !hump => word.extend(char.to_lowercase()),
                _ => words.push((line, char.to_lowercase().collect())),
            }
        } else if matches!(char, '.' | ',' | ';' | ':' | '(' | ')' | '{' | '}' | '"' | '=') {
            words.push((line, char.to_string()));
        }
        joined = char.is_alphabetic() || inner;
        line += usize::from(char == '\n');
        before = char;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    static SOME: [Ban; 3] = [
        ban("write through", "bypass"),
        ban("deed*", "action"),
        Ban { phrase: "the other's sake", better: "x", except: &[("src/amqp/", "a reason")] },
    ];

    fn check(path: &str, text: &str) -> Vec<String> {
        let file = File { path: path.to_owned(), text: text.to_owned() };
        in_file(&file, &by_first_word(&SOME))
    }

    #[test]
    fn a_banned_phrase_is_found() {
        for text in [
            "a\n/// They write\n/// through.",
            "let write_through = 1;",
            "struct WriteThrough;",
            "\"Write-through\"",
            "fn deeds() {}",
            "NewDeed",
            "for the\n# other's sake, so",
        ] {
            assert_eq!(check("src/a.rs", text).len(), 1, "{text}");
        }
        let found = check("a.md", "\nof deeds");
        assert_eq!(found, ["a.md:2: \"deed*\"; better: action"]);
    }

    #[test]
    fn what_only_looks_like_it_is_left_alone() {
        for text in ["they write. Through", "write(through)", "indeed", "underwrite through"] {
            assert_eq!(check("src/a.rs", text), Vec::<String>::new(), "{text}");
        }
        assert_eq!(check("src/amqp/a.rs", "the other's sake"), Vec::<String>::new());
        assert_eq!(check("src/amqp/a.rs", "deed").len(), 1);
    }

    #[test]
    fn an_exception_has_its_reason() {
        let exceptions = BANS.iter().flat_map(|ban| ban.except);
        for (path, reason) in exceptions {
            assert!(!path.is_empty() && reason.len() > 10, "{path}: {reason}");
        }
    }
}
