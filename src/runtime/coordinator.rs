//! The coordinator's thread: not pinned to a CPU, asleep unless a shard asks something.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use model::ShardId;

use super::bell::Bell;
use super::clock::Clock;
use super::mesh::Endpoint;
use super::space::Space;
use crate::shard::{Alarms, Batch, Coordinator};

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

/// Starts the thread. If it dies, `died` is called.
///
/// # Errors
///
/// The system's: no threads.
pub fn start(
    coordinator: Coordinator,
    mesh: Endpoint<Batch>,
    clock: Clock,
    space: Arc<Space>,
    died: impl FnOnce(String) + Send + 'static,
) -> io::Result<Coordinating> {
    let bell = Arc::clone(mesh.bell());
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let mut seat = Seat { coordinator, mesh, clock, space, told: Alarms::default() };
    let run = move || {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| seat.run(&stopped)));
        match result {
            Ok(Ok(())) => {}
            Ok(Err(error)) => died(format!("the coordinator cannot wait for the shards: {error}")),
            Err(_) => died("the coordinator's thread died".to_owned()),
        }
    };
    let thread = thread::Builder::new().name("ringtail-coord".to_owned()).spawn(run)?;
    Ok(Coordinating { bell, stop, thread })
}

struct Seat {
    coordinator: Coordinator,
    mesh: Endpoint<Batch>,
    clock: Clock,
    /// Whether there is room on the disk.
    space: Arc<Space>,
    /// The alarms that stand in the log.
    told: Alarms,
}

impl Seat {
    fn run(&mut self, stop: &AtomicBool) -> io::Result<()> {
        while !stop.load(Ordering::Acquire) {
            self.turn();
            self.log_alarms();
            if self.mesh.may_sleep() {
                self.mesh.bell().take()?;
            }
            self.mesh.awake();
        }
        Ok(())
    }

    fn turn(&mut self) {
        let now = self.clock.now();
        self.coordinator.disk(self.space.is_low());
        for number in self.mesh.numbers() {
            while let Some(mut batch) = self.mesh.take(number) {
                self.coordinator.mesh(endpoint(number), &mut batch, now);
                self.mesh.give_back(number, batch);
            }
        }
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
