//! Where messages go: routing keys, bindings, and how many queues a message comes to.
//!
//! A message that goes to N queues is N expected deliveries. The generator makes the bindings
//! itself and knows what each routing key matches, so it does not need the broker to tell.

use std::sync::Arc;

use clap::ValueEnum;

use crate::sizes::scramble;

/// The header that stands for the routing key at a headers exchange.
pub const HEADER: &str = "key";

/// Types of exchanges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExchangeKind {
    /// A binding key that is the routing key.
    Direct,
    /// All queues.
    Fanout,
    /// Patterns of words.
    Topic,
    /// Here: a header that is the binding key.
    Headers,
}

impl ExchangeKind {
    /// As exchange.declare calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ExchangeKind::Direct => "direct",
            ExchangeKind::Fanout => "fanout",
            ExchangeKind::Topic => "topic",
            ExchangeKind::Headers => "headers",
        }
    }

    fn matches(self, binding: &str, key: &str) -> bool {
        match self {
            ExchangeKind::Fanout => true,
            ExchangeKind::Direct | ExchangeKind::Headers => binding == key,
            ExchangeKind::Topic => {
                let binding: Vec<&str> = binding.split('.').collect();
                let key: Vec<&str> = key.split('.').collect();
                topic_matches(&binding, if key == [""] { &[] } else { &key })
            }
        }
    }
}

/// `*` is one word, `#` any number of them.
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

/// An exchange as it is bound for a run.
#[derive(Debug, Clone)]
pub struct Bound {
    /// Its type; `None` for the default exchange.
    pub kind: Option<ExchangeKind>,
    /// The queues and the binding keys of each.
    pub queues: Vec<(String, Vec<String>)>,
}

impl Bound {
    /// How many queues a message with this routing key comes to.
    #[must_use]
    pub fn copies(&self, key: &str) -> u64 {
        let takes = |(queue, bindings): &&(String, Vec<String>)| match self.kind {
            None => queue == key,
            Some(kind) => bindings.iter().any(|binding| kind.matches(binding, key)),
        };
        self.queues.iter().filter(takes).count() as u64
    }
}

/// The routing keys that producers go through in turn, and what they mean for the books.
#[derive(Debug)]
pub struct Keys {
    /// The keys, at least one.
    pub names: Vec<String>,
    /// Expected deliveries, and messages that go nowhere, of the first n keys.
    sums: Vec<(u64, u64)>,
}

impl Keys {
    /// Keys with the weight of each: deliveries to expect, or one return.
    #[must_use]
    pub fn new(names: Vec<String>, weight: impl Fn(&str) -> u64) -> Self {
        let mut sums = vec![(0, 0)];
        let (mut weights, mut nowhere) = (0, 0);
        for name in &names {
            let here = weight(name);
            weights += here;
            nowhere += u64::from(here == 0);
            sums.push((weights, nowhere));
        }
        Self { names, sums }
    }

    /// The most queues that one message goes to.
    #[must_use]
    pub fn copies_max(&self) -> u64 {
        self.sums.windows(2).map(|pair| pair[1].0 - pair[0].0).max().unwrap_or(0)
    }

    fn first(&self, count: u64) -> (u64, u64) {
        let len = self.names.len() as u64;
        let (rounds, rest) = (count / len, (count % len) as usize);
        let (all, part) = (self.sums[len as usize], self.sums[rest]);
        (rounds * all.0 + part.0, rounds * all.1 + part.1)
    }
}

/// The keys as one producer goes through them.
#[derive(Debug, Clone)]
pub struct Route {
    /// The keys.
    pub keys: Arc<Keys>,
    /// Where it begins.
    pub offset: u64,
}

impl Route {
    /// One key, each message to one queue.
    #[must_use]
    pub fn plain(key: &str) -> Self {
        Self { keys: Arc::new(Keys::new(vec![key.to_owned()], |_| 1)), offset: 0 }
    }

    /// Which key a message has.
    #[must_use]
    pub fn key(&self, sequence: u64) -> usize {
        ((self.offset + sequence) % self.keys.names.len() as u64) as usize
    }

    /// Deliveries (or returns) to expect of `count` messages from `first` on.
    #[must_use]
    pub fn weight(&self, first: u64, count: u64) -> u64 {
        let first = self.offset + first;
        self.keys.first(first + count).0 - self.keys.first(first).0
    }

    /// How many of the first `count` messages go nowhere by rights.
    #[must_use]
    pub fn nowhere(&self, count: u64) -> u64 {
        self.keys.first(self.offset + count).1 - self.keys.first(self.offset).1
    }
}

/// `count` keys that look random, the same in every run.
#[must_use]
pub fn random_keys(count: u32) -> Vec<String> {
    (0..u64::from(count)).map(|n| format!("{:016x}", scramble(n))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(kind: Option<ExchangeKind>, queues: &[(&str, &[&str])]) -> Bound {
        let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let queues = queues.iter().map(|(name, keys)| ((*name).to_owned(), own(keys))).collect();
        Bound { kind, queues }
    }

    #[test]
    fn copies_are_the_queues_that_match() {
        let queues: &[(&str, &[&str])] = &[("a", &["x.*", "#"]), ("b", &["x.y"]), ("c", &["*.y"])];
        let topic = bound(Some(ExchangeKind::Topic), queues);
        assert_eq!((topic.copies("x.y"), topic.copies("z.y"), topic.copies("")), (3, 2, 1));
        let direct = bound(Some(ExchangeKind::Direct), queues);
        assert_eq!((direct.copies("x.y"), direct.copies("z")), (1, 0));
        assert_eq!(bound(Some(ExchangeKind::Fanout), queues).copies("z"), 3);
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
            assert_eq!(ExchangeKind::Topic.matches(binding, key), expected, "{binding} {key}");
        }
    }

    #[test]
    fn weights_add_up_from_anywhere() {
        let names = ["a", "bb", "", "dddd"].map(str::to_owned).to_vec();
        let route = Route { keys: Arc::new(Keys::new(names, |key| key.len() as u64)), offset: 3 };
        let slow = |first, count| -> u64 {
            (first..first + count).map(|n| route.keys.names[route.key(n)].len() as u64).sum()
        };
        for (first, count) in [(0, 0), (0, 1), (2, 9), (5, 4), (1, 100)] {
            assert_eq!(route.weight(first, count), slow(first, count), "{first} {count}");
        }
        assert_eq!((route.nowhere(3), route.nowhere(4), route.nowhere(8)), (0, 1, 2));
    }
}
