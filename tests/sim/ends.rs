//! How queues end or empty, and where messages go then: rare by chance, so it is done on purpose.

use crate::history::Fate;
use crate::names::{AUTO, EXCLUSIVE, PLAIN_KEYS, X_DIRECT};
use crate::run::MORTAL;
use crate::world::World;

/// How often a queue is declared in a moment that has to be hit.
const ROUNDS: usize = 3;

impl World {
    /// The scenes of this file that need no others before them.
    pub fn ends(&mut self) {
        self.declare_past_deletion();
        self.owned();
        self.purged();
        self.alternates();
    }

    /// A queue is declared, and its deletion begins while the shards are stalled.
    pub fn begin_deletion(&mut self, conn: usize) {
        self.on(conn, |actor| {
            actor.declare(MORTAL, false, false);
        });
        self.quiet();
        (0..4).for_each(|_| self.stall(6));
        self.on(conn, |actor| actor.delete(MORTAL, false, false));
    }

    /// A queue that is being deleted is declared again: the declare waits and makes a new one.
    fn declare_past_deletion(&mut self) {
        let (one, two) = (self.connect(1, 0), self.connect(1, 0));
        self.quiet();
        for _ in 0..ROUNDS {
            self.begin_deletion(one);
            self.rush(one);
            for _ in 0..self.rng.usize(..6) {
                self.jostle(one);
            }
            self.on(two, |actor| {
                actor.declare(MORTAL, false, false);
            });
            self.rush(two);
            self.quiet();
        }
    }

    /// An exclusive queue is its owner's alone, and a queue without consumers is deleted with the
    /// last one.
    fn owned(&mut self) {
        let (one, two) = (self.connect(1, 0), self.connect(1, 0));
        self.quiet();
        self.on(one, |actor| {
            actor.declare(EXCLUSIVE, false, false);
        });
        self.quiet();
        self.on(two, |actor| {
            actor.get_from(EXCLUSIVE, false);
        });
        self.quiet();
        self.on(two, |actor| {
            actor.declare(AUTO, false, false);
            actor.consume_from(AUTO, true);
        });
        self.quiet();
        self.on(two, |actor| actor.cancel_all());
        self.quiet();
        self.on(two, |actor| {
            actor.declare(AUTO, true, false);
        });
        self.quiet();
    }

    /// A purge leaves nothing.
    fn purged(&mut self) {
        let one = self.connect(1, 0);
        self.quiet();
        self.on(one, |actor| actor.delete(MORTAL, false, false));
        self.quiet();
        self.on(one, |actor| {
            actor.declare(MORTAL, false, false);
            (0..3).for_each(|_| actor.publish_to(0, MORTAL, 16));
        });
        self.quiet();
        self.on(one, |actor| actor.purge_of(MORTAL, false));
        self.quiet();
        let mut look = 0;
        self.on(one, |actor| look = actor.declare(MORTAL, true, false));
        self.quiet();
        let left = self.h.ops[look].counts.map_or(0, |(messages, _)| messages);
        if left > 0 && !self.broken() {
            self.h.fail(|| format!("{left} messages are left behind a purge"));
        }
    }

    /// What an exchange without bindings gets goes to its alternate exchange.
    fn alternates(&mut self) {
        let one = self.connect(1, 0);
        self.quiet();
        self.on(one, |actor| {
            actor.declare_bound(0);
            actor.delete_exchange_of(X_DIRECT);
            actor.declare_exchange_of(X_DIRECT);
        });
        self.quiet();
        self.on(one, |actor| {
            (0..PLAIN_KEYS).for_each(|key| actor.publish_to(X_DIRECT, key, 16));
        });
        self.quiet();
    }

    /// A queue is deleted while somebody publishes to it.
    pub fn duel(&mut self) {
        let (one, two) = (self.connect(1, 0), self.connect(1, 0));
        self.quiet();
        self.on(two, |actor| {
            actor.declare(MORTAL, false, false);
            actor.confirm();
        });
        self.quiet();
        self.on(one, |actor| actor.delete(MORTAL, false, false));
        for _ in 0..6 {
            self.on(two, |actor| actor.publish_to(0, MORTAL, 16));
            self.jostle(one);
            self.jostle(two);
        }
        self.quiet();
    }

    /// A declared queue exists for all clients at once, and if-unused and if-empty hold.
    pub fn conditions(&mut self) {
        let (one, two) = (self.connect(1, 0), self.connect(1, 0));
        self.quiet();
        (0..ROUNDS).for_each(|_| self.declare_for_all(one, two));
        self.on(one, |actor| actor.publish_to(0, MORTAL, 16));
        self.quiet();
        self.on(one, |actor| actor.delete(MORTAL, false, true));
        self.quiet();
        self.on(two, |actor| {
            actor.consume_from(MORTAL, false);
        });
        self.quiet();
        self.on(one, |actor| actor.delete(MORTAL, true, false));
        self.quiet();
    }

    /// As soon as one client knows that a queue is declared, another one finds it.
    fn declare_for_all(&mut self, one: usize, two: usize) {
        self.on(one, |actor| actor.delete(MORTAL, false, false));
        self.quiet();
        (0..6).for_each(|_| self.stall(20));
        let mut declare = 0;
        self.on(one, |actor| declare = actor.declare(MORTAL, false, false));
        for _ in 0..200 {
            self.jostle(one);
            self.client_reads(one, true);
            if self.h.ops[declare].fate == Fate::Done {
                break;
            }
        }
        self.on(two, |actor| {
            actor.declare(MORTAL, true, false);
        });
        self.rush(two);
        self.quiet();
    }
}
