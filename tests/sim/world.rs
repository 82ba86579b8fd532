//! The broker of one run and its sockets, moved by dice under a virtual clock. Whatever real
//! threads, sockets and disks may do in any order happens here in any order.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher};
use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use fastrand::Rng;
use model::{ConnId, Now, Outbox};
use ringtail::sessions::ConnInfo;
use ringtail::shard::{Gate, Shard};

use crate::broker::{Broker, Disks, Setup};
use crate::client::{Client, Manner, Stage};
use crate::history::History;
use crate::inspect::Inspector;
use crate::plan::Plan;
use crate::raid::Raids;

/// At most so many bytes are read from a socket at once.
const READ_MAX: usize = 64 * 1024;

/// Units of work in a turn: of some seeds so few that most things take several turns.
const TURN_WORK: [u32; 4] = [8, 100, 20, 8192];

/// A socket between a client and a shard, with both of its ends.
pub struct Link {
    /// The client's end.
    pub client: Client,
    /// The shard it was given to.
    pub shard: usize,
    /// The shard's name for it.
    pub conn: ConnId,
    /// Output that left the shard, but not the shell.
    pending: Outbox,
    from: usize,
    /// Bytes that left the shell, but were not read by the client.
    down: VecDeque<u8>,
    gate: Gate,
    /// The shard knows the connection.
    pub alive: bool,
}

/// An input of a shard's turn.
enum Input {
    Read(usize),
    Mesh(usize),
}

/// The largest values seen of what has a bound.
#[derive(Debug, Default, Clone, Copy)]
pub struct Marks {
    /// Bytes in an outbox, and in what the shell took from it.
    pub outbox: usize,
    /// Bytes in an outbound batch.
    pub batch: usize,
    /// Units of work that a turn did beyond its bound.
    pub overworked: u64,
}

/// The broker and everybody who talks to it.
pub struct World {
    /// The dice.
    pub rng: Rng,
    /// What clients saw.
    pub h: History,
    /// The run's choices.
    pub plan: Plan,
    /// The virtual time.
    pub now: Now,
    /// Every connection there ever was.
    pub links: Vec<Link>,
    /// The bounds that were reached.
    pub marks: Marks,
    /// Who asks from outside.
    pub inspector: Inspector,
    /// Clients that mean harm.
    pub raids: Raids,
    /// Shards, coordinator and rings.
    pub broker: Broker,
    disks: Disks,
    output: DefaultHasher,
}

/// Deadlines of queues within this time are waited for; what a queue holds is due earlier.
const SOON_US: u64 = 10_000;

impl World {
    /// The world of a seed.
    pub fn new(seed: u64, trace: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let plan = Plan::new(&mut rng);
        let mut h = History { trace: trace.then(Vec::new), ..History::default() };
        h.queues = crate::names::QUEUES.iter().map(|queue| queue.name.to_string()).collect();
        let setup = Setup {
            shards: plan.shards,
            cross: plan.cross,
            ring: plan.ring,
            seed: rng.u64(..),
            memory_limit: plan.memory_limit,
            resident_max: plan.resident_max,
            receiving_max: plan.receiving_max,
            turn_work: TURN_WORK[(seed % 4) as usize],
            store: plan.store,
        };
        let mut disks = Disks::default();
        let broker = Broker::start(&setup, &mut disks).expect("the disks are empty");
        let now = Now { monotonic_us: 1_000_000, wall_ms: 1_700_000_000_000 };
        h.now_us = now.monotonic_us;
        h.note(|| format!("{plan:?}"));
        Self {
            rng,
            h,
            plan,
            now,
            broker,
            disks,
            links: Vec::new(),
            marks: Marks::default(),
            inspector: Inspector::default(),
            raids: Raids::new(seed),
            output: DefaultHasher::new(),
        }
    }

    /// A hash of all bytes that went to clients.
    pub fn output(&self) -> u64 {
        self.output.finish()
    }

