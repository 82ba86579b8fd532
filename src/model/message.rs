//! A message: a protocol-neutral envelope and the raw properties and body, packed the same way in
//! memory, on the mesh and in the log.
//!
//! ```text
//!  0       1       2         3         4      5..8  8            12       16
//!  +-------+-------+---------+---------+------+-----+------------+--------+--- - -
//!  | flags | format| priority| exchange| key  |  0  | properties | body   | exchange, key,
//!  |       |       |         | length  |length|     | length     | length | properties, body
//!  +-------+-------+---------+---------+------+-----+------------+--------+--- - -
//! ```
//!
//! Integers are little-endian. A body of more than [`INLINE_MAX`] octets is not in the record: it
//! is a [`Body`], counted and shared, so that it crosses queues and cores without a copy.

use std::sync::Arc;

use crate::mutant::{self, Mutant};
use amqp::Properties;
use bytes::Bytes;

/// Bodies up to this many octets are copied into the record.
pub const INLINE_MAX: usize = 2048;
/// A piece of a larger body is kept by reference when it is at least this long (half of a receive
/// buffer); a shorter one is copied, so that it does not pin a buffer many times its size.
pub const REFERENCE_MIN: usize = 32 * 1024;
/// Shorter pieces are copied together into buffers of at most this many octets, however small the
/// frames are that they came in.
const TOGETHER: usize = 64 * 1024;
/// A draft keeps a record's memory for the next message, but no more than this.
const RECORD_KEPT: usize = 16 * 1024;
/// Octets in front of the exchange name.
pub const HEAD: usize = 16;

const PERSISTENT: u8 = 1;
const LARGE: u8 = 2;
/// The properties are those of AMQP 0-9-1's class `basic`.
const FORMAT_AMQP_0_9_1: u8 = 1;

/// The bytes of a large body, counted: the only shared ownership in the data path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Body(Arc<Vec<Bytes>>);

impl Body {
    /// A body made of pieces in order.
    #[must_use]
    pub fn new(pieces: Vec<Bytes>) -> Self {
        Self(Arc::new(pieces))
    }

    /// The pieces in order.
    #[must_use]
    pub fn pieces(&self) -> &[Bytes] {
        &self.0
    }

    /// Octets in all pieces.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// Whether there is no octet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A message in its packed form.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    record: &'a [u8],
    body: Option<&'a Body>,
}

impl<'a> Message<'a> {
    /// A message from a record that a [`Draft`] packed, and its body if that is not in the record.
    #[must_use]
    pub fn new(record: &'a [u8], body: Option<&'a Body>) -> Self {
        Self { record, body }
    }

    /// Whether the octets are a record that a [`Draft`] packed, for a body of so many octets beside
    /// it: all its lengths agree, its names are text, its properties can be read.
    #[must_use]
    pub fn is_well_formed(record: &'a [u8], body: usize) -> bool {
        let Some(head) = record.first_chunk::<HEAD>() else {
            return false;
        };
        let message = Self { record, body: None };
        let names = HEAD + message.exchange_len() + message.key_len();
        let content = names + message.properties_len();
        let inline = if head[0] & LARGE == 0 { message.body_len() } else { 0 };
        let lengths = record.len() == content + inline
            && body == message.body_len() - inline
            && head[1] == FORMAT_AMQP_0_9_1;
        let names_are_text = || {
            let (exchange, key) = (message.exchange_octets(), message.routing_key_octets());
            std::str::from_utf8(exchange).is_ok() && std::str::from_utf8(key).is_ok()
        };
        let properties = || Properties::parse(&record[names..content]);
        lengths && names_are_text() && properties().is_ok()
    }

