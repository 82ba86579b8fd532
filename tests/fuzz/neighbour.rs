//! Two well-behaved connections in the same broker: one publishes with confirms, one consumes. They
//! must not notice what other clients do. If the consumer is slow, their queue outgrows its memory.

use std::collections::BTreeSet;

use amqp::Method;
use fastrand::Rng;
use ringtail::shard::Gate;

use crate::monitor::{Monitor, Seen};
use crate::rig::{self, Client, Rig};

/// A name that no other client uses by chance.
const QUEUE: &str = "the neighbour's own queue, which nobody else names";
/// Publishes that may wait for their confirms.
const WINDOW: usize = 20;
/// A slow consumer reads once in so many calls, and its publisher sends up to so many at once.
const SLOWNESS: usize = 4;

pub struct Neighbour {
    pub publisher: Client,
    pub consumer: Client,
    monitors: (Monitor, Monitor),
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
        broker.receive(consumer, &rig::encoded(1, &rig::consume_with(QUEUE, no_ack)));
        broker.settle();
        Self {
            publisher,
            consumer,
            monitors: (Monitor::new(), Monitor::new()),
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

    /// Publishes one message, unless too many are unconfirmed. Its body is its number and some
    /// bytes.
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

    /// Both read what arrived; a slow consumer mostly does not.
    pub fn look(&mut self, broker: &mut Rig, rng: &mut Rng) {
        if self.slow && rng.usize(..SLOWNESS) > 0 {
            self.read_confirms(broker);
        } else {
            self.read(broker);
        }
    }

    /// Both read what arrived.
    pub fn read(&mut self, broker: &mut Rig) {
        self.read_confirms(broker);
        self.read_messages(broker);
    }

    fn read_confirms(&mut self, broker: &mut Rig) {
        let bytes = broker.take_now(self.publisher);
        self.monitors.0.read(&bytes, |_, seen| confirm(&mut self.unconfirmed, &seen));
    }

    fn read_messages(&mut self, broker: &mut Rig) {
        let Self { consumer, monitors, got, body, no_ack, .. } = self;
        let mut last = None;
        monitors.1.read(&broker.take_now(*consumer), |_, seen| match seen {
            Seen::Method(Method::BasicDeliver { delivery_tag, .. }) => last = Some(delivery_tag),
            Seen::Method(Method::BasicConsumeOk { .. }) => {}
            Seen::Body(piece, complete) => {
                body.extend(piece);
                if complete {
                    *got += 1;
                    let number = body.first_chunk().map(|number| u64::from_be_bytes(*number));
                    assert_eq!(number, Some(*got), "the neighbour's messages in order");
                    body.clear();
                }
            }
            Seen::Method(other) => panic!("the neighbour's consumer seen {other:?}"),
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

    /// Both close their sockets.
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

fn confirm(unconfirmed: &mut BTreeSet<u64>, seen: &Seen<'_>) {
    match *seen {
        Seen::Method(Method::BasicAck { delivery_tag, multiple: true }) => {
            assert!(unconfirmed.contains(&delivery_tag));
            unconfirmed.retain(|tag| *tag > delivery_tag);
        }
        Seen::Method(Method::BasicAck { delivery_tag, .. }) => {
            assert!(unconfirmed.remove(&delivery_tag));
        }
        Seen::Method(Method::ConnectionBlocked { .. } | Method::ConnectionUnblocked {}) => {}
        Seen::Method(other) => panic!("the neighbour's publisher seen {other:?}"),
        Seen::Body(..) => panic!("the neighbour's publisher seen a body"),
    }
}
