//! Deliveries of a classic queue are settled; consumers and channels come and go.

use crate::ids::{ChannelId, ConsumerId};
use crate::mutant::{self, Mutant};
use crate::queue::Expiry;
use crate::queue::classic::unfinished::Task;
use crate::queue::classic::{ClassicQueue, UnackedMessage};
use crate::queue::consumer::ConsumerSpec;
use crate::queue::entry::QueuedMessage;
use crate::queue::ledger::Ledger;
use crate::queue::stored::Stored;
use crate::queue::{Death, Get, QueueOutput, QueueService, Settle};
use crate::time::Now;

impl ClassicQueue {
    /// A message leaves the queue for good.
    #[inline(always)]
    pub(super) fn remove(&mut self, entry: QueuedMessage, output: &mut impl QueueOutput) {
        if entry.stored == Stored::NOWHERE {
        } else if self.tasks.is_gone() {
            output.let_go(entry.stored);
        } else if !mutant::active(Mutant::SettleNotTold) {
            output.settled(self.id, entry.seq, entry.stored);
        }
        if self.values.is_some() {
            self.forget_value(entry.seq);
        }
        self.memory.free(entry);
    }

    /// A message does not keep others with its value out any more.
    #[cold]
    pub(super) fn forget_value(&mut self, seq: u64) {
        if let Some(values) = &mut self.values {
            values.leave(seq);
        }
    }

    /// The ready messages have left.
    #[cold]
    fn forget_ready_values(&mut self) {
        let Self { values, unacked, .. } = self;
        if let Some(values) = values {
            let unacked = unacked.values().flat_map(Ledger::iter);
            values.leave_all_but(unacked.map(|(_, unacked)| unacked.entry.seq));
        }
    }

    /// Settles one delivery of a channel. An unknown number is ignored: its channel is gone.
    pub(super) fn settle(
        &mut self,
        channel: ChannelId,
        number: u64,
        how: Settle,
        _: Now,
        output: &mut impl QueueOutput,
    ) {
        let Some(ledger) = self.unacked.get_mut(&channel) else {
            return;
        };
        let before = ledger.pinned();
        let found = ledger.remove(number);
        self.ledger_bytes -= before - ledger.pinned();
        if ledger.is_empty() && self.unacked.len() > 1 {
            self.forget_ledger(channel);
        }
        if let Some(unacked) = found {
            self.settled(unacked, how, output);
        }
    }

    /// Settles all deliveries of a channel up to and including `number`.
    pub(super) fn settle_up_to(
        &mut self,
        channel: ChannelId,
        number: u64,
        how: Settle,
        _: Now,
        _: &mut impl QueueOutput,
    ) {
        let number = if mutant::active(Mutant::SettleTooMuch) { u64::MAX } else { number };
        self.tasks.add(Task::Settle { channel, number, how });
    }

    /// The channel holds nothing any more.
    pub(super) fn forget_ledger(&mut self, channel: ChannelId) {
        let ledger = self.unacked.remove(&channel);
        self.ledger_bytes -= ledger.map_or(0, |ledger| ledger.pinned());
    }

    #[inline(always)]
    pub(super) fn settled(
        &mut self,
        unacked: UnackedMessage,
        how: Settle,
        output: &mut impl QueueOutput,
    ) {
        if unacked.entry.is_large() {
            self.large_settled();
        }
        self.consumers.settled(unacked.slot as usize, unacked.consumer);
        self.unacked_bytes -= unacked.entry.bytes();
        match how {
            Settle::Ack => {
                self.counters.acked += 1;
                self.remove(unacked.entry, output);
            }
            Settle::Drop => self.die(unacked.entry, Death::Rejected, output),
            Settle::Requeue => self.requeue(unacked.entry),
        }
    }

    /// Puts a delivered message back to its position.
    fn requeue(&mut self, mut entry: QueuedMessage) {
        entry.redelivered = !mutant::active(Mutant::FlagLost);
        if mutant::active(Mutant::RequeueToTail) {
            return self.backlog.enter(entry);
        }
        self.count_body(&entry, true);
        self.timed |= entry.expiry != Expiry::NEVER;
        self.return_to_place(entry);
    }

    /// Adds a message that is ahead of all others, or of all others of its priority.
    #[cold]
    #[inline(never)]
    pub(super) fn return_to_place(&mut self, entry: QueuedMessage) {
        if self.has_priorities() {
            return self.backlog.put_back(entry);
        }
        self.returned_bytes += entry.bytes();
        self.returned.insert(entry.seq, entry);
    }

    /// Adds a consumer; [`Self::dispatch`] serves it.
    pub(super) fn consume(&mut self, spec: ConsumerSpec, _: Now) {
        self.deadlines.consume(spec.timeout_ms);
        self.consumers.add(spec);
    }

    /// Whether a consumer like this may be added.
    pub(super) fn admits(&self, exclusive: bool) -> bool {
        self.consumers.admits(exclusive)
    }

    /// Removes a consumer; true when that was the last one of an auto-delete queue.
    pub(super) fn cancel(
        &mut self,
        consumer: ConsumerId,
        now: Now,
        _: &mut impl QueueOutput,
    ) -> bool {
        let removed = self.consumers.remove(consumer);
        self.freeze_unused(removed, now)
    }

    /// Requeues what the channel was sent and removes its consumers.
    pub(super) fn channel_gone(&mut self, channel: ChannelId, _: Now, _: &mut impl QueueOutput) {
        self.tasks.add(Task::ChannelGone { channel });
    }

    /// True if that was the last consumer of an auto-delete queue, which is frozen then.
    pub(super) fn freeze_unused(&mut self, removed: bool, now: Now) -> bool {
        let last = removed && self.consumers.is_empty();
        if last {
            self.used(now);
        }
        let unused = self.auto_delete && last && !self.frozen();
        if unused {
            self.service = QueueService::Frozen;
        }
        unused
    }

    /// Takes one message; the answer comes through the output.
    pub(super) fn get(&mut self, get: Get, now: Now, output: &mut impl QueueOutput) {
        if !mutant::active(Mutant::GetIsNoUse) {
            self.used(now);
        }
        if self.ready() == 0 {
            self.counters.got_empty += 1;
            output.empty(get.ticket);
        } else {
            self.gets.push_back(get);
            self.dispatch(now, output);
        }
    }

    /// Drops the ready messages; returns how many there were. A queue that was out of service is
    /// in service again.
    pub(super) fn purge(&mut self, now: Now, output: &mut impl QueueOutput) -> u32 {
        if self.timed {
            self.expire(now, output);
        }
        let purged = self.ready();
        if self.broken() {
            self.service = QueueService::Open;
        }
        if self.backlog.spilled() > 0 {
            output.purge(self.id);
        }
        self.forget_ready_values();
        self.returned_bytes = 0;
        self.bodies = 0;
        let returned = std::mem::take(&mut self.returned);
        let kept =
            if mutant::active(Mutant::PurgeKeepsOne) { self.backlog.pop_last() } else { None };
        self.tasks.add(Task::Return(returned));
        self.backlog.take(&mut |task| self.tasks.add(task));
        kept.into_iter().for_each(|entry| self.backlog.enter(entry));
        self.refuse_gets(now, output);
        purged
    }
}
