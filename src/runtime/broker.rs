//! The order in which everything starts and stops.

use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use model::{Name, QueueSpec, ShardId};

use super::accept::{self, Accepting};
use super::bell::Bell;
use super::clock::Clock;
use super::coordinator::{self, Coordinating};
use super::executor::{self, Report, Seat};
use super::inbox::{Arrival, Inbox, inbox};
use super::log;
use super::machine::Machine;
use super::mesh::mesh;
use super::meta::{self, Disk};
use super::probe::{self, Obstacle, cannot};
use super::sys;
use crate::config::{Config, Mechanism};
use crate::shard::{
    Coordinator, CoordinatorConfig, Limits, NodeLimits, Place, ReplyKey, ShardConfig,
};
use crate::store::meta::{Log, MetaState};

/// How long clients have to close their connections when the broker stops.
const STOPPING: Duration = Duration::from_secs(5);

/// Serves until a signal ends it. The result is the process's exit code.
#[must_use]
pub fn serve(config: &Config) -> ExitCode {
    // Before any thread starts: they inherit that the signals are blocked.
    let signals = sys::stop_signals().map_err(cannot("wait for signals"));
    let log = log::start(config.log_format, config.log_level).map_err(cannot("start the log"));
    let result = match (&log, signals) {
        (Ok(_), Ok(signals)) => serve_until(signals, config),
        (_, Err(obstacle)) => Err(obstacle),
        (Err(obstacle), _) => return refuse(obstacle),
    };
    let code = result.unwrap_or_else(|obstacle| refuse(&obstacle));
    if let Ok(log) = log {
        log.flush();
    }
    code
}

/// Whoever started the broker by hand sees why it does not run, whatever becomes of the log.
fn refuse(obstacle: &Obstacle) -> ExitCode {
    eprintln!("error: {obstacle}");
    ExitCode::FAILURE
}

fn serve_until(signals: OwnedFd, config: &Config) -> Result<ExitCode, Obstacle> {
    let plan = Plan::new(config)?;
    probe::limits_and_io_uring()?;
    probe::data_dir(&config.data_dir)?;
    let listeners = probe::listen(&config.listen, config.tcp)?;
    banner(config, &plan, &listeners);
    let meta = meta::open(&config.data_dir.join("meta"))?;
    let broker = Broker::start(config, &plan, meta, listeners, signals)?;
    tracing::info!("Ringtail is ready");
    broker.run()
}

/// What the configuration means on this machine.
struct Plan {
    /// A CPU for every shard.
    cpus: Vec<usize>,
    /// Octets from which on publishers are blocked.
    memory_limit: u64,
    seed: u64,
    reply_key: ReplyKey,
}

impl Plan {
    fn new(config: &Config) -> Result<Self, Obstacle> {
        let machine = Machine::look().map_err(cannot("find out the CPUs"))?;
        let cpus = config.cpus.clone().unwrap_or_else(|| machine.cpus.clone());
        if let Some(&cpu) = cpus.iter().find(|cpu| !machine.cpus.contains(cpu)) {
            return Err(Obstacle::Cpu { cpu, allowed: machine.cpus });
        }
        let shards = config.shards.unwrap_or_else(|| machine.shards(cpus.len()));
        if usize::from(shards) > cpus.len() {
            tracing::warn!("{shards} shards share {} CPUs", cpus.len());
        }
        Ok(Self {
            cpus: cpus.into_iter().cycle().take(shards.into()).collect(),
            memory_limit: config.memory.limit(machine.memory),
            seed: sys::random().map_err(cannot("get random numbers"))?,
            reply_key: reply_key().map_err(cannot("get random numbers"))?,
        })
    }

    fn shards(&self) -> u16 {
        // Made from a u16.
        u16::try_from(self.cpus.len()).unwrap_or(u16::MAX)
    }
}

fn reply_key() -> std::io::Result<ReplyKey> {
    let mut octets = [0; 32];
    for part in octets.as_chunks_mut::<8>().0 {
        *part = sys::random()?.to_be_bytes();
    }
    Ok(ReplyKey::new(octets))
}

