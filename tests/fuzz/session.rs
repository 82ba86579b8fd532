//! One seed of a whole broker: clients that send damaged sessions, read or do not read, wait or
//! vanish, next to a neighbour that must lose nothing.

use std::collections::VecDeque;

use amqp::{Method, Parser};
use fastrand::Rng;
use ringtail::shard::Gate;

use crate::bounds;
use crate::meter;
use crate::monitor::{Monitor, Seen};
use crate::mutate;
use crate::neighbour::Neighbour;
use crate::rig::{self, Client, Rig};
use crate::runner::Figures;

const STEPS: usize = 400;
const PEERS: usize = 5;

/// A hostile client.
struct Peer {
    client: Client,
    script: VecDeque<Vec<u8>>,
    /// Taken from the script and not sent; ends where a frame ends.
    pending: Vec<u8>,
    monitor: Monitor,
    /// Counts the frames that were sent.
    counter: Option<Parser>,
    /// Time passed since it connected, so that it may be dropped for its silence.
    waited: bool,
    reads: bool,
    harness: usize,
}

struct World {
    rng: Rng,
    broker: Rig,
    peers: Vec<Option<Peer>>,
    neighbour: Neighbour,
    /// What the thread held before there was a broker.
    base: isize,
    figures: Figures,
    unlimited: bool,
}

/// One seed.
pub fn run(seed: u64) -> Figures {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step();
    }
    world.everybody_goes();
    world.figures
}

impl World {
    fn new(seed: u64) -> Self {
        let base = meter::held();
        let mut rng = Rng::with_seed(seed);
        let (shards, resident) = (rng.u16(1..4), rng.usize(1..200_000));
        let unlimited = rng.bool();
        let limit = if unlimited { u64::MAX } else { 3 << 20 };
        let receiving = if unlimited { usize::MAX } else { rng.usize(1..200_000) };
        let mut broker = Rig::configured(shards, limit, |config| {
            // Spilled messages do not count as memory of the queue.
            config.resident_max = if unlimited { usize::MAX } else { resident };
            config.unsettled_max = config.resident_max;
            config.receiving_max = receiving;
        });
        // With limited memory, the queue of a slow neighbour spills and is fetched.
        let slow = !unlimited && !seed.is_multiple_of(2);
        let neighbour = Neighbour::new(&mut broker, &mut rng, slow);
        let peers = (0..PEERS).map(|_| None).collect();
        Self { rng, broker, peers, neighbour, base, figures: Figures::default(), unlimited }
    }

    fn step(&mut self) {
        let at = self.rng.usize(..PEERS);
        match self.peers[at].take() {
            None => self.peers[at] = Some(self.newcomer()),
            Some(peer) => self.peers[at] = self.act(peer),
        }
        match self.rng.u8(..16) {
            0..4 => {
                let Self { neighbour, broker, rng, .. } = self;
                neighbour.publish(broker, rng);
            }
            4..6 => {
                let Self { neighbour, broker, rng, .. } = self;
                neighbour.look(broker, rng);
            }
            6 if self.rng.u8(..16) == 0 => self.time_passes(),
            _ => {}
        }
    }

    fn newcomer(&mut self) -> Peer {
        let shard = self.rng.usize(..self.broker.shards.len());
        let script = VecDeque::from(mutate::session(&mut self.rng, 60));
        let harness = script.iter().map(Vec::capacity).sum();
        self.figures.sessions += 1;
        Peer {
            client: self.broker.accepted(shard),
            script,
            pending: Vec::new(),
            monitor: Monitor::new(),
            counter: Some(Parser::new(0)),
            waited: false,
            reads: self.rng.u8(..8) > 0,
            harness,
        }
    }

