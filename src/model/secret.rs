//! Passwords in clear, kept out of logs and wiped when they are no longer needed.

use std::fmt;
use std::hash::{Hash, Hasher};

use zeroize::Zeroize;

/// Bytes that debug output does not show and that are overwritten when they are dropped.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Secret {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The hash says nothing about the bytes, so that a state hash does not either.
impl Hash for Secret {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u8(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::StateHash;

    #[test]
    fn neither_debug_output_nor_the_hash_shows_the_bytes() {
        let (one, other) = (Secret::from("pass-one"), Secret::from("other"));
        assert_eq!(format!("{one:?} {:?}", Some(&other)), "[redacted] Some([redacted])");
        assert_eq!(one.state_hash(), other.state_hash());
        assert_ne!(one, other);
        assert_eq!(one.expose(), b"pass-one");
    }
}
