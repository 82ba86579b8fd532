//! The order in which everything starts and stops.

use std::collections::BTreeSet;
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
use super::data_dir::DataDir;
use super::disk::{Disk, DiskConfig};
use super::executor::{self, Report, Restored, Seat};
use super::faults::Faults;
use super::files::DataFiles;
use super::inbox::{Arrival, Inbox, inbox};
use super::log;
use super::machine::Machine;
use super::mesh::mesh;
use super::meta;
use super::probe::{self, Obstacle, cannot};
use super::sizes::Sizes;
use super::space::{Space, Watching};
use super::sys;
use super::turn::Ties;
use crate::config::{Config, Durability, Mechanism};
use crate::shard::{
    Coordinator, CoordinatorConfig, Limits, NodeLimits, Place, ReplyKey, ShardConfig,
};
use crate::store::meta::{Log, MetaState};
use crate::store::{self, Recovered, StoreConfig, Unrecoverable};

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
    let data_dir = DataDir::open(&config.data_dir)?;
    let listeners = probe::listen(&config.listen, config.tcp)?;
    banner(config, &plan, &listeners);
    let faults = Faults::new(config.disk_faults.clone());
    let meta = meta::open(&config.data_dir.join("meta"), faults)?;
    let broker = Broker::start(config, &plan, meta, listeners, signals)?;
    tracing::info!("Ringtail is ready");
    // The data folder is this process's own until here.
    let code = broker.run();
    drop(data_dir);
    code
}

