//! `loadgen ceiling`: the bytes of `run` through the minimal relay, with the same worker as
//! generator. It shows what a broker could reach at most on this machine.

use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use amqp::Method;
use amqp::frame::{OVERHEAD, write_method};

use crate::baseline::endpoints::{RepeatedDelivery, loopback, sink, source};
use crate::baseline::fsync_baseline::{self, FsyncLoad};
use crate::baseline::relay::{self, relay};
use crate::baseline::socket_baseline::{self, PinnedCores};
use crate::cli::ceiling::CeilingArgs;
use crate::client::connection::ClientConnection;
use crate::client::handshake::FRAME_MAX;
use crate::client::methods::CHANNEL;
use crate::client::receive_buffer::ReceiveBuffer;
use crate::consume::consumer::{AckMode, CONSUMER_TAG, ConsumerChannel};
use crate::messages::publish_template::PublishTemplate;
use crate::publish::in_flight::InFlightLimit;
use crate::publish::producer::ProducerChannel;
use crate::publish::schedule::PublishSchedule;
use crate::report::baselines::{MessageLengths, RelayEfficiency};
use crate::report::load_report::LoadReport;
use crate::report::run_totals::RunTotals;
use crate::run::drive::{RunGoal, drive};
use crate::run::from_flags::{START_DELAY, plan, publishes, template};
use crate::run::live_display::LiveDisplay;
use crate::system::clock::{self, SECOND};
use crate::system::error::LoadgenError;
use crate::system::threads;
use crate::worker::channel::ChannelRole;
use crate::worker::event_loop::LoadWorker;
use crate::worker::plan::RunPlan;
use crate::worker::run_state::RunState;

/// The longest duration of a socket baseline (ns).
const PAIR_MAX: u64 = SECOND;

/// Measures and reports.
///
/// # Errors
/// A socket, a thread or a CPU cannot be used.
pub fn ceiling(args: &CeilingArgs) -> Result<LoadReport, LoadgenError> {
    if let Some(folder) = &args.sync {
        return on_disk(args, folder);
    }
    if args.is_flat_out() {
        return with_socket_baseline(args);
    }
    let totals = match (args.sink, args.source) {
        (true, _) => into_sink(args),
        (_, true) => from_source(args),
        _ => through_relay(args),
    }?;
    Ok(LoadReport::new("ceiling", &args.message, totals))
}

/// Batches synced to disk, without sockets.
fn on_disk(args: &CeilingArgs, folder: &Path) -> Result<LoadReport, LoadgenError> {
    let message = &args.message;
    let (fsync, latency) = fsync_baseline::measure(&FsyncLoad {
        folder: folder.to_owned(),
        size: message.size.bounds().1,
        batch: args.batch,
        time: message.time.map_or(u64::MAX, clock::from_seconds),
        warmup: clock::from_seconds(message.warmup),
        cpu: message.cpus().first().copied(),
    })?;
    Ok(LoadReport::of_disk(message, fsync, latency))
}

/// The relay without a limit, and the socket baseline before and after it: other load on the
/// machine may change in between.
fn with_socket_baseline(args: &CeilingArgs) -> Result<LoadReport, LoadgenError> {
    let frames = relay_frames(&template(&args.message, &args.message.queue_name()));
    let lengths = MessageLengths { publish: frames.publish, deliver: frames.deliver.len() };
    let relay = args.relay_cpus.as_ref().and_then(|list| list.0.first().copied());
    let cores = PinnedCores { generator: args.message.cpus().first().copied(), relay };
    let time = args.message.time.map_or(PAIR_MAX, clock::from_seconds).min(PAIR_MAX);
    let before = socket_baseline::measure(lengths, cores, time)?;
    let totals = through_relay(args)?;
    let behind = socket_baseline::measure(lengths, cores, time)?;
    let mut report = LoadReport::new("ceiling", &args.message, totals);
    report.relay_efficiency =
        Some(RelayEfficiency::new(report.received.rate, lengths, [before, behind]));
    Ok(report)
}

fn through_relay(args: &CeilingArgs) -> Result<RunTotals, LoadgenError> {
    let queue = args.message.queue_name();
    let (near_publisher, far_publisher) = loopback()?;
    let (near_consumer, far_consumer) = loopback()?;
    let frames = relay_frames(&template(&args.message, &queue));
    let relay = start("relay", args, move || relay(far_publisher, far_consumer, &frames))?;

    let plan = plan(&args.message, clock::now() + START_DELAY, 1, false);
    let consumer = ChannelRole::Consumer(Box::new(ConsumerChannel::new(AckMode::Automatic, None)));
    let connections = vec![
        (near_publisher, ChannelRole::Producer(producer(args, &queue, plan))),
        (near_consumer, consumer),
    ];
    let totals = play(args, plan, connections, true);
    let ((), relay_cpu) = end(relay)?;
    let mut totals = totals?;
    totals.relay_cpu = Some(relay_cpu);
    Ok(totals)
}

