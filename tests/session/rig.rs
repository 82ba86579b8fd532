//! A whole pure broker in one thread, moved by hand: octets in, octets out, no sockets, no clock,
//! and a disk that does at once what it is asked.

use std::collections::BTreeMap;

use amqp::frame::{write_body, write_header, write_method};
use amqp::{Method, Parser, Properties, Table, TableWriter, Value};
use bytes::Bytes;
use model::{ConnId, Now, Outbox, ShardId};
use ringtail::shard::{
    Batch, ConnInfo, Coordinator, CoordinatorConfig, Gate, Place, Shard, ShardConfig,
};
use ringtail::store::{Done, Failure, FileName, Op, Work};

/// Shards and their coordinator.
pub struct Rig {
    pub shards: Vec<Shard>,
    coordinator: Coordinator,
    files: BTreeMap<FileName, Vec<u8>>,
    /// Reads fail.
    pub unreadable: bool,
    pub now: Now,
}

/// A client on one of the shards.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    pub shard: usize,
    pub conn: ConnId,
}

impl Rig {
    /// A broker of so many shards; queues are never where they are declared if there are several.
    pub fn new(shards: u16) -> Self {
        Self::configured(shards, u64::MAX, |_| {})
    }

    /// One with another memory limit, and shards with another configuration.
    pub fn configured(shards: u16, memory_limit: u64, change: impl Fn(&mut ShardConfig)) -> Self {
        let config = CoordinatorConfig {
            shards,
            seed: 1,
            default_user: "guest".into(),
            default_pass: "guest".into(),
            default_vhost: "/".into(),
            loopback_users: vec!["guest".into()],
            memory_limit,
            place: if shards > 1 { Place::Cross } else { Place::Balanced },
        };
        let shard = |id| {
            let mut config = ShardConfig::new(ShardId(id), shards, 1);
            change(&mut config);
            Shard::new(config)
        };
        let mut rig = Self {
            files: BTreeMap::new(),
            unreadable: false,
            shards: (0..shards).map(shard).collect(),
            coordinator: Coordinator::new(config),
            now: Now::default(),
        };
        rig.settle();
        rig
    }

    /// A connection that has said nothing yet.
    pub fn accepted(&mut self, shard: usize) -> Client {
        let address = ([127, 0, 0, 1], 1).into();
        let info = ConnInfo { peer: address, local: address };
        Client { shard, conn: self.shards[shard].opened(info, self.now) }
    }

    /// A client that is logged in and tuned.
    pub fn tuned(&mut self, shard: usize) -> Client {
        let client = self.accepted(shard);
        self.send(client, &amqp::PROTOCOL_HEADER);
        let capabilities = TableWriter::new().with("consumer_cancel_notify", Value::Bool(true));
        let properties =
            TableWriter::new().with("capabilities", Value::Table(capabilities.table()));
        let start_ok = Method::ConnectionStartOk {
            client_properties: properties.table(),
            mechanism: "PLAIN",
            response: b"\0guest\0guest",
            locale: "en_US",
        };
        self.call(client, 0, &start_ok);
        let (channel_max, frame_max, heartbeat) = (2047, 131_072, 0);
        self.call(client, 0, &Method::ConnectionTuneOk { channel_max, frame_max, heartbeat });
        client
    }

    /// A client with channel 1 open.
    pub fn client(&mut self, shard: usize) -> Client {
        let client = self.tuned(shard);
        self.call(client, 0, &open("/"));
        self.call(client, 1, &Method::ChannelOpen { out_of_band: "" });
        client
    }

    /// Sends a method and takes what the client gets.
    pub fn call(&mut self, client: Client, channel: u16, method: &Method<'_>) -> Vec<u8> {
        self.send(client, &encoded(channel, method))
    }

    /// Sends octets and takes what the client gets.
    pub fn send(&mut self, client: Client, octets: &[u8]) -> Vec<u8> {
        self.receive(client, octets);
        self.settle();
        self.take(client)
    }

    /// Gives a client's octets to its shard; what that leads to waits.
    pub fn receive(&mut self, client: Client, octets: &[u8]) {
        let chunk = Bytes::copy_from_slice(octets);
        self.shards[client.shard].receive(client.conn, &chunk, self.now);
    }

    /// What a client gets; what its going leads to is carried everywhere.
    pub fn take(&mut self, client: Client) -> Vec<u8> {
        let octets = self.take_now(client);
        self.settle();
        octets
    }

    /// What a client gets.
    pub fn take_now(&mut self, client: Client) -> Vec<u8> {
        let shard = &mut self.shards[client.shard];
        let mut outbox = Outbox::default();
        if let Some(out) = shard.outbox(client.conn) {
            out.drain_into(&mut outbox);
        }
        let mut slices = Vec::with_capacity(4096);
        outbox.slices(0, &mut slices);
        let octets: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        shard.written(client.conn, octets.len(), self.now);
        octets
    }

    /// What the shell is to do with the client's socket.
    pub fn gate(&self, client: Client) -> Gate {
        self.shards[client.shard].gate(client.conn)
    }

    /// The client's socket is gone, and everybody has heard of it.
    pub fn vanish(&mut self, client: Client) {
        self.vanish_now(client);
        self.settle();
    }

    /// The client's socket is gone.
    pub fn vanish_now(&mut self, client: Client) {
        self.shards[client.shard].closed(client.conn, self.now);
    }

    /// What all shards hold for clients.
    pub fn leftovers(&self) -> usize {
        self.shards.iter().map(Shard::leftovers).sum()
    }

