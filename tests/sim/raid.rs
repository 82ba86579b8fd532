//! A client that does nothing but ask for as much work as it can, of everything that one method can
//! make long. Nobody looks at what it gets. What is judged is that no turn does more than it may,
//! and, with all the rest, that the others lose nothing.

use amqp::frame::{write_body, write_header, write_method};
use amqp::properties::Basic;
use amqp::table::ArrayWriter;
use amqp::{Method, PROTOCOL_HEADER, Properties, Table, TableWriter, Value};
use bytes::Bytes;
use fastrand::Rng;
use model::{ConnId, Outbox};
use ringtail::sessions::ConnInfo;
use ringtail::shard::Gate;

use crate::plan::one_of;
use crate::sending::Sending;
use crate::world::World;

/// Rounds of a raid: its clients are gone then, whatever of it was done.
const ROUNDS: [usize; 3] = [20, 100, 500];
/// Bytes read from it at once.
const READ_MAX: usize = 64 * 1024;

/// One such client.
#[derive(Debug)]
pub struct Raider {
    shard: usize,
    conn: ConnId,
    out: Sending,
    gate: Gate,
    /// It takes what it is sent.
    reads: bool,
}

/// The raiders that there are, and dice of their own: who is not raided meets the same chances.
#[derive(Debug, Default)]
pub struct Raids {
    rng: Rng,
    raiders: Vec<Raider>,
}

impl Raids {
    /// The raids of a seed.
    pub fn new(seed: u64) -> Self {
        Self { rng: Rng::with_seed(!seed), raiders: Vec::new() }
    }
}

impl World {
    /// Some clients raid the broker while the others go on.
    pub fn raid(&mut self) {
        if self.raids.rng.u8(..4) != 0 {
            return;
        }
        // A list would be longer than a chunk.
        let inspects = std::mem::replace(&mut self.plan.inspects, false);
        (0..self.raids.rng.usize(1..=2)).for_each(|_| self.begin_raid());
        for round in 0..*one_of(&mut self.raids.rng, &ROUNDS) {
            if round % 10 == 0 {
                self.steps(1);
            }
            self.broker.moved = false;
            self.turn_all();
            self.coordinate(true);
            self.disk_works(true);
            let mut raiders = self.raids.raiders.iter();
            if self.broken() || !self.broker.moved && raiders.all(|raider| raider.out.is_empty()) {
                break;
            }
        }
        for Raider { shard, conn, .. } in std::mem::take(&mut self.raids.raiders) {
            self.broker.shards[shard].closed(conn, self.now);
            self.end_turn(shard);
        }
        if !self.broken() {
            self.quiet();
        }
        self.plan.inspects = inspects;
    }

    fn begin_raid(&mut self) {
        let shard = self.raids.rng.usize(..self.shards());
        let address = ([127, 0, 0, 1], 1).into();
        let conn =
            self.broker.shards[shard].opened(ConnInfo { peer: address, local: address }, self.now);
        let name = format!("x-raid-{shard}-{}", conn.0);
        let reads = self.raids.rng.u8(..4) != 0;
        let mut script = Script::new(name, &mut self.raids.rng);
        for _ in 0..3 {
            script.one();
        }
        let mut out = Sending::default();
        out.end().append(&mut script.bytes);
        self.raids.raiders.push(Raider { shard, conn, out, gate: Gate::Open, reads });
        self.end_turn(shard);
    }

    /// The raiders of a shard send what it reads.
    pub fn raid_on(&mut self, shard: usize) {
        for at in 0..self.raids.raiders.len() {
            let raider = &mut self.raids.raiders[at];
            if raider.shard != shard || raider.gate != Gate::Open || raider.out.is_empty() {
                continue;
            }
            let chunk: Bytes = raider.out.take(raider.out.len().min(READ_MAX)).into();
            let conn = raider.conn;
            self.broker.moved = true;
            self.broker.shards[shard].receive(conn, &chunk, self.now);
        }
    }

    /// A connection's output or gate has changed; it may be a raider's.
    pub fn raider_told(&mut self, shard: usize, conn: ConnId) {
        let mine = |raider: &&mut Raider| raider.shard == shard && raider.conn == conn;
        let Some(raider) = self.raids.raiders.iter_mut().find(mine) else { return };
        let shard = &mut self.broker.shards[shard];
        raider.gate = shard.gate(conn);
        if raider.gate == Gate::Closing {
            raider.out = Sending::default();
        }
        let mut taken = Outbox::default();
        if raider.reads
            && let Some(outbox) = shard.outbox(conn)
        {
            outbox.drain_into(&mut taken);
            shard.written(conn, taken.len(), self.now);
        }
    }
}

