//! One run: random steps, quiet moments, the hostile phases, and the drain at the end.

use crate::actions::Actor;
use crate::client::{Manner, Stage};
use crate::names::{NO_QUEUE, QUEUES, kind};
use crate::plan::Action;
use crate::world::{Marks, World};

/// How many seeds run unless `SIM_SEEDS` is set, if there is time for them. A build without faults
/// is mostly one for debugging, which is slow.
pub const SEEDS: u64 = if cfg!(feature = "mutants") { 4000 } else { 500 };

/// The result of a run without a broken rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// A hash of all bytes that went to clients.
    pub output: u64,
    /// Operations, messages and deliveries.
    pub size: (usize, usize, usize),
}

/// A broken rule, and the trace if one was kept.
#[derive(Debug, Clone)]
pub struct Broken {
    /// What happened.
    pub what: String,
    /// The last events.
    pub trace: Vec<String>,
}

/// Runs a seed.
///
/// # Errors
/// The first rule that was seen broken.
pub fn run(seed: u64, trace: bool) -> Result<Outcome, Broken> {
    let mut world = World::new(seed, trace);
    world.life();
    world.drain();
    world.leave();
    if world.h.failure.is_none() {
        crate::check::all(&mut world.h);
    }
    let h = &mut world.h;
    match h.failure.take() {
        Some(what) => Err(Broken { what, trace: h.trace.take().unwrap_or_default() }),
        None => Ok(Outcome {
            output: world.output(),
            size: (world.h.ops.len(), world.h.messages.len(), world.h.deliveries.len()),
        }),
    }
}

impl World {
    pub(crate) fn broken(&self) -> bool {
        self.h.failure.is_some()
    }

    /// Everything except the end.
    fn life(&mut self) {
        for _ in 0..self.plan.clients {
            self.connect(self.plan.channels, self.plan.heartbeat);
        }
        self.quiet();
        let rounds = self.rng.usize(1..4);
        for _ in 0..rounds {
            self.steps(self.plan.steps / rounds);
            if !self.broken() {
                self.quiet();
            }
        }
        if self.plan.duel && !self.broken() {
            self.conditions();
            self.duel();
            self.cancel_all();
            self.refill();
            (0..2).for_each(|_| self.look_at_once());
            self.look_at_commit();
            self.settle_and_roll_back();
            self.settle_some();
            self.ends();
            if self.plan.inspects {
                self.walk_past_deleted();
                self.purge_past_deletion();
            }
            self.reject_to_and_fro();
            #[cfg(feature = "second-kinds")]
            self.hold();
            self.quiet();
        }
        if self.plan.flood && !self.broken() {
            self.flood();
            self.quiet();
        }
        if self.plan.fairness && !self.broken() {
            self.fairness();
        }
        if self.plan.limits && !self.broken() {
            self.limits();
            self.ranks();
        }
        if self.plan.lifetimes && !self.broken() {
            self.lifetimes();
            self.die_by_themselves();
        }
        if self.plan.single && !self.broken() {
            self.fail_over();
        }
        if self.plan.late && !self.broken() {
            self.late();
        }
        if self.plan.idle && !self.broken() {
            self.stopped();
            self.idle();
        }
        if !self.broken() {
            self.raid();
        }
        if !self.broken() {
            self.heavy();
        }
    }

    pub(crate) fn steps(&mut self, steps: usize) {
        let mut left = steps;
        while left > 0 && !self.broken() {
            let microseconds = self.rng.u64(1..100);
            self.pass(microseconds);
            match self.rng.u8(..if self.plan.inspects { 12 } else { 11 }) {
                0..=3 => {
                    left -= 1;
                    self.action();
                }
                4..=6 => {
                    let shard = self.rng.usize(..self.shards());
                    self.turn(shard, false);
                }
                7 => self.coordinate(false),
                8 => self.disk_works(false),
                11 => self.inspect(),
                _ => {
                    let at = self.rng.usize(..self.links.len());
                    self.client_reads(at, false);
                    self.pursue(at);
                }
            }
            if self.plan.stall > 0 && self.rng.usize(..self.plan.stall * 4) == 0 {
                let turns = self.rng.usize(1..40);
                self.stall(turns);
            }
        }
    }

    /// A client that may act.
    fn actor(&mut self) -> Option<usize> {
        let ready = |at: &usize| {
            let client = &self.links[*at].client;
            client.stage == Stage::Open && client.manner == Manner::Reads && !client.offended
        };
        let able: Vec<usize> = (0..self.links.len()).filter(ready).collect();
        (!able.is_empty()).then(|| able[self.rng.usize(..able.len())])
    }

