//! The order in which everything starts and stops.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use model::{BodyCounts, Entropy, Name, QueueSpec, ShardId};

use super::clock::Clock;
use super::coordinator::{self, CoordinatorThread};
use super::definitions::{self, GivenState};
use super::machine::Machine;
use super::probe::{self, StartError, cannot};
use super::shard_thread::{self, Report, Restored, ThreadConfig};
use super::sizes::Sizes;
use super::sys;
use super::turn::ShardLinks;
use crate::config::{Config, DurabilityMode, Mechanism, MemoryStrategy};
use crate::coordinator::{Coordinator, CoordinatorConfig, NodeLimits, QueuePlacement};
use crate::mesh::Batch;
use crate::runtime::disk::data_dir::DataDir;
use crate::runtime::disk::faults::Faults;
use crate::runtime::disk::files::DataFiles;
use crate::runtime::disk::free_space::{FreeSpace, SpaceWatch};
use crate::runtime::disk::meta;
use crate::runtime::disk::{DiskConfig, DiskEnd, DiskThreads};
use crate::runtime::inspect::{self, Inspector};
use crate::runtime::memory::give_back::{GiveBack, ShardCollector};
use crate::runtime::memory::process::ProcessMemory;
use crate::runtime::net::accept::{self, AcceptThread};
use crate::runtime::net::clients::ClientRules;
use crate::runtime::net::inbox::{Arrival, Inbox, inbox};
use crate::runtime::net::poller::{self, Choice};
use crate::runtime::net::socket_caps::{Openers, SocketCaps};
use crate::runtime::rings::{Endpoint, mesh};
use crate::runtime::text_log::{self, TextLog};
use crate::runtime::wakeup::Wakeup;
use crate::shard::{Limits, ShardConfig};
use crate::store::meta::{MetaLog, MetaState};
use crate::store::{self, Recovered, RecoveryError, StoreConfig};

/// How long clients have to close their connections when the broker stops.
const STOPPING: Duration = Duration::from_secs(5);

/// Serves until a signal ends it. The result is the process's exit code.
#[must_use]
pub fn serve(config: &Config) -> ExitCode {
    // Before any thread starts: they inherit that the signals are blocked.
    let signals = sys::stop_signals().map_err(cannot("wait for signals"));
    let log = text_log::start(config.log_format, config.log_level).map_err(cannot("start the log"));
    let result = match (&log, signals) {
        (Ok(log), Ok(signals)) => serve_until(signals, config, log),
        (_, Err(error)) => Err(error),
        (Err(error), _) => return refuse(error),
    };
    if let Ok(log) = log {
        log.flush();
    }
    result.unwrap_or_else(|error| refuse(&error))
}

/// Prints why the broker does not run, also if nobody reads the log. It is one write, so that a
/// line of the log, which may go to the same file, does not come between.
fn refuse(error: &StartError) -> ExitCode {
    let line = format!("error: {error}\n");
    eprint!("{line}");
    ExitCode::FAILURE
}

fn serve_until(signals: OwnedFd, config: &Config, log: &TextLog) -> Result<ExitCode, StartError> {
    let (broker, data_dir) = launch(signals, config, Some(log))?;
    // The data folder is this process's own until here.
    let code = broker.run();
    drop(data_dir);
    code
}

fn launch(
    signals: OwnedFd,
    config: &Config,
    log: Option<&TextLog>,
) -> Result<(Broker, DataDir), StartError> {
    let mut plan = Plan::new(config)?;
    let data_dir = DataDir::open(&config.data_dir)?;
    let listeners = probe::listen(&config.listen, config.tcp)?;
    banner(config, &plan, &listeners);
    let faults = Faults::new(config.disk_faults.clone());
    let mut meta = meta::open(&config.data_dir.join("meta"), faults)?;
    plan.given = definitions::load(config, plan.entropy, &mut meta)?;
    let broker = Broker::start(config, &plan, (meta, log.cloned()), listeners, signals)?;
    tracing::info!("Ringtail is ready");
    Ok((broker, data_dir))
}