/// What a raider sends.
struct Script<'a> {
    name: String,
    rng: &'a mut Rng,
    bytes: Vec<u8>,
    channel: u16,
}

impl<'a> Script<'a> {
    fn new(name: String, rng: &'a mut Rng) -> Self {
        let mut script = Self { name, rng, bytes: PROTOCOL_HEADER.to_vec(), channel: 0 };
        let start_ok = Method::ConnectionStartOk {
            client_properties: Table::EMPTY,
            mechanism: "PLAIN",
            response: b"\0guest\0guest",
            locale: "en_US",
        };
        script.send(&start_ok);
        let (channel_max, frame_max, heartbeat) = (2047, 131_072, 0);
        script.send(&Method::ConnectionTuneOk { channel_max, frame_max, heartbeat });
        let (virtual_host, capabilities, insist) = ("/", "", false);
        script.send(&Method::ConnectionOpen { virtual_host, capabilities, insist });
        script
    }

    /// One of all things, on a channel of its own.
    fn one(&mut self) {
        self.channel += 1;
        self.send(&Method::ChannelOpen { out_of_band: "" });
        match self.rng.u8(..8) {
            0 => self.patterns(),
            1 => self.copies(),
            2 => self.consumers(),
            3 => self.put_back(),
            4 => self.gets(),
            5 => self.transactions(),
            6 => self.tables(),
            _ => self.returns(),
        }
    }

    fn send(&mut self, method: &Method<'_>) {
        write_method(&mut self.bytes, self.channel, method);
    }

    /// The name of one of the queues of this channel.
    fn queue(&self, number: usize) -> String {
        format!("{}-{}-{number}", self.name, self.channel)
    }

    /// Declares a queue that is gone with the connection.
    fn declare(&mut self, queue: &str, arguments: Table<'_>) {
        self.send(&Method::QueueDeclare {
            ticket: 0,
            queue,
            passive: false,
            durable: false,
            exclusive: true,
            auto_delete: false,
            nowait: true,
            arguments,
        });
    }

    /// Declares an exchange that is gone with its last queue.
    fn exchange(&mut self, kind: &str) -> String {
        let exchange = format!("{}-{}", self.name, self.channel);
        self.send(&Method::ExchangeDeclare {
            ticket: 0,
            exchange: &exchange,
            kind,
            passive: false,
            durable: false,
            auto_delete: true,
            internal: false,
            nowait: true,
            arguments: Table::EMPTY,
        });
        exchange
    }

    fn bind(&mut self, queue: &str, exchange: &str, routing_key: &str) {
        let (nowait, arguments) = (true, Table::EMPTY);
        self.send(&Method::QueueBind {
            ticket: 0,
            queue,
            exchange,
            routing_key,
            nowait,
            arguments,
        });
    }

    fn publish(&mut self, exchange: &str, routing_key: &str, mandatory: bool, headers: Table<'_>) {
        let immediate = false;
        self.send(&Method::BasicPublish { ticket: 0, exchange, routing_key, mandatory, immediate });
        let mut properties = Vec::new();
        Basic { headers: Some(headers), ..Basic::default() }.write(&mut properties);
        write_header(&mut self.bytes, self.channel, 1, &properties);
        write_body(&mut self.bytes, self.channel, b"x", 131_072);
    }

    /// A queue with an exchange of its own: of the common ones it is counted what came to them.
    fn queue_and_exchange(&mut self) -> String {
        let (queue, exchange) = (self.queue(0), self.exchange("direct"));
        self.declare(&queue, Table::EMPTY);
        self.bind(&queue, &exchange, "q");
        queue
    }

    /// The same plain publish to that queue again and again.
    fn fill(&mut self, many: usize) {
        let (from, exchange) = (self.bytes.len(), format!("{}-{}", self.name, self.channel));
        self.send(&Method::BasicPublish {
            ticket: 0,
            exchange: &exchange,
            routing_key: "q",
            mandatory: false,
            immediate: false,
        });
        write_header(&mut self.bytes, self.channel, 1, Properties::EMPTY.encoded());
        write_body(&mut self.bytes, self.channel, b"x", 131_072);
        let one = self.bytes[from..].to_vec();
        (1..many).for_each(|_| self.bytes.extend_from_slice(&one));
    }

