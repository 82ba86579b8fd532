//! A shard's thread between its sockets, its rings and the pure shard, whichever poller drives it.
//!
//! ```text
//!  poller ── received, wrote ────┐                       ┌─▶ sockets
//!  arrivals ─────────────────────┼─▶ shard ── end_turn ──┤
//!  rings ── mesh ────────────────┤                       ├─▶ rings, wake-ups
//!  disk ── done ─────────────────┤                       └─▶ disk
//!  timer ── tick ────────────────┘
//! ```
//!
//! A poller reads every socket that is ready, then calls [`Core::turn`]: what all of them caused is
//! written once, behind the last read.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use model::Now;

use super::clock::Clock;
use super::coordinator::endpoint;
use crate::mesh::Batch;
use crate::queues::StorageError;
use crate::runtime::disk::DiskEnd;
use crate::runtime::disk::free_space::FreeSpace;
use crate::runtime::inspect::ShardQuestions;
use crate::runtime::memory::give_back::ShardCollector;
use crate::runtime::net::client_socket::{ClientRc, End};
use crate::runtime::net::clients::{ClientRules, Clients};
use crate::runtime::net::inbox::{Arrival, Arrivals};
use crate::runtime::net::output::Wrote;
use crate::runtime::net::socket::Socket;
use crate::runtime::rings::Endpoint;
use crate::runtime::wakeup::Wakeup;
use crate::shard::{Gate, Shard};

/// Bytes read from one connection before the others have their turn.
const BUFFER: usize = 64 * 1024;
/// Batches taken from one ring in one turn.
const BATCHES: usize = 16;
/// What leaves for a socket reopens credit, which may bring more output. So often that is followed
/// up before the sockets are read again, unless the shard has put work off.
const ROUNDS: usize = 4;

/// The shard and all its ways to the outside.
pub struct Core<S> {
    /// Every socket is read into this.
    pub buffer: BytesMut,
    /// The clients and their sockets.
    pub clients: Clients<S>,
    shard: Shard,
    mesh: Endpoint<Batch>,
    disk: DiskEnd,
    space: Arc<FreeSpace>,
    collector: ShardCollector,
    arrivals: Arrivals,
    questions: ShardQuestions,
    clock: Clock,
    /// The time of this turn, once somebody asked for it.
    now: Option<Now>,
    stopping: bool,
    /// A batch found no room in its ring.
    unsent: bool,
    /// Why the shard cannot go on.
    broken: Option<String>,
    /// A turn is due without waiting for anything.
    requested: bool,
}

/// What joins a shard with the rest of the process.
pub struct ShardLinks {
    /// Its end of the mesh.
    pub mesh: Endpoint<Batch>,
    /// Its way to the disk.
    pub disk: DiskEnd,
    /// Whether there is room on the disk.
    pub space: Arc<FreeSpace>,
    /// Returns freed memory.
    pub collector: ShardCollector,
    /// Its letter box.
    pub arrivals: Arrivals,
    /// What threads outside the data path ask it.
    pub questions: ShardQuestions,
    /// The clock that all shards share.
    pub clock: Clock,
}

impl<S: Socket> Core<S> {
    /// A core around the pure shard. Its first turn is due.
    #[must_use]
    pub fn new(shard: Shard, links: ShardLinks, rules: ClientRules) -> Self {
        let ShardLinks { mesh, disk, space, collector, arrivals, questions, clock } = links;
        Self {
            buffer: BytesMut::zeroed(BUFFER),
            clients: Clients::new(rules),
            shard,
            mesh,
            disk,
            space,
            collector,
            arrivals,
            questions,
            clock,
            now: None,
            stopping: false,
            unsent: false,
            broken: None,
            requested: true,
        }
    }

    // What the poller tells.

    /// A turn is due once what is ready has been read.
    pub fn request_turn(&mut self) {
        self.requested = true;
    }

    /// Whether a turn is due.
    #[must_use]
    pub fn turn_requested(&self) -> bool {
        self.requested
    }

