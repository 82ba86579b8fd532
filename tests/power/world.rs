//! The broker of one run, its sockets and its ends: it crashes or stops, restarts from the disks,
//! and clients connect again.

use std::collections::BTreeSet;

use bytes::Bytes;
use fastrand::Rng;
use model::topology::spec::{Binding, Destination};
use model::{Arguments, ConnId, Now, Outbox};
use ringtail::sessions::ConnInfo;
use ringtail::shard::{Gate, Shard};
use ringtail::store::{StoreConfig, SyncPolicy};

use crate::books::{BOUND, Books, CopyId, End, FANOUT, MORTAL, QUEUES, TRANSIENT};
use crate::broker::{Broker, Disks, Setup, small_store};
use crate::client::{Client, Mode};

/// At least as long as the store waits until it tries a write again.
const RETRY_US: u64 = 1_000_000;

/// A socket with both of its ends.
pub struct Link {
    /// The client's end.
    pub client: Client,
    shard: usize,
    conn: ConnId,
    /// Output that left the shard, but not the shell.
    pending: Outbox,
    /// Bytes that the client has not read.
    down: Vec<u8>,
    alive: bool,
}

/// All parts of a run.
pub struct World {
    /// The dice.
    pub rng: Rng,
    /// The judge.
    pub books: Books,
    /// The connections since the last start.
    pub links: Vec<Link>,
    /// The disks of the broker.
    pub disks: Disks,
    /// The running broker.
    pub broker: Broker,
    /// Its confirms do not wait for stable storage.
    relaxed: bool,
    now: Now,
    connected: usize,
}

fn setup(rng: &mut Rng) -> Setup {
    Setup {
        shards: rng.u16(1..=3),
        cross: rng.bool(),
        ring: rng.usize(1..6),
        seed: rng.u64(..),
        memory_limit: u64::MAX,
        resident_max: [0, 5000, 20_000, usize::MAX][rng.usize(..4)],
        receiving_max: usize::MAX,
        turn_work: 50,
        store: StoreConfig { durability: durability(rng), ..small_store(rng) },
    }
}

fn durability(rng: &mut Rng) -> SyncPolicy {
    match rng.u8(..3) {
        0 => SyncPolicy::Relaxed { every_ms: rng.u64(1..60) },
        _ => SyncPolicy::Strict,
    }
}

fn is_relaxed(setup: &Setup) -> bool {
    setup.store.durability != SyncPolicy::Strict
}

/// Deadlines of queues within this time are waited for.
const SOON_US: u64 = 10_000;
/// How long the broker may be stopped, in microseconds.
const STOPPED_US: u64 = 6_000_000;

impl World {
    /// The world of a seed, with a broker that starts for the first time.
    pub fn new(seed: u64, trace: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut disks = Disks::default();
        let setup = setup(&mut rng);
        let broker = Broker::start(&setup, &mut disks).expect("the disks are empty");
        Self {
            rng,
            books: Books::new(trace),
            links: Vec::new(),
            disks,
            broker,
            relaxed: is_relaxed(&setup),
            now: Now { monotonic_us: 1_000_000, wall_ms: 1_700_000_000_000 },
            connected: 0,
        }
    }

    /// A rule was broken.
    pub fn broken(&self) -> bool {
        self.books.failure.is_some()
    }

    /// A client connects to some shard.
    pub fn connect(&mut self, mode: Mode) -> usize {
        let shard = self.rng.usize(..self.broker.shards.len());
        let address = ([127, 0, 0, 1], 1).into();
        let info = ConnInfo { peer: address, local: address };
        let id = self.connected;
        self.books.note(|| format!("client {id} connects to shard {shard}, {mode:?}"));
        let conn = self.broker.shards[shard].opened(info, self.now);
        let client = Client::new(self.connected, mode);
        self.connected += 1;
        let (pending, down) = (Outbox::default(), Vec::new());
        self.links.push(Link { client, shard, conn, pending, down, alive: true });
        self.end_turn(shard);
        self.links.len() - 1
    }

