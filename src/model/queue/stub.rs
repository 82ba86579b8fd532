//! One stub of a queue's output for the tests of all kinds.

use std::collections::VecDeque;

use amqp::properties::Basic;

use crate::ids::{ConnId, QueueId, RequestId, ShardId};
use crate::message::{Draft, Message};
use crate::queue::consumer::Ask;
use crate::queue::stored::Stored;
use crate::queue::{
    Delivery, DropSpilled, DroppedSpilled, EnqueueEnd, EnqueueId, Expiry, Overdue, QueueCommands,
    QueueOutput, Spilled, Unfit,
};
use crate::time::Now;

/// Remembers what a queue does. Requests for permits are answered later, or at once.
#[derive(Default)]
pub struct Stub {
    /// Requests for permits.
    pub asks: Vec<Ask>,
    /// Permits that are given at once; `None`: the answer comes later.
    pub at_once: Option<u32>,
    /// Consumer, routing key and the redelivered flag.
    pub delivered: Vec<(u64, String, bool)>,
    /// The numbers of those deliveries.
    pub numbers: Vec<u64>,
    /// Routing keys of messages that basic.get took.
    pub got: Vec<String>,
    /// How often basic.get found nothing.
    pub empty: usize,
    /// Messages that a channel could not be sent.
    pub unfit: Vec<Unfit>,
    /// Deliveries that were not settled in time.
    pub overdue: Vec<Overdue>,
    /// Messages that were refused when they entered.
    pub refused: usize,
    /// Enqueues that were held; they are numbered from 1.
    pub held: u64,
    /// How those ended.
    pub finished: Vec<(u64, EnqueueEnd)>,
    /// The batch of the log; 0: messages are only in the queue.
    pub batch: u64,
    /// Sequence numbers of messages that were logged, a first time or again.
    pub logged: Vec<u64>,
    /// Sequence numbers of messages that the store has and that were settled.
    pub settled: Vec<u64>,
    /// How many messages the store was told to drop.
    pub let_go: usize,
    /// How often a message died that has to leave as a dead letter.
    pub died: usize,
    /// Fetches that were asked for.
    pub fetched: usize,
    /// Purges of spilled messages.
    pub purged: usize,
    /// Drops of spilled messages that were asked for.
    pub drops: Vec<DropSpilled>,
    /// The answers to the next ones.
    pub dropped: VecDeque<DroppedSpilled>,
    /// Sequence numbers and records that were spilled.
    pub spilled: Vec<(u64, Vec<u8>)>,
    /// The connection without credit.
    pub closed: Option<ConnId>,
    /// No connection may be sent a large message.
    pub no_large: bool,
}

impl Stub {
    /// What consumers were sent since the last look: consumer and routing key.
    pub fn bodies(&mut self) -> Vec<(u64, String)> {
        self.delivered.drain(..).map(|(consumer, body, _)| (consumer, body)).collect()
    }

    /// The last request of a consumer.
    pub fn ask_of(&self, consumer: u64) -> Ask {
        *self.asks.iter().rfind(|ask| ask.consumer.0 == consumer).unwrap()
    }

    fn place(&mut self, seq: u64) -> Stored {
        self.logged.push(seq);
        if self.batch == 0 { Stored::NOWHERE } else { Stored::logged(self.batch) }
    }
}

fn text(message: Message<'_>) -> String {
    message.routing_key().to_string()
}