    /// The thread cannot be woken any more: the shard must not go on.
    pub fn cannot_wait(&mut self, why: &str) {
        self.broken = Some(format!("cannot wait for other shards: {why}"));
        self.request_turn();
    }

    /// The first bytes of the buffer are that client's.
    pub fn received(&mut self, client: &ClientRc<S>, bytes: usize) {
        if client.gate.get() == Gate::Closing {
            return; // Nothing more of what it sends counts.
        }
        // What was read before may have taken long: this client has sent now.
        let now = self.clock.now();
        self.now = Some(now);
        let whole = std::mem::take(&mut self.buffer).freeze();
        let chunk = whole.slice(..bytes);
        match client.id.get() {
            Some(id) => self.shard.receive(id, &chunk, now),
            None => self.clients.staged(client, &chunk, &mut self.shard, now),
        }
        drop(chunk);
        self.buffer = reclaim(whole);
        self.request_turn();
    }

    /// The poller wrote for a client that was blocked.
    pub fn wrote(&mut self, client: &ClientRc<S>, wrote: Wrote) {
        let now = self.now();
        self.clients.wrote(client, wrote, &mut self.shard, now);
        self.request_turn();
    }

    /// Writes for a client that was blocked and whose socket takes output again.
    ///
    /// # Errors
    ///
    /// The socket's.
    pub fn write_more(&mut self, client: &ClientRc<S>) -> io::Result<()> {
        let mut output = client.output.borrow_mut();
        let wrote = output.write(&client.socket, self.clients.scratch())?;
        drop(output);
        self.wrote(client, wrote);
        Ok(())
    }

    /// The connection is over: the poller does not know it any more.
    pub fn closed(&mut self, client: &ClientRc<S>, end: End) {
        let now = self.now();
        self.clients.closed(client, end, &mut self.shard, now);
        self.arrivals.closed();
        self.request_turn();
    }

    // The turn.

    /// The moment of this turn.
    fn now(&mut self) -> Now {
        *self.now.get_or_insert_with(|| self.clock.now())
    }

    /// When there is something to do even if nothing happens until then.
    #[must_use]
    pub fn deadline_us(&self) -> Option<u64> {
        let (shard, clients) = (self.shard.next_deadline_us(), self.clients.deadline_us());
        [shard, clients, self.collector.deadline_us()].into_iter().flatten().min()
    }

    /// What other threads wake this one by.
    #[must_use]
    pub fn wakeup(&self) -> &Arc<Wakeup> {
        self.mesh.wakeup()
    }

    /// The present, for the timer.
    #[must_use]
    pub fn clock(&self) -> Now {
        self.clock.now()
    }

