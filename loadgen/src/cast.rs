//! The connections of a run: opened one after the other, dealt over the workers.

use std::sync::Arc;
use std::time::Duration;

use amqp::{Method, Table};

use crate::care::Careful;
use crate::cli::RunArgs;
use crate::clock::SECOND;
use crate::confirms::Confirms;
use crate::connection::{CHANNEL, Connection};
use crate::consumer::{Acks, CONSUMER_TAG, Consumer};
use crate::failure::Failure;
use crate::idle::Idle;
use crate::interrupt;
use crate::lane::Role;
use crate::pace::Pace;
use crate::plan::Plan;
use crate::producer::{Producer, Window};
use crate::publishes::{Publishes, Shape};
use crate::routes::{ExchangeKind, Keys, Route};
use crate::run::{WRITE, due, shape};
use crate::topology::{Topology, keys};
use crate::varied::Variation;
use crate::worker::Worker;

/// How long the next consumer waits with --slow-start.
const SLOW_START: Duration = Duration::from_secs(1);

/// All connections of a run.
#[derive(Debug)]
pub struct Cast {
    queues: Vec<String>,
    /// For each queue (or one for all) the keys that producers go through.
    keys: Vec<Arc<Keys>>,
    /// Each queue has its own book: there are messages that go to several.
    books: bool,
    consumers: Vec<Connection>,
    producers: Vec<Connection>,
    idle: Vec<Connection>,
}

impl Cast {
    /// Opens them. Consumers consume from then on.
    ///
    /// # Errors
    /// The broker cannot be reached or refuses, or a signal came.
    pub fn open(args: &RunArgs) -> Result<Self, Failure> {
        let (queues, routes) = (args.queues(), routes(args));
        let books = queues.len() > 1 && routes.iter().any(|keys| keys.copies_max() > 1);
        let mut cast = Self {
            queues,
            keys: routes,
            books,
            consumers: Vec::new(),
            producers: Vec::new(),
            idle: Vec::new(),
        };
        for index in 0..args.consumers {
            interrupt::check()?;
            if index > 0 && args.care.slow_start {
                std::thread::sleep(SLOW_START);
            }
            cast.consumers.push(open_consumer(args, index, &cast.queues)?);
        }
        for _ in 0..args.producers {
            interrupt::check()?;
            cast.producers.push(open_producer(args)?);
        }
        for _ in 0..args.connections.idle_connections {
            interrupt::check()?;
            cast.idle.push(Connection::open_with(&args.uri, args.connections.heartbeat)?);
        }
        Ok(cast)
    }

    /// Deals them over the workers.
    ///
    /// # Errors
    /// The system refuses a socket.
    pub fn deal(self, args: &RunArgs, plan: Plan, workers: &mut [Worker]) -> Result<(), Failure> {
        let threads = workers.len();
        for (index, connection) in self.producers.into_iter().enumerate() {
            let channels = args.connections.producer_channel_count;
            let first = index as u16 * channels;
            let roles = (0..channels).map(|channel| {
                let number = first + channel;
                let queue = usize::from(number) % self.queues.len();
                let keys = Arc::clone(&self.keys[queue % self.keys.len()]);
                let route = Route { keys, offset: u64::from(number) };
                let place = Place { number, channel: CHANNEL + channel, route };
                Role::Producer(producer(args, place, &self.queues[queue], &connection, plan))
            });
            let roles = roles.collect();
            workers[index % threads].add(connection, roles)?;
        }
        // From the other end, so that with two threads a pair is not on one.
        for (index, connection) in self.consumers.into_iter().enumerate() {
            let role = |channel| {
                let number = channel_number(args, index as u16, channel) as usize;
                let book = if self.books { number % self.queues.len() } else { 0 };
                Role::Consumer(Box::new(consumer(args, CHANNEL + channel, book, plan)))
            };
            let roles = (0..args.connections.consumer_channel_count).map(role).collect();
            workers[threads - 1 - index % threads].add(connection, roles)?;
        }
        for (index, connection) in self.idle.into_iter().enumerate() {
            let roles = vec![Role::Idle(Idle::new(connection.heartbeat))];
            workers[index % threads].add(connection, roles)?;
        }
        Ok(())
    }
}

/// The keys of each queue's producers, or one set for all.
fn routes(args: &RunArgs) -> Vec<Arc<Keys>> {
    let bound = Topology::bound(args);
    let mandatory = args.message.has(crate::cli::Flag::Mandatory);
    // What goes nowhere comes back if it is mandatory: that is one answer as well.
    let weight = |key: &str| bound.copies(key).max(u64::from(mandatory));
    let set = |names| Arc::new(Keys::new(names, weight));
    match keys(args) {
        Some(names) => vec![set(names)],
        None => bound.queues.iter().map(|(queue, _)| set(vec![queue.clone()])).collect(),
    }
}

/// The how manieth consuming channel it is.
fn channel_number(args: &RunArgs, connection: u16, channel: u16) -> u32 {
    u32::from(connection) * u32::from(args.connections.consumer_channel_count) + u32::from(channel)
}

