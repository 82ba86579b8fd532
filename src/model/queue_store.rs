//! A queue and the store: what spills and comes back, and what has to leave a place on the disk
//! that is to be free.
//!
//! A shard gives all its queues a `window`: so many octets of the head of each stay in memory.

use crate::entry::Entry;
use crate::ledger::Ledger;
use crate::message::Message;
use crate::mutant::{self, Mutant};
use crate::queue::{Outlet, Queue, Spilled};
use crate::stored::Stored;

impl Queue {
    /// Octets of messages behind a head of `window` octets: if there are some, [`Self::spill`]
    /// makes them fewer.
    #[must_use]
    #[inline]
    pub fn spillable(&self, window: usize) -> usize {
        self.backlog.behind(window)
    }

    /// Sends at least so many octets of messages behind the head to the store, or all there are,
    /// first those that are the first to be delivered. Says how many octets went.
    pub fn spill(&mut self, window: usize, octets: usize, outlet: &mut impl Outlet) -> usize {
        let before = self.backlog.octets();
        let count = self.backlog.count_behind(self.backlog.head(window), octets);
        self.spill_count(window, count, outlet);
        before - self.backlog.octets()
    }

    fn spill_count(&mut self, window: usize, count: usize, outlet: &mut impl Outlet) {
        let head = self.backlog.head(window);
        let skipped = count > 1 && mutant::active(Mutant::SpillSkipsOne);
        for (nth, entry) in self.backlog.send_away(head, count).enumerate() {
            let Entry { seq, redelivered, stored, .. } = entry;
            let message = self.memory.message(&entry);
            if nth > 0 || !skipped {
                outlet.spill(self.id, Spilled { seq, redelivered, stored, message });
            }
            self.memory.free(entry);
        }
        if skipped {
            self.backlog.restore(self.backlog.away() - 1);
        }
        self.backlog.shrink();
        self.memory.trim();
    }

    /// Whether what enters from now on may go to the store at once: it is persistent, as far as one
    /// can tell from what came last.
    #[must_use]
    pub fn may_write_through(&self) -> bool {
        const LOOKS: usize = 64;
        let last = self.backlog.entries().iter().rev().take(LOOKS);
        self.durable && !self.frozen() && last.into_iter().all(|entry| entry.stored.is_durable())
    }

    /// Persistent messages that enter from now on go to the store at once, and to no memory, if all
    /// that was behind the head has been spilled; says whether it is so. The store may end that,
    /// and one that finds another in memory behind the head does.
    pub fn begin_to_write_through(&mut self) -> bool {
        self.through = self.backlog.ends_away() && self.may_write_through();
        self.through
    }

    /// Hands a message that enters to the store alone; false if it has to be kept.
    #[cold]
    pub(crate) fn write_through(&mut self, message: Message<'_>, outlet: &mut impl Outlet) -> bool {
        let taken =
            self.backlog.ends_away() && outlet.write_through(self.id, self.next_seq, message);
        self.through = taken || mutant::active(Mutant::ThroughOvertakes);
        if taken {
            self.next_seq += 1;
            self.backlog.push_away();
        }
        taken
    }

    /// Fetches what is away, if little is left in front of it.
    #[cold]
    pub(crate) fn fetch(&mut self, outlet: &mut impl Outlet) {
        if self.backlog.fetch() {
            outlet.fetch(self.id);
        }
    }

    /// One of the messages that were fetched, in order.
    pub fn loaded(&mut self, loaded: Spilled<'_>) {
        let Spilled { seq, redelivered, stored, message } = loaded;
        let mut entry = self.memory.hold(seq, message);
        entry.stored = stored;
        entry.redelivered = redelivered && !mutant::active(Mutant::LoadedAsNew);
        self.backlog.arrive(entry);
    }

    /// All messages that were fetched are here: delivery goes on.
    pub fn brought(&mut self, outlet: &mut impl Outlet) {
        self.backlog.join();
        self.dispatch(outlet);
    }

    /// Takes over what was recovered: so many messages, all away, and all with sequence numbers
    /// below `next_seq`. The queue is new.
    pub fn restore(&mut self, away: u64, next_seq: u64) {
        self.backlog.restore(away);
        self.next_seq = next_seq.max(1);
    }

