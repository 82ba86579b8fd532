//! The threads that write, sync and read for all shards, so that no shard waits for a disk.
//!
//! ```text
//!  shard ── operations ──▶ ringtail-wal        logs: pwritev, fdatasync
//!        ── operations ──▶ ringtail-seg        segments of queues: writes, reads, deletions
//!        ◀──── results ──  both
//! ```
//!
//! A shard has at most as many operations in flight at a thread as a ring holds; more wait in the
//! shard. So the ring of results is never full, and the threads never wait for a shard.

mod access;
pub(super) mod data_dir;
pub(super) mod faults;
pub(super) mod files;
pub(super) mod free_space;
pub(super) mod meta;
mod open_files;
mod page_cache;
mod permissions;
pub(super) mod preallocate;
mod worker;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use rtrb::{Consumer, Producer, RingBuffer};

use crate::config::{DiskFault, DiskWorker};
use crate::runtime::disk::faults::Faults;
use crate::runtime::disk::preallocate::PreallocatedSegments;
use crate::runtime::disk::worker::Worker;
use crate::runtime::memory::give_back::{Collector, GiveBack};
use crate::runtime::wakeup::Wakeup;
use crate::store::{Done, FileName, Op};

/// Operations of one shard in flight at one thread.
const RING: usize = 256;
/// A shard hands no more out while so many wait for a ring.
const HELD: usize = 1024;

/// The configuration of the disk threads.
#[derive(Debug, Clone)]
pub struct DiskConfig {
    /// The data folder, with its folders inside.
    pub data_dir: PathBuf,
    /// Bytes of a segment of a log.
    pub segment_bytes: u64,
    /// Files that each thread may keep open.
    pub open_files: usize,
    /// Every shard's log has a thread of its own.
    pub log_thread_each: bool,
    /// Returns freed memory; the threads take part.
    pub give_back: Arc<GiveBack>,
    /// Faults injected by tests.
    pub faults: Vec<DiskFault>,
}

/// The running threads.
#[derive(Debug)]
pub struct DiskThreads {
    threads: Vec<(JoinHandle<()>, Arc<Wakeup>)>,
    stop: Arc<AtomicBool>,
    give_back: Arc<GiveBack>,
    under_way: Arc<AtomicUsize>,
}

/// A shard's connection to the threads.
#[derive(Debug)]
pub struct DiskEnd {
    log: WorkerLink,
    queues: WorkerLink,
    under_way: Arc<AtomicUsize>,
}

/// A shard's rings to and from one thread.
#[derive(Debug)]
struct WorkerLink {
    ops: Producer<Op>,
    answers: Consumer<Done>,
    wakeup: Arc<Wakeup>,
    /// Operations that wait for the ring.
    held: VecDeque<Op>,
    /// Operations in the rings and in the thread.
    under_way: usize,
    /// Operations were sent and the thread was not woken since.
    sent: bool,
}

/// The thread's ends of the same rings.
#[derive(Debug)]
struct WorkerClient {
    ops: Consumer<Op>,
    answers: Producer<Done>,
    wakeup: Arc<Wakeup>,
}

impl DiskThreads {
    /// Starts the threads. Returns an end for each shard, whose wakeup is used when there are
    /// results. If a thread dies, `died` is called.
    ///
    /// # Errors
    ///
    /// The system's: no threads, no descriptors, or the folder cannot be read.
    pub fn start(
        config: DiskConfig,
        wakeups: &[Arc<Wakeup>],
        died: impl Fn(String) + Clone + Send + 'static,
    ) -> io::Result<(Self, Vec<DiskEnd>)> {
        let DiskConfig { data_dir, segment_bytes, open_files, .. } = config;
        let DiskConfig { log_thread_each, give_back, faults, .. } = config;
        let faults = Arc::new(Faults::new(faults));
        let preallocated =
            PreallocatedSegments::start(&data_dir, segment_bytes, wakeups.len() + 1)?;
        preallocated.order();
        let mut disk = Self {
            threads: Vec::new(),
            stop: Arc::new(AtomicBool::new(false)),
            give_back,
            under_way: Arc::new(AtomicUsize::new(0)),
        };
        let logs =
            if log_thread_each { wakeups.chunks(1) } else { wakeups.chunks(wakeups.len().max(1)) };
        let mut log = Vec::new();
        for wakeups in logs {
            let preallocated = Some(Arc::clone(&preallocated));
            let faults = Arc::clone(&faults);
            let worker = Worker::new(DiskWorker::Log, &data_dir, open_files, preallocated, faults)?;
            log.extend(disk.spawn("ringtail-wal", worker, wakeups, died.clone())?);
        }
        let worker = Worker::new(DiskWorker::Queue, &data_dir, open_files, None, faults)?;
        let queues = disk.spawn("ringtail-seg", worker, wakeups, died)?;
        let ends = log.into_iter().zip(queues);
        let end = |(log, queues)| DiskEnd { log, queues, under_way: Arc::clone(&disk.under_way) };
        let ends = ends.map(end).collect();
        Ok((disk, ends))
    }