    /// The record as it is copied from place to place.
    #[must_use]
    pub fn record(&self) -> &'a [u8] {
        self.record
    }

    /// The body, if it is not in the record.
    #[must_use]
    pub fn large_body(&self) -> Option<&'a Body> {
        self.body
    }

    /// Whether the publisher asked for the message to survive a restart.
    #[must_use]
    pub fn persistent(&self) -> bool {
        self.record[0] & PERSISTENT != 0
    }

    /// The priority property; 0 if it is absent.
    #[must_use]
    pub fn priority(&self) -> u8 {
        self.record[2]
    }

    /// The octets of [`Self::exchange`].
    #[must_use]
    #[inline]
    pub fn exchange_octets(&self) -> &'a [u8] {
        &self.record[HEAD..HEAD + self.exchange_len()]
    }

    /// The octets of [`Self::routing_key`].
    #[must_use]
    #[inline]
    pub fn routing_key_octets(&self) -> &'a [u8] {
        let start = HEAD + self.exchange_len();
        &self.record[start..start + self.key_len()]
    }

    /// The octets of exchange and routing key, and the length of the first.
    #[must_use]
    #[inline]
    pub fn names(&self) -> (usize, &'a [u8]) {
        let len = self.exchange_len();
        (len, &self.record[HEAD..HEAD + len + self.key_len()])
    }

    /// The exchange the message was published to.
    #[must_use]
    pub fn exchange(&self) -> &'a str {
        self.text(HEAD, self.exchange_len())
    }

    /// The routing key the message was published with.
    #[must_use]
    pub fn routing_key(&self) -> &'a str {
        self.text(HEAD + self.exchange_len(), self.key_len())
    }

    /// The encoded properties.
    #[must_use]
    #[inline]
    pub fn properties(&self) -> Properties<'a> {
        let start = HEAD + self.exchange_len() + self.key_len();
        Properties::checked_before(&self.record[start..start + self.properties_len()])
    }

    /// Octets in the body.
    #[must_use]
    #[inline]
    pub fn body_len(&self) -> usize {
        self.length(12)
    }

    /// The body, if it is in the record.
    #[must_use]
    #[inline]
    pub fn inline_body(&self) -> &'a [u8] {
        &self.record[HEAD + self.exchange_len() + self.key_len() + self.properties_len()..]
    }

    fn exchange_len(&self) -> usize {
        usize::from(self.record[3])
    }

    fn key_len(&self) -> usize {
        usize::from(self.record[4])
    }

    fn properties_len(&self) -> usize {
        self.length(8)
    }

    fn length(&self, at: usize) -> usize {
        self.record.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |n| u32::from_le_bytes(*n))
            as usize
    }

    fn text(&self, start: usize, len: usize) -> &'a str {
        // A draft copies names from strings, so they are UTF-8; a damaged record reads as empty.
        std::str::from_utf8(&self.record[start..start + len]).unwrap_or_default()
    }
}

/// A message being received: the record grows as its frames arrive, in a buffer that is used again.
#[derive(Debug, Default)]
pub struct Draft {
    record: Vec<u8>,
    pieces: Vec<Bytes>,
    piece_octets: usize,
    /// Short pieces behind the others.
    tail: Vec<u8>,
    body: Option<Body>,
    large: bool,
}

impl Draft {
    /// Starts over with the names of a publish.
    #[inline]
    pub fn begin(&mut self, exchange: &str, routing_key: &str) {
        self.reset();
        self.large = false;
        self.record.clear();
        let mut head = [0; HEAD];
        head[1] = FORMAT_AMQP_0_9_1;
        // A short string has at most 255 octets.
        head[3] = exchange.len() as u8;
        head[4] = routing_key.len() as u8;
        self.record.extend_from_slice(&head);
        self.record.extend_from_slice(exchange.as_bytes());
        self.record.extend_from_slice(routing_key.as_bytes());
    }

    /// Adds the properties, the delivery mode and priority among them, and the announced size of
    /// the body, for which nothing is allocated.
    #[inline]
    pub fn header(&mut self, properties: Properties<'_>, mode: u8, priority: u8, body_size: u32) {
        self.large = body_size as usize > INLINE_MAX;
        let persistent = if mode == 2 { PERSISTENT } else { 0 };
        self.record[0] = persistent | if self.large { LARGE } else { 0 };
        self.record[2] = priority;
        let encoded = properties.encoded();
        // Bounded by the frame that carried it.
        self.record[8..12].copy_from_slice(&(encoded.len() as u32).to_le_bytes());
        self.record[12..16].copy_from_slice(&body_size.to_le_bytes());
        self.record.extend_from_slice(encoded);
    }

    /// Adds a piece of the body that arrived in `chunk`.
    #[inline]
    pub fn body(&mut self, piece: &[u8], chunk: &Bytes) {
        if !self.large {
            self.record.extend_from_slice(piece);
        } else if piece.len() >= REFERENCE_MIN {
            self.end_tail();
            self.piece_octets += piece.len();
            self.pieces.push(chunk.slice_ref(piece));
        } else {
            self.copy(piece);
        }
    }

