//! Octets to be written, with long parts by reference.

use bytes::Bytes;
use model::{Body, Message};

/// A part of a body of at least so many octets is not copied.
const REFERENCE_MIN: usize = 4 * 1024;

/// Room for so many octets is made for what comes next.
const KEPT: usize = 256 * 1024;
/// With so many the rest of that room may not do for another record, and a new piece begins: what
/// grows is copied again and again, and takes up to twice its memory.
const FULL: usize = KEPT - 8 * 1024;

/// Octets and, between them, parts that stay where they are.
#[derive(Debug, Default)]
pub struct Gather {
    octets: Vec<u8>,
    /// How many of the octets are in front of each part.
    parts: Vec<(usize, Bytes)>,
    /// What is in front of all of these.
    pieces: Vec<Bytes>,
    /// Octets of parts and pieces.
    aside: usize,
}

impl Gather {
    /// Where octets are added.
    #[inline]
    pub fn octets(&mut self) -> &mut Vec<u8> {
        if self.octets.len() >= FULL {
            self.set_aside(KEPT);
        }
        &mut self.octets
    }

    /// Adds the record of a message, and behind it its body if that is not in the record.
    #[inline]
    pub fn message(&mut self, message: Message<'_>) {
        self.octets.extend_from_slice(message.record());
        if let Some(body) = message.large_body() {
            self.body(body);
        }
    }

    fn body(&mut self, body: &Body) {
        for piece in body.pieces() {
            if piece.len() < REFERENCE_MIN {
                self.octets.extend_from_slice(piece);
            } else {
                self.aside += piece.len();
                self.parts.push((self.octets.len(), piece.clone()));
            }
        }
    }

    /// How many octets there are, parts included.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.octets.len() + self.aside
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes everything out, in pieces.
    pub fn take(&mut self) -> Vec<Bytes> {
        // The next is likely to be as long.
        let room = if self.pieces.is_empty() { self.octets.len().min(KEPT) } else { KEPT };
        self.set_aside(room);
        self.aside = 0;
        std::mem::take(&mut self.pieces)
    }

    /// Nothing is added any more to what is here; there is room for so many octets more.
    fn set_aside(&mut self, room: usize) {
        let whole = Bytes::from(std::mem::replace(&mut self.octets, Vec::with_capacity(room)));
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

/// The CRC32C of the pieces, one behind the other.
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
        gather.octets().extend_from_slice(b"head");
        gather.message(Message::new(b"record", Some(&body)));
        gather.octets().extend_from_slice(b"tail");
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
            gather.octets().extend_from_slice(&number.to_le_bytes().repeat(10));
            expected.extend_from_slice(&number.to_le_bytes().repeat(10));
            if number % 7000 == 1 {
                gather.message(Message::new(b"", Some(&Body::new(vec![part.clone()]))));
                expected.extend_from_slice(&part);
            }
            assert!(number < 10_000 || gather.octets.capacity() == KEPT);
        }
        assert_eq!(gather.len(), expected.len());
        assert_eq!(gather.take().concat(), expected);
        assert!(gather.is_empty() && gather.octets.capacity() == KEPT);
    }
}
