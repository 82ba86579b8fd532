//! What a classic queue was told and does in pieces: a client may have millions of deliveries to
//! settle, and another one is not to wait for all of them.
//!
//! ```text
//!   settle_up_to, channel_gone, purge, let_go --> tasks, first in, first out --> go_on(units)
//! ```
//!
//! Messages that were purged are not in the queue any more, only in its memory. While messages are
//! put back nothing is delivered.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{Hash, Hasher};

use crate::ids::ChannelId;
use crate::lists::PieceList;
use crate::mutant::{self, Mutant};
use crate::queue::classic::ClassicQueue;
use crate::queue::consumer::{ConsumerSpec, Slot};
use crate::queue::entry::{QueueMemory, QueuedMessage, hash_entries};
use crate::queue::{QueueOutput, QueueProgress, Settle};
use crate::time::Now;

/// Something to do in pieces.
#[derive(Debug)]
pub(super) enum Task {
    /// Settle what the channel was sent up to this number.
    Settle { channel: ChannelId, number: u64, how: Settle },
    /// Remove the consumers of the channel, then put back what it was sent.
    ChannelGone { channel: ChannelId },
    /// Tell the consumers of the channel from this slot on that they are limited, or no more.
    Limit { channel: ChannelId, limited: bool, from: Slot },
    /// Drop these messages.
    Drop(PieceList<QueuedMessage>),
    /// Drop these messages, which had been put back.
    Return(BTreeMap<u64, QueuedMessage>),
}

impl Task {
    fn withholds(&self) -> bool {
        match self {
            Self::ChannelGone { .. } | Self::Limit { .. } => true,
            // What is rejected makes dead letters, unless the queue is deleted before.
            Self::Settle { how, .. } => *how != Settle::Ack,
            Self::Drop(_) | Self::Return(_) => false,
        }
    }

    fn entries(&self) -> usize {
        match self {
            Self::Drop(entries) => entries.len(),
            Self::Return(entries) => entries.len(),
            _ => 0,
        }
    }
}

/// The tasks of a queue, in order.
#[derive(Debug, Default)]
pub(super) struct QueueTasks {
    tasks: VecDeque<Task>,
    /// How many of them hold back what follows.
    holding: usize,
    /// Messages that are to be dropped.
    entries: usize,
    /// Messages are to be delivered when the tasks are done.
    dispatch: bool,
    /// The queue is being dropped.
    gone: bool,
}

impl QueueTasks {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty() && !self.dispatch
    }

    /// Whether nothing may be delivered until a task is done.
    #[inline]
    pub fn withholds(&self) -> bool {
        self.holding > 0
    }

    /// Messages that are to be dropped.
    #[inline]
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Whether the queue is being dropped.
    #[inline]
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// The queue is being dropped: what it was told before is done in any order.
    pub fn let_go(&mut self) {
        self.gone = true;
        self.tasks.retain(|task| task.entries() > 0);
        (self.holding, self.dispatch) = (0, false);
    }

    pub fn add(&mut self, task: Task) {
        let entries = task.entries();
        if entries == 0 && matches!(task, Task::Drop(_) | Task::Return(_)) {
            return;
        }
        self.holding += usize::from(task.withholds());
        self.entries += entries;
        self.tasks.push_back(task);
    }

    /// Messages are to be delivered, once the tasks are done.
    #[cold]
    pub fn dispatch_later(&mut self) {
        self.dispatch = !self.gone;
    }

    /// The messages that are to be dropped.
    pub fn entries_mut(&mut self) -> impl Iterator<Item = &mut QueuedMessage> {
        self.tasks.iter_mut().flat_map(|task| {
            let (list, map) = match task {
                Task::Drop(list) => (Some(list), None),
                Task::Return(map) => (None, Some(map)),
                _ => (None, None),
            };
            let list = list.into_iter().flat_map(PieceList::iter_mut);
            list.chain(map.into_iter().flat_map(|map| map.values_mut()))
        })
    }

    fn next_dropped(&mut self) -> Option<QueuedMessage> {
        let dropped = match self.tasks.front_mut()? {
            Task::Drop(entries) => entries.pop_front(),
            Task::Return(entries) => entries.pop_first().map(|(_, entry)| entry),
            _ => None,
        };
        self.entries -= usize::from(dropped.is_some());
        dropped
    }

    /// The first task is done.
    fn finish(&mut self) {
        let done = self.tasks.pop_front();
        self.holding -= usize::from(done.is_some_and(|task| task.withholds()));
    }

    pub fn hash_with(&self, memory: &QueueMemory, state: &mut impl Hasher) {
        (self.tasks.len(), self.holding, self.dispatch, self.gone).hash(state);
        for task in &self.tasks {
            match task {
                Task::Settle { channel, number, how } => (channel, number, how).hash(state),
                Task::ChannelGone { channel } => channel.hash(state),
                Task::Limit { channel, limited, from } => (channel, limited, from).hash(state),
                Task::Drop(entries) => hash_entries(entries.iter(), memory, state),
                Task::Return(entries) => hash_entries(entries.values(), memory, state),
            }
        }
    }
}