/// A broker beside other things in one process. It stops when this is dropped, which takes 5 s if
/// clients do not close their connections; threads that serve those go on until they do.
#[derive(Debug)]
pub struct Embedded {
    inspector: Inspector,
    addresses: Vec<SocketAddr>,
    stop: Arc<Wakeup>,
    thread: Option<JoinHandle<ExitCode>>,
}

/// Starts a broker that serves until it is stopped. It takes no signals and starts no text log:
/// what is logged goes to the process's subscriber of `tracing`. In a process that goes on after it
/// use epoll: with io_uring, a broker that has stopped may close descriptors late, which are then
/// others' already.
///
/// # Errors
///
/// See [`StartError`].
pub fn start(config: &Config) -> Result<Embedded, StartError> {
    let stop = Arc::new(Wakeup::new().map_err(cannot("make an eventfd"))?);
    let signals = stop.as_fd().try_clone_to_owned().map_err(cannot("copy an eventfd"))?;
    let (broker, data_dir) = launch(signals, config, None)?;
    let (inspector, addresses) = (broker.inspector.clone(), broker.addresses.clone());
    let run = move || {
        let code = broker.run().unwrap_or_else(|error| refuse(&error));
        drop(data_dir);
        code
    };
    let thread = thread::Builder::new().name("ringtail-main".to_owned()).spawn(run);
    let thread = Some(thread.map_err(cannot("start a thread"))?);
    Ok(Embedded { inspector, addresses, stop, thread })
}

impl Embedded {
    /// Asks its shards and its coordinator.
    #[must_use]
    pub fn inspector(&self) -> &Inspector {
        &self.inspector
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.stop.wake_always();
        let ended = self.thread.take().map(JoinHandle::join);
        if ended.is_some_and(|ended| ended.is_err()) {
            tracing::error!("the broker's main thread died");
        }
    }
}

/// What the configuration means on this machine.
struct Plan {
    /// A CPU for every shard.
    cpus: Vec<usize>,
    sizes: Sizes,
    poller: Choice,
    caps: SocketCaps,
    entropy: Entropy,
    given: GivenState,
}

impl Plan {
    fn new(config: &Config) -> Result<Self, StartError> {
        let machine = Machine::look().map_err(cannot("find out the CPUs"))?;
        let cpus = config.cpus.clone().unwrap_or_else(|| machine.cpus.clone());
        if let Some(&cpu) = cpus.iter().find(|cpu| !machine.cpus.contains(cpu)) {
            return Err(StartError::Cpu { cpu, allowed: machine.cpus });
        }
        let shards = config.shards.unwrap_or_else(|| machine.shards(cpus.len()));
        if usize::from(shards) > cpus.len() {
            tracing::warn!("{shards} shards share {} CPUs", cpus.len());
        }
        let files = probe::open_files()?;
        let sizes = Sizes::new(config, machine.memory, files, shards);
        let listeners = config.listen.len();
        let openers = Openers { shards, open_files: sizes.open_files, listeners };
        let caps = SocketCaps::new(files, openers);
        Ok(Self {
            cpus: cpus.into_iter().cycle().take(shards.into()).collect(),
            sizes,
            poller: poller::choose(config.io)?,
            caps: caps.map_err(|needed| StartError::Files { files, needed })?,
            entropy: Entropy::new(sys::random().map_err(cannot("get random numbers"))?),
            given: GivenState::default(),
        })
    }

    fn shards(&self) -> u16 {
        // Made from a u16.
        u16::try_from(self.cpus.len()).unwrap_or(u16::MAX)
    }
}

