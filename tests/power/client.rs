//! A client with one channel. It speaks AMQP in bytes and tells the books what it sends and reads.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use amqp::properties::Basic;
use amqp::{
    Assembler, Frame, Method, PROTOCOL_HEADER, Parser, Step, Table, TableWriter, Value, frame,
};

use crate::books::{ALL, Books, CopyId, DEAD, FANOUT, MORTAL, QUEUES, RETRY, SHUFFLED};

const FRAME_MAX: u32 = 131_072;

/// How publishes and settles take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Publishes are confirmed.
    Confirms,
    /// Both are committed.
    Tx,
}

/// A reply that is due.
#[derive(Debug)]
enum Due {
    Plain,
    Get(usize),
    Commit(Vec<usize>, Vec<CopyId>),
    Declare,
    Delete,
    Purge(usize),
}

#[derive(Debug)]
struct Incoming {
    queue: usize,
    tag: u64,
    flagged: bool,
    body: Vec<u8>,
}

/// A connection and its channel.
#[derive(Debug)]
pub struct Client {
    /// Its number, unique in the run.
    pub id: usize,
    /// Bytes under way to the broker.
    pub out: Vec<u8>,
    /// It sends and reads nothing any more.
    pub gone: bool,
    /// The broker said that it stops.
    pub may_go: bool,
    /// The channel may be used.
    pub ready: bool,
    /// How publishes and settles take effect.
    pub mode: Mode,
    /// It consumes without acknowledgements.
    pub auto: bool,
    /// Messages to settle, by tag.
    pub unacked: BTreeMap<u64, CopyId>,
    /// Queues that it consumes from.
    pub consumes: BTreeSet<usize>,
    /// The messages that were read, in order.
    pub read: Vec<usize>,
    due: VecDeque<Due>,
    parser: Parser,
    assemblers: [Assembler; 2],
    incoming: Option<Incoming>,
    confirms: BTreeMap<u64, usize>,
    published: u64,
    held: Vec<usize>,
    settling: Vec<(u64, CopyId)>,
}

impl Client {
    /// A client that connects.
    pub fn new(id: usize, mode: Mode) -> Self {
        Self {
            id,
            out: PROTOCOL_HEADER.to_vec(),
            gone: false,
            may_go: false,
            ready: false,
            mode,
            auto: false,
            unacked: BTreeMap::new(),
            consumes: BTreeSet::new(),
            read: Vec::new(),
            due: VecDeque::new(),
            parser: Parser::new(0),
            assemblers: Default::default(),
            incoming: None,
            confirms: BTreeMap::new(),
            published: 0,
            held: Vec::new(),
            settling: Vec::new(),
        }
    }

    /// Whether it waits for nothing.
    pub fn is_content(&self) -> bool {
        self.gone || (self.ready && self.due.is_empty() && self.confirms.is_empty())
    }

    /// Replies that it waits for.
    pub fn waits(&self) -> usize {
        self.due.len()
    }

    /// Whether the transaction has anything in it.
    pub fn holds(&self) -> bool {
        !self.held.is_empty() || !self.settling.is_empty()
    }

    fn send(&mut self, method: &Method<'_>) {
        frame::write_method(&mut self.out, 1, method);
    }

    fn ask(&mut self, due: Due, method: &Method<'_>) {
        self.due.push_back(due);
        self.send(method);
    }

    // Actions.

    /// Publishes to a queue, or to all.
    pub fn publish(
        &mut self,
        to: usize,
        persistent: bool,
        (size, lives_ms): (usize, Option<u64>),
        books: &mut Books,
    ) {
        let tx = self.mode == Mode::Tx;
        let message = books.publishes(self.id, to, persistent, tx);
        books.expires(lives_ms);
        let (exchange, routing_key) = if to == ALL { (FANOUT, "") } else { ("", QUEUES[to]) };
        let (mandatory, immediate) = (false, false);
        self.send(&Method::BasicPublish { ticket: 0, exchange, routing_key, mandatory, immediate });
        let mut properties = Vec::new();
        let (delivery_mode, expiration) =
            (persistent.then_some(2), lives_ms.map(|ms| ms.to_string()));
        let expiration = expiration.as_deref();
        let basic = Basic { delivery_mode, expiration, ..Basic::default() };
        basic.write(&mut properties);
        let body = format!("{message} {}", "x".repeat(size));
        frame::write_header(&mut self.out, 1, body.len() as u64, &properties);
        frame::write_body(&mut self.out, 1, body.as_bytes(), FRAME_MAX);
        if tx {
            self.held.push(message);
        } else {
            self.published += 1;
            self.confirms.insert(self.published, message);
        }
    }