fn banner(config: &Config, plan: &Plan, listeners: &[TcpListener]) {
    let addresses = listeners.iter().filter_map(|listener| listener.local_addr().ok());
    let addresses: Vec<_> = addresses.map(|address| address.to_string()).collect();
    tracing::info!(
        "Ringtail {} listens on {}; {} shards on CPUs {:?}; data in {}; \
         publishers are blocked from {} MiB of memory on",
        env!("CARGO_PKG_VERSION"),
        addresses.join(" "),
        plan.cpus.len(),
        plan.cpus,
        config.data_dir.display(),
        plan.memory_limit >> 20,
    );
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
}

/// Everything that runs.
struct Broker {
    signals: OwnedFd,
    /// Rung with every report.
    bell: Arc<Bell>,
    reports: Receiver<Report>,
    inboxes: Vec<Inbox>,
    accepting: Option<Accepting>,
    coordinating: Coordinating,
    /// Shards that run.
    running: usize,
}

/// What the main thread waits for.
enum Event {
    Signal,
    Report(Report),
    TooLate,
}

impl Broker {
    fn start(
        config: &Config,
        plan: &Plan,
        mut meta: Log<Disk>,
        listeners: Vec<TcpListener>,
        signals: OwnedFd,
    ) -> Result<Self, Obstacle> {
        let bell = Arc::new(Bell::new().map_err(cannot("make an eventfd"))?);
        let (sender, reports) = channel();
        let clock = Clock::start();
        let mut ends = mesh(plan.cpus.len() + 1).map_err(cannot("make an eventfd"))?;
        let hub =
            ends.pop().ok_or_else(|| cannot("make a mesh")(std::io::ErrorKind::Other.into()))?;
        let (inboxes, arrivals): (Vec<_>, Vec<_>) =
            ends.iter().map(|end| inbox(end.bell())).unzip();
        meta.take_notes().iter().for_each(|note| tracing::warn!("{note}"));
        let coordinator = coordinator(config, plan, meta.state());
        let queues = coordinator.durable_queues();
        let died = died(sender.clone(), Arc::clone(&bell));
        let coordinating = coordinator::start((coordinator, meta), hub, clock, died)
            .map_err(cannot("start a thread"))?;
        for (number, (end, arrivals)) in ends.into_iter().zip(arrivals).enumerate() {
            let config = shard_config(config, plan, number);
            let queues = at_home(&queues, config.id);
            let cpu = plan.cpus[number];
            let seat = Seat { config, queues, cpu, mesh: end, arrivals, clock };
            executor::start(seat, sender.clone(), Arc::clone(&bell))
                .map_err(cannot("start a thread"))?;
        }
        let running = plan.cpus.len();
        let mut broker =
            Self { signals, bell, reports, inboxes, accepting: None, coordinating, running };
        broker.await_started()?;
        let accepting = accept::start(listeners, broker.inboxes.clone());
        broker.accepting = Some(accepting.map_err(cannot("start a thread"))?);
        Ok(broker)
    }

    fn await_started(&self) -> Result<(), Obstacle> {
        for _ in 0..self.running {
            let report = self.reports.recv().map_err(std::io::Error::other);
            match report.map_err(cannot("hear of the shards"))? {
                Report::Started => {}
                Report::Failed(why) => return Err(Obstacle::Thread { why }),
                Report::Ended => {
                    return Err(Obstacle::Thread { why: "a shard ended".to_owned() });
                }
            }
        }
        Ok(())
    }

    fn run(mut self) -> Result<ExitCode, Obstacle> {
        loop {
            match self.next(None)? {
                Event::Signal => break,
                Event::Report(Report::Started) | Event::TooLate => {}
                Event::Report(Report::Failed(why)) => return Err(Obstacle::Thread { why }),
                Event::Report(Report::Ended) => self.running -= 1,
            }
        }
        self.stop()
    }

