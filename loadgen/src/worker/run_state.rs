//! What the driver and the workers of a run share: the phase, written by the driver, and counters,
//! written by the workers.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread::Thread;

use crate::system::epoll::EpollWaker;
use crate::system::error::LoadgenError;

/// The phase of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RunPhase {
    /// Producers publish.
    Publish,
    /// Producers have stopped; confirms and deliveries still arrive.
    Drain,
    /// All channels and connections close.
    Close,
}

/// The counters of one worker, its only writer. Sums over all workers are exact once all are at
/// rest.
#[derive(Debug)]
pub struct WorkerCounters {
    /// Wakes the worker.
    pub waker: EpollWaker,
    /// Messages encoded for the socket.
    pub sent: AtomicU64,
    /// The deliveries expected for these messages.
    pub expected: AtomicU64,
    /// Distinct messages received.
    pub received: AtomicU64,
    /// Messages received again after a consumer had requeued them.
    pub requeued_again: AtomicU64,
    /// Messages requeued.
    pub requeued: AtomicU64,
    /// Messages returned.
    pub returned: AtomicU64,
    /// Messages confirmed.
    pub confirmed: AtomicU64,
    /// Messages that the broker nacked.
    pub nacked: AtomicU64,
    /// Messages that wait for a confirm.
    pub unconfirmed: AtomicU64,
    /// The worker has stopped its producers: from now on `sent` does not change and `unconfirmed`
    /// does not rise.
    pub at_rest: AtomicBool,
    /// Producers that still publish.
    pub producing: AtomicU64,
    /// Consumers that have not reached their limit.
    pub consuming: AtomicU64,
}

/// The sums over all workers.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct CounterTotals {
    pub sent: u64,
    pub expected: u64,
    pub received: u64,
    pub requeued_again: u64,
    pub requeued: u64,
    pub returned: u64,
    pub confirmed: u64,
    pub nacked: u64,
    pub unconfirmed: u64,
    pub producing: u64,
    pub consuming: u64,
}

/// The state of a run that all its threads share.
#[derive(Debug)]
pub struct RunState {
    phase: AtomicU8,
    failed: AtomicBool,
    driver: Thread,
    /// One for each worker.
    pub counters: Vec<WorkerCounters>,
}

impl WorkerCounters {
    /// All counters at 0.
    ///
    /// # Errors
    /// The process is out of file descriptors.
    pub fn new() -> Result<Self, LoadgenError> {
        let zero = || AtomicU64::new(0);
        Ok(Self {
            waker: EpollWaker::new()?,
            sent: zero(),
            expected: zero(),
            received: zero(),
            requeued_again: zero(),
            requeued: zero(),
            returned: zero(),
            confirmed: zero(),
            nacked: zero(),
            unconfirmed: zero(),
            at_rest: AtomicBool::new(false),
            producing: zero(),
            consuming: zero(),
        })
    }
}

impl RunState {
    /// The state of a run whose driver is the calling thread.
    ///
    /// # Errors
    /// The process is out of file descriptors.
    pub fn new(workers: usize) -> Result<Self, LoadgenError> {
        let counters = (0..workers).map(|_| WorkerCounters::new()).collect::<Result<_, _>>()?;
        let driver = std::thread::current();
        let phase = AtomicU8::new(RunPhase::Publish as u8);
        Ok(Self { phase, failed: AtomicBool::new(false), driver, counters })
    }

    /// The current phase.
    #[must_use]
    pub fn phase(&self) -> RunPhase {
        match self.phase.load(Ordering::Acquire) {
            0 => RunPhase::Publish,
            1 => RunPhase::Drain,
            _ => RunPhase::Close,
        }
    }

    /// Enters a phase and wakes all workers.
    ///
    /// # Errors
    /// A worker cannot be woken.
    pub fn enter(&self, phase: RunPhase) -> Result<(), LoadgenError> {
        self.phase.store(phase as u8, Ordering::Release);
        self.counters.iter().try_for_each(|counters| counters.waker.wake())
    }

    /// Records that a worker failed and wakes the driver.
    pub fn fail(&self) {
        self.failed.store(true, Ordering::Release);
        self.driver.unpark();
    }

    /// True if a worker failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Wakes the driver to read the counters.
    pub fn wake_driver(&self) {
        self.driver.unpark();
    }

    /// True if every worker has stopped its producers.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.counters.iter().all(|counters| counters.at_rest.load(Ordering::Acquire))
    }

    /// The sums over all workers.
    #[must_use]
    pub fn totals(&self) -> CounterTotals {
        let sum = |of: fn(&WorkerCounters) -> &AtomicU64| {
            self.counters.iter().map(|counters| of(counters).load(Ordering::Acquire)).sum()
        };
        CounterTotals {
            sent: sum(|counters| &counters.sent),
            expected: sum(|counters| &counters.expected),
            received: sum(|counters| &counters.received),
            requeued_again: sum(|counters| &counters.requeued_again),
            requeued: sum(|counters| &counters.requeued),
            returned: sum(|counters| &counters.returned),
            confirmed: sum(|counters| &counters.confirmed),
            nacked: sum(|counters| &counters.nacked),
            unconfirmed: sum(|counters| &counters.unconfirmed),
            producing: sum(|counters| &counters.producing),
            consuming: sum(|counters| &counters.consuming),
        }
    }
}