    /// Copies that it has read and not settled finally.
    pub fn held(&self) -> impl Iterator<Item = CopyId> {
        self.unacked.values().copied().chain(self.settling.iter().map(|(_, copy)| *copy))
    }

    /// Queues that may have sent it messages that it never reads and no other client gets.
    pub fn leaks(&self) -> impl Iterator<Item = usize> {
        let gets = self.due.iter().filter_map(|due| match due {
            Due::Get(queue) => Some(*queue),
            _ => None,
        });
        let half_read = self.incoming.iter().map(|incoming| incoming.queue);
        gets.chain(half_read).chain(self.consumes.iter().copied()).filter(|_| self.auto)
    }

    /// Consumes.
    pub fn consume(&mut self, queue: usize) {
        let consume = Method::BasicConsume {
            ticket: 0,
            queue: QUEUES[queue],
            consumer_tag: QUEUES[queue],
            no_local: false,
            no_ack: self.auto,
            exclusive: false,
            nowait: false,
            arguments: Table::EMPTY,
        };
        self.ask(Due::Plain, &consume);
    }

    /// Sets the prefetch of later consumers.
    pub fn qos(&mut self, prefetch_count: u16) {
        let qos = Method::BasicQos { prefetch_size: 0, prefetch_count, global: false };
        self.ask(Due::Plain, &qos);
    }

    /// Gets a message.
    pub fn get(&mut self, queue: usize) {
        let get = Method::BasicGet { ticket: 0, queue: QUEUES[queue], no_ack: self.auto };
        self.ask(Due::Get(queue), &get);
    }

    /// Acknowledges one delivery.
    pub fn ack(&mut self, tag: u64, books: &mut Books) {
        let Some(copy) = self.unacked.remove(&tag) else { return };
        if self.mode == Mode::Tx {
            self.settling.push((tag, copy));
        } else {
            books.settles(copy);
        }
        books.note(|| format!("client {} acknowledges {tag}, {copy:?}", self.id));
        self.send(&Method::BasicAck { delivery_tag: tag, multiple: false });
    }

    /// Requeues one delivery at once.
    pub fn requeue(&mut self, tag: u64, books: &mut Books) {
        if self.mode == Mode::Confirms
            && let Some(copy) = self.unacked.remove(&tag)
        {
            books.note(|| format!("client {} gives {copy:?} back", self.id));
            self.send(&Method::BasicNack { delivery_tag: tag, multiple: false, requeue: true });
        }
    }

    /// Rejects one delivery of the queue with dead letters at once.
    pub fn reject(&mut self, nth: usize, books: &mut Books) {
        let mut rejectable = self.unacked.iter().filter(|(_, copy)| copy.1 == RETRY);
        let Some((&tag, &copy)) = rejectable.nth(nth) else { return };
        if self.mode == Mode::Confirms {
            self.unacked.remove(&tag);
            books.rejects(copy);
            self.send(&Method::BasicReject { delivery_tag: tag, requeue: false });
        }
    }

    /// Commits.
    pub fn commit(&mut self, books: &mut Books) {
        let messages = std::mem::take(&mut self.held);
        let settles = std::mem::take(&mut self.settling);
        let settles: Vec<CopyId> = settles.into_iter().map(|(_, copy)| copy).collect();
        books.commits(&messages, &settles);
        self.ask(Due::Commit(messages, settles), &Method::TxCommit {});
    }

    /// Rolls back.
    pub fn rollback(&mut self) {
        self.held.clear();
        self.unacked.extend(std::mem::take(&mut self.settling));
        self.ask(Due::Plain, &Method::TxRollback {});
    }

