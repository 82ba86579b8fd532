//! A batch of publishes, encoded once; to send it again only 16 octets of each body are patched.

use amqp::frame::{OVERHEAD, payload_max, write_body, write_header, write_method};
use amqp::properties::Basic;
use amqp::{Method, TableWriter, Value};

use crate::account::{STAMP, Stamp};
use crate::routes::HEADER;
use crate::varied::{Variation, Varied};

/// What every message of a producer has in common.
#[derive(Debug, Clone)]
pub struct Shape {
    /// The channel they are published on.
    pub channel: u16,
    /// The exchange published to.
    pub exchange: String,
    /// The routing key.
    pub routing_key: String,
    /// Octets of body, at least [`STAMP`].
    pub size: usize,
    /// Delivery mode 2; else the property is absent.
    pub persistent: bool,
    /// What cannot be routed comes back.
    pub mandatory: bool,
    /// The routing key stands in a header as well.
    pub with_header: bool,
}

impl Shape {
    /// The encoded properties.
    #[must_use]
    pub fn properties(&self) -> Vec<u8> {
        let header =
            TableWriter::new().with(HEADER, Value::LongString(self.routing_key.as_bytes()));
        let headers = self.with_header.then(|| header.table());
        let delivery_mode = self.persistent.then_some(2);
        let mut properties = Vec::new();
        Basic { delivery_mode, headers, ..Basic::default() }.write(&mut properties);
        properties
    }

    /// The method that a publish begins with.
    #[must_use]
    pub fn publish(&self) -> Method<'_> {
        Method::BasicPublish {
            ticket: 0,
            exchange: &self.exchange,
            routing_key: &self.routing_key,
            mandatory: self.mandatory,
            immediate: false,
        }
    }

    /// Appends the content header and the body, as they stand in a publish and in a delivery.
    pub fn write_content(&self, frame_max: u32, out: &mut Vec<u8>) {
        write_header(out, self.channel, self.size as u64, &self.properties());
        write_body(out, self.channel, &vec![0; self.size], frame_max);
    }

    /// Octets behind the content header: the body with its frames around it.
    #[must_use]
    pub fn framed_body(&self, frame_max: u32) -> usize {
        self.size + self.size.div_ceil(payload_max(frame_max)) * OVERHEAD
    }

    /// Appends a whole publish.
    pub fn write_publish(&self, frame_max: u32, out: &mut Vec<u8>) {
        write_method(out, self.channel, &self.publish());
        self.write_content(frame_max, out);
    }
}

/// Copies of one publish, and how much of them is to be written.
#[derive(Debug)]
pub struct Publishes {
    octets: Vec<u8>,
    message: usize,
    stamp_at: usize,
    filled: usize,
    written: usize,
    varied: Option<Box<Encoder>>,
}

/// What takes the place of copies if messages differ.
#[derive(Debug)]
struct Encoder {
    varied: Varied,
    /// Where each message of the last fill ends.
    ends: Vec<usize>,
    capacity: u64,
}

impl Publishes {
    /// Copies for at most `octets` octets and `messages` messages, but at least one.
    #[must_use]
    pub fn new(shape: &Shape, frame_max: u32, octets: usize, messages: u64) -> Self {
        let mut one = Vec::new();
        shape.write_publish(frame_max, &mut one);
        let copies = (octets as u64 / one.len() as u64).min(messages).max(1);
        Self {
            octets: one.repeat(copies as usize),
            message: one.len(),
            stamp_at: one.len() - shape.framed_body(frame_max) + (OVERHEAD - 1),
            filled: 0,
            written: 0,
            varied: None,
        }
    }

    /// Messages that differ, as many at once as [`Publishes::new`] would make copies of the
    /// largest.
    #[must_use]
    pub fn varied(
        shape: &Shape,
        variation: Variation,
        frame_max: u32,
        octets: usize,
        messages: u64,
    ) -> Self {
        let size = variation.size_max();
        let largest = Self::new(&Shape { size, ..shape.clone() }, frame_max, octets, messages);
        let capacity = largest.capacity();
        let varied = Varied::new(shape, variation, frame_max);
        let encoder = Encoder { varied, ends: Vec::new(), capacity };
        Self { octets: Vec::new(), varied: Some(Box::new(encoder)), ..largest }
    }

