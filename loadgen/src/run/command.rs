//! `loadgen run`: set up, drive, account, tear down.

use crate::run::from_flags::{START_DELAY, plan};
use std::sync::Arc;
use std::time::Duration;

use crate::cli::run::RunArgs;
use crate::report::load_report::LoadReport;
use crate::report::run_totals::RunTotals;
use crate::run::drive::{RunGoal, drive};
use crate::run::live_display::LiveDisplay;
use crate::run::setup::RunSetup;
use crate::run::topology::{RunTopology, may_discard};
use crate::system::clock::{self, SECOND};
use crate::system::error::LoadgenError;
use crate::system::interrupt;
use crate::system::process_usage::UsageMonitor;
use crate::worker::event_loop::LoadWorker;
use crate::worker::plan::RunPlan;
use crate::worker::run_state::RunState;

/// The confirm window while a backlog is published.
const FILL_WINDOW: u32 = 1000;
/// How long queues may take to show their final count (ns), and how often they are asked.
const COUNT_MAX: u64 = 3 * SECOND;
const COUNT_EVERY: Duration = Duration::from_millis(50);

/// Runs the load and reports on it. What was declared is deleted even if the run fails.
///
/// # Errors
/// Why the run could not start, or could not be accounted for.
pub fn run(args: &RunArgs) -> Result<LoadReport, LoadgenError> {
    let mut topology = RunTopology::prepare(args)?;
    let filled = args.backlog.map(|count| fill(args, count, &mut topology)).transpose();
    let totals = filled.and_then(|filled| measure(args, &mut topology, filled));
    let torn_down = topology.tear_down(!args.keep_queue);
    let mut report = LoadReport::new("run", &args.message, totals?);
    if let Err(failure) = torn_down {
        report.notes.push(format!("cannot delete what was declared: {failure}"));
    }
    Ok(report)
}

/// Publishes the backlog. Every message is confirmed, so all are in their queues when consumers
/// start. Returns how many there are.
fn fill(args: &RunArgs, count: u64, topology: &mut RunTopology) -> Result<u64, LoadgenError> {
    let producers = args.producers.max(1);
    let mut filling = RunArgs { producers, consumers: 0, ..args.clone() };
    filling.pmessages = Some(count.div_ceil(u64::from(producers)));
    filling.confirm = Some(args.confirm.unwrap_or(FILL_WINDOW));
    (filling.message.time, filling.message.rate) = (None, None);
    filling.broker_pid = None;
    (filling.connections.idle_connections, filling.connections.ptxsize) = (0, None);
    filling.variation.variable_rate.clear();
    filling.variation.total_rate = None;
    let totals = measure(&filling, topology, None)?;
    if let Some(signal) = totals.signal {
        return Err(LoadgenError::Interrupted(signal));
    }
    if let Some(reason) = totals.broken {
        return Err(LoadgenError::Broken(reason));
    }
    match totals.missing() {
        0 => topology.recount().map(|()| totals.expected()),
        missing => Err(LoadgenError::Missing(missing)),
    }
}

/// Measures a run; `filled` messages wait in the queues.
fn measure(
    args: &RunArgs,
    topology: &mut RunTopology,
    filled: Option<u64>,
) -> Result<RunTotals, LoadgenError> {
    let filled = filled.filter(|_| args.drains());
    let begin = clock::now();
    let setup = RunSetup::open(args)?;
    let plan = RunPlan {
        requeues: args.ack_policy.requeue > 0.0,
        ..plan(&args.message, start(args, begin), args.all_producers(), true)
    };
    let shared = Arc::new(RunState::new(usize::from(args.threads))?);
    let mut workers = workers(plan, &shared)?;
    setup.assign(args, plan, &mut workers)?;

    let mut left_with_consumers = None;
    let cpus = args.message.cpus();
    let monitor = args.broker_pid.map(|pid| UsageMonitor::start(pid, clock::now())).transpose()?;
    let confirms = args.confirm.is_some() || args.connections.ptxsize.is_some();
    let mut display = LiveDisplay::new(plan, args.message.quiet, confirms, monitor);
    let (results, ended) =
        drive(workers, &shared, plan, cpus, goal(args, filled), &mut display, || {
            if args.auto_delete {
                left_with_consumers = Some(topology.left(0)?);
            }
            Ok(())
        })?;
    if let Err(LoadgenError::Settings(sentence)) = ended {
        return Err(LoadgenError::Settings(sentence));
    }
    let (seconds, monitor) = display.end();
    let mut totals = RunTotals::new(results, plan.measure_from);
    totals.filled = filled;
    totals.may_discard = may_discard(&args.queue_args);
    totals.seconds = seconds;
    totals.broker = monitor.and_then(|monitor| monitor.end(clock::now(), totals.messages()));
    totals.ended(ended);
    match left_with_consumers {
        Some(left) => totals.left = left,
        None if totals.broken.is_some() => totals.left = topology.left(0).unwrap_or(0),
        None => count_left(&mut totals, topology, args.producers > 0)?,
    }
    Ok(totals)
}

fn workers(plan: RunPlan, shared: &Arc<RunState>) -> Result<Vec<LoadWorker>, LoadgenError> {
    let numbers = 0..shared.counters.len();
    numbers.map(|number| LoadWorker::new(number, plan, Arc::clone(shared))).collect()
}

/// Counts what is left in the queues. A queue takes a moment to notice that a consumer is gone, so
/// it is asked again while messages are missing.
fn count_left(
    totals: &mut RunTotals,
    topology: &mut RunTopology,
    published: bool,
) -> Result<(), LoadgenError> {
    let give_up = clock::now() + COUNT_MAX;
    loop {
        // Without producers every message counts, from any sender.
        let foreign = if published { totals.workers.account.foreign } else { u64::MAX };
        totals.left = topology.left(foreign)?;
        if totals.missing() == 0 || clock::now() >= give_up || interrupt::is_requested() {
            return Ok(());
        }
        // A queue's count can only be polled.
        std::thread::sleep(COUNT_EVERY);
    }
}

/// When a run starts (ns): a moment from now or, if nothing is published, when its consumers
/// started.
fn start(args: &RunArgs, consuming_since: u64) -> u64 {
    if args.producers == 0 { consuming_since } else { clock::now() + START_DELAY }
}

fn goal(args: &RunArgs, filled: Option<u64>) -> RunGoal {
    let consumers_have_limit = args.cmessages.is_some() && args.consumers > 0;
    RunGoal {
        enough: filled,
        consumers_have_limit,
        expect_all: args.producers > 0 && args.consumers > 0,
        all_kept: args.ack_policy.comes_to_an_end(),
        drain_max: clock::from_seconds(args.drain_timeout),
    }
}
