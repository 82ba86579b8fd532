//! A set of positions in a routing key, as bits.

/// Positions in a key: position `n` has `n` words before it. `N` times 64 fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Positions<const N: usize>(pub [u64; N]);

impl<const N: usize> Positions<N> {
    pub const EMPTY: Self = Self([0; N]);

    #[inline]
    pub fn insert(&mut self, position: usize) {
        self.0[position / 64] |= 1 << (position % 64);
    }

    #[inline]
    pub fn remove(&mut self, position: usize) {
        self.0[position / 64] &= !(1 << (position % 64));
    }

    #[inline]
    pub fn contains(&self, position: usize) -> bool {
        self.0[position / 64] & (1 << (position % 64)) != 0
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&bits| bits == 0)
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.0.iter().map(|bits| bits.count_ones() as usize).sum()
    }

    /// The lowest position.
    #[inline]
    pub fn lowest(&self) -> Option<usize> {
        let at = self.0.iter().position(|&bits| bits != 0)?;
        Some(at * 64 + self.0[at].trailing_zeros() as usize)
    }

    /// The positions, lowest first.
    pub fn iter(mut self) -> impl Iterator<Item = usize> {
        std::iter::from_fn(move || {
            let position = self.lowest()?;
            self.remove(position);
            Some(position)
        })
    }

    #[inline]
    pub fn intersection(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(&other.0).for_each(|(bits, other)| *bits &= other);
        self
    }

    /// Every position one word further. The last one that fits falls out.
    #[inline]
    pub fn advanced(mut self) -> Self {
        let mut carry = 0;
        for bits in &mut self.0 {
            (*bits, carry) = (*bits << 1 | carry, *bits >> 63);
        }
        self
    }

    /// All positions from the lowest one to `end`.
    #[inline]
    pub fn extended(self, end: usize) -> Self {
        let Some(lowest) = self.lowest() else {
            return self;
        };
        let mut set = Self::EMPTY;
        for (at, bits) in set.0.iter_mut().enumerate() {
            *bits = ones_below((end + 1).saturating_sub(at * 64))
                & !ones_below(lowest.saturating_sub(at * 64));
        }
        set
    }
}

/// So many ones, at most 64.
#[inline]
fn ones_below(count: usize) -> u64 {
    if count >= 64 { u64::MAX } else { (1 << count) - 1 }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const SIZE: usize = 192;

    fn set(positions: &BTreeSet<usize>) -> Positions<3> {
        let mut set = Positions::EMPTY;
        positions.iter().for_each(|&position| set.insert(position));
        set
    }

    proptest! {
        #[test]
        fn bits_do_what_a_set_does(
            one in prop::collection::btree_set(0..SIZE, 0..20),
            other in prop::collection::btree_set(0..SIZE, 0..120),
            end in 0..SIZE,
        ) {
            let bits = set(&one);
            prop_assert_eq!(bits.iter().collect::<BTreeSet<_>>(), one.clone());
            prop_assert_eq!((bits.len(), bits.is_empty()), (one.len(), one.is_empty()));
            prop_assert_eq!(bits.lowest(), one.first().copied());
            prop_assert_eq!(bits.contains(end), one.contains(&end));
            let both = one.intersection(&other).copied().collect();
            prop_assert_eq!(bits.intersection(&set(&other)), set(&both));
            let next = one.iter().map(|position| position + 1).filter(|next| *next < SIZE);
            prop_assert_eq!(bits.advanced(), set(&next.collect()));
            let extended = one.first().map_or(BTreeSet::new(), |&lowest| (lowest..=end).collect());
            prop_assert_eq!(bits.extended(end), set(&extended));
            let mut without = bits;
            without.remove(end);
            prop_assert_eq!(without, set(&one.iter().copied().filter(|n| *n != end).collect()));
        }
    }
}
