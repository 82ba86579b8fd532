//! A message: a protocol-neutral envelope with the raw properties and body. It has one packed form
//! in memory, on the mesh and in the log.
//!
//! ```text
//!  0       1       2         3         4      5..8  8            12       16
//!  +-------+-------+---------+---------+------+-----+------------+--------+--- - -
//!  | flags | format| priority| exchange| key  |  0  | properties | body   | exchange, key,
//!  |       |       |         | length  |length|     | length     | length | properties, body
//!  +-------+-------+---------+---------+------+-----+------------+--------+--- - -
//! ```
//!
//! Integers are little-endian. A body of more than [`INLINE_MAX`] bytes is not in the record: it
//! is a [`Body`], counted and shared, so that it crosses queues and cores without a copy. The same
//! holds for properties of more than [`INLINE_MAX`] bytes: they are in front of the body there.

use crate::mutant::{self, Mutant};
use amqp::Properties;
use bytes::Bytes;

pub use crate::body::REFERENCE_MIN;
use crate::body::{Body, BodyGauge};

/// Bodies and properties up to this many bytes are copied into the record.
pub const INLINE_MAX: usize = 2048;
/// Shorter pieces are joined in buffers of at most this many bytes, however small their frames are.
const TOGETHER: usize = 64 * 1024;
/// A draft keeps at most this much of a record's memory for the next message.
const RECORD_KEPT: usize = 16 * 1024;
/// Bytes before the exchange name.
pub const HEAD: usize = 16;

const PERSISTENT: u8 = 1;
const LARGE: u8 = 2;
const EXPIRES: u8 = 4;
/// Properties and body are not in the record; [`LARGE`] is set too.
const APART: u8 = 8;
/// The properties are those of AMQP 0-9-1's class `basic`.
const FORMAT_AMQP_0_9_1: u8 = 1;

/// A message in its packed form.
#[derive(Debug, Clone, Copy, Hash)]
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

    /// Whether the bytes are a record that a [`Draft`] packed, for a body of so many bytes beside
    /// it: all lengths agree, names are UTF-8, properties can be read.
    #[must_use]
    pub fn is_well_formed(record: &'a [u8], body: usize) -> bool {
        let Some(head) = record.first_chunk::<HEAD>() else {
            return false;
        };
        let message = Self { record, body: None };
        let names = HEAD + message.exchange_len() + message.key_len();
        let (properties, content) = (message.properties_len(), message.body_len());
        let apart = [APART, LARGE].map(|flag| head[0] & flag != 0);
        let (inline, expected) = match apart {
            [true, large] if large => (0, properties + content),
            [true, _] => return false,
            [_, true] => (properties, content),
            _ => (properties + content, 0),
        };
        let lengths =
            record.len() == names + inline && body == expected && head[1] == FORMAT_AMQP_0_9_1;
        let inline_properties = if apart[0] { names..names } else { names..names + properties };
        let names_are_text = || {
            let (exchange, key) = (message.exchange_bytes(), message.routing_key_bytes());
            std::str::from_utf8(exchange).is_ok() && std::str::from_utf8(key).is_ok()
        };
        // Those apart are read without a check where they are damaged: nothing relies on them.
        let properties = || apart[0] || Properties::parse(&record[inline_properties]).is_ok();
        lengths && names_are_text() && properties()
    }

    /// The packed record, as it is copied.
    #[must_use]
    pub fn record(&self) -> &'a [u8] {
        self.record
    }

    /// What is not in the record: a large body, behind large properties.
    #[must_use]
    pub fn large_body(&self) -> Option<&'a Body> {
        self.body
    }

    /// Whether its properties are not in the record.
    #[must_use]
    #[inline]
    pub fn properties_are_apart(&self) -> bool {
        self.record[0] & APART != 0
    }

    /// The pieces of a body that is not in the record.
    pub fn body_pieces(&self) -> impl Iterator<Item = Bytes> + use<'a> {
        let mut skip = if self.properties_are_apart() { self.properties_len() } else { 0 };
        let pieces = self.body.map_or(&[][..], Body::pieces).iter();
        pieces.filter_map(move |piece| {
            let skipped = skip.min(piece.len());
            skip -= skipped;
            (skipped < piece.len()).then(|| piece.slice(skipped..))
        })
    }

    /// Whether the publisher asked for the message to survive a restart.
    #[must_use]
    pub fn persistent(&self) -> bool {
        self.record[0] & PERSISTENT != 0
    }

    /// Whether it has an expiration of its own; see [`Self::expiration_ms`].
    #[must_use]
    #[inline]
    pub fn expires(&self) -> bool {
        self.record[0] & EXPIRES != 0
    }

    /// How long it lives at most in each queue it enters, in milliseconds: its expiration property.
    #[must_use]
    #[cold]
    pub fn expiration_ms(&self) -> Option<u64> {
        if !self.expires() {
            return None;
        }
        // It was checked when it was published.
        self.properties()
            .basic()
            .expiration
            .and_then(|text| text.trim_start_matches(['+', '-']).parse().ok())
    }

    /// The priority property; 0 if it is absent.
    #[must_use]
    pub fn priority(&self) -> u8 {
        self.record[2]
    }

    /// The bytes of [`Self::exchange`].
    #[must_use]
    #[inline]
    pub fn exchange_bytes(&self) -> &'a [u8] {
        &self.record[HEAD..HEAD + self.exchange_len()]
    }

    /// The bytes of [`Self::routing_key`].
    #[must_use]
    #[inline]
    pub fn routing_key_bytes(&self) -> &'a [u8] {
        let start = HEAD + self.exchange_len();
        &self.record[start..start + self.key_len()]
    }

    /// The bytes of exchange and routing key, and the length of the first.
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
        let (start, len) = (HEAD + self.exchange_len() + self.key_len(), self.properties_len());
        if self.properties_are_apart() {
            return self.properties_apart(len);
        }
        Properties::checked_before(&self.record[start..start + len])
    }

    #[cold]
    fn properties_apart(&self, len: usize) -> Properties<'a> {
        // They are whole in the first piece, also after a restart.
        let first = self.body.and_then(|body| body.pieces().first());
        let bytes = first.and_then(|first| first.get(..len));
        bytes.map_or(Properties::EMPTY, Properties::checked_before)
    }

    /// How many bytes of encoded properties there are, if that is more than `max`.
    #[must_use]
    #[inline]
    pub fn properties_beyond(&self, max: usize) -> Option<usize> {
        // A record that is no larger holds no larger properties.
        if self.record.len() <= max && !self.properties_are_apart() {
            return None;
        }
        Some(self.properties_len()).filter(|bytes| *bytes > max)
    }

    /// Length of the body in bytes.
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

