//! A shuffled queue and the store: nothing is spilled; what a restart left on disk is read back.

use crate::queue::entry::QueuedMessage;
use crate::queue::shuffled::{EnqueueEnd, ShuffledQueue};
use crate::queue::stored::Stored;
use crate::queue::{QueueOutput, RestoredMessages, Spilled};
use crate::time::Now;

/// How far a queue has read back what a restart left on disk. Those messages come before all that
/// entered since.
#[derive(Debug, Clone, Copy, Default, Hash)]
pub(super) struct ReadCursor {
    unread: u64,
    /// The sequence number of the last message that was read.
    read: u64,
    fetching: bool,
}

impl ReadCursor {
    /// Messages that are only on disk.
    pub fn unread(self) -> u64 {
        self.unread
    }

    /// Forgets what is on disk; false if nothing is.
    pub fn purge(&mut self) -> bool {
        let any = self.unread > 0;
        *self = Self::default();
        any
    }
}

impl ShuffledQueue {
    /// Whether the first message is in memory.
    pub(super) fn head_is_resident(&self) -> bool {
        let first = self.ready.first_key_value().map(|(seq, _)| *seq);
        first.is_some_and(|seq| self.cursor.unread == 0 || seq <= self.cursor.read)
    }

    /// Reads the next messages from disk, unless a fetch is under way.
    pub(super) fn fetch(&mut self, output: &mut impl QueueOutput) {
        if !std::mem::replace(&mut self.cursor.fetching, true) {
            output.fetch(self.id);
        }
    }

    pub(super) fn restore(&mut self, found: RestoredMessages) {
        self.cursor.unread = found.messages;
        self.next_seq = found.next_seq.max(1);
    }

    pub(super) fn loaded(&mut self, loaded: Spilled<'_>) {
        let Spilled { seq, redelivered, stored, message, .. } = loaded;
        let mut entry = self.memory.keep(seq, message);
        (entry.stored, entry.redelivered) = (stored, redelivered);
        self.ready.insert(seq, entry);
        self.cursor.unread = self.cursor.unread.saturating_sub(1);
        self.cursor.read = seq;
    }

    pub(super) fn all_loaded(&mut self, now: Now, output: &mut impl QueueOutput) {
        self.cursor.fetching = false;
        self.dispatch(now, output);
    }

    pub(super) fn spillable(&self, _: usize) -> usize {
        0
    }

    pub(super) fn spill(&mut self, _: usize, _: usize, _: Now, _: &mut impl QueueOutput) -> usize {
        0
    }

    pub(super) fn may_bypass_log(&self) -> bool {
        false
    }

    pub(super) fn begin_to_bypass_log(&mut self) -> bool {
        false
    }

    pub(super) fn leave_log(
        &mut self,
        before: u64,
        _: usize,
        _: Now,
        output: &mut impl QueueOutput,
    ) -> usize {
        let old = |entry: &QueuedMessage| entry.stored.batch().is_some_and(|batch| batch < before);
        self.log_again(old, output);
        0
    }

    pub(super) fn leave_segment(
        &mut self,
        from: u64,
        to: u64,
        _: Now,
        output: &mut impl QueueOutput,
    ) {
        let old =
            |entry: &QueuedMessage| (from..=to).contains(&entry.seq) && entry.stored.is_spilled();
        self.log_again(old, output);
    }

    /// Logs old messages again if they outlive the process; the others are only in memory then.
    fn log_again(&mut self, old: impl Fn(&QueuedMessage) -> bool, output: &mut impl QueueOutput) {
        let outstanding = self.outstanding.values_mut().map(|one| &mut one.entry);
        let entries = self.ready.values_mut().chain(outstanding);
        for entry in entries.filter(|entry| old(entry)) {
            entry.stored = if entry.stored.is_durable() {
                let message = self.memory.message(entry);
                output.log_again(self.id, entry.seq, (entry.stored, entry.expiry), message)
            } else {
                Stored::NOWHERE
            };
        }
    }

    pub(super) fn let_go(&mut self, _: Now, output: &mut impl QueueOutput) {
        self.end_held(EnqueueEnd::Applied, output);
        let outstanding = self.outstanding.values().map(|one| &one.entry);
        let entries = self.ready.values().chain(outstanding);
        for entry in entries.filter(|entry| entry.stored != Stored::NOWHERE) {
            output.let_go(entry.stored);
        }
    }

    pub(super) fn delivered(&self) -> Vec<u64> {
        let flagged = |entry: &&QueuedMessage| entry.redelivered && entry.stored.is_durable();
        self.ready.values().filter(flagged).map(|entry| entry.seq).collect()
    }
}
