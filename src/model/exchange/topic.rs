//! The topic exchange: patterns of dot-separated words, where `*` stands for one word and `#` for
//! any number of them, none included.
//!
//! The patterns are a trie. Matching walks all its branches at once, one word of the key at a time:
//! no node is visited twice for one word, so the work is bounded by nodes times words whatever
//! pattern a client thinks up. The empty key has no words; `.` has two empty ones.

use super::targets::{Target, TargetSet, Targets, Words};
use crate::hash::{Map, Seed};
use crate::spec::Name;

const ROOT: u32 = 0;

/// The patterns of a topic exchange.
#[derive(Debug)]
pub(super) struct Topic {
    seed: Seed,
    nodes: Vec<Node>,
    /// Nodes that no pattern needs any more.
    free: Vec<u32>,
}

#[derive(Debug)]
struct Node {
    words: Map<Name, u32>,
    star: Option<u32>,
    hash: Option<u32>,
    /// The node is a `#`: once reached it is never left.
    many: bool,
    /// What is bound with the pattern that ends here.
    targets: TargetSet,
}

impl Topic {
    pub fn new(seed: Seed) -> Self {
        Self { seed, nodes: vec![Node::new(seed)], free: Vec::new() }
    }

    pub fn add(&mut self, pattern: &str, target: Target) {
        let mut at = ROOT;
        for word in pattern_words(pattern) {
            at = match self.node(at).child(word) {
                Some(child) => child,
                None => self.grow(at, word),
            };
        }
        self.node_mut(at).targets.add(target);
    }

    pub fn remove(&mut self, pattern: &str, target: Target) {
        let mut path = Vec::new();
        let mut at = ROOT;
        for word in pattern_words(pattern) {
            path.push((at, word));
            let Some(child) = self.node(at).child(word) else {
                return;
            };
            at = child;
        }
        self.node_mut(at).targets.remove(target);
        while let Some((parent, word)) = path.pop()
            && self.node(at).is_needless()
        {
            self.node_mut(parent).cut(word);
            self.free.push(at);
            at = parent;
        }
    }

    pub fn collect(&self, key: &str, targets: &mut Targets) {
        let mut words = std::mem::take(&mut targets.words);
        words.begin(self.nodes.len());
        self.enter(ROOT, &mut words, targets);
        for word in split(key) {
            self.advance(word, &mut words, targets);
        }
        for &place in &words.next {
            self.node(place).targets.collect(targets);
        }
        targets.words = words;
    }

    /// Goes one word further on all branches.
    fn advance(&self, word: &str, words: &mut Words, targets: &mut Targets) {
        std::mem::swap(&mut words.current, &mut words.next);
        words.next.clear();
        for at in 0..words.current.len() {
            let place = words.current[at];
            let node = self.node(place);
            if node.many {
                words.next.push(place);
            }
            if let Some(&child) = node.words.get(word) {
                self.enter(child, words, targets);
            }
            if let Some(child) = node.star {
                self.enter(child, words, targets);
            }
        }
    }

    /// Stands on the node, and on the `#` behind it, which may stand for no word.
    fn enter(&self, place: u32, words: &mut Words, targets: &mut Targets) {
        words.next.push(place);
        let Some(hash) = self.node(place).hash else {
            return;
        };
        if !words.meet(hash) {
            return;
        }
        let node = self.node(hash);
        node.targets.collect(targets);
        if !node.is_leaf() {
            words.next.push(hash);
        }
    }

    fn grow(&mut self, parent: u32, word: &str) -> u32 {
        let mut node = Node::new(self.seed);
        node.many = word == "#";
        let place = if let Some(place) = self.free.pop() {
            *self.node_mut(place) = node;
            place
        } else {
            self.nodes.push(node);
            // A node has a pattern of its own; 2^32 of them do not fit into memory.
            (self.nodes.len() - 1) as u32
        };
        self.node_mut(parent).link(word, place);
        place
    }

    fn node(&self, place: u32) -> &Node {
        &self.nodes[place as usize]
    }

    fn node_mut(&mut self, place: u32) -> &mut Node {
        &mut self.nodes[place as usize]
    }
}

impl Node {
    fn new(seed: Seed) -> Self {
        Self {
            words: Map::with_hasher(seed),
            star: None,
            hash: None,
            many: false,
            targets: TargetSet::default(),
        }
    }

    fn child(&self, word: &str) -> Option<u32> {
        match word {
            "*" => self.star,
            "#" => self.hash,
            _ => self.words.get(word).copied(),
        }
    }

    fn link(&mut self, word: &str, place: u32) {
        match word {
            "*" => self.star = Some(place),
            "#" => self.hash = Some(place),
            _ => {
                self.words.insert(word.into(), place);
            }
        }
    }

    fn cut(&mut self, word: &str) {
        match word {
            "*" => self.star = None,
            "#" => self.hash = None,
            _ => {
                self.words.remove(word);
            }
        }
    }

    fn is_leaf(&self) -> bool {
        self.words.is_empty() && self.star.is_none() && self.hash.is_none()
    }

    fn is_needless(&self) -> bool {
        self.is_leaf() && self.targets.is_empty()
    }
}

impl Words {
    /// Starts a route in a trie of so many nodes.
    fn begin(&mut self, nodes: usize) {
        self.next.clear();
        self.route += 1;
        if self.met.len() < nodes {
            self.met.resize(nodes, 0);
        }
    }

    /// Whether the `#` is met for the first time on this route.
    fn meet(&mut self, hash: u32) -> bool {
        std::mem::replace(&mut self.met[hash as usize], self.route) != self.route
    }
}

fn split(key: &str) -> impl Iterator<Item = &str> {
    (!key.is_empty()).then(|| key.split('.')).into_iter().flatten()
}

