//! Bytes to frames and back, for any read boundaries.
//!
//! ```text
//!   0      1         3             7                  7+size   8+size
//!   +------+---------+-------------+------------------+--------+
//!   | type | channel |    size     |     payload      |  0xCE  |
//!   +------+---------+-------------+------------------+--------+
//!    octet    short       long          size octets      octet
//! ```
//!
//! (spec 4.2.3.) A method or header frame is handed out whole; the payload of a body frame is
//! handed out in the pieces it arrived in, so a large body is never joined and every piece is a
//! slice of the input. The price: when a read ends between a payload and its end octet, the last
//! piece is out before that octet can be checked.

use crate::methods::Method;

/// Octets in front of the properties in the payload of a content header.
pub const HEADER_FIXED: usize = 12;
/// Octets around a payload: type, channel, size and the end octet.
pub const OVERHEAD: usize = 8;
/// The octet behind every payload.
pub const END: u8 = 0xCE;
/// The smallest frame_max that may be negotiated (spec 1.1, frame-min-size). Newer series of
/// RabbitMQ ask for 8192, but clients that were made for the older ones still answer with this.
pub const FRAME_MIN: u32 = 4096;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
const HEAD: usize = 7;
/// A carry buffer larger than this is freed once its frame is handed out.
const CARRY_KEPT: usize = 4096;

/// A frame, or for a body frame one piece of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "channel and payload are the fields of the frame")]
pub enum Frame<'a> {
    Method {
        channel: u16,
        payload: &'a [u8],
    },
    Header {
        channel: u16,
        payload: &'a [u8],
    },
    /// A piece of a body frame's payload; `last` when the frame ends with it. A piece is empty only
    /// if the frame is.
    Body {
        channel: u16,
        piece: &'a [u8],
        last: bool,
    },
    Heartbeat {
        channel: u16,
    },
}

impl<'a> Frame<'a> {
    /// The frame's type octet.
    #[must_use]
    pub fn kind(&self) -> u8 {
        match self {
            Frame::Method { .. } => METHOD,
            Frame::Header { .. } => HEADER,
            Frame::Body { .. } => BODY,
            Frame::Heartbeat { .. } => HEARTBEAT,
        }
    }

    /// Its payload, or for a body frame this piece of it.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        match *self {
            Frame::Method { payload, .. } | Frame::Header { payload, .. } => payload,
            Frame::Body { piece, .. } => piece,
            Frame::Heartbeat { .. } => &[],
        }
    }
}

/// Bytes that are not a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The payload's announced size is over the negotiated maximum.
    #[error("a frame of type {kind} with {size} octets, over the limit of {max}")]
    TooLarge {
        /// The frame's type octet.
        kind: u8,
        /// The announced size of the payload.
        size: u32,
        /// The negotiated frame_max without the octets around a payload.
        max: u32,
    },
    /// Another octet where 0xCE must stand.
    #[error("a frame of type {kind} that ends with {found}")]
    EndMarker {
        /// The frame's type octet.
        kind: u8,
        /// The octet found.
        found: u8,
        /// How the payload begins.
        payload: Snippet,
    },
    /// A frame type that does not exist, or a heartbeat with a payload.
    #[error("a frame of the unknown type {kind}")]
    UnknownType {
        /// The frame's type octet.
        kind: u8,
        /// How the payload begins.
        payload: Snippet,
    },
}

/// The first 16 octets of a payload, quoted in error texts. A plain array, so that the `Result` of
/// a correct frame stays small and needs no drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snippet {
    first: [u8; Self::MAX],
    /// How many octets the payload has; `MAX + 1` for every longer one.
    len: u8,
}

impl Snippet {
    /// The most octets that are quoted, as in RabbitMQ.
    pub const MAX: usize = 16;

    /// The beginning of this payload.
    #[must_use]
    pub fn of(payload: &[u8]) -> Self {
        let mut first = [0; Self::MAX];
        first.iter_mut().zip(payload).for_each(|(to, from)| *to = *from);
        // At most 17.
        Self { first, len: payload.len().min(Self::MAX + 1) as u8 }
    }

