//! A received message, whole or in pieces.

use crate::messages::stamp::{STAMP, Stamp};

/// A received message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceivedMessage {
    /// The delivery tag.
    pub tag: u64,
    /// The redelivered flag.
    pub redelivered: bool,
    /// The stamp at the start of the body; `None` if the body is too short for one.
    pub stamp: Option<Stamp>,
}

/// A message whose frames are still arriving. Only the stamp of its body is kept.
#[derive(Debug, Default)]
pub struct PartialDelivery {
    tag: u64,
    redelivered: bool,
    stamp: [u8; STAMP],
    have: usize,
}

impl PartialDelivery {
    /// Starts a new message.
    pub fn begin(&mut self, tag: u64, redelivered: bool) {
        *self = Self { tag, redelivered, ..Self::default() };
    }

    /// Adds a piece of the body.
    pub fn body(&mut self, piece: &[u8]) {
        let room = &mut self.stamp[self.have..];
        let count = room.len().min(piece.len());
        room[..count].copy_from_slice(&piece[..count]);
        self.have += count;
    }

    /// The complete message.
    #[must_use]
    pub fn finish(&self) -> ReceivedMessage {
        let stamp = (self.have == STAMP).then(|| Stamp::read(self.stamp));
        ReceivedMessage { tag: self.tag, redelivered: self.redelivered, stamp }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(sequence: u64) -> Vec<u8> {
        let stamp = Stamp { intended: 9, producer: 1, sequence };
        [&stamp.write()[..], b"and more"].concat()
    }

    #[test]
    fn a_stamp_may_come_in_pieces() {
        let mut unfinished = PartialDelivery::default();
        unfinished.begin(4, false);
        let body = body(77);
        for piece in body.chunks(5) {
            unfinished.body(piece);
        }
        assert_eq!(unfinished.finish().stamp.unwrap().sequence, 77);
        unfinished.begin(5, false);
        unfinished.body(b"short");
        assert_eq!(unfinished.finish().stamp, None);
    }
}