    /// A peer acts; `None` when it is gone.
    fn act(&mut self, mut peer: Peer) -> Option<Peer> {
        if self.broker.gate(peer.client) == Gate::Closing {
            self.verdict(peer);
            return None;
        }
        if self.rng.u8(..120) == 0 || (peer.script.is_empty() && self.rng.u8(..8) == 0) {
            let client = peer.client;
            self.watched(|broker| broker.vanish_now(client));
            return None;
        }
        match self.rng.u8(..8) {
            0..4 => self.send(&mut peer),
            4 | 5 if peer.reads => self.read(&mut peer),
            6 => self.watched(Rig::settle),
            _ => {
                let shard = self.rng.usize(..self.broker.shards.len());
                self.watched(|broker| _ = broker.turn(shard));
            }
        }
        Some(peer)
    }

    /// Sends some frames of the script, and at times only part of the last.
    fn send(&mut self, peer: &mut Peer) {
        if self.broker.gate(peer.client) != Gate::Open {
            return;
        }
        for _ in 0..self.rng.u8(1..8) {
            peer.pending.extend(peer.script.pop_front().unwrap_or_default());
        }
        let whole = self.rng.u8(..4) > 0;
        let some = if whole { peer.pending.len() } else { self.rng.usize(..=peer.pending.len()) };
        let bytes: Vec<u8> = peer.pending.drain(..some).collect();
        let most = if self.rng.bool() { bounds::CHUNK } else { self.rng.usize(1..5000) };
        for piece in bytes.chunks(most) {
            // The shell does not read a paused socket.
            if self.broker.gate(peer.client) == Gate::Open {
                self.figures.frames += count(&mut peer.counter, piece);
                let client = peer.client;
                self.watched(|broker| broker.receive(client, piece));
            }
        }
    }

    /// Reads what arrived, and answers closes.
    fn read(&mut self, peer: &mut Peer) {
        let (client, mut bytes) = (peer.client, Vec::new());
        self.watched(|broker| bytes = broker.take_now(client));
        let (pending, open) = (&mut peer.pending, Method::ChannelOpen { out_of_band: "" });
        let polite = self.rng.u8(..4) > 0;
        peer.monitor.read(&bytes, |channel, seen| match seen {
            Seen::Method(Method::ChannelClose { .. }) => {
                pending.extend(rig::encoded(channel, &Method::ChannelCloseOk {}));
                pending.extend(rig::encoded(channel, &open));
            }
            Seen::Method(Method::ChannelCloseOk {}) => {
                pending.extend(rig::encoded(channel, &open));
            }
            Seen::Method(Method::ConnectionClose { .. }) if polite => {
                pending.extend(rig::encoded(0, &Method::ConnectionCloseOk {}));
            }
            _ => {}
        });
    }

    /// The broker ends a connection: with a close, or silently where the protocol wants that.
    fn verdict(&mut self, mut peer: Peer) {
        self.read(&mut peer);
        let word = peer.monitor.goodbye() || !peer.monitor.running || peer.waited;
        assert!(word, "a running connection was let go without a word");
        let client = peer.client;
        self.watched(|broker| broker.vanish_now(client));
    }

    fn time_passes(&mut self) {
        self.broker.now.monotonic_us += self.rng.u64(..20_000_000);
        self.peers.iter_mut().flatten().for_each(|peer| peer.waited = true);
        self.watched(|broker| {
            let now = broker.now;
            broker.shards.iter_mut().for_each(|shard| shard.tick(now));
        });
    }

    /// Calls the broker and checks that the call kept to the bounds.
    fn watched(&mut self, call: impl FnOnce(&mut Rig)) {
        let before = self.made();
        meter::take_largest();
        let start = meter::cpu_us();
        call(&mut self.broker);
        let (elapsed_us, largest) = (meter::cpu_us() - start, meter::take_largest());
        let made = self.made().saturating_sub(before);
        let shards = self.broker.shards.len();
        assert!(made <= bounds::made(shards, PEERS + 2), "one call made {made} bytes");
        assert!(largest <= bounds::largest(shards), "{largest} bytes were asked for at once");
        let figures = &mut self.figures;
        figures.work = figures.work.max(made);
        figures.largest = figures.largest.max(largest);
        figures.call_us = figures.call_us.max(elapsed_us);
        self.weigh();
    }