    /// Stops accepting, has the shards close their connections, waits for them, but not for ever.
    fn stop(mut self) -> Result<ExitCode, Obstacle> {
        tracing::info!("Ringtail is asked to stop");
        if let Some(accepting) = self.accepting.take() {
            accepting.stop();
        }
        self.inboxes.iter().for_each(|inbox| inbox.put(Arrival::Shutdown));
        let deadline = Instant::now() + STOPPING;
        while self.running > 0 {
            match self.next(Some(deadline))? {
                Event::Signal => {
                    tracing::warn!("Ringtail is asked to stop once more and ends at once");
                    return Ok(ExitCode::FAILURE);
                }
                Event::Report(Report::Started) => {}
                Event::Report(Report::Failed(why)) => return Err(Obstacle::Thread { why }),
                Event::Report(Report::Ended) => self.running -= 1,
                Event::TooLate => {
                    let left: usize = self.inboxes.iter().map(Inbox::load).sum();
                    tracing::warn!("{left} connections did not close in time");
                    return Ok(ExitCode::SUCCESS);
                }
            }
        }
        self.coordinating.stop();
        tracing::info!("Ringtail has stopped");
        Ok(ExitCode::SUCCESS)
    }

    fn next(&self, deadline: Option<Instant>) -> Result<Event, Obstacle> {
        loop {
            if let Ok(report) = self.reports.try_recv() {
                return Ok(Event::Report(report));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let fds = [self.signals.as_fd(), self.bell.as_fd()];
            let [signal, report] =
                sys::wait_any(&fds, left, [false; 2]).map_err(cannot("wait for signals"))?;
            if signal {
                sys::take(self.signals.as_fd()).map_err(cannot("read a signal"))?;
                return Ok(Event::Signal);
            }
            if report {
                self.bell.take().map_err(cannot("wait for the shards"))?;
            } else if left == Some(Duration::ZERO) {
                return Ok(Event::TooLate);
            }
        }
    }
}

fn coordinator(config: &Config, plan: &Plan, state: &MetaState) -> Coordinator {
    let coordinator = CoordinatorConfig {
        shards: plan.shards(),
        seed: plan.seed,
        default_user: config.default_user.clone(),
        default_pass: config.default_pass.clone(),
        default_vhost: config.default_vhost.clone(),
        loopback_users: config.loopback_users.clone(),
        memory_limit: plan.memory_limit,
        place: if config.place_cross { Place::Cross } else { Place::Balanced },
    };
    Coordinator::recovered(coordinator, state).limited(NodeLimits {
        connections: or_none(config.connection_max),
        channels: or_none(config.channel_max_per_node),
        queues: or_none(config.cluster_queue_limit),
        exchanges: or_none(config.cluster_exchange_limit),
    })
}

/// Tells the main thread that the coordinator cannot go on.
fn died(reports: Sender<Report>, bell: Arc<Bell>) -> impl FnOnce(String) + Send + 'static {
    move |why| {
        // Nobody listens any more only when the process is ending.
        drop(reports.send(Report::Failed(why)));
        bell.ring_always();
    }
}

/// The queues that live on the shard.
fn at_home(queues: &[(Name, QueueSpec)], shard: ShardId) -> Vec<(Name, QueueSpec)> {
    queues.iter().filter(|(_, spec)| spec.home == shard).cloned().collect()
}

/// A limit as the shards count.
fn or_none(limit: Option<u64>) -> usize {
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

fn shard_config(config: &Config, plan: &Plan, number: usize) -> ShardConfig {
    let id: ShardId = coordinator::endpoint(number);
    let limits = Limits {
        channel_max: config.channel_max,
        frame_max: config.frame_max,
        initial_frame_max: config.initial_frame_max,
        heartbeat_s: config.heartbeat_s,
        handshake_timeout_ms: config.handshake_timeout_ms,
        max_message_size: config.max_message_size,
        consumer_max: or_none(config.consumer_max_per_channel),
        counts_channels: config.channel_max_per_node.is_some(),
        plain: config.auth_mechanisms.contains(&Mechanism::Plain),
        amqplain: config.auth_mechanisms.contains(&Mechanism::AmqPlain),
    };
    let reply_key = plan.reply_key;
    ShardConfig { limits, reply_key, ..ShardConfig::new(id, plan.shards(), plan.seed) }
}
