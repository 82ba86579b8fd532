//! A batch of publishes that is encoded once. Before each send only the 16 bytes of the stamps
//! change.

use amqp::frame::OVERHEAD;

use crate::messages::publish_template::PublishTemplate;
use crate::messages::stamp::{STAMP, Stamp};
use crate::publish::varied::{MessageVariation, VariedEncoder};

/// Bytes of publishes in one batch.
pub const WRITE: usize = 128 * 1024;

/// Copies of one publish, and how many of their bytes are to be written.
#[derive(Debug)]
pub struct PublishBatch {
    bytes: Vec<u8>,
    message: usize,
    stamp_at: usize,
    filled: usize,
    written: usize,
    varied: Option<Box<VariedBatch>>,
}

/// Encodes each message anew, if messages differ in more than the stamp.
#[derive(Debug)]
struct VariedBatch {
    varied: VariedEncoder,
    /// Where each message of the last fill ends.
    ends: Vec<usize>,
    capacity: u64,
}

impl PublishBatch {
    /// Copies for at most `bytes` bytes and `messages` messages, but at least one message.
    #[must_use]
    pub fn new(template: &PublishTemplate, frame_max: u32, bytes: usize, messages: u64) -> Self {
        let mut one = Vec::new();
        template.write_publish(frame_max, &mut one);
        let copies = (bytes as u64 / one.len() as u64).min(messages).max(1);
        Self {
            bytes: one.repeat(copies as usize),
            message: one.len(),
            stamp_at: one.len() - template.framed_body(frame_max) + (OVERHEAD - 1),
            filled: 0,
            written: 0,
            varied: None,
        }
    }

    /// Messages that differ. The capacity is that of [`PublishBatch::new`] for the largest message.
    #[must_use]
    pub fn varied(
        template: &PublishTemplate,
        variation: MessageVariation,
        frame_max: u32,
        bytes: usize,
        messages: u64,
    ) -> Self {
        let size = variation.size_max();
        let largest =
            Self::new(&PublishTemplate { size, ..template.clone() }, frame_max, bytes, messages);
        let capacity = largest.capacity();
        let varied = VariedEncoder::new(template, variation, frame_max);
        let encoder = VariedBatch { varied, ends: Vec::new(), capacity };
        Self { bytes: Vec::new(), varied: Some(Box::new(encoder)), ..largest }
    }

