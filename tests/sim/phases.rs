//! What is rare by chance and done on purpose: some of what a channel holds is settled, limits that
//! consumers share, priorities.

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
}
