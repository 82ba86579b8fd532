//! Which queue is to be ticked next. A queue without a deadline costs nothing here.

use std::collections::BTreeSet;

use model::QueueId;
use model::mutant::{self, Mutant};

/// No deadline.
pub(super) const NEVER_US: u64 = u64::MAX;

/// Deadlines of queues, the earliest first: at most one entry a queue, in microseconds of the
/// monotonic clock. A queue that no longer needs its deadline is ticked once for nothing.
#[derive(Debug, Default)]
pub(super) struct QueueTimers {
    due: BTreeSet<(u64, QueueId)>,
    stopped: bool,
}

impl QueueTimers {
    /// Sets the deadline of a queue if that is earlier than the one it has, `armed_us`.
    pub fn arm(&mut self, id: QueueId, armed_us: &mut u64, due_us: u64) {
        let lost = self.stopped || mutant::active(Mutant::QueueTimerLost);
        if due_us < *armed_us && !lost {
            self.disarm(id, *armed_us);
            self.due.insert((due_us, id));
            *armed_us = due_us;
        }
    }

    /// Removes the deadline of a queue.
    pub fn disarm(&mut self, id: QueueId, armed_us: u64) {
        if armed_us != NEVER_US {
            self.due.remove(&(armed_us, id));
        }
    }

    /// The earliest deadline.
    pub fn next_us(&self) -> Option<u64> {
        self.due.first().map(|(due_us, _)| *due_us)
    }

    /// Takes the first queue whose deadline has come.
    pub fn pop_due(&mut self, now_us: u64) -> Option<QueueId> {
        let first = self.due.first().filter(|(due_us, _)| *due_us <= now_us)?;
        let id = first.1;
        self.due.pop_first();
        Some(id)
    }

    /// The broker stops: no queue is ticked any more.
    pub fn stop(&mut self) {
        self.stopped = true;
        self.due.clear();
    }
}

#[cfg(test)]
mod tests {
    use crate::queues::timers::*;

    #[test]
    fn the_earliest_queue_comes_first_and_each_once() {
        let mut timers = QueueTimers::default();
        let (mut one, mut two) = (NEVER_US, NEVER_US);
        timers.arm(QueueId(1), &mut one, 50);
        timers.arm(QueueId(2), &mut two, 40);
        timers.arm(QueueId(1), &mut one, 60);
        assert_eq!((timers.next_us(), one), (Some(40), 50));
        timers.arm(QueueId(1), &mut one, 30);
        assert_eq!((timers.next_us(), one, timers.due.len()), (Some(30), 30, 2));
        assert_eq!(timers.pop_due(29), None);
        assert_eq!([timers.pop_due(45), timers.pop_due(45)], [1, 2].map(|id| Some(QueueId(id))));
        assert_eq!((timers.pop_due(u64::MAX), timers.next_us()), (None, None));
    }

    #[test]
    fn a_queue_that_is_gone_and_a_home_that_stops_have_no_deadlines() {
        let mut timers = QueueTimers::default();
        let (mut one, mut two) = (NEVER_US, NEVER_US);
        timers.arm(QueueId(1), &mut one, 50);
        timers.disarm(QueueId(1), one);
        timers.disarm(QueueId(2), two);
        assert_eq!(timers.next_us(), None);
        timers.arm(QueueId(2), &mut two, 10);
        timers.stop();
        timers.arm(QueueId(2), &mut two, 5);
        assert_eq!((timers.next_us(), timers.pop_due(u64::MAX)), (None, None));
    }
}