    /// Carries batches until nothing moves.
    pub fn settle(&mut self) {
        // Every shard has its turn in every round.
        while (0..self.shards.len()).filter(|shard| self.turn(*shard)).count() > 0 {}
    }

    /// Carries out what a shard asks of the disk; false if that is nothing.
    fn disk(&mut self, shard: usize) -> bool {
        let mut any = false;
        while let Some(Op { id, file, work }) = self.shards[shard].next_op() {
            any = true;
            let result = self.carry_out(file, work);
            self.shards[shard].done(Done { id, result }, self.now);
        }
        any
    }

    fn carry_out(&mut self, file: FileName, work: Work) -> Result<Bytes, Failure> {
        match work {
            Work::Write { at, pieces, .. } => {
                let (at, octets) = (at as usize, pieces.concat());
                let content = self.files.entry(file).or_default();
                content.resize(content.len().max(at + octets.len()), 0);
                content[at..at + octets.len()].copy_from_slice(&octets);
            }
            Work::Read { .. } if self.unreadable => {
                let (doing, why) = (format!("read {file}"), "the test says so".to_owned());
                return Err(Failure { doing, why, full: false });
            }
            Work::Read { at, len } => {
                let at = at as usize;
                let read = Bytes::copy_from_slice(&self.files[&file][at..at + len]);
                return Ok(read);
            }
            Work::Delete { .. } => drop(self.files.remove(&file)),
            Work::Sync | Work::SyncAll => {}
        }
        Ok(Bytes::new())
    }

    /// A turn of one shard: what it has for others arrives, and what the coordinator has for it.
    /// False if there was nothing.
    pub fn turn(&mut self, from: usize) -> bool {
        let coordinator = ShardId(self.shards.len() as u16);
        self.shards[from].end_turn(self.now);
        while self.disk(from) {
            self.shards[from].end_turn(self.now);
        }
        let from_id = ShardId(from as u16);
        let mut moved = false;
        for to in 0..self.shards.len() {
            let mut batch = std::mem::take(self.shards[from].outbound(ShardId(to as u16)));
            moved |= !batch.is_empty();
            self.shards[to].mesh(from_id, &mut batch, self.now);
        }
        let mut batch = std::mem::take(self.shards[from].outbound(coordinator));
        moved |= !batch.is_empty();
        self.coordinator.mesh(from_id, &mut batch, self.now);
        let mut batch: Batch = std::mem::take(self.coordinator.outbound(from_id));
        moved |= !batch.is_empty();
        self.shards[from].mesh(coordinator, &mut batch, self.now);
        moved || self.shards[from].unfinished()
    }
}

/// The frame of a method.
pub fn encoded(channel: u16, method: &Method<'_>) -> Vec<u8> {
    let mut octets = Vec::new();
    write_method(&mut octets, channel, method);
    octets
}

/// connection.open
pub fn open(virtual_host: &str) -> Method<'_> {
    Method::ConnectionOpen { virtual_host, capabilities: "", insist: false }
}

/// connection.close
pub fn close() -> Method<'static> {
    Method::ConnectionClose { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 }
}

/// queue.declare of a queue that is not durable.
pub fn declare(queue: &str, exclusive: bool) -> Method<'_> {
    Method::QueueDeclare {
        ticket: 0,
        queue,
        passive: false,
        durable: false,
        exclusive,
        auto_delete: false,
        nowait: false,
        arguments: Table::EMPTY,
    }
}

/// basic.consume with acknowledgements.
pub fn consume(queue: &str) -> Method<'_> {
    Method::BasicConsume {
        ticket: 0,
        queue,
        consumer_tag: "",
        no_local: false,
        no_ack: false,
        exclusive: false,
        nowait: false,
        arguments: Table::EMPTY,
    }
}

/// The frames of a publish to a queue on channel 1.
pub fn publish(queue: &str, body: &[u8]) -> Vec<u8> {
    let mut octets = content(queue, body.len() as u64);
    write_body(&mut octets, 1, body, 131_072);
    octets
}

/// The method and the header of a publish on channel 1.
pub fn content(routing_key: &str, size: u64) -> Vec<u8> {
    let method = Method::BasicPublish {
        ticket: 0,
        exchange: "",
        routing_key,
        mandatory: false,
        immediate: false,
    };
    let mut octets = encoded(1, &method);
    write_header(&mut octets, 1, size, Properties::EMPTY.encoded());
    octets
}

/// The names of the methods in what a client got, and the text of those that close something.
pub fn names(octets: &[u8]) -> Vec<String> {
    methods(octets).into_iter().map(|(_, name)| name).collect()
}

/// The same with the channel of each.
pub fn methods(octets: &[u8]) -> Vec<(u16, String)> {
    let (mut parser, mut at, mut names) = (Parser::new(0), 0, Vec::new());
    while let Some(frame) = parser.next(octets, &mut at).unwrap() {
        let amqp::Frame::Method { channel, payload } = frame else {
            continue;
        };
        let method = Method::read(payload).unwrap();
        let name = match method {
            Method::ConnectionClose { reply_text, .. }
            | Method::ChannelClose { reply_text, .. } => {
                format!("{} {reply_text}", method.name())
            }
            _ => method.name().to_owned(),
        };
        names.push((channel, name));
    }
    names
}

/// A passive queue.declare.
pub fn passive(queue: &str) -> Method<'_> {
    Method::QueueDeclare {
        ticket: 0,
        queue,
        passive: true,
        durable: false,
        exclusive: false,
        auto_delete: false,
        nowait: false,
        arguments: Table::EMPTY,
    }
}
