//! What is asked of a queue: counts, consume, cancel, get, purge, and the freeze before a delete.

use model::mutant::{self, Mutant};
use model::queue::Get;
use model::{ConsumerSpec, QueueCommands, QueueId, Refusal, RequestId};

use crate::mesh::control::{QueueAnswer, QueueRequest};
use crate::queues::hosted::Queues;
use crate::queues::output::HomeOutput;
use crate::queues::work::Waiting;

impl Queues {
    /// Does what is asked. `None`: the answer comes through `outward`. What a new consumer gets is
    /// to come behind its answer: [`Queues::dispatch`] follows.
    pub fn request(
        &mut self,
        ticket: RequestId,
        id: QueueId,
        request: QueueRequest,
        outward: &mut impl HomeOutput,
    ) -> Option<QueueAnswer> {
        if self.withholds(id) {
            self.wait(ticket, id, request);
            return None;
        }
        self.request_now(ticket, id, request, outward)
    }

    /// True if what is asked of the queue now has to wait.
    fn withholds(&self, id: QueueId) -> bool {
        let host = self.hosted.get(&id);
        host.is_some_and(|host| host.queue.withholds() || !host.waiting.is_empty())
    }

    /// The request is answered when the queue is done with what holds it back.
    #[cold]
    fn wait(&mut self, ticket: RequestId, id: QueueId, request: QueueRequest) {
        match &request {
            QueueRequest::Consume(ConsumerSpec { channel, .. })
            | QueueRequest::Get { channel, .. } => self.involve(*channel, id),
            QueueRequest::Count | QueueRequest::Cancel(_) | QueueRequest::Purge => {}
        }
        if let Some(host) = self.hosted.get_mut(&id) {
            host.waiting.push_back(Waiting::Request(ticket, request));
        }
    }

    /// Does what is asked, whatever waits.
    pub(super) fn request_now(
        &mut self,
        ticket: RequestId,
        id: QueueId,
        request: QueueRequest,
        outward: &mut impl HomeOutput,
    ) -> Option<QueueAnswer> {
        let host = self.hosted.get(&id).filter(|host| !host.queue.frozen());
        let Some(host) = host else { return Some(QueueAnswer::of_none(id, &request)) };
        let takes = matches!(request, QueueRequest::Consume(_) | QueueRequest::Get { .. });
        if takes && host.queue.broken() {
            return Some(QueueAnswer::Refused(Refusal::Broken(host.resource())));
        }
        match request {
            QueueRequest::Count => self.with(id, outward, |queue, now, output| {
                queue.touch(now, output);
                QueueAnswer::Counts(queue.ready(), queue.consumers().len() as u32)
            }),
            QueueRequest::Consume(consumer) => Some(self.consume(id, consumer, outward)),
            QueueRequest::Cancel(consumer) => {
                if mutant::active(Mutant::CancelKeepsConsumer) {
                    return Some(QueueAnswer::Cancelled);
                }
                let unused = self
                    .with(id, outward, |queue, now, output| queue.cancel(consumer, now, output));
                self.tell_unused(id, unused, outward);
                Some(QueueAnswer::Cancelled)
            }
            QueueRequest::Get { conn, channel, no_ack, properties_max } => {
                self.involve(channel, id);
                let get = Get { ticket, conn, channel, no_ack, properties_max };
                self.with(id, outward, |queue, now, output| queue.get(get, now, output));
                None
            }
            QueueRequest::Purge => self
                .with(id, outward, |queue, now, output| queue.purge(now, output))
                .map(QueueAnswer::Purged),
        }
    }

    /// Adds a consumer.
    pub fn consume(
        &mut self,
        id: QueueId,
        consumer: ConsumerSpec,
        outward: &mut impl HomeOutput,
    ) -> QueueAnswer {
        let Some(host) = self.hosted.get(&id) else {
            return QueueAnswer::Frozen(id);
        };
        if !host.queue.admits(consumer.exclusive) {
            return QueueAnswer::Refused(Refusal::ExclusiveUse(host.resource()));
        }
        self.involve(consumer.channel, id);
        self.credit.open(consumer.conn);
        self.with(id, outward, |queue, now, output| {
            queue.consume(consumer, now);
            if mutant::active(Mutant::DeliverBeforeConsumeOk) {
                queue.dispatch(now, output);
            }
        });
        QueueAnswer::Consuming
    }

    /// Freezes a queue unless a condition forbids it; its ready messages. What waited for messages
    /// is answered. `None`: the answer comes later.
    pub fn freeze(
        &mut self,
        id: QueueId,
        if_unused: bool,
        if_empty: bool,
        outward: &mut impl HomeOutput,
    ) -> Option<Result<u32, Refusal>> {
        if self.withholds(id) {
            let host = self.hosted.get_mut(&id)?;
            host.waiting.push_back(Waiting::Freeze { if_unused, if_empty });
            return None;
        }
        Some(self.freeze_now(id, if_unused, if_empty, outward))
    }

    /// Freezes a queue, whatever waits.
    pub(super) fn freeze_now(
        &mut self,
        id: QueueId,
        if_unused: bool,
        if_empty: bool,
        outward: &mut impl HomeOutput,
    ) -> Result<u32, Refusal> {
        let frozen = self.freeze_if(id, if_unused, if_empty, outward);
        self.dispatch(id, outward);
        frozen
    }

    fn freeze_if(
        &mut self,
        id: QueueId,
        if_unused: bool,
        if_empty: bool,
        outward: &mut impl HomeOutput,
    ) -> Result<u32, Refusal> {
        let Some(host) = self.hosted.get(&id) else {
            return Ok(0);
        };
        let ready = host.queue.ready();
        if host.queue.frozen() {
            return Ok(ready);
        }
        let (no_unused, no_empty) =
            (mutant::active(Mutant::IfUnusedIgnored), mutant::active(Mutant::IfEmptyIgnored));
        // Both may be true of one queue; RabbitMQ tells this one.
        if if_empty && !no_empty && ready > 0 {
            return Err(Refusal::NotEmpty(host.resource()));
        }
        if if_unused && !no_unused && !host.queue.consumers().is_empty() {
            return Err(Refusal::InUse(host.resource()));
        }
        self.with(id, outward, |queue, now, output| queue.freeze(now, output));
        Ok(ready)
    }
}

impl QueueAnswer {
    /// The answer where the queue is deleted, or is being.
    pub(super) fn of_none(id: QueueId, request: &QueueRequest) -> Self {
        match request {
            // A consumer of a queue that goes away gets nothing more in any case.
            QueueRequest::Cancel(_) => Self::Cancelled,
            _ => Self::Frozen(id),
        }
    }
}
