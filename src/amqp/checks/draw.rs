//! Values for tests, drawn from a seed that the test framework prints when a test fails.

/// A source of values (SplitMix64).
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.number() % limit
    }

    pub(crate) fn bit(&mut self) -> bool {
        self.below(2) == 1
    }

    /// Fewer than `limit` octets.
    pub(crate) fn octets(&mut self, limit: u64) -> Vec<u8> {
        let len = self.below(limit);
        (0..len).map(|_| self.number() as u8).collect()
    }

    /// A short string: mostly short, now and then of the full 255 octets, in several scripts.
    pub(crate) fn text(&mut self) -> String {
        let len = if self.below(16) == 0 { 255 } else { self.below(12) as usize };
        let mut text = String::new();
        while text.len() < len {
            let char = ['a', '.', '#', '\0', 'é', 'Ж', '語', '🦀'][self.below(8) as usize];
            text.push(if text.len() + char.len_utf8() > len { '*' } else { char });
        }
        text
    }
}
