//! Two honest connections in the same broker: one publishes with confirms, one consumes. They must
//! not notice what the others do. Where the consumer is slow their queue grows beyond its memory.

use std::collections::BTreeSet;

use amqp::Method;
use fastrand::Rng;
use ringtail::shard::Gate;

use crate::ear::{Ear, Heard};
use crate::rig::{self, Client, Rig};

/// A name that nobody meets by chance.
const QUEUE: &str = "the neighbour's own queue, which nobody else names";
/// Publishes that may wait for their confirms.
const WINDOW: usize = 20;
/// A slow consumer hears once in so many times, and its publisher sends up to so many at once.
const SLOWNESS: usize = 4;

pub struct Neighbour {
    pub publisher: Client,
    pub consumer: Client,
    ears: (Ear, Ear),
    sent: u64,
    unconfirmed: BTreeSet<u64>,
    got: u64,
    body: Vec<u8>,
    no_ack: bool,
    slow: bool,
}

impl Neighbour {
    pub fn new(broker: &mut Rig, rng: &mut Rng, slow: bool) -> Self {
        let shards = broker.shards.len();
        let publisher = broker.client(rng.usize(..shards));
        let consumer = broker.client(rng.usize(..shards));
        broker.call(publisher, 1, &rig::declare(QUEUE, false));
        broker.call(publisher, 1, &Method::ConfirmSelect { nowait: false });
        let no_ack = !slow && rng.bool();
        if slow {
            let (prefetch_size, prefetch_count, global) = (0, rng.u16(1..30), false);
            let qos = Method::BasicQos { prefetch_size, prefetch_count, global };
            broker.call(consumer, 1, &qos);
        }
        let mut consume = rig::consume(QUEUE);
        if let Method::BasicConsume { no_ack: wanted, .. } = &mut consume {
            *wanted = no_ack;
        }
        broker.receive(consumer, &rig::encoded(1, &consume));
        broker.settle();
        Self {
            publisher,
            consumer,
            ears: (Ear::new(), Ear::new()),
            sent: 0,
            unconfirmed: BTreeSet::new(),
            got: 0,
            body: Vec::new(),
            no_ack,
            slow,
        }
    }

    /// Publishes a message, or some if the consumer is slow.
    pub fn publish(&mut self, broker: &mut Rig, rng: &mut Rng) {
        let most = if self.slow { rng.usize(1..=SLOWNESS) } else { 1 };
        (0..most).for_each(|_| self.publish_one(broker, rng));
    }

    /// Publishes one message unless too many are unconfirmed: its number, and some octets behind.
    fn publish_one(&mut self, broker: &mut Rig, rng: &mut Rng) {
        if broker.gate(self.publisher) != Gate::Open || self.unconfirmed.len() >= WINDOW {
            return;
        }
        self.sent += 1;
        self.unconfirmed.insert(self.sent);
        let size = [0, 100, 2040, 2041, 40_000][rng.usize(..5)];
        let body = [&self.sent.to_be_bytes(), &vec![b'n'; size][..]].concat();
        broker.receive(self.publisher, &rig::publish(QUEUE, &body));
    }

    /// Takes what came for both; a slow consumer mostly leaves it.
    pub fn look(&mut self, broker: &mut Rig, rng: &mut Rng) {
        if self.slow && rng.usize(..SLOWNESS) > 0 {
            self.hear_confirms(broker);
        } else {
            self.hear(broker);
        }
    }

    /// Takes what came for both.
    pub fn hear(&mut self, broker: &mut Rig) {
        self.hear_confirms(broker);
        self.hear_messages(broker);
    }

    fn hear_confirms(&mut self, broker: &mut Rig) {
        let octets = broker.take_now(self.publisher);
        self.ears.0.hear(&octets, |_, heard| confirm(&mut self.unconfirmed, &heard));
    }

    fn hear_messages(&mut self, broker: &mut Rig) {
        let Self { consumer, ears, got, body, no_ack, .. } = self;
        let mut last = None;
        ears.1.hear(&broker.take_now(*consumer), |_, heard| match heard {
            Heard::Method(Method::BasicDeliver { delivery_tag, .. }) => last = Some(delivery_tag),
            Heard::Method(Method::BasicConsumeOk { .. }) => {}
            Heard::Body(piece, complete) => {
                body.extend(piece);
                if complete {
                    *got += 1;
                    let number = body.first_chunk().map(|number| u64::from_be_bytes(*number));
                    assert_eq!(number, Some(*got), "the neighbour's messages in order");
                    body.clear();
                }
            }
            Heard::Method(other) => panic!("the neighbour's consumer heard {other:?}"),
        });
        if let Some(delivery_tag) = last.filter(|_| !*no_ack) {
            let ack = Method::BasicAck { delivery_tag, multiple: true };
            broker.receive(*consumer, &rig::encoded(1, &ack));
        }
    }

    /// Messages that were published.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether everything was confirmed and delivered.
    pub fn content(&self) -> bool {
        self.got == self.sent && self.unconfirmed.is_empty()
    }

    /// Both go.
    pub fn leave(self, broker: &mut Rig) {
        broker.vanish(self.publisher);
        broker.vanish(self.consumer);
    }
}

impl std::fmt::Display for Neighbour {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { sent, got, unconfirmed, .. } = self;
        write!(out, "neighbour: {sent} sent, {got} got, unconfirmed: {unconfirmed:?}")
    }
}

fn confirm(unconfirmed: &mut BTreeSet<u64>, heard: &Heard<'_>) {
    match *heard {
        Heard::Method(Method::BasicAck { delivery_tag, multiple: true }) => {
            assert!(unconfirmed.contains(&delivery_tag));
            unconfirmed.retain(|tag| *tag > delivery_tag);
        }
        Heard::Method(Method::BasicAck { delivery_tag, .. }) => {
            assert!(unconfirmed.remove(&delivery_tag));
        }
        Heard::Method(Method::ConnectionBlocked { .. } | Method::ConnectionUnblocked {}) => {}
        Heard::Method(other) => panic!("the neighbour's publisher heard {other:?}"),
        Heard::Body(..) => panic!("the neighbour's publisher heard a body"),
    }
}
