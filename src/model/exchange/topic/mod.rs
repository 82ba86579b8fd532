//! The topic exchange: patterns of dot-separated words, where `*` stands for one word and `#` for
//! any number of them, none included.
//!
//! The patterns are a trie; [`walk`] matches a key. The empty key has no words; `.` has two empty
//! ones.

mod dictionary;
mod node;
mod positions;
#[cfg(test)]
mod trie_test;
mod walk;

use self::dictionary::Dictionary;
use self::node::{Node, NodeId};
use self::walk::Walk;
use super::targets::{Target, Targets};
use crate::hash::SecretSeed;

pub(super) use self::walk::TopicBuffers;

/// The patterns of a topic exchange.
#[derive(Debug)]
pub(super) struct Topic {
    /// The first is the root.
    nodes: Vec<Node>,
    /// By node: how many nodes had been made when it was made last.
    born: Vec<u64>,
    /// Nodes that were made so far.
    grown: u64,
    /// Nodes that no pattern needs any more.
    free: Vec<NodeId>,
    dictionary: Dictionary,
}

impl Topic {
    pub fn new(seed: SecretSeed) -> Self {
        Self {
            nodes: vec![Node::default()],
            born: vec![0],
            grown: 0,
            free: Vec::new(),
            dictionary: Dictionary::new(seed),
        }
    }

    pub fn add(&mut self, pattern: &str, target: Target) {
        let mut at = 0;
        for word in pattern_words(pattern) {
            let node = self.child(at, word).unwrap_or_else(|| self.grow(at, word));
            at = index(node);
        }
        self.nodes[at].targets.add(target);
    }

    pub fn remove(&mut self, pattern: &str, target: Target) {
        let mut path = Vec::new();
        let mut at = 0;
        for word in pattern_words(pattern) {
            let Some(node) = self.child(at, word) else {
                return;
            };
            path.push((at, word, node));
            at = index(node);
        }
        self.nodes[at].targets.remove(target);
        while let Some((parent, word, node)) = path.pop()
            && self.nodes[index(node)].is_needless()
        {
            self.cut(parent, word);
            self.free.push(node);
        }
    }

    /// Adds the targets of all patterns that match, or goes on with that; false if the route
    /// pauses. A key has at most 255 bytes, as on the wire; a longer one may match nothing.
    pub fn collect(&self, key: &str, targets: &mut Targets) -> bool {
        let mut buffers = targets.topic.take().unwrap_or_default();
        // Words may have other numbers than before a pause.
        let words = buffers.split(key);
        targets.count_work(words);
        // There is one position more than words.
        let all = match words / 64 {
            0 => self.walk::<1>(key, &mut buffers, targets),
            1 => self.walk::<2>(key, &mut buffers, targets),
            2..=4 => self.walk::<5>(key, &mut buffers, targets),
            _ => {
                debug_assert!(false, "a routing key of {} bytes", key.len());
                true
            }
        };
        targets.topic = Some(buffers);
        all
    }

    fn walk<const N: usize>(
        &self,
        key: &str,
        buffers: &mut TopicBuffers,
        targets: &mut Targets,
    ) -> bool {
        let (nodes, dictionary) = (&self.nodes, &self.dictionary);
        let goes_on = targets.cursor.inside.take().is_some();
        if goes_on {
            buffers.forget_reused(&self.born, N, &mut targets.cursor.left);
        } else {
            buffers.begin(self.grown, N);
        }
        let all = Walk::<N> { nodes, dictionary, key, buffers, compared: 0 }.run(targets);
        targets.cursor.inside = (!all).then_some(0);
        all
    }

    fn child(&self, parent: usize, word: &str) -> Option<NodeId> {
        let node = &self.nodes[parent];
        match word {
            "*" => node.star,
            "#" => node.hash,
            _ => self.dictionary.get(word).and_then(|word| node.words.get(word)),
        }
    }

    fn grow(&mut self, parent: usize, word: &str) -> NodeId {
        let child = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(Node::default());
            self.born.push(0);
            // 2^32 nodes do not fit into memory. The number is not 0, since the root was there.
            NodeId::new((self.nodes.len() - 1) as u32).unwrap_or(NodeId::MAX)
        });
        self.grown += 1;
        self.born[index(child)] = self.grown;
        let node = &mut self.nodes[parent];
        match word {
            "*" => node.star = Some(child),
            "#" => node.hash = Some(child),
            _ => node.words.insert(self.dictionary.acquire(word), child),
        }
        child
    }

    fn cut(&mut self, parent: usize, word: &str) {
        let node = &mut self.nodes[parent];
        match word {
            "*" => node.star = None,
            "#" => node.hash = None,
            _ => {
                if let Some(id) = self.dictionary.get(word) {
                    node.words.remove(id);
                    self.dictionary.release(word);
                }
            }
        }
    }
}

fn index(node: NodeId) -> usize {
    node.get() as usize
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
