//! A whole pure broker in one thread, moved by hand: bytes in, bytes out, no sockets, no clock, and
//! a disk that answers at once. Tests and benches share it.
//!
//! Beside it stand [`frames`] (what clients send, and how to read what they get) and, for the
//! simulations, `broker.rs` (shards, rings and disks that dice move) and `seeds.rs` (many seeds on
//! all cores).

#![allow(dead_code, reason = "every user needs a part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod frames;

pub use frames::*;

use std::collections::BTreeMap;

use amqp::{Method, TableWriter, Value};
use bytes::Bytes;
use model::access::command::{AdminAnswer, AdminCommand};
use model::{BodyCounts, ConnId, Entropy, Now, Outbox, ShardId};
use ringtail::coordinator::{Coordinator, CoordinatorConfig, QueuePlacement};
use ringtail::mesh::Batch;
use ringtail::mesh::inspect::{CoordinatorAnswer, CoordinatorRequest, InspectId};
use ringtail::sessions::ConnInfo;
use ringtail::shard::{Gate, Shard, ShardConfig};
use ringtail::store::{Cause, DiskError, Done, FileName, Op, Work};

/// Shards and their coordinator.
pub struct Rig {
    pub shards: Vec<Shard>,
    coordinator: Coordinator,
    files: BTreeMap<FileName, Vec<u8>>,
    /// Bytes that went from one shard to another.
    crossed: Vec<Vec<usize>>,
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

    /// A broker of so many shards whose queues are where they are declared, or where there are the
    /// fewest.
    pub fn balanced(shards: u16) -> Self {
        Self::built(shards, u64::MAX, QueuePlacement::Balanced, |_| {})
    }

    /// One with another memory limit, and shards with another configuration.
    pub fn configured(shards: u16, memory_limit: u64, change: impl Fn(&mut ShardConfig)) -> Self {
        let placement = if shards > 1 { QueuePlacement::Cross } else { QueuePlacement::Balanced };
        Self::built(shards, memory_limit, placement, change)
    }

    fn built(
        shards: u16,
        memory_limit: u64,
        placement: QueuePlacement,
        change: impl Fn(&mut ShardConfig),
    ) -> Self {
        let config = CoordinatorConfig {
            loopback_users: vec!["guest".into()],
            memory_limit,
            placement,
            ..CoordinatorConfig::new(shards, Entropy::from_seed(1))
        };
        let bodies = BodyCounts::new(shards);
        let shard = |id| {
            let mut config = ShardConfig::new(ShardId(id), shards, Entropy::from_seed(1));
            change(&mut config);
            let mut shard = Shard::new(config);
            shard.count_bodies(&bodies);
            shard
        };
        let mut rig = Self {
            files: BTreeMap::new(),
            crossed: vec![vec![0; usize::from(shards)]; usize::from(shards)],
            unreadable: false,
            shards: (0..shards).map(shard).collect(),
            coordinator: Coordinator::new(config),
            now: Now::default(),
        };
        rig.settle();
        rig
    }

    /// A connection that has sent nothing yet.
    pub fn accepted(&mut self, shard: usize) -> Client {
        let address = ([127, 0, 0, 1], 1).into();
        let info = ConnInfo { peer: address, local: address };
        Client { shard, conn: self.shards[shard].opened(info, self.now) }
    }

    /// A client of a user that has sent its login and what follows it; the results wait.
    pub fn arriving(&mut self, shard: usize, user: &str, vhost: &str) -> Client {
        let client = self.accepted(shard);
        let response = format!("\0{user}\0{user}");
        let start_ok = Method::ConnectionStartOk {
            client_properties: amqp::Table::EMPTY,
            mechanism: "PLAIN",
            response: response.as_bytes(),
            locale: "en_US",
        };
        let (channel_max, frame_max, heartbeat) = (2047, 131_072, 0);
        let tune_ok = Method::ConnectionTuneOk { channel_max, frame_max, heartbeat };
        let channel = Method::ChannelOpen { out_of_band: "" };
        let methods = [(0, &start_ok), (0, &tune_ok), (0, &open(vhost)), (1, &channel)];
        let frames = methods.map(|(channel, method)| encoded(channel, method));
        let bytes = [&amqp::PROTOCOL_HEADER[..], &frames.concat()].concat();
        self.receive(client, &bytes);
        client
    }

    /// A client that is logged in and tuned.
    pub fn tuned(&mut self, shard: usize) -> Client {
        self.tuned_to(shard, (2047, 131_072, 0))
    }