fn open_consumer(args: &RunArgs, index: u16, queues: &[String]) -> Result<Connection, Failure> {
    let mut connection = Connection::open(&args.uri)?;
    for channel in 0..args.connections.consumer_channel_count {
        let number = channel_number(args, index, channel) as usize;
        if channel > 0 {
            connection.open_channel_at(CHANNEL + channel)?;
        }
        consume(&mut connection, CHANNEL + channel, args, &queues[number % queues.len()])?;
    }
    Ok(connection)
}

fn consume(
    connection: &mut Connection,
    channel: u16,
    args: &RunArgs,
    queue: &str,
) -> Result<(), Failure> {
    if args.qos > 0 {
        let qos = Method::BasicQos { prefetch_size: 0, prefetch_count: args.qos, global: false };
        connection.call_on(channel, &qos, "to basic.qos", |method| {
            matches!(method, Method::BasicQosOk {}).then_some(())
        })?;
    }
    if args.care.ctxsize.is_some() {
        tx_select(connection, channel)?;
    }
    let consume = Method::BasicConsume {
        ticket: 0,
        queue,
        consumer_tag: CONSUMER_TAG,
        no_local: false,
        no_ack: args.autoack,
        exclusive: false,
        nowait: false,
        arguments: Table::EMPTY,
    };
    connection.call_on(channel, &consume, "to basic.consume", |method| {
        matches!(method, Method::BasicConsumeOk { .. }).then_some(())
    })
}

fn tx_select(connection: &mut Connection, channel: u16) -> Result<(), Failure> {
    connection.call_on(channel, &Method::TxSelect {}, "to tx.select", |method| {
        matches!(method, Method::TxSelectOk {}).then_some(())
    })
}

fn open_producer(args: &RunArgs) -> Result<Connection, Failure> {
    let mut connection = Connection::open(&args.uri)?;
    for channel in CHANNEL..CHANNEL + args.connections.producer_channel_count {
        if channel > CHANNEL {
            connection.open_channel_at(channel)?;
        }
        if args.confirm.is_some() {
            let select = Method::ConfirmSelect { nowait: false };
            connection.call_on(channel, &select, "to confirm.select", |method| {
                matches!(method, Method::ConfirmSelectOk {}).then_some(())
            })?;
        }
        if args.connections.ptxsize.is_some() {
            tx_select(&mut connection, channel)?;
        }
    }
    Ok(connection)
}

fn consumer(args: &RunArgs, channel: u16, book: usize, plan: Plan) -> Consumer {
    let acks = if args.autoack { Acks::Automatic } else { Acks::Every(args.multi_ack_every) };
    let consumer = Consumer::new(acks, args.cmessages).on_channel(channel, book);
    let care = args.care.care();
    if !care.is_needed() {
        return consumer;
    }
    let every = if args.autoack { 0 } else { args.multi_ack_every };
    consumer.with_care(Careful::new(care, channel, every).starting_at(plan.start))
}

/// Which producer it is.
struct Place {
    number: u16,
    channel: u16,
    route: Route,
}

fn producer(
    args: &RunArgs,
    place: Place,
    queue: &str,
    connection: &Connection,
    plan: Plan,
) -> Box<Producer> {
    let Place { number, channel, route } = place;
    let window = match (args.confirm, args.connections.ptxsize) {
        (Some(window), _) => Window::Confirms(Confirms::new(u64::from(window))),
        (None, Some(size)) => {
            let size = u64::from(size);
            Window::Transactions { size, open: Confirms::new(size), committing: false }
        }
        (None, None) => Window::Open,
    };
    let publishes = publishes(args, channel, &route, queue, connection.frame_max, plan);
    let pace = pace(args, number, plan);
    let producer = Producer::new(number, publishes, pace, args.pmessages, window);
    Box::new(producer.on_channel(channel).on_route(route))
}

/// Schedules are staggered: producers of one rate take turns within an interval.
fn pace(args: &RunArgs, number: u16, plan: Plan) -> Pace {
    let spans = &args.variation.variable_rate;
    if !spans.is_empty() {
        return Pace::varied(plan.start, plan.stop, spans);
    }
    let rate = args.rate();
    let interval = rate.map_or(0.0, |rate| SECOND as f64 / rate);
    let share = f64::from(number) / args.all_producers().max(1) as f64;
    Pace::new(plan.start + (interval * share) as u64, plan.stop, rate)
}

fn publishes(
    args: &RunArgs,
    channel: u16,
    route: &Route,
    queue: &str,
    frame_max: u32,
    plan: Plan,
) -> Publishes {
    let with_header =
        args.routing.kind == ExchangeKind::Headers && !args.message.exchange.is_empty();
    let routing_key = route.keys.names[0].clone();
    let shape = Shape { channel, with_header, routing_key, ..shape(&args.message, queue) };
    let variation = Variation {
        route: route.clone(),
        sizes: args.message.size.clone(),
        sizes_over_time: args.variation.variable_size.clone(),
        start: plan.start,
        random_bodies: args.variation.random_bodies,
    };
    let window = args.confirm.or(args.connections.ptxsize).map_or(u64::MAX, u64::from);
    let messages = window.min(due(args.rate()));
    match variation.is_needed() {
        true => Publishes::varied(&shape, variation, frame_max, WRITE, messages),
        false => Publishes::new(&shape, frame_max, WRITE, messages),
    }
}
