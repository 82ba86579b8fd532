//! Octets to be written, with long parts by reference.

use bytes::Bytes;
use model::{Body, Message};

/// A part of a body of at least so many octets is not copied.
const REFERENCE_MIN: usize = 4 * 1024;

/// Room for so many octets is made for what comes next.
const KEPT: usize = 256 * 1024;

/// Octets and, between them, parts that stay where they are.
#[derive(Debug, Default)]
pub struct Gather {
    octets: Vec<u8>,
    /// How many of the octets are in front of each part.
    parts: Vec<(usize, Bytes)>,
    part_octets: usize,
}

impl Gather {
    /// Where octets are added.
    #[inline]
    pub fn octets(&mut self) -> &mut Vec<u8> {
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
                self.part_octets += piece.len();
                self.parts.push((self.octets.len(), piece.clone()));
            }
        }
    }

    /// How many octets there are, parts included.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.octets.len() + self.part_octets
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes everything out, in pieces.
    pub fn take(&mut self) -> Vec<Bytes> {
        // The next is likely to be as long.
        let next = Vec::with_capacity(self.octets.len().min(KEPT));
        let whole = Bytes::from(std::mem::replace(&mut self.octets, next));
        self.part_octets = 0;
        let mut pieces = Vec::with_capacity(2 * self.parts.len() + 1);
        let mut start = 0;
        for (at, part) in self.parts.drain(..) {
            if at > start {
                pieces.push(whole.slice(start..at));
            }
            pieces.push(part);
            start = at;
        }
        if start < whole.len() {
            pieces.push(whole.slice(start..));
        }
        pieces
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
}
