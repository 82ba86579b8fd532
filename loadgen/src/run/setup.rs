//! Opens the connections of a run one after the other and distributes them over the workers.

use crate::run::channels::{ProducerPlace, consumer, producer};
use std::sync::Arc;
use std::time::Duration;

use amqp::{Method, Table};

use crate::cli::run::RunArgs;
use crate::client::connection::ClientConnection;
use crate::client::methods::CHANNEL;
use crate::consume::consumer::CONSUMER_TAG;
use crate::messages::routing_keys::{KeyCycle, RoutingKeys};
use crate::run::topology::{RunTopology, keys};
use crate::system::error::LoadgenError;
use crate::system::interrupt;
use crate::worker::channel::ChannelRole;
use crate::worker::event_loop::LoadWorker;
use crate::worker::idle::IdleChannel;
use crate::worker::plan::RunPlan;

/// The delay between two consumers with --slow-start.
const SLOW_START: Duration = Duration::from_secs(1);

/// All connections of a run.
#[derive(Debug)]
pub struct RunSetup {
    queues: Vec<String>,
    /// The routing keys of each queue's producers, or one set for all.
    keys: Vec<Arc<RoutingKeys>>,
    /// Each queue has its own sequence set, since some messages are routed to several queues.
    separate_sets: bool,
    consumers: Vec<ClientConnection>,
    producers: Vec<ClientConnection>,
    idle: Vec<ClientConnection>,
}

impl RunSetup {
    /// Opens the connections. Consumers receive deliveries from then on.
    ///
    /// # Errors
    /// The broker cannot be reached or refuses, or a signal was received.
    pub fn open(args: &RunArgs) -> Result<Self, LoadgenError> {
        let (queues, routes) = (args.queues(), routes(args));
        let separate_sets = queues.len() > 1 && routes.iter().any(|keys| keys.copies_max() > 1);
        let mut setup = Self {
            queues,
            keys: routes,
            separate_sets,
            consumers: Vec::new(),
            producers: Vec::new(),
            idle: Vec::new(),
        };
        for index in 0..args.consumers {
            interrupt::check()?;
            if index > 0 && args.ack_policy.slow_start {
                std::thread::sleep(SLOW_START);
            }
            setup.consumers.push(open_consumer(args, index, &setup.queues)?);
        }
        for _ in 0..args.producers {
            interrupt::check()?;
            setup.producers.push(open_producer(args)?);
        }
        for _ in 0..args.connections.idle_connections {
            interrupt::check()?;
            setup.idle.push(ClientConnection::open_with(&args.uri, args.connections.heartbeat)?);
        }
        Ok(setup)
    }

    /// Distributes the connections over the workers.
    ///
    /// # Errors
    /// A socket cannot be made non-blocking or watched.
    pub fn assign(
        self,
        args: &RunArgs,
        plan: RunPlan,
        workers: &mut [LoadWorker],
    ) -> Result<(), LoadgenError> {
        let threads = workers.len();
        for (index, connection) in self.producers.into_iter().enumerate() {
            let channels = args.connections.producer_channel_count;
            let first = index as u16 * channels;
            let roles = (0..channels).map(|channel| {
                let number = first + channel;
                let queue = usize::from(number) % self.queues.len();
                let keys = Arc::clone(&self.keys[queue % self.keys.len()]);
                let key_cycle = KeyCycle { keys, offset: u64::from(number) };
                let place = ProducerPlace { number, channel: CHANNEL + channel, key_cycle };
                ChannelRole::Producer(producer(args, place, &self.queues[queue], &connection, plan))
            });
            let roles = roles.collect();
            workers[index % threads].add(connection, roles)?;
        }
        // In reverse order: with two threads, a producer and its consumer run on different
        // ones.
        for (index, connection) in self.consumers.into_iter().enumerate() {
            let role = |channel| {
                let number = channel_number(args, index as u16, channel) as usize;
                let set = if self.separate_sets { number % self.queues.len() } else { 0 };
                ChannelRole::Consumer(Box::new(consumer(args, CHANNEL + channel, set, plan)))
            };
            let roles = (0..args.connections.consumer_channel_count).map(role).collect();
            workers[threads - 1 - index % threads].add(connection, roles)?;
        }
        for (index, connection) in self.idle.into_iter().enumerate() {
            let roles = vec![ChannelRole::Idle(IdleChannel::new(connection.heartbeat))];
            workers[index % threads].add(connection, roles)?;
        }
        Ok(())
    }
}

/// The routing keys of each queue's producers, or one set for all.
fn routes(args: &RunArgs) -> Vec<Arc<RoutingKeys>> {
    let bound = RunTopology::bound(args);
    let mandatory = args.message.has(crate::cli::message::MessageFlag::Mandatory);
    // A mandatory message without a binding is returned, which is one answer as well.
    let weight = |key: &str| bound.copies(key).max(u64::from(mandatory));
    let set = |names| Arc::new(RoutingKeys::new(names, weight));
    match keys(args) {
        Some(names) => vec![set(names)],
        None => bound.queues.iter().map(|(queue, _)| set(vec![queue.clone()])).collect(),
    }
}

/// The number of a consuming channel, counted over all connections.
fn channel_number(args: &RunArgs, connection: u16, channel: u16) -> u32 {
    u32::from(connection) * u32::from(args.connections.consumer_channel_count) + u32::from(channel)
}

fn open_consumer(
    args: &RunArgs,
    index: u16,
    queues: &[String],
) -> Result<ClientConnection, LoadgenError> {
    let mut connection = ClientConnection::open(&args.uri)?;
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
    connection: &mut ClientConnection,
    channel: u16,
    args: &RunArgs,
    queue: &str,
) -> Result<(), LoadgenError> {
    if args.qos > 0 {
        let qos = Method::BasicQos { prefetch_size: 0, prefetch_count: args.qos, global: false };
        connection.call_on(channel, &qos, "to basic.qos", |method| {
            matches!(method, Method::BasicQosOk {}).then_some(())
        })?;
    }
    if args.ack_policy.ctxsize.is_some() {
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

fn tx_select(connection: &mut ClientConnection, channel: u16) -> Result<(), LoadgenError> {
    connection.call_on(channel, &Method::TxSelect {}, "to tx.select", |method| {
        matches!(method, Method::TxSelectOk {}).then_some(())
    })
}

fn open_producer(args: &RunArgs) -> Result<ClientConnection, LoadgenError> {
    let mut connection = ClientConnection::open(&args.uri)?;
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