    fn consume(&mut self, queue: &str, consumer_tag: &str) {
        self.send(&Method::BasicConsume {
            ticket: 0,
            queue,
            consumer_tag,
            no_local: false,
            no_ack: false,
            exclusive: false,
            nowait: true,
            arguments: Table::EMPTY,
        });
    }

    fn settle_all(&mut self, requeue: bool) {
        self.send(&Method::BasicNack { delivery_tag: 0, multiple: true, requeue });
    }

    /// Patterns with several `#`, and keys that lead deep into them.
    fn patterns(&mut self) {
        let (queue, exchange) = (self.queue(0), self.exchange("topic"));
        self.declare(&queue, Table::EMPTY);
        for n in 0..20 {
            self.bind(&queue, &exchange, &format!("#.a.#.b{n}.#.*.#"));
        }
        let keys: Vec<String> = (0..60).map(|n| format!("a.a.a.a.b{}.c{n}", n % 20)).collect();
        let list = keys
            .iter()
            .fold(ArrayWriter::new(), |list, key| list.with(Value::LongString(key.as_bytes())));
        let headers = TableWriter::new().with("CC", Value::Array(list.array()));
        (0..3).for_each(|_| self.publish(&exchange, "a.a", false, headers.table()));
    }

    /// Messages with large headers to many queues.
    fn copies(&mut self) {
        let exchange = self.exchange("fanout");
        for number in 0..40 {
            let queue = self.queue(number);
            self.declare(&queue, Table::EMPTY);
            self.bind(&queue, &exchange, "");
        }
        let text = vec![b'x'; 3000];
        let headers = TableWriter::new().with("large", Value::LongString(&text));
        (0..5).for_each(|_| self.publish(&exchange, "", false, headers.table()));
    }

    /// Many consumers of one queue, whose limit changes, and whose channel closes.
    fn consumers(&mut self) {
        let queue = self.queue_and_exchange();
        for number in 0..80 {
            self.consume(&queue, &number.to_string());
        }
        for prefetch_count in [5, 0, 1, 3] {
            self.send(&Method::BasicQos { prefetch_size: 0, prefetch_count, global: true });
            self.fill(50);
        }
        let close =
            Method::ChannelClose { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
        self.send(&close);
    }

    /// Many messages are delivered and put back at once; others ask the queue meanwhile.
    fn put_back(&mut self) {
        let queue = self.queue_and_exchange();
        self.fill(300);
        self.consume(&queue, "all");
        for _ in 0..3 {
            self.send(&Method::BasicRecover { requeue: true });
            self.settle_all(true);
        }
        self.settle_all(false);
        self.fill(100);
    }

    /// Gets of an empty queue, and purges.
    fn gets(&mut self) {
        let queue = self.queue_and_exchange();
        for _ in 0..60 {
            self.send(&Method::BasicGet { ticket: 0, queue: &queue, no_ack: false });
        }
        self.fill(200);
        self.send(&Method::QueuePurge { ticket: 0, queue: &queue, nowait: true });
    }

    /// Transactions with many publishes: committed, rolled back, and left.
    fn transactions(&mut self) {
        let queue = self.queue_and_exchange();
        self.send(&Method::TxSelect {});
        self.fill(200);
        self.send(&Method::TxCommit {});
        self.consume(&queue, "all");
        self.settle_all(false);
        self.fill(100);
        self.send(&Method::TxRollback {});
        self.fill(300);
        if self.rng.bool() {
            self.send(&Method::TxCommit {});
        }
    }

    /// Arguments of nearly 16 KB.
    fn tables(&mut self) {
        let text = vec![b'x'; 16_000];
        let arguments = TableWriter::new().with("x-any", Value::LongString(&text));
        for number in 0..6 {
            let queue = self.queue(number);
            self.declare(&queue, arguments.table());
        }
    }

    /// Messages that come back.
    fn returns(&mut self) {
        let text = vec![b'x'; 2000];
        let headers = TableWriter::new().with("large", Value::LongString(&text));
        self.queue_and_exchange();
        let exchange = format!("{}-{}", self.name, self.channel);
        (0..100).for_each(|_| self.publish(&exchange, "nobody", true, headers.table()));
    }
}