    fn action(&mut self) {
        let living = self
            .links
            .iter()
            .filter(|link| link.client.stage != Stage::Gone && link.client.manner == Manner::Reads);
        if living.count() < 2 && self.links.len() < 12 {
            self.connect(self.plan.channels, self.plan.heartbeat);
        }
        let Some(at) = self.actor() else { return };
        match self.plan.action(&mut self.rng) {
            Action::CloseConnection if self.rng.u8(..3) == 0 => {
                self.links[at].client.close(&mut self.h, &mut self.rng);
            }
            Action::Vanish if self.rng.u8(..3) == 0 => self.vanish(at),
            Action::GoDeaf if self.rng.u8(..3) == 0 => {
                self.go_deaf(at);
            }
            action => self.act(at, action, None),
        }
        self.links[at].client.pump(&mut self.rng, false);
    }

    fn act(&mut self, at: usize, action: Action, hint: Option<usize>) {
        let client = &mut self.links[at].client;
        let slot = self.rng.usize(..client.channels.len());
        let waits = !client.channels[slot].waiting.is_empty();
        if waits && self.rng.usize(..100) >= self.plan.pipelining {
            return;
        }
        let (h, rng, plan) = (&mut self.h, &mut self.rng, &self.plan);
        Actor { client, at: slot, h, rng, plan, hint }.act(action);
    }

    /// Another client at once uses what this client was just told exists, or is deleted.
    fn pursue(&mut self, at: usize) {
        let hot = std::mem::take(&mut self.links[at].client.hot);
        let Some(&queue) = hot.last() else { return };
        if self.rng.u8(..3) == 0 {
            return;
        }
        let Some(other) = self.actor().filter(|other| *other != at) else { return };
        let action = match self.rng.u8(..6) {
            0 | 1 => Action::Get,
            2 | 3 => Action::Publish,
            4 => Action::Probe,
            _ => Action::DeclareQueue,
        };
        // Rarely where it may be an error.
        if kind(queue).exclusive && self.rng.u8(..3) != 0 {
            return;
        }
        self.act(other, action, Some(queue));
        self.rush(other);
    }

    /// Many large messages for a consumer that does not read, or while the rings stand still:
    /// nothing may grow without a bound.
    fn flood(&mut self) {
        let (at, deaf) = (self.connect(1, self.plan.heartbeat), self.connect(1, 0));
        self.quiet();
        let queue = self.rng.usize(..3);
        self.on(at, |actor| {
            actor.declare(queue, false, false);
        });
        self.quiet();
        if self.rng.bool() {
            self.on(deaf, |actor| {
                actor.consume_from(queue, true);
            });
            self.quiet();
            self.go_deaf(deaf);
        } else {
            self.stall_all(4000);
        }
        for _ in 0..60 {
            self.on(at, |actor| actor.publish_to(0, queue, 200_000));
            (0..4).for_each(|_| self.rush(at));
            for shard in 0..self.shards() {
                self.turn(shard, false);
            }
        }
        let heartbeat = u64::from(self.links[at].client.heartbeat);
        if self.paused(at) && heartbeat > 0 {
            self.paused_for(at, heartbeat);
        }
    }

    fn go_deaf(&mut self, at: usize) {
        self.links[at].client.manner = Manner::Deaf;
        let now = self.h.step();
        self.h.deaf.insert(self.links[at].client.conn, now);
    }

    /// A queue that filled its memory and drained keeps its order, and a consumer that settles gets
    /// more.
    fn refill(&mut self) {
        let (one, two) = (self.connect(1, 0), self.connect(1, 0));
        self.quiet();
        let queue = 1;
        self.on(one, |actor| {
            actor.declare(queue, false, false);
            (0..5).for_each(|_| actor.publish_to(0, queue, 2047));
            (0..3).for_each(|_| {
                actor.get_from(queue, true);
            });
            (0..3).for_each(|_| actor.publish_to(0, queue, 2047));
        });
        self.quiet();
        let mut consumer = 0;
        self.on(two, |actor| {
            actor.qos_of(1);
            consumer = actor.consume_from(queue, false);
        });
        self.quiet();
        self.on(two, |actor| actor.ack_all());
        self.quiet();
        self.on(two, |actor| actor.cancel_all());
        self.quiet();
        let op = self.h.consumers[consumer].op;
        let got = self.h.deliveries.iter().filter(|delivery| delivery.asked == op).count();
        let mut look = 0;
        self.on(one, |actor| look = actor.declare(queue, true, false));
        self.quiet();
        // Other consumers may have taken all of them.
        let left = self.h.ops[look].counts.map_or(0, |(messages, _)| messages);
        if got == 1 && left > 0 && !self.broken() {
            self.h.fail(|| format!("consumer {consumer} settled, {left} wait and it got {got}"));
        }
    }

