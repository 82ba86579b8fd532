//! What is rare by chance and done on purpose: some of what a channel holds is settled, limits that
//! consumers share, priorities.

use crate::actions::Actor;
use crate::client::Stage;
#[cfg(feature = "second-kinds")]
use crate::names::SHUFFLED;
use crate::world::World;

impl World {
    /// Of what a channel holds of a queue some is settled, the rest comes back when it ends.
    pub fn settle_some(&mut self) {
        let (one, two) = (self.connect(1, 0), self.connect(1, 0));
        self.quiet();
        let queue = 0;
        self.on(one, |actor| {
            actor.declare(queue, false, false);
            (0..5).for_each(|_| actor.publish_to(0, queue, 16));
        });
        self.quiet();
        self.on(two, |actor| {
            actor.consume_from(queue, false);
        });
        self.quiet();
        self.on(two, |actor| actor.ack_first(3));
        self.quiet();
        self.on(two, |actor| actor.close_channel());
        self.quiet();
    }

    /// Runs until `done`, then `two` gets from each of the first queues at once.
    pub fn until(&mut self, one: usize, two: usize, done: impl Fn(&Self, usize) -> bool) {
        self.until_of(one, (two, 0..3), done);
    }

    /// Runs until `done`, then `two` gets from each of the queues at once.
    pub fn until_of(
        &mut self,
        one: usize,
        (two, queues): (usize, std::ops::Range<usize>),
        done: impl Fn(&Self, usize) -> bool,
    ) {
        let message = self.h.messages.len() - 1;
        (0..4).for_each(|_| self.stall(20));
        for _ in 0..200 {
            self.jostle(one);
            self.client_reads(one, true);
            self.pass(20);
            if done(self, message) {
                for queue in queues {
                    self.on(two, |actor| {
                        actor.get_from(queue, false);
                    });
                }
                self.rush(two);
                return;
            }
        }
    }

    /// What a shuffled queue holds is confirmed when anyone can find it. It is not delivered before
    /// its time because an earlier message is due.
    #[cfg(feature = "second-kinds")]
    pub fn hold(&mut self) {
        let (one, two) = (self.connect(1, 0), self.connect(1, 0));
        self.quiet();
        self.on(one, |actor| {
            actor.declare(SHUFFLED, false, false);
            actor.confirm();
        });
        self.quiet();
        self.on(one, |actor| actor.publish_to(0, SHUFFLED, 16));
        let queues = SHUFFLED..SHUFFLED + 1;
        self.until_of(one, (two, queues), |world, message| world.h.messages[message].confirmed);
        self.quiet();
        self.on(two, |actor| {
            actor.consume_from(SHUFFLED, true);
        });
        self.quiet();
        for _ in 0..8 {
            self.on(one, |actor| actor.publish_to(0, SHUFFLED, 16));
            self.rush(one);
            for _ in 0..8 {
                self.jostle(two);
                self.client_reads(two, true);
                self.pass(40);
            }
        }
        self.quiet();
    }

    /// Permits that come to queues where nothing is left are not lost, and what basic.get took
    /// counts.
    pub fn limits(&mut self) {
        let (one, two) = (self.connect(1, 0), self.connect(1, 0));
        self.quiet();
        let queues = [0, 1];
        self.on(one, |actor| {
            queues.iter().for_each(|queue| {
                actor.declare(*queue, false, false);
            });
            actor.limit_to(1);
            queues.iter().for_each(|queue| {
                actor.consume_from(*queue, false);
            });
        });
        self.quiet();
        for round in 0..3 {
            self.on(two, |actor| {
                queues.iter().for_each(|queue| actor.publish_to(0, *queue, 16));
                queues.iter().filter(|_| round < 2).for_each(|queue| {
                    actor.get_from(*queue, true);
                });
            });
            self.quiet();
            self.on(one, |actor| actor.ack_all());
            self.quiet();
        }
        if !self.broken() {
            self.limit_at_once(one, two, &queues);
        }
    }

