//! `loadgen run`: set up, drive, account, tear down.

use std::sync::Arc;
use std::time::Duration;

use crate::broker::Watch;
use crate::cast::Cast;
use crate::cli::{Flag, MessageArgs, RunArgs};
use crate::clock::{self, MILLISECOND, SECOND};
use crate::connection::CHANNEL;
use crate::drive::{Goal, drive};
use crate::failure::Failure;
use crate::interrupt;
use crate::live::Live;
use crate::plan::Plan;
use crate::publishes::{Publishes, Shape};
use crate::report::{Report, Tally};
use crate::shared::Shared;
use crate::topology::{Topology, may_discard};
use crate::worker::Worker;

/// Octets of publishes written at once.
pub const WRITE: usize = 128 * 1024;
/// Messages without a confirm while a backlog is made.
const FILL_WINDOW: u32 = 1000;
/// How long the threads have to get to the start (ns).
pub const RUN_UP: u64 = 20 * MILLISECOND;
/// How long queues may take to show what they hold (ns), and how often they are asked.
const COUNT_MAX: u64 = 3 * SECOND;
const COUNT_EVERY: Duration = Duration::from_millis(50);

/// Runs the load and reports on it; what was declared is deleted even if the run fails.
///
/// # Errors
/// What ended the run early.
pub fn run(args: &RunArgs) -> Result<Report, Failure> {
    let mut topology = Topology::prepare(args)?;
    let filled = args.backlog.map(|count| fill(args, count, &mut topology)).transpose();
    let tally = filled.and_then(|filled| measure(args, &mut topology, filled));
    let torn_down = topology.tear_down(!args.keep_queue);
    let mut report = Report::new("run", &args.message, tally?);
    if let Err(failure) = torn_down {
        report.notes.push(format!("what was declared could not be deleted: {failure}"));
    }
    Ok(report)
}

/// Fills the queues; every message is confirmed, so that it is there when consumers come. Says how
/// many are there.
fn fill(args: &RunArgs, count: u64, topology: &mut Topology) -> Result<u64, Failure> {
    let producers = args.producers.max(1);
    let mut filling = RunArgs { producers, consumers: 0, ..args.clone() };
    filling.pmessages = Some(count.div_ceil(u64::from(producers)));
    filling.confirm = Some(args.confirm.unwrap_or(FILL_WINDOW));
    (filling.message.time, filling.message.rate) = (None, None);
    filling.broker_pid = None;
    (filling.connections.idle_connections, filling.connections.ptxsize) = (0, None);
    filling.variation.variable_rate.clear();
    filling.variation.total_rate = None;
    let tally = measure(&filling, topology, None)?;
    if let Some(signal) = tally.signal {
        return Err(Failure::Interrupted(signal));
    }
    if let Some(reason) = tally.broken {
        return Err(Failure::Broken(reason));
    }
    match tally.missing() {
        0 => topology.recount().map(|()| tally.expected()),
        missing => Err(Failure::Missing(missing)),
    }
}