/// A producer alone: the most that one thread publishes.
fn into_sink(args: &CeilingArgs) -> Result<RunTotals, LoadgenError> {
    let queue = args.message.queue_name();
    let (near, far) = loopback()?;
    let len = relay_frames(&template(&args.message, &queue)).publish as u64;
    let sink = start("sink", args, move || sink(far))?;
    let plan = plan(&args.message, clock::now() + START_DELAY, 1, false);
    let connections = vec![(near, ChannelRole::Producer(producer(args, &queue, plan)))];
    let totals = play(args, plan, connections, false);
    let (bytes, relay_cpu) = end(sink)?;
    let mut totals = totals?;
    (totals.left, totals.relay_cpu) = (bytes / len, Some(relay_cpu));
    Ok(totals)
}

/// A consumer alone: the most that one thread consumes.
fn from_source(args: &CeilingArgs) -> Result<RunTotals, LoadgenError> {
    let (near, far) = loopback()?;
    let frames = relay_frames(&template(&args.message, &args.message.queue_name()));
    let pattern =
        RepeatedDelivery { stamp_at: frames.deliver.len() - frames.tail, deliver: frames.deliver };
    let plan = plan(&args.message, clock::now() + START_DELAY, 0, false);
    let source = start("source", args, move || source(far, &pattern, plan.stop))?;
    let consumer = ChannelRole::Consumer(Box::new(ConsumerChannel::new(AckMode::Automatic, None)));
    let totals = play(args, plan, vec![(near, consumer)], false);
    let ((), relay_cpu) = end(source)?;
    let mut totals = totals?;
    totals.relay_cpu = Some(relay_cpu);
    Ok(totals)
}

/// Drives a worker over these connections. It drops them at the end, which ends their peers.
fn play(
    args: &CeilingArgs,
    plan: RunPlan,
    connections: Vec<(TcpStream, ChannelRole)>,
    expect_all: bool,
) -> Result<RunTotals, LoadgenError> {
    let shared = Arc::new(RunState::new(1)?);
    let mut worker = LoadWorker::new(0, plan, Arc::clone(&shared))?;
    for (stream, role) in connections {
        worker.add(connection(stream), vec![role])?;
    }
    let (enough, consumers_have_limit, all_kept) = (None, false, true);
    let drain_max = 10 * SECOND;
    let goal = RunGoal { enough, consumers_have_limit, expect_all, all_kept, drain_max };
    let mut display = LiveDisplay::new(plan, args.message.quiet, false, None);
    let cpus = args.message.cpus();
    let driven = drive(vec![worker], &shared, plan, cpus, goal, &mut display, || Ok(()))?;
    let (results, ended) = driven;
    let mut totals = RunTotals::new(results, plan.measure_from);
    match ended {
        Ok(()) | Err(LoadgenError::Interrupted(_)) => totals.ended(ended),
        Err(failure) => return Err(failure),
    }
    totals.seconds = display.end().0;
    Ok(totals)
}

fn producer(args: &CeilingArgs, queue: &str, plan: RunPlan) -> Box<ProducerChannel> {
    let window = match args.confirm {
        Some(window) => InFlightLimit::Arrivals { window: u64::from(window), arrived: 0 },
        None => InFlightLimit::Unlimited,
    };
    let messages = args.confirm.map_or(u64::MAX, u64::from);
    let publishes = publishes(&args.message, queue, FRAME_MAX, messages);
    let schedule = PublishSchedule::new(plan.start, plan.stop, args.message.rate);
    Box::new(ProducerChannel::new(0, publishes, schedule, None, window))
}

/// The encoding of a publish and of its delivery, as a broker would send it.
fn relay_frames(template: &PublishTemplate) -> relay::RelayFrames {
    let (mut publish, mut deliver) = (Vec::new(), Vec::new());
    template.write_publish(FRAME_MAX, &mut publish);
    let method = Method::BasicDeliver {
        consumer_tag: CONSUMER_TAG,
        delivery_tag: 1,
        redelivered: false,
        exchange: &template.exchange,
        routing_key: &template.routing_key,
    };
    write_method(&mut deliver, CHANNEL, &method);
    template.write_content(FRAME_MAX, &mut deliver);
    let tail = template.framed_body(FRAME_MAX) - (OVERHEAD - 1);
    relay::RelayFrames { publish: publish.len(), deliver, tail }
}

/// The thread of the peer; it also returns its CPU time (ns).
type PeerThread<T> = JoinHandle<Result<(T, u64), LoadgenError>>;

fn start<T: Send + 'static>(
    name: &str,
    args: &CeilingArgs,
    body: impl FnOnce() -> Result<T, LoadgenError> + Send + 'static,
) -> Result<PeerThread<T>, LoadgenError> {
    let cpu = args.relay_cpus.as_ref().and_then(|list| list.0.first().copied());
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            threads::prepare(cpu)?;
            Ok((body()?, clock::thread_cpu()))
        })
        .map_err(LoadgenError::io("cannot start a thread"))
}

fn end<T>(other: PeerThread<T>) -> Result<(T, u64), LoadgenError> {
    other.join().map_err(|_| {
        LoadgenError::Settings("the relay's thread panicked; this is a bug in loadgen".to_owned())
    })?
}

fn connection(stream: TcpStream) -> ClientConnection {
    let incoming = ReceiveBuffer::new(FRAME_MAX);
    ClientConnection {
        stream,
        incoming,
        frame_max: FRAME_MAX,
        product: String::new(),
        heartbeat: 0,
    }
}