    /// A message that is confirmed, or requeued by a closed channel, is found at once by every
    /// client.
    fn look_at_once(&mut self) {
        let (one, two) = (self.connect(1, 0), self.connect(1, 0));
        self.quiet();
        let queues = [0, 1, 2];
        self.on(one, |actor| {
            queues.iter().for_each(|queue| actor.declare_bound(*queue));
            actor.confirm();
        });
        self.quiet();
        self.on(one, |actor| actor.publish_to(FANOUT, 0, 16));
        self.until(one, two, |world, message| world.h.messages[message].confirmed);
        self.quiet();
        self.on(one, |actor| {
            actor.publish_to(0, queues[0], 16);
            for queue in [queues[0], queues[2]] {
                actor.get_from(queue, false);
            }
        });
        self.quiet();
        self.on(one, |actor| actor.close_channel());
        self.until(one, two, |world, _| world.links[one].client.channels[0].free());
    }

    /// All parts move a little.
    pub(crate) fn jostle(&mut self, at: usize) {
        self.links[at].client.pump(&mut self.rng, true);
        for shard in 0..self.shards() {
            if self.rng.bool() {
                self.turn(shard, false);
            }
        }
        if self.rng.bool() {
            self.coordinate(false);
        }
    }

    /// A connection that the broker does not read is not dropped for its silence.
    fn paused_for(&mut self, at: usize, heartbeat: u64) {
        for _ in 0..16 {
            self.pass(heartbeat * 250_000);
            self.beat();
            for shard in 0..self.shards() {
                self.turn(shard, false);
            }
            for other in (0..self.links.len()).filter(|other| *other != at) {
                self.client_reads(other, true);
            }
        }
    }

    /// Every client that is not silent sends a heartbeat, and is read.
    pub(crate) fn beat(&mut self) {
        for at in self.send_heartbeats() {
            self.rush(at);
        }
    }

    /// Every client that is not silent sends a heartbeat; these are the clients.
    pub(crate) fn send_heartbeats(&mut self) -> Vec<usize> {
        let sends = |at: &usize| {
            let client = &self.links[*at].client;
            client.stage == Stage::Open && client.manner != Manner::Silent
        };
        let senders: Vec<usize> = (0..self.links.len()).filter(sends).collect();
        for at in &senders {
            let client = &mut self.links[*at].client;
            client.pump(&mut self.rng, true);
            client.heartbeat();
        }
        senders
    }

    /// Time passes and clients send only heartbeats; one client sends nothing.
    fn idle(&mut self) {
        let beat = u64::from(self.plan.heartbeat);
        let victim = self.actor().filter(|at| self.links[*at].client.heartbeat > 0);
        if let Some(victim) = victim {
            let now = self.h.step();
            let client = &mut self.links[victim].client;
            client.manner = Manner::Silent;
            client.channels.iter_mut().for_each(|channel| channel.ending(&mut self.h, now));
        }
        for link in &mut self.links {
            link.client.heartbeats = 0;
        }
        // The silence begins with the last bytes the server read, which is about now.
        for tenth in 1..=40 {
            self.pass(beat.max(1) * 100_000);
            self.beat();
            self.quiet();
            if self.broken() {
                return;
            }
            let Some(victim) = victim else { continue };
            let gone = self.links[victim].client.stage == Stage::Gone;
            if (gone && tenth < 20) || (!gone && tenth > 31) {
                let conn = self.links[victim].client.conn;
                return self
                    .h
                    .fail(|| format!("conn {conn} was silent for {tenth} tenths: gone is {gone}"));
            }
        }
        self.check_heartbeats(beat);
    }

    /// The server sent about two heartbeats per interval to each client that wants them.
    fn check_heartbeats(&mut self, beat: u64) {
        for link in &self.links {
            let (conn, beats) = (link.client.conn, link.client.heartbeats);
            let reads = link.client.manner == Manner::Reads;
            let asked = beat > 0 && link.client.heartbeat > 0 && reads;
            if link.client.stage == Stage::Open && asked && !(6..=9).contains(&beats) {
                self.h.fail(|| format!("conn {conn} got {beats} heartbeats in 4 intervals"));
            }
        }
    }