    /// The first octets.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.first[..usize::from(self.len).min(Self::MAX)]
    }

    /// Whether the payload has no further octets.
    #[must_use]
    pub fn is_all(&self) -> bool {
        usize::from(self.len) <= Self::MAX
    }
}

/// Splits a stream of bytes into frames. Keeps a frame that a read left incomplete, except the
/// bytes of a body.
#[derive(Debug)]
pub struct Parser {
    payload_max: u32,
    /// The start of a frame that the bytes so far have not completed.
    carry: Vec<u8>,
    /// The carried frame was handed out; the next call drops it.
    carry_done: bool,
    body: Option<BodyFrame>,
}

/// A body frame whose head was read: its channel and the payload still to come.
#[derive(Debug, Clone, Copy)]
struct BodyFrame {
    channel: u16,
    left: usize,
    /// The frame has no payload, so its one empty piece is handed out at its end.
    empty: bool,
    /// How the payload begins, one octet more than a [`Snippet`], and how much of that came.
    start: [u8; Snippet::MAX + 1],
    came: usize,
}

impl BodyFrame {
    fn note(&mut self, piece: &[u8]) {
        let piece = &piece[..piece.len().min(self.start.len() - self.came)];
        self.start[self.came..][..piece.len()].copy_from_slice(piece);
        self.came += piece.len();
    }
}

#[derive(Debug, Clone, Copy)]
struct FrameHead {
    kind: u8,
    channel: u16,
    size: u32,
}

impl FrameHead {
    fn read(bytes: &[u8; HEAD]) -> Self {
        let [kind, c0, c1, s0, s1, s2, s3] = *bytes;
        Self {
            kind,
            channel: u16::from_be_bytes([c0, c1]),
            size: u32::from_be_bytes([s0, s1, s2, s3]),
        }
    }
}

impl Parser {
    /// A parser for frames of at most `frame_max` octets; 0 means no limit.
    #[must_use]
    pub fn new(frame_max: u32) -> Self {
        let mut parser = Self { payload_max: 0, carry: Vec::new(), carry_done: false, body: None };
        parser.set_frame_max(frame_max);
        parser
    }

    /// Applies the negotiated limit to the frames that follow. RabbitMQ compares the payload, not
    /// the whole frame, with frame_max; so a peer may be 8 octets over.
    pub fn set_frame_max(&mut self, frame_max: u32) {
        self.payload_max = if frame_max == 0 { u32::MAX } else { frame_max };
    }

    /// Bytes held for a frame that is not complete.
    #[must_use]
    pub fn carried(&self) -> usize {
        if self.carry_done { 0 } else { self.carry.len() }
    }

