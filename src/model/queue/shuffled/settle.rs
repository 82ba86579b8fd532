//! Deliveries of a shuffled queue are settled; consumers and channels come and go.

use crate::ids::{ChannelId, ConsumerId};
use crate::queue::consumer::ConsumerSpec;
use crate::queue::entry::QueuedMessage;
use crate::queue::shuffled::{ShuffledQueue, UnsettledMessage};
use crate::queue::stored::Stored;
use crate::queue::{EnqueueEnd, QueueOutput, QueueProgress, QueueService, Settle};
use crate::time::Now;

impl ShuffledQueue {
    /// A message leaves the queue for good.
    pub(super) fn remove(&mut self, entry: QueuedMessage, output: &mut impl QueueOutput) {
        if entry.stored != Stored::NOWHERE {
            output.settled(self.id, entry.seq, entry.stored);
        }
        self.memory.free(entry);
    }

    pub(super) fn settle(
        &mut self,
        channel: ChannelId,
        number: u64,
        how: Settle,
        _: Now,
        output: &mut impl QueueOutput,
    ) {
        if let Some(outstanding) = self.outstanding.remove(&(channel, number)) {
            self.settled(outstanding, how, output);
        }
    }

    pub(super) fn settle_up_to(
        &mut self,
        channel: ChannelId,
        number: u64,
        how: Settle,
        _: Now,
        output: &mut impl QueueOutput,
    ) {
        let settled = self.outstanding.extract_if((channel, 0)..=(channel, number), |_, _| true);
        for (_, outstanding) in settled.collect::<Vec<_>>() {
            self.settled(outstanding, how, output);
        }
    }

    fn settled(
        &mut self,
        outstanding: UnsettledMessage,
        how: Settle,
        output: &mut impl QueueOutput,
    ) {
        let UnsettledMessage { mut entry, consumer, slot } = outstanding;
        self.consumers.settled(slot, consumer);
        self.counters.acked += u64::from(how == Settle::Ack);
        if how == Settle::Requeue {
            entry.redelivered = true;
            self.ready.insert(entry.seq, entry);
        } else {
            self.remove(entry, output);
        }
    }

    pub(super) fn consume(&mut self, spec: ConsumerSpec, _: Now) {
        self.consumers.add(spec);
    }

    pub(super) fn admits(&self, exclusive: bool) -> bool {
        self.consumers.admits(exclusive)
    }

    pub(super) fn cancel(
        &mut self,
        consumer: ConsumerId,
        _: Now,
        output: &mut impl QueueOutput,
    ) -> bool {
        let removed = self.consumers.remove(consumer);
        self.freeze_unused(removed, output)
    }

    pub(super) fn channel_gone(
        &mut self,
        channel: ChannelId,
        now: Now,
        output: &mut impl QueueOutput,
    ) {
        let mut removed = false;
        while self.consumers.remove_one_of(channel) {
            removed = true;
        }
        self.settle_up_to(channel, u64::MAX, Settle::Requeue, now, output);
        self.gets.retain(|get| get.channel != channel);
        self.unused |= self.freeze_unused(removed, output);
    }

    /// Tells that its last consumer has gone. All else is done at once.
    pub(super) fn go_on(&mut self, _: u32, _: Now, _: &mut impl QueueOutput) -> QueueProgress {
        QueueProgress { used: 1, unused: std::mem::take(&mut self.unused) }
    }

    pub(super) fn unfinished(&self) -> bool {
        self.unused
    }

    pub(super) fn withholds(&self) -> bool {
        false
    }

    pub(super) fn take_consumer(&mut self) -> Option<ConsumerSpec> {
        self.consumers.take_first()
    }

    fn freeze_unused(&mut self, removed: bool, output: &mut impl QueueOutput) -> bool {
        let last = removed && self.consumers.is_empty();
        let unused = self.auto_delete && last && !self.frozen();
        if unused {
            self.service = QueueService::Frozen;
            self.end_held(EnqueueEnd::Applied, output);
        }
        unused
    }

    /// Drops the ready messages; those that are held enter later.
    pub(super) fn purge(&mut self, _: Now, output: &mut impl QueueOutput) -> u32 {
        let purged = self.ready();
        if self.broken() {
            self.service = QueueService::Open;
        }
        if self.cursor.purge() {
            output.purge(self.id);
        }
        for entry in std::mem::take(&mut self.ready).into_values() {
            self.remove(entry, output);
        }
        self.answer_empty(output);
        purged
    }
}