    /// Declares a queue.
    pub fn declare(&mut self, queue: usize, durable: bool, books: &mut Books) {
        let kind = if SHUFFLED == Some(queue) { "shuffled" } else { "classic" };
        let arguments = Value::LongString(kind.as_bytes());
        let mut arguments = TableWriter::new().with("x-queue-type", arguments);
        if queue == RETRY {
            let key = Value::LongString(QUEUES[DEAD].as_bytes());
            arguments = arguments
                .with("x-dead-letter-exchange", Value::LongString(b""))
                .with("x-dead-letter-routing-key", key);
        }
        let declare = Method::QueueDeclare {
            ticket: 0,
            queue: QUEUES[queue],
            passive: false,
            durable,
            exclusive: false,
            auto_delete: false,
            nowait: false,
            arguments: arguments.table(),
        };
        if queue == MORTAL {
            books.mortal = books.mortal.filter(|there| *there);
        }
        self.ask(if queue == MORTAL { Due::Declare } else { Due::Plain }, &declare);
    }

    /// Declares the exchange and binds queues to it.
    pub fn bind(&mut self, queues: &[usize]) {
        let declare = Method::ExchangeDeclare {
            ticket: 0,
            exchange: FANOUT,
            kind: "fanout",
            passive: false,
            durable: true,
            auto_delete: false,
            internal: false,
            nowait: false,
            arguments: Table::EMPTY,
        };
        self.ask(Due::Plain, &declare);
        for queue in queues {
            let bind = Method::QueueBind {
                ticket: 0,
                queue: QUEUES[*queue],
                exchange: FANOUT,
                routing_key: "",
                nowait: false,
                arguments: Table::EMPTY,
            };
            self.ask(Due::Plain, &bind);
        }
    }

    /// Deletes the queue that may be deleted.
    pub fn delete(&mut self, books: &mut Books) {
        books.mortal = None;
        let (if_unused, if_empty) = (false, false);
        let queue = QUEUES[MORTAL];
        let delete = Method::QueueDelete { ticket: 0, queue, if_unused, if_empty, nowait: false };
        self.ask(Due::Delete, &delete);
    }

    /// Purges a queue.
    pub fn purge(&mut self, queue: usize, books: &mut Books) {
        books.purges(queue);
        let purge = Method::QueuePurge { ticket: 0, queue: QUEUES[queue], nowait: false };
        self.ask(Due::Purge(queue), &purge);
    }

    // Input.

    /// Bytes arrived.
    pub fn read(&mut self, bytes: &[u8], books: &mut Books) {
        let mut parser = std::mem::replace(&mut self.parser, Parser::new(0));
        let mut at = 0;
        while books.failure.is_none() {
            match parser.next(bytes, &mut at) {
                Ok(Some(frame)) => self.frame(frame, books),
                Ok(None) => break,
                Err(error) => books.fail(|| format!("a broken frame: {error}")),
            }
        }
        parser.set_frame_max(FRAME_MAX);
        self.parser = parser;
    }

