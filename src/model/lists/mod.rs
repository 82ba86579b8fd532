//! Long lists in pieces. A list that grows as one block is copied whole when it is full: a client
//! that fills it with millions of items makes everybody wait. Here at most one piece is copied.
//!
//! ```text
//!   pop_front <-- first [ up to 1,024 ] | rest [ 1,024 ] ... [ up to 1,024 ] <-- push_back
//! ```

mod holes;

use std::collections::VecDeque;
use std::ops::Range;

pub use holes::{ItemPlace, ListItem};

/// Items of a piece. Few where simulated brokers with short lists are to have several.
const PIECE: usize = if cfg!(feature = "mutants") { 8 } else { 1024 };

/// A list of which the ends move. A short one is one piece, and costs what a `VecDeque` costs.
#[derive(Debug, Clone)]
pub struct PieceList<T> {
    /// Empty only if all is.
    first: Piece<T>,
    /// What follows; there is nothing unless `first` was full once.
    rest: Option<Box<Rest<T>>>,
}

#[derive(Debug, Clone)]
struct Piece<T> {
    items: VecDeque<T>,
    /// Items that are not held any more: see [`ListItem`].
    holes: u32,
}

/// Pieces that are not empty.
#[derive(Debug, Clone)]
struct Rest<T> {
    pieces: VecDeque<Piece<T>>,
    items: usize,
    capacity: usize,
}

impl<T> Default for PieceList<T> {
    fn default() -> Self {
        Self { first: Piece::default(), rest: None }
    }
}

impl<T> Default for Piece<T> {
    fn default() -> Self {
        Self { items: VecDeque::new(), holes: 0 }
    }
}

impl<T> Default for Rest<T> {
    fn default() -> Self {
        Self { pieces: VecDeque::new(), items: 0, capacity: 0 }
    }
}

impl<T> Piece<T> {
    fn shrink(&mut self, kept: usize) {
        let needed = self.items.len().max(kept);
        if self.items.capacity() > 4 * needed {
            self.items.shrink_to(2 * needed);
        }
    }
}

impl<T> Rest<T> {
    fn push_back(&mut self, item: T) {
        if self.pieces.back().is_none_or(|last| last.items.len() >= PIECE) {
            let items = VecDeque::with_capacity(PIECE);
            self.capacity += items.capacity();
            self.pieces.push_back(Piece { items, holes: 0 });
        }
        if let Some(last) = self.pieces.back_mut() {
            let before = last.items.capacity();
            last.items.push_back(item);
            self.capacity += last.items.capacity() - before;
            self.items += 1;
        }
    }

    fn push_front(&mut self, piece: Piece<T>) {
        self.items += piece.items.len();
        self.capacity += piece.items.capacity();
        self.pieces.push_front(piece);
    }

    fn pop_front(&mut self) -> Option<Piece<T>> {
        let piece = self.pieces.pop_front()?;
        self.items -= piece.items.len();
        self.capacity -= piece.items.capacity();
        Some(piece)
    }

    fn pop_back(&mut self) -> Option<T> {
        let last = self.pieces.back_mut()?;
        let item = last.items.pop_back()?;
        self.items -= 1;
        if last.items.is_empty() {
            self.capacity -= last.items.capacity();
            self.pieces.pop_back();
        }
        Some(item)
    }

    /// Counts anew after pieces have changed, and drops those that are empty.
    fn measure(&mut self) {
        self.pieces.retain(|piece| !piece.items.is_empty());
        self.items = self.pieces.iter().map(|piece| piece.items.len()).sum();
        self.capacity = self.pieces.iter().map(|piece| piece.items.capacity()).sum();
    }
}

