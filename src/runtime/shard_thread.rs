//! A shard's thread: it makes a poller, restores the shard's queues, and serves until it is over.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;

use model::{BodyCounts, Name, QueueSpec};

use super::turn::{Core, ShardLinks};
use crate::runtime::net::clients::ClientRules;
use crate::runtime::net::poller::{Choice, EpollPoller, Poller, UringPoller, warn_once};
use crate::runtime::wakeup::Wakeup;
use crate::shard::{Shard, ShardConfig};
use crate::store::RecoveredQueue;

/// What a shard's thread is started with.
pub struct ThreadConfig {
    /// For the pure shard.
    pub shard: ShardConfig,
    /// Where it counts bodies.
    pub bodies: BodyCounts,
    /// Queues that outlived a restart and live here.
    pub queues: Vec<Restored>,
    /// The CPU.
    pub cpu: usize,
    /// What it waits with.
    pub poller: Choice,
    /// What holds for all its clients.
    pub clients: ClientRules,
    /// What joins it with the rest.
    pub links: ShardLinks,
}

/// A queue that outlived a restart.
#[derive(Debug)]
pub struct Restored {
    /// Its vhost.
    pub vhost: Name,
    /// What it is.
    pub spec: QueueSpec,
    /// What is in it.
    pub found: RecoveredQueue,
}

/// What a shard's thread tells the one that started it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// It runs.
    Started,
    /// It cannot run, or cannot go on.
    Failed(String),
    /// It closed all connections and is over.
    Ended,
}

/// Starts the thread. It reports on `reports` and wakes the main thread each time.
///
/// # Errors
///
/// The system's: no threads.
pub fn start(config: ThreadConfig, reports: Sender<Report>, wakeup: Arc<Wakeup>) -> io::Result<()> {
    let reporter = Reporter { reports, wakeup, last: None };
    let name = format!("ringtail-s{}", config.shard.id.0);
    let thread = thread::Builder::new().name(name);
    thread.spawn(move || reporter.run(config)).map(drop)
}

/// Reports, and says so even if the thread panics.
struct Reporter {
    reports: Sender<Report>,
    wakeup: Arc<Wakeup>,
    last: Option<Report>,
}

impl Reporter {
    fn run(mut self, config: ThreadConfig) {
        let result = wait_and_serve(config, &self);
        self.last = Some(result.map_or_else(Report::Failed, |()| Report::Ended));
    }

    fn report(&self, report: Report) {
        // Nobody listens any more only when the process is ending.
        drop(self.reports.send(report));
        self.wakeup.wake_always();
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        let last = self.last.take();
        self.report(last.unwrap_or_else(|| Report::Failed("a shard's thread died".to_owned())));
    }
}

fn wait_and_serve(config: ThreadConfig, reporter: &Reporter) -> Result<(), String> {
    let cpu = config.cpu;
    let uring = match &config.poller {
        Choice::Epoll => None,
        Choice::Uring => Some(UringPoller::new(cpu)?),
        Choice::UringElseEpoll(told) => {
            UringPoller::new(cpu).inspect_err(|why| warn_once(told, why)).ok()
        }
    };
    match uring {
        Some(poller) => serve(poller, config, reporter),
        None => serve(EpollPoller::new(cpu)?, config, reporter),
    }
}

fn serve<P: Poller>(poller: P, config: ThreadConfig, reporter: &Reporter) -> Result<(), String> {
    reporter.report(Report::Started);
    let mut shard = Shard::new(config.shard);
    shard.count_bodies(&config.bodies);
    for Restored { vhost, spec, found } in config.queues {
        shard.restore(vhost, spec, found);
    }
    poller.run(Core::new(shard, config.links, config.clients))
}
