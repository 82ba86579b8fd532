//! The shard and its store: the operations on files that the shell carries out, what is durable and
//! who is told, recovered queues, and queues that cannot be read.

use model::{Name, Now, QueueId, QueueSpec, Refusal, Resource, ShardId};

use super::home::Became;
use super::machine::Shard;
use super::message::{Control, QueueAnswer};
use super::publish::Publisher;
use crate::store::{self, Done, Op, RecoveredQueue};

/// What a shard's store cannot cope with by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// A write or a sync failed: what is on disk is not known any more. The process has to end.
    Poisoned(String),
    /// There is no room on the disk (`true`), or again some.
    Full(bool),
    /// A queue is out of service, since messages of it cannot be read; and why. What it was told
    /// and what clients are told of it is done.
    Unreadable(Resource, String),
}

impl Shard {
    /// Creates a queue that recovery has found messages of, or that is only declared. It comes
    /// before anything else that the shard does.
    pub fn restore(&mut self, vhost: Name, spec: QueueSpec, found: RecoveredQueue) {
        let id = spec.id;
        self.home.create(vhost, spec);
        let (messages, next_seq) = (found.messages, found.next_seq);
        self.store.adopt(id, found);
        self.with_queue(id, |queue, _| queue.restore(messages, next_seq));
    }

    /// The next operation on files. [`Shard::done`] takes the answer.
    pub fn next_op(&mut self) -> Option<Op> {
        self.store.next_op()
    }

    /// An operation was carried out, or failed.
    pub fn done(&mut self, done: Done, now: Now) {
        self.store.done(done, now);
        while let Some(trouble) = self.store.trouble() {
            let trouble = match trouble {
                store::Trouble::Poisoned(why) => Some(Trouble::Poisoned(why)),
                store::Trouble::Full(full) => Some(Trouble::Full(full)),
                store::Trouble::Unreadable(queue, why) => {
                    let of = self.break_down(queue, now);
                    of.map(|queue| Trouble::Unreadable(queue, why))
                }
            };
            self.troubles.extend(trouble);
        }
    }

    /// What somebody has to be told, or the shell to do, since operations were carried out.
    pub fn trouble(&mut self) -> Option<Trouble> {
        self.troubles.pop_front()
    }

    /// Messages of a queue cannot be read: who waits for them is told. `None`: it is deleted.
    fn break_down(&mut self, id: QueueId, now: Now) -> Option<Resource> {
        let resource = self.home.queues.get(&id)?.resource();
        let (consumers, gets) = self.with_queue(id, |queue, _| queue.break_down())?;
        self.consumers_gone(consumers);
        for get in gets {
            let answer = QueueAnswer::Refused(Refusal::Broken(resource.clone()));
            let there = get.ticket.origin();
            if there == self.me {
                self.queue_answer(get.ticket, answer, now);
            } else {
                self.peers.get(there).out.control(Control::QueueAnswer(get.ticket, answer));
            }
        }
        Some(resource)
    }

    /// What became of a message that a connection of this shard published to its own queues.
    pub(super) fn became_own(&mut self, publisher: Publisher, became: Became) {
        if became.logged() {
            self.peers.get(self.me).progress.logged();
            self.crowded |= self.store.full();
        }
        self.refused |= became.refused() && (publisher.confirms || publisher.tx);
    }

    /// A source waits until its settles are durable; the fence itself is counted by the caller.
    pub(super) fn fence(&mut self, from: ShardId) {
        self.store.fence();
        self.peers.get(from).progress.logged();
    }

    /// Finds out what of that source is durable by now, and whether it waits for the rest.
    pub(super) fn advance_durable(&mut self, source: ShardId) {
        let (batch, durable) = (self.store.batch(), self.store.durable());
        let nothing = self.store.owes_nothing();
        let progress = &mut self.peers.get(source).progress;
        progress.mark(batch);
        if nothing {
            progress.all_durable();
        } else {
            progress.durable(durable);
        }
        if progress.hurries(batch) {
            self.store.hurry();
        }
    }
}
