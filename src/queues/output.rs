//! What leaves a home, and the adapter between one of its queues and the rest of the home.

use model::queue::{
    Delivery, DropSpilled, DroppedSpilled, EnqueueEnd, EnqueueId, Expiry, Overdue, QueueOutput,
    Spilled, Unfit,
};
use model::{Ask, ChannelId, ConnId, ConsumerId, Message, QueueId, RequestId, ShardId, Stored};

use crate::mesh::enqueue::{EnqueueOutcome, cost};
use crate::queues::credit::FlowCredit;
use crate::queues::dying::list::DyingQueues;
use crate::store::Store;

/// What leaves the queues of a home: for connections, on this shard or another, and for the
/// coordinator.
pub(crate) trait HomeOutput {
    /// Asks a channel for permits. `None`: the answer comes later, by
    /// [`Queues::permitted`](crate::queues::Queues::permitted).
    fn ask(&mut self, queue: QueueId, ask: Ask) -> Option<u32>;
    /// A message goes to a consumer.
    fn deliver(&mut self, delivery: Delivery<'_>);
    /// A message goes to a basic.get; so many stay ready.
    fn got(&mut self, ticket: RequestId, remaining: u32, delivery: Delivery<'_>);
    /// basic.get found no message.
    fn empty(&mut self, ticket: RequestId);
    /// Closes a channel that cannot be sent a message, which stays in its queue.
    fn unfit(&mut self, unfit: Unfit);
    /// Asks for the end of a channel that did not settle a delivery in time.
    fn overdue(&mut self, overdue: Overdue);
    /// A connection takes nothing of a large message, and others wait: it is to be given up.
    fn stuck(&mut self, conn: ConnId);
    /// A queue has given the consumer up.
    fn consumer_gone(&mut self, conn: ConnId, channel: ChannelId, consumer: ConsumerId);
    /// The last consumer of an auto-delete queue has gone; the queue is frozen.
    fn unused(&mut self, queue: QueueId);
    /// A queue holds the enqueue of that source that is entering; its id.
    fn hold(&mut self, source: ShardId) -> EnqueueId;
    /// An enqueue that was held has ended.
    fn finish(&mut self, enqueue: EnqueueId, end: EnqueueEnd);
}

/// The output of one queue: to clients through `outward`, to the store and the credit of its home.
pub(super) struct HostOutput<'a, O> {
    pub outward: &'a mut O,
    pub credit: &'a mut FlowCredit,
    pub store: &'a mut Store,
    pub outcome: &'a mut EnqueueOutcome,
    pub dying: &'a mut DyingQueues,
    /// Where the message that enters comes from.
    pub source: ShardId,
}

impl<O: HomeOutput> QueueOutput for HostOutput<'_, O> {
    #[inline]
    fn open(&mut self, queue: QueueId, conn: ConnId) -> bool {
        self.credit.available(queue, conn)
    }

    fn open_for(&mut self, queue: QueueId, conn: ConnId, message: Message<'_>) -> bool {
        self.credit.available_for(queue, conn, cost(message))
    }

    fn ask(&mut self, queue: QueueId, ask: Ask) -> Option<u32> {
        self.outward.ask(queue, ask)
    }

    #[inline]
    fn deliver(&mut self, delivery: Delivery<'_>) {
        self.credit.spend(delivery.to.conn, cost(delivery.message));
        self.outward.deliver(delivery);
    }

    fn got(&mut self, ticket: RequestId, remaining: u32, delivery: Delivery<'_>) {
        self.outward.got(ticket, remaining, delivery);
    }

    fn empty(&mut self, ticket: RequestId) {
        self.outward.empty(ticket);
    }

    fn unfit(&mut self, unfit: Unfit) {
        self.outward.unfit(unfit);
    }

    fn overdue(&mut self, overdue: Overdue) {
        self.outward.overdue(overdue);
    }

    fn refuse(&mut self) {
        self.outcome.refuse();
    }

    fn hold(&mut self) -> EnqueueId {
        self.outcome.hold();
        self.outward.hold(self.source)
    }

    fn finish(&mut self, enqueue: EnqueueId, end: EnqueueEnd) {
        self.outward.finish(enqueue, end);
    }

    fn log(&mut self, queue: QueueId, seq: u64, expiry: Expiry, message: Message<'_>) -> Stored {
        self.outcome.log();
        self.store.log(queue, seq, expiry, message)
    }

    fn log_held(&mut self, queue: QueueId, seq: u64, message: Message<'_>) -> Stored {
        // Neither the record before nor the one behind is of the same message.
        self.store.next_message();
        let stored = self.store.log(queue, seq, Expiry::NEVER, message);
        self.store.next_message();
        stored
    }

    fn bypass_log(
        &mut self,
        queue: QueueId,
        seq: u64,
        expiry: Expiry,
        message: Message<'_>,
    ) -> bool {
        let taken = self.store.bypass_log(queue, seq, expiry, message);
        if taken {
            self.outcome.log();
        }
        taken
    }

    fn log_again(
        &mut self,
        queue: QueueId,
        seq: u64,
        old: (Stored, Expiry),
        message: Message<'_>,
    ) -> Stored {
        self.store.log_again(queue, seq, old, message)
    }

    fn settled(&mut self, queue: QueueId, seq: u64, stored: Stored) {
        self.store.settled(queue, seq, stored);
    }

    fn let_go(&mut self, stored: Stored) {
        self.store.let_go(stored);
    }

    fn spill(&mut self, queue: QueueId, spilled: Spilled<'_>) {
        self.store.spill(queue, spilled);
    }

    fn died(&mut self, queue: QueueId) {
        self.dying.died(queue);
    }

    fn fetch(&mut self, queue: QueueId) {
        self.store.fetch(queue);
    }

    fn purge(&mut self, queue: QueueId) {
        self.store.purge(queue);
    }

    fn drop_spilled(&mut self, queue: QueueId, what: DropSpilled) -> DroppedSpilled {
        self.store.drop_spilled(queue, what)
    }
}