/// A message being received. The record grows as frames arrive, in a buffer that is reused.
#[derive(Debug, Default)]
pub struct Draft {
    record: Vec<u8>,
    pieces: Vec<Bytes>,
    piece_bytes: usize,
    /// Short pieces behind the others.
    tail: Vec<u8>,
    body: Option<Body>,
    large: bool,
}

impl Draft {
    /// Begins a new message with the names of a publish.
    #[inline]
    pub fn begin(&mut self, exchange: &str, routing_key: &str) {
        self.reset();
        self.large = false;
        self.record.clear();
        let mut head = [0; HEAD];
        head[1] = FORMAT_AMQP_0_9_1;
        // A short string has at most 255 bytes.
        head[3] = exchange.len() as u8;
        head[4] = routing_key.len() as u8;
        self.record.extend_from_slice(&head);
        // The default exchange, which is the most used, has an empty name.
        if !exchange.is_empty() {
            self.record.extend_from_slice(exchange.as_bytes());
        }
        self.record.extend_from_slice(routing_key.as_bytes());
    }

    /// Gives a finished message's exchange another name, no longer than the one it has.
    pub fn rename_exchange(&mut self, name: &str) {
        let old = HEAD + usize::from(self.record[3]);
        self.record.splice(HEAD..old, name.bytes());
        // A short string has at most 255 bytes.
        self.record[3] = name.len() as u8;
    }

    /// Adds the properties, with delivery mode and priority, and the announced size of the body.
    /// Allocates nothing for the announced size.
    #[inline]
    pub fn header(&mut self, properties: Properties<'_>, mode: u8, priority: u8, body_size: u32) {
        self.large = body_size as usize > INLINE_MAX;
        let persistent = if mode == 2 { PERSISTENT } else { 0 };
        self.record[0] = persistent | if self.large { LARGE } else { 0 };
        self.record[2] = priority;
        let encoded = properties.encoded();
        if encoded.len() > INLINE_MAX {
            return self.header_apart(encoded, body_size);
        }
        // Bounded by the frame that carried it.
        self.record[8..12].copy_from_slice(&(encoded.len() as u32).to_le_bytes());
        self.record[12..16].copy_from_slice(&body_size.to_le_bytes());
        self.record.extend_from_slice(encoded);
    }

    /// Makes this another message's copy, with other names and properties. Exchange and routing key
    /// have at most 255 bytes. A body by reference is shared.
    pub fn copy_of(&mut self, of: &Message<'_>, exchange: &str, key: &str, properties: &[u8]) {
        self.begin(exchange, key);
        let mode = if of.persistent() { 2 } else { 0 };
        // Bounded by what a frame can carry, and by what was received.
        let body_len = of.body_len() as u32;
        self.header(Properties::checked_before(properties), mode, of.priority(), body_len);
        let apart = self.record[0] & APART != 0 || of.properties_are_apart();
        match of.large_body().filter(|_| !apart) {
            Some(body) => self.body = Some(body.clone()),
            None if of.large_body().is_none() && self.large => self.copy(of.inline_body()),
            None if of.large_body().is_none() => self.record.extend_from_slice(of.inline_body()),
            None => of.body_pieces().for_each(|piece| self.share(piece)),
        }
    }

    /// Adds a piece of another message's body.
    fn share(&mut self, piece: Bytes) {
        if self.large {
            self.piece_bytes += piece.len();
            self.pieces.push(piece);
        } else {
            self.record.extend_from_slice(&piece);
        }
    }

