//! The trie against the plain rule, and the work it takes.

use proptest::prelude::*;

use super::{Topic, split};
use crate::exchange::targets::{Target, Targets};
use crate::ids::{QueueId, ShardId};
use crate::random::Entropy;

fn target(number: usize) -> Target {
    Target::Queue(QueueId(number as u64), ShardId(0))
}

/// Whether a pattern matches a key: for each end of the pattern, which ends of the key match it.
fn matches(pattern: &[&str], key: &[&str]) -> bool {
    let Some((first, rest)) = pattern.split_first() else {
        return key.is_empty();
    };
    // By position in the key: the rest of the pattern matches what is behind.
    let mut later = vec![false; key.len() + 1];
    later[key.len()] = true;
    for word in rest.iter().rev().chain(std::iter::once(first)) {
        let mut now = vec![false; key.len() + 1];
        for at in (0..=key.len()).rev() {
            now[at] = match (*word, key.get(at)) {
                ("#", next) => later[at] || (next.is_some() && now[at + 1]),
                ("*", Some(_)) => later[at + 1],
                (word, Some(next)) => word == *next && later[at + 1],
                (_, None) => false,
            };
        }
        later = now;
    }
    later[0]
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
    let mut topic = Topic::new(Entropy::from_seed(1).map_seed());
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

/// So many patterns of 128 words, all different in front, that say `#` every other word.
fn repeated_hashes(count: usize) -> Vec<String> {
    let word = |n: usize, at: usize| if n >> at & 1 == 0 { "#.a" } else { "#.*" };
    let pattern = |n| (0..64).map(|at| word(n, at)).collect::<Vec<_>>().join(".");
    (0..count).map(pattern).collect()
}

/// What one key costs: found targets, and steps.
fn cost(topic: &Topic, key: &str) -> (usize, u64) {
    let mut targets = Targets::new();
    topic.collect(key, &mut targets);
    (targets.queues().len(), targets.work())
}

/// Steps that a key may cost: one for each of its words, node, edge and found target.
fn bound(topic: &Topic, key: &str, found: usize) -> u64 {
    (split(key).count() + 2 * topic.nodes.len() + found) as u64
}

#[test]
fn repeated_hashes_cost_a_visit_a_node_however_long_the_key() {
    let topic = topic(&repeated_hashes(500));
    assert!(topic.nodes.len() > 50_000);
    for words in [1, 2, 63, 64, 127, 128] {
        let key = vec!["a"; words].join(".");
        let (found, work) = cost(&topic, &key);
        assert_eq!(found, if words < 64 { 0 } else { 500 });
        assert!(work <= bound(&topic, &key, found), "{work} steps for {words} words");
    }
}

#[test]
fn a_plain_pattern_costs_its_own_words() {
    let patterns: Vec<String> = (0..1000).map(|n| format!("shop.{n}.order.*")).collect();
    let topic = topic(&patterns);
    let (found, work) = cost(&topic, "shop.500.order.7");
    assert_eq!(found, 1);
    assert!(work <= 14, "{work} steps");
}

#[test]
fn many_words_behind_a_hash_cost_the_words_of_the_key() {
    let patterns: Vec<String> = (0..1000).map(|n| format!("#.{n}")).collect();
    let topic = topic(&patterns);
    let (found, work) = cost(&topic, "a.b.c.500");
    assert_eq!(found, 1);
    assert!(work <= 14, "{work} steps");
}

#[test]
fn a_pattern_of_many_hashes_may_fail_at_its_last_word() {
    let topic = topic(&["#.a.".repeat(60) + "b"]);
    let mut targets = Targets::new();
    assert_eq!(found(&topic, &("a.".repeat(127) + "c"), &mut targets), []);
    assert_eq!(found(&topic, &("a.".repeat(126) + "b"), &mut targets), [0]);
}

#[test]
fn a_key_of_dots_alone_has_the_most_words() {
    let topic = topic(&["#.*.#", &".".repeat(254), &".".repeat(255), "#.a"].map(str::to_owned));
    assert_eq!(found(&topic, &".".repeat(255), &mut Targets::new()), [0, 2]);
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
    assert!(topic.nodes[0].is_needless());
    assert_eq!(topic.free.len() + 1, topic.nodes.len());
    assert!(topic.dictionary.is_empty());
}

/// Less than `max` of these words.
fn words(choice: &'static str, max: usize) -> impl Strategy<Value = String> {
    let word = proptest::sample::select(choice.split(' ').collect::<Vec<_>>());
    prop::collection::vec(word, 0..max).prop_map(|words| words.join("."))
}

proptest! {
    #[test]
    fn the_trie_finds_what_a_naive_search_finds(
        patterns in prop::collection::vec(words("a b * # #  c", 6), 0..40),
        removed in prop::collection::vec(any::<bool>(), 40),
        keys in prop::collection::vec(words("a b c  d", 6), 1..20),
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

    #[test]
    fn long_keys_match_as_the_plain_rule_says(
        patterns in prop::collection::vec(words("a b * # # # c.c.c a.#.b.#", 40), 0..30),
        keys in prop::collection::vec(words("a b c", 200), 1..4),
    ) {
        let topic = topic(&patterns);
        let mut targets = Targets::new();
        for key in &keys {
            let expected = naive(&patterns, key);
            prop_assert_eq!(&found(&topic, key, &mut targets), &expected);
            prop_assert!(targets.work() <= bound(&topic, key, expected.len()));
        }
    }

    #[test]
    fn wide_nodes_match_as_the_plain_rule_says(
        patterns in prop::collection::vec("(#\\.)?[a-z]\\.(\\*\\.)?[a-z]", 0..200),
        keys in prop::collection::vec("[a-z](\\.[a-z]){0,5}", 1..20),
    ) {
        let topic = topic(&patterns);
        let mut targets = Targets::new();
        for key in &keys {
            prop_assert_eq!(found(&topic, key, &mut targets), naive(&patterns, key));
        }
    }
}
