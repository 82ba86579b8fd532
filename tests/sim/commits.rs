//! Transactions from the client's side: what is not committed yet, and scenes that end with one.

use crate::channel::{Channel, Unacked};
use crate::history::{BindingKey, History, Settle};
use crate::names::NO_QUEUE;
use crate::run::FANOUT;
use crate::world::World;

/// What a channel in tx mode did and did not commit.
#[derive(Debug, Default)]
pub struct Tx {
    /// Publishes, by their messages' places in the history.
    pub messages: Vec<usize>,
    /// Settles: the tag, what it was, and how it is given back.
    pub settles: Vec<(u64, Unacked, Settle)>,
}

impl Channel {
    /// A commit was sent.
    pub fn committing(&mut self, op: usize, h: &mut History) {
        let tx = self.tx.as_mut().map(std::mem::take).unwrap_or_default();
        for message in tx.messages {
            h.messages[message].effect = Some(op);
        }
        for (_, unacked, how) in tx.settles {
            h.deliveries[unacked.delivery].settled = Some((how, op));
        }
    }

    /// A rollback was sent.
    pub fn rolling_back(&mut self) {
        let tx = self.tx.as_mut().map(std::mem::take).unwrap_or_default();
        self.unacked.extend(tx.settles.into_iter().map(|(tag, unacked, _)| (tag, unacked)));
    }
}

impl World {
    /// A multiple ack takes what it names; what was rolled back can be settled again.
    pub fn settle_some(&mut self) {
        let one = self.connect(1, 0);
        self.quiet();
        let queue = 2;
        self.on(one, |actor| {
            actor.declare(queue, false, false);
            (0..4).for_each(|_| actor.publish_to(0, queue, 16));
            (0..4).for_each(|_| {
                actor.get_from(queue, false);
            });
        });
        self.quiet();
        self.on(one, |actor| actor.settle_up_to(1, Settle::Ack));
        self.quiet();
        self.on(one, |actor| {
            actor.tx_select();
            actor.settle_up_to(0, Settle::Ack);
            actor.tx_rollback();
        });
        self.quiet();
        self.on(one, |actor| {
            actor.settle_up_to(0, Settle::Drop);
            actor.tx_commit();
        });
        self.quiet();
        self.on(one, |actor| actor.close_channel());
        self.quiet();
    }

    /// What a commit published and gave back is found at once from anywhere.
    pub fn look_at_commit(&mut self) {
        let (one, two) = (self.connect(1, 0), self.connect(1, 0));
        self.quiet();
        let queues = [0, 1, 2];
        self.on(one, |actor| {
            for queue in queues {
                actor.declare(queue, false, false);
                let key = BindingKey { exchange: FANOUT, queue, key: 0, matches: 0 };
                actor.bind_to(key, false);
            }
            actor.tx_select();
            actor.publish_to(FANOUT, 0, 16);
        });
        self.quiet();
        self.on(one, |actor| actor.tx_commit());
        self.until(one, two, |world, message| world.h.messages[message].confirmed);
        self.quiet();
        self.on(one, |actor| {
            for queue in queues {
                actor.get_from(queue, false);
            }
        });
        self.quiet();
        self.on(one, |actor| {
            actor.requeue_all();
            actor.publish_to(0, NO_QUEUE, 16);
            actor.tx_commit();
        });
        self.until(one, two, |world, message| world.h.messages[message].confirmed);
        self.quiet();
    }
}
