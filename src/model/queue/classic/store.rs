//! A classic queue and the store: spilling, loading, and leaving a place on disk that is to be
//! freed.
//!
//! A shard gives all its queues a `window`: that many bytes at the head of each stay in memory.

use crate::message::Message;
use crate::mutant::{self, Mutant};
use crate::queue::Expiry;
use crate::queue::classic::ClassicQueue;
use crate::queue::classic::unfinished::Task;
use crate::queue::entry::QueuedMessage;
use crate::queue::ledger::Ledger;
use crate::queue::stored::Stored;
use crate::queue::{QueueOutput, RestoredMessages, Settle, Spilled};
use crate::time::Now;

/// Whether a queue may bypass the log is judged by this many of its last messages.
const LAST: usize = 64;

impl ClassicQueue {
    /// Bytes of messages behind a head of `window` bytes that [`Self::spill`] could spill.
    #[inline]
    pub(super) fn spillable(&self, window: usize) -> usize {
        self.backlog.behind(window)
    }

    /// Spills at least `bytes` of messages behind the head, or all there are, the first ones first.
    /// Returns how many bytes were spilled.
    pub(super) fn spill(
        &mut self,
        window: usize,
        bytes: usize,
        _: Now,
        output: &mut impl QueueOutput,
    ) -> usize {
        let before = self.backlog.bytes();
        if self.has_priorities() {
            self.spill_by_priority(window, bytes, output);
            return before - self.backlog.bytes();
        }
        let count = self.backlog.count_behind(self.backlog.head(window), bytes);
        self.spill_count(window, count, output);
        before - self.backlog.bytes()
    }

    fn spill_count(&mut self, window: usize, count: usize, output: &mut impl QueueOutput) {
        let head = self.backlog.head(window);
        let skipped = count > 1 && mutant::active(Mutant::SpillSkipsOne);
        let mut bodies = 0;
        let (id, memory, mut left_out) = (self.id, &mut self.memory, skipped);
        self.backlog.drain_behind(head, count, |entry| {
            let QueuedMessage { seq, redelivered, stored, expiry, .. } = entry;
            let message = memory.message(&entry);
            if !std::mem::take(&mut left_out) {
                output.spill(id, Spilled { seq, redelivered, stored, expiry, message });
                bodies += message.body_len();
            }
            memory.free(entry);
        });
        self.backlog.add_spilled_bodies(bodies);
        if skipped {
            self.backlog.drop_spilled(1, 0);
        }
        self.backlog.shrink();
        self.memory.trim();
    }

    /// Whether messages that enter from now on may bypass the log: they are persistent, as far as
    /// the last ones show.
    pub(super) fn may_bypass_log(&self) -> bool {
        let last = self.backlog.entries().iter().rev().take(LAST);
        let in_order = !self.has_priorities();
        self.durable
            && in_order
            && !self.frozen()
            && last.into_iter().all(|entry| entry.stored.is_durable())
    }

    /// Persistent messages that enter from now on bypass the log and memory, if all behind the head
    /// is spilled; returns whether they do.
    pub(super) fn begin_to_bypass_log(&mut self) -> bool {
        self.bypasses_log = self.backlog.ends_spilled() && self.may_bypass_log();
        self.bypasses_log
    }

    /// Hands a message that enters to the store alone; false if it has to be kept.
    #[cold]
    pub(super) fn bypass_log(
        &mut self,
        message: Message<'_>,
        expiry: Expiry,
        output: &mut impl QueueOutput,
    ) -> bool {
        let seq = self.next_seq;
        let taken = self.backlog.ends_spilled() && output.bypass_log(self.id, seq, expiry, message);
        self.bypasses_log = taken || mutant::active(Mutant::BypassOvertakes);
        if taken {
            self.next_seq += 1;
            self.backlog.push_spilled(message.body_len());
        }
        taken
    }

    /// Fetches spilled messages if little is left ahead of them.
    #[cold]
    pub(super) fn fetch(&mut self, output: &mut impl QueueOutput) {
        if self.backlog.fetch() {
            output.fetch(self.id);
        }
    }

    /// One of the messages that were fetched, in order.
    pub(super) fn loaded(&mut self, loaded: Spilled<'_>) {
        let Spilled { seq, redelivered, stored, expiry, message } = loaded;
        let mut entry = self.memory.keep(seq, message);
        entry.stored = stored;
        entry.redelivered = redelivered && !mutant::active(Mutant::LoadedAsNew);
        if !mutant::active(Mutant::LoadedForEver) {
            entry.expiry = expiry;
        }
        self.timed |= expiry != Expiry::NEVER;
        self.backlog.arrive(entry, message.body_len());
    }

    /// All messages that were fetched have been loaded: delivery goes on.
    pub(super) fn all_loaded(&mut self, now: Now, output: &mut impl QueueOutput) {
        self.backlog.join();
        self.dispatch(now, output);
    }

    /// Takes over what was recovered. What has expired meanwhile goes in the first turn.
    pub(super) fn restore(&mut self, found: RestoredMessages) {
        if self.has_priorities() {
            self.backlog.restore_lanes(&found);
        } else {
            self.backlog.restore(found.messages, found.bodies);
        }
        self.next_seq = found.next_seq.max(1);
        self.timed = found.expires;
        self.bodies = found.bodies;
        if self.timed || self.drops_head {
            self.lifetimes.message_us = 0;
        }
    }