    /// Two consumers with room for everything get equal shares.
    fn fairness(&mut self) {
        let consumers = [self.connect(1, 0), self.connect(1, 0)];
        let publisher = self.connect(1, 0);
        self.quiet();
        let queue = 1;
        self.on(publisher, |actor| {
            actor.declare(queue, false, false);
        });
        self.quiet();
        let places = consumers.map(|at| {
            let mut place = 0;
            self.on(at, |actor| place = actor.consume_from(queue, false));
            place
        });
        self.quiet();
        let before = self.h.deliveries.len();
        for _ in 0..8 {
            self.on(publisher, |actor| actor.publish_to(0, queue, 16));
        }
        self.quiet();
        let share = |place: usize| {
            let op = self.h.consumers[place].op;
            self.h.deliveries[before..].iter().filter(|d| d.asked == op).count()
        };
        let (one, two) = (share(places[0]), share(places[1]));
        if one.abs_diff(two) > 1 {
            self.h.fail(|| format!("of 8 messages one consumer got {one}, the other {two}"));
        }
    }

    /// The first channel of a client does something.
    pub fn on(&mut self, at: usize, what: impl FnOnce(&mut Actor<'_>)) {
        let client = &mut self.links[at].client;
        if client.stage != Stage::Open {
            return;
        }
        if client.channels[0].free() {
            client.open_channel(0, &mut self.h);
        }
        let (h, rng, plan) = (&mut self.h, &mut self.rng, &self.plan);
        what(&mut Actor { client, at: 0, h, rng, plan, hint: None });
    }

    /// All clients leave, then a new one takes what is in the queues.
    fn drain(&mut self) {
        if self.broken() {
            return;
        }
        self.cancel_all();
        for at in 0..self.links.len() {
            match self.links[at].client.stage {
                Stage::Gone => {}
                Stage::Open if self.links[at].client.manner == Manner::Reads && self.rng.bool() => {
                    self.links[at].client.close(&mut self.h, &mut self.rng);
                }
                _ => self.vanish(at),
            }
        }
        self.quiet();
        let fresh = self.connect(1, 0);
        self.quiet();
        let first = self.h.deliveries.len();
        for queue in 0..self.h.queues.len() {
            if queue != NO_QUEUE && !self.broken() {
                self.drain_queue(fresh, queue);
            }
        }
        self.h.drained = self.h.time;
        for delivery in &mut self.h.deliveries[first..] {
            delivery.drained = true;
        }
    }

    /// Consumers are cancelled in order, so that their last deliveries are read.
    fn cancel_all(&mut self) {
        for at in 0..self.links.len() {
            let client = &mut self.links[at].client;
            if client.stage != Stage::Open || client.manner != Manner::Reads || client.offended {
                continue;
            }
            for slot in 0..client.channels.len() {
                let (h, rng, plan) = (&mut self.h, &mut self.rng, &self.plan);
                Actor { client, at: slot, h, rng, plan, hint: None }.cancel_all();
            }
        }
        self.quiet();
    }

    fn drain_queue(&mut self, fresh: usize, queue: usize) {
        let mut probe = 0;
        self.on(fresh, |actor| probe = actor.declare(queue, true, false));
        self.quiet();
        let Some((messages, _)) = self.h.ops[probe].counts else { return };
        if self.rng.bool() {
            self.on(fresh, |actor| {
                actor.consume_from(queue, true);
            });
            self.quiet();
        } else {
            for _ in 0..=messages {
                self.on(fresh, |actor| {
                    actor.get_from(queue, true);
                });
            }
            self.quiet();
        }
    }

    /// The queues are deleted and the last client leaves: nothing may be left.
    fn leave(&mut self) {
        if self.broken() {
            return;
        }
        let last = self.links.len() - 1;
        for queue in 0..QUEUES.len() {
            self.on(last, |actor| actor.delete(queue, false, false));
        }
        self.quiet();
        self.links[last].client.close(&mut self.h, &mut self.rng);
        self.quiet();
        let left = self.leftovers();
        if left.iter().any(|left| *left > 0) {
            self.h.fail(|| format!("left behind: {left:?}"));
        }
        self.check_marks();
    }

    fn check_marks(&mut self) {
        let Marks { outbox, batch, overworked } = self.marks;
        if overworked > UNCUT_MAX {
            self.h.fail(|| format!("a turn did {overworked} units of work too many"));
        }
        if outbox > OUTBOX_MAX || batch > BATCH_MAX {
            self.h.fail(|| format!("an outbox held {outbox}, a batch {batch} bytes"));
        }
    }
}

/// The queue that every client may delete.
pub const MORTAL: usize = 3;
/// The exchange amq.fanout.
pub const FANOUT: usize = 2;
/// Units of work that cannot be cut: a key of a route here leads through few nodes.
const UNCUT_MAX: u64 = 8;
/// The most an outbox may hold.
const OUTBOX_MAX: usize = 6_000_000;
/// The most an outbound batch may hold.
const BATCH_MAX: usize = 6_500_000;
