//! A shard's thread: a glommio executor on one CPU, with the turn and the tasks around it.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;
use std::{fmt, io};

use glommio::timer::Timer;
use glommio::{LocalExecutorBuilder, Placement};
use model::{Name, QueueSpec};

use super::bell::Bell;
use super::clock::until;
use super::sys;
use super::turn::{Core, Shared, Ties};
use crate::shard::{Shard, ShardConfig};
use crate::store::RecoveredQueue;

/// glommio's registered buffers, of which only the bell's eight octets are used: its minimum.
const IO_MEMORY: usize = 64 * 1024;
/// glommio 0.9 takes a preemption that comes before its first task for idleness and goes to sleep
/// with tasks ready to run. Its timer and, at `RING` completions in one turn of its loop, its
/// counter preempt; so both are far off, no task here wakes itself for long, and [`PULSE_US`] ends
/// what is left of that risk.
const PREEMPT: Duration = Duration::from_millis(100);
/// Entries in each of glommio's rings.
const RING: usize = 1024;
/// The executor never sleeps for longer than so many microseconds.
const PULSE_US: u64 = 250_000;

/// What a shard's thread is started with.
pub struct Seat {
    /// For the pure shard.
    pub config: ShardConfig,
    /// Queues that outlived a restart and live here.
    pub queues: Vec<Restored>,
    /// The CPU.
    pub cpu: usize,
    /// What joins it with the rest.
    pub ties: Ties,
}

/// A queue that outlived a restart.
#[derive(Debug)]
pub struct Restored {
    /// Its vhost.
    pub vhost: Name,
    /// What it is.
    pub spec: QueueSpec,
    /// What is in it.
    pub found: RecoveredQueue,
}

/// What a shard's thread tells the one that started it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// It runs.
    Started,
    /// It cannot run, or cannot go on.
    Failed(String),
    /// It closed all connections and is over.
    Ended,
}

/// Starts the thread. It reports on `reports` and rings `bell` each time.
///
/// # Errors
///
/// The system's: no threads.
pub fn start(seat: Seat, reports: Sender<Report>, bell: Arc<Bell>) -> io::Result<()> {
    let reporter = Reporter { reports, bell, last: None };
    let name = format!("ringtail-s{}", seat.config.id.0);
    let thread = thread::Builder::new().name(name);
    thread.spawn(move || reporter.run(seat)).map(drop)
}

/// Reports, and says so even if the thread panics.
struct Reporter {
    reports: Sender<Report>,
    bell: Arc<Bell>,
    last: Option<Report>,
}

impl Reporter {
    fn run(mut self, seat: Seat) {
        self.last = Some(run(seat, &self));
    }

    fn report(&self, report: Report) {
        // Nobody listens any more only when the process is ending.
        drop(self.reports.send(report));
        self.bell.ring_always();
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        let last = self.last.take();
        self.report(last.unwrap_or_else(|| Report::Failed("a shard's thread died".to_owned())));
    }
}

fn run(seat: Seat, reporter: &Reporter) -> Report {
    let builder = LocalExecutorBuilder::new(Placement::Fixed(seat.cpu));
    let executor = match builder.io_memory(IO_MEMORY).ring_depth(RING).preempt_timer(PREEMPT).make()
    {
        Ok(executor) => executor,
        Err(error) => return failed("start an executor", error),
    };
    reporter.report(Report::Started);
    executor.run(async move {
        match serve(seat).await {
            Ok(()) => Report::Ended,
            Err(report) => report,
        }
    })
}

fn failed(what: &str, why: impl fmt::Display) -> Report {
    Report::Failed(format!("cannot {what}: {why}"))
}

async fn serve(seat: Seat) -> Result<(), Report> {
    let bell = Arc::clone(seat.ties.mesh.bell());
    let mut shard = Shard::new(seat.config);
    for Restored { vhost, spec, found } in seat.queues {
        shard.restore(vhost, spec, found);
    }
    let core = Core::new(shard, seat.ties);
    let shared: Shared = Rc::new(RefCell::new(core));
    let rung = bell.descriptor().map_err(|why| failed("wait for other shards", why))?;
    glommio::spawn_local(listen(Rc::clone(&shared), rung)).detach();
    let mut timer = None;
    loop {
        poll_fn(|cx| poll_turn(&shared, &mut timer, cx)).await;
        turn(&shared);
        let core = shared.borrow();
        if let Some(why) = core.broken() {
            return Err(Report::Failed(why.to_owned()));
        }
        if core.is_over() {
            return Ok(());
        }
    }
}

/// Requests a turn each time the bell is rung.
async fn listen(shared: Shared, rung: OwnedFd) {
    let rung = sys::glommio_file(rung);
    loop {
        match rung.read_at(0, size_of::<u64>()).await {
            Ok(_) => shared.borrow_mut().rung(),
            Err(error) => return shared.borrow_mut().deaf(&error.to_string()),
        }
    }
}

fn turn(shared: &Shared) {
    let opened = shared.borrow_mut().turn();
    for connection in opened {
        // Runs up to its first wait at once; nothing of the core is borrowed here.
        glommio::spawn_local(connection.serve(Rc::clone(shared))).detach();
    }
    let mut core = shared.borrow_mut();
    if !core.may_sleep() {
        core.request_turn();
    }
}

/// Ready when a turn is due: requested, or by the clock. The one timer of the thread is only
/// touched when the deadline comes nearer; one that fires too early costs an empty turn.
fn poll_turn(shared: &Shared, timer: &mut Option<(u64, Timer)>, cx: &mut Context<'_>) -> Poll<()> {
    let mut core = shared.borrow_mut();
    if core.take_request(cx.waker()) {
        return Poll::Ready(());
    }
    let deadline = core.deadline_us();
    let nearer = |armed: u64| deadline.is_some_and(|deadline| deadline < armed);
    if timer.as_ref().is_none_or(|(armed, _)| nearer(*armed)) {
        let now = core.clock();
        let pulse = now.monotonic_us + PULSE_US;
        let deadline = deadline.map_or(pulse, |deadline| deadline.min(pulse));
        *timer = Some((deadline, Timer::new(until(deadline, now))));
    }
    let Some((_, armed)) = timer else {
        return Poll::Pending;
    };
    let fired = Pin::new(armed).poll(cx).map(drop);
    if fired.is_ready() {
        *timer = None;
    }
    fired
}
