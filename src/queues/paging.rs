//! What moves between the queues and the store: messages beyond the home's memory, messages that
//! were fetched, and messages to move out of a segment that will be deleted.

use std::cmp::Reverse;
use std::ops::Bound::{Excluded, Unbounded};

use model::{QueueCommands, QueueId};

use crate::queues::hosted::Queues;
use crate::queues::memory::LeavingLog;
use crate::queues::output::HomeOutput;
use crate::store::Relief;

/// Bytes that are spilled in one turn, or one message more.
const AT_ONCE: usize = 8 * 1024 * 1024;
/// So much more is spilled than has to be, since memory is freed in chunks.
const SLACK: usize = 128 * 1024;
/// Where no queue has anything to spill, a turn looks at so many queues on average.
const LOOKS: usize = 64;
/// Queues that are held back and looked at in a turn.
const RELEASED_AT_ONCE: usize = 1024;
/// Queues that are told in a turn to leave the log.
const LEAVING_AT_ONCE: usize = 4096;

impl Queues {
    /// Keeps the queues within their memory, a bounded amount of work for each turn, and the store
    /// within its files.
    pub fn page(&mut self, outward: &mut impl HomeOutput) {
        self.share_credit(outward);
        let max = if self.memory.spilling { self.memory.goal() } else { self.memory.max };
        let mut left = AT_ONCE;
        if self.resident() > max {
            left = self.spill(outward);
        } else {
            (self.memory.spilling, self.memory.rest) = (false, 0);
        }
        if !self.memory.held_back.is_empty() {
            self.release(outward);
        }
        self.relieve(outward);
        if self.memory.leaving_log.queues > 0 {
            self.leave_log(outward);
        }
        if left > 0 {
            self.bypass_log(left, outward);
        }
    }

    /// Lets connections go on that waited with large messages, and gives those up that have kept
    /// them waiting for long.
    fn share_credit(&mut self, outward: &mut impl HomeOutput) {
        for conn in self.credit.look(self.now.monotonic_us) {
            outward.stuck(conn);
        }
        if self.credit.may_go_on() {
            let waiting = self.credit.take_waiting();
            self.reopen(waiting, outward);
        }
    }

    fn window(&self) -> usize {
        self.memory.window(self.hosted.len())
    }

    /// True if there is more to spill than fitted into this turn.
    pub fn unfinished(&self) -> bool {
        self.memory.unfinished() || self.has_work()
    }

    /// Sends messages to the store, from the queues that have most to spill. Says how many bytes
    /// more may be spilled in this turn.
    #[cold]
    fn spill(&mut self, outward: &mut impl HomeOutput) -> usize {
        if self.memory.rest > 0 {
            self.memory.rest -= 1;
            return AT_ONCE;
        }
        self.share_reads();
        let (window, goal) = (self.window(), self.memory.goal());
        let queues = self.hosted.iter();
        let bytes = queues.map(|(id, host)| (Reverse(host.queue.spillable(window)), *id));
        let mut queues: Vec<_> = bytes.filter(|(bytes, _)| bytes.0 > 0).collect();
        queues.sort_unstable();
        let mut left = AT_ONCE;
        for (_, id) in queues {
            let excess = self.resident().saturating_sub(goal);
            if excess == 0 || left == 0 {
                break;
            }
            let bytes = (excess + SLACK.min(goal / 8)).min(left);
            let spilled = self
                .with(id, outward, |queue, now, output| queue.spill(window, bytes, now, output));
            let spilled = spilled.unwrap_or_default();
            self.memory.spilled(id, spilled);
            left = left.saturating_sub(spilled);
        }
        self.memory.spilling = left == 0;
        // What is left over is the heads, and what consumers have not settled.
        if left > 0 {
            self.memory.rest = self.hosted.len() / LOOKS;
            if self.resident() > self.memory.unsettled_max {
                self.hold_back();
            }
        }
        left
    }

    /// Whether a queue delivers nothing more to consumers that hold much.
    pub fn holds_consumers_back(&self) -> bool {
        !self.memory.held_back.is_empty()
    }

    /// There is nothing left to spill: queues whose consumers hold much without acknowledging it
    /// deliver nothing more to them.
    #[cold]
    fn hold_back(&mut self) {
        let share = self.memory.unsettled_share(self.hosted.len());
        for (id, host) in &mut self.hosted {
            if host.queue.unsettled_bytes() > share && self.memory.held_back.insert(*id) {
                host.queue.hold_back(true);
            }
        }
    }

