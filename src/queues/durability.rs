//! Connects the queues to the store: operations for the shell, the durable position, recovered
//! queues, and queues that cannot be read.

use model::queue::RestoredMessages;
use model::{Name, Now, QueueCommands, QueueId, QueueSpec, Refusal, RequestId, Resource};

use crate::mesh::control::QueueAnswer;
use crate::queues::hosted::Queues;
use crate::queues::output::HomeOutput;
use crate::queues::storage_error::StorageError;
use crate::store::{self, Done, Op, RecoveredQueue};

/// How far the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogPosition {
    /// The batch that is being filled.
    pub filling: u64,
    /// Batches up to this one are durable.
    pub durable: u64,
    /// All that was logged is durable.
    pub settled: bool,
}

/// Gets that a queue out of service cannot answer, with what they are told.
pub(crate) type RefusedGets = Vec<(RequestId, QueueAnswer)>;

impl Queues {
    /// Creates a queue that recovery has found messages of, or that is only declared. It comes
    /// before anything else that the home does.
    pub fn restore(
        &mut self,
        vhost: Name,
        spec: QueueSpec,
        found: RecoveredQueue,
        outward: &mut impl HomeOutput,
    ) {
        let id = spec.id;
        self.create(vhost, spec, outward);
        let RecoveredQueue { messages, next_seq, bodies, expires, .. } = found;
        let lanes = found.lanes.clone();
        let restored = RestoredMessages { messages, next_seq, bodies, expires, lanes };
        self.store.adopt(id, found);
        self.with(id, outward, |queue, _, _| queue.restore(restored));
    }

    /// The next operation on files. [`Self::done`] takes the answer.
    pub fn next_op(&mut self) -> Option<Op> {
        self.store.next_op()
    }

    /// An operation was carried out, or failed. [`Self::next_refused`] follows.
    pub fn done(&mut self, done: Done, now: Now) {
        self.store.done(done, now);
    }

    /// Handles what went wrong in the store, one thing at a time: the gets that the caller answers.
    /// `None` when nothing is left.
    pub fn next_refused(&mut self, outward: &mut impl HomeOutput) -> Option<RefusedGets> {
        let mut gets = RefusedGets::new();
        let error = match self.store.next_error()? {
            store::StoreError::Fatal(why) => Some(StorageError::Poisoned(why)),
            store::StoreError::Unreadable(queue, why) => {
                let of = self.break_down(queue, &mut gets, outward);
                of.map(|queue| StorageError::Unreadable(queue, why))
            }
        };
        self.errors.extend(error);
        Some(gets)
    }

    /// What somebody has to be told, or the shell to do, since operations were carried out.
    pub fn next_error(&mut self) -> Option<StorageError> {
        let lack = || self.store.take_lack().map(StorageError::Full);
        self.errors.pop_front().or_else(lack)
    }

    /// Messages of a queue cannot be read: who waits for them is told. `None`: it is deleted.
    fn break_down(
        &mut self,
        id: QueueId,
        refused: &mut RefusedGets,
        outward: &mut impl HomeOutput,
    ) -> Option<Resource> {
        let resource = self.hosted.get(&id)?.resource();
        let (consumers, gets) =
            self.with(id, outward, |queue, now, output| queue.break_down(now, output))?;
        for consumer in consumers {
            outward.consumer_gone(consumer.conn, consumer.channel, consumer.id);
        }
        let answer = QueueAnswer::Refused(Refusal::Broken(resource.clone()));
        refused.extend(gets.into_iter().map(|get| (get.ticket, answer.clone())));
        Some(resource)
    }

    /// True if too much waits for the disk: nothing more is to enter.
    #[inline]
    pub fn backpressure(&self) -> bool {
        self.store.full()
    }

    /// How far the log is.
    pub fn log_position(&self) -> LogPosition {
        LogPosition {
            filling: self.store.batch(),
            durable: self.store.durable(),
            settled: self.store.is_settled_or_durable(),
        }
    }

    /// Somebody waits for the batch that is being filled.
    pub fn request_flush(&mut self) {
        self.store.request_flush();
    }

    /// Settles up to now are to be durable with the batch that is being filled.
    pub fn fence(&mut self) {
        self.store.fence();
    }

    /// Ends a turn: what was logged in it goes on its way.
    pub fn end_turn(&mut self, now: Now) {
        self.store.end_turn(now);
    }

    /// When [`Self::tick`] is to be called next, and a turn to end, although nothing happens: in
    /// microseconds of the monotonic clock.
    pub fn next_deadline_us(&self) -> Option<u64> {
        let queues = [self.next_queue_deadline_us(), self.credit.next_look_us()];
        self.store.deadline_us().into_iter().chain(queues.into_iter().flatten()).min()
    }

    /// The broker goes down and no client is left: the store is told what has been delivered, so
    /// that the next start knows it exactly.
    pub fn stop(&mut self) {
        let ids = self.ids();
        let queues = ids.into_iter().filter_map(|id| Some((id, self.hosted.get(&id)?)));
        let delivered = queues
            .flat_map(|(id, host)| host.queue.delivered().into_iter().map(move |seq| (id, seq)));
        self.store.stop(delivered);
        self.timers.stop();
    }

    /// True if nothing waits for the disk.
    pub fn is_idle(&self) -> bool {
        self.store.is_idle()
    }
}