    fn frame(&mut self, frame: Frame<'_>, books: &mut Books) {
        let step: Result<Step<'_>, _> = match frame {
            Frame::Heartbeat { .. } => return,
            Frame::Method { channel, payload } => self.assembler(channel).method(payload),
            Frame::Header { channel, payload } => self.assembler(channel).header(payload),
            Frame::Body { channel, piece, .. } => self.assembler(channel).body(piece),
        };
        match step {
            Ok(Step::Method(method)) => self.method(method, books),
            Ok(Step::Header { .. }) => {}
            Ok(Step::Body { piece, complete }) => self.body(piece, complete, books),
            Err(error) => books.fail(|| format!("frames out of sequence: {error}")),
        }
    }

    fn assembler(&mut self, channel: u16) -> &mut Assembler {
        &mut self.assemblers[usize::from(channel.min(1))]
    }

    fn body(&mut self, piece: &[u8], complete: bool, books: &mut Books) {
        let Some(incoming) = &mut self.incoming else { return };
        incoming.body.extend_from_slice(piece);
        let Some(incoming) = self.incoming.take_if(|_| complete) else { return };
        let text = String::from_utf8_lossy(&incoming.body);
        let Some(message) = text.split(' ').next().and_then(|id| id.parse().ok()) else {
            return books.fail(|| format!("a body that nobody sent: {text:.20}"));
        };
        let copy = (message, incoming.queue);
        books.delivered(self.id, copy, incoming.flagged, self.auto);
        if !self.auto {
            self.unacked.insert(incoming.tag, copy);
        }
        self.read.push(message);
    }

    fn method(&mut self, method: Method<'_>, books: &mut Books) {
        match method {
            Method::ConnectionStart { .. } => self.start_ok(),
            Method::ConnectionTune { .. } => self.open(),
            Method::ConnectionOpenOk { .. } | Method::ChannelOpenOk { .. } => {}
            Method::ConfirmSelectOk {} | Method::TxSelectOk {} => self.ready = true,
            Method::ConnectionBlocked { .. } | Method::ConnectionUnblocked {} => {}
            Method::ConnectionClose { reply_code: 320, .. } if self.may_go => {
                frame::write_method(&mut self.out, 0, &Method::ConnectionCloseOk {});
                self.gone = true;
            }
            Method::BasicDeliver { consumer_tag, delivery_tag, redelivered, .. } => {
                let queue = QUEUES.iter().position(|name| *name == consumer_tag);
                let queue = queue.unwrap_or_default();
                self.expect(queue, delivery_tag, redelivered);
            }
            Method::BasicAck { delivery_tag, multiple } => {
                let first = if multiple { 0 } else { delivery_tag };
                let tags: Vec<u64> =
                    self.confirms.range(first..=delivery_tag).map(|(tag, _)| *tag).collect();
                let told = tags.iter().filter_map(|tag| self.confirms.remove(tag));
                told.for_each(|message| books.confirmed(message));
            }
            other => self.reply(other, books),
        }
    }

    fn expect(&mut self, queue: usize, tag: u64, flagged: bool) {
        self.incoming = Some(Incoming { queue, tag, flagged, body: Vec::new() });
    }

    fn reply(&mut self, method: Method<'_>, books: &mut Books) {
        match (self.due.pop_front(), method) {
            (Some(Due::Get(queue)), Method::BasicGetOk { delivery_tag, redelivered, .. }) => {
                self.expect(queue, delivery_tag, redelivered);
            }
            (Some(Due::Get(_)), Method::BasicGetEmpty { .. }) => {}
            (Some(Due::Commit(messages, settles)), Method::TxCommitOk {}) => {
                books.committed(&messages, &settles);
            }
            (Some(Due::Declare), Method::QueueDeclareOk { .. }) => books.mortal = Some(true),
            (Some(Due::Delete), Method::QueueDeleteOk { .. }) => {
                books.mortal = Some(false);
                books.deleted(MORTAL);
            }
            (Some(Due::Purge(queue)), Method::QueuePurgeOk { .. }) => books.purged(queue),
            (
                Some(Due::Plain),
                Method::QueueDeclareOk { .. }
                | Method::ExchangeDeclareOk {}
                | Method::QueueBindOk {}
                | Method::BasicQosOk {}
                | Method::BasicConsumeOk { .. }
                | Method::TxRollbackOk {},
            ) => {}
            (due, method) => books.fail(|| format!("{method:?} when {due:?} was due")),
        }
    }

    fn start_ok(&mut self) {
        let start_ok = Method::ConnectionStartOk {
            client_properties: Table::EMPTY,
            mechanism: "PLAIN",
            response: b"\0guest\0guest",
            locale: "en_US",
        };
        frame::write_method(&mut self.out, 0, &start_ok);
    }

    fn open(&mut self) {
        let tune = Method::ConnectionTuneOk { channel_max: 1, frame_max: FRAME_MAX, heartbeat: 0 };
        frame::write_method(&mut self.out, 0, &tune);
        let open = Method::ConnectionOpen { virtual_host: "/", capabilities: "", insist: false };
        frame::write_method(&mut self.out, 0, &open);
        self.send(&Method::ChannelOpen { out_of_band: "" });
        match self.mode {
            Mode::Confirms => self.send(&Method::ConfirmSelect { nowait: false }),
            Mode::Tx => self.send(&Method::TxSelect {}),
        }
    }
}
