//! A fast path for deliveries that look like the one before.
//!
//! Two deliveries from one queue to one consumer differ only in the delivery tag, the redelivered
//! flag and the body. Once one delivery is parsed, all other bytes of the next ones are compared
//! instead of parsed.

use crate::messages::delivery::ReceivedMessage;
use amqp::frame::{END, OVERHEAD};
use amqp::{Assembler, Frame, Method, Parser, Step};

use crate::messages::stamp::{STAMP, Stamp};

/// Bytes of the delivery tag and the redelivered flag.
const VARIABLE: usize = 9;

/// The encoding of a delivery, with gaps for what differs between deliveries.
#[derive(Debug, Clone)]
pub struct DeliveryTemplate {
    /// All bytes before the body.
    head: Vec<u8>,
    tag_at: usize,
    /// The length of a whole delivery in bytes.
    len: usize,
}

/// The result of a comparison with the template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemplateMatch {
    /// The bytes do not match.
    No,
    /// The bytes match as far as they go, but are fewer than a whole delivery.
    Partial,
    /// The bytes start with this delivery.
    Whole(ReceivedMessage),
}

impl DeliveryTemplate {
    /// Makes a template of the delivery on this channel at the start of `bytes`. `None` if there is
    /// no whole delivery, or if its body fills more than one frame.
    #[must_use]
    pub fn learn(bytes: &[u8], channel: u16) -> Option<Self> {
        let (mut parser, mut at) = (Parser::new(0), 0);
        let mut assembler = Assembler::default();
        let Frame::Method { payload, .. } = next(&mut parser, bytes, &mut at, channel)? else {
            return None;
        };
        let Step::Method(Method::BasicDeliver { consumer_tag, .. }) =
            assembler.method(payload).ok()?
        else {
            return None;
        };
        let tag_at = OVERHEAD - 1 + 4 + 1 + consumer_tag.len();
        let Frame::Header { payload, .. } = next(&mut parser, bytes, &mut at, channel)? else {
            return None;
        };
        assembler.header(payload).ok()?;
        let body_at = at + OVERHEAD - 1;
        let Frame::Body { piece, last: true, .. } = next(&mut parser, bytes, &mut at, channel)?
        else {
            return None;
        };
        let whole =
            matches!(assembler.body_piece(piece, true).ok()?, Step::Body { complete: true, .. });
        (whole && piece.len() >= STAMP && at == body_at + piece.len() + 1).then(|| Self {
            head: bytes[..body_at].to_vec(),
            tag_at,
            len: at,
        })
    }

    /// The length of a whole delivery in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Compares the start of `bytes` with the template.
    #[must_use]
    #[inline]
    pub fn fit(&self, bytes: &[u8]) -> TemplateMatch {
        let Some(whole) = bytes.get(..self.len) else {
            return self.fit_part(bytes);
        };
        let (tag_at, body_at) = (self.tag_at, self.head.len());
        let (head, body) = whole.split_at(body_at);
        let same = head[..tag_at] == self.head[..tag_at]
            && head[tag_at + VARIABLE..] == self.head[tag_at + VARIABLE..]
            && body.last() == Some(&END);
        let (Some(tag), Some(&stamp), true) =
            (head[tag_at..].first_chunk(), body.first_chunk(), same)
        else {
            return TemplateMatch::No;
        };
        TemplateMatch::Whole(ReceivedMessage {
            tag: u64::from_be_bytes(*tag),
            redelivered: head[tag_at + 8] & 1 == 1,
            stamp: Some(Stamp::read(stamp)),
        })
    }

    /// Compares fewer bytes than a whole delivery.
    fn fit_part(&self, bytes: &[u8]) -> TemplateMatch {
        let variable = self.tag_at..self.tag_at + VARIABLE;
        let mut both = bytes.iter().zip(&self.head).enumerate();
        if both.all(|(at, (one, two))| one == two || variable.contains(&at)) {
            TemplateMatch::Partial
        } else {
            TemplateMatch::No
        }
    }
}

/// The next frame, if it is of this channel.
fn next<'a>(
    parser: &'a mut Parser,
    bytes: &'a [u8],
    at: &mut usize,
    channel: u16,
) -> Option<Frame<'a>> {
    parser.next(bytes, at).ok()?.filter(|frame| frame_channel(frame) == channel)
}

fn frame_channel(frame: &Frame<'_>) -> u16 {
    match *frame {
        Frame::Method { channel, .. }
        | Frame::Header { channel, .. }
        | Frame::Body { channel, .. }
        | Frame::Heartbeat { channel, .. } => channel,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::methods::CHANNEL;
    use crate::messages::publish_template::PublishTemplate;
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
    fn the_next_delivery_matches_and_its_differences_are_read() {
        let template = DeliveryTemplate::learn(&deliver(1, false, "q", &body(5)), CHANNEL).unwrap();
        let next = deliver(u64::MAX, true, "q", &body(6));
        assert_eq!(next.len(), template.len());
        let expected = Stamp { intended: 9, producer: 1, sequence: 6 };
        let delivery = ReceivedMessage { tag: u64::MAX, redelivered: true, stamp: Some(expected) };
        assert_eq!(template.fit(&next), TemplateMatch::Whole(delivery));
        for cut in 0..next.len() {
            assert_eq!(template.fit(&next[..cut]), TemplateMatch::Partial, "cut at {cut}");
        }
    }

    #[test]
    fn other_frames_do_not_match() {
        let template = DeliveryTemplate::learn(&deliver(1, false, "q", &body(5)), CHANNEL).unwrap();
        assert_eq!(template.fit(&deliver(1, false, "r", &body(5))), TemplateMatch::No);
        assert_eq!(template.fit(&deliver(1, false, "longer", &body(5))), TemplateMatch::No);
        assert_eq!(template.fit(&deliver(1, false, "q", &[1; 30])), TemplateMatch::No);
        let mut other = Vec::new();
        write_method(&mut other, 0, &Method::ConnectionCloseOk {});
        assert_eq!(template.fit(&other), TemplateMatch::No);
        assert!(DeliveryTemplate::learn(&other, CHANNEL).is_none());
    }

    #[test]
    fn learns_only_from_whole_deliveries_with_a_stamp() {
        let whole = deliver(1, false, "q", &body(5));
        for cut in 0..whole.len() {
            assert!(DeliveryTemplate::learn(&whole[..cut], CHANNEL).is_none(), "cut at {cut}");
        }
        assert!(DeliveryTemplate::learn(&deliver(1, false, "q", b"short"), CHANNEL).is_none());
        assert!(DeliveryTemplate::learn(&deliver(1, false, "q", &[0; 5000]), CHANNEL).is_none());
    }

    #[test]
    fn a_publish_and_its_delivery_have_the_same_content_bytes() {
        let template = PublishTemplate {
            channel: CHANNEL,
            exchange: String::new(),
            routing_key: "q".to_owned(),
            size: 16,
            persistent: false,
            priority: None,
            mandatory: false,
            with_header: false,
        };
        let (mut content, mut publish) = (Vec::new(), Vec::new());
        template.write_content(4096, &mut content);
        template.write_publish(4096, &mut publish);
        assert!(publish.ends_with(&content));
    }
}