    /// One with this channel_max, frame_max and heartbeat.
    pub fn tuned_to(
        &mut self,
        shard: usize,
        (channel_max, frame_max, heartbeat): (u16, u32, u16),
    ) -> Client {
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

    /// Sends a method and returns what the client gets.
    pub fn call(&mut self, client: Client, channel: u16, method: &Method<'_>) -> Vec<u8> {
        self.send(client, &encoded(channel, method))
    }

    /// Sends bytes and returns what the client gets.
    pub fn send(&mut self, client: Client, bytes: &[u8]) -> Vec<u8> {
        self.receive(client, bytes);
        self.settle();
        self.take(client)
    }

    /// Gives a client's bytes to its shard and lets everything settle; the bytes are not copied.
    pub fn publish(&mut self, client: Client, chunk: &Bytes) {
        self.shards[client.shard].receive(client.conn, chunk, self.now);
        self.settle();
    }

    /// Gives a client's bytes to its shard; the results wait.
    pub fn receive(&mut self, client: Client, bytes: &[u8]) {
        let chunk = Bytes::copy_from_slice(bytes);
        self.shards[client.shard].receive(client.conn, &chunk, self.now);
    }

    /// What a client gets; then everything settles.
    pub fn take(&mut self, client: Client) -> Vec<u8> {
        let bytes = self.take_now(client);
        self.settle();
        bytes
    }

    /// What a client gets.
    pub fn take_now(&mut self, client: Client) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.take_into(client, &mut Outbox::default(), &mut bytes);
        bytes
    }

    /// What a client gets, through buffers that are used again.
    pub fn take_into(&mut self, client: Client, outbox: &mut Outbox, bytes: &mut Vec<u8>) {
        let shard = &mut self.shards[client.shard];
        while shard.next_dirty().is_some() {}
        outbox.clear();
        if let Some(out) = shard.outbox(client.conn) {
            out.drain_into(outbox);
        }
        let mut slices = Vec::with_capacity(1024);
        outbox.slices(0, &mut slices);
        // In short pieces: for long ones memcpy may choose an instruction that valgrind counts once
        // a byte, depending on addresses, and counts of instructions would not be exact.
        let pieces = slices.iter().flat_map(|slice| slice.chunks(1024));
        pieces.for_each(|piece| bytes.extend_from_slice(piece));
        shard.written(client.conn, outbox.len(), self.now);
    }

    /// Bytes that went from one shard to another since the last time.
    pub fn crossed(&mut self, from: usize, to: usize) -> usize {
        std::mem::take(&mut self.crossed[from][to])
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

    /// Tells the coordinator what an administrator wants; the results wait.
    pub fn administer(&mut self, id: u64, command: AdminCommand) {
        let request = CoordinatorRequest::Admin(Box::new(command));
        self.coordinator.inspect(InspectId(id), request, self.now);
    }

    /// The number of the next command that is answered, and what the answer is.
    pub fn administered(&mut self) -> Option<(u64, AdminAnswer)> {
        match self.coordinator.next_inspected()? {
            (InspectId(id), CoordinatorAnswer::Admin(answer)) => Some((id, answer)),
            other => panic!("nobody asked for {other:?}"),
        }
    }

    /// The shard of a queue of the vhost `/`.
    pub fn home(&self, queue: &str) -> Option<ShardId> {
        let vhost = self.coordinator.topology().vhost("/");
        vhost.and_then(|vhost| vhost.queue(queue)).map(|queue| queue.spec.home)
    }

    /// Bytes of memory that count for the alarm, as far as the coordinator knows.
    pub fn counted_by_coordinator(&self) -> u64 {
        self.coordinator.counted_memory()
    }

    /// What all shards hold for clients.
    pub fn leftovers(&self) -> usize {
        self.shards.iter().map(Shard::leftovers).sum()
    }

    /// A shard does what is due by now.
    pub fn tick(&mut self, shard: usize) {
        self.tick_now(shard);
        self.settle();
    }

    /// A shard does what is due by now; the results wait.
    pub fn tick_now(&mut self, shard: usize) {
        self.shards[shard].tick(self.now);
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

    fn carry_out(&mut self, file: FileName, work: Work) -> Result<Bytes, DiskError> {
        match work {
            Work::Write { at, pieces, .. } => {
                let (at, bytes) = (at as usize, pieces.concat());
                let content = self.files.entry(file).or_default();
                content.resize(content.len().max(at + bytes.len()), 0);
                content[at..at + bytes.len()].copy_from_slice(&bytes);
            }
            Work::Read { .. } if self.unreadable => {
                let (doing, why) = (format!("read {file}"), "the test says so".to_owned());
                return Err(DiskError { doing, why, cause: Cause::Other });
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
            self.crossed[from][to] += batch.bytes();
            self.shards[to].mesh(from_id, &mut batch, self.now);
            give_back(self.shards[from].outbound(ShardId(to as u16)), batch);
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

/// A sender gets its batch back, as from a ring, unless it has begun another.
fn give_back(place: &mut Batch, batch: Batch) {
    if place.is_empty() {
        *place = batch;
    }
}