impl ClassicQueue {
    pub(super) fn unfinished(&self) -> bool {
        !self.tasks.is_empty()
    }

    pub(super) fn withholds(&self) -> bool {
        self.tasks.withholds()
    }

    /// Takes one of the consumers of a queue that is being dropped.
    pub(super) fn take_consumer(&mut self) -> Option<ConsumerSpec> {
        self.consumers.take_first()
    }

    /// Goes on with the tasks, for at most `most` units of work. Each unit settles or drops a
    /// message, limits or removes a consumer, or ends a task.
    pub(super) fn go_on(
        &mut self,
        most: u32,
        now: Now,
        output: &mut impl QueueOutput,
    ) -> QueueProgress {
        let mut progress = QueueProgress::default();
        let uncut = mutant::active(Mutant::SettlesUncut);
        while (progress.used < most || uncut)
            && let Some(task) = self.tasks.tasks.front()
        {
            let most = if uncut { u32::MAX } else { most - progress.used };
            match *task {
                Task::Settle { channel, number, how } => {
                    progress.used += self.settle_some((channel, number), how, most, output);
                }
                Task::Limit { channel, limited, from } => {
                    progress.used += self.limit_some(channel, limited, (from, most));
                }
                _ => {
                    progress.used += 1;
                    progress.unused |= self.one_step(now, output);
                }
            }
        }
        if progress.used < most && std::mem::take(&mut self.tasks.dispatch) {
            progress.used += self.dispatch_some(most - progress.used, now, output);
        }
        progress
    }

    /// One unit of the first task; true if it removed the last consumer of an auto-delete queue.
    fn one_step(&mut self, now: Now, output: &mut impl QueueOutput) -> bool {
        match self.tasks.tasks.front() {
            Some(&Task::ChannelGone { channel }) => return self.take_back(channel, now),
            _ => match self.tasks.next_dropped() {
                Some(entry) => self.remove(entry, output),
                None => self.tasks.finish(),
            },
        }
        false
    }

    /// Settles the first deliveries of a channel up to a number; how many units of work it was.
    fn settle_some(
        &mut self,
        (channel, up_to): (ChannelId, u64),
        how: Settle,
        most: u32,
        output: &mut impl QueueOutput,
    ) -> u32 {
        // The ledger is taken out of the queue, since a settle borrows the whole queue.
        let mut ledger = self.unacked.get_mut(&channel).map(std::mem::take).unwrap_or_default();
        let (before, mut used) = (ledger.pinned(), 0);
        while used < most
            && let Some((_, unacked)) = ledger.pop_up_to(up_to)
        {
            used += 1;
            if self.tasks.gone {
                self.remove(unacked.entry, output);
            } else {
                self.settled(unacked, how, output);
            }
        }
        if !mutant::active(Mutant::LedgerKept) {
            self.ledger_bytes -= before - ledger.pinned();
        }
        if let Some(place) = self.unacked.get_mut(&channel) {
            *place = ledger;
        }
        if used < most {
            used += 1;
            self.settled_all(channel, up_to);
        }
        used
    }

    fn settled_all(&mut self, channel: ChannelId, up_to: u64) {
        if up_to == u64::MAX {
            self.forget_ledger(channel);
        }
        self.tasks.finish();
        self.tasks.dispatch_later();
    }

    /// Tells the next consumers of a channel that they are limited, or no more; how many units of
    /// work it was.
    fn limit_some(&mut self, channel: ChannelId, limited: bool, next: (Slot, u32)) -> u32 {
        /// Places that are kept of them meanwhile.
        const TOGETHER: u32 = 256;
        let (from, most) = (next.0, next.1.min(TOGETHER));
        let (used, next) = self.consumers.limit_some(channel, limited, (from, most));
        if used == most
            && let (Some(next), Some(Task::Limit { from, .. })) =
                (next, self.tasks.tasks.front_mut())
        {
            *from = next;
            return used;
        }
        self.tasks.finish();
        self.tasks.dispatch_later();
        used + 1
    }

    /// Removes a consumer of a channel that is gone; behind the last of them its deliveries are
    /// put back.
    fn take_back(&mut self, channel: ChannelId, now: Now) -> bool {
        if self.consumers.remove_one_of(channel) {
            return self.freeze_unused(true, now);
        }
        self.gets.retain(|get| get.channel != channel);
        self.deadlines.forget(channel);
        let rest = Task::Settle { channel, number: u64::MAX, how: Settle::Requeue };
        if let Some(first) = self.tasks.tasks.front_mut() {
            *first = rest;
        }
        false
    }
}
