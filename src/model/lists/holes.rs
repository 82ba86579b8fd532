//! Lists of numbered items that are taken out in any order: an item that is gone is a hole until
//! its piece is tidied.

use super::{PIECE, Piece, PieceList, Rest};

/// An item of a list in the order of their numbers.
pub trait ListItem {
    /// Items that memory is kept for when more of them are gone.
    const KEPT: usize;

    /// Greater than the number of every item before.
    fn number(&self) -> u64;

    /// Whether it is gone.
    fn is_hole(&self) -> bool;
}

/// Where an item is: its piece, 0 for the first one, and its index there.
#[derive(Debug, Clone, Copy)]
pub struct ItemPlace(usize, usize);

impl ItemPlace {
    /// The first item.
    pub const FIRST: Self = Self(0, 0);
}

/// Holes that are tolerated before a piece is compacted.
const SLACK: usize = PIECE / 32;

impl<T: ListItem> Piece<T> {
    /// The last item whose number is at most `number`: usually it is as far from the first one as
    /// its number is, or it is the first one.
    #[inline]
    fn position(&self, number: u64) -> Option<usize> {
        let guess = usize::try_from(number.checked_sub(self.items.front()?.number())?).ok()?;
        if self.items.get(guess).is_some_and(|found| found.number() == number) {
            return Some(guess);
        }
        if self.items.get(1).is_none_or(|second| number < second.number()) {
            return Some(0);
        }
        self.items.partition_point(|found| found.number() <= number).checked_sub(1)
    }

    fn begins_at_most(&self, number: u64) -> bool {
        self.items.front().is_some_and(|first| first.number() <= number)
    }

    #[inline]
    fn skip_holes(&mut self) {
        while self.items.pop_front_if(|item| item.is_hole()).is_some() {
            self.holes -= 1;
        }
        self.tighten();
    }

    #[inline]
    fn is_sparse(&self) -> bool {
        let holes = self.holes as usize;
        2 * holes > self.items.len() + SLACK || holes == self.items.len()
    }

    fn compact(&mut self) {
        self.items.retain(|item| !item.is_hole());
        self.holes = 0;
        self.tighten();
    }

    #[inline]
    fn tighten(&mut self) {
        let (len, capacity) = (self.items.len(), self.items.capacity());
        if capacity > T::KEPT && len < capacity / 4 {
            self.items.shrink_to((2 * len).max(T::KEPT));
        }
    }

    /// Takes over the items of the next piece if both are short.
    fn join(&mut self, next: &mut Self) {
        if self.items.len() + next.items.len() <= PIECE / 2 {
            self.items.append(&mut next.items);
            self.holes += std::mem::take(&mut next.holes);
        }
    }
}

impl<T: ListItem> PieceList<T> {
    /// The place of the last item whose number is at most `number`.
    #[inline]
    #[must_use]
    pub fn position(&self, number: u64) -> Option<ItemPlace> {
        let piece = self.rest.as_ref().map_or(0, |rest| rest.piece_of(number));
        Some(ItemPlace(piece, self.piece(piece)?.position(number)?))
    }

    #[inline]
    fn piece(&self, at: usize) -> Option<&Piece<T>> {
        match at.checked_sub(1) {
            None => Some(&self.first),
            Some(at) => self.rest.as_ref()?.pieces.get(at),
        }
    }

    #[inline]
    fn piece_mut(&mut self, at: usize) -> Option<&mut Piece<T>> {
        match at.checked_sub(1) {
            None => Some(&mut self.first),
            Some(at) => self.rest.as_mut()?.pieces.get_mut(at),
        }
    }

    /// The item at a place.
    #[inline]
    #[must_use]
    pub fn get(&self, ItemPlace(piece, at): ItemPlace) -> Option<&T> {
        self.piece(piece)?.items.get(at)
    }

    /// The item at a place, to be changed; [`Self::left`] follows if it becomes a hole.
    #[inline]
    pub fn get_mut(&mut self, ItemPlace(piece, at): ItemPlace) -> Option<&mut T> {
        self.piece_mut(piece)?.items.get_mut(at)
    }

    /// The items from a number on, in order.
    pub fn from(&self, number: u64) -> impl Iterator<Item = &T> {
        let before = number.checked_sub(1).and_then(|before| self.position(before));
        let (piece, skipped) = before.map_or((0, 0), |ItemPlace(piece, at)| (piece, at + 1));
        self.pieces().skip(piece).flat_map(|piece| piece.items.iter()).skip(skipped)
    }

    /// The item at a place has become a hole. If it is the first one, it goes, and what is first
    /// then is none.
    #[inline]
    pub fn left(&mut self, ItemPlace(piece, _): ItemPlace) {
        if piece > 0 {
            return self.left_far(piece);
        }
        self.first.holes += 1;
        self.first.skip_holes();
        if self.first.is_sparse() {
            self.tidy(0);
        }
    }

    #[inline(never)]
    fn left_far(&mut self, at: usize) {
        let Some(piece) = self.piece_mut(at) else { return };
        piece.holes += 1;
        if piece.is_sparse() {
            self.tidy(at);
        }
    }

    /// Takes the first item, and the holes behind it.
    #[inline]
    pub fn pop_held(&mut self) -> Option<T> {
        let item = self.first.items.pop_front()?;
        self.first.skip_holes();
        if self.first.items.is_empty() {
            self.next_held();
        }
        Some(item)
    }