    /// The next frame of `input` from `at` on, which moves behind what was read. `None` when the
    /// bytes ran out; then everything up to the end of `input` has been taken.
    ///
    /// # Errors
    /// The stream is no longer in step after an error; the connection must be closed.
    #[inline]
    pub fn next<'a>(
        &'a mut self,
        input: &'a [u8],
        at: &mut usize,
    ) -> Result<Option<Frame<'a>>, FrameError> {
        if self.carry_done {
            self.drop_carry();
        }
        if self.body.is_some() {
            if let Some(frame) = self.body_piece(input, at)? {
                return Ok(Some(frame));
            }
            if self.body.is_some() {
                return Ok(None);
            }
        }
        if !self.carry.is_empty() {
            return self.carried_frame(input, at);
        }
        self.frame(input, at)
    }

    /// Like [`Parser::next`], for a method, header or body frame that lies whole in `input`. The
    /// frame borrows nothing from the parser. `None` for everything else, errors included: then
    /// call
    /// [`Parser::next`].
    #[inline]
    pub fn whole<'a>(&self, input: &'a [u8], at: &mut usize) -> Option<Frame<'a>> {
        if self.body.is_some() || !self.carry.is_empty() {
            return None;
        }
        let rest = input.get(*at..)?;
        let FrameHead { kind, channel, size } = FrameHead::read(rest.first_chunk()?);
        if size > self.payload_max {
            return None;
        }
        let size = size as usize;
        let (&end, payload) = rest.get(HEAD..HEAD + size + 1)?.split_last()?;
        if end != END {
            return None;
        }
        let frame = match kind {
            METHOD => Frame::Method { channel, payload },
            HEADER => Frame::Header { channel, payload },
            BODY => Frame::Body { channel, piece: payload, last: true },
            _ => return None,
        };
        *at += OVERHEAD + size;
        Some(frame)
    }

    /// A frame that begins in `input`.
    #[inline]
    fn frame<'a>(
        &'a mut self,
        input: &'a [u8],
        at: &mut usize,
    ) -> Result<Option<Frame<'a>>, FrameError> {
        let rest = input.get(*at..).unwrap_or_default();
        let Some(head) = rest.first_chunk::<HEAD>().map(FrameHead::read) else {
            self.keep(rest, HEAD);
            *at = input.len();
            return Ok(None);
        };
        self.check(head)?;
        let size = head.size as usize;
        if let Some(whole) = rest.get(HEAD..HEAD + size + 1) {
            *at += OVERHEAD + size;
            return whole_frame(head, whole).map(Some);
        }
        if head.kind == BODY {
            *at += HEAD;
            return self.begin_body(head, input, at);
        }
        self.keep(rest, OVERHEAD + size);
        *at = input.len();
        Ok(None)
    }

    /// A frame whose first bytes were carried over from an earlier read.
    fn carried_frame<'a>(
        &'a mut self,
        input: &'a [u8],
        at: &mut usize,
    ) -> Result<Option<Frame<'a>>, FrameError> {
        self.fill_carry(HEAD, input, at);
        let Some(head) = self.carry.first_chunk::<HEAD>().map(FrameHead::read) else {
            return Ok(None);
        };
        self.check(head)?;
        let size = head.size as usize;
        if head.kind == BODY {
            self.carry.clear();
            return self.begin_body(head, input, at);
        }
        self.fill_carry(OVERHEAD + size, input, at);
        match self.carry.get(HEAD..OVERHEAD + size) {
            Some(whole) => {
                self.carry_done = true;
                whole_frame(head, whole).map(Some)
            }
            None => Ok(None),
        }
    }

    fn fill_carry(&mut self, len: usize, input: &[u8], at: &mut usize) {
        let rest = input.get(*at..).unwrap_or_default();
        let missing = len.saturating_sub(self.carry.len()).min(rest.len());
        self.keep(&rest[..missing], len);
        *at += missing;
    }

    /// Carries `bytes` of something that has `whole` octets. The buffer doubles as bytes arrive, up
    /// to `whole`; an announced size alone allocates nothing.
    fn keep(&mut self, bytes: &[u8], whole: usize) {
        let (len, capacity) = (self.carry.len(), self.carry.capacity());
        let needed = len + bytes.len();
        if needed > capacity {
            let target = capacity.saturating_mul(2).min(whole).max(needed);
            self.carry.reserve_exact(target - len);
        }
        self.carry.extend_from_slice(bytes);
    }

    fn drop_carry(&mut self) {
        self.carry_done = false;
        self.carry.clear();
        if self.carry.capacity() > CARRY_KEPT {
            self.carry = Vec::new();
        }
    }

    fn check(&self, head: FrameHead) -> Result<(), FrameError> {
        if head.size > self.payload_max {
            let max = self.payload_max.saturating_sub(OVERHEAD as u32);
            return Err(FrameError::TooLarge { kind: head.kind, size: head.size, max });
        }
        Ok(())
    }

    /// The head of a body frame was read; the rest of the frame is not all there.
    fn begin_body<'a>(
        &mut self,
        head: FrameHead,
        input: &'a [u8],
        at: &mut usize,
    ) -> Result<Option<Frame<'a>>, FrameError> {
        let left = head.size as usize;
        let start = [0; Snippet::MAX + 1];
        self.body =
            Some(BodyFrame { channel: head.channel, left, empty: left == 0, start, came: 0 });
        self.body_piece(input, at)
    }

    /// The next piece of the body frame that has begun. The last piece is handed out with the end
    /// octet checked if it is there, else it is checked by the next call.
    fn body_piece<'a>(
        &mut self,
        input: &'a [u8],
        at: &mut usize,
    ) -> Result<Option<Frame<'a>>, FrameError> {
        let Some(mut body) = self.body else {
            return Ok(None);
        };
        let rest = input.get(*at..).unwrap_or_default();
        let (piece, behind) = rest.split_at(body.left.min(rest.len()));
        body.left -= piece.len();
        body.note(piece);
        *at += piece.len();
        let last = body.left == 0;
        self.body = Some(body);
        if let Some(&end) = behind.first() {
            check_end(BODY, end, &body.start[..body.came])?;
            *at += 1;
            self.body = None;
        }
        let due = !piece.is_empty() || (body.empty && self.body.is_none());
        Ok(due.then_some(Frame::Body { channel: body.channel, piece, last }))
    }
}