    /// No message stays in a batch of the log before this one: what is behind the head is spilled,
    /// the rest is logged again. Says how many octets were spilled.
    pub fn leave_log(&mut self, before: u64, window: usize, outlet: &mut impl Outlet) -> usize {
        if self.logged.max(self.logged_again) == 0 || mutant::active(Mutant::StaysInLog) {
            return 0;
        }
        let octets = self.backlog.octets();
        let old = |entry: &Entry| entry.stored.batch().is_some_and(|batch| batch < before);
        let head = self.backlog.head(window).entries;
        let behind = self.old_behind(head, before);
        self.spill_count(window, behind, outlet);
        let head = self.backlog.head(window).entries;
        self.log_again(head, old, |_| true, outlet);
        octets - self.backlog.octets()
    }

    /// How many entries behind the head there are up to the last one that is in an old batch.
    /// Those that were logged once lie in the order of their batches.
    fn old_behind(&self, head: usize, before: u64) -> usize {
        let mut count = 0;
        for (nth, entry) in (1..).zip(self.backlog.entries().range(head..)) {
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

    /// None of these messages stays in its segment: what is in memory is logged again, or is
    /// nowhere but there.
    pub fn leave_segment(&mut self, from: u64, to: u64, outlet: &mut impl Outlet) {
        let within = |seq: u64| (from..=to).contains(&seq);
        let old = |entry: &Entry| {
            let spilled = entry.stored.is_spilled();
            within(entry.seq) && spilled
        };
        let end = self.backlog.entries().partition_point(|entry| entry.seq <= to);
        self.log_again(end, old, |entry| entry.stored.is_durable(), outlet);
    }

    /// Of the first `head` entries of the backlog, and of those that were delivered before, logs
    /// the `old` ones again that are to `last`. The others are nowhere but in memory then.
    fn log_again(
        &mut self,
        head: usize,
        old: impl Fn(&Entry) -> bool,
        last: impl Fn(&Entry) -> bool,
        outlet: &mut impl Outlet,
    ) {
        let (id, memory) = (self.id, &self.memory);
        let mut newest = self.logged_again;
        let mut log = |entry: &mut Entry| {
            if !old(entry) {
                return;
            }
            if last(entry) {
                let message = memory.message(entry);
                entry.stored = outlet.log_again(id, entry.seq, entry.stored, message);
                newest = newest.max(entry.seq);
            } else {
                entry.stored = Stored::NOWHERE;
            }
        };
        self.returned.values_mut().for_each(&mut log);
        // In an order that no hash decides.
        let mut channels: Vec<_> = self.unacked.keys().copied().collect();
        channels.sort_unstable();
        for channel in channels {
            let ledger = self.unacked.get_mut(&channel).into_iter();
            ledger.flat_map(Ledger::values_mut).for_each(|unacked| log(&mut unacked.entry));
        }
        self.backlog.entries_mut().range_mut(..head).for_each(log);
        self.logged_again = newest;
    }

    /// The messages in memory that outlive the process and have been delivered before.
    pub fn delivered(&self) -> impl Iterator<Item = u64> {
        let flagged = |entry: &&Entry| entry.redelivered && entry.stored.is_durable();
        self.waiting().filter(flagged).map(|entry| entry.seq)
    }

    /// The queue is being dropped: the store may let go of what is in memory.
    pub fn let_go(&self, outlet: &mut impl Outlet) {
        let unacked = self.unacked.values().flat_map(Ledger::iter);
        let entries = self.waiting().chain(unacked.map(|(_, unacked)| &unacked.entry));
        // What is let go of is only counted, so the order does not matter.
        for entry in entries.filter(|entry| entry.stored != Stored::NOWHERE) {
            outlet.let_go(entry.stored);
        }
    }

    fn waiting(&self) -> impl Iterator<Item = &Entry> {
        self.returned.values().chain(self.backlog.entries())
    }
}

impl Queue {
    /// All messages in memory, in no order.
    #[cfg(test)]
    pub(crate) fn in_memory(&self) -> impl Iterator<Item = (u64, Stored, Message<'_>)> {
        let unacked = self.unacked.values().flat_map(Ledger::iter);
        let entries = self.waiting().chain(unacked.map(|(_, unacked)| &unacked.entry));
        entries.map(|entry| (entry.seq, entry.stored, self.memory.message(entry)))
    }
}