    /// The memory of the broker is explained by its own count and its bounds.
    fn weigh(&mut self) {
        let harness: usize = self.peers.iter().flatten().map(|peer| peer.harness).sum();
        let held = (meter::held() - self.base) as usize;
        self.figures.peak = self.figures.peak.max(held.saturating_sub(harness));
        let pinned = self.broker.shards.iter().map(|shard| shard.pinned()).sum();
        let shards = self.broker.shards.len();
        let bound = bounds::held(shards, PEERS + 2, pinned, self.figures.frames) + harness;
        assert!(held <= bound || !self.unlimited, "{held} bytes held, {bound} explained");
    }

    /// Output and batches that wait.
    fn made(&mut self) -> usize {
        let peers = self.peers.iter().flatten().map(|peer| peer.client);
        let clients = peers.chain([self.neighbour.publisher, self.neighbour.consumer]);
        let shards = &mut self.broker.shards;
        let mut made = 0;
        for Client { shard, conn } in clients {
            made += shards[shard].outbox(conn).map_or(0, |outbox| outbox.len());
        }
        let endpoints = shards.len() as u16;
        for shard in shards {
            made +=
                (0..=endpoints).map(|to| shard.outbound(model::ShardId(to)).bytes()).sum::<usize>();
        }
        made
    }

    /// Lets the time pass that failed logins of this source delay others, or that a handshake may
    /// take.
    fn pass_delayed_logins(&mut self) {
        const SECONDS: u64 = 11;
        for _ in 0..SECONDS {
            self.broker.now.monotonic_us += 1_000_000;
            (0..self.broker.shards.len()).for_each(|shard| self.broker.tick(shard));
            self.broker.settle();
        }
    }

    /// All peers leave, then the neighbour. Nothing is left of them, and new clients are served.
    fn everybody_goes(&mut self) {
        let mut peers: Vec<Peer> = std::mem::take(&mut self.peers).into_iter().flatten().collect();
        while peers.iter().any(|peer| !self.broker.take(peer.client).is_empty()) {}
        self.pass_delayed_logins();
        for peer in peers.drain(..) {
            let paused = self.broker.gate(peer.client) == Gate::Paused;
            assert!(!(paused && self.unlimited), "{:?} is paused for nothing", peer.client);
            self.broker.vanish_now(peer.client);
        }
        for _ in 0..100 + self.neighbour.sent() {
            self.broker.settle();
            self.neighbour.read(&mut self.broker);
        }
        assert!(self.neighbour.content() || !self.unlimited, "{}", self.neighbour);
        self.weigh();
        let nobody = Neighbour::new(&mut Rig::new(1), &mut self.rng, false);
        std::mem::replace(&mut self.neighbour, nobody).leave(&mut self.broker);
        assert_eq!(self.broker.leftovers(), 0);
        for shard in 0..self.broker.shards.len() {
            let client = self.broker.client(shard);
            let names = rig::names(&self.broker.call(client, 1, &rig::declare("later", false)));
            assert_eq!(names, ["QueueDeclareOk"]);
        }
    }
}

/// Counts the frames that end in these bytes, as far as they are frames.
fn count(counter: &mut Option<Parser>, bytes: &[u8]) -> u64 {
    let Some(mut parser) = counter.take() else { return 0 };
    let (mut at, mut frames) = (0, 0);
    let bytes = bytes.strip_prefix(&amqp::PROTOCOL_HEADER).unwrap_or(bytes);
    loop {
        match parser.next(bytes, &mut at) {
            Ok(Some(_)) => frames += 1,
            Ok(None) => break,
            Err(_) => return frames,
        }
    }
    *counter = Some(parser);
    frames
}
