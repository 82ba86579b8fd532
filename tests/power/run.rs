//! One run: several starts of a broker, then every queue is drained.

use crate::books::{ALL, BOUND, DEAD, MORTAL, QUEUES, RETRY, TRANSIENT};
use crate::client::Mode;
use crate::world::World;

/// How many seeds run unless `SIM_SEEDS` is set.
pub const SEEDS: u64 = 5000;

/// The result of a run without a broken rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Starts, messages and deliveries.
    pub size: (usize, usize, usize),
}

/// A broken rule.
#[derive(Debug, Clone)]
pub struct Broken {
    /// What happened.
    pub what: String,
    /// The trace, if it was kept.
    pub trace: Vec<String>,
}

/// Runs a seed.
///
/// # Errors
/// The first rule that was seen broken.
pub fn run(seed: u64, trace: bool) -> Result<Outcome, Broken> {
    let mut world = World::new(seed, trace);
    world.prepare();
    for _ in 0..world.rng.usize(2..5) {
        if !world.broken() {
            world.live();
        }
        if !world.broken() {
            world.end();
        }
    }
    if !world.broken() {
        world.drain();
    }
    match world.books.failure.take() {
        Some(what) => Err(Broken { what, trace: world.books.trace.unwrap_or_default() }),
        None => {
            let books = &world.books;
            Ok(Outcome { size: (books.life, books.len(), books.deliveries) })
        }
    }
}

impl World {
    /// Declares what is never deleted.
    fn prepare(&mut self) {
        let at = self.connect(Mode::Confirms);
        self.settle();
        let client = &mut self.links[at].client;
        let durable: Vec<usize> = (0..BOUND).collect();
        durable.iter().for_each(|queue| client.declare(*queue, true, &mut self.books));
        [RETRY, DEAD].iter().for_each(|queue| client.declare(*queue, true, &mut self.books));
        client.bind(&durable);
        self.quiet();
    }

    /// Clients act until the end, or until the broker fails.
    fn live(&mut self) {
        for _ in 0..self.rng.usize(1..4) {
            let mode = if self.rng.bool() { Mode::Confirms } else { Mode::Tx };
            let at = self.connect(mode);
            self.links[at].client.auto = self.rng.u8(..4) == 0;
        }
        if !self.quiet() {
            return;
        }
        self.links[0].client.declare(TRANSIENT, false, &mut self.books);
        for link in &mut self.links {
            link.client.qos(self.rng.u16(1..10));
        }
        for _ in 0..self.rng.usize(20..200) {
            if self.broken() || self.broker.broken.is_some() {
                return;
            }
            self.trouble();
            let at = self.rng.usize(..self.links.len());
            self.act(at);
            (0..self.rng.usize(..6)).for_each(|_| self.jostle());
            if self.rng.u8(..50) == 0 && self.quiet() {
                self.sync();
            }
        }
        self.disks.messages.recover();
        if self.rng.u8(..4) == 0 {
            self.quiet();
        }
    }

    /// Disks are full for a while, or fail.
    fn trouble(&mut self) {
        if self.rng.u8(..20) == 0 {
            self.disks.messages.full = self.rng.bool();
        }
        if self.rng.u8(..20) == 0 {
            self.disks.messages.closed = if self.rng.bool() { 2 } else { 0 };
        }
        if self.rng.u8(..40) == 0 {
            self.disks.meta.is_full_for(self.rng.u32(1..5));
        }
        if self.rng.u16(..1000) == 0 {
            self.disks.messages.broken = true;
        }
        if self.rng.u16(..1000) == 0 {
            self.disks.meta.ends_after(self.rng.u64(..4));
        }
    }

    fn act(&mut self, at: usize) {
        // Only one client declares and deletes, so it knows what exists.
        let owner = at == 0;
        let (rng, books) = (&mut self.rng, &mut self.books);
        let client = &mut self.links[at].client;
        if client.waits() > 3 {
            return;
        }
        let some = client.unacked.keys().nth(rng.usize(..client.unacked.len().max(1))).copied();
        let queue = rng.usize(..BOUND);
        match rng.u8(..32) {
            0..=7 => {
                let mine = if owner && books.mortal == Some(true) { MORTAL } else { ALL };
                let to = [queue, queue, ALL, TRANSIENT, mine, RETRY, RETRY][rng.usize(..7)];
                let size = [0, 10, 100, 1000, 3000][rng.usize(..5)];
                // Only for the owner does the declare of the transient queue come first.
                let to = if to == TRANSIENT && !owner { queue } else { to };
                let lives_ms = [None, None, None, Some(1), Some(50), Some(1000)][rng.usize(..6)];
                // Only what is rejected leaves a dead letter here.
                let lives_ms = lives_ms.filter(|_| to != RETRY);
                client.publish(to, rng.u8(..5) != 0, (size, lives_ms), books);
            }
            8..=10 => client.get(queue),
            11..=16 => {
                if let Some(tag) = some {
                    client.ack(tag, books);
                }
            }
            17 => {
                if let Some(tag) = some {
                    client.requeue(tag, books);
                }
            }
            18 | 19 if client.holds() => client.commit(books),
            20 if client.holds() && rng.u8(..4) == 0 => client.rollback(),
            21 if rng.u8(..8) == 0 => client.purge(queue, books),
            22 if client.consumes.insert(queue) => client.consume(queue),
            23 if owner && client.waits() == 0 => match books.mortal {
                Some(false) => client.declare(MORTAL, true, books),
                Some(true) if rng.bool() => client.delete(books),
                _ => {}
            },
            24..=27 if !client.auto => client.get(RETRY),
            28..=30 => client.reject(rng.usize(..3), books),
            31 if !client.auto => client.get(DEAD),
            _ => {}
        }
    }

    /// Drains every queue.
    fn drain(&mut self) {
        let at = self.connect(Mode::Confirms);
        self.settle();
        for queue in (0..QUEUES.len()).filter(|queue| *queue != TRANSIENT) {
            if queue == MORTAL && self.books.mortal != Some(true) {
                continue;
            }
            self.links[at].client.read.clear();
            loop {
                let before = self.links[at].client.read.len();
                (0..20).for_each(|_| self.links[at].client.get(queue));
                if !self.quiet() {
                    return self.books.fail(|| "nothing was broken, but is".to_owned());
                }
                if self.links[at].client.read.len() < before + 20 {
                    break;
                }
            }
            let read = std::mem::take(&mut self.links[at].client.read);
            self.books.drained(queue, &read);
        }
    }
}
