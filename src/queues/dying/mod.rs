//! Queues with messages that have died: the shard takes their dead letters in turn, and says when
//! each has arrived.

pub(super) mod list;

use model::dead_letters::DeadMessage;
use model::mutant::{self, Mutant};
use model::{Name, QueueCommands, QueueId};

use crate::queues::hosted::Queues;
use crate::queues::output::HomeOutput;

/// The next dead letter of a queue.
#[derive(Debug)]
pub(crate) struct NextLetter<'a> {
    /// The queue's number for it.
    pub number: u64,
    /// The queue's vhost.
    pub vhost: &'a Name,
    /// The message.
    pub dead: DeadMessage<'a>,
}

impl Queues {
    /// Takes the queue whose turn it is to send a dead letter. [`Self::list_dying`] follows if it
    /// may send more.
    pub fn next_dying(&mut self) -> Option<QueueId> {
        for queue in std::mem::take(&mut self.dying.died) {
            self.list_dying(queue);
        }
        let queue = self.dying.listed.pop_front()?;
        if let Some(host) = self.hosted.get_mut(&queue) {
            host.letters.listed = false;
        }
        Some(queue)
    }

    /// The queue may send dead letters, if it has any.
    pub fn list_dying(&mut self, queue: QueueId) {
        let Some(host) = self.hosted.get_mut(&queue) else { return };
        if !std::mem::replace(&mut host.letters.listed, true) {
            self.dying.listed.push_back(queue);
        }
    }

    /// The queue goes on with its next dead letter before others send theirs.
    pub fn list_dying_first(&mut self, queue: QueueId) {
        let Some(host) = self.hosted.get_mut(&queue) else { return };
        if !std::mem::replace(&mut host.letters.listed, true) {
            self.dying.listed.push_front(queue);
        }
    }

    /// True if a queue may have a dead letter to send.
    pub fn any_dying(&self) -> bool {
        !self.dying.died.is_empty() || !self.dying.listed.is_empty()
    }

    /// The next dead letter of a queue that is not under way.
    pub fn next_letter(&self, queue: QueueId) -> Option<NextLetter<'_>> {
        let host = self.hosted.get(&queue)?;
        let dying = host.queue.dying(host.letters.next)?;
        let (message, death, target) = (dying.message, dying.death, dying.target);
        let dead = DeadMessage { message, queue: &host.name, death, target };
        Some(NextLetter { number: dying.number, vhost: &host.vhost, dead })
    }

    /// The dead letter with this number is under way.
    pub fn letter_left(&mut self, queue: QueueId, number: u64) {
        if let Some(host) = self.hosted.get_mut(&queue) {
            host.letters.next = number + 1;
        }
    }

    /// The dead letter with this number has arrived, or goes nowhere: its message leaves the queue
    /// for good.
    pub fn bury(&mut self, queue: QueueId, number: u64, outward: &mut impl HomeOutput) {
        if mutant::active(Mutant::NeverBuried) {
            return;
        }
        self.with(queue, outward, |queue, now, output| queue.buried(number, now, output));
        let Some(host) = self.hosted.get_mut(&queue) else { return };
        if host.letters.unused && host.queue.dying(0).is_none() {
            host.letters.unused = false;
            outward.unused(queue);
        }
    }

    /// True if messages of the queue have died and their dead letters have not arrived. It must not
    /// be dropped until then.
    pub fn has_dying(&self, queue: QueueId) -> bool {
        self.hosted.get(&queue).is_some_and(|host| host.queue.dying(0).is_some())
    }

    /// Tells the coordinator that an auto-delete queue has lost its last consumer, now or when its
    /// last dead letter has arrived.
    pub(in crate::queues) fn tell_unused(
        &mut self,
        id: QueueId,
        unused: Option<bool>,
        outward: &mut impl HomeOutput,
    ) {
        if unused == Some(true) && !mutant::active(Mutant::AutoDeleteNever) {
            self.delete_unused(id, outward);
        }
    }

    /// Tells the coordinator, in the same way, if a queue was unused for as long as it may be.
    pub(in crate::queues) fn tell_expired(
        &mut self,
        id: QueueId,
        unused: Option<bool>,
        outward: &mut impl HomeOutput,
    ) {
        if unused == Some(true) && !mutant::active(Mutant::UnusedQueueStays) {
            self.delete_unused(id, outward);
        }
    }

    fn delete_unused(&mut self, id: QueueId, outward: &mut impl HomeOutput) {
        match self.hosted.get_mut(&id) {
            Some(host) if host.queue.dying(0).is_some() => host.letters.unused = true,
            _ => outward.unused(id),
        }
    }
}
