//! A node of the trie of patterns.

use std::num::NonZeroU32;

use super::dictionary::WordId;
use crate::exchange::targets::{LINEAR_MAX, TargetSet};
use crate::hash::{Map, Seed};

/// The number of a node. The root is 0, and no edge leads to it.
pub(super) type NodeId = NonZeroU32;

/// A place in a pattern: edges to what may follow, and the bindings whose pattern ends here.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub words: Children,
    pub star: Option<NodeId>,
    pub hash: Option<NodeId>,
    pub targets: TargetSet,
}

/// The edges for words. Most nodes have at most one, which needs no allocation.
#[derive(Debug, Default)]
pub(super) enum Children {
    #[default]
    None,
    One([(WordId, NodeId); 1]),
    Many(Box<Edges>),
}

#[derive(Debug, Default)]
pub(super) struct Edges {
    list: Vec<(WordId, NodeId)>,
    /// Once the list is long: where an edge is in it, and where it leads.
    index: Option<Map<WordId, (u32, NodeId)>>,
}

impl Node {
    pub fn is_needless(&self) -> bool {
        let edges = !self.words.is_empty() || self.star.is_some() || self.hash.is_some();
        !edges && self.targets.is_empty()
    }
}

impl Children {
    #[inline]
    pub fn is_empty(&self) -> bool {
        matches!(self, Children::None)
    }

    /// All edges, in an order that only depends on the order of changes.
    #[inline]
    pub fn all(&self) -> &[(WordId, NodeId)] {
        match self {
            Children::None => &[],
            Children::One(edge) => edge,
            Children::Many(edges) => &edges.list,
        }
    }

    #[inline]
    pub fn get(&self, word: WordId) -> Option<NodeId> {
        match self {
            Children::None => None,
            Children::One([edge]) => (edge.0 == word).then_some(edge.1),
            Children::Many(edges) => edges.get(word).map(|(_, child)| child),
        }
    }

    /// Adds an edge for a word that has none.
    pub fn insert(&mut self, word: WordId, child: NodeId) {
        *self = match std::mem::take(self) {
            Children::None => Children::One([(word, child)]),
            Children::One([edge]) => {
                Children::Many(Box::new(Edges { list: vec![edge, (word, child)], index: None }))
            }
            Children::Many(mut edges) => {
                edges.insert(word, child);
                Children::Many(edges)
            }
        };
    }

    pub fn remove(&mut self, word: WordId) {
        *self = match std::mem::take(self) {
            Children::Many(mut edges) => {
                edges.remove(word);
                match edges.list[..] {
                    [edge] => Children::One([edge]),
                    _ => Children::Many(edges),
                }
            }
            Children::One([edge]) if edge.0 != word => Children::One([edge]),
            Children::None | Children::One(_) => Children::None,
        };
    }
}

impl Edges {
    fn insert(&mut self, word: WordId, child: NodeId) {
        self.list.push((word, child));
        if let Some(index) = &mut self.index {
            // There are no more edges than nodes, whose numbers have 32 bits.
            index.insert(word, (self.list.len() as u32 - 1, child));
        } else if self.list.len() > LINEAR_MAX {
            let mut index = Map::with_hasher(Seed::default());
            index.extend(
                self.list.iter().enumerate().map(|(at, edge)| (edge.0, (at as u32, edge.1))),
            );
            self.index = Some(index);
        }
    }

    fn remove(&mut self, word: WordId) {
        let Some((at, _)) = self.get(word) else {
            return;
        };
        self.list.swap_remove(at);
        if let Some(index) = &mut self.index {
            index.remove(&word);
            if let Some(moved) = self.list.get(at) {
                index.insert(moved.0, (at as u32, moved.1));
            }
        }
    }

    /// Where the edge is in the list, and where it leads.
    #[inline]
    fn get(&self, word: WordId) -> Option<(usize, NodeId)> {
        match &self.index {
            Some(index) => index.get(&word).map(|&(at, child)| (at as usize, child)),
            None => {
                let mut edges = self.list.iter().enumerate();
                edges.find(|(_, edge)| edge.0 == word).map(|(at, edge)| (at, edge.1))
            }
        }
    }
}