    /// A limit holds from its answer on, wherever messages come from.
    fn limit_at_once(&mut self, one: usize, two: usize, queues: &[usize]) {
        self.on(one, |actor| {
            actor.ack_all();
            actor.limit_to(0);
            queues.iter().for_each(|queue| {
                actor.get_from(*queue, false);
            });
        });
        self.quiet();
        (0..3).for_each(|_| self.stall(20));
        self.on(one, |actor| actor.limit_to(3));
        for _ in 0..10 {
            self.on(two, |actor| {
                queues.iter().for_each(|queue| actor.publish_to(0, *queue, 16));
            });
            self.jostle(one);
            self.jostle(two);
            self.client_reads(one, false);
        }
        self.quiet();
        self.on(one, |actor| {
            queues.iter().for_each(|queue| {
                actor.get_from(*queue, false);
            });
        });
        self.quiet();
        self.on(one, |actor| actor.ack_first(1));
        self.quiet();
        self.on(one, |actor| actor.limit_to(0));
        self.quiet();
        self.on(one, |actor| actor.cancel_all());
        self.quiet();
    }

    /// Consumers of several priorities on one queue, the highest with little room.
    pub fn ranks(&mut self) {
        let publisher = self.connect(1, 0);
        let consumers = [7, -7, 6].map(|priority| (self.connect(1, 0), priority));
        self.quiet();
        let queue = 1;
        self.on(publisher, |actor| {
            actor.declare(queue, false, false);
        });
        self.quiet();
        for (at, priority) in consumers {
            self.on(at, |actor| {
                match priority {
                    7 => actor.qos_of(2),
                    6 => actor.limit_to(20),
                    _ => {}
                }
                actor.consume_with(queue, false, priority);
            });
        }
        self.quiet();
        for _ in 0..6 {
            self.on(publisher, |actor| actor.publish_to(0, queue, 16));
        }
        self.quiet();
        for (at, _) in consumers {
            self.on(at, |actor| actor.cancel_all());
        }
        self.quiet();
    }

    /// What is more than the work of a turn: many deliveries are settled at once, many consumers
    /// and many channels end, a long queue is purged or deleted.
    pub fn heavy(&mut self) {
        let (one, two) = (self.connect(1, 0), self.connect(HEAVY / 4, 0));
        self.quiet();
        let (queue, commits) = (self.rng.usize(..2), self.rng.bool());
        self.on(one, |actor| {
            actor.declare(queue, false, false);
            if commits {
                actor.tx_select();
            }
            (0..HEAVY).for_each(|_| actor.publish_to(0, queue, 16));
            if commits {
                actor.tx_commit();
            }
        });
        self.quiet();
        self.on(two, |actor| {
            actor.consume_from(queue, false);
        });
        self.quiet();
        self.on(two, |actor| actor.requeue_all());
        self.glance(one, queue);
        self.on(two, |actor| actor.ack_first(HEAVY / 2));
        self.quiet();
        self.on(two, |actor| {
            (0..HEAVY / 4).for_each(|_| {
                actor.consume_from(queue, false);
            });
        });
        let client = &mut self.links[two].client;
        for at in 1..client.channels.len() {
            if client.stage == Stage::Open {
                client.open_channel(at, &mut self.h);
            }
        }
        self.quiet();
        match self.rng.u8(..3) {
            0 => self.on(two, |actor| actor.close_channel()),
            1 => self.links[two].client.close(&mut self.h, &mut self.rng),
            _ => self.vanish(two),
        }
        self.glance(one, queue);
        self.on(one, |actor| actor.delete(queue, false, false));
        self.quiet();
    }

    /// Somebody looks at a queue while another client's work on it goes on.
    fn glance(&mut self, one: usize, queue: usize) {
        for _ in 0..self.rng.usize(..4) {
            self.jostle(one);
        }
        self.on(one, |actor| {
            actor.get_from(queue, true);
        });
        self.quiet();
    }
}

/// Messages that are too many for a turn of most seeds.
const HEAVY: usize = 150;
impl Actor<'_> {
    /// Publishes a message.
    pub fn publish_to(&mut self, exchange: usize, key: usize, size: usize) {
        self.publish_with(exchange, (key, None), size, None);
    }
}
