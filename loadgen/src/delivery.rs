//! Deliveries: a fast path for those that look like the one before, and what a delivery is.
//!
//! Of two deliveries of one queue to one consumer only the delivery tag, the redelivered bit and
//! the body differ. Once one was parsed, the octets around those are compared, not parsed.

use amqp::frame::{END, OVERHEAD};
use amqp::{Assembler, Frame, Method, Parser, Step};

use crate::account::{STAMP, Stamp};

/// The tag and the redelivered bit.
const VARIABLE: usize = 9;

/// One message received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// Its delivery tag.
    pub tag: u64,
    /// Whether the broker has sent it before.
    pub redelivered: bool,
    /// What its body begins with; `None` for a body too short to carry it.
    pub stamp: Option<Stamp>,
}

/// What deliveries look like.
#[derive(Debug, Clone)]
pub struct Template {
    /// All octets up to the body.
    head: Vec<u8>,
    tag_at: usize,
    /// Octets of a whole delivery.
    len: usize,
}

/// Whether octets are a delivery of the known looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// They are something else.
    No,
    /// As far as they go they are; more must come.
    Partial,
    /// They begin with one.
    Whole(Delivery),
}

impl Template {
    /// Learns from the delivery on this channel that `octets` begin with. `None` if they begin with
    /// something else, if it is not whole, or if its body fills more than one frame.
    #[must_use]
    pub fn learn(octets: &[u8], channel: u16) -> Option<Self> {
        let (mut parser, mut at) = (Parser::new(0), 0);
        let mut assembler = Assembler::default();
        let Frame::Method { payload, .. } = next(&mut parser, octets, &mut at, channel)? else {
            return None;
        };
        let Step::Method(Method::BasicDeliver { consumer_tag, .. }) =
            assembler.method(payload).ok()?
        else {
            return None;
        };
        let tag_at = OVERHEAD - 1 + 4 + 1 + consumer_tag.len();
        let Frame::Header { payload, .. } = next(&mut parser, octets, &mut at, channel)? else {
            return None;
        };
        assembler.header(payload).ok()?;
        let body_at = at + OVERHEAD - 1;
        let Frame::Body { piece, last: true, .. } = next(&mut parser, octets, &mut at, channel)?
        else {
            return None;
        };
        let whole =
            matches!(assembler.body_piece(piece, true).ok()?, Step::Body { complete: true, .. });
        (whole && piece.len() >= STAMP && at == body_at + piece.len() + 1).then(|| Self {
            head: octets[..body_at].to_vec(),
            tag_at,
            len: at,
        })
    }

    /// Octets of a whole delivery.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Compares `octets` with what is known.
    #[must_use]
    #[inline]
    pub fn fit(&self, octets: &[u8]) -> Fit {
        let Some(whole) = octets.get(..self.len) else {
            return self.fit_part(octets);
        };
        let (tag_at, body_at) = (self.tag_at, self.head.len());
        let (head, body) = whole.split_at(body_at);
        let same = head[..tag_at] == self.head[..tag_at]
            && head[tag_at + VARIABLE..] == self.head[tag_at + VARIABLE..]
            && body.last() == Some(&END);
        let (Some(tag), Some(&stamp), true) =
            (head[tag_at..].first_chunk(), body.first_chunk(), same)
        else {
            return Fit::No;
        };
        Fit::Whole(Delivery {
            tag: u64::from_be_bytes(*tag),
            redelivered: head[tag_at + 8] & 1 == 1,
            stamp: Some(Stamp::read(stamp)),
        })
    }

    /// Fewer octets than a whole delivery.
    fn fit_part(&self, octets: &[u8]) -> Fit {
        let variable = self.tag_at..self.tag_at + VARIABLE;
        let mut both = octets.iter().zip(&self.head).enumerate();
        if both.all(|(at, (one, two))| one == two || variable.contains(&at)) {
            Fit::Partial
        } else {
            Fit::No
        }
    }
}

/// The next frame, if it is of this channel.
fn next<'a>(
    parser: &'a mut Parser,
    octets: &'a [u8],
    at: &mut usize,
    channel: u16,
) -> Option<Frame<'a>> {
    parser.next(octets, at).ok()?.filter(|frame| frame_channel(frame) == channel)
}

