//! Exchanges that give each message to one of their bindings: by a hash, or by chance.

mod by;
mod hashed;
#[cfg(test)]
mod hashed_test;
mod random;
mod stable;

pub(super) use self::by::{HASH_HEADER, HASH_PROPERTY, HashBy, HashProperty};
pub(super) use self::hashed::Hashed;
pub(super) use self::random::Random;
pub(super) use self::stable::{StableHash, mix};
