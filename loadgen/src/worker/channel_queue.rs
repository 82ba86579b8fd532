//! Which channels have something to do, now or at a later time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The channels to serve in the next turn, and those to serve at a time. A channel is queued at
/// most once.
#[derive(Debug, Default)]
pub struct ChannelQueue {
    ready: Vec<usize>,
    timers: BinaryHeap<Reverse<(u64, usize)>>,
    /// For each channel: it is in `ready` or in `timers`.
    queued: Vec<bool>,
}

impl ChannelQueue {
    /// Adds the next channel; it is served in the next turn if `ready`.
    pub fn add(&mut self, ready: bool) {
        if ready {
            self.ready.push(self.queued.len());
        }
        self.queued.push(ready);
    }

    /// Queues a channel for `due` (ns), or for the next turn (`None`), unless it is queued already.
    pub fn schedule(&mut self, channel: usize, due: Option<u64>) {
        if std::mem::replace(&mut self.queued[channel], true) {
            return;
        }
        match due {
            Some(due) => self.timers.push(Reverse((due, channel))),
            None => self.ready.push(channel),
        }
    }

    /// Moves the channels that are due to the ready ones and returns all of these. A channel that
    /// stays ready is queued again and comes after this turn's reads.
    pub fn take_due(&mut self, now: u64) -> Vec<usize> {
        while let Some(&Reverse((due, channel))) = self.timers.peek()
            && due <= now
        {
            self.timers.pop();
            self.ready.push(channel);
        }
        std::mem::take(&mut self.ready)
    }

    /// The channel is about to be served: it may be queued again.
    pub fn served(&mut self, channel: usize) {
        self.queued[channel] = false;
    }

    /// True if a channel waits for the next turn.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// When the first timer is due (ns); `u64::MAX` if there is none.
    #[must_use]
    pub fn next_due(&self) -> u64 {
        self.timers.peek().map_or(u64::MAX, |Reverse((due, _))| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_queued_once_and_served_when_it_is_due() {
        let mut queue = ChannelQueue::default();
        queue.add(true);
        queue.add(false);
        queue.schedule(0, Some(5));
        queue.schedule(1, Some(20));
        queue.schedule(1, None);
        assert_eq!((queue.take_due(10), queue.has_ready()), (vec![0], false));
        assert_eq!((queue.next_due(), queue.take_due(20)), (20, vec![1]));
        queue.served(1);
        queue.schedule(1, None);
        assert_eq!((queue.next_due(), queue.take_due(0)), (u64::MAX, vec![1]));
    }
}