fn frame_channel(frame: &Frame<'_>) -> u16 {
    match *frame {
        Frame::Method { channel, .. }
        | Frame::Header { channel, .. }
        | Frame::Body { channel, .. }
        | Frame::Heartbeat { channel, .. } => channel,
    }
}

/// A delivery of which not all frames have come; only the stamp of its body is kept.
#[derive(Debug, Default)]
pub struct Unfinished {
    tag: u64,
    redelivered: bool,
    stamp: [u8; STAMP],
    have: usize,
}

impl Unfinished {
    /// A new one begins.
    pub fn begin(&mut self, tag: u64, redelivered: bool) {
        *self = Self { tag, redelivered, ..Self::default() };
    }

    /// A piece of its body came.
    pub fn body(&mut self, piece: &[u8]) {
        let room = &mut self.stamp[self.have..];
        let count = room.len().min(piece.len());
        room[..count].copy_from_slice(&piece[..count]);
        self.have += count;
    }

    /// It is complete.
    #[must_use]
    pub fn finish(&self) -> Delivery {
        let stamp = (self.have == STAMP).then(|| Stamp::read(self.stamp));
        Delivery { tag: self.tag, redelivered: self.redelivered, stamp }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::CHANNEL;
    use crate::publishes::Shape;
    use amqp::frame::{write_body, write_header, write_method};

    fn deliver(tag: u64, redelivered: bool, key: &str, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let method = Method::BasicDeliver {
            consumer_tag: "c",
            delivery_tag: tag,
            redelivered,
            exchange: "",
            routing_key: key,
        };
        write_method(&mut out, CHANNEL, &method);
        write_header(&mut out, CHANNEL, body.len() as u64, &[0, 0]);
        write_body(&mut out, CHANNEL, body, 4096);
        out
    }

    fn body(sequence: u64) -> Vec<u8> {
        let stamp = Stamp { intended: 9, producer: 1, sequence };
        [&stamp.write()[..], b"and more"].concat()
    }

    #[test]
    fn the_next_delivery_fits_and_keeps_what_differs() {
        let template = Template::learn(&deliver(1, false, "q", &body(5)), CHANNEL).unwrap();
        let next = deliver(u64::MAX, true, "q", &body(6));
        assert_eq!(next.len(), template.len());
        let expected = Stamp { intended: 9, producer: 1, sequence: 6 };
        let delivery = Delivery { tag: u64::MAX, redelivered: true, stamp: Some(expected) };
        assert_eq!(template.fit(&next), Fit::Whole(delivery));
        for cut in 0..next.len() {
            assert_eq!(template.fit(&next[..cut]), Fit::Partial, "cut at {cut}");
        }
    }

    #[test]
    fn anything_else_does_not_fit() {
        let template = Template::learn(&deliver(1, false, "q", &body(5)), CHANNEL).unwrap();
        assert_eq!(template.fit(&deliver(1, false, "r", &body(5))), Fit::No);
        assert_eq!(template.fit(&deliver(1, false, "longer", &body(5))), Fit::No);
        assert_eq!(template.fit(&deliver(1, false, "q", &[1; 30])), Fit::No);
        let mut other = Vec::new();
        write_method(&mut other, 0, &Method::ConnectionCloseOk {});
        assert_eq!(template.fit(&other), Fit::No);
        assert!(Template::learn(&other, CHANNEL).is_none());
    }

    #[test]
    fn learns_only_from_what_it_can_recognise() {
        let whole = deliver(1, false, "q", &body(5));
        for cut in 0..whole.len() {
            assert!(Template::learn(&whole[..cut], CHANNEL).is_none(), "cut at {cut}");
        }
        assert!(Template::learn(&deliver(1, false, "q", b"short"), CHANNEL).is_none());
        assert!(Template::learn(&deliver(1, false, "q", &[0; 5000]), CHANNEL).is_none());
    }

    #[test]
    fn a_stamp_may_come_in_pieces() {
        let mut unfinished = Unfinished::default();
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

    #[test]
    fn content_of_a_publish_and_of_a_delivery_are_the_same_octets() {
        let shape = Shape {
            channel: CHANNEL,
            exchange: String::new(),
            routing_key: "q".to_owned(),
            size: 16,
            persistent: false,
            mandatory: false,
            with_header: false,
        };
        let (mut content, mut publish) = (Vec::new(), Vec::new());
        shape.write_content(4096, &mut content);
        shape.write_publish(4096, &mut publish);
        assert!(publish.ends_with(&content));
    }
}
