//! Leads the workers through a run: publish, drain, close.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::clock::{self, SECOND};
use crate::failure::Failure;
use crate::interrupt;
use crate::live::Live;
use crate::plan::{Outcome, Plan};
use crate::shared::{Phase, Shared, Sums};
use crate::threads;
use crate::worker::{GRACE, Worker};

/// If for so long nothing arrives, nothing more will (ns).
const QUIET_MAX: u64 = 3 * SECOND;

/// When a run has reached what it was for.
#[derive(Debug, Clone, Copy)]
pub struct Goal {
    /// It is over once so many messages are received.
    pub enough: Option<u64>,
    /// It is over once no consumer wants more.
    pub consumers_have_limit: bool,
    /// What is sent is to be received, up to the consumers' limits.
    pub expect_all: bool,
    /// What is given back comes again until it is acknowledged or refused for good.
    pub all_kept: bool,
    /// How long confirms and deliveries may take after the last publish (ns).
    pub drain_max: u64,
}

/// What was seen, and how it ended.
pub type Ended<T = Outcome> = (T, Result<(), Failure>);

/// Runs the workers on threads of their own, on the CPUs given in turn. Calls `before_close` when
/// all is at rest and consumers still consume.
///
/// The second result is what went wrong, if anything did: the first worker that failed, after the
/// others have closed in order, or a signal that ended the run. What was seen until then counts.
///
/// # Errors
/// A thread cannot be started.
pub fn drive(
    workers: Vec<Worker>,
    shared: &Arc<Shared>,
    plan: Plan,
    cpus: &[usize],
    goal: Goal,
    live: &mut Live,
    mut before_close: impl FnMut() -> Result<(), Failure>,
) -> Result<Ended<Vec<Outcome>>, Failure> {
    let mut threads = Vec::new();
    for (number, worker) in workers.into_iter().enumerate() {
        let cpu = cpus.get(number % cpus.len().max(1)).copied();
        threads.push(spawn(worker, number, cpu, Arc::clone(shared))?);
    }
    let mut lead = Lead { shared, plan, goal, live, interrupted: Ok(()) };
    lead.publish();
    shared.enter(Phase::Drain)?;
    lead.drain();
    let closing = std::mem::replace(&mut lead.interrupted, Ok(())).and(before_close());
    shared.enter(Phase::Close)?;
    let (mut outcomes, mut ended) = (Vec::new(), Ok(()));
    for thread in threads {
        let (outcome, done) = thread.join().map_err(|_| {
            Failure::Settings("a worker thread panicked; this is a fault of loadgen".to_owned())
        })?;
        outcomes.push(outcome);
        ended = ended.and(done);
    }
    Ok((outcomes, ended.and(closing)))
}

fn spawn(
    worker: Worker,
    number: usize,
    cpu: Option<usize>,
    shared: Arc<Shared>,
) -> Result<JoinHandle<Ended>, Failure> {
    let body = move || match threads::prepare(cpu) {
        Ok(()) => worker.run(),
        Err(failure) => {
            shared.fail();
            (worker.outcome(), Err(failure))
        }
    };
    std::thread::Builder::new()
        .name(format!("worker-{number}"))
        .spawn(body)
        .map_err(Failure::io("cannot start a thread"))
}

struct Lead<'a> {
    shared: &'a Shared,
    plan: Plan,
    goal: Goal,
    live: &'a mut Live,
    /// A signal came before all was done.
    interrupted: Result<(), Failure>,
}

impl Lead<'_> {
    /// Waits until nothing more is to be published.
    fn publish(&mut self) {
        let grace = if self.plan.producers > 0 { GRACE } else { 0 };
        let stop = self.plan.stop.saturating_add(grace);
        loop {
            let (now, sums) = (clock::now(), self.shared.sums());
            self.live.look(now, sums);
            let published = self.plan.producers > 0 && sums.producing == 0;
            let consumed = self.goal.consumers_have_limit && sums.consuming == 0;
            let enough = self.goal.enough.is_some_and(|enough| self.kept(sums) >= enough);
            if published || consumed || enough || now >= stop || self.is_ended() {
                return;
            }
            park(now, stop.min(self.live.next()));
        }
    }

    /// Waits until all that was sent is accounted for, or until it is of no use to wait longer.
    fn drain(&mut self) {
        let begin = clock::now();
        let (mut seen, mut moved_at) = (self.shared.sums(), begin);
        loop {
            let (now, mut sums) = (clock::now(), self.shared.sums());
            self.live.look(now, sums);
            if !self.goal.all_kept {
                // What goes round for ever is no progress.
                (sums.again, sums.requeued) = (0, 0);
            }
            if sums != seen {
                (seen, moved_at) = (sums, now);
            }
            let give_up = (begin + self.goal.drain_max).min(moved_at + QUIET_MAX);
            if self.is_drained(sums) || now >= give_up || self.is_ended() {
                return;
            }
            park(now, give_up.min(self.live.next()));
        }
    }

    /// Whether a worker gave up, or a signal came.
    fn is_ended(&mut self) -> bool {
        self.interrupted = interrupt::check();
        self.interrupted.is_err() || self.shared.has_failed()
    }

    /// How many messages were received and are not with the broker again, if they are to stay.
    fn kept(&self, sums: Sums) -> u64 {
        match self.goal.all_kept {
            true => (sums.received + sums.again).saturating_sub(sums.requeued),
            false => sums.received,
        }
    }

    fn is_drained(&self, sums: Sums) -> bool {
        let arrived = self.kept(sums) + sums.returned + sums.nacked;
        let enough = self.goal.consumers_have_limit && sums.consuming == 0;
        self.shared.is_at_rest()
            && sums.unconfirmed == 0
            && (!self.goal.expect_all || enough || arrived >= sums.expected)
    }
}

/// Waits until a worker has news, but not beyond `until`.
fn park(now: u64, until: u64) {
    std::thread::park_timeout(Duration::from_nanos(until.saturating_sub(now)));
}
