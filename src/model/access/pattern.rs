//! A regular expression of a permission or a policy. Lookaround is allowed, so a match is not
//! linear in the length of the name: one that takes too many steps fails.

use std::hash::{Hash, Hasher};

use fancy_regex::{Regex, RegexBuilder};

use crate::access::Reach;
use crate::topology::spec::Name;

/// The longest pattern, in bytes.
pub const PATTERN_MAX: usize = 4096;
/// The most steps back that one match may take.
pub const BACKTRACK_MAX: usize = 100_000;
/// The most bytes of memory that the automata of one pattern may take.
const COMPILED_MAX: usize = 1 << 20;

/// Patterns that match every name, since no name has a line end.
const EVERYTHING: [&str; 5] = [".*", "^.*$", "^.*", ".*$", "^"];
/// Patterns that match the empty name only, which no object has. RabbitMQ takes an empty pattern
/// for the second.
const NOTHING: [&str; 2] = ["", "^$"];

/// A compiled pattern.
#[derive(Debug, Clone)]
pub struct NamePattern {
    text: Name,
    /// `None`: it matches the empty name only.
    regex: Option<Regex>,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
pub enum PatternError {
    /// It is longer than [`PATTERN_MAX`].
    #[error("the pattern is longer than {PATTERN_MAX} bytes")]
    TooLong,
    /// It is no regular expression, or has a part that is not built.
    #[error("{0}")]
    Invalid(String),
}

/// A match took more than [`BACKTRACK_MAX`] steps back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManySteps;

impl NamePattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// See [`PatternError`].
    pub fn new(text: &str) -> Result<Self, PatternError> {
        if text.len() > PATTERN_MAX {
            return Err(PatternError::TooLong);
        }
        if text.is_empty() {
            return Ok(Self { text: text.into(), regex: None });
        }
        let mut builder = RegexBuilder::new(text);
        builder.backtrack_limit(BACKTRACK_MAX);
        builder.delegate_size_limit(COMPILED_MAX);
        builder.delegate_dfa_size_limit(COMPILED_MAX);
        let regex = builder.build().map_err(|why| PatternError::Invalid(why.to_string()))?;
        Ok(Self { text: text.into(), regex: Some(regex) })
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn text(&self) -> &Name {
        &self.text
    }

    /// Whether the pattern matches somewhere in the name.
    ///
    /// # Errors
    /// [`TooManySteps`], and the name counts as not matched.
    pub fn matches(&self, name: &str) -> Result<bool, TooManySteps> {
        match &self.regex {
            None => Ok(name.is_empty()),
            Some(regex) => regex.is_match(name).map_err(|_| TooManySteps),
        }
    }

    /// What is known of the pattern without a name.
    #[must_use]
    pub fn reach(&self) -> Reach {
        match &*self.text {
            text if EVERYTHING.contains(&text) => Reach::Everything,
            text if NOTHING.contains(&text) => Reach::Nothing,
            _ => Reach::Some,
        }
    }
}

/// Patterns of the same text are the same.
impl PartialEq for NamePattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for NamePattern {}

impl Hash for NamePattern {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.text.hash(hasher);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        NamePattern::new(pattern).unwrap().matches(name).unwrap()
    }

    #[test]
    fn a_pattern_matches_anywhere_unless_it_is_anchored() {
        assert!(matches("b", "abc") && matches("^a", "abc") && matches("c$", "abc"));
        assert!(!matches("^b", "abc") && !matches("^a$", "abc"));
        assert!(!matches("", "abc") && !matches("^$", "abc"));
    }

    #[test]
    fn lookaround_is_understood() {
        let all_but_amq = r"^(?!amq\.).*";
        assert!(matches(all_but_amq, "orders") && matches(all_but_amq, "amq"));
        assert!(!matches(all_but_amq, "amq.topic"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        assert!(matches!(NamePattern::new("(a"), Err(PatternError::Invalid(_))));
        assert_eq!(NamePattern::new(&"a".repeat(PATTERN_MAX + 1)), Err(PatternError::TooLong));
        assert!(NamePattern::new(&"a".repeat(PATTERN_MAX)).is_ok());
        assert!(matches!(NamePattern::new(r"\w{1000}{1000}"), Err(PatternError::Invalid(_))));
    }

    #[test]
    fn a_match_that_takes_too_long_ends() {
        let slow = NamePattern::new(r"^(?=(a|aa|aaa)*b)(?!x)(a|a|a)*\1c$").unwrap();
        assert_eq!(slow.matches(&"a".repeat(200)), Err(TooManySteps));
    }

    proptest! {
        #[test]
        fn what_reaches_everything_or_nothing_matches_so(name in "[^\r\n]{1,20}", at in 0usize..7) {
            let text = EVERYTHING.iter().chain(&NOTHING).nth(at).unwrap();
            let pattern = NamePattern::new(text).unwrap();
            let everything = pattern.reach() == Reach::Everything;
            prop_assert_eq!(pattern.matches(&name), Ok(everything));
        }
    }
}
