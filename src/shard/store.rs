//! The shard and its store: the operations on files that the shell carries out, what is durable and
//! who is told, and recovered queues.

use model::{Name, Now, QueueSpec, ShardId};

use super::machine::Shard;
use crate::store::{Done, Op, RecoveredQueue, Trouble};

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
    }

    /// What the store cannot cope with by itself.
    pub fn trouble(&mut self) -> Option<Trouble> {
        self.store.trouble()
    }

    /// Queues have logged a message that a connection of this shard published.
    pub(super) fn logged_own(&mut self) {
        self.peers.get(self.me).progress.logged();
        self.crowded |= self.store.full();
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
