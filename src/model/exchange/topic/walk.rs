//! Matching of one routing key.
//!
//! The walk visits a node with a set of positions in the key: after how many words of the key the
//! pattern up to the node matches. The set is bits, and an edge moves all of them in a few
//! instructions. So each node is visited at most once for a key, however many `#` a pattern has.

use super::dictionary::{Dictionary, WordId};
use super::node::{Children, Node, NodeId};
use super::positions::Positions;
use crate::exchange::targets::Targets;
use crate::mutant::{self, Mutant};

/// Buffers that are reused for every key, so that matching does not allocate once they have grown.
#[derive(Debug, Default)]
pub(in crate::exchange) struct TopicBuffers {
    words: Vec<KeyWord>,
    /// By first position of a word: the set of all its positions, `N` numbers each.
    occurrences: Vec<u64>,
    /// By word of the dictionary.
    first_by_word: Vec<FirstOccurrence>,
    /// Keys that were indexed so far. The number of a key tells its entries from older ones.
    keys: u64,
    /// The nodes to visit.
    nodes: Vec<u32>,
    /// The set of positions of each node in `nodes`, `N` numbers each.
    sets: Vec<u64>,
    /// How many nodes had been made when the walk began.
    grown: u64,
}

/// A word of the key.
#[derive(Debug)]
struct KeyWord {
    start: u32,
    end: u32,
    id: Lookup,
    /// The first position in the key with the same word.
    first: u32,
}

/// The result of looking a word up in the dictionary.
#[derive(Debug, Clone, Copy)]
enum Lookup {
    NotYet,
    Unknown,
    Found(WordId),
}

/// The first position of a word in the key with number `key`. Outdated if that is another key.
#[derive(Debug, Clone, Copy, Default)]
struct FirstOccurrence {
    key: u64,
    first: u32,
}

impl TopicBuffers {
    /// Splits the key and returns the number of its words. The empty key has none.
    pub fn split(&mut self, key: &str) -> usize {
        self.words.clear();
        let mut start = 0;
        let dots = key.match_indices('.').map(|(at, _)| at);
        for end in dots.chain((!key.is_empty()).then_some(key.len())) {
            // A key of 4 GiB does not fit into a frame.
            let (from, to) = (start as u32, end as u32);
            self.words.push(KeyWord { start: from, end: to, id: Lookup::NotYet, first: 0 });
            start = end + 1;
        }
        self.words.len()
    }

    /// A walk begins at the root, in an exchange that has made so many nodes.
    pub fn begin(&mut self, grown: u64, numbers: usize) {
        self.nodes.clear();
        self.sets.clear();
        self.nodes.push(0);
        self.sets.push(1);
        self.sets.resize(numbers, 0);
        self.grown = grown;
    }

    /// A walk goes on that has paused. Nodes that were made since then have the place of others
    /// that are gone; with the first one goes what is left of its targets.
    #[cold]
    pub fn forget_reused(&mut self, born: &[u64], numbers: usize, left: &mut Option<usize>) {
        let grown = self.grown;
        let is_reused = |node: &u32| born.get(*node as usize).is_none_or(|born| *born > grown);
        if mutant::active(Mutant::ReusedNodeVisited) || !self.nodes.iter().any(is_reused) {
            return;
        }
        if self.nodes.last().is_some_and(is_reused) {
            *left = None;
        }
        let sets = self.sets.chunks_exact(numbers);
        let kept = self.nodes.iter().zip(sets).filter(|(node, _)| !is_reused(node));
        let (nodes, sets): (Vec<u32>, Vec<&[u64]>) = kept.unzip();
        (self.sets, self.nodes) = (sets.concat(), nodes);
    }
}

/// Most words that one key compares before it is indexed: an index is not worth it for a few.
const COMPARED_MAX: usize = 32;

/// The walk of one key. `buffers` has its words; all positions must fit into `N` times 64 bits.
pub(super) struct Walk<'a, const N: usize> {
    pub nodes: &'a [Node],
    pub dictionary: &'a Dictionary,
    pub key: &'a str,
    pub buffers: &'a mut TopicBuffers,
    /// Words compared without an index of the key. Past [`COMPARED_MAX`] there is one.
    pub compared: usize,
}