impl QueueOutput for Stub {
    fn open(&mut self, _: QueueId, conn: ConnId) -> bool {
        self.closed != Some(conn)
    }
    fn open_for(&mut self, _: QueueId, _: ConnId, _: Message<'_>) -> bool {
        !self.no_large
    }
    fn ask(&mut self, _: QueueId, ask: Ask) -> Option<u32> {
        self.asks.push(ask);
        let given = self.at_once.map(|given| given.min(1));
        self.at_once = self.at_once.map(|left| left.saturating_sub(1));
        given
    }
    fn deliver(&mut self, Delivery { to, message }: Delivery<'_>) {
        self.delivered.push((to.consumer.0, text(message), to.redelivered));
        self.numbers.push(to.number);
    }
    fn got(&mut self, _: RequestId, _: u32, delivery: Delivery<'_>) {
        self.got.push(text(delivery.message));
    }
    fn empty(&mut self, _: RequestId) {
        self.empty += 1;
    }
    fn overdue(&mut self, overdue: Overdue) {
        self.overdue.push(overdue);
    }
    fn unfit(&mut self, unfit: Unfit) {
        self.unfit.push(unfit);
    }
    fn refuse(&mut self) {
        self.refused += 1;
    }
    fn hold(&mut self) -> EnqueueId {
        self.held += 1;
        EnqueueId { source: ShardId(0), number: self.held }
    }
    fn finish(&mut self, enqueue: EnqueueId, end: EnqueueEnd) {
        self.finished.push((enqueue.number, end));
    }
    fn log(&mut self, _: QueueId, seq: u64, _: Expiry, _: Message<'_>) -> Stored {
        self.place(seq)
    }
    fn log_held(&mut self, _: QueueId, seq: u64, _: Message<'_>) -> Stored {
        self.place(seq)
    }
    fn bypass_log(&mut self, _: QueueId, _: u64, _: Expiry, _: Message<'_>) -> bool {
        false
    }
    fn log_again(&mut self, _: QueueId, seq: u64, _: (Stored, Expiry), _: Message<'_>) -> Stored {
        self.place(seq)
    }
    fn settled(&mut self, _: QueueId, seq: u64, _: Stored) {
        self.settled.push(seq);
    }
    fn let_go(&mut self, _: Stored) {
        self.let_go += 1;
    }
    fn spill(&mut self, _: QueueId, spilled: Spilled<'_>) {
        self.spilled.push((spilled.seq, spilled.message.record().to_vec()));
    }
    fn died(&mut self, _: QueueId) {
        self.died += 1;
    }
    fn fetch(&mut self, _: QueueId) {
        self.fetched += 1;
    }
    fn purge(&mut self, _: QueueId) {
        self.purged += 1;
    }
    fn drop_spilled(&mut self, _: QueueId, what: DropSpilled) -> DroppedSpilled {
        self.drops.push(what);
        let nothing = DroppedSpilled { messages: 0, bodies: 0, next: Expiry::NEVER };
        self.dropped.pop_front().unwrap_or(nothing)
    }
}

/// A message with a routing key, a delivery mode and a body of `size` bytes.
pub fn draft(key: &str, mode: u8, size: usize) -> Draft {
    let mut draft = Draft::default();
    draft.begin("", key);
    draft.header(amqp::Properties::EMPTY, mode, 0, size as u32);
    let body = bytes::Bytes::from(vec![7; size]);
    draft.body(&body, &body);
    draft
}

/// A message with a routing key and so many bytes of properties.
pub fn with_properties(key: &str, bytes: usize) -> Draft {
    // The flags, the length of the table, the name with its length, type and length of the value.
    let value = vec![b'x'; bytes - 16];
    let headers = amqp::TableWriter::new().with("name", amqp::Value::LongString(&value));
    let (mut draft, mut encoded) = (Draft::default(), Vec::new());
    Basic { headers: Some(headers.table()), ..Basic::default() }.write(&mut encoded);
    assert_eq!(encoded.len(), bytes);
    draft.begin("", key);
    draft.header(amqp::Properties::checked_before(&encoded), 0, 0, 0);
    draft
}

/// Lets a queue do everything that it does in pieces.
pub fn finish(queue: &mut impl QueueCommands, now: Now, ends: &mut Stub) {
    while queue.unfinished() {
        assert!(queue.go_on(1, now, ends).used <= 1);
    }
}
