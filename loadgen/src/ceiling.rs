//! `loadgen ceiling`: the octets of `run` through the minimal [`relay`], with the same worker as
//! generator. What a broker reaches is compared with what this reaches on the same machine.

use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use amqp::Method;
use amqp::frame::{OVERHEAD, write_method};

use crate::cli::CeilingArgs;
use crate::clock::{self, SECOND};
use crate::connection::{CHANNEL, Connection};
use crate::consumer::{Acks, CONSUMER_TAG, Consumer};
use crate::drive::{Goal, drive};
use crate::ends::{Pattern, loopback, sink, source};
use crate::failure::Failure;
use crate::handshake::FRAME_MAX;
use crate::incoming::Incoming;
use crate::lane::Role;
use crate::live::Live;
use crate::pace::Pace;
use crate::pair::{self, Beside, Cores, Lengths};
use crate::plan::Plan;
use crate::producer::{Producer, Window};
use crate::publishes;
use crate::relay::{self, relay};
use crate::report::{Report, Tally};
use crate::run::{RUN_UP, plan, publishes, shape};
use crate::shared::Shared;
use crate::synced::{self, Batches};
use crate::threads;
use crate::worker::Worker;

/// How long the relay's sockets are measured without it, each time (ns).
const PAIR_MAX: u64 = SECOND;

/// Measures and reports.
///
/// # Errors
/// The system refuses a socket, a thread or a CPU.
pub fn ceiling(args: &CeilingArgs) -> Result<Report, Failure> {
    if let Some(folder) = &args.sync {
        return on_disk(args, folder);
    }
    if args.is_flat_out() {
        return beside_a_pair(args);
    }
    let tally = match (args.sink, args.source) {
        (true, _) => into_sink(args),
        (_, true) => from_source(args),
        _ => through_relay(args),
    }?;
    Ok(Report::new("ceiling", &args.message, tally))
}

/// Batches on stable storage, no sockets.
fn on_disk(args: &CeilingArgs, folder: &Path) -> Result<Report, Failure> {
    let message = &args.message;
    let (synced, latency) = synced::measure(&Batches {
        folder: folder.to_owned(),
        size: message.size.bounds().1,
        batch: args.batch,
        time: message.time.map_or(u64::MAX, clock::from_seconds),
        warmup: clock::from_seconds(message.warmup),
        cpu: message.cpus().first().copied(),
    })?;
    Ok(Report::of_disk(message, synced, latency))
}

/// The relay as fast as it goes, and what its sockets carry without it: before and behind, for a
/// machine that others use as well may change meanwhile.
fn beside_a_pair(args: &CeilingArgs) -> Result<Report, Failure> {
    let shape = relay_shape(&shape(&args.message, &args.message.queue_name()));
    let lengths = Lengths { publish: shape.publish, deliver: shape.deliver.len() };
    let far = args.relay_cpus.as_ref().and_then(|list| list.0.first().copied());
    let cores = Cores { near: args.message.cpus().first().copied(), far };
    let time = args.message.time.map_or(PAIR_MAX, clock::from_seconds).min(PAIR_MAX);
    let before = pair::measure(lengths, cores, time)?;
    let tally = through_relay(args)?;
    let behind = pair::measure(lengths, cores, time)?;
    let mut report = Report::new("ceiling", &args.message, tally);
    report.beside = Some(Beside::new(report.received.rate, lengths, [before, behind]));
    Ok(report)
}

fn through_relay(args: &CeilingArgs) -> Result<Tally, Failure> {
    let queue = args.message.queue_name();
    let (near_publisher, far_publisher) = loopback()?;
    let (near_consumer, far_consumer) = loopback()?;
    let shape = relay_shape(&shape(&args.message, &queue));
    let relay = start("relay", args, move || relay(far_publisher, far_consumer, &shape))?;

    let plan = plan(&args.message, clock::now() + RUN_UP, 1, false);
    let consumer = Role::Consumer(Box::new(Consumer::new(Acks::Automatic, None)));
    let members = vec![
        (near_publisher, Role::Producer(producer(args, &queue, plan))),
        (near_consumer, consumer),
    ];
    let tally = play(args, plan, members, true);
    let ((), relay_cpu) = end(relay)?;
    let mut tally = tally?;
    tally.relay_cpu = Some(relay_cpu);
    Ok(tally)
}

/// A producer alone: what one thread publishes at most.
fn into_sink(args: &CeilingArgs) -> Result<Tally, Failure> {
    let queue = args.message.queue_name();
    let (near, far) = loopback()?;
    let len = relay_shape(&shape(&args.message, &queue)).publish as u64;
    let sink = start("sink", args, move || sink(far))?;
    let plan = plan(&args.message, clock::now() + RUN_UP, 1, false);
    let members = vec![(near, Role::Producer(producer(args, &queue, plan)))];
    let tally = play(args, plan, members, false);
    let (octets, relay_cpu) = end(sink)?;
    let mut tally = tally?;
    (tally.left, tally.relay_cpu) = (octets / len, Some(relay_cpu));
    Ok(tally)
}

