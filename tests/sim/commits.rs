//! Transactions from the client's side: what is not committed yet, and scenes that end with one.

use amqp::Method;

use crate::actions::Actor;
use crate::channel::{Channel, Unacked};
use crate::history::{History, Settle, What};
use crate::names::NO_QUEUE;
use crate::run::FANOUT;
use crate::world::World;

/// What a channel in tx mode did and did not commit.
#[derive(Debug, Default)]
pub struct Tx {
    /// Publishes, by their messages' places in the history.
    pub messages: Vec<usize>,
    /// Settles: the tag, the delivery, and how it is settled.
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
            h.settled(unacked.delivery, how, op);
        }
    }

    /// A rollback was sent.
    pub fn rolling_back(&mut self) {
        let tx = self.tx.as_mut().map(std::mem::take).unwrap_or_default();
        self.unacked.extend(tx.settles.into_iter().map(|(tag, unacked, _)| (tag, unacked)));
    }
}

impl Actor<'_> {
    /// Makes the channel transactional, or ends a transaction.
    pub fn transact(&mut self) {
        let channel = &self.client.channels[self.at];
        if channel.tx.is_none() {
            if channel.confirms.is_none() {
                self.tx_select();
            }
        } else if !channel.recovering {
            if self.rng.u8(..3) == 0 { self.tx_rollback() } else { self.tx_commit() }
        }
    }

    /// Turns transactions on.
    pub fn tx_select(&mut self) {
        self.ask(What::TxSelect, &Method::TxSelect {}, false);
        self.client.channels[self.at].tx = Some(Default::default());
    }

    /// Commits: publishes and settles take effect.
    pub fn tx_commit(&mut self) {
        let op = self.ask(What::TxCommit, &Method::TxCommit {}, false);
        self.client.channels[self.at].committing(op, self.h);
    }

    /// Rolls back: settled deliveries can be settled again.
    pub fn tx_rollback(&mut self) {
        self.ask(What::TxRollback, &Method::TxRollback {}, false);
        self.client.channels[self.at].rolling_back();
    }
}

impl World {
    /// A multiple ack settles all it names; after a rollback they can be settled again.
    pub fn settle_and_roll_back(&mut self) {
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
            actor.publish_to(0, queue, 16);
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

    /// What a commit published and requeued is found at once by every client.
    pub fn look_at_commit(&mut self) {
        let (one, two) = (self.connect(1, 0), self.connect(1, 0));
        self.quiet();
        let queues = [0, 1, 2];
        self.on(one, |actor| {
            queues.iter().for_each(|queue| actor.declare_bound(*queue));
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
