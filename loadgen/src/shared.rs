//! What the threads of a run know of each other: the phase going down, counters coming up.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread::Thread;

use crate::failure::Failure;
use crate::poll::Waker;

/// What a run is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Producers publish.
    Publish,
    /// Producers have stopped; confirms and deliveries still come.
    Drain,
    /// All leave and close.
    Close,
}

/// Counters of one worker. Each has one writer; sums over workers are exact once all are at rest.
#[derive(Debug)]
pub struct Figures {
    /// Wakes the worker.
    pub waker: Waker,
    /// Messages made ready for the socket.
    pub sent: AtomicU64,
    /// Deliveries to expect of them.
    pub expected: AtomicU64,
    /// Different messages received.
    pub received: AtomicU64,
    /// Messages that came again after a consumer had given them back.
    pub again: AtomicU64,
    /// Messages given back.
    pub requeued: AtomicU64,
    /// Messages returned.
    pub returned: AtomicU64,
    /// Messages confirmed.
    pub confirmed: AtomicU64,
    /// Messages refused.
    pub nacked: AtomicU64,
    /// Messages that wait for a confirm.
    pub unconfirmed: AtomicU64,
    /// The worker has seen that producers stopped: `sent` and `unconfirmed` are final or falling.
    pub at_rest: AtomicBool,
    /// Producers that still publish.
    pub producing: AtomicU64,
    /// Consumers that have not enough yet.
    pub consuming: AtomicU64,
}

/// The sums over all workers.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Sums {
    pub sent: u64,
    pub expected: u64,
    pub received: u64,
    pub again: u64,
    pub requeued: u64,
    pub returned: u64,
    pub confirmed: u64,
    pub nacked: u64,
    pub unconfirmed: u64,
    pub producing: u64,
    pub consuming: u64,
}

/// The state of a run that all its threads see.
#[derive(Debug)]
pub struct Shared {
    phase: AtomicU8,
    failed: AtomicBool,
    main: Thread,
    /// One for each worker.
    pub figures: Vec<Figures>,
}

impl Figures {
    /// Nothing yet.
    ///
    /// # Errors
    /// The system has no descriptors left.
    pub fn new() -> Result<Self, Failure> {
        let zero = || AtomicU64::new(0);
        Ok(Self {
            waker: Waker::new()?,
            sent: zero(),
            expected: zero(),
            received: zero(),
            again: zero(),
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

impl Shared {
    /// The state of a run that the calling thread leads.
    ///
    /// # Errors
    /// The system has no descriptors left.
    pub fn new(workers: usize) -> Result<Self, Failure> {
        let figures = (0..workers).map(|_| Figures::new()).collect::<Result<_, _>>()?;
        let main = std::thread::current();
        let phase = AtomicU8::new(Phase::Publish as u8);
        Ok(Self { phase, failed: AtomicBool::new(false), main, figures })
    }

    /// What the run is doing.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Publish,
            1 => Phase::Drain,
            _ => Phase::Close,
        }
    }

    /// Goes on to a phase and wakes all workers.
    ///
    /// # Errors
    /// The system refuses to wake one.
    pub fn enter(&self, phase: Phase) -> Result<(), Failure> {
        self.phase.store(phase as u8, Ordering::Release);
        self.figures.iter().try_for_each(|figures| figures.waker.wake())
    }

    /// A worker gave up.
    pub fn fail(&self) {
        self.failed.store(true, Ordering::Release);
        self.main.unpark();
    }

    /// Whether a worker gave up.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// The leading thread should look at the counters.
    pub fn tell(&self) {
        self.main.unpark();
    }

    /// Whether every worker has stopped publishing.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.figures.iter().all(|figures| figures.at_rest.load(Ordering::Acquire))
    }

    /// The counters of all workers together.
    #[must_use]
    pub fn sums(&self) -> Sums {
        let sum = |of: fn(&Figures) -> &AtomicU64| {
            self.figures.iter().map(|figures| of(figures).load(Ordering::Acquire)).sum()
        };
        Sums {
            sent: sum(|figures| &figures.sent),
            expected: sum(|figures| &figures.expected),
            received: sum(|figures| &figures.received),
            again: sum(|figures| &figures.again),
            requeued: sum(|figures| &figures.requeued),
            returned: sum(|figures| &figures.returned),
            confirmed: sum(|figures| &figures.confirmed),
            nacked: sum(|figures| &figures.nacked),
            unconfirmed: sum(|figures| &figures.unconfirmed),
            producing: sum(|figures| &figures.producing),
            consuming: sum(|figures| &figures.consuming),
        }
    }
}
