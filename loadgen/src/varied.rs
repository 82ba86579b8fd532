//! Publishes that differ in more than their stamp: keys, sizes, random bodies. Each is encoded
//! anew, from parts that are encoded once.

use amqp::frame::{write_body, write_header, write_method};

use crate::account::{STAMP, Stamp};
use crate::publishes::Shape;
use crate::routes::Route;
use crate::sizes::{Sizes, Span, scramble, span_at};

/// Random octets that bodies are cut from; more would only fill the cache.
const POOL: usize = 64 * 1024;

/// In what the messages of a producer differ.
#[derive(Debug, Clone)]
pub struct Variation {
    /// The routing keys.
    pub route: Route,
    /// The sizes.
    pub sizes: Sizes,
    /// One size after the other, instead of those.
    pub sizes_over_time: Vec<Span>,
    /// When the first of these begins (ns).
    pub start: u64,
    /// Bodies that cannot be compressed.
    pub random_bodies: bool,
}

impl Variation {
    /// Whether copies of one message will not do.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        self.random_bodies
            || self.route.keys.names.len() > 1
            || self.sizes.fixed().is_none()
            || !self.sizes_over_time.is_empty()
    }

    /// The greatest body there will be.
    #[must_use]
    pub fn size_max(&self) -> usize {
        let over_time = self.sizes_over_time.iter().map(|span| span.value as usize).max();
        over_time.unwrap_or(self.sizes.bounds().1)
    }

    fn size(&self, stamp: Stamp) -> usize {
        let elapsed = stamp.intended.saturating_sub(self.start);
        match span_at(&self.sizes_over_time, elapsed) {
            Some(span) => span.value as usize,
            None => self.sizes.pick(random(stamp)),
        }
    }
}

/// The same for the same message.
fn random(stamp: Stamp) -> u64 {
    scramble(u64::from(stamp.producer) << 48 | stamp.sequence)
}

/// Encodes messages one by one.
#[derive(Debug)]
pub struct Varied {
    variation: Variation,
    channel: u16,
    frame_max: u32,
    /// For each key: basic.publish as a frame, and the properties.
    heads: Vec<(Vec<u8>, Vec<u8>)>,
    pool: Vec<u8>,
    body: Vec<u8>,
}

impl Varied {
    /// Messages like `shape`, but for what varies.
    #[must_use]
    pub fn new(shape: &Shape, variation: Variation, frame_max: u32) -> Self {
        let head = |key: &String| {
            let shape = Shape { routing_key: key.clone(), ..shape.clone() };
            let mut method = Vec::new();
            write_method(&mut method, shape.channel, &shape.publish());
            (method, shape.properties())
        };
        let heads = variation.route.keys.names.iter().map(head).collect();
        let len = if variation.random_bodies { variation.size_max() + POOL } else { 0 };
        let octets = (0..len.div_ceil(8) as u64).flat_map(|n| scramble(n).to_le_bytes());
        let (pool, body, channel) = (octets.collect(), Vec::new(), shape.channel);
        Self { variation, channel, frame_max, heads, pool, body }
    }

    /// Appends a message.
    pub fn append(&mut self, stamp: Stamp, out: &mut Vec<u8>) {
        let size = self.variation.size(stamp);
        let (method, properties) = &self.heads[self.variation.route.key(stamp.sequence)];
        out.extend_from_slice(method);
        write_header(out, self.channel, size as u64, properties);
        self.body.clear();
        if self.pool.is_empty() {
            self.body.resize(size, 0);
        } else {
            let at = random(stamp) as usize % POOL;
            self.body.extend_from_slice(&self.pool[at..at + size]);
        }
        self.body[..STAMP].copy_from_slice(&stamp.write());
        write_body(out, self.channel, &self.body, self.frame_max);
    }
}