/// Measures a run; `filled` messages wait in the queues.
fn measure(args: &RunArgs, topology: &mut Topology, filled: Option<u64>) -> Result<Tally, Failure> {
    let filled = filled.filter(|_| args.drains());
    let begin = clock::now();
    let cast = Cast::open(args)?;
    let plan = Plan {
        gives_back: args.care.requeue > 0.0,
        ..plan(&args.message, start(args, begin), args.all_producers(), true)
    };
    let threads = usize::from(args.threads);
    let shared = Arc::new(Shared::new(threads)?);
    let mut workers = (0..threads)
        .map(|number| Worker::new(number, plan, Arc::clone(&shared)))
        .collect::<Result<Vec<_>, _>>()?;
    cast.deal(args, plan, &mut workers)?;

    let mut left_with_consumers = None;
    let cpus = args.message.cpus();
    let watch = args.broker_pid.map(|pid| Watch::start(pid, clock::now())).transpose()?;
    let confirms = args.confirm.is_some() || args.connections.ptxsize.is_some();
    let mut live = Live::new(plan, args.message.quiet, confirms, watch);
    let (outcomes, ended) =
        drive(workers, &shared, plan, cpus, goal(args, filled), &mut live, || {
            if args.auto_delete {
                left_with_consumers = Some(topology.left(0)?);
            }
            Ok(())
        })?;
    if let Err(Failure::Settings(sentence)) = ended {
        return Err(Failure::Settings(sentence));
    }
    let mut tally = Tally::new(outcomes, plan);
    tally.filled = filled;
    tally.may_discard = may_discard(&args.queue_args);
    let (seconds, watch) = live.end();
    tally.seconds = seconds;
    tally.broker = watch.and_then(|watch| watch.end(clock::now(), tally.messages()));
    tally.ended(ended);
    match left_with_consumers {
        Some(left) => tally.left = left,
        None if tally.broken.is_some() => tally.left = topology.left(0).unwrap_or(0),
        None => count_left(&mut tally, topology, args.producers > 0)?,
    }
    Ok(tally)
}

/// Counts what is left in the queues. A queue learns a moment later that a consumer is gone, so it
/// is asked again while something is missing.
fn count_left(tally: &mut Tally, topology: &mut Topology, published: bool) -> Result<(), Failure> {
    let give_up = clock::now() + COUNT_MAX;
    loop {
        // Without producers all that is there counts, whoever sent it.
        let foreign = if published { tally.account.foreign } else { u64::MAX };
        tally.left = topology.left(foreign)?;
        if tally.missing() == 0 || clock::now() >= give_up || interrupt::came() {
            return Ok(());
        }
        // A queue's count can only be asked for, not awaited.
        std::thread::sleep(COUNT_EVERY);
    }
}

/// When a run begins: in a moment, or, if nothing is published, when consumers began to receive
/// what was there.
fn start(args: &RunArgs, consuming_since: u64) -> u64 {
    if args.producers == 0 { consuming_since } else { clock::now() + RUN_UP }
}

/// When what happens in a run that begins at `start` (ns).
#[must_use]
pub fn plan(message: &MessageArgs, start: u64, producers: usize, polite: bool) -> Plan {
    let after = |seconds: f64| start.saturating_add(clock::from_seconds(seconds));
    Plan {
        start,
        measure_from: after(message.warmup),
        stop: message.time.map_or(u64::MAX, after),
        producers,
        polite,
        spin: message.spin,
        gives_back: false,
    }
}

fn goal(args: &RunArgs, filled: Option<u64>) -> Goal {
    let consumers_have_limit = args.cmessages.is_some() && args.consumers > 0;
    Goal {
        enough: filled,
        consumers_have_limit,
        expect_all: args.producers > 0 && args.consumers > 0,
        all_kept: args.care.comes_to_an_end(),
        drain_max: clock::from_seconds(args.drain_timeout),
    }
}

/// The publishes of one producer, at most `messages` at once.
#[must_use]
pub fn publishes(message: &MessageArgs, queue: &str, frame_max: u32, messages: u64) -> Publishes {
    Publishes::new(&shape(message, queue), frame_max, WRITE, messages.min(due(message.rate)))
}

/// What is due in 10 ms; many slow producers must not hold a large buffer each.
#[must_use]
pub fn due(rate: Option<f64>) -> u64 {
    rate.map_or(u64::MAX, |rate| (rate / 100.0) as u64 + 16)
}

/// What the messages of a run to `queue` look like, on channel 1.
#[must_use]
pub fn shape(message: &MessageArgs, queue: &str) -> Shape {
    Shape {
        channel: CHANNEL,
        exchange: message.exchange.clone(),
        routing_key: message.routing_key.clone().unwrap_or_else(|| queue.to_owned()),
        size: message.size.bounds().1,
        persistent: message.has(Flag::Persistent),
        mandatory: message.has(Flag::Mandatory),
        with_header: false,
    }
}
