//! Bytes to be written, with long parts by reference.

use bytes::Bytes;
use model::{Body, Message};

/// Parts of a body with at least so many bytes are not copied.
const REFERENCE_MIN: usize = 4 * 1024;

/// Capacity of a new piece in bytes.
const KEPT: usize = 256 * 1024;
/// From so many bytes on a new piece begins, since the next record may not fit: a vector that grows
/// is copied and takes up to twice its memory.
const FULL: usize = KEPT - 8 * 1024;

/// Copied bytes and, between them, parts by reference.
#[derive(Debug, Default)]
pub struct Gather {
    bytes: Vec<u8>,
    /// Parts, each with how many of `bytes` precede it.
    parts: Vec<(usize, Bytes)>,
    /// Finished pieces, which precede all of these.
    pieces: Vec<Bytes>,
    /// Bytes of parts and pieces.
    aside: usize,
}

impl Gather {
    /// The vector to append bytes to.
    #[inline]
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        if self.bytes.len() >= FULL {
            self.set_aside(KEPT);
        }
        &mut self.bytes
    }

    /// Appends the record of a message, and its body if that is not part of the record.
    #[inline]
    pub fn message(&mut self, message: Message<'_>) {
        self.bytes.extend_from_slice(message.record());
        if let Some(body) = message.large_body() {
            self.body(body);
        }
    }

    fn body(&mut self, body: &Body) {
        for piece in body.pieces() {
            if piece.len() < REFERENCE_MIN {
                self.bytes.extend_from_slice(piece);
            } else {
                self.aside += piece.len();
                self.parts.push((self.bytes.len(), piece.clone()));
            }
        }
    }

    /// All bytes, parts included.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len() + self.aside
    }

    /// True if there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes everything, in pieces.
    pub fn take(&mut self) -> Vec<Bytes> {
        // The next contents are likely to be as long.
        let room = if self.pieces.is_empty() { self.bytes.len().min(KEPT) } else { KEPT };
        self.set_aside(room);
        self.aside = 0;
        std::mem::take(&mut self.pieces)
    }

    /// Finishes the current piece and begins one with capacity for `room` bytes.
    fn set_aside(&mut self, room: usize) {
        let whole = Bytes::from(std::mem::replace(&mut self.bytes, Vec::with_capacity(room)));
        self.aside += whole.len();
        let mut start = 0;
        for (at, part) in self.parts.drain(..) {
            if at > start {
                self.pieces.push(whole.slice(start..at));
            }
            self.pieces.push(part);
            start = at;
        }
        if start < whole.len() {
            self.pieces.push(whole.slice(start..));
        }
    }
}

/// The CRC32C of the concatenated pieces.
#[must_use]
pub fn checksum(pieces: &[Bytes]) -> u32 {
    pieces.iter().fold(0, |sum, piece| crc32c::crc32c_append(sum, piece))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_stay_in_their_places() {
        let long = Bytes::from(vec![7; REFERENCE_MIN]);
        let body = Body::new(vec![long.clone(), Bytes::from_static(b"short"), long.clone()]);
        let mut gather = Gather::default();
        gather.bytes().extend_from_slice(b"head");
        gather.message(Message::new(b"record", Some(&body)));
        gather.bytes().extend_from_slice(b"tail");
        let expected = [b"headrecord", &long[..], b"short", &long[..], b"tail"].concat();
        assert_eq!(gather.len(), expected.len());
        let pieces = gather.take();
        assert_eq!(pieces.concat(), expected);
        assert_eq!(checksum(&pieces), crc32c::crc32c(&expected));
        assert!(gather.is_empty() && gather.take().is_empty());
    }

    #[test]
    fn what_grows_long_is_not_copied() {
        let part = Bytes::from(vec![3; REFERENCE_MIN]);
        let (mut gather, mut expected) = (Gather::default(), Vec::new());
        for number in 0..20_000u32 {
            gather.bytes().extend_from_slice(&number.to_le_bytes().repeat(10));
            expected.extend_from_slice(&number.to_le_bytes().repeat(10));
            if number % 7000 == 1 {
                gather.message(Message::new(b"", Some(&Body::new(vec![part.clone()]))));
                expected.extend_from_slice(&part);
            }
            assert!(number < 10_000 || gather.bytes.capacity() == KEPT);
        }
        assert_eq!(gather.len(), expected.len());
        assert_eq!(gather.take().concat(), expected);
        assert!(gather.is_empty() && gather.bytes.capacity() == KEPT);
    }
}
