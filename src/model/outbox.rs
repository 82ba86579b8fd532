//! Output that waits for a socket: bytes, with large bodies by reference between them.

use std::io::IoSlice;

use amqp::frame::{self, Deliver};
use amqp::methods::Method;
use bytes::Bytes;

use crate::body::Body;
use crate::message::{INLINE_MAX, Message};

/// Output of one connection, in order.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    /// A piece of a body, and how many bytes of the buffer come before it.
    pieces: Vec<(usize, Bytes)>,
    piece_bytes: usize,
    /// The bodies of the pieces: they count as long as a piece is here.
    bodies: Vec<Body>,
    /// Bytes appended by reference since the start.
    referred: u64,
    /// Bytes moved to another outbox since the start.
    drained: u64,
    /// Frames appended since the start.
    frames: u64,
}

impl Outbox {
    /// Bytes appended since the start.
    #[must_use]
    pub fn produced(&self) -> u64 {
        self.drained + self.len() as u64
    }

    /// Frames appended since the start.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Bytes that wait, bodies by reference included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() + self.piece_bytes
    }

    /// Bytes of memory held. Those of bodies count where [`crate::BodyGauge`] says.
    #[must_use]
    pub fn pinned(&self) -> usize {
        let pieces = self.pieces.capacity() * size_of::<(usize, Bytes)>();
        self.bytes.capacity() + pieces + self.bodies.capacity() * size_of::<Body>()
    }

    /// Bytes appended by reference since the start.
    #[must_use]
    pub fn referred(&self) -> u64 {
        self.referred
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.pieces.is_empty()
    }

    /// The buffer to append to one frame, or a protocol header.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        self.frames += 1;
        &mut self.bytes
    }

    /// Appends a method frame.
    pub fn method(&mut self, channel: u16, method: &Method<'_>) {
        self.frames += 1;
        frame::write_method(&mut self.bytes, channel, method);
    }

    /// Appends the method frame of a delivery.
    #[inline]
    pub fn deliver(&mut self, channel: u16, deliver: &Deliver<'_>) {
        self.frames += 1;
        frame::write_deliver(&mut self.bytes, channel, deliver);
    }

    /// Appends the content header and the body of a message, in frames of at most `frame_max`.
    #[inline]
    pub fn content(&mut self, channel: u16, message: Message<'_>, frame_max: u32) {
        let properties = message.properties().encoded();
        let size = message.body_len();
        if (1..=INLINE_MAX).contains(&size) && !message.properties_are_apart() {
            // No frame_max is so small that it would not fit.
            let body = message.inline_body();
            self.frames += 2;
            frame::write_small_content(&mut self.bytes, channel, properties, body);
            return;
        }
        self.frames += 1;
        frame::write_header(&mut self.bytes, channel, size as u64, properties);
        if size > 0 {
            self.bodies.extend(message.large_body().cloned());
            self.pieces(channel, message.body_pieces(), size, frame_max);
        }
    }

    /// Cuts the pieces of a body into frames; a frame may end anywhere in a piece.
    fn pieces(
        &mut self,
        channel: u16,
        pieces: impl Iterator<Item = Bytes>,
        mut left: usize,
        frame_max: u32,
    ) {
        let mut room = 0;
        for piece in pieces {
            let mut at = 0;
            while at < piece.len() {
                if room == 0 {
                    room = left.min(frame::payload_max(frame_max));
                    // At most frame_max, which is 32 bits.
                    self.bytes.extend_from_slice(&frame::body_head(channel, room as u32));
                    self.frames += 1;
                }
                let taken = room.min(piece.len() - at);
                self.reference(piece.slice(at..at + taken));
                at += taken;
                room -= taken;
                left -= taken;
                if room == 0 {
                    self.bytes.push(frame::END);
                }
            }
        }
    }

    /// Appends bytes by reference.
    fn reference(&mut self, piece: Bytes) {
        self.piece_bytes += piece.len();
        self.referred += piece.len() as u64;
        self.pieces.push((self.bytes.len(), piece));
    }

    /// Moves everything to the end of `other`. If `other` is empty, the buffers are swapped.
    pub fn drain_into(&mut self, other: &mut Outbox) {
        if self.is_empty() {
            // Each keeps its buffers, which have the size that it needs.
            return;
        }
        self.drained += self.len() as u64;
        if other.is_empty() {
            other.clear();
            std::mem::swap(&mut self.bytes, &mut other.bytes);
            std::mem::swap(&mut self.pieces, &mut other.pieces);
            std::mem::swap(&mut self.bodies, &mut other.bodies);
            std::mem::swap(&mut self.piece_bytes, &mut other.piece_bytes);
            return;
        }
        let shift = other.bytes.len();
        other.bytes.append(&mut self.bytes);
        other.pieces.extend(self.pieces.drain(..).map(|(at, piece)| (at + shift, piece)));
        other.bodies.append(&mut self.bodies);
        other.piece_bytes += std::mem::take(&mut self.piece_bytes);
    }

    /// The bytes from `from` on as slices for writev, as many as the spare capacity of `slices`.
    pub fn slices<'a>(&'a self, from: usize, slices: &mut Vec<IoSlice<'a>>) {
        let mut skip = from;
        let mut start = 0;
        for (at, piece) in &self.pieces {
            for part in [&self.bytes[start..*at], piece.as_ref()] {
                if slices.len() == slices.capacity() {
                    return;
                }
                push_rest(part, &mut skip, slices);
            }
            start = *at;
        }
        if slices.len() < slices.capacity() {
            push_rest(&self.bytes[start..], &mut skip, slices);
        }
    }

    /// Drops what waits. A buffer of ordinary size is kept for the next output.
    pub fn clear(&mut self) {
        const KEPT: usize = 256 * 1024;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        self.pieces.clear();
        self.bodies.clear();
        self.piece_bytes = 0;
    }
}

