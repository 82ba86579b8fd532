//! The threads that write, sync and read for all shards, so that no shard ever waits for a disk.
//!
//! ```text
//!  shard ── operations ──▶ ringtail-wal        logs: pwritev, fdatasync
//!        ── operations ──▶ ringtail-seg        what queues spilled: writes, reads, deletions
//!        ◀──── answers ──  both
//! ```
//!
//! A shard has so many operations under way in a lane as the rings hold; what goes beyond waits
//! with the shard. So an answer always finds room, and the threads never wait for a shard.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use rtrb::{Consumer, Producer, RingBuffer};

use super::bell::Bell;
use super::faults::Faults;
use super::lane::Lane;
use super::spare::Spares;
use crate::config::{DiskFault, DiskLane};
use crate::store::{Done, FileName, Op};

/// Operations of one shard under way in one lane.
const RING: usize = 256;
/// A shard hands no more out while so many wait in front of a ring.
const HELD: usize = 1024;

/// What the disk threads are started with.
#[derive(Debug, Clone)]
pub struct DiskConfig {
    /// The data folder, with its folders inside.
    pub data_dir: PathBuf,
    /// Octets of a segment of a log.
    pub segment_octets: u64,
    /// Files that each thread may keep open.
    pub open_files: usize,
    /// Every shard's log has a thread of its own.
    pub log_thread_each: bool,
    /// What a test has go wrong.
    pub faults: Vec<DiskFault>,
}

/// The running threads.
#[derive(Debug)]
pub struct Disk {
    threads: Vec<(JoinHandle<()>, Arc<Bell>)>,
    stop: Arc<AtomicBool>,
    under_way: Arc<AtomicUsize>,
}

/// A shard's way to the threads.
#[derive(Debug)]
pub struct DiskEnd {
    log: Link,
    queues: Link,
    under_way: Arc<AtomicUsize>,
}

/// A shard's rings to and from one thread.
#[derive(Debug)]
struct Link {
    ops: Producer<Op>,
    answers: Consumer<Done>,
    bell: Arc<Bell>,
    /// What found no room.
    held: VecDeque<Op>,
    /// Operations in the rings and in between.
    under_way: usize,
    /// Something was sent and the bell not rung since.
    sent: bool,
}

/// The same rings at the thread.
#[derive(Debug)]
struct Client {
    ops: Consumer<Op>,
    answers: Producer<Done>,
    bell: Arc<Bell>,
}

impl Disk {
    /// Starts the threads, and gives an end to each shard, whose bell is rung with answers. If a
    /// thread dies, `died` is called.
    ///
    /// # Errors
    ///
    /// The system's: no threads, no descriptors; or what is in the folder cannot be read.
    pub fn start(
        config: DiskConfig,
        bells: &[Arc<Bell>],
        died: impl Fn(String) + Clone + Send + 'static,
    ) -> io::Result<(Self, Vec<DiskEnd>)> {
        let DiskConfig { data_dir, segment_octets, open_files, log_thread_each, faults } = config;
        let faults = Arc::new(Faults::new(faults));
        let spares = Spares::start(&data_dir, segment_octets, bells.len() + 1)?;
        spares.order();
        let mut disk = Self {
            threads: Vec::new(),
            stop: Arc::new(AtomicBool::new(false)),
            under_way: Arc::new(AtomicUsize::new(0)),
        };
        let logs = if log_thread_each { bells.chunks(1) } else { bells.chunks(bells.len().max(1)) };
        let mut log = Vec::new();
        for bells in logs {
            let spares = Some(Arc::clone(&spares));
            let lane = Lane::new(DiskLane::Log, &data_dir, open_files, spares, Arc::clone(&faults));
            log.extend(disk.spawn("ringtail-wal", lane, bells, died.clone())?);
        }
        let lane = Lane::new(DiskLane::Queue, &data_dir, open_files, None, faults);
        let queues = disk.spawn("ringtail-seg", lane, bells, died)?;
        let ends = log.into_iter().zip(queues);
        let end = |(log, queues)| DiskEnd { log, queues, under_way: Arc::clone(&disk.under_way) };
        let ends = ends.map(end).collect();
        Ok((disk, ends))
    }