    /// The properties that were added have an expiration.
    pub fn expires(&mut self) {
        self.record[0] |= EXPIRES;
    }

    /// The same for large properties.
    #[cold]
    fn header_apart(&mut self, encoded: &[u8], body_size: u32) {
        self.large = true;
        self.record[0] |= APART | LARGE;
        self.record[8..12].copy_from_slice(&(encoded.len() as u32).to_le_bytes());
        self.record[12..16].copy_from_slice(&body_size.to_le_bytes());
        self.piece_bytes += encoded.len();
        self.pieces.push(Bytes::copy_from_slice(encoded));
    }

    /// Adds a piece of the body that arrived in `chunk`.
    #[inline]
    pub fn body(&mut self, piece: &[u8], chunk: &Bytes) {
        if !self.large {
            self.record.extend_from_slice(piece);
        } else if piece.len() >= REFERENCE_MIN {
            self.end_tail();
            self.piece_bytes += piece.len();
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
            self.piece_bytes += self.tail.len();
            self.pieces.push(std::mem::take(&mut self.tail).into());
        }
    }

    /// The message is finished: what it shares counts from now on.
    #[inline]
    pub fn count(&mut self, gauge: &BodyGauge) {
        if self.large {
            self.count_body(gauge);
        }
    }

    #[cold]
    fn count_body(&mut self, gauge: &BodyGauge) {
        self.message();
        if let Some(body) = &mut self.body {
            gauge.made(body);
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

    /// The message was routed: releases the body by reference, and a record that was much larger
    /// than usual.
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

    /// Releases a body by reference.
    #[inline]
    pub fn reset(&mut self) {
        if self.large {
            self.release();
        }
    }

    // Most messages have none: out of line, what releases it does not count for them.
    #[inline(never)]
    fn release(&mut self) {
        self.body = None;
        self.pieces.clear();
        self.piece_bytes = 0;
        self.tail.clear();
    }

    /// Bytes of memory held for a partial message.
    #[must_use]
    pub fn pinned(&self) -> usize {
        let pieces = self.pieces.capacity() * size_of::<Bytes>();
        self.record.capacity() + pieces + self.piece_bytes + self.tail.capacity()
    }

    /// Frees all memory beyond a small record.
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
    fn a_body_in_frames_of_one_byte_holds_little_more_than_its_bytes() {
        const SIZE: usize = 200_000;
        let mut draft = draft(SIZE);
        for n in 0..SIZE {
            let chunk = Bytes::copy_from_slice(&[n as u8]);
            draft.body(&chunk, &chunk);
        }
        assert!(draft.pinned() < SIZE + TOGETHER, "{}", draft.pinned());
        let body = draft.message().large_body().cloned().unwrap();
        assert!(body.pieces().len() <= SIZE.div_ceil(TOGETHER));
        assert!(body.pieces().concat().iter().enumerate().all(|(n, byte)| *byte == n as u8));
    }

    #[test]
    fn large_headers_leave_no_memory() {
        let mut draft = Draft::default();
        let headers = TableWriter::new().with("x", Value::LongString(&[b'x'; 100_000]));
        let mut properties = Vec::new();
        Basic { headers: Some(headers.table()), ..Basic::default() }.write(&mut properties);
        draft.begin("", "q");
        draft.header(Properties::parse(&properties).unwrap().0, 0, 0, 0);
        assert!(draft.message().large_body().unwrap().len() > 100_000);
        draft.done();
        assert!(draft.pinned() <= RECORD_KEPT, "{}", draft.pinned());
    }

    #[test]
    fn large_properties_are_in_front_of_the_body_and_not_in_the_record() {
        let headers = TableWriter::new().with("x", Value::LongString(&[b'x'; 5000]));
        let mut properties = Vec::new();
        Basic { headers: Some(headers.table()), ..Basic::default() }.write(&mut properties);
        for size in [0, 100, 100_000] {
            let body = Bytes::from((0..size).map(|n| n as u8).collect::<Vec<u8>>());
            let mut draft = Draft::default();
            draft.begin("e", "key");
            draft.header(Properties::parse(&properties).unwrap().0, 2, 3, size);
            body.chunks(40_000).for_each(|piece| draft.body(piece, &body));
            let message = draft.message();
            assert_eq!(message.record().len(), HEAD + "ekey".len());
            assert_eq!(message.properties_beyond(4000), Some(properties.len()));
            let whole = message.large_body().unwrap().pieces().concat();
            // As it is when it comes back from the disk, in one piece.
            let one = Body::new(vec![whole.clone().into()]);
            for message in [message, Message::new(message.record(), Some(&one))] {
                assert_eq!(message.properties().encoded(), properties);
                assert_eq!(message.body_pieces().collect::<Vec<_>>().concat(), body);
                assert!(message.persistent() && message.priority() == 3);
                assert_eq!(message.body_len(), body.len());
            }
            let record = message.record();
            assert!(Message::is_well_formed(record, whole.len()));
            assert!(!Message::is_well_formed(record, whole.len() + 1));
            assert!(!Message::is_well_formed(record, body.len()));
        }
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