fn banner(config: &Config, plan: &Plan, listeners: &[TcpListener]) {
    let addresses: Vec<_> = addresses(listeners).iter().map(SocketAddr::to_string).collect();
    tracing::info!(
        "Ringtail {} listens on {}; {} shards on CPUs {:?} wait with {}; data in {}; \
         publishers are blocked from {} MiB of memory on",
        env!("CARGO_PKG_VERSION"),
        addresses.join(" "),
        plan.cpus.len(),
        plan.cpus,
        plan.poller,
        config.data_dir.display(),
        plan.sizes.memory_limit >> 20,
    );
    if config.durability == DurabilityMode::Relaxed {
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

fn addresses(listeners: &[TcpListener]) -> Vec<SocketAddr> {
    listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
}

/// Everything that runs.
struct Broker {
    signals: OwnedFd,
    /// Rung with every report.
    wakeup: Arc<Wakeup>,
    reports: Receiver<Report>,
    inboxes: Vec<Inbox>,
    accepting: Option<AcceptThread>,
    coordinator_thread: CoordinatorThread,
    disk: DiskThreads,
    watching: SpaceWatch,
    /// Shards that run.
    running: usize,
    inspector: Inspector,
    addresses: Vec<SocketAddr>,
}

/// What the main thread waits for.
enum MainEvent {
    Signal,
    Report(Report),
    TooLate,
}

impl Broker {
    fn start(
        config: &Config,
        plan: &Plan,
        (mut meta, log): (MetaLog<meta::MetaFolder>, Option<TextLog>),
        listeners: Vec<TcpListener>,
        signals: OwnedFd,
    ) -> Result<Self, StartError> {
        let wakeup = Arc::new(Wakeup::new().map_err(cannot("make an eventfd"))?);
        let (sender, reports) = channel();
        let clock = Clock::start();
        let mut ends = mesh(plan.cpus.len() + 1).map_err(cannot("make an eventfd"))?;
        let hub =
            ends.pop().ok_or_else(|| cannot("make a mesh")(std::io::ErrorKind::Other.into()))?;
        let (inboxes, arrivals): (Vec<_>, Vec<_>) =
            ends.iter().map(|end| inbox(end.wakeup())).unzip();
        let (ports, questions): (Vec<_>, Vec<_>) =
            ends.iter().map(|end| inspect::port(end.wakeup())).unzip();
        let (port, asked) = inspect::port(hub.wakeup());
        let inspector = Inspector::new(ports, port);
        meta.take_notes().iter().for_each(|note| tracing::warn!("{note}"));
        let coordinator = coordinator(config, plan, meta.state());
        let (mut queues, boot) = recover(config, coordinator.durable_queues())?;
        let limit = plan.sizes.disk_free_limit;
        let watching = FreeSpace::start(&config.data_dir, limit, Arc::clone(hub.wakeup()))
            .map_err(cannot("watch the free disk space"))?;
        let space = watching.space();
        let died = Died { reports: sender.clone(), wakeup: Arc::clone(&wakeup) };
        let give_back = Arc::new(GiveBack::default());
        let process = process_memory(config, plan, &give_back, &hub);
        let (parts, told) = ((Arc::clone(space), process, log), died.clone());
        let coordinator_thread =
            coordinator::start((coordinator, meta), hub, clock, parts, asked, move |why| {
                told.tell(why);
            })
            .map_err(cannot("start a thread"))?;
        let (disk, ways) = disk_threads(disk_config(config, plan, &give_back), &ends, died)?;
        let counts = BodyCounts::new(plan.shards());
        let ends = ends.into_iter().zip(ways).zip(arrivals.into_iter().zip(questions));
        for (number, ((mesh, disk), (arrivals, questions))) in ends.enumerate() {
            let collector = ShardCollector::new(give_back.join(mesh.wakeup()));
            let space = Arc::clone(space);
            let links = ShardLinks { mesh, disk, space, collector, arrivals, questions, clock };
            let shard = shard_config(config, plan, boot, number);
            let here = queues.extract_if(.., |queue| queue.spec.home == shard.id).collect();
            let thread = thread_config(config, plan, (number, shard, here), (links, &counts));
            shard_thread::start(thread, sender.clone(), Arc::clone(&wakeup))
                .map_err(cannot("start a thread"))?;
        }
        let (running, accepting, addresses) = (plan.cpus.len(), None, addresses(&listeners));
        let mut broker = Self {
            signals,
            wakeup,
            reports,
            inboxes,
            accepting,
            coordinator_thread,
            disk,
            watching,
            running,
            inspector,
            addresses,
        };
        broker.await_started()?;
        let accepting = accept::start(listeners, broker.inboxes.clone(), plan.caps.sockets);
        broker.accepting = Some(accepting.map_err(cannot("start a thread"))?);
        Ok(broker)
    }

    fn await_started(&self) -> Result<(), StartError> {
        for _ in 0..self.running {
            let report = self.reports.recv().map_err(std::io::Error::other);
            match report.map_err(cannot("hear of the shards"))? {
                Report::Started => {}
                Report::Failed(why) => return Err(StartError::Thread { why }),
                Report::Ended => {
                    return Err(StartError::Thread { why: "a shard ended".to_owned() });
                }
            }
        }
        Ok(())
    }

    fn run(mut self) -> Result<ExitCode, StartError> {
        loop {
            match self.next(None)? {
                MainEvent::Signal => break,
                MainEvent::Report(Report::Started) | MainEvent::TooLate => {}
                MainEvent::Report(Report::Failed(why)) => return Err(StartError::Thread { why }),
                MainEvent::Report(Report::Ended) => self.running -= 1,
            }
        }
        self.stop()
    }

    /// Stops accepting, has the shards close their connections, waits for them, but not for ever.
    fn stop(mut self) -> Result<ExitCode, StartError> {
        tracing::info!("Ringtail is asked to stop");
        if let Some(accepting) = self.accepting.take() {
            accepting.stop();
        }
        self.inboxes.iter().for_each(|inbox| inbox.put(Arrival::Shutdown));
        let deadline = Instant::now() + STOPPING;
        while self.running > 0 {
            match self.next(Some(deadline))? {
                MainEvent::Signal => {
                    tracing::warn!("Ringtail is asked to stop once more and ends at once");
                    return Ok(ExitCode::FAILURE);
                }
                MainEvent::Report(Report::Started) => {}
                MainEvent::Report(Report::Failed(why)) => return Err(StartError::Thread { why }),
                MainEvent::Report(Report::Ended) => self.running -= 1,
                MainEvent::TooLate => {
                    let left: usize = self.inboxes.iter().map(Inbox::load).sum();
                    tracing::warn!("{left} connections did not close in time");
                    return Ok(self.too_late());
                }
            }
        }
        self.coordinator_thread.stop();
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

    fn next(&self, deadline: Option<Instant>) -> Result<MainEvent, StartError> {
        loop {
            if let Ok(report) = self.reports.try_recv() {
                return Ok(MainEvent::Report(report));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let fds = [self.signals.as_fd(), self.wakeup.as_fd()];
            let [signal, report] =
                sys::wait_any(&fds, left, [false; 2]).map_err(cannot("wait for signals"))?;
            if signal {
                sys::take(self.signals.as_fd()).map_err(cannot("read a signal"))?;
                return Ok(MainEvent::Signal);
            }
            if report {
                self.wakeup.wait().map_err(cannot("wait for the shards"))?;
            } else if left == Some(Duration::ZERO) {
                return Ok(MainEvent::TooLate);
            }
        }
    }
}

/// Tells the main thread that one that is needed is gone.
#[derive(Debug, Clone)]
struct Died {
    reports: Sender<Report>,
    wakeup: Arc<Wakeup>,
}

impl Died {
    fn tell(&self, why: String) {
        // Nobody listens any more only when the process is ending.
        drop(self.reports.send(Report::Failed(why)));
        self.wakeup.wake_always();
    }
}

/// Finds the messages of the last start, for the queues that there are, and the number of this one.
fn recover(
    config: &Config,
    queues: Vec<(Name, QueueSpec)>,
) -> Result<(Vec<Restored>, u32), StartError> {
    let begun = Instant::now();
    let known: BTreeSet<_> = queues.iter().map(|(_, spec)| spec.id).collect();
    let mut files = DataFiles::new(&config.data_dir);
    files.read_ahead().map_err(RecoveryError::from)?;
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
        default_user: config.default_user.clone(),
        default_pass: config.default_pass.clone(),
        default_vhost: config.default_vhost.clone(),
        loopback_users: config.loopback_users.clone(),
        memory_limit: plan.sizes.memory_limit,
        placement: if config.place_cross {
            QueuePlacement::Cross
        } else {
            QueuePlacement::Balanced
        },
        limits: node_limits(config, plan),
        vhost_defaults: plan.given.vhost_defaults.clone(),
        validator: config.credentials.validator(),
        ..CoordinatorConfig::new(plan.shards(), plan.entropy)
    };
    Coordinator::recovered(coordinator, state)
}

fn process_memory(
    config: &Config,
    plan: &Plan,
    give_back: &Arc<GiveBack>,
    hub: &Endpoint<Batch>,
) -> ProcessMemory {
    let looks = config.memory_strategy == MemoryStrategy::Rss;
    let collector = give_back.join(hub.wakeup());
    let parts = (Arc::clone(give_back), collector);
    ProcessMemory::new(looks, plan.sizes.memory_limit, plan.shards(), parts)
}

fn node_limits(config: &Config, plan: &Plan) -> NodeLimits {
    NodeLimits {
        connections: or_none(config.connection_max),
        channels: or_none(config.channel_max_per_node),
        queues: or_none(config.cluster_queue_limit),
        exchanges: or_none(config.cluster_exchange_limit),
        topology_bytes: plan.sizes.topology_max,
    }
}

fn thread_config(
    config: &Config,
    plan: &Plan,
    (number, shard, queues): (usize, ShardConfig, Vec<Restored>),
    (links, counts): (ShardLinks, &BodyCounts),
) -> ThreadConfig {
    let (cpu, poller) = (plan.cpus[number], plan.poller.clone());
    let (bodies, clients) = (counts.clone(), client_rules(config, plan));
    ThreadConfig { shard, bodies, queues, cpu, poller, clients, links }
}

fn client_rules(config: &Config, plan: &Plan) -> ClientRules {
    ClientRules {
        stages: config.transport_stages.clone(),
        stages_ms: config.handshake_timeout_ms,
        newcomers: plan.caps.newcomers,
    }
}

fn disk_threads(
    config: DiskConfig,
    ends: &[Endpoint<Batch>],
    died: Died,
) -> Result<(DiskThreads, Vec<DiskEnd>), StartError> {
    let wakeups: Vec<_> = ends.iter().map(|end| Arc::clone(end.wakeup())).collect();
    let started = DiskThreads::start(config, &wakeups, move |why| died.tell(why));
    started.map_err(cannot("start the disk threads"))
}

fn disk_config(config: &Config, plan: &Plan, give_back: &Arc<GiveBack>) -> DiskConfig {
    DiskConfig {
        data_dir: config.data_dir.clone(),
        segment_bytes: plan.sizes.segment,
        open_files: plan.sizes.open_files,
        log_thread_each: true,
        give_back: Arc::clone(give_back),
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
            DurabilityMode::Strict => store::SyncPolicy::Strict,
            DurabilityMode::Relaxed => store::SyncPolicy::Relaxed { every_ms },
        },
        segment_bytes: plan.sizes.segment,
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
        cluster_name: plan.given.cluster_name.clone().into(),
    };
    ShardConfig {
        limits,
        resident_max: plan.sizes.resident_max,
        unsettled_max: plan.sizes.unsettled_max,
        receiving_max: plan.sizes.partial_max,
        receiving_own_max: plan.sizes.partial_own_max,
        large_max: plan.sizes.large_max,
        consumer_timeout_ms: config.consumer_timeout_ms,
        store: store_config(config, plan, boot, id),
        ..ShardConfig::new(id, plan.shards(), plan.entropy)
    }
}
