//! `loadgen ceiling`: the octets of `run` through the minimal [`relay`], with the same worker as
//! generator. What a broker reaches is compared with what this reaches on the same machine.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;

use amqp::Method;
use amqp::frame::{OVERHEAD, write_method};

use crate::cli::CeilingArgs;
use crate::clock::{self, SECOND};
use crate::connection::{CHANNEL, Connection};
use crate::consumer::{Acks, CONSUMER_TAG, Consumer};
use crate::drive::{Goal, drive};
use crate::failure::Failure;
use crate::handshake::FRAME_MAX;
use crate::incoming::Incoming;
use crate::lane::Role;
use crate::live::Live;
use crate::pace::Pace;
use crate::plan::Plan;
use crate::producer::{Producer, Window};
use crate::publishes;
use crate::relay::{self, relay};
use crate::report::{Report, Tally};
use crate::run::{RUN_UP, plan, publishes, shape};
use crate::shared::Shared;
use crate::threads;
use crate::worker::Worker;

/// Measures and reports.
///
/// # Errors
/// The system refuses a socket, a thread or a CPU.
pub fn ceiling(args: &CeilingArgs) -> Result<Report, Failure> {
    let queue = args.message.queue_name();
    let (near_publisher, far_publisher) = pair()?;
    let (near_consumer, far_consumer) = pair()?;
    let shape = relay_shape(&shape(&args.message, &queue));
    let cpu = args.relay_cpus.as_ref().and_then(|list| list.0.first().copied());
    let relay = start(far_publisher, far_consumer, shape, cpu)?;

    let plan = plan(&args.message, clock::now() + RUN_UP, 1, false);
    let shared = Arc::new(Shared::new(1)?);
    let mut worker = Worker::new(0, plan, Arc::clone(&shared))?;
    let consumer = Consumer::new(Acks::Automatic, None);
    worker.add(connection(near_publisher), vec![Role::Producer(producer(args, &queue, plan))])?;
    worker.add(connection(near_consumer), vec![Role::Consumer(Box::new(consumer))])?;

    let goal = Goal {
        enough: None,
        consumers_have_limit: false,
        expect_all: true,
        all_kept: true,
        drain_max: 10 * SECOND,
    };
    let mut live = Live::new(plan, args.message.quiet, false, None);
    let cpus = args.message.cpus();
    let driven = drive(vec![worker], &shared, plan, cpus, goal, &mut live, || Ok(()));
    // The worker has dropped its sockets, so the relay comes to its end.
    let relayed = relay.join().map_err(|_| {
        Failure::Settings("the relay's thread panicked; this is a fault of loadgen".to_owned())
    })?;
    let relay_cpu = relayed?;
    let (outcomes, ended) = driven?;
    ended?;
    let mut tally = Tally::new(outcomes, plan);
    tally.seconds = live.end().0;
    tally.relay_cpu = Some(relay_cpu);
    Ok(Report::new("ceiling", &args.message, tally))
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

/// Starts the relay; its result is the CPU time it used (ns).
fn start(
    publisher: TcpStream,
    consumer: TcpStream,
    shape: relay::Shape,
    cpu: Option<usize>,
) -> Result<JoinHandle<Result<u64, Failure>>, Failure> {
    std::thread::Builder::new()
        .name("relay".to_owned())
        .spawn(move || {
            threads::prepare(cpu)?;
            relay(publisher, consumer, &shape)?;
            Ok(clock::thread_cpu())
        })
        .map_err(Failure::io("cannot start a thread"))
}

fn connection(stream: TcpStream) -> Connection {
    let incoming = Incoming::new(FRAME_MAX);
    Connection { stream, incoming, frame_max: FRAME_MAX, product: String::new(), heartbeat: 0 }
}

/// Two ends of one TCP connection over the loopback.
fn pair() -> Result<(TcpStream, TcpStream), Failure> {
    let failed = Failure::io("cannot connect over the loopback");
    let listener = TcpListener::bind("127.0.0.1:0").map_err(&failed)?;
    let near = TcpStream::connect(listener.local_addr().map_err(&failed)?).map_err(&failed)?;
    let (far, _) = listener.accept().map_err(&failed)?;
    for socket in [&near, &far] {
        socket.set_nodelay(true).map_err(&failed)?;
    }
    Ok((near, far))
}