    /// The most messages of one fill.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        match &self.varied {
            Some(encoder) => encoder.capacity,
            None => (self.bytes.len() / self.message) as u64,
        }
    }

    /// Stamps the next `count` messages. All of the last fill must be written.
    #[inline]
    pub fn fill(&mut self, count: usize, mut stamp: impl FnMut(u64) -> Stamp) {
        debug_assert!(self.pending().is_empty());
        let messages = self.bytes.chunks_exact_mut(self.message).take(count);
        for (n, message) in messages.enumerate() {
            let stamp = stamp(n as u64).write();
            message[self.stamp_at..self.stamp_at + STAMP].copy_from_slice(&stamp);
        }
        (self.filled, self.written) = (count * self.message, 0);
    }

    /// True if messages are encoded one by one: then [`PublishBatch::encode`] replaces
    /// [`PublishBatch::fill`].
    #[must_use]
    pub fn is_varied(&self) -> bool {
        self.varied.is_some()
    }

    /// Encodes the next `count` messages. All of the last fill must be written.
    pub fn encode(&mut self, count: usize, stamp: &mut dyn FnMut(u64) -> Stamp) {
        let Some(encoder) = &mut self.varied else { return };
        self.bytes.clear();
        encoder.ends.clear();
        for n in 0..count as u64 {
            encoder.varied.append(stamp(n), &mut self.bytes);
            encoder.ends.push(self.bytes.len());
        }
        (self.filled, self.written) = (self.bytes.len(), 0);
    }

    /// The bytes that are still to be written.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        &self.bytes[self.written..self.filled]
    }

    /// Records that `count` bytes were written.
    pub fn advance(&mut self, count: usize) {
        self.written += count;
    }

    /// How many messages are not written completely.
    #[must_use]
    pub fn unwritten(&self) -> u64 {
        if let Some(encoder) = &self.varied {
            return encoder.ends.iter().filter(|end| **end > self.written).count() as u64;
        }
        (self.filled - self.written).div_ceil(self.message) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::receive_buffer::ReceiveBuffer;
    use crate::messages::routing_keys::KeyCycle;
    use amqp::Frame;

    fn template(size: usize) -> PublishTemplate {
        let (exchange, routing_key, persistent) = (String::new(), "q".to_owned(), true);
        let (channel, mandatory, with_header) = (1, false, false);
        PublishTemplate {
            channel,
            exchange,
            routing_key,
            size,
            persistent,
            priority: None,
            mandatory,
            with_header,
        }
    }

    #[test]
    fn varied_messages_have_their_own_sizes_and_are_counted() {
        let variation = MessageVariation {
            key_cycle: KeyCycle::plain("q"),
            sizes: "16-500".parse().unwrap(),
            sizes_over_time: Vec::new(),
            start: 0,
            random_bodies: true,
            priorities: 3,
        };
        let mut publishes = PublishBatch::varied(&template(16), variation, 4096, 14_000, u64::MAX);
        let count = publishes.capacity();
        assert!(count > 5);
        publishes.encode(count as usize, &mut |sequence| Stamp {
            intended: 5,
            producer: 3,
            sequence,
        });
        assert_eq!(publishes.unwritten(), count);
        let bodies = bodies(publishes.pending());
        let sizes: std::collections::BTreeSet<usize> = bodies.iter().map(Vec::len).collect();
        assert!(bodies.len() as u64 == count && sizes.len() > 5, "{sizes:?}");
        assert_eq!(bodies[1][..16], Stamp { intended: 5, producer: 3, sequence: 1 }.write());
        publishes.advance(publishes.pending().len() - 1);
        assert_eq!(publishes.unwritten(), 1);
    }

    fn bodies(bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut incoming = ReceiveBuffer::new(0x20000);
        incoming.room()[..bytes.len()].copy_from_slice(bytes);
        incoming.filled(bytes.len());
        let mut bodies: Vec<Vec<u8>> = Vec::new();
        while let Some(frame) = incoming.frame().unwrap() {
            match frame {
                Frame::Header { .. } => bodies.push(Vec::new()),
                Frame::Body { piece, .. } => bodies.last_mut().unwrap().extend(piece),
                _ => {}
            }
        }
        bodies
    }

    #[test]
    fn only_the_stamps_differ() {
        let mut publishes = PublishBatch::new(&template(20), 4096, 1000, u64::MAX);
        assert!(publishes.capacity() > 5);
        let stamp = |n| Stamp { intended: 5, producer: 3, sequence: 40 + n };
        publishes.fill(2, stamp);
        let bodies = bodies(publishes.pending());
        assert_eq!(bodies.len(), 2);
        for (n, body) in bodies.iter().enumerate() {
            assert_eq!(body[..16], stamp(n as u64).write());
            assert_eq!(body[16..], [0; 4]);
        }
    }

    #[test]
    fn a_body_over_frame_max_takes_several_frames() {
        let mut publishes = PublishBatch::new(&template(10_000), 4096, 1000, u64::MAX);
        assert_eq!(publishes.capacity(), 1, "at least one");
        let stamp = Stamp { intended: 1, producer: 2, sequence: 3 };
        publishes.fill(1, |_| stamp);
        let bodies = bodies(publishes.pending());
        assert_eq!((bodies[0].len(), &bodies[0][..16]), (10_000, &stamp.write()[..]));
    }

    #[test]
    fn a_message_counts_as_written_with_its_last_byte() {
        let mut publishes = PublishBatch::new(&template(16), 4096, 100_000, 4);
        assert_eq!((publishes.capacity(), publishes.unwritten()), (4, 0));
        publishes.fill(3, |sequence| Stamp { intended: 1, producer: 0, sequence });
        let message = publishes.pending().len() / 3;
        publishes.advance(message + 1);
        assert_eq!(publishes.unwritten(), 2);
        publishes.advance(2 * message - 1);
        assert_eq!((publishes.unwritten(), publishes.pending().len()), (0, 0));
    }
}