    fn copy(&mut self, piece: &[u8]) {
        if self.tail.len() + piece.len() > TOGETHER {
            self.end_tail();
        }
        let (len, capacity) = (self.tail.len(), self.tail.capacity());
        let needed = len + piece.len();
        if needed > capacity {
            self.tail.reserve_exact((2 * capacity).clamp(needed, TOGETHER) - len);
        }
        self.tail.extend_from_slice(piece);
    }

    fn end_tail(&mut self) {
        if !self.tail.is_empty() {
            self.piece_octets += self.tail.len();
            self.pieces.push(std::mem::take(&mut self.tail).into());
        }
    }

    /// The finished message.
    #[inline]
    pub fn message(&mut self) -> Message<'_> {
        if self.large && self.body.is_none() {
            self.end_tail();
            if self.pieces.len() > 1 && mutant::active(Mutant::PieceLost) {
                self.pieces.pop();
            }
            self.body = Some(Body::new(std::mem::take(&mut self.pieces)));
        }
        Message { record: &self.record, body: self.body.as_ref() }
    }

    /// The message has gone where it goes: its body by reference is let go of, and a record that
    /// was much larger than others.
    #[inline]
    pub fn done(&mut self) {
        self.reset();
        if self.record.capacity() > RECORD_KEPT {
            self.free_record();
        }
    }

    #[cold]
    fn free_record(&mut self) {
        self.record = Vec::new();
    }

    /// Lets go of a body by reference.
    #[inline]
    pub fn reset(&mut self) {
        self.body = None;
        self.pieces.clear();
        self.piece_octets = 0;
        self.tail.clear();
    }

    /// Octets of memory held for a half-received message.
    #[must_use]
    pub fn pinned(&self) -> usize {
        let pieces = self.pieces.capacity() * size_of::<Bytes>();
        self.record.capacity() + pieces + self.piece_octets + self.tail.capacity()
    }

    /// Gives up what is held beyond a small record.
    pub fn shrink(&mut self) {
        self.pieces = Vec::new();
        self.tail = Vec::new();
        self.reset();
        self.record.clear();
        self.record.shrink_to(4096);
    }
}

#[cfg(test)]
mod tests {
    use amqp::Value;
    use amqp::properties::Basic;
    use amqp::table::TableWriter;

    use super::*;

    fn draft(size: usize) -> Draft {
        let mut draft = Draft::default();
        draft.begin("", "q");
        draft.header(Properties::EMPTY, 0, 0, size as u32);
        draft
    }

    #[test]
    fn a_body_in_frames_of_one_octet_holds_little_more_than_its_octets() {
        const SIZE: usize = 200_000;
        let mut draft = draft(SIZE);
        for n in 0..SIZE {
            let chunk = Bytes::copy_from_slice(&[n as u8]);
            draft.body(&chunk, &chunk);
        }
        assert!(draft.pinned() < SIZE + TOGETHER, "{}", draft.pinned());
        let body = draft.message().large_body().cloned().unwrap();
        assert!(body.pieces().len() <= SIZE.div_ceil(TOGETHER));
        assert!(body.pieces().concat().iter().enumerate().all(|(n, octet)| *octet == n as u8));
    }

    #[test]
    fn large_headers_leave_no_memory() {
        let mut draft = Draft::default();
        let headers = TableWriter::new().with("x", Value::LongString(&[b'x'; 100_000]));
        let mut properties = Vec::new();
        Basic { headers: Some(headers.table()), ..Basic::default() }.write(&mut properties);
        draft.begin("", "q");
        draft.header(Properties::parse(&properties).unwrap().0, 0, 0, 0);
        assert!(draft.message().record().len() > 100_000);
        draft.done();
        assert!(draft.pinned() <= RECORD_KEPT, "{}", draft.pinned());
    }

    #[test]
    fn long_and_short_pieces_stay_in_order() {
        let chunk = Bytes::from((0..=255).cycle().take(150_000).collect::<Vec<u8>>());
        let mut draft = draft(chunk.len());
        let mut rest = &chunk[..];
        for len in [1, 40_000, 31_000, 31_000, 10_000, 2, 32_768, chunk.len()] {
            let (piece, behind) = rest.split_at(len.min(rest.len()));
            draft.body(piece, &chunk);
            rest = behind;
        }
        assert_eq!(draft.message().large_body().unwrap().pieces().concat(), chunk);
    }
}