/// The words of a pattern; several `#` in a row say no more than one.
fn pattern_words(pattern: &str) -> impl Iterator<Item = &str> {
    let mut before = "";
    split(pattern).filter(move |&word| {
        let again = word == "#" && before == "#";
        before = word;
        !again
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::{QueueId, ShardId};

    fn target(number: usize) -> Target {
        Target::Queue(QueueId(number as u64), ShardId(0))
    }

    /// Whether a pattern matches a key, word by word and without any cleverness.
    fn matches(pattern: &[&str], key: &[&str]) -> bool {
        match (pattern.split_first(), key.split_first()) {
            (None, None) => true,
            (Some((&"#", rest)), None) => matches(rest, key),
            (Some((&"#", rest)), Some((_, later))) => matches(rest, key) || matches(pattern, later),
            (Some((&"*", rest)), Some((_, later))) => matches(rest, later),
            (Some((word, rest)), Some((first, later))) => word == first && matches(rest, later),
            _ => false,
        }
    }

    fn naive(patterns: &[String], key: &str) -> Vec<u64> {
        let key: Vec<&str> = split(key).collect();
        let is_match = |pattern: &String| matches(&split(pattern).collect::<Vec<_>>(), &key);
        (0..patterns.len()).filter(|&n| is_match(&patterns[n])).map(|n| n as u64).collect()
    }

    fn found(topic: &Topic, key: &str, targets: &mut Targets) -> Vec<u64> {
        targets.clear();
        topic.collect(key, targets);
        let mut ids: Vec<u64> = targets.queues().iter().map(|queue| queue.0.0).collect();
        ids.sort_unstable();
        ids
    }

    fn topic(patterns: &[String]) -> Topic {
        let mut topic = Topic::new(Seed::new(1));
        patterns.iter().enumerate().for_each(|(n, pattern)| topic.add(pattern, target(n)));
        topic
    }

    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let topic = topic(&[pattern.to_owned()]);
        let mut targets = Targets::new();
        for key in yes {
            assert_eq!(found(&topic, key, &mut targets), [0], "{pattern:?} has to match {key:?}");
        }
        for key in no {
            assert_eq!(found(&topic, key, &mut targets), [], "{pattern:?} must not match {key:?}");
        }
    }

    #[test]
    fn words_stars_and_hashes() {
        check("a.b", &["a.b"], &["a", "a.b.c", "", "a.B", "a..b"]);
        check("*", &["a", "*", "#"], &["", "a.b", "."]);
        check("a.*.c", &["a.b.c", "a..c"], &["a.c", "a.b.b.c"]);
        check("#", &["", "a", "a.b", ".", "#"], &[]);
        check("#.#", &["", "a", "a.b", "."], &[]);
        check("a.#", &["a", "a.b", "a.b.c", "a."], &["", "b", "b.a"]);
        check("#.a", &["a", "b.a", "a.a", ".a"], &["", "a.b"]);
        check("#.*", &["a", "a.b", "."], &[""]);
        check("*.#", &["a", "a.b"], &[""]);
        check("#.a.#", &["a", "b.a.c", "a.a"], &["", "b", "aa"]);
        check("*.#.*", &["a.b", "a.b.c", "."], &["a", ""]);
    }

    #[test]
    fn empty_words_are_words_and_the_empty_key_has_none() {
        check("", &[""], &[".", "a"]);
        check(".", &["."], &["", "a.", ".."]);
        check("*.*", &[".", "a."], &["", ".."]);
        check("a.", &["a."], &["a", "a.b"]);
        check("a*", &["a*"], &["ab"]);
    }

    #[test]
    fn a_pattern_of_many_hashes_takes_bounded_work() {
        let pattern = "#.a.".repeat(60) + "b";
        let topic = topic(&[pattern]);
        let key = "a.".repeat(127) + "c";
        assert_eq!(found(&topic, &key, &mut Targets::new()), []);
        let key = "a.".repeat(126) + "b";
        assert_eq!(found(&topic, &key, &mut Targets::new()), [0]);
    }

    #[test]
    fn removing_everything_leaves_the_root_alone() {
        let patterns = ["a.b.c", "a.#", "*.b", "#.#", "#", ""].map(str::to_owned);
        let mut topic = topic(&patterns);
        topic.remove("a.b", target(0));
        topic.remove("nowhere", target(0));
        for (n, pattern) in patterns.iter().enumerate() {
            topic.remove(pattern, target(n));
        }
        assert!(topic.node(ROOT).is_needless());
        assert_eq!(topic.free.len() + 1, topic.nodes.len());
    }

    fn words(choice: &'static str) -> impl Strategy<Value = String> {
        let word = proptest::sample::select(choice.split(' ').collect::<Vec<_>>());
        prop::collection::vec(word, 0..6).prop_map(|words| words.join("."))
    }

    proptest! {
        #[test]
        fn the_trie_finds_what_a_naive_search_finds(
            patterns in prop::collection::vec(words("a b * # #  c"), 0..40),
            removed in prop::collection::vec(any::<bool>(), 40),
            keys in prop::collection::vec(words("a b c  d"), 1..20),
        ) {
            let mut topic = topic(&patterns);
            let mut targets = Targets::new();
            for key in &keys {
                prop_assert_eq!(found(&topic, key, &mut targets), naive(&patterns, key));
            }
            for n in (0..patterns.len()).filter(|&n| removed[n]) {
                topic.remove(&patterns[n], target(n));
            }
            for key in &keys {
                let mut left = naive(&patterns, key);
                left.retain(|&n| !removed[n as usize]);
                prop_assert_eq!(found(&topic, key, &mut targets), left);
            }
        }
    }
}