    /// Lets queues go on whose consumers have acknowledged, or all of them if there is room: as
    /// many as the turn's work allows, in a circle.
    #[cold]
    fn release(&mut self, outward: &mut impl HomeOutput) {
        let room = self.resident() <= self.memory.unsettled_goal();
        let enough = self.memory.unsettled_share(self.hosted.len()) / 2;
        let held_back = &self.memory.held_back;
        let (from, count) = (self.memory.release_from, held_back.len().min(RELEASED_AT_ONCE));
        let in_circle = held_back.range(from..).chain(held_back.range(..from));
        for id in in_circle.copied().take(count).collect::<Vec<_>>() {
            if self.unfinished.budget.is_spent() {
                return;
            }
            self.unfinished.budget.spend(1);
            self.memory.release_from = QueueId(id.0 + 1);
            let host = self.hosted.get(&id);
            if host.is_some_and(|host| !room && host.queue.unsettled_bytes() > enough) {
                continue;
            }
            self.memory.held_back.remove(&id);
            self.with(id, outward, |queue, _, _| queue.hold_back(false));
        }
    }

    /// Makes room on the disk, as long as the store asks for it.
    fn relieve(&mut self, outward: &mut impl HomeOutput) {
        while let Some(relief) = self.store.relief() {
            match relief {
                Relief::Log { before } => {
                    let leaving = &mut self.memory.leaving_log;
                    (leaving.before, leaving.queues) = (before, self.order.len());
                }
                Relief::Backlog { bytes } => self.look_for_backlogs(bytes),
                Relief::Segment { queue, from, to } => {
                    self.with(queue, outward, |queue, now, output| {
                        queue.leave_segment(from, to, now, output);
                    });
                }
            }
        }
    }

    fn share_reads(&mut self) {
        self.store.share(self.memory.read_share(self.hosted.len()));
    }

    /// Queues leave the log before a batch, as many as fit into a turn. Those of direct reply-to
    /// have nothing there.
    #[cold]
    fn leave_log(&mut self, outward: &mut impl HomeOutput) {
        self.share_reads();
        let (window, before) = (self.window(), self.memory.leaving_log.before);
        let mut left = AT_ONCE;
        for _ in 0..LEAVING_AT_ONCE {
            let LeavingLog { behind, queues, .. } = &mut self.memory.leaving_log;
            let behind_last = self.order.range((Excluded(*behind), Unbounded)).next();
            let next = behind_last.or_else(|| self.order.first()).copied();
            let Some(id) = next.filter(|_| *queues > 0 && left > 0) else { break };
            (*behind, *queues) = (id, *queues - 1);
            let spilled = self.with(id, outward, |queue, now, output| {
                queue.leave_log(before, window, now, output)
            });
            let spilled = spilled.unwrap_or_default();
            self.memory.spilled(id, spilled);
            left = left.saturating_sub(spilled);
        }
        if self.order.is_empty() {
            self.memory.leaving_log.queues = 0;
        }
    }

    /// Finds queues with so many bytes behind their heads.
    fn look_for_backlogs(&mut self, bytes: u64) {
        let window = self.window();
        let queues = self.hosted.iter();
        let behind = queues.map(|(id, host)| (Reverse(host.queue.spillable(window)), *id));
        let mut long: Vec<_> = behind.filter(|(behind, _)| behind.0 as u64 >= bytes).collect();
        long.sort_unstable();
        for (_, id) in long {
            self.memory.spilled(id, usize::MAX);
        }
    }

    /// Has a queue that is in backlog spill all behind its head, so many bytes in this turn. When
    /// that is done, what enters it bypasses the log.
    fn bypass_log(&mut self, bytes: usize, outward: &mut impl HomeOutput) {
        let Some(id) = self.memory.leaving.front().copied() else { return };
        self.share_reads();
        let window = self.window();
        let spillable = self.with(id, outward, |queue, now, output| {
            if !queue.may_bypass_log() {
                return 0;
            }
            queue.spill(window, bytes, now, output);
            if queue.begin_to_bypass_log() {
                output.store.begin_bypass(id);
            }
            queue.spillable(window)
        });
        if spillable.unwrap_or(0) == 0 {
            self.memory.leaving.pop_front();
        }
    }

    /// Takes messages that the store has brought; false when there were none.
    pub fn load(&mut self, outward: &mut impl HomeOutput) -> bool {
        let mut any = false;
        while let Some(mut loaded) = self.store.next_loaded() {
            any = true;
            loaded.count_bodies(&self.bodies);
            self.share_reads();
            self.with(loaded.queue, outward, |queue, now, output| {
                loaded.each(|one| queue.loaded(one));
                queue.all_loaded(now, output);
            });
        }
        any
    }
}

/// What tests of a shard as a home look at.
#[cfg(test)]
impl Queues {
    /// Bytes of memory that each queue holds.
    pub fn resident_each(&self) -> impl Iterator<Item = usize> {
        self.hosted.values().map(|host| host.queue.pinned())
    }

    /// Bytes that a queue has in memory and could spill.
    pub fn spillable(&self, id: QueueId) -> usize {
        self.hosted[&id].queue.spillable(0)
    }
}