/// `whole` is the payload and its end octet.
#[inline]
fn whole_frame<'a>(head: FrameHead, whole: &'a [u8]) -> Result<Frame<'a>, FrameError> {
    let Some((&end, payload)) = whole.split_last() else {
        return Err(wrong_end(head.kind, 0, &[]));
    };
    check_end(head.kind, end, payload)?;
    let channel = head.channel;
    Ok(match head.kind {
        METHOD => Frame::Method { channel, payload },
        HEADER => Frame::Header { channel, payload },
        BODY => Frame::Body { channel, piece: payload, last: true },
        HEARTBEAT if payload.is_empty() => Frame::Heartbeat { channel },
        kind => return Err(unknown_type(kind, payload)),
    })
}

#[cold]
fn unknown_type(kind: u8, payload: &[u8]) -> FrameError {
    FrameError::UnknownType { kind, payload: Snippet::of(payload) }
}

#[inline]
fn check_end(kind: u8, found: u8, payload: &[u8]) -> Result<(), FrameError> {
    if found == END { Ok(()) } else { Err(wrong_end(kind, found, payload)) }
}

#[cold]
fn wrong_end(kind: u8, found: u8, payload: &[u8]) -> FrameError {
    FrameError::EndMarker { kind, found, payload: Snippet::of(payload) }
}

/// Appends a method frame.
#[inline]
pub fn write_method(out: &mut Vec<u8>, channel: u16, method: &Method<'_>) {
    let start = begin(out, METHOD, channel);
    method.write(out);
    finish(out, start);
}

/// Appends a frame, or a piece of one as a frame of its own, as it was read.
pub fn write_frame(out: &mut Vec<u8>, frame: Frame<'_>) {
    let (kind, channel, payload) = match frame {
        Frame::Method { channel, payload } => (METHOD, channel, payload),
        Frame::Header { channel, payload } => (HEADER, channel, payload),
        Frame::Body { channel, piece, .. } => (BODY, channel, piece),
        Frame::Heartbeat { channel } => (HEARTBEAT, channel, &[][..]),
    };
    let start = begin(out, kind, channel);
    out.extend_from_slice(payload);
    finish(out, start);
}

/// What basic.deliver says of a message; the names are UTF-8 of at most 255 octets.
#[derive(Debug, Clone, Copy)]
pub struct Deliver<'a> {
    /// The consumer.
    pub consumer_tag: &'a [u8],
    /// The delivery's number on its channel.
    pub delivery_tag: u64,
    /// It was delivered before.
    pub redelivered: bool,
    /// Where it was published.
    pub exchange: &'a [u8],
    /// With what key.
    pub routing_key: &'a [u8],
}

/// Appends the method frame of a basic.deliver: the same bytes as [`write_method`] in fewer steps,
/// since no method is written as often.
#[inline]
pub fn write_deliver(out: &mut Vec<u8>, channel: u16, deliver: &Deliver<'_>) {
    let Deliver { consumer_tag, delivery_tag, redelivered, exchange, routing_key } = *deliver;
    let size = 16 + consumer_tag.len() + exchange.len() + routing_key.len();
    out.reserve(size + OVERHEAD);
    let ([c0, c1], [s0, s1, s2, s3]) = (channel.to_be_bytes(), (size as u32).to_be_bytes());
    // The lengths are those of short strings.
    let head = [METHOD, c0, c1, s0, s1, s2, s3, 0, 60, 0, 60, consumer_tag.len() as u8];
    out.extend_from_slice(&head);
    out.extend_from_slice(consumer_tag);
    let [t0, t1, t2, t3, t4, t5, t6, t7] = delivery_tag.to_be_bytes();
    let flag = u8::from(redelivered);
    let key_len = routing_key.len() as u8;
    if exchange.is_empty() {
        // The default exchange, which is the most used.
        out.extend_from_slice(&[t0, t1, t2, t3, t4, t5, t6, t7, flag, 0, key_len]);
    } else {
        out.extend_from_slice(&[t0, t1, t2, t3, t4, t5, t6, t7, flag, exchange.len() as u8]);
        out.extend_from_slice(exchange);
        out.push(key_len);
    }
    out.extend_from_slice(routing_key);
    out.push(END);
}

