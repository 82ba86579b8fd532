//! Exchange types and bindings, and how many queues a message is routed to.
//!
//! A message routed to N queues is N expected deliveries. The generator declares the bindings
//! itself and knows which queues each routing key matches, so it does not have to ask the broker.

use clap::ValueEnum;

/// The header that holds the routing key for a headers exchange.
pub const HEADER: &str = "key";

/// The exchange types of `--type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExchangeTypeArg {
    /// Binding key and routing key are equal.
    Direct,
    /// All bound queues.
    Fanout,
    /// Binding keys are patterns of words.
    Topic,
    /// A header equals the binding key.
    Headers,
}

impl ExchangeTypeArg {
    /// The name in exchange.declare.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ExchangeTypeArg::Direct => "direct",
            ExchangeTypeArg::Fanout => "fanout",
            ExchangeTypeArg::Topic => "topic",
            ExchangeTypeArg::Headers => "headers",
        }
    }

    fn matches(self, binding: &str, key: &str) -> bool {
        match self {
            ExchangeTypeArg::Fanout => true,
            ExchangeTypeArg::Direct | ExchangeTypeArg::Headers => binding == key,
            ExchangeTypeArg::Topic => {
                let binding: Vec<&str> = binding.split('.').collect();
                let key: Vec<&str> = key.split('.').collect();
                topic_matches(&binding, if key == [""] { &[] } else { &key })
            }
        }
    }
}

/// `*` matches one word, `#` any number of words.
fn topic_matches(binding: &[&str], key: &[&str]) -> bool {
    match (binding, key) {
        ([], []) => true,
        (["#", rest @ ..], _) => {
            topic_matches(rest, key)
                || key.split_first().is_some_and(|(_, key)| topic_matches(binding, key))
        }
        ([word, rest @ ..], [first, key @ ..]) => {
            (*word == "*" || word == first) && topic_matches(rest, key)
        }
        _ => false,
    }
}

/// The queues of a run and how they are bound.
#[derive(Debug, Clone)]
pub struct BoundQueues {
    /// The type of the exchange; `None` for the default exchange.
    pub kind: Option<ExchangeTypeArg>,
    /// The queues, each with its binding keys.
    pub queues: Vec<(String, Vec<String>)>,
}

impl BoundQueues {
    /// How many queues a message with this routing key is routed to.
    #[must_use]
    pub fn copies(&self, key: &str) -> u64 {
        let takes = |(queue, bindings): &&(String, Vec<String>)| match self.kind {
            None => queue == key,
            Some(kind) => bindings.iter().any(|binding| kind.matches(binding, key)),
        };
        self.queues.iter().filter(takes).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(kind: Option<ExchangeTypeArg>, queues: &[(&str, &[&str])]) -> BoundQueues {
        let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let queues = queues.iter().map(|(name, keys)| ((*name).to_owned(), own(keys))).collect();
        BoundQueues { kind, queues }
    }

    #[test]
    fn copies_count_the_matching_queues() {
        let queues: &[(&str, &[&str])] = &[("a", &["x.*", "#"]), ("b", &["x.y"]), ("c", &["*.y"])];
        let topic = bound(Some(ExchangeTypeArg::Topic), queues);
        assert_eq!((topic.copies("x.y"), topic.copies("z.y"), topic.copies("")), (3, 2, 1));
        let direct = bound(Some(ExchangeTypeArg::Direct), queues);
        assert_eq!((direct.copies("x.y"), direct.copies("z")), (1, 0));
        assert_eq!(bound(Some(ExchangeTypeArg::Fanout), queues).copies("z"), 3);
        assert_eq!((bound(None, queues).copies("b"), bound(None, queues).copies("z")), (1, 0));
    }

    #[test]
    fn topic_patterns_match_as_the_protocol_says() {
        for (binding, key, expected) in [
            ("a.#.b", "a.b", true),
            ("a.#.b", "a.x.y.b", true),
            ("a.#.b", "a.x.y", false),
            ("#", "", true),
            ("*", "", false),
            ("*.#", "a", true),
            ("a.*", "a", false),
        ] {
            assert_eq!(ExchangeTypeArg::Topic.matches(binding, key), expected, "{binding} {key}");
        }
    }
}