impl<T> PieceList<T> {
    /// How many items there are, holes included.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.first.items.len() + self.rest.as_ref().map_or(0, |rest| rest.items)
    }

    /// Whether there is no item.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first.items.is_empty()
    }

    /// Items that fit without another allocation.
    #[must_use]
    #[inline]
    pub fn capacity(&self) -> usize {
        self.first.items.capacity() + self.rest.as_ref().map_or(0, |rest| rest.capacity)
    }

    /// The first item.
    #[must_use]
    #[inline]
    pub fn front(&self) -> Option<&T> {
        self.first.items.front()
    }

    /// The first item, to be changed.
    #[inline]
    pub fn front_mut(&mut self) -> Option<&mut T> {
        self.first.items.front_mut()
    }

    /// The last item.
    #[must_use]
    #[inline]
    pub fn back(&self) -> Option<&T> {
        self.last_piece().items.back()
    }

    /// The last item, to be changed.
    #[inline]
    pub fn back_mut(&mut self) -> Option<&mut T> {
        let last = self.rest.as_mut().and_then(|rest| rest.pieces.back_mut());
        last.unwrap_or(&mut self.first).items.back_mut()
    }

    #[inline]
    fn last_piece(&self) -> &Piece<T> {
        self.rest.as_ref().and_then(|rest| rest.pieces.back()).unwrap_or(&self.first)
    }

    /// Adds an item at the end.
    #[inline]
    pub fn push_back(&mut self, item: T) {
        if self.rest.is_none() && self.first.items.len() < PIECE {
            self.first.items.push_back(item);
        } else {
            self.push_far(item);
        }
    }

    #[inline(never)]
    fn push_far(&mut self, item: T) {
        self.rest.get_or_insert_default().push_back(item);
    }

    /// Adds an item at the beginning.
    pub fn push_front(&mut self, item: T) {
        if self.first.items.len() >= PIECE {
            let full = std::mem::take(&mut self.first);
            self.rest.get_or_insert_default().push_front(full);
        }
        self.first.items.push_front(item);
    }

    /// Takes the first item.
    #[inline]
    pub fn pop_front(&mut self) -> Option<T> {
        let item = self.first.items.pop_front();
        if self.first.items.is_empty() && self.rest.is_some() {
            self.advance();
        }
        item
    }

    /// Takes the last item.
    pub fn pop_back(&mut self) -> Option<T> {
        let Some(rest) = &mut self.rest else { return self.first.items.pop_back() };
        let item = rest.pop_back();
        self.rest.take_if(|rest| rest.pieces.is_empty());
        item
    }

    /// The first piece is empty, and another one takes its place.
    #[inline(never)]
    fn advance(&mut self) {
        if let Some(next) = self.rest.as_mut().and_then(|rest| rest.pop_front()) {
            self.first = next;
        }
        self.rest.take_if(|rest| rest.pieces.is_empty());
    }

    /// Takes the items of a range out, in order.
    pub fn drain(&mut self, range: Range<usize>, mut each: impl FnMut(T)) {
        let (mut skip, mut left) = (range.start, range.len());
        let Self { first, rest } = self;
        let rest_of = rest.iter_mut().flat_map(|rest| rest.pieces.iter_mut());
        for piece in std::iter::once(first).chain(rest_of) {
            if left == 0 {
                break;
            }
            let from = skip.min(piece.items.len());
            let to = piece.items.len().min(from + left);
            piece.items.drain(from..to).for_each(&mut each);
            (skip, left) = (skip - from, left - (to - from));
        }
        self.measure();
        if self.first.items.is_empty() {
            self.advance();
        }
    }

    /// Counts anew after pieces of the rest have changed.
    fn measure(&mut self) {
        self.rest.iter_mut().for_each(|rest| rest.measure());
        self.rest.take_if(|rest| rest.pieces.is_empty());
    }

    /// Gives back memory that a longer list needed, but for `kept` items.
    pub fn shrink(&mut self, kept: usize) {
        self.first.shrink(kept);
        // Inner pieces are full, but for those at an end of what was drained last.
        let Some(rest) = &mut self.rest else { return };
        rest.pieces.front_mut().into_iter().for_each(|first| first.shrink(kept));
        rest.pieces.back_mut().into_iter().for_each(|last| last.shrink(kept));
        self.measure();
    }

    /// How many items at the beginning fulfil a condition that no item behind them does.
    pub fn partition_point(&self, mut before: impl FnMut(&T) -> bool) -> usize {
        let mut count = 0;
        for piece in self.pieces() {
            if !piece.items.back().is_some_and(&mut before) {
                return count + piece.items.partition_point(before);
            }
            count += piece.items.len();
        }
        count
    }

    fn pieces(&self) -> impl DoubleEndedIterator<Item = &Piece<T>> {
        let rest = self.rest.iter().flat_map(|rest| rest.pieces.iter());
        std::iter::once(&self.first).chain(rest)
    }

    /// The items in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.pieces().flat_map(|piece| piece.items.iter())
    }

    /// The items in order, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let rest = self.rest.iter_mut().flat_map(|rest| rest.pieces.iter_mut());
        std::iter::once(&mut self.first).chain(rest).flat_map(|piece| piece.items.iter_mut())
    }
}

