//! What the unit tests share: random input, and an independent implementation of the wire.

pub(crate) mod draw;
pub(crate) mod peer;