    /// A client connects to some shard.
    pub fn connect(&mut self, channels: usize, heartbeat: u16) -> usize {
        let shard = self.rng.usize(..self.broker.shards.len());
        let mut client = Client::new(&mut self.h, &mut self.rng, channels);
        client.heartbeat = heartbeat;
        client.sent_us = self.now.monotonic_us;
        // The port tells connections apart in a trace.
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000 + self.links.len() as u16));
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 5672));
        let conn = self.broker.shards[shard].opened(ConnInfo { peer, local }, self.now);
        self.h.note(|| format!("conn {} connects to shard {shard}", client.conn));
        self.links.push(Link {
            client,
            shard,
            conn,
            pending: Outbox::default(),
            from: 0,
            down: VecDeque::new(),
            gate: Gate::Open,
            alive: true,
        });
        self.end_turn(shard);
        self.links.len() - 1
    }

    /// The virtual time goes on.
    pub fn pass(&mut self, microseconds: u64) {
        self.now.monotonic_us += microseconds;
        self.now.wall_ms = 1_700_000_000_000 + self.now.monotonic_us / 1000;
        self.h.passed(self.now.monotonic_us);
    }

    /// A turn of a shard with some of its inputs, or with all.
    pub fn turn(&mut self, shard: usize, eager: bool) {
        let mut inputs = Vec::new();
        for (at, link) in self.links.iter().enumerate() {
            let readable = link.alive && link.shard == shard && !link.client.out.is_empty();
            if readable && (eager || self.rng.u8(..3) != 0) {
                inputs.push(Input::Read(at));
            }
        }
        let arrived = self.broker.arrived(shard, eager, &mut self.rng);
        inputs.extend(arrived.into_iter().map(Input::Mesh));
        self.rng.shuffle(&mut inputs);
        for input in inputs {
            match input {
                Input::Read(at) => self.read(at, eager),
                Input::Mesh(from) => {
                    let all = self.rng.bool();
                    self.broker.take(from, shard, all, self.now);
                }
            }
        }
        self.raid_on(shard);
        self.finish_turn(shard, eager);
    }

    /// The rest of a turn, when its inputs were taken.
    pub fn finish_turn(&mut self, shard: usize, eager: bool) {
        if self.broker.shards[shard].holds_consumers_back() {
            self.h.hold_back();
        }
        for at in 0..self.links.len() {
            if self.links[at].alive && self.links[at].shard == shard {
                self.write(at, eager);
                self.hang_up(at, eager);
            }
        }
        let due = self.broker.shards[shard].next_deadline_us();
        if due.is_some_and(|due| due <= self.now.monotonic_us) && (eager || self.rng.bool()) {
            self.broker.shards[shard].tick(self.now);
        }
        self.end_turn(shard);
    }

    /// What one client has sent reaches its shard at once, before anything from other shards.
    pub fn rush(&mut self, at: usize) {
        self.links[at].client.pump(&mut self.rng, true);
        self.read(at, true);
        self.end_turn(self.links[at].shard);
    }

    fn read(&mut self, at: usize, eager: bool) {
        let link = &mut self.links[at];
        if !link.alive || link.gate != Gate::Open {
            return;
        }
        let most = link.client.out.len().min(READ_MAX);
        if most == 0 {
            return;
        }
        let taken = match self.rng.u8(..4) {
            _ if eager => most,
            0 => self.rng.usize(1..=most.min(20)),
            1 => self.rng.usize(1..=most),
            _ => most,
        };
        let chunk: Bytes = link.client.out.take(taken).into();
        self.broker.moved = true;
        self.broker.shards[link.shard].receive(link.conn, &chunk, self.now);
        // The shell reads into this buffer again if nobody holds a slice of it.
        if let Ok(mut buffer) = chunk.try_into_mut() {
            buffer.fill(0xAA);
        }
    }

    /// The coordinator's thread runs.
    pub fn coordinate(&mut self, eager: bool) {
        self.broker.coordinate(eager, self.now);
        self.take_coordinator_answers();
    }

    /// The disk carries out some operations, or all.
    pub fn disk_works(&mut self, eager: bool) {
        let most = if eager { 100 } else { self.rng.usize(..4) };
        for _ in 0..most {
            self.broker.disk_step(&mut self.disks, &mut self.rng, self.now);
        }
    }

    /// Output goes on the rings and to the sockets.
    pub fn end_turn(&mut self, shard: usize) {
        self.broker.end_turn(shard, &mut self.disks, self.now);
        self.take_shard_answers(shard);
        self.marks.batch = self.broker.batch_max;
        self.marks.overworked = self.broker.overworked;
        while let Some(conn) = self.broker.shards[shard].next_dirty() {
            let place = self.links.iter().position(|link| link.alive && link.conn == conn);
            let Some(link) = place.map(|at| &mut self.links[at]) else {
                self.raider_told(shard, conn);
                continue;
            };
            if let Some(outbox) = self.broker.shards[shard].outbox(conn) {
                self.broker.moved |= !outbox.is_empty();
                outbox.drain_into(&mut link.pending);
            }
            let gate = self.broker.shards[shard].gate(conn);
            self.broker.moved |= gate != link.gate;
            link.gate = gate;
            self.marks.outbox = self.marks.outbox.max(link.pending.len() - link.from);
        }
    }

    /// The shell writes to the socket what it takes.
    fn write(&mut self, at: usize, eager: bool) {
        let (limit, gone) = (self.plan.socket, self.links[at].client.stage == Stage::Gone);
        let link = &mut self.links[at];
        let room = if gone { usize::MAX } else { limit.saturating_sub(link.down.len()) };
        let most = (link.pending.len() - link.from).min(room);
        if most == 0 {
            return;
        }
        let wanted = if eager || self.rng.bool() { most } else { self.rng.usize(1..=most) };
        let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(64);
        link.pending.slices(link.from, &mut slices);
        let mut left = wanted;
        for slice in &slices {
            let part = &slice[..slice.len().min(left)];
            left -= part.len();
            self.output.write(part);
            if !gone {
                link.down.extend(part);
            }
        }
        let sent = wanted - left;
        link.from += sent;
        if link.from == link.pending.len() {
            link.pending.clear();
            link.from = 0;
        }
        self.broker.moved = true;
        self.broker.shards[link.shard].written(link.conn, sent, self.now);
    }

    /// A connection ends, for whatever reason.
    fn hang_up(&mut self, at: usize, eager: bool) {
        let link = &mut self.links[at];
        let flushed = link.pending.len() == link.from;
        let over = match link.gate {
            Gate::Closing => flushed || link.client.manner == Manner::Deaf,
            // An error of the socket is seen whether it is read or not.
            _ => link.client.stage == Stage::Gone && link.client.out.is_empty(),
        };
        if over && (eager || self.rng.bool()) {
            link.alive = false;
            self.broker.moved = true;
            self.broker.shards[link.shard].closed(link.conn, self.now);
        }
    }

    /// The client reads some of what arrived.
    pub fn client_reads(&mut self, at: usize, eager: bool) {
        let link = &mut self.links[at];
        if link.client.stage == Stage::Gone || link.client.manner == Manner::Deaf {
            return;
        }
        let most = link.down.len();
        if most > 0 {
            let taken = if eager { most } else { self.rng.usize(1..=most) };
            let (one, two) = link.down.as_slices();
            let cut = taken.min(one.len());
            let bytes = [&one[..cut], &two[..taken - cut]].concat();
            link.down.drain(..taken);
            self.broker.moved = true;
            link.client.read(&bytes, &mut self.h);
        }
        if !link.alive && link.down.is_empty() {
            link.client.end_of_stream(&mut self.h);
        }
    }

    /// The client's socket closes; some of what it sent last is lost.
    pub fn vanish(&mut self, at: usize) {
        let link = &mut self.links[at];
        if self.rng.bool() {
            link.client.pump(&mut self.rng, true);
        }
        let kept = self.rng.usize(..=link.client.out.len());
        // A paused socket's buffer is never read again.
        let kept = if link.gate == Gate::Open { kept } else { 0 };
        link.client.out.truncate(kept);
        link.client.vanish(&mut self.h);
    }

    /// One more ring stands still for a while.
    pub fn stall(&mut self, turns: usize) {
        self.broker.stall(turns, &mut self.rng);
    }

    /// Every ring between shards stands still for a while.
    pub fn stall_all(&mut self, turns: usize) {
        self.broker.stall_all(turns);
    }

    /// Every shard has a turn.
    pub fn turn_all(&mut self) {
        for shard in 0..self.broker.shards.len() {
            self.turn(shard, true);
        }
    }

    /// Whether the shell would not read this connection now.
    pub fn paused(&self, at: usize) -> bool {
        self.links[at].gate == Gate::Paused
    }

    /// Runs until nothing moves; then every reply must have arrived.
    pub fn quiet(&mut self) {
        self.stall_all(0);
        for round in 0.. {
            self.broker.moved = false;
            for shard in 0..self.broker.shards.len() {
                self.turn(shard, true);
            }
            self.coordinate(true);
            self.disk_works(true);
            for at in 0..self.links.len() {
                if self.links[at].client.stage != Stage::Gone {
                    self.links[at].client.pump(&mut self.rng, true);
                }
                let link = &self.links[at];
                self.broker.moved |=
                    link.alive && link.gate == Gate::Open && !link.client.out.is_empty();
                self.client_reads(at, true);
            }
            self.pass(10);
            if self.h.failure.is_some() || !(self.broker.moved || self.wait_for_queues()) {
                break;
            }
            if round > 20_000 {
                return self.h.fail(|| "the broker never comes to rest".into());
            }
        }
        self.check_rest();
        if self.h.failure.is_some() && self.h.trace.is_some() {
            eprintln!("{:#?}", self.broker.shards);
        }
        self.h.quiet();
        if self.broker.shards.iter().any(Shard::holds_consumers_back) {
            self.h.hold_back();
        }
        if self.h.failure.is_none() {
            self.check_lists();
        }
    }

    /// Passes the time until the next deadline of a queue; false if no queue has one soon.
    fn wait_for_queues(&mut self) -> bool {
        let due = self.broker.shards.iter().filter_map(Shard::next_queue_deadline_us).min();
        let soon = self.now.monotonic_us + SOON_US;
        let Some(due) = due.filter(|due| *due < soon) else { return false };
        self.pass(due.saturating_sub(self.now.monotonic_us));
        true
    }

    /// At rest, clients that read wait for nothing, and everything they sent was read.
    fn check_rest(&mut self) {
        for link in &self.links {
            if link.client.stage == Stage::Gone {
                if link.alive {
                    self.h.fail(|| format!("conn {} is not given up", link.client.conn));
                }
                continue;
            }
            if link.client.manner != Manner::Reads {
                continue;
            }
            let conn = link.client.conn;
            if let Some(owed) = link.client.owed() {
                self.h.fail(|| format!("conn {conn} waits for ever for {owed}"));
            }
            if link.gate != Gate::Open || !link.client.out.is_empty() {
                let (gate, left) = (link.gate, link.client.out.len());
                self.h.fail(|| format!("conn {conn} is {gate:?} for ever with {left} bytes"));
            }
        }
    }

    /// What the shards hold when nobody is connected.
    pub fn leftovers(&self) -> Vec<usize> {
        if self.h.trace.is_some() {
            eprintln!("{:#?}", self.broker.shards);
        }
        self.broker.shards.iter().map(Shard::leftovers).collect()
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.broker.shards.len()
    }
}
