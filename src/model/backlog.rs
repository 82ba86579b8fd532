//! The messages of a queue that were never at its head: those in memory, in order, and how many of
//! them are away in the store.
//!
//! ```text
//!   pop <-- here, here, here | away ... away | here, here, here <-- push
//!           ahead              only a count    the tail
//! ```
//!
//! While nothing is away there is no such gap. What was ahead of it stays so all the same: it has
//! come back and is never spilled again, so that what is spilled later is behind all that ever was.

use std::collections::VecDeque;
use std::collections::vec_deque::Drain;

use crate::entry::Entry;
use crate::mutant::{self, Mutant};

/// Room for so many entries is kept when a longer backlog has gone.
const KEPT: usize = 1024;
/// The same after messages were sent away, and there are others that need memory.
const KEPT_SPILLED: usize = 64;
/// More is fetched when fewer octets than these are in front of what is away.
const LOW: usize = 32 * 1024;

/// How far the first messages reach that are to stay in memory.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Head {
    pub entries: usize,
    octets: usize,
}

/// Messages in order, some of them away.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    entries: VecDeque<Entry>,
    /// Octets of the messages in them.
    octets: usize,
    /// What is in front of the messages that are away, or was before they came back.
    ahead: Head,
    away: u64,
    fetching: bool,
    /// What was fetched, until it is all here.
    arrived: Vec<Entry>,
}

impl Backlog {
    /// Messages here and away.
    #[inline]
    pub fn len(&self) -> u64 {
        self.entries.len() as u64 + self.away
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.away == 0
    }

    #[inline]
    pub fn away(&self) -> u64 {
        self.away
    }

    /// Octets of the messages in memory.
    pub fn octets(&self) -> usize {
        self.octets
    }

    /// Entries that there is room for without more memory.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    #[inline]
    pub fn push(&mut self, entry: Entry) {
        self.octets += entry.octets();
        self.entries.push_back(entry);
    }

    /// The first message; `None` while it is away.
    #[inline(always)]
    pub fn pop(&mut self) -> Option<Entry> {
        if self.away > 0 || self.ahead.entries > 0 {
            return self.pop_ahead();
        }
        self.pop_front()
    }

    #[inline(always)]
    fn pop_front(&mut self) -> Option<Entry> {
        let first = self.entries.pop_front()?;
        self.octets -= first.octets();
        if self.entries.is_empty() && self.entries.capacity() > KEPT {
            self.entries.shrink_to(KEPT);
        }
        Some(first)
    }

    #[cold]
    fn pop_ahead(&mut self) -> Option<Entry> {
        if self.ahead.entries == 0 && self.away > 0 && !mutant::active(Mutant::AwayOvertaken) {
            return None;
        }
        let first = self.pop_front()?;
        self.ahead.entries = self.ahead.entries.saturating_sub(1);
        self.ahead.octets = self.ahead.octets.saturating_sub(first.octets());
        Some(first)
    }

    /// Whether the first message is here.
    pub fn at_hand(&self) -> bool {
        let here = if self.away > 0 { self.ahead.entries } else { self.entries.len() };
        here > 0
    }

    /// Whether the next messages are to be fetched now; then they are taken for being under way.
    #[cold]
    pub fn fetch(&mut self) -> bool {
        let low = self.away > 0 && self.ahead.octets < LOW && !self.fetching;
        self.fetching |= low;
        low
    }

    /// The first of the messages that are away is here; [`Self::join`] follows.
    pub fn arrive(&mut self, entry: Entry) {
        self.away = self.away.saturating_sub(1);
        self.arrived.push(entry);
    }

    /// Puts what was fetched into its place.
    pub fn join(&mut self) {
        self.fetching = false;
        let mut arrived = std::mem::take(&mut self.arrived);
        if mutant::active(Mutant::LoadedBackwards) {
            arrived.reverse();
        }
        let octets: usize = arrived.iter().map(Entry::octets).sum();
        let (entries, ahead) = (arrived.len(), self.ahead.entries);
        // What is ahead is short, what is behind may be very long: the short part is moved.
        let first: Vec<Entry> = self.entries.drain(..ahead).collect();
        for entry in first.into_iter().chain(arrived).rev() {
            self.entries.push_front(entry);
        }
        self.octets += octets;
        self.ahead.entries += entries;
        self.ahead.octets += octets;
    }

    /// Drops everything; what is under way will not come.
    pub fn take(&mut self) -> VecDeque<Entry> {
        let Self { entries, .. } = std::mem::take(self);
        entries
    }

    /// Whether what is away is the last there is, so that the next message may follow it there.
    pub fn ends_away(&self) -> bool {
        let ends = self.entries.len() == self.ahead.entries;
        self.away > 0 && (ends || mutant::active(Mutant::ThroughOvertakes))
    }

    /// The next message is away at once. To be asked [`Self::ends_away`] for.
    pub fn push_away(&mut self) {
        self.away += 1;
    }

    /// So many messages are away.
    pub fn restore(&mut self, away: u64) {
        self.away = away;
    }

    /// What stays in memory if everything behind it is to be away: what is, or was, ahead of
    /// messages that are away, or else the first `window` octets. The first message stays in any
    /// case: a permit that was asked for it is of no use while it is away.
    pub fn head(&self, window: usize) -> Head {
        let mut head = self.ahead;
        if self.away > 0 {
            return head;
        }
        for entry in self.entries.range(head.entries..) {
            let octets = head.octets + entry.octets();
            if octets > window && head.entries > 0 {
                break;
            }
            head = Head { entries: head.entries + 1, octets };
        }
        head
    }

    /// Octets behind the head, or a few less.
    #[inline]
    pub fn behind(&self, window: usize) -> usize {
        if self.away > 0 {
            return self.octets - self.ahead.octets;
        }
        let first = self.entries.front().map_or(0, Entry::octets);
        self.octets - self.octets.min(window.max(first).max(self.ahead.octets))
    }

    /// How many entries behind the head have so many octets, or all of them.
    pub fn count_behind(&self, head: Head, octets: usize) -> usize {
        let mut left = octets;
        let enough = |entry: &Entry| {
            let more = left > 0;
            left = left.saturating_sub(entry.octets());
            more
        };
        self.entries.range(head.entries..).map(enough).take_while(|more| *more).count()
    }

    /// Takes out so many entries behind the head: they are away from now on.
    pub fn send_away(&mut self, head: Head, count: usize) -> Drain<'_, Entry> {
        let range = head.entries..head.entries + count;
        let octets: usize = self.entries.range(range.clone()).map(Entry::octets).sum();
        if count > 0 {
            self.ahead = head;
        }
        self.octets -= octets;
        self.away += count as u64;
        self.entries.drain(range)
    }

    /// Gives back memory that a longer backlog needed.
    pub fn shrink(&mut self) {
        // There may be thousands of queues: what is kept of each is not to fill the memory.
        let needed = self.entries.len().max(KEPT_SPILLED);
        if self.entries.capacity() > 4 * needed {
            self.entries.shrink_to(2 * needed);
        }
    }

    /// The entries in memory, in order.
    pub fn entries(&self) -> &VecDeque<Entry> {
        &self.entries
    }

    /// The entries in memory, in order. Their octets are not to change.
    pub fn entries_mut(&mut self) -> &mut VecDeque<Entry> {
        &mut self.entries
    }
}