    fn spawn(
        &mut self,
        name: &str,
        lane: Lane,
        bells: &[Arc<Bell>],
        died: impl Fn(String) + Send + 'static,
    ) -> io::Result<Vec<Link>> {
        let bell = Arc::new(Bell::new()?);
        let (links, clients) = bells.iter().map(|shard| connect(shard, &bell)).unzip();
        let (stop, under_way) = (Arc::clone(&self.stop), Arc::clone(&self.under_way));
        let mut seat = Seat { lane, clients, bell: Arc::clone(&bell), stop, under_way };
        let run = move || {
            let run = std::panic::AssertUnwindSafe(|| seat.run());
            match std::panic::catch_unwind(run) {
                Ok(Ok(())) => {}
                Ok(Err(why)) => died(format!("a disk thread cannot wait for the shards: {why}")),
                Err(_) => died("a disk thread died".to_owned()),
            }
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run)?;
        self.threads.push((thread, bell));
        Ok(links)
    }

    /// Operations that were handed out and are not answered.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    /// Carries out what was handed out so far and ends the threads.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Release);
        for (thread, bell) in self.threads {
            bell.ring_always();
            if thread.join().is_err() {
                tracing::error!("a disk thread died");
            }
        }
    }
}

fn connect(shard: &Arc<Bell>, thread: &Arc<Bell>) -> (Link, Client) {
    let (ops, ops_in) = RingBuffer::new(RING);
    let (answers_out, answers) = RingBuffer::new(RING);
    let held = VecDeque::new();
    let link = Link { ops, answers, bell: Arc::clone(thread), held, under_way: 0, sent: false };
    (link, Client { ops: ops_in, answers: answers_out, bell: Arc::clone(shard) })
}

impl DiskEnd {
    /// Whether another operation should be handed out now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.log.held.len() < HELD && self.queues.held.len() < HELD
    }

    /// Hands an operation out. The threads are woken by [`Self::ring_bells`].
    pub fn submit(&mut self, op: Op) {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        match op.file {
            FileName::Log { .. } => self.log.submit(op),
            FileName::Queue { .. } => self.queues.submit(op),
        }
    }

    /// Wakes the threads that have something to do.
    pub fn ring_bells(&mut self) {
        self.log.ring_bell();
        self.queues.ring_bell();
    }

    /// The next answer.
    pub fn next_done(&mut self) -> Option<Done> {
        self.log.next_done().or_else(|| self.queues.next_done())
    }

    /// Whether there are answers.
    #[must_use]
    pub fn has_answers(&self) -> bool {
        !self.log.answers.is_empty() || !self.queues.answers.is_empty()
    }

    /// Whether everything was answered.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.log.is_idle() && self.queues.is_idle()
    }
}

impl Link {
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

    fn ring_bell(&mut self) {
        if std::mem::take(&mut self.sent) {
            self.bell.ring();
        }
    }

    fn is_idle(&self) -> bool {
        self.under_way == 0
    }
}

/// One thread.
struct Seat {
    lane: Lane,
    clients: Vec<Client>,
    bell: Arc<Bell>,
    stop: Arc<AtomicBool>,
    under_way: Arc<AtomicUsize>,
}

impl Seat {
    fn run(&mut self) -> io::Result<()> {
        let mut ops = Vec::with_capacity(RING);
        loop {
            // What was handed out before the order to stop is still carried out.
            let stop = self.stop.load(Ordering::Acquire);
            if self.turn(&mut ops) {
                continue;
            }
            if stop {
                return Ok(());
            }
            self.bell.announce_sleep();
            if self.clients.iter().all(|client| client.ops.is_empty()) {
                self.bell.take()?;
            }
            self.bell.awake();
        }
    }

    /// Does what waits, of one shard after the other. Whether there was something.
    fn turn(&mut self, ops: &mut Vec<Op>) -> bool {
        let mut busy = false;
        for client in &mut self.clients {
            ops.extend(std::iter::from_fn(|| client.ops.pop().ok()));
            if ops.is_empty() {
                continue;
            }
            busy = true;
            let (answers, bell, under_way) = (&mut client.answers, &client.bell, &self.under_way);
            self.lane.run(ops, |done| {
                let pushed = answers.push(done);
                debug_assert!(pushed.is_ok(), "the ring holds all that may be under way");
                under_way.fetch_sub(1, Ordering::Relaxed);
                bell.ring();
            });
        }
        busy
    }
}

#[cfg(test)]
#[path = "disk_test.rs"]
mod tests;
