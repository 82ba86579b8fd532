//! Drives the workers through the phases of a run: publish, drain, close.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::run::live_display::LiveDisplay;
use crate::system::clock::{self, SECOND};
use crate::system::error::LoadgenError;
use crate::system::interrupt;
use crate::system::threads;
use crate::worker::event_loop::{LATE_SEND_MAX, LoadWorker};
use crate::worker::plan::RunPlan;
use crate::worker::result::WorkerResult;
use crate::worker::run_state::{CounterTotals, RunPhase, RunState};

/// A drain ends when nothing has arrived for this long (ns).
const QUIET_MAX: u64 = 3 * SECOND;

/// When a run is complete.
#[derive(Debug, Clone, Copy)]
pub struct RunGoal {
    /// The run ends when this many messages are received.
    pub enough: Option<u64>,
    /// The run ends when every consumer has reached its limit.
    pub consumers_have_limit: bool,
    /// Every message sent is to be received, up to the consumers' limits.
    pub expect_all: bool,
    /// Requeued messages are delivered again until they are acknowledged or rejected.
    pub all_kept: bool,
    /// How long confirms and deliveries may take after the last publish (ns).
    pub drain_max: u64,
}

/// A result, and the error that ended the run early, if there was one.
pub type EndedWith<T = WorkerResult> = (T, Result<(), LoadgenError>);

/// Runs each worker on its own thread, pinned to the CPUs in turn. Calls `before_close` when all
/// workers are at rest and consumers still consume.
///
/// The inner error is that of the first worker that failed, or the signal that ended the run. The
/// results cover everything until then.
///
/// # Errors
/// A thread cannot be started.
pub fn drive(
    workers: Vec<LoadWorker>,
    shared: &Arc<RunState>,
    plan: RunPlan,
    cpus: &[usize],
    goal: RunGoal,
    display: &mut LiveDisplay,
    mut before_close: impl FnMut() -> Result<(), LoadgenError>,
) -> Result<EndedWith<Vec<WorkerResult>>, LoadgenError> {
    let mut threads = Vec::new();
    for (number, worker) in workers.into_iter().enumerate() {
        let cpu = cpus.get(number % cpus.len().max(1)).copied();
        threads.push(spawn(worker, number, cpu, Arc::clone(shared))?);
    }
    let mut driver = RunDriver { shared, plan, goal, display, interrupted: Ok(()) };
    driver.publish();
    shared.enter(RunPhase::Drain)?;
    driver.drain();
    let closing = std::mem::replace(&mut driver.interrupted, Ok(())).and(before_close());
    shared.enter(RunPhase::Close)?;
    let (mut results, mut ended) = (Vec::new(), Ok(()));
    for thread in threads {
        let (result, done) = thread.join().map_err(|_| {
            LoadgenError::Settings("a worker thread panicked; this is a bug in loadgen".to_owned())
        })?;
        results.push(result);
        ended = ended.and(done);
    }
    Ok((results, ended.and(closing)))
}

fn spawn(
    worker: LoadWorker,
    number: usize,
    cpu: Option<usize>,
    shared: Arc<RunState>,
) -> Result<JoinHandle<EndedWith>, LoadgenError> {
    let body = move || match threads::prepare(cpu) {
        Ok(()) => worker.run(),
        Err(failure) => {
            shared.fail();
            (worker.result(), Err(failure))
        }
    };
    std::thread::Builder::new()
        .name(format!("worker-{number}"))
        .spawn(body)
        .map_err(LoadgenError::io("cannot start a thread"))
}

struct RunDriver<'a> {
    shared: &'a RunState,
    plan: RunPlan,
    goal: RunGoal,
    display: &'a mut LiveDisplay,
    /// The signal that ended the run before it was complete.
    interrupted: Result<(), LoadgenError>,
}

impl RunDriver<'_> {
    /// Waits until nothing more is to be published.
    fn publish(&mut self) {
        let grace = if self.plan.producers > 0 { LATE_SEND_MAX } else { 0 };
        let stop = self.plan.stop.saturating_add(grace);
        loop {
            let (now, totals) = (clock::now(), self.shared.totals());
            self.display.update(now, totals);
            let published = self.plan.producers > 0 && totals.producing == 0;
            let consumed = self.goal.consumers_have_limit && totals.consuming == 0;
            let enough = self.goal.enough.is_some_and(|enough| self.kept(totals) >= enough);
            if published || consumed || enough || now >= stop || self.is_ended() {
                return;
            }
            park(now, stop.min(self.display.next()));
        }
    }

    /// Waits until everything sent is accounted for, or until no more is to be expected.
    fn drain(&mut self) {
        let begin = clock::now();
        let (mut seen, mut moved_at) = (self.shared.totals(), begin);
        loop {
            let (now, mut totals) = (clock::now(), self.shared.totals());
            self.display.update(now, totals);
            if !self.goal.all_kept {
                // Messages that are requeued forever are no progress.
                (totals.requeued_again, totals.requeued) = (0, 0);
            }
            if totals != seen {
                (seen, moved_at) = (totals, now);
            }
            let give_up = (begin + self.goal.drain_max).min(moved_at + QUIET_MAX);
            if self.is_drained(totals) || now >= give_up || self.is_ended() {
                return;
            }
            park(now, give_up.min(self.display.next()));
        }
    }

    /// True if a worker failed or a signal was received.
    fn is_ended(&mut self) -> bool {
        self.interrupted = interrupt::check();
        self.interrupted.is_err() || self.shared.has_failed()
    }

    /// How many messages were received and not requeued. If messages are requeued forever, all that
    /// were received.
    fn kept(&self, totals: CounterTotals) -> u64 {
        match self.goal.all_kept {
            true => (totals.received + totals.requeued_again).saturating_sub(totals.requeued),
            false => totals.received,
        }
    }

    fn is_drained(&self, totals: CounterTotals) -> bool {
        let arrived = self.kept(totals) + totals.returned + totals.nacked;
        let enough = self.goal.consumers_have_limit && totals.consuming == 0;
        self.shared.is_at_rest()
            && totals.unconfirmed == 0
            && (!self.goal.expect_all || enough || arrived >= totals.expected)
    }
}

/// Waits until a worker wakes the driver, at most until `until` (ns).
fn park(now: u64, until: u64) {
    std::thread::park_timeout(Duration::from_nanos(until.saturating_sub(now)));
}
