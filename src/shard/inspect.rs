//! What a shard answers a thread outside the data path. Lists are answered at once, a chunk at a
//! time. A purge takes the way of a client's method, without a channel that waits for it.

use model::Now;
use model::mutant::{self, Mutant};

use super::machine::Shard;
use super::pending::PendingPurge;
use crate::mesh::control::{Answer, Control, QueueAnswer, QueueRequest, Request};
use crate::mesh::inspect::{InspectId, ShardAnswer, ShardCounts, ShardRequest};
use crate::sessions::BrokerAccess;

impl Shard {
    /// Answers a question from outside the data path; [`Self::next_inspected`] has the answer, at
    /// once for a list, and when it is done for a command. A turn's end follows. `id` is of no
    /// other question that waits.
    pub fn inspect(&mut self, id: InspectId, request: ShardRequest, now: Now) {
        self.queues.set_time(now);
        let answer = match request {
            ShardRequest::PurgeQueue { vhost, name } => {
                return self.purge(PendingPurge { id, vhost, name }, now);
            }
            ShardRequest::CloseConnection { conn, reason } => {
                let (sessions, mut broker) = self.parts(now);
                match sessions.close_by_operator(conn, &reason, &mut broker) {
                    true => ShardAnswer::Closing,
                    false => ShardAnswer::NoConnection,
                }
            }
            ShardRequest::Counts => ShardAnswer::Counts(self.counts()),
            ShardRequest::Queues(page) => ShardAnswer::Queues(self.queues.list(&page)),
            ShardRequest::Connections(page) => {
                ShardAnswer::Connections(self.sessions.list_connections(&page))
            }
            ShardRequest::Channels(page) => {
                ShardAnswer::Channels(self.sessions.list_channels(&page))
            }
            ShardRequest::Consumers(page) => {
                ShardAnswer::Consumers(self.sessions.list_consumers(&page))
            }
            ShardRequest::Exchanges(page) => {
                ShardAnswer::Exchanges(self.sessions.list_exchanges(&page))
            }
        };
        self.outside.answer(id, answer);
    }

    /// The next answer.
    pub fn next_inspected(&mut self) -> Option<(InspectId, ShardAnswer)> {
        self.outside.answers.pop_front()
    }

    fn counts(&self) -> ShardCounts {
        let mut counts =
            ShardCounts { memory_bytes: self.pinned() as u64, ..ShardCounts::default() };
        self.sessions.count(&mut counts);
        self.queues.count(&mut counts);
        counts
    }

    fn purge(&mut self, purge: PendingPurge, now: Now) {
        let (sessions, mut broker) = self.parts(now);
        let queue = match sessions.queue_for_operator(&purge.vhost, &purge.name) {
            Ok(queue) => queue,
            Err(refusal) => {
                return self.outside.answer(purge.id, ShardAnswer::Refused(refusal));
            }
        };
        let ticket = sessions.fresh_request();
        let connections = sessions.connections();
        let answer = broker.ask_queue(connections, ticket, queue, QueueRequest::Purge);
        broker.serve(connections, queue);
        match answer {
            Some(answer) => self.purge_answered(purge, answer),
            None => drop(self.outside.purges.insert(ticket, purge)),
        }
    }

    /// The purge's queue has answered.
    fn purge_answered(&mut self, purge: PendingPurge, answer: QueueAnswer) {
        match answer {
            QueueAnswer::Purged(messages) => {
                self.outside.answer(purge.id, ShardAnswer::Purged(messages));
            }
            QueueAnswer::Refused(refusal) => {
                self.outside.answer(purge.id, ShardAnswer::Refused(refusal));
            }
            QueueAnswer::Frozen(_) if mutant::active(Mutant::PurgeUnanswered) => {}
            // The name is looked up again when the deletion is known everywhere.
            QueueAnswer::Frozen(queue) => {
                let ticket = self.sessions.fresh_request();
                let coordinator = self.peers.coordinator();
                self.tell(coordinator, Control::Ask(ticket, Request::AwaitDeleted(queue)));
                self.outside.purges.insert(ticket, purge);
            }
            other => debug_assert!(false, "{other:?} is no answer to a purge"),
        }
    }

    /// Takes the answer to a command's request; gives back what other parts of the shard wait for.
    #[inline]
    pub(super) fn answer_to_command(&mut self, control: Control, now: Now) -> Option<Control> {
        if self.outside.purges.is_empty() {
            return Some(control);
        }
        let (Control::Answer(ticket, _) | Control::QueueAnswer(ticket, _)) = &control else {
            return Some(control);
        };
        let Some(purge) = self.outside.purges.remove(ticket) else { return Some(control) };
        match control {
            Control::QueueAnswer(_, answer) => self.purge_answered(purge, answer),
            Control::Answer(_, Answer::Refused(refusal)) => {
                self.outside.answer(purge.id, ShardAnswer::Refused(refusal));
            }
            _ => self.purge(purge, now),
        }
        None
    }
}