    /// The most messages one fill takes.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        match &self.varied {
            Some(encoder) => encoder.capacity,
            None => (self.octets.len() / self.message) as u64,
        }
    }

    /// Makes the next `count` messages ready; all of the last fill must be written.
    #[inline]
    pub fn fill(&mut self, count: usize, mut stamp: impl FnMut(u64) -> Stamp) {
        debug_assert!(self.pending().is_empty());
        let messages = self.octets.chunks_exact_mut(self.message).take(count);
        for (n, message) in messages.enumerate() {
            let stamp = stamp(n as u64).write();
            message[self.stamp_at..self.stamp_at + STAMP].copy_from_slice(&stamp);
        }
        (self.filled, self.written) = (count * self.message, 0);
    }

    /// Whether messages are encoded one by one: then [`Publishes::encode`] takes the place of
    /// [`Publishes::fill`].
    #[must_use]
    pub fn is_varied(&self) -> bool {
        self.varied.is_some()
    }

    /// Encodes the next `count` messages; all of the last fill must be written.
    pub fn encode(&mut self, count: usize, stamp: &mut dyn FnMut(u64) -> Stamp) {
        let Some(encoder) = &mut self.varied else { return };
        self.octets.clear();
        encoder.ends.clear();
        for n in 0..count as u64 {
            encoder.varied.append(stamp(n), &mut self.octets);
            encoder.ends.push(self.octets.len());
        }
        (self.filled, self.written) = (self.octets.len(), 0);
    }

    /// What is still to be written.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        &self.octets[self.written..self.filled]
    }

    /// `count` octets were written.
    pub fn advance(&mut self, count: usize) {
        self.written += count;
    }

    /// How many messages are not wholly written.
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
    use crate::incoming::Incoming;
    use crate::routes::Route;
    use amqp::Frame;

    fn shape(size: usize) -> Shape {
        let (exchange, routing_key, persistent) = (String::new(), "q".to_owned(), true);
        let (channel, mandatory, with_header) = (1, false, false);
        Shape { channel, exchange, routing_key, size, persistent, mandatory, with_header }
    }

    #[test]
    fn varied_messages_have_their_own_sizes_and_are_counted() {
        let variation = Variation {
            route: Route::plain("q"),
            sizes: "16-500".parse().unwrap(),
            sizes_over_time: Vec::new(),
            start: 0,
            random_bodies: true,
        };
        let mut publishes = Publishes::varied(&shape(16), variation, 4096, 14_000, u64::MAX);
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

    fn bodies(octets: &[u8]) -> Vec<Vec<u8>> {
        let mut incoming = Incoming::new(0x20000);
        incoming.room()[..octets.len()].copy_from_slice(octets);
        incoming.filled(octets.len());
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
        let mut publishes = Publishes::new(&shape(20), 4096, 1000, u64::MAX);
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
        let mut publishes = Publishes::new(&shape(10_000), 4096, 1000, u64::MAX);
        assert_eq!(publishes.capacity(), 1, "at least one");
        let stamp = Stamp { intended: 1, producer: 2, sequence: 3 };
        publishes.fill(1, |_| stamp);
        let bodies = bodies(publishes.pending());
        assert_eq!((bodies[0].len(), &bodies[0][..16]), (10_000, &stamp.write()[..]));
    }

    #[test]
    fn a_message_counts_as_written_when_its_last_octet_is() {
        let mut publishes = Publishes::new(&shape(16), 4096, 100_000, 4);
        assert_eq!((publishes.capacity(), publishes.unwritten()), (4, 0));
        publishes.fill(3, |sequence| Stamp { intended: 1, producer: 0, sequence });
        let message = publishes.pending().len() / 3;
        publishes.advance(message + 1);
        assert_eq!(publishes.unwritten(), 2);
        publishes.advance(2 * message - 1);
        assert_eq!((publishes.unwritten(), publishes.pending().len()), (0, 0));
    }
}