    /// Why the shard is not to go on.
    #[must_use]
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// Whether the shard was told to end, has no connection left, and all is where it belongs.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let gone = self.stopping && self.clients.is_empty() && !self.unsent;
        gone && self.disk.is_idle() && self.shard.store_idle()
    }

    /// Whether the shard has work that it put off: a turn is due once others were looked at.
    #[must_use]
    pub fn unfinished(&self) -> bool {
        self.shard.unfinished() || self.questions.has_next()
    }

    /// The thread woke up: others need not wake it.
    pub fn awake(&self) {
        self.mesh.awake();
    }

    /// One turn, behind the reads.
    pub fn turn(&mut self) {
        self.mesh.awake();
        self.requested = false;
        let now = self.now();
        while let Some(arrival) = self.arrivals.next() {
            self.arrived(arrival, now);
        }
        while let Some(done) = self.disk.next_done() {
            self.shard.done(done, now);
        }
        self.take_batches(now);
        if self.shard.next_deadline_us().is_some_and(|deadline| deadline <= now.monotonic_us) {
            self.shard.tick(now);
        }
        self.clients.end_the_slow(now);
        self.take_question(now);
        self.finish(now);
        self.answer_questions();
        if self.is_over() || self.broken.is_some() {
            self.questions.close();
        }
        self.now = None;
    }

    /// Announces sleep. `false`: there is something to do after all.
    #[must_use]
    pub fn may_sleep(&mut self) -> bool {
        if !self.mesh.may_sleep() {
            return false;
        }
        if self.disk.has_answers() {
            self.mesh.awake();
            return false;
        }
        if self.questions.waits() {
            self.mesh.awake();
            return false;
        }
        let Some(arrival) = self.arrivals.next() else {
            let now_us = self.clock.now().monotonic_us;
            self.collector.before_sleep(self.shard.memory(), now_us);
            return true;
        };
        self.mesh.awake();
        let now = self.now();
        self.arrived(arrival, now);
        false
    }

    fn arrived(&mut self, arrival: Arrival, now: Now) {
        match arrival {
            Arrival::Socket { stream, peer, local } => {
                self.clients.arrived(stream, (peer, local), &mut self.shard, now);
            }
            Arrival::Shutdown => {
                self.stopping = true;
                self.clients.stop();
                self.shard.shutdown(now);
            }
        }
    }

    /// One in a turn: clients and other shards have theirs before the next.
    fn take_question(&mut self, now: Now) {
        if let Some((id, request)) = self.questions.take() {
            self.shard.inspect(id, request, now);
        }
    }

    /// Hands over what is answered, and sees whether another question waits.
    fn answer_questions(&mut self) {
        if self.questions.is_answering() {
            while let Some((id, answer)) = self.shard.next_inspected() {
                self.questions.answer(id, answer);
            }
            self.questions.waits();
        }
    }

    fn take_batches(&mut self, now: Now) {
        for number in self.mesh.numbers() {
            for _ in 0..BATCHES {
                let Some(mut batch) = self.mesh.take(number) else {
                    break;
                };
                self.shard.mesh(endpoint(number), &mut batch, now);
                self.mesh.give_back(number, batch);
            }
        }
    }

    /// Everything that was caused goes out.
    fn finish(&mut self, now: Now) {
        for round in 1..=ROUNDS {
            self.shard.end_turn(now);
            // First: the disk works while the rest goes out.
            self.hand_out();
            self.send_batches();
            if !self.clients.write_dirty(&mut self.shard, now) {
                return;
            }
            // Another round would have the work of a turn to itself: sockets are read before.
            if round == ROUNDS || self.shard.unfinished() {
                return self.request_turn();
            }
        }
    }

    fn hand_out(&mut self) {
        while self.disk.has_room()
            && let Some(op) = self.shard.next_op()
        {
            self.disk.submit(op);
        }
        self.disk.wake_threads();
        while let Some(trouble) = self.shard.storage_error() {
            match trouble {
                StorageError::Poisoned(why) => {
                    tracing::error!("the log of messages cannot be relied on any more: {why}");
                    self.broken = Some(why);
                }
                StorageError::Full(why) => self.space.shard_lacks(why),
                StorageError::Unreadable(queue, why) => tracing::error!(
                    "{queue} is out of service, the others go on: {why}; restore the file and \
                     restart, or purge or delete the queue"
                ),
            }
        }
    }

    fn send_batches(&mut self) {
        self.unsent = false;
        for number in self.mesh.numbers() {
            let batch = self.shard.outbound(endpoint(number));
            if !batch.is_empty() {
                // Where the ring is full the batch stays, and the peer rings when it is not.
                self.unsent |= !self.mesh.send(number, batch);
            }
        }
        self.mesh.wake_peers();
    }
}

/// The buffer again, unless the shard kept a piece of it.
fn reclaim(whole: Bytes) -> BytesMut {
    whole.try_into_mut().unwrap_or_else(|_kept| BytesMut::zeroed(BUFFER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_nobody_kept_is_used_again() {
        let buffer = BytesMut::zeroed(BUFFER);
        let memory = buffer.as_ptr();
        let whole = buffer.freeze();
        drop(whole.slice(..10));
        let mut again = reclaim(whole);
        assert_eq!((again.as_ptr(), again.len()), (memory, BUFFER));
        for _ in 0..3 {
            again = reclaim(again.freeze());
            assert_eq!((again.as_ptr(), again.len()), (memory, BUFFER));
        }
        let whole = again.freeze();
        let kept = whole.slice(..10);
        assert_ne!(reclaim(whole).as_ptr(), kept.as_ptr());
    }
}
