//! Returns freed memory to the system while threads are idle.
//!
//! The allocator does so only for the thread that allocated the memory, and only while that thread
//! goes on allocating. So after a large queue is purged, deleted or drained, an idle process would
//! keep all of it. Here a shard whose messages take less memory than before starts a round, in
//! which every thread that may have allocated messages has the allocator collect once.
//!
//! All of this happens right before a thread sleeps, so a busy thread pays nothing; and it needs
//! nothing, since what it allocates reuses the memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::runtime::sys;
use crate::runtime::wakeup::Wakeup;

/// Bytes by which a shard's memory has to fall. Less is not worth touching fresh pages again.
const FALL: usize = 8 << 20;
/// Microseconds for which it has to stay that low: what comes back at once is not given back.
const LOW_US: u64 = 2_000_000;
/// Microseconds between two rounds that a shard starts.
const PAUSE_US: u64 = 4_000_000;
/// So many microseconds after a round another one follows, for what was freed behind the messages:
/// output to clients, buffers of threads.
const SECOND_US: u64 = 3_000_000;

/// What the threads share.
#[derive(Debug, Default)]
pub struct GiveBack {
    /// The number of the last round.
    round: AtomicU64,
    /// Those of all threads that take part.
    wakeups: Mutex<Vec<Arc<Wakeup>>>,
}

impl GiveBack {
    /// The thread with that wakeup takes part from now on.
    #[must_use]
    pub fn join(self: &Arc<Self>, wakeup: &Arc<Wakeup>) -> Collector {
        self.wakeups().push(Arc::clone(wakeup));
        let done = self.round.load(Ordering::Relaxed);
        Collector { shared: Arc::clone(self), done }
    }

    /// Every thread is to collect: those that sleep are woken, others do it before they sleep.
    pub fn start_round(&self) {
        self.round.fetch_add(1, Ordering::Relaxed);
        self.wakeups().iter().for_each(|wakeup| wakeup.wake());
    }

    fn wakeups(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Wakeup>>> {
        self.wakeups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One thread's part.
#[derive(Debug)]
pub struct Collector {
    shared: Arc<GiveBack>,
    /// The last round that this thread took part in.
    done: u64,
}

impl Collector {
    /// To be called before the thread sleeps, after [`Wakeup::announce_sleep`]: returns the
    /// thread's freed memory to the system if a round has started. True if it did.
    pub fn before_sleep(&mut self) -> bool {
        let round = self.shared.round.load(Ordering::Relaxed);
        if round == self.done {
            return false;
        }
        self.done = round;
        sys::give_memory_back();
        true
    }
}

/// A shard's part: it starts rounds.
#[derive(Debug)]
pub struct ShardCollector {
    collector: Collector,
    fall: Fall,
}

impl ShardCollector {
    /// Nothing has been held so far.
    #[must_use]
    pub fn new(collector: Collector) -> Self {
        Self { collector, fall: Fall::default() }
    }

    /// As [`Collector::before_sleep`], of a shard whose messages hold so many bytes.
    pub fn before_sleep(&mut self, held: usize, now_us: u64) {
        if self.fall.is_due(held, now_us) {
            self.collector.shared.start_round();
        }
        self.collector.before_sleep();
    }

    /// When [`Self::before_sleep`] is to be called even if nothing happens until then, in
    /// microseconds of the monotonic clock.
    #[must_use]
    pub fn deadline_us(&self) -> Option<u64> {
        self.fall.due_us.or(self.fall.second_us)
    }
}

/// Notices that a shard holds less memory than before.
#[derive(Debug, Default)]
struct Fall {
    /// The most bytes held since the last round.
    peak: usize,
    /// It holds less than that: when the next round starts if that stays so.
    due_us: Option<u64>,
    /// No round before this moment.
    pause_us: u64,
    /// When the round follows that a fall does not need.
    second_us: Option<u64>,
}

impl Fall {
    /// True if a round is due.
    fn is_due(&mut self, held: usize, now_us: u64) -> bool {
        self.peak = self.peak.max(held);
        if self.peak - held < FALL {
            self.due_us = None;
            return self.second_us.take_if(|when| *when <= now_us).is_some();
        }
        let due_us = *self.due_us.get_or_insert((now_us + LOW_US).max(self.pause_us));
        if now_us < due_us {
            return false;
        }
        let (pause_us, second_us) = (now_us + PAUSE_US, Some(now_us + SECOND_US));
        *self = Self { peak: held, due_us: None, pause_us, second_us };
        true
    }
}

#[cfg(test)]
mod tests {
    use crate::runtime::memory::give_back::*;

    const HIGH: usize = 100 << 20;

    #[test]
    fn a_fall_that_lasts_is_due_twice() {
        let mut fall = Fall::default();
        assert!(!fall.is_due(HIGH, 0) && fall.due_us.is_none());
        assert!(!fall.is_due(HIGH - FALL + 1, 1) && fall.due_us.is_none());
        assert!(!fall.is_due(0, 10) && fall.due_us == Some(10 + LOW_US));
        assert!(!fall.is_due(0, 9 + LOW_US));
        assert!(fall.is_due(0, 10 + LOW_US) && fall.due_us.is_none());
        let second_us = fall.second_us.unwrap();
        assert!(!fall.is_due(0, second_us - 1) && fall.is_due(0, second_us));
        assert!(!fall.is_due(0, second_us + 1) && fall.due_us.is_none());
        assert_eq!(fall.second_us, None);
    }

    #[test]
    fn memory_that_is_filled_again_at_once_is_kept() {
        let mut fall = Fall::default();
        for second in 0..60 {
            let held = if second % 2 == 0 { HIGH } else { 0 };
            assert!(!fall.is_due(held, second * 1_000_000));
        }
    }

    #[test]
    fn a_long_drain_is_given_back_in_few_rounds_and_to_the_end() {
        let mut fall = Fall::default();
        let held = |ms: u64| HIGH.saturating_sub(ms as usize * HIGH / 60_000);
        let rounds: Vec<_> = (0..70_000).filter(|ms| fall.is_due(held(*ms), ms * 1000)).collect();
        assert!(rounds.len() <= 20 && rounds.last() > Some(&60_000), "{rounds:?}");
        assert!(fall.peak < FALL);
    }

    #[test]
    fn every_thread_collects_once_a_round() {
        let give_back = Arc::new(GiveBack::default());
        let wakeups = [0; 2].map(|_| Arc::new(Wakeup::new().unwrap()));
        let [shard, other] = wakeups.each_ref().map(|wakeup| give_back.join(wakeup));
        let (mut shard, mut other) = (ShardCollector::new(shard), other);
        assert!(!other.before_sleep());
        wakeups[1].announce_sleep();
        shard.before_sleep(HIGH, 0);
        shard.before_sleep(0, 0);
        shard.before_sleep(0, shard.deadline_us().unwrap());
        // The sleeper is woken.
        wakeups[1].wait().unwrap();
        assert!(other.before_sleep() && !other.before_sleep());
    }
}