    /// Time passes, and one part acts.
    pub fn jostle(&mut self) {
        let microseconds = self.rng.u64(1..3000);
        self.pass(microseconds);
        match self.rng.u8(..4) {
            0 | 1 => {
                let shard = self.rng.usize(..self.broker.shards.len());
                self.turn(shard, false);
            }
            2 => {
                self.broker.coordinate(false, self.now);
                self.disk_step();
                if self.rng.u8(..30) == 0 {
                    self.broker.stall(20, &mut self.rng);
                }
            }
            _ if !self.links.is_empty() => {
                let at = self.rng.usize(..self.links.len());
                self.client_reads(at, false);
            }
            _ => {}
        }
    }

    fn disk_step(&mut self) {
        self.broker.disk_step(&mut self.disks, &mut self.rng, self.now);
    }

    fn turn(&mut self, shard: usize, eager: bool) {
        for from in self.broker.arrived(shard, eager, &mut self.rng) {
            let all = self.rng.bool();
            self.broker.take(from, shard, all, self.now);
        }
        for at in 0..self.links.len() {
            if self.links[at].alive && self.links[at].shard == shard {
                self.socket(at, eager);
            }
        }
        let due = self.broker.shards[shard].next_queue_deadline_us();
        if due.is_some_and(|due| due <= self.now.monotonic_us) && (eager || self.rng.bool()) {
            self.broker.shards[shard].tick(self.now);
        }
        self.end_turn(shard);
    }

    /// A connection's shard reads and writes.
    fn socket(&mut self, at: usize, eager: bool) {
        let (link, rng) = (&mut self.links[at], &mut self.rng);
        let shard = &mut self.broker.shards[link.shard];
        if shard.gate(link.conn) == Gate::Open && !link.client.out.is_empty() {
            let most = link.client.out.len();
            let taken = if eager || rng.bool() { most } else { rng.usize(1..=most) };
            let chunk: Bytes = link.client.out.drain(..taken).collect::<Vec<u8>>().into();
            shard.receive(link.conn, &chunk, self.now);
            self.broker.moved = true;
        }
        if !link.pending.is_empty() && (eager || rng.bool()) {
            let mut slices = Vec::with_capacity(4096);
            link.pending.slices(0, &mut slices);
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            link.down.extend(&bytes);
            link.pending.clear();
            shard.written(link.conn, bytes.len(), self.now);
            self.broker.moved = true;
        }
        if shard.gate(link.conn) == Gate::Closing && link.pending.is_empty() {
            link.alive = false;
            shard.closed(link.conn, self.now);
            self.broker.moved = true;
        }
    }

    fn end_turn(&mut self, shard: usize) {
        self.broker.end_turn(shard, &mut self.disks, self.now);
        while let Some(conn) = self.broker.shards[shard].next_dirty() {
            let link = self.links.iter_mut().find(|link| link.alive && link.conn == conn);
            if let Some(link) = link
                && let Some(outbox) = self.broker.shards[shard].outbox(conn)
            {
                outbox.drain_into(&mut link.pending);
                self.broker.moved = true;
            }
        }
    }

    fn client_reads(&mut self, at: usize, eager: bool) {
        let link = &mut self.links[at];
        let most = link.down.len();
        if most > 0 && !link.client.gone {
            let taken = if eager { most } else { self.rng.usize(1..=most) };
            let bytes: Vec<u8> = link.down.drain(..taken).collect();
            link.client.read(&bytes, &mut self.books);
            self.broker.moved = true;
        }
    }

