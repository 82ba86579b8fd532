//! The words of all patterns of a topic exchange, each with a number of its own.

use crate::hash::{SecretSeed, UntrustedMap};
use crate::topology::spec::Name;

/// The number of a word. It is used again once no pattern needs the word any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct WordId(pub u32);

/// Words by name. A key's words are looked up here once, not again in every node of the trie.
#[derive(Debug)]
pub(super) struct Dictionary {
    words: UntrustedMap<Name, Word>,
    free: Vec<WordId>,
    /// How many numbers were given out; those in `free` are among them.
    len: u32,
}

#[derive(Debug)]
struct Word {
    id: WordId,
    /// How many edges of the trie are labelled with it.
    edges: u32,
}

impl Dictionary {
    pub fn new(seed: SecretSeed) -> Self {
        Self { words: UntrustedMap::with_hasher(seed), free: Vec::new(), len: 0 }
    }

    /// Every number is less.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    #[inline]
    pub fn get(&self, word: &str) -> Option<WordId> {
        self.words.get(word).map(|word| word.id)
    }

    /// Counts one more edge with this word.
    pub fn acquire(&mut self, word: &str) -> WordId {
        if let Some(word) = self.words.get_mut(word) {
            word.edges += 1;
            return word.id;
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.len += 1;
            // 2^32 words do not fit into memory.
            WordId(self.len - 1)
        });
        self.words.insert(word.into(), Word { id, edges: 1 });
        id
    }

    /// Counts one edge with this word less; the last one takes the word with it.
    pub fn release(&mut self, word: &str) {
        let Some(found) = self.words.get_mut(word) else {
            return;
        };
        found.edges -= 1;
        if found.edges == 0 {
            self.free.push(found.id);
            self.words.remove(word);
        }
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty() && self.free.len() == self.len()
    }
}