impl<const N: usize> Walk<'_, N> {
    /// Adds the targets of all patterns that match; false if there are nodes to visit after a
    /// pause.
    pub fn run(mut self, targets: &mut Targets) -> bool {
        while let Some(node) = self.buffers.nodes.pop() {
            let at = self.buffers.sets.len() - N;
            let mut positions = [0; N];
            positions.copy_from_slice(&self.buffers.sets[at..]);
            self.buffers.sets.truncate(at);
            self.visit(node, Positions(positions), targets);
            if targets.is_spent() && !self.buffers.nodes.is_empty() {
                return false;
            }
        }
        true
    }

    fn push(&mut self, node: NodeId, positions: Positions<N>) {
        self.push_node(node.get(), positions);
    }

    #[inline]
    fn push_node(&mut self, node: u32, positions: Positions<N>) {
        self.buffers.nodes.push(node);
        self.buffers.sets.extend_from_slice(&positions.0);
    }

    #[inline]
    fn visit(&mut self, at: u32, positions: Positions<N>, targets: &mut Targets) {
        let (node, end) = (&self.nodes[at as usize], self.buffers.words.len());
        targets.count_work(1);
        if positions.contains(end) && !node.targets.collect(targets) {
            // It is visited again, for the rest of its targets.
            return self.push_node(at, positions);
        }
        if let Some(hash) = node.hash {
            self.push(hash, positions.extended(end));
        }
        let mut ahead = positions;
        ahead.remove(end);
        if ahead.is_empty() {
            return;
        }
        if let Some(star) = node.star {
            self.push(star, ahead.advanced());
        }
        match ahead.len() {
            _ if node.words.is_empty() => {}
            1 => self.step(&node.words, ahead, targets),
            count if node.words.all().len() <= count => self.edges(&node.words, ahead, targets),
            _ => self.words(&node.words, ahead, targets),
        }
    }

    /// Follows the edge of the one word ahead.
    #[inline]
    fn step(&mut self, children: &Children, ahead: Positions<N>, targets: &mut Targets) {
        targets.count_work(1);
        if let Some(position) = ahead.lowest()
            && let Some(word) = self.look_up(position)
            && let Some(child) = children.get(word)
        {
            self.push(child, ahead.advanced());
        }
    }

    /// Looks at every edge, where there are fewer than positions.
    fn edges(&mut self, children: &Children, ahead: Positions<N>, targets: &mut Targets) {
        targets.count_work(children.all().len());
        let comparisons = children.all().len() * ahead.len();
        let compares = self.compared + comparisons <= COMPARED_MAX;
        if compares {
            self.compared += comparisons;
        } else {
            self.index();
        }
        for &(word, child) in children.all() {
            let met = if compares {
                self.compare(word, ahead)
            } else {
                self.occurrences_of(word).intersection(&ahead)
            };
            if !met.is_empty() {
                self.push(child, met.advanced());
            }
        }
    }

    /// The positions with this word among those ahead.
    fn compare(&mut self, word: WordId, ahead: Positions<N>) -> Positions<N> {
        let mut met = Positions::EMPTY;
        for position in ahead.iter() {
            if self.look_up(position) == Some(word) {
                met.insert(position);
            }
        }
        met
    }

    /// Looks at every position, where there are fewer than edges.
    fn words(&mut self, children: &Children, ahead: Positions<N>, targets: &mut Targets) {
        self.index();
        targets.count_work(ahead.len());
        for position in ahead.iter() {
            let KeyWord { id, first, .. } = self.buffers.words[position];
            let Lookup::Found(word) = id else { continue };
            let met = self.occurrences(first).intersection(&ahead);
            if met.lowest() == Some(position)
                && let Some(child) = children.get(word)
            {
                self.push(child, met.advanced());
            }
        }
    }

    /// All positions of a word in the indexed key.
    #[inline]
    fn occurrences_of(&self, word: WordId) -> Positions<N> {
        let entry = self.buffers.first_by_word[word.0 as usize];
        if entry.key == self.buffers.keys {
            self.occurrences(entry.first)
        } else {
            Positions::EMPTY
        }
    }

    /// All positions of the word whose first position is `first`.
    #[inline]
    fn occurrences(&self, first: u32) -> Positions<N> {
        let at = first as usize * N;
        let mut positions = [0; N];
        positions.copy_from_slice(&self.buffers.occurrences[at..at + N]);
        Positions(positions)
    }

    /// The word at the position, if a pattern has it.
    #[inline]
    fn look_up(&mut self, position: usize) -> Option<WordId> {
        let word = &mut self.buffers.words[position];
        if let Lookup::NotYet = word.id {
            let text = &self.key[word.start as usize..word.end as usize];
            word.id = self.dictionary.get(text).map_or(Lookup::Unknown, Lookup::Found);
        }
        match word.id {
            Lookup::Found(id) => Some(id),
            Lookup::NotYet | Lookup::Unknown => None,
        }
    }

    /// Finds equal words of the key. Needed only after a `#`, since a node has one position before.
    fn index(&mut self) {
        if self.compared > COMPARED_MAX {
            return;
        }
        self.compared = COMPARED_MAX + 1;
        let len = self.buffers.words.len();
        self.buffers.keys += 1;
        self.buffers.occurrences.clear();
        self.buffers.occurrences.resize(len * N, 0);
        if self.buffers.first_by_word.len() < self.dictionary.len() {
            self.buffers.first_by_word.resize(self.dictionary.len(), FirstOccurrence::default());
        }
        for position in 0..len {
            if let Some(word) = self.look_up(position) {
                self.note_occurrence(word, position);
            }
        }
    }

    /// Adds a position of a word.
    fn note_occurrence(&mut self, word: WordId, position: usize) {
        let key = self.buffers.keys;
        let entry = &mut self.buffers.first_by_word[word.0 as usize];
        if entry.key != key {
            // Positions fit into N times 64 bits.
            *entry = FirstOccurrence { key, first: position as u32 };
        }
        let first = entry.first as usize;
        self.buffers.words[position].first = entry.first;
        self.buffers.occurrences[first * N + position / 64] |= 1 << (position % 64);
    }
}