    /// No message stays in a batch of the log before this one: those behind the head are spilled,
    /// the others logged again. Returns how many bytes were spilled.
    pub(super) fn leave_log(
        &mut self,
        before: u64,
        window: usize,
        _: Now,
        output: &mut impl QueueOutput,
    ) -> usize {
        if self.logged.max(self.logged_again) == 0 || mutant::active(Mutant::StaysInLog) {
            return 0;
        }
        let bytes = self.backlog.bytes();
        let old = |entry: &QueuedMessage| entry.stored.batch().is_some_and(|batch| batch < before);
        if self.has_priorities() {
            self.spill_old_by_priority(before, window, output);
        } else {
            let head = self.backlog.head(window).entries;
            let behind = self.old_behind(head, before);
            self.spill_count(window, behind, output);
        }
        let head = self.backlog.head(window).entries;
        self.log_again(head, old, |_| true, output);
        bytes - self.backlog.bytes()
    }

    /// How many entries behind the head there are up to the last one that is in an old batch.
    /// Entries that were logged once lie in the order of their batches.
    fn old_behind(&self, head: usize, before: u64) -> usize {
        let mut count = 0;
        for (nth, entry) in (1..).zip(self.backlog.entries().iter().skip(head)) {
            if entry.seq > self.logged.max(self.logged_again) {
                break;
            }
            match entry.stored.batch() {
                Some(batch) if batch < before => count = nth,
                Some(_) if entry.seq > self.logged_again => break,
                _ => {}
            }
        }
        count
    }

    /// No message with a sequence number from `from` to `to` stays in its segment: those in memory
    /// are logged again, or only in memory from now on.
    pub(super) fn leave_segment(
        &mut self,
        from: u64,
        to: u64,
        _: Now,
        output: &mut impl QueueOutput,
    ) {
        let old =
            |entry: &QueuedMessage| (from..=to).contains(&entry.seq) && entry.stored.is_spilled();
        let end = self.backlog.entries().partition_point(|entry| entry.seq <= to);
        self.log_again(end, old, |entry| entry.stored.is_durable(), output);
    }

    /// Of the first `head` entries of the backlog, or of all if there are priorities, and of all
    /// that were delivered before, logs the `old` ones again that are to `last`. The other old ones
    /// are only in memory then.
    fn log_again(
        &mut self,
        head: usize,
        old: impl Fn(&QueuedMessage) -> bool,
        last: impl Fn(&QueuedMessage) -> bool,
        output: &mut impl QueueOutput,
    ) {
        let (id, memory) = (self.id, &self.memory);
        let mut newest = self.logged_again;
        let mut log = |entry: &mut QueuedMessage| {
            if !old(entry) {
                return;
            }
            if last(entry) {
                let message = memory.message(entry);
                let old = (entry.stored, entry.expiry);
                entry.stored = output.log_again(id, entry.seq, old, message);
                newest = newest.max(entry.seq);
            } else {
                entry.stored = Stored::NOWHERE;
            }
        };
        self.returned.values_mut().for_each(&mut log);
        self.dying.entries_mut().for_each(&mut log);
        // Sorted, so that the order of a hash map does not reach the log.
        let mut channels: Vec<_> = self.unacked.keys().copied().collect();
        if !mutant::active(Mutant::HashOrderLogged) {
            channels.sort_unstable();
        }
        for channel in channels {
            let ledger = self.unacked.get_mut(&channel).into_iter();
            ledger.flat_map(Ledger::values_mut).for_each(|unacked| log(&mut unacked.entry));
        }
        let in_lanes = self.backlog.lanes().into_iter().flat_map(|lanes| lanes.entries_mut());
        in_lanes.for_each(&mut log);
        self.backlog.entries_mut().iter_mut().take(head).for_each(log);
        self.logged_again = newest;
        // What was dropped needs no other place.
        for entry in self.tasks.entries_mut().filter(|entry| old(entry)) {
            output.settled(id, entry.seq, std::mem::take(&mut entry.stored));
        }
    }

    /// Sequence numbers of the durable messages in memory that have been delivered before.
    pub(super) fn delivered(&self) -> Vec<u64> {
        let flagged = |entry: &&QueuedMessage| entry.redelivered && entry.stored.is_durable();
        self.waiting().filter(flagged).map(|entry| entry.seq).collect()
    }

    /// The queue is being dropped: the store may forget what is in memory.
    pub(super) fn let_go(&mut self, _: Now, _: &mut impl QueueOutput) {
        let returned = std::mem::take(&mut self.returned);
        let mut channels: Vec<_> = self.unacked.keys().copied().collect();
        channels.sort_unstable();
        self.tasks.let_go();
        self.tasks.add(Task::Return(returned));
        self.tasks.add(Task::Drop(self.dying.take_all()));
        self.backlog.take(&mut |task| self.tasks.add(task));
        for channel in channels {
            self.tasks.add(Task::Settle { channel, number: u64::MAX, how: Settle::Drop });
        }
    }

    /// Those that wait for a consumer, or for the arrival of their dead letters.
    fn waiting(&self) -> impl Iterator<Item = &QueuedMessage> {
        self.returned.values().chain(self.dying.entries()).chain(self.backlog.resident())
    }
}

impl ClassicQueue {
    /// All messages in memory, in no order.
    #[cfg(test)]
    pub(super) fn in_memory(&self) -> impl Iterator<Item = (u64, Stored, Message<'_>)> {
        let unacked = self.unacked.values().flat_map(Ledger::iter);
        let entries = self.waiting().chain(unacked.map(|(_, unacked)| &unacked.entry));
        entries.map(|entry| (entry.seq, entry.stored, self.memory.message(entry)))
    }
}