    fn spawn(
        &mut self,
        name: &str,
        worker: Worker,
        wakeups: &[Arc<Wakeup>],
        died: impl Fn(String) + Send + 'static,
    ) -> io::Result<Vec<WorkerLink>> {
        let wakeup = Arc::new(Wakeup::new()?);
        let (links, clients) = wakeups.iter().map(|shard| connect(shard, &wakeup)).unzip();
        let (stop, under_way) = (Arc::clone(&self.stop), Arc::clone(&self.under_way));
        let collector = self.give_back.join(&wakeup);
        let mut seat = WorkerThread {
            worker,
            clients,
            wakeup: Arc::clone(&wakeup),
            stop,
            collector,
            under_way,
        };
        let run = move || {
            let run = std::panic::AssertUnwindSafe(|| seat.run());
            match std::panic::catch_unwind(run) {
                Ok(Ok(())) => {}
                Ok(Err(why)) => died(format!("a disk thread cannot wait for the shards: {why}")),
                Err(_) => died("a disk thread died".to_owned()),
            }
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run)?;
        self.threads.push((thread, wakeup));
        Ok(links)
    }

    /// Operations that were handed out and have no result yet.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    /// Carries out all operations handed out so far and ends the threads.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Release);
        for (thread, wakeup) in self.threads {
            wakeup.wake_always();
            if thread.join().is_err() {
                tracing::error!("a disk thread died");
            }
        }
    }
}

fn connect(shard: &Arc<Wakeup>, thread: &Arc<Wakeup>) -> (WorkerLink, WorkerClient) {
    let (ops, ops_in) = RingBuffer::new(RING);
    let (answers_out, answers) = RingBuffer::new(RING);
    let held = VecDeque::new();
    let link =
        WorkerLink { ops, answers, wakeup: Arc::clone(thread), held, under_way: 0, sent: false };
    (link, WorkerClient { ops: ops_in, answers: answers_out, wakeup: Arc::clone(shard) })
}

impl DiskEnd {
    /// True if another operation should be handed out now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.log.held.len() < HELD && self.queues.held.len() < HELD
    }

    /// Hands an operation out. [`Self::wake`] has to follow.
    pub fn submit(&mut self, op: Op) {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        match op.file {
            FileName::Log { .. } => self.log.submit(op),
            FileName::Queue { .. } => self.queues.submit(op),
        }
    }

    /// Wakes the threads that got operations.
    pub fn wake_threads(&mut self) {
        self.log.wake();
        self.queues.wake();
    }

    /// The next result.
    pub fn next_done(&mut self) -> Option<Done> {
        self.log.next_done().or_else(|| self.queues.next_done())
    }

    /// True if there are results.
    #[must_use]
    pub fn has_answers(&self) -> bool {
        !self.log.answers.is_empty() || !self.queues.answers.is_empty()
    }

    /// True if no operation is in flight.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.log.is_idle() && self.queues.is_idle()
    }
}

impl WorkerLink {
    fn submit(&mut self, op: Op) {
        if !self.held.is_empty() || self.under_way == RING {
            self.held.push_back(op);
            return;
        }
        self.under_way += 1;
        self.sent = true;
        let pushed = self.ops.push(op);
        debug_assert!(pushed.is_ok(), "the ring holds all that may be under way");
    }

    fn next_done(&mut self) -> Option<Done> {
        let done = self.answers.pop().ok()?;
        self.under_way -= 1;
        if let Some(op) = self.held.pop_front() {
            self.under_way += 1;
            self.sent = true;
            let pushed = self.ops.push(op);
            debug_assert!(pushed.is_ok(), "the one answered has left the ring");
        }
        Some(done)
    }

    fn wake(&mut self) {
        if std::mem::take(&mut self.sent) {
            self.wakeup.wake();
        }
    }

    fn is_idle(&self) -> bool {
        self.under_way == 0
    }
}

/// One thread.
struct WorkerThread {
    worker: Worker,
    clients: Vec<WorkerClient>,
    wakeup: Arc<Wakeup>,
    stop: Arc<AtomicBool>,
    collector: Collector,
    under_way: Arc<AtomicUsize>,
}

impl WorkerThread {
    fn run(&mut self) -> io::Result<()> {
        let mut ops = Vec::with_capacity(RING);
        loop {
            // Operations handed out before the stop are still carried out.
            let stop = self.stop.load(Ordering::Acquire);
            if self.turn(&mut ops) {
                continue;
            }
            if stop {
                return Ok(());
            }
            self.wakeup.announce_sleep();
            if self.clients.iter().all(|client| client.ops.is_empty()) {
                self.collector.before_sleep();
                self.wakeup.wait()?;
            }
            self.wakeup.awake();
        }
    }

    /// Carries out waiting operations, of one shard after the other. True if there were any.
    fn turn(&mut self, ops: &mut Vec<Op>) -> bool {
        let mut busy = false;
        for client in &mut self.clients {
            ops.extend(std::iter::from_fn(|| client.ops.pop().ok()));
            if ops.is_empty() {
                continue;
            }
            busy = true;
            let (answers, wakeup, under_way) =
                (&mut client.answers, &client.wakeup, &self.under_way);
            self.worker.run(ops, |done| {
                let pushed = answers.push(done);
                debug_assert!(pushed.is_ok(), "the ring holds all that may be under way");
                under_way.fetch_sub(1, Ordering::Relaxed);
                wakeup.wake();
            });
        }
        busy
    }
}

#[cfg(test)]
#[path = "mod_test.rs"]
mod tests;