/// A consumer alone: what one thread consumes at most.
fn from_source(args: &CeilingArgs) -> Result<Tally, Failure> {
    let (near, far) = loopback()?;
    let shape = relay_shape(&shape(&args.message, &args.message.queue_name()));
    let pattern = Pattern { stamp_at: shape.deliver.len() - shape.tail, deliver: shape.deliver };
    let plan = plan(&args.message, clock::now() + RUN_UP, 0, false);
    let source = start("source", args, move || source(far, &pattern, plan.stop))?;
    let consumer = Role::Consumer(Box::new(Consumer::new(Acks::Automatic, None)));
    let tally = play(args, plan, vec![(near, consumer)], false);
    let ((), relay_cpu) = end(source)?;
    let mut tally = tally?;
    tally.relay_cpu = Some(relay_cpu);
    Ok(tally)
}

/// Drives a worker over these connections; it drops them at the end, so that their other ends
/// come to theirs.
fn play(
    args: &CeilingArgs,
    plan: Plan,
    members: Vec<(TcpStream, Role)>,
    expect_all: bool,
) -> Result<Tally, Failure> {
    let shared = Arc::new(Shared::new(1)?);
    let mut worker = Worker::new(0, plan, Arc::clone(&shared))?;
    for (stream, role) in members {
        worker.add(connection(stream), vec![role])?;
    }
    let (enough, consumers_have_limit, all_kept) = (None, false, true);
    let drain_max = 10 * SECOND;
    let goal = Goal { enough, consumers_have_limit, expect_all, all_kept, drain_max };
    let mut live = Live::new(plan, args.message.quiet, false, None);
    let cpus = args.message.cpus();
    let driven = drive(vec![worker], &shared, plan, cpus, goal, &mut live, || Ok(()))?;
    let (outcomes, ended) = driven;
    let mut tally = Tally::new(outcomes, plan);
    match ended {
        Ok(()) | Err(Failure::Interrupted(_)) => tally.ended(ended),
        Err(failure) => return Err(failure),
    }
    tally.seconds = live.end().0;
    Ok(tally)
}

fn producer(args: &CeilingArgs, queue: &str, plan: Plan) -> Box<Producer> {
    let window = match args.confirm {
        Some(window) => Window::Arrivals { window: u64::from(window), arrived: 0 },
        None => Window::Open,
    };
    let messages = args.confirm.map_or(u64::MAX, u64::from);
    let publishes = publishes(&args.message, queue, FRAME_MAX, messages);
    let pace = Pace::new(plan.start, plan.stop, args.message.rate);
    Box::new(Producer::new(0, publishes, pace, None, window))
}

/// The octets of a publish and of its delivery, as a broker would send it.
fn relay_shape(shape: &publishes::Shape) -> relay::Shape {
    let (mut publish, mut deliver) = (Vec::new(), Vec::new());
    shape.write_publish(FRAME_MAX, &mut publish);
    let method = Method::BasicDeliver {
        consumer_tag: CONSUMER_TAG,
        delivery_tag: 1,
        redelivered: false,
        exchange: &shape.exchange,
        routing_key: &shape.routing_key,
    };
    write_method(&mut deliver, CHANNEL, &method);
    shape.write_content(FRAME_MAX, &mut deliver);
    let tail = shape.framed_body(FRAME_MAX) - (OVERHEAD - 1);
    relay::Shape { publish: publish.len(), deliver, tail }
}

/// The other end of a run, a thread; it also says what CPU time it used (ns).
type Other<T> = JoinHandle<Result<(T, u64), Failure>>;

fn start<T: Send + 'static>(
    name: &str,
    args: &CeilingArgs,
    body: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<Other<T>, Failure> {
    let cpu = args.relay_cpus.as_ref().and_then(|list| list.0.first().copied());
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            threads::prepare(cpu)?;
            Ok((body()?, clock::thread_cpu()))
        })
        .map_err(Failure::io("cannot start a thread"))
}

fn end<T>(other: Other<T>) -> Result<(T, u64), Failure> {
    other.join().map_err(|_| {
        Failure::Settings("the relay's thread panicked; this is a fault of loadgen".to_owned())
    })?
}

fn connection(stream: TcpStream) -> Connection {
    let incoming = Incoming::new(FRAME_MAX);
    Connection { stream, incoming, frame_max: FRAME_MAX, product: String::new(), heartbeat: 0 }
}
