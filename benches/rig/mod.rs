//! Whole pure brokers in one thread, for measurements and tests: no sockets, no clock, no rings.

#![allow(dead_code, reason = "every user needs a part")]

use amqp::methods::Method;
use amqp::{Frame, Parser, Properties, Table, frame};
use bytes::Bytes;
use model::{ConnId, Now, ShardId};
use ringtail::shard::{
    Batch, ConnInfo, Coordinator, CoordinatorConfig, Outbox, Place, Shard, ShardConfig,
};

/// Shards and their coordinator.
pub struct Rig {
    shards: Vec<Shard>,
    coordinator: Coordinator,
    now: Now,
    /// Octets that went from one shard to another.
    crossed: Vec<Vec<usize>>,
}

/// A client on one of the shards.
#[derive(Clone, Copy)]
pub struct Client {
    shard: usize,
    conn: ConnId,
}

impl Rig {
    /// A broker of so many shards.
    pub fn new(shards: u16) -> Self {
        Self::placed(shards, Place::Balanced)
    }

    /// A broker whose queues are placed so.
    pub fn placed(shards: u16, place: Place) -> Self {
        let config = CoordinatorConfig {
            shards,
            seed: 1,
            default_user: "guest".into(),
            default_pass: "guest".into(),
            default_vhost: "/".into(),
            loopback_users: vec!["guest".into()],
            memory_limit: u64::MAX,
            place,
        };
        let shard = |id| Shard::new(ShardConfig::new(ShardId(id), shards, u64::from(id) + 1));
        let mut rig = Self {
            shards: (0..shards).map(shard).collect(),
            coordinator: Coordinator::new(config),
            now: Now::default(),
            crossed: vec![vec![0; usize::from(shards)]; usize::from(shards)],
        };
        rig.settle();
        rig
    }

    /// A client with channel 1 open.
    pub fn client(&mut self, shard: usize) -> Client {
        let address = ([127, 0, 0, 1], 1).into();
        let conn = self.shards[shard].opened(ConnInfo { peer: address, local: address }, self.now);
        let client = Client { shard, conn };
        self.send(client, &amqp::PROTOCOL_HEADER);
        self.call(
            client,
            0,
            &Method::ConnectionStartOk {
                client_properties: Table::EMPTY,
                mechanism: "PLAIN",
                response: b"\0guest\0guest",
                locale: "en_US",
            },
        );
        let (channel_max, frame_max, heartbeat) = (2047, 131_072, 0);
        self.call(client, 0, &Method::ConnectionTuneOk { channel_max, frame_max, heartbeat });
        let open = Method::ConnectionOpen { virtual_host: "/", capabilities: "", insist: false };
        self.call(client, 0, &open);
        self.call(client, 1, &Method::ChannelOpen { out_of_band: "" });
        client
    }

    /// Sends a method and takes what the client gets.
    pub fn call(&mut self, client: Client, channel: u16, method: &Method<'_>) -> Vec<u8> {
        let mut octets = Vec::new();
        frame::write_method(&mut octets, channel, method);
        self.send(client, &octets)
    }

    /// Declares the queue `q`.
    pub fn declare(&mut self, client: Client) {
        let method = Method::QueueDeclare {
            ticket: 0,
            queue: "q",
            passive: false,
            durable: false,
            exclusive: false,
            auto_delete: false,
            nowait: false,
            arguments: Table::EMPTY,
        };
        self.call(client, 1, &method);
    }

    /// Consumes from the queue `q`.
    pub fn consume(&mut self, client: Client, no_ack: bool) {
        let method = Method::BasicConsume {
            ticket: 0,
            queue: "q",
            consumer_tag: "c",
            no_local: false,
            no_ack,
            exclusive: false,
            nowait: false,
            arguments: Table::EMPTY,
        };
        self.call(client, 1, &method);
    }