/// Appends a content header frame and a body that fits one frame, which must not be empty.
#[inline]
pub fn write_small_content(out: &mut Vec<u8>, channel: u16, properties: &[u8], body: &[u8]) {
    out.reserve(2 * OVERHEAD + 12 + properties.len() + body.len());
    let [c0, c1] = channel.to_be_bytes();
    let [h0, h1, h2, h3] = (12 + properties.len() as u32).to_be_bytes();
    let [b0, b1, b2, b3] = (body.len() as u32).to_be_bytes();
    out.extend_from_slice(&[
        HEADER, c0, c1, h0, h1, h2, h3, 0, 60, 0, 0, 0, 0, 0, 0, b0, b1, b2, b3,
    ]);
    out.extend_from_slice(properties);
    out.extend_from_slice(&[END, BODY, c0, c1, b0, b1, b2, b3]);
    out.extend_from_slice(body);
    out.push(END);
}

/// Appends a content header frame of class `basic`; `properties` is the flag word and the fields.
/// A header cannot be split: one above the peer's frame_max is written as it is.
#[inline]
pub fn write_header(out: &mut Vec<u8>, channel: u16, body_size: u64, properties: &[u8]) {
    let start = begin(out, HEADER, channel);
    let mut fixed = [0; 12];
    fixed[1] = 60;
    fixed[4..].copy_from_slice(&body_size.to_be_bytes());
    out.extend_from_slice(&fixed);
    out.extend_from_slice(properties);
    finish(out, start);
}

/// Appends a body in as many frames as `frame_max` (0: no limit) asks for.
#[inline]
pub fn write_body(out: &mut Vec<u8>, channel: u16, body: &[u8], frame_max: u32) {
    for payload in body.chunks(payload_max(frame_max)) {
        let start = begin(out, BODY, channel);
        out.extend_from_slice(payload);
        finish(out, start);
    }
}

/// The largest payload in a frame of at most `frame_max` octets (0: no limit).
#[must_use]
pub fn payload_max(frame_max: u32) -> usize {
    match frame_max {
        0 => u32::MAX as usize,
        max => (max as usize).saturating_sub(OVERHEAD).max(1),
    }
}

/// The most octets of encoded properties in a content header frame of at most `frame_max` octets
/// (0: no limit). Unlike a body, a header cannot be cut.
#[must_use]
pub fn properties_max(frame_max: u32) -> usize {
    payload_max(frame_max).saturating_sub(HEADER_FIXED)
}

/// The seven octets in front of a body payload of `size`; the payload and [`END`] follow.
#[must_use]
pub fn body_head(channel: u16, size: u32) -> [u8; HEAD] {
    let [c0, c1] = channel.to_be_bytes();
    let [s0, s1, s2, s3] = size.to_be_bytes();
    [BODY, c0, c1, s0, s1, s2, s3]
}

/// Appends a heartbeat frame.
pub fn write_heartbeat(out: &mut Vec<u8>) {
    out.extend_from_slice(&[HEARTBEAT, 0, 0, 0, 0, 0, 0, END]);
}

#[inline]
fn begin(out: &mut Vec<u8>, kind: u8, channel: u16) -> usize {
    let [c0, c1] = channel.to_be_bytes();
    out.extend_from_slice(&[kind, c0, c1, 0, 0, 0, 0]);
    out.len()
}

#[inline]
fn finish(out: &mut Vec<u8>, start: usize) {
    let size = (out.len() - start) as u32;
    out[start - 4..start].copy_from_slice(&size.to_be_bytes());
    out.push(END);
}

#[cfg(test)]
#[path = "checks/frame_test.rs"]
mod tests;
