//! What moves between the queues and the store: messages beyond the shard's memory, messages that
//! were fetched, and what has to leave a place on the disk that is to be free.

use std::cmp::Reverse;
use std::collections::VecDeque;

use model::QueueId;

use super::machine::Shard;
use crate::store::Relief;

/// Octets at the head of each queue that stay in memory, if the budget has room for them.
const WINDOW: usize = 64 * 1024;
/// Octets that are spilled in one turn, or one message more.
const AT_ONCE: usize = 8 * 1024 * 1024;
/// So much more is spilled than has to be, since memory is freed in chunks.
const SLACK: usize = 128 * 1024;
/// Where no queue has anything to spill, a turn looks at so many queues on average.
const LOOKS: usize = 64;

/// The memory that all queues of a shard share.
#[derive(Debug)]
pub(super) struct Paging {
    /// Octets that the queues may hold.
    max: usize,
    /// Spilling has begun and was not done in one turn.
    spilling: bool,
    /// So many turns pass until the queues are looked through again.
    rest: usize,
    /// A queue that had to spill so many octets at once is in backlog.
    backlog: usize,
    /// Queues in backlog that spill all behind their heads, to write through from then on.
    leaving: VecDeque<QueueId>,
}

impl Paging {
    pub fn new(max: usize, backlog: usize) -> Self {
        Self { max, spilling: false, rest: 0, backlog, leaving: VecDeque::new() }
    }

    /// How little the queues are to hold once spilling has begun.
    fn goal(&self) -> usize {
        self.max / 4 * 3
    }

    /// Whether there is more to do than fitted into a turn.
    pub fn unfinished(&self) -> bool {
        self.spilling || !self.leaving.is_empty()
    }

    /// A queue had to spill so many octets at once.
    fn spilled(&mut self, id: QueueId, octets: usize) {
        if octets >= self.backlog && !self.leaving.contains(&id) {
            self.leaving.push_back(id);
        }
    }
}

impl Shard {
    /// Keeps the queues within their memory, a bounded amount of work for each turn, and the store
    /// within its files.
    pub(super) fn page(&mut self) {
        let max = if self.paging.spilling { self.paging.goal() } else { self.paging.max };
        let mut left = AT_ONCE;
        if self.home.pinned > max {
            left = self.spill();
        } else {
            (self.paging.spilling, self.paging.rest) = (false, 0);
        }
        self.relieve();
        if left > 0 {
            self.write_through(left);
        }
    }

    /// The heads of all queues together take no more than an eighth of the budget: more would
    /// leave too little to be spilled at once, with what is kept around messages in memory, and is
    /// written to the log again each time that shrinks.
    fn window(&self) -> usize {
        WINDOW.min(self.paging.max / 8 / self.home.queues.len().max(1))
    }

    /// Sends messages to the store, from the queues that have most to spill. Says how many octets
    /// more may be spilled in this turn.
    #[cold]
    fn spill(&mut self) -> usize {
        if self.paging.rest > 0 {
            self.paging.rest -= 1;
            return AT_ONCE;
        }
        self.share_reads();
        let (window, goal) = (self.window(), self.paging.goal());
        let queues = self.home.queues.iter();
        let octets = queues.map(|(id, kept)| (Reverse(kept.queue.spillable(window)), *id));
        let mut queues: Vec<_> = octets.filter(|(octets, _)| octets.0 > 0).collect();
        queues.sort_unstable();
        let mut left = AT_ONCE;
        for (_, id) in queues {
            let excess = self.home.pinned.saturating_sub(goal);
            if excess == 0 || left == 0 {
                break;
            }
            let octets = (excess + SLACK.min(goal / 8)).min(left);
            let spilled = self.with_queue(id, |queue, door| queue.spill(window, octets, door));
            let spilled = spilled.unwrap_or_default();
            self.paging.spilled(id, spilled);
            left = left.saturating_sub(spilled);
        }
        self.paging.spilling = left == 0;
        // What is left over is the heads, and what consumers have not settled.
        if left > 0 {
            self.paging.rest = self.home.queues.len() / LOOKS;
        }
        left
    }

    /// Makes room on the disk, as long as the store asks for it.
    fn relieve(&mut self) {
        while let Some(relief) = self.store.relief() {
            match relief {
                Relief::Log { before } => self.leave_log(before),
                Relief::Backlog { octets } => self.look_for_backlogs(octets),
                Relief::Segment { queue, from, to } => {
                    self.with_queue(queue, |queue, door| queue.leave_segment(from, to, door));
                }
            }
        }
    }

    /// What all queues together read at once takes no more than a quarter of the budget.
    fn share_reads(&mut self) {
        self.store.share(self.paging.max / 4 / self.home.queues.len().max(1));
    }

    fn leave_log(&mut self, before: u64) {
        self.share_reads();
        let window = self.window();
        let mut ids: Vec<QueueId> = self.home.queues.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            let spilled = self.with_queue(id, |queue, door| queue.leave_log(before, window, door));
            self.paging.spilled(id, spilled.unwrap_or_default());
        }
    }

    /// Finds queues with so many octets behind their heads.
    fn look_for_backlogs(&mut self, octets: u64) {
        let window = self.window();
        let queues = self.home.queues.iter();
        let behind = queues.map(|(id, kept)| (Reverse(kept.queue.spillable(window)), *id));
        let mut long: Vec<_> = behind.filter(|(behind, _)| behind.0 as u64 >= octets).collect();
        long.sort_unstable();
        for (_, id) in long {
            self.paging.spilled(id, usize::MAX);
        }
    }

    /// Has a queue that is in backlog spill all behind its head, so many octets in this turn. When
    /// that is done, what enters it goes straight to the store.
    fn write_through(&mut self, octets: usize) {
        let Some(id) = self.paging.leaving.front().copied() else { return };
        self.share_reads();
        let window = self.window();
        let spillable = self.with_queue(id, |queue, door| {
            if !queue.may_write_through() {
                return 0;
            }
            queue.spill(window, octets, door);
            if queue.begin_to_write_through() {
                door.store.begin_to_write_through(id);
            }
            queue.spillable(window)
        });
        if spillable.unwrap_or(0) == 0 {
            self.paging.leaving.pop_front();
        }
    }

    /// Takes messages that the store has brought; false when there were none.
    pub(super) fn load(&mut self) -> bool {
        let mut any = false;
        while let Some(loaded) = self.store.next_loaded() {
            any = true;
            self.share_reads();
            self.with_queue(loaded.queue, |queue, door| {
                loaded.each(|one| queue.loaded(one));
                queue.brought(door);
            });
        }
        any
    }
}