    /// The first piece is empty: the next one that holds something takes its place.
    fn next_held(&mut self) {
        while self.first.items.is_empty() && self.rest.is_some() {
            self.advance();
            self.first.skip_holes();
        }
    }

    /// Compacts a piece that has many holes, and joins it with its neighbours if they are short.
    #[inline(never)]
    fn tidy(&mut self, at: usize) {
        self.piece_mut(at).into_iter().for_each(Piece::compact);
        let Some(rest) = &mut self.rest else { return };
        for one in [Some(at), at.checked_sub(1)].into_iter().flatten() {
            let others =
                rest.pieces.range_mut(one.saturating_sub(1)..(one + 1).min(rest.pieces.len()));
            let mut both = std::iter::once(&mut self.first).skip(one).chain(others);
            if let (Some(one), Some(next)) = (both.next(), both.next()) {
                one.join(next);
            }
        }
        self.measure();
        // What was joined may begin with holes.
        self.first.skip_holes();
        self.next_held();
    }
}

impl<T: ListItem> Rest<T> {
    /// The piece that a number may be in; 0 is ahead of the first one here.
    fn piece_of(&self, number: u64) -> usize {
        self.pieces.partition_point(|piece| piece.begins_at_most(number))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug)]
    struct One(u64, bool);

    impl ListItem for One {
        const KEPT: usize = 16;

        fn number(&self) -> u64 {
            self.0
        }

        fn is_hole(&self) -> bool {
            !self.1
        }
    }

    /// Takes one item out.
    fn remove(list: &mut PieceList<One>, number: u64) -> bool {
        let Some(place) = list.position(number) else { return false };
        let found = list.get_mut(place).filter(|one| one.0 == number && one.1);
        let held = found.map(|one| one.1 = false).is_some();
        if held {
            list.left(place);
        }
        held
    }

    fn check(list: &PieceList<One>, held: usize) {
        let pieces: Vec<_> = list.pieces().collect();
        for piece in &pieces {
            let holes = piece.items.iter().filter(|one| one.is_hole()).count();
            assert_eq!(piece.holes as usize, holes);
        }
        // Of the first piece more and more is taken.
        assert!(pieces.iter().skip(1).all(|piece| !piece.is_sparse()));
        assert!(list.front().is_none_or(|first| !first.is_hole()));
        assert_eq!(list.len(), pieces.iter().map(|piece| piece.items.len()).sum::<usize>());
        assert_eq!(list.capacity(), pieces.iter().map(|p| p.items.capacity()).sum::<usize>());
        assert_eq!(list.iter().filter(|one| !one.is_hole()).count(), held);
    }

    fn step(list: &mut PieceList<One>, map: &mut BTreeMap<u64, ()>, (what, n): (u8, u64)) {
        let end = list.back().map_or(0, |last| last.0 + 1);
        match what {
            0 => (end..end + n % 3000).for_each(|number| {
                list.push_back(One(number, true));
                map.insert(number, ());
            }),
            1 => (0..n % 2000).for_each(|_| {
                assert_eq!(list.pop_held().map(|one| one.0), map.pop_first().map(|(n, ())| n));
            }),
            2 => assert_eq!(remove(list, n % (end + 1)), map.remove(&(n % (end + 1))).is_some()),
            3 => {
                let from = n % (end + 1);
                let expected: Vec<u64> = map.range(from..).map(|(number, ())| *number).collect();
                let found = list.from(from).filter(|one| one.1).map(|one| one.0);
                assert_eq!(found.collect::<Vec<_>>(), expected);
            }
            _ => {
                // All but some of a part go.
                let (from, kept) = (n % (end + 1), 2 + n % 50);
                for number in (from..end.min(from + n % 4000)).filter(|number| number % kept > 0) {
                    assert_eq!(remove(list, number), map.remove(&number).is_some());
                }
            }
        }
    }

    proptest! {
        #[test]
        fn it_is_a_sorted_map(steps in prop::collection::vec((0u8..5, any::<u64>()), 0..30)) {
            let (mut list, mut map) = (PieceList::default(), BTreeMap::new());
            for one in steps {
                step(&mut list, &mut map, one);
                check(&list, map.len());
            }
        }
    }

    #[test]
    fn an_empty_piece_is_joined_with_one_that_begins_with_a_hole() {
        let many = PIECE as u64 + 3;
        let mut list: PieceList<_> = (0..many).map(|number| One(number, true)).collect();
        assert!(remove(&mut list, PIECE as u64));
        (0..PIECE as u64).for_each(|number| assert!(remove(&mut list, number)));
        check(&list, 2);
        assert_eq!(list.pop_held().map(|one| one.0), Some(many - 2));
    }

    #[test]
    fn those_that_stay_pin_few_others() {
        let mut list: PieceList<_> = (0..200_000).map(|number| One(number, true)).collect();
        (0..200_000).filter(|number| number % 500 > 0).for_each(|number| {
            assert!(remove(&mut list, number));
        });
        assert!(list.capacity() <= 400 * 4, "{}", list.capacity());
        let pieces = list.pieces().count();
        assert!(pieces <= 2 + 400 / (PIECE / 8), "{pieces}");
    }
}