    /// Runs until nothing moves. False if the broker failed meanwhile.
    pub fn settle(&mut self) -> bool {
        self.broker.stall_all(0);
        for _ in 0..20_000 {
            self.broker.moved = false;
            for shard in 0..self.broker.shards.len() {
                self.turn(shard, true);
            }
            self.broker.coordinate(true, self.now);
            (0..100).for_each(|_| self.disk_step());
            (0..self.links.len()).for_each(|at| self.client_reads(at, true));
            self.pass(10);
            if self.broker.broken.is_some() || self.broken() {
                return false;
            }
            if !self.broker.moved && !self.wait_for_queues() {
                return true;
            }
        }
        self.books.fail(|| "the broker never comes to rest".to_owned());
        false
    }

    /// Passes the time until the next deadline of a queue; false if no queue has one soon.
    fn wait_for_queues(&mut self) -> bool {
        let due = self.broker.shards.iter().filter_map(Shard::next_queue_deadline_us).min();
        let soon = self.now.monotonic_us + SOON_US;
        let Some(due) = due.filter(|due| *due < soon) else { return false };
        self.pass(due.saturating_sub(self.now.monotonic_us));
        true
    }

    fn pass(&mut self, microseconds: u64) {
        self.now.monotonic_us += microseconds;
        self.now.wall_ms = 1_700_000_000_000 + self.now.monotonic_us / 1000;
        self.books.now_ms = self.now.wall_ms;
    }

    /// Everything comes to rest; then no client waits for anything. False if the broker failed.
    pub fn quiet(&mut self) -> bool {
        // Writes that found no room are repeated from time to time.
        self.disks.messages.recover();
        for _ in 0..10 {
            if !self.settle() {
                return false;
            }
            if self.links.iter().all(|link| link.client.is_content()) {
                self.books.rest();
                return true;
            }
            self.pass(RETRY_US);
        }
        let waits = self.links.iter().find(|link| !link.client.is_content());
        self.books.fail(|| format!("waits for ever: {:?}", waits.map(|link| &link.client)));
        false
    }

    /// After a rest everything is synced too, and a client that drains a queue has got all of it. A
    /// log that is too small for its contents may go on compacting; then nothing is known.
    pub fn sync(&mut self) {
        for _ in 0..10 {
            self.pass(RETRY_US);
            if !self.settle() {
                return;
            }
            if self.broker.shards.iter().all(Shard::store_idle) {
                self.books.on_disk();
                return self.look_for_left();
            }
        }
    }

    fn look_for_left(&mut self) {
        let held = self.held();
        let clients = self.links.iter().map(|link| &link.client);
        let auto = clients.filter(|client| client.auto && !client.gone);
        auto.flat_map(|client| &client.consumes).for_each(|queue| self.books.taken(*queue, &held));
    }

    /// Copies that clients have read and not settled finally.
    fn held(&self) -> BTreeSet<CopyId> {
        self.links.iter().flat_map(|link| link.client.held()).collect()
    }

    // The end.

    /// The broker ends in one of the ways and starts again from the disks.
    pub fn end(&mut self) {
        let end = match self.rng.u8(..5) {
            0 => self.stop(true),
            1 => self.stop(false),
            _ => End::Crash,
        };
        if self.broken() {
            return;
        }
        if end == End::Crash {
            // Clients may still read what left the broker before.
            for at in 0..self.links.len() {
                if self.rng.bool() {
                    self.client_reads(at, true);
                }
            }
            self.crash();
        }
        // During a stop, messages that one client requeues go to the next.
        let held = if self.books.is_stopping() { BTreeSet::new() } else { self.held() };
        for link in &self.links {
            link.client.leaks().for_each(|queue| self.books.leaks(queue, &held));
        }
        self.links.clear();
        self.disks.meta.heals();
        self.disks.messages.recover();
        self.disks.messages.broken = false;
        self.books.ended(end);
        self.start(end);
    }

    /// A crash.
    fn crash(&mut self) {
        if self.broker.broken.is_none() && self.rng.u8(..3) == 0 {
            self.disks.messages.kill(&mut self.rng);
        } else {
            self.power_loss();
        }
    }