fn push_rest<'a>(part: &'a [u8], skip: &mut usize, slices: &mut Vec<IoSlice<'a>>) {
    let skipped = part.len().min(*skip);
    *skip -= skipped;
    if skipped < part.len() {
        slices.push(IoSlice::new(&part[skipped..]));
    }
}

#[cfg(test)]
mod tests {
    use amqp::{Frame, Parser, Properties};

    use super::*;
    use crate::message::Draft;

    fn joined(outbox: &Outbox, from: usize) -> Vec<u8> {
        let mut slices = Vec::with_capacity(1024);
        outbox.slices(from, &mut slices);
        slices.iter().flat_map(|slice| slice.to_vec()).collect()
    }

    #[test]
    fn a_body_by_reference_is_framed_like_one_in_the_record() {
        for (size, frame_max) in [(2049, 4096), (100_000, 8192), (300_000, 131_072), (70_000, 0)] {
            let chunk = Bytes::from((0..size).map(|n| n as u8).collect::<Vec<u8>>());
            let mut draft = Draft::default();
            draft.begin("e", "k");
            draft.header(Properties::EMPTY, 0, 0, size as u32);
            draft.header(Properties::EMPTY, 0, 0, size as u32);
            for piece in chunk.chunks(40_000) {
                draft.body(piece, &chunk);
            }
            let mut outbox = Outbox::default();
            outbox.content(3, draft.message(), frame_max);
            let bytes = joined(&outbox, 0);
            assert_eq!(bytes.len(), outbox.len());
            assert_eq!(joined(&outbox, 1000), bytes[1000..]);
            let (mut parser, mut at, mut body) = (Parser::new(frame_max), 0, Vec::new());
            while let Some(frame) = parser.next(&bytes, &mut at).unwrap() {
                if let Frame::Body { channel: 3, piece, last: true } = frame {
                    assert!(piece.len() <= frame::payload_max(frame_max));
                    body.extend_from_slice(piece);
                }
            }
            assert_eq!(body, chunk);
        }
    }

    #[test]
    fn one_without_output_keeps_its_buffer() {
        let (mut one, mut two) = (Outbox::default(), Outbox::default());
        one.buffer().reserve(1000);
        let pinned = one.pinned();
        one.drain_into(&mut two);
        assert_eq!((one.pinned(), two.pinned()), (pinned, 0));
    }

    #[test]
    fn draining_keeps_the_order() {
        let (mut one, mut two) = (Outbox::default(), Outbox::default());
        one.buffer().extend_from_slice(b"ab");
        one.drain_into(&mut two);
        one.buffer().extend_from_slice(b"cd");
        one.reference(Bytes::from_static(b"EF"));
        one.buffer().extend_from_slice(b"gh");
        one.drain_into(&mut two);
        assert!(one.is_empty());
        assert_eq!(joined(&two, 0), b"abcdEFgh");
        assert_eq!(joined(&two, 5), b"Fgh");
    }
}
