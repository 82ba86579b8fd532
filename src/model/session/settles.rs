//! A settle of many deliveries, done in pieces: the channel's deliveries are taken off one by one,
//! and then each queue is told of its last one.

use crate::queue::Settle;
use crate::session::{Channel, Outstanding};

/// Deliveries of one channel up to a tag that are being settled.
#[derive(Debug)]
pub struct Settles {
    up_to: u64,
    how: Settle,
    /// The last delivery of each queue so far. Once all are taken: the greatest queue first.
    last: Vec<Outstanding>,
    all_taken: bool,
    /// Each delivery is settled by itself: others of its queue wait for a commit.
    one_by_one: bool,
}

impl Settles {
    /// Settles what the channel was sent up to this tag.
    #[must_use]
    pub fn new(up_to: u64, how: Settle) -> Self {
        Self { up_to, how, last: Vec::new(), all_taken: false, one_by_one: false }
    }

    /// The same, each by itself.
    #[must_use]
    pub fn one_by_one(up_to: u64, how: Settle) -> Self {
        Self { one_by_one: true, ..Self::new(up_to, how) }
    }

    /// Whether each delivery is settled by itself.
    #[must_use]
    pub fn is_one_by_one(&self) -> bool {
        self.one_by_one
    }

    /// Takes the next delivery off the channel.
    pub fn take_one(&mut self, channel: &mut Channel) -> Option<Outstanding> {
        let next = channel.unacked.pop_up_to(self.up_to).map(|(_, one)| one);
        self.all_taken = next.is_none();
        next
    }

    /// How the deliveries are settled.
    #[must_use]
    pub fn how(&self) -> Settle {
        self.how
    }

    /// Takes at most `most` deliveries off the channel. Returns how many were taken.
    pub fn take(&mut self, channel: &mut Channel, most: usize) -> usize {
        if self.all_taken {
            return 0;
        }
        let mut taken = 0;
        while taken < most {
            let run = channel.unacked.pop_run_up_to(self.up_to, most - taken);
            let Some((run, one)) = run.and_then(|run| Some((run, run.last()?))) else {
                self.all_taken = true;
                break;
            };
            taken += run.len();
            match self.last.last_mut() {
                Some(before) if before.queue == one.queue => *before = one,
                _ => self.last.push(one),
            }
        }
        self.keep_last();
        taken
    }

    /// Keeps the last delivery of each queue.
    fn keep_last(&mut self) {
        if self.last.len() < 2 {
            return;
        }
        // Newest first, then a stable sort: the first of each queue is its last.
        self.last.reverse();
        self.last.sort_by_key(|one| one.queue);
        self.last.dedup_by_key(|one| one.queue);
        if self.all_taken {
            self.last.reverse();
        }
    }

    /// The last delivery of the next queue. `None` if there is none, or not all were taken.
    pub fn next_queue(&mut self) -> Option<Outstanding> {
        if self.all_taken { self.last.pop() } else { None }
    }

    /// Whether all were taken and all queues are told.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.all_taken && self.last.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ChannelId, QueueId, ShardId};

    #[test]
    fn the_last_of_each_queue_is_taken_in_any_pieces() {
        for most in [1, 2, 3, 100] {
            let mut channel = Channel::new(ChannelId(1));
            for (queue, number) in [(1, 1), (2, 1), (1, 2), (1, 3), (3, 9), (2, 2), (1, 4)] {
                channel.deliver(QueueId(queue), ShardId(0), number);
            }
            let mut settles = Settles::new(6, Settle::Ack);
            while !settles.all_taken {
                assert!(settles.next_queue().is_none());
                assert!(settles.take(&mut channel, most) <= most);
            }
            let last = std::iter::from_fn(|| settles.next_queue());
            let last: Vec<_> = last.map(|one| (one.queue.0, one.number)).collect();
            assert_eq!((last, settles.is_done()), (vec![(1, 3), (2, 2), (3, 9)], true));
            assert_eq!(channel.unacked.len(), 1);
        }
    }
}