impl<T> FromIterator<T> for PieceList<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut list = Self::default();
        items.into_iter().for_each(|item| list.push_back(item));
        list
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The counts are those of the pieces, and the first one is empty only if all are.
    fn check<T>(list: &PieceList<T>) {
        let pieces: Vec<_> = list.pieces().collect();
        assert_eq!(list.len(), pieces.iter().map(|piece| piece.items.len()).sum::<usize>());
        assert_eq!(list.capacity(), pieces.iter().map(|p| p.items.capacity()).sum::<usize>());
        assert!(pieces.iter().skip(1).all(|piece| !piece.items.is_empty()));
        assert!(pieces.len() == 1 || !list.first.items.is_empty());
        assert!(list.rest.as_ref().is_none_or(|rest| !rest.pieces.is_empty()));
    }

    /// What a step does to the list and to a plain one.
    fn step(list: &mut PieceList<u32>, plain: &mut VecDeque<u32>, (what, n): (u8, u32)) {
        let many = 0..n % 3000;
        match what {
            0 => many.for_each(|item| {
                list.push_back(item);
                plain.push_back(item);
            }),
            1 => many.for_each(|item| {
                list.push_front(item);
                plain.push_front(item);
            }),
            2 => many.for_each(|_| assert_eq!(list.pop_front(), plain.pop_front())),
            3 => many.for_each(|_| assert_eq!(list.pop_back(), plain.pop_back())),
            4 => list.shrink(n as usize % 100),
            _ => {
                let from = n as usize % (plain.len() + 1);
                // Often the whole end.
                let to = match n % 3 {
                    0 => plain.len(),
                    _ => from + (n as usize / 7) % (plain.len() + 1 - from),
                };
                let mut drained = Vec::new();
                list.drain(from..to, |item| drained.push(item));
                assert_eq!(drained, plain.drain(from..to).collect::<Vec<_>>());
            }
        }
    }

    proptest! {
        #[test]
        fn it_is_a_list(steps in prop::collection::vec((0u8..6, any::<u32>()), 0..40)) {
            let (mut list, mut plain) = (PieceList::default(), VecDeque::new());
            for one in steps {
                step(&mut list, &mut plain, one);
                check(&list);
                prop_assert_eq!(list.len(), plain.len());
                prop_assert_eq!(list.is_empty(), plain.is_empty());
                prop_assert_eq!((list.front(), list.back()), (plain.front(), plain.back()));
                prop_assert_eq!(list.front_mut(), plain.front_mut());
                prop_assert_eq!(list.back_mut(), plain.back_mut());
            }
            prop_assert!(list.iter().eq(plain.iter()) && list.iter_mut().eq(plain.iter_mut()));
            prop_assert!(list.iter().rev().eq(plain.iter().rev()));
        }
    }

    #[test]
    fn a_sorted_list_is_searched() {
        let list: PieceList<_> = (0..5000).collect();
        for n in [0, 1, 1023, 1024, 1025, 4999, 5000, 6000] {
            assert_eq!(list.partition_point(|item| *item < n), 5000.min(n));
        }
        assert_eq!(PieceList::<u8>::default().partition_point(|_| true), 0);
    }

    #[test]
    fn what_is_left_of_many_is_short() {
        let mut list: PieceList<_> = (0..5000).collect();
        list.drain(10..5000, drop);
        check(&list);
        list.shrink(64);
        assert!(list.iter().copied().eq(0..10) && list.capacity() <= 128);
    }

    #[test]
    fn memory_follows_the_items() {
        let mut list: PieceList<_> = (0..100_000).collect();
        assert!(list.capacity() <= 100_000 + 2 * PIECE, "{}", list.capacity());
        list.drain(10..99_990, drop);
        list.shrink(64);
        assert!(list.capacity() <= 6 * 64, "{}", list.capacity());
        while list.pop_front().is_some() {}
        assert!(list.rest.is_none());
    }
}