/// What the configuration means on this machine.
struct Plan {
    /// A CPU for every shard.
    cpus: Vec<usize>,
    sizes: Sizes,
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
            sizes: Sizes::new(config, machine.memory, shards),
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
        plan.sizes.memory_limit >> 20,
    );
    if config.durability == Durability::Relaxed {
        tracing::warn!(
            "durability is relaxed: messages that were confirmed in the last {} ms may be lost \
             with a power loss",
            config.durability_interval_ms,
        );
    }
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
    disk: Disk,
    watching: Watching,
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
        mut meta: Log<meta::Disk>,
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
        let (mut queues, boot) = recover(config, coordinator.durable_queues())?;
        let limit = plan.sizes.disk_free_limit;
        let watching = Space::start(&config.data_dir, limit, Arc::clone(hub.bell()))
            .map_err(cannot("watch the free disk space"))?;
        let space = watching.space();
        let died = Died { reports: sender.clone(), bell: Arc::clone(&bell) };
        let coordinating =
            coordinator::start((coordinator, meta), hub, clock, Arc::clone(space), {
                let died = died.clone();
                move |why| died.tell(why)
            });
        let coordinating = coordinating.map_err(cannot("start a thread"))?;
        let bells: Vec<_> = ends.iter().map(|end| Arc::clone(end.bell())).collect();
        let (disk, ways) =
            Disk::start(disk_config(config, plan), &bells, move |why| died.tell(why))
                .map_err(cannot("start the disk threads"))?;
        let ends = ends.into_iter().zip(arrivals).zip(ways);
        for (number, ((mesh, arrivals), disk)) in ends.enumerate() {
            let ties = Ties { mesh, disk, space: Arc::clone(space), arrivals, clock };
            let config = shard_config(config, plan, boot, number);
            let here = queues.extract_if(.., |queue| queue.spec.home == config.id).collect();
            let seat = Seat { config, queues: here, cpu: plan.cpus[number], ties };
            executor::start(seat, sender.clone(), Arc::clone(&bell))
                .map_err(cannot("start a thread"))?;
        }
        let (running, accepting) = (plan.cpus.len(), None);
        let mut broker = Self {
            signals,
            bell,
            reports,
            inboxes,
            accepting,
            coordinating,
            disk,
            watching,
            running,
        };
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
                    return Ok(self.too_late());
                }
            }
        }
        self.coordinating.stop();
        self.disk.stop();
        self.watching.stop();
        tracing::info!("Ringtail has stopped");
        Ok(ExitCode::SUCCESS)
    }

    /// What is not on disk by now will not be.
    fn too_late(&self) -> ExitCode {
        let left = self.disk.under_way();
        if left == 0 {
            return ExitCode::SUCCESS;
        }
        tracing::error!(
            "the disk did not finish in time: {left} operations are lost, with them messages that \
             were not confirmed and acknowledgements"
        );
        ExitCode::FAILURE
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

/// Tells the main thread that one that is needed is gone.
#[derive(Debug, Clone)]
struct Died {
    reports: Sender<Report>,
    bell: Arc<Bell>,
}

impl Died {
    fn tell(&self, why: String) {
        // Nobody listens any more only when the process is ending.
        drop(self.reports.send(Report::Failed(why)));
        self.bell.ring_always();
    }
}

/// Finds the messages of the last start, for the queues that there are, and the number of this one.
fn recover(
    config: &Config,
    queues: Vec<(Name, QueueSpec)>,
) -> Result<(Vec<Restored>, u32), Obstacle> {
    let begun = Instant::now();
    let known: BTreeSet<_> = queues.iter().map(|(_, spec)| spec.id).collect();
    let mut files = DataFiles::new(&config.data_dir);
    files.read_ahead().map_err(Unrecoverable::from)?;
    let recovered = store::recover(&mut files, &|queue| known.contains(&queue))?;
    let Recovered { boot, clean, queues: mut found, notes } = recovered;
    notes.iter().for_each(|note| tracing::warn!("{note}"));
    let messages: u64 = found.values().map(|queue| queue.messages).sum();
    tracing::info!(
        "{messages} messages in {} queues, {} ms after the start; the last stop was {}",
        queues.len(),
        begun.elapsed().as_millis(),
        if clean { "clean" } else { "not clean: messages count as delivered before" },
    );
    let restored = queues.into_iter().map(|(vhost, spec)| {
        let found = found.remove(&spec.id).unwrap_or_default();
        Restored { vhost, spec, found }
    });
    Ok((restored.collect(), boot))
}

fn coordinator(config: &Config, plan: &Plan, state: &MetaState) -> Coordinator {
    let coordinator = CoordinatorConfig {
        shards: plan.shards(),
        seed: plan.seed,
        default_user: config.default_user.clone(),
        default_pass: config.default_pass.clone(),
        default_vhost: config.default_vhost.clone(),
        loopback_users: config.loopback_users.clone(),
        memory_limit: plan.sizes.memory_limit,
        place: if config.place_cross { Place::Cross } else { Place::Balanced },
    };
    Coordinator::recovered(coordinator, state).limited(NodeLimits {
        connections: or_none(config.connection_max),
        channels: or_none(config.channel_max_per_node),
        queues: or_none(config.cluster_queue_limit),
        exchanges: or_none(config.cluster_exchange_limit),
    })
}

fn disk_config(config: &Config, plan: &Plan) -> DiskConfig {
    DiskConfig {
        data_dir: config.data_dir.clone(),
        segment_octets: plan.sizes.segment,
        open_files: plan.sizes.open_files,
        log_thread_each: true,
        faults: config.disk_faults.clone(),
    }
}

fn store_config(config: &Config, plan: &Plan, boot: u32, shard: ShardId) -> StoreConfig {
    let every_ms = config.durability_interval_ms;
    StoreConfig {
        shard: shard.0,
        shards: plan.shards(),
        boot,
        durability: match config.durability {
            Durability::Strict => store::Durability::Strict,
            Durability::Relaxed => store::Durability::Relaxed { every_ms },
        },
        segment_octets: plan.sizes.segment,
        log_max: plan.sizes.log_max,
        waiting_max: plan.sizes.waiting_max,
        ..StoreConfig::default()
    }
}

/// A limit as the shards count.
fn or_none(limit: Option<u64>) -> usize {
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

fn shard_config(config: &Config, plan: &Plan, boot: u32, number: usize) -> ShardConfig {
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
    ShardConfig {
        limits,
        reply_key: plan.reply_key,
        resident_max: plan.sizes.resident_max,
        store: store_config(config, plan, boot, id),
        ..ShardConfig::new(id, plan.shards(), plan.seed)
    }
}
