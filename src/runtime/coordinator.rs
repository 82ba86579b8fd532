//! The coordinator's thread: not pinned to a CPU, asleep unless a shard asks something. What it
//! decides in a turn is made durable at once, before any of it is told. Where there is no room for
//! that it is tried again, and what does not depend on it goes on.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use model::{Now, ShardId};

use super::bell::Bell;
use super::clock::Clock;
use super::mesh::Endpoint;
use super::meta::Disk;
use super::space::Space;
use super::sys;
use crate::shard::{Alarms, Batch, Coordinator};
use crate::store::meta::{Fact, Folder, Log};
use crate::store::op::Failure;

/// So many microseconds after it found no room a write is tried once more.
const RETRY_US: u64 = 100_000;

/// The running coordinator.
#[derive(Debug)]
pub struct Coordinating {
    bell: Arc<Bell>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Coordinating {
    /// Ends the thread; returns when it is over.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.bell.ring_always();
        if self.thread.join().is_err() {
            tracing::error!("the coordinator died");
        }
    }
}

/// Starts the thread, with the coordinator that goes on from what the log says. If it dies, `died`
/// is called.
///
/// # Errors
///
/// The system's: no threads.
pub fn start(
    (coordinator, log): (Coordinator, Log<Disk>),
    mesh: Endpoint<Batch>,
    clock: Clock,
    space: Arc<Space>,
    died: impl FnOnce(String) + Send + 'static,
) -> io::Result<Coordinating> {
    let bell = Arc::clone(mesh.bell());
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let mut seat = Seat {
        coordinator,
        log,
        records: Vec::new(),
        retry_us: None,
        mesh,
        clock,
        space,
        told: Alarms::default(),
        stop: stopped,
    };
    let run = move || {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| seat.run()));
        match result {
            Ok(Ok(())) => {}
            Ok(Err(why)) => died(why.to_string()),
            Err(_) => died("the coordinator's thread died".to_owned()),
        }
    };
    let thread = thread::Builder::new().name("ringtail-coord".to_owned()).spawn(run)?;
    Ok(Coordinating { bell, stop, thread })
}

struct Seat<F> {
    coordinator: Coordinator,
    log: Log<F>,
    /// What is not durable yet.
    records: Vec<Fact>,
    /// There was no room for them: when they are tried again.
    retry_us: Option<u64>,
    mesh: Endpoint<Batch>,
    clock: Clock,
    /// Whether there is room on the disk.
    space: Arc<Space>,
    /// The alarms that stand in the log.
    told: Alarms,
    stop: Arc<AtomicBool>,
}

