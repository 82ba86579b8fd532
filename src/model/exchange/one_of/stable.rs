//! A hash that is the same on every shard, after a restart and in later versions: what led to a
//! queue leads there again. It has no secret; who chooses keys may choose the queue anyway.

/// An odd number without a pattern: the golden ratio's digits.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Every bit of the number decides about half of the result's (the step of SplitMix64). Different
/// numbers have different results.
pub(in crate::exchange) fn mix(number: u64) -> u64 {
    let mut x = number.wrapping_add(GOLDEN);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// A hash under construction.
#[derive(Debug, Default)]
pub(in crate::exchange) struct StableHash(u64);

impl StableHash {
    /// Adds a number.
    pub fn number(&mut self, number: u64) {
        self.0 = mix(self.0 ^ number);
    }

    /// Adds bytes and their number.
    pub fn bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.number(u64::from_le_bytes(*word)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.number(u64::from_le_bytes(last));
        self.number(bytes.len() as u64);
    }

    /// The hash.
    pub fn finish(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(bytes: &[u8]) -> u64 {
        let mut hash = StableHash::default();
        hash.bytes(bytes);
        hash.finish()
    }

    #[test]
    fn hashes_never_change() {
        // What a key was routed by when this was written: other values would move all keys.
        assert_eq!(mix(0), 0xE220_A839_7B1D_CDAF);
        let hashes = [hash(b""), hash(b"key"), hash(b"longer key")];
        assert_eq!(hashes, [0xA706_DD2F_4D19_7E6F, 0xA2FB_F09E_8ED3_FE10, 0x5A14_F2F9_C9AF_29AA]);
    }

    #[test]
    fn zeros_behind_bytes_count() {
        assert_ne!(hash(b"a"), hash(b"a\0"));
        assert_ne!(hash(b"12345678"), hash(b"12345678\0"));
    }
}