    fn power_loss(&mut self) {
        self.disks.messages.power_loss(&mut self.rng);
        self.disks.meta.crash(&mut self.rng);
        if self.relaxed {
            self.books.loses_power();
        }
    }

    fn stop(&mut self, at_rest: bool) -> End {
        if at_rest && !self.quiet() {
            return End::Crash;
        }
        self.disks.messages.recover();
        self.links.iter_mut().for_each(|link| link.client.may_go = true);
        self.books.stops(at_rest);
        self.broker.shards.iter_mut().for_each(|shard| shard.shutdown(self.now));
        (0..self.rng.usize(..30)).for_each(|_| self.jostle());
        for _ in 0..100 {
            if !self.settle() {
                return End::Crash;
            }
            let over = |shard: &Shard| shard.store_idle() && shard.connections() == 0;
            if self.broker.shards.iter().all(over) {
                self.books.on_disk();
                return if at_rest { End::Clean } else { End::Stopped };
            }
            self.pass(RETRY_US);
        }
        self.books.fail(|| "the broker does not stop".to_owned());
        End::Crash
    }

    fn start(&mut self, mut end: End) {
        if self.rng.bool() {
            // Messages expire meanwhile.
            self.pass(STOPPED_US);
        }
        let setup = setup(&mut self.rng);
        if self.rng.u8(..3) == 0 {
            // A power loss during the start.
            self.disks.messages.fuse = Some(self.rng.usize(..12));
            if self.rng.bool() {
                self.disks.meta.ends_after(self.rng.u64(..8));
            }
            let started = Broker::start(&setup, &mut self.disks);
            let fuse = self.disks.messages.fuse;
            self.books.note(|| format!("a first start, {}, fuse {fuse:?}", started.is_ok()));
            self.disks.messages.fuse = None;
            if started.is_ok() {
                self.started(&setup);
            }
            if started.is_err() || self.rng.bool() {
                self.power_loss();
            } else {
                self.disks.meta.crash(&mut self.rng);
            }
            end = End::Crash;
            self.books.ended(end);
        }
        self.books.note(|| format!("{setup:?}"));
        match Broker::start(&setup, &mut self.disks) {
            Ok(broker) => {
                self.broker = broker;
                self.started(&setup);
            }
            Err(why) => return self.books.fail(|| format!("it does not start: {why}")),
        }
        if end != End::Crash && !self.broker.clean {
            self.books.fail(|| "a clean stop counts as a crash".to_owned());
        }
        self.look();
    }

    /// Recovered messages are on stable storage, whatever the durability of the last broker.
    fn started(&mut self, setup: &Setup) {
        self.relaxed = is_relaxed(setup);
        self.books.on_disk();
    }

    /// Compares the topology after a start with what was promised.
    fn look(&mut self) {
        let vhost = self.broker.coordinator.original().topology().vhost("/");
        let Some(vhost) = vhost else {
            return self.books.fail(|| "there is no vhost".to_owned());
        };
        let there: Vec<bool> = QUEUES.iter().map(|name| vhost.queue(name).is_some()).collect();
        let is_bound = |queue: &str| {
            vhost.has_binding(&Binding {
                source: FANOUT.into(),
                destination: Destination::Queue(queue.into()),
                key: "".into(),
                arguments: Arguments::default(),
            })
        };
        let bound = QUEUES[..BOUND].iter().filter(|queue| is_bound(queue)).count();
        if there[..BOUND] != [true; BOUND] || bound != BOUND || there[TRANSIENT] {
            self.books.fail(|| format!("queues {there:?}, {bound} bound"));
        }
        match self.books.mortal.replace(there[MORTAL]) {
            Some(known) if known != there[MORTAL] => {
                self.books.fail(|| format!("the mortal queue: {known} was promised"));
            }
            None if !there[MORTAL] => self.books.deleted(MORTAL),
            _ => {}
        }
    }
}