/// Why the coordinator cannot go on.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the coordinator cannot wait for the shards: {0}")]
    Deaf(#[from] io::Error),
    #[error("what was declared or deleted may not be on the disk: {0}")]
    Disk(#[from] Failure),
}

impl<F: Folder> Seat<F> {
    fn run(&mut self) -> Result<(), Broken> {
        while !self.stop.load(Ordering::Acquire) {
            self.turn()?;
            if self.mesh.may_sleep() {
                self.sleep()?;
            }
            self.mesh.awake();
        }
        // What the shards said last is recorded too, if there is room; else nothing of it is told.
        self.retry_us = self.retry_us.map(|_| 0);
        self.turn()
    }

    fn sleep(&self) -> io::Result<()> {
        let bell = self.mesh.bell();
        if let Some(retry_us) = self.retry_us {
            let left = retry_us.saturating_sub(self.clock.now().monotonic_us);
            // Rounded up, or the last millisecond would be spent awake.
            let left = Duration::from_millis(left.div_ceil(1000));
            if sys::wait_any(&[bell.as_fd()], Some(left), [false])? == [false] {
                return Ok(());
            }
        }
        bell.take()
    }

    fn turn(&mut self) -> Result<(), Broken> {
        let now = self.clock.now();
        self.coordinator.disk(self.space.is_low());
        for number in self.mesh.numbers() {
            while let Some(mut batch) = self.mesh.take(number) {
                self.coordinator.mesh(endpoint(number), &mut batch, now);
                self.mesh.give_back(number, batch);
            }
        }
        // Who is told of an alarm finds it in the log.
        self.log_alarms();
        self.record(now)?;
        self.tell();
        Ok(())
    }

    /// Makes durable what was decided, if there is room; the coordinator knows whether there is.
    fn record(&mut self, now: Now) -> Result<(), Failure> {
        loop {
            self.records.append(&mut self.coordinator.take_records());
            if self.retry_us.is_some_and(|retry_us| now.monotonic_us < retry_us) {
                return Ok(());
            }
            match self.log.append(&self.records) {
                Ok(()) => self.records.clear(),
                Err(failure) if failure.full => {
                    self.no_room(&failure, now);
                    return Ok(());
                }
                Err(failure) => return Err(failure),
            }
            self.log.take_notes().iter().for_each(|note| tracing::warn!("{note}"));
            if self.retry_us.take().is_none() {
                return Ok(());
            }
            tracing::info!("there is room again for what is declared and deleted");
            // What has waited is decided by this, and to be durable as well.
            self.coordinator.disk_is_full(false);
        }
    }

    fn no_room(&mut self, failure: &Failure, now: Now) {
        if self.retry_us.is_none() {
            tracing::warn!("{failure}; what is declared and deleted waits until there is room");
            self.coordinator.disk_is_full(true);
        }
        self.retry_us = Some(now.monotonic_us + RETRY_US);
    }

    fn tell(&mut self) {
        for number in self.mesh.numbers() {
            let batch = self.coordinator.outbound(endpoint(number));
            if !batch.is_empty() {
                // Where the ring is full the batch stays, and the shard rings when it is not.
                self.mesh.send(number, batch);
            }
        }
        self.mesh.ring_bells();
    }

    /// In RabbitMQ's words, which people look for.
    fn log_alarms(&mut self) {
        let (before, now) = (self.told, self.coordinator.alarms());
        self.told = now;
        let kinds = [("memory", before.memory, now.memory), ("disk", before.disk, now.disk)];
        for (what, before, now) in kinds {
            match (before, now) {
                (false, true) => tracing::warn!(
                    "{what} resource limit alarm set on this node: publishers will be blocked \
                     until this alarm clears"
                ),
                (true, false) => {
                    tracing::warn!("{what} resource limit alarm cleared on this node");
                }
                _ => {}
            }
        }
    }
}

/// The endpoint with that number.
#[must_use]
pub fn endpoint(number: usize) -> ShardId {
    // There are at most 1024 shards and one coordinator.
    ShardId(u16::try_from(number).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use model::{Arguments, ExchangeKind, ExchangeSpec, Ticket};

    use super::*;
    use crate::runtime::mesh::mesh;
    use crate::shard::batch::Record;
    use crate::shard::message::{Control, Request};
    use crate::shard::{CoordinatorConfig, Place};
    use crate::store::meta::Memory;

    /// A coordinator, and the end of its only shard.
    fn seat(disk: &Memory) -> (Seat<Memory>, Endpoint<Batch>) {
        let mut ends = mesh(2).unwrap();
        let (mesh, shard) = (ends.pop().unwrap(), ends.pop().unwrap());
        let log = Log::open(disk.clone(), 1).unwrap();
        let config = CoordinatorConfig {
            shards: 1,
            seed: 1,
            default_user: "guest".into(),
            default_pass: "guest".into(),
            default_vhost: "/".into(),
            loopback_users: Vec::new(),
            memory_limit: 1000,
            place: Place::Balanced,
        };
        let coordinator = Coordinator::recovered(config, log.state());
        let stop = Arc::new(AtomicBool::new(false));
        let listener = Arc::clone(mesh.bell());
        let space = Arc::clone(Space::start(Path::new("."), 0, listener).unwrap().space());
        let (clock, told, records) = (Clock::start(), Alarms::default(), Vec::new());
        let retry_us = None;
        (Seat { coordinator, log, records, retry_us, mesh, clock, space, told, stop }, shard)
    }

    fn declare(shard: &mut Endpoint<Batch>) {
        let spec = ExchangeSpec {
            name: "x".into(),
            kind: ExchangeKind::Fanout,
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: Arguments::default(),
        };
        let mut batch = Batch::default();
        let request = Request::DeclareExchange("/".into(), spec);
        batch.control(Control::Ask(Ticket(1), request));
        assert!(shard.send(1, &mut batch));
    }

    fn memory(shard: &mut Endpoint<Batch>, octets: u64) {
        let mut batch = Batch::default();
        batch.control(Control::Memory(octets));
        assert!(shard.send(1, &mut batch));
    }

    /// What the shard is told.
    fn controls(shard: &mut Endpoint<Batch>) -> Vec<Control> {
        let (mut controls, mut at) = (Vec::new(), 0);
        let mut batch = shard.take(1).unwrap_or_default();
        while let Some(record) = batch.next(&mut at) {
            if let Record::Control(control) = record {
                controls.push(control);
            }
        }
        controls
    }

    #[test]
    fn nothing_is_told_before_it_is_durable() {
        let disk = Memory::default();
        let (mut seat, mut shard) = seat(&disk);
        seat.turn().unwrap();
        assert!(shard.take(1).is_some());
        disk.has_room(Some(10));
        declare(&mut shard);
        for _ in 0..2 {
            seat.turn().unwrap();
            assert!(shard.take(1).is_none());
        }
        assert!(Log::open(disk.clone(), 1).unwrap().state().vhosts["/"].exchanges.is_empty());
    }

    #[test]
    fn a_full_disk_is_waited_for() {
        let disk = Memory::default();
        let (mut seat, mut shard) = seat(&disk);
        seat.turn().unwrap();
        while shard.take(1).is_some() {}
        declare(&mut shard);
        disk.is_full_for(2);
        seat.turn().unwrap();
        assert!(shard.take(1).is_none());
        // Alarms do not wait.
        memory(&mut shard, 2000);
        seat.turn().unwrap();
        let alarm = Control::Alarm(Alarms { memory: true, disk: false });
        assert_eq!(controls(&mut shard), [alarm]);
        while seat.retry_us.is_some() {
            seat.sleep().unwrap();
            seat.turn().unwrap();
        }
        assert!(matches!(controls(&mut shard)[..], [Control::Apply(..)]));
        let log = Log::open(disk, 1).unwrap();
        assert!(log.state().vhosts["/"].exchanges.contains_key("x"));
    }

    #[test]
    fn what_is_told_is_durable() {
        let disk = Memory::default();
        let (mut seat, mut shard) = seat(&disk);
        declare(&mut shard);
        seat.turn().unwrap();
        assert!(shard.take(1).is_some());
        disk.crash(&mut fastrand::Rng::with_seed(1));
        let log = Log::open(disk, 1).unwrap();
        assert!(log.state().vhosts["/"].exchanges.contains_key("x"));
    }

    #[test]
    fn a_sync_that_fails_is_the_end() {
        let disk = Memory::default();
        let (mut seat, mut shard) = seat(&disk);
        disk.breaks();
        let why = seat.turn().unwrap_err().to_string();
        assert!(why.contains("may not be on the disk"), "{why}");
        assert!(shard.take(1).is_none());
    }
}
