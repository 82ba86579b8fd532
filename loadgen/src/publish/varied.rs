//! Publishes that differ in more than their stamp: keys, sizes, random bodies. Each one is composed
//! of parts that are encoded once.

use amqp::frame::{write_body, write_header, write_method};

use crate::messages::body_sizes::BodySizes;
use crate::messages::pseudo_random::scramble;
use crate::messages::publish_template::PublishTemplate;
use crate::messages::routing_keys::KeyCycle;
use crate::messages::stamp::{STAMP, Stamp};
use crate::messages::timed_value::{TimedValue, span_at};

/// Random bytes that bodies are copied from. A larger pool would only fill the CPU cache.
const POOL: usize = 64 * 1024;

/// How the messages of a producer differ.
#[derive(Debug, Clone)]
pub struct MessageVariation {
    /// The routing keys.
    pub key_cycle: KeyCycle,
    /// The body sizes.
    pub sizes: BodySizes,
    /// Body sizes that follow each other, instead of `sizes`.
    pub sizes_over_time: Vec<TimedValue>,
    /// When the first of these sizes begins (ns).
    pub start: u64,
    /// Bodies that cannot be compressed.
    pub random_bodies: bool,
    /// Each message has the next priority of so many, from 0; none without any.
    pub priorities: u8,
}

impl MessageVariation {
    /// True if copies of one message are not enough.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        self.random_bodies
            || self.priorities > 0
            || self.key_cycle.keys.names.len() > 1
            || self.sizes.fixed().is_none()
            || !self.sizes_over_time.is_empty()
    }

    /// The largest body size.
    #[must_use]
    pub fn size_max(&self) -> usize {
        let over_time = self.sizes_over_time.iter().map(|span| span.value as usize).max();
        over_time.unwrap_or(self.sizes.bounds().1)
    }

    /// The priorities, in the order in which messages have them.
    fn priorities(&self) -> Vec<Option<u8>> {
        if self.priorities == 0 { vec![None] } else { (0..self.priorities).map(Some).collect() }
    }

    /// Which of the keys with each priority a message has.
    fn head(&self, sequence: u64) -> usize {
        let priorities = u64::from(self.priorities.max(1));
        self.key_cycle.key(sequence) * priorities as usize + (sequence % priorities) as usize
    }

    fn size(&self, stamp: Stamp) -> usize {
        let elapsed = stamp.intended.saturating_sub(self.start);
        match span_at(&self.sizes_over_time, elapsed) {
            Some(span) => span.value as usize,
            None => self.sizes.pick(random(stamp)),
        }
    }
}

/// A number that depends only on the message.
fn random(stamp: Stamp) -> u64 {
    scramble(u64::from(stamp.producer) << 48 | stamp.sequence)
}

/// Encodes messages one by one.
#[derive(Debug)]
pub struct VariedEncoder {
    variation: MessageVariation,
    channel: u16,
    frame_max: u32,
    /// For each key and priority: the basic.publish frame and the properties.
    heads: Vec<(Vec<u8>, Vec<u8>)>,
    pool: Vec<u8>,
    body: Vec<u8>,
}

impl VariedEncoder {
    /// An encoder for messages like `template` that differ as `variation` says.
    #[must_use]
    pub fn new(template: &PublishTemplate, variation: MessageVariation, frame_max: u32) -> Self {
        let head = |(key, priority): (&String, Option<u8>)| {
            let template =
                PublishTemplate { routing_key: key.clone(), priority, ..template.clone() };
            let mut method = Vec::new();
            write_method(&mut method, template.channel, &template.publish());
            (method, template.properties())
        };
        let priorities = variation.priorities();
        let keys = variation.key_cycle.keys.names.iter();
        let heads = keys.flat_map(|key| priorities.iter().map(move |priority| (key, *priority)));
        let heads = heads.map(head).collect();
        let len = if variation.random_bodies { variation.size_max() + POOL } else { 0 };
        let bytes = (0..len.div_ceil(8) as u64).flat_map(|n| scramble(n).to_le_bytes());
        let (pool, body, channel) = (bytes.collect(), Vec::new(), template.channel);
        Self { variation, channel, frame_max, heads, pool, body }
    }

    /// Appends a message.
    pub fn append(&mut self, stamp: Stamp, out: &mut Vec<u8>) {
        let size = self.variation.size(stamp);
        let (method, properties) = &self.heads[self.variation.head(stamp.sequence)];
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