    /// Sends octets and takes what the client gets.
    pub fn send(&mut self, client: Client, octets: &[u8]) -> Vec<u8> {
        let chunk = Bytes::copy_from_slice(octets);
        self.shards[client.shard].receive(client.conn, &chunk, self.now);
        self.settle();
        self.take(client)
    }

    /// Gives a client's octets to its shard and lets everything settle.
    pub fn publish(&mut self, client: Client, chunk: &Bytes) {
        self.shards[client.shard].receive(client.conn, chunk, self.now);
        self.settle();
    }

    /// What a client gets, as one sequence of octets.
    pub fn take(&mut self, client: Client) -> Vec<u8> {
        let mut octets = Vec::new();
        self.take_into(client, &mut Outbox::default(), &mut octets);
        octets
    }

    /// What a client gets, through buffers that are used again.
    pub fn take_into(&mut self, client: Client, outbox: &mut Outbox, octets: &mut Vec<u8>) {
        let shard = &mut self.shards[client.shard];
        while shard.next_dirty().is_some() {}
        outbox.clear();
        if let Some(out) = shard.outbox(client.conn) {
            out.drain_into(outbox);
        }
        let mut slices = Vec::with_capacity(1024);
        outbox.slices(0, &mut slices);
        slices.iter().for_each(|slice| octets.extend_from_slice(slice));
        shard.written(client.conn, outbox.len(), self.now);
        self.settle();
    }

    /// Octets that went from one shard to another since the last time.
    pub fn crossed(&mut self, from: usize, to: usize) -> usize {
        std::mem::take(&mut self.crossed[from][to])
    }

    /// Carries batches until nothing moves.
    fn settle(&mut self) {
        let coordinator = ShardId(self.shards.len() as u16);
        loop {
            let mut moved = false;
            for from in 0..self.shards.len() {
                self.shards[from].end_turn(self.now);
                let from_id = ShardId(from as u16);
                for to in 0..self.shards.len() {
                    let mut batch = std::mem::take(self.shards[from].outbound(ShardId(to as u16)));
                    moved |= !batch.is_empty();
                    self.crossed[from][to] += batch.octets();
                    self.shards[to].mesh(from_id, &mut batch, self.now);
                    give_back(self.shards[from].outbound(ShardId(to as u16)), batch);
                }
                let mut batch = std::mem::take(self.shards[from].outbound(coordinator));
                moved |= !batch.is_empty();
                self.coordinator.mesh(from_id, &mut batch, self.now);
                let mut batch = std::mem::take(self.coordinator.outbound(from_id));
                moved |= !batch.is_empty();
                self.shards[from].mesh(coordinator, &mut batch, self.now);
            }
            if !moved {
                return;
            }
        }
    }
}

fn give_back(place: &mut Batch, batch: Batch) {
    if place.is_empty() {
        *place = batch;
    }
}

/// Publishes to a queue through the default exchange, `count` of them.
pub fn publishes(queue: &str, size: usize, count: usize) -> Bytes {
    let mut octets = Vec::new();
    let method = Method::BasicPublish {
        ticket: 0,
        exchange: "",
        routing_key: queue,
        mandatory: false,
        immediate: false,
    };
    for _ in 0..count {
        frame::write_method(&mut octets, 1, &method);
        frame::write_header(&mut octets, 1, size as u64, Properties::EMPTY.encoded());
        frame::write_body(&mut octets, 1, &vec![b'x'; size], 131_072);
    }
    octets.into()
}

/// How many deliveries octets hold, and the tag of the last.
pub fn deliveries(octets: &[u8]) -> (usize, u64) {
    let (mut parser, mut at, mut found) = (Parser::new(0), 0, (0, 0));
    while let Ok(Some(frame)) = parser.next(octets, &mut at) {
        if let Frame::Method { payload, .. } = frame
            && let Ok(Method::BasicDeliver { delivery_tag, .. }) = Method::read(payload)
        {
            found = (found.0 + 1, delivery_tag);
        }
    }
    found
}
