//! A shard's thread between its sockets, its rings and the pure shard.
//!
//! ```text
//!  connection tasks ── received ─┐                       ┌─▶ sockets
//!  arrivals ─────────────────────┼─▶ shard ── end_turn ──┤
//!  rings ── mesh ────────────────┤                       ├─▶ rings, bells
//!  disk ── done ─────────────────┤                       └─▶ disk
//!  timer ── tick ────────────────┘
//! ```
//!
//! The executor runs its tasks in order of waking. What is ready together is read by the tasks one
//! after the other; the first of them wakes the turn, which therefore comes behind all of them and
//! writes once for all.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use bytes::{Bytes, BytesMut};
use model::{ConnId, Map, Now};

use super::clock::Clock;
use super::connection::{Connection, End};
use super::coordinator::endpoint;
use super::disk::DiskEnd;
use super::inbox::{Arrival, Arrivals};
use super::mesh::Endpoint;
use super::output::Scratch;
use super::socket::Socket;
use super::space::Space;
use crate::shard::{Batch, ConnInfo, Gate, Shard, Trouble};

/// Octets read from one connection before the others have their turn.
const BUFFER: usize = 64 * 1024;
/// Batches taken from one ring in one turn.
const BATCHES: usize = 16;
/// What leaves for a socket reopens credit, which may bring more output. So often that is followed
/// up before the sockets are read again.
const ROUNDS: usize = 4;
/// So many microseconds busy connections are read without a look at who else is ready.
const STRAIGHT_US: u64 = 200;
/// Microseconds a client has to close its end after the broker closed its own.
const CLOSING_US: u64 = 3_000_000;

/// The core, shared by the tasks of its thread. No borrow lives across an `await`.
pub type Shared = Rc<RefCell<Core>>;

/// All that a shard's tasks share.
pub struct Core {
    /// Every socket is read into this.
    pub buffer: BytesMut,
    /// Room for slices.
    pub scratch: Scratch,
    shard: Shard,
    mesh: Endpoint<Batch>,
    disk: DiskEnd,
    space: Arc<Space>,
    arrivals: Arrivals,
    clock: Clock,
    /// The time of this turn, once somebody asked for it.
    now: Option<Now>,
    /// Their names are the shard's own counting, so the seed of the hash does not matter.
    connections: Map<ConnId, Rc<Connection>>,
    /// Connections just opened, whose tasks are to be started.
    opened: Vec<Rc<Connection>>,
    /// Connections to be read again without a notice of readiness.
    again: Vec<ConnId>,
    /// When the executor was last made to look at the kernel.
    looked_us: u64,
    /// Connections whose socket takes output again.
    unblocked: Vec<ConnId>,
    /// Connections to be closed: when, and how much was written by then.
    closing: VecDeque<(u64, ConnId, u64)>,
    stopping: bool,
    /// A batch found no room in its ring.
    unsent: bool,
    /// Why the shard cannot go on.
    broken: Option<String>,
    turn: TurnRequest,
}

/// What joins a shard with the rest of the process.
pub struct Ties {
    /// Its end of the mesh.
    pub mesh: Endpoint<Batch>,
    /// Its way to the disk.
    pub disk: DiskEnd,
    /// Whether there is room on the disk.
    pub space: Arc<Space>,
    /// Its letter box.
    pub arrivals: Arrivals,
    /// The clock that all shards share.
    pub clock: Clock,
}

/// Whether a turn is due.
#[derive(Debug, Default)]
struct TurnRequest {
    requested: bool,
    /// It is due once the tasks just woken have run.
    behind: bool,
    task: Option<Waker>,
}

impl Core {
    /// A core around the pure shard.
    #[must_use]
    pub fn new(shard: Shard, ties: Ties) -> Self {
        let Ties { mesh, disk, space, arrivals, clock } = ties;
        Self {
            buffer: BytesMut::zeroed(BUFFER),
            scratch: Scratch::default(),
            shard,
            mesh,
            disk,
            space,
            arrivals,
            clock,
            now: None,
            connections: Map::default(),
            opened: Vec::new(),
            again: Vec::new(),
            looked_us: 0,
            unblocked: Vec::new(),
            closing: VecDeque::new(),
            stopping: false,
            unsent: false,
            broken: None,
            turn: TurnRequest { requested: true, ..TurnRequest::default() },
        }
    }

    // What the tasks tell.

    /// A turn is due once the tasks that are ready have run.
    pub fn request_turn(&mut self) {
        self.turn.requested = true;
        if let Some(waker) = self.turn.task.take() {
            waker.wake();
        }
    }

    /// Whether a turn is due; if not, that task is woken when one is.
    pub fn take_request(&mut self, waker: &Waker) -> bool {
        if std::mem::take(&mut self.turn.behind) {
            // Behind the tasks that were just woken.
            self.turn.requested = true;
            waker.wake_by_ref();
            return false;
        }
        if !self.turn.requested {
            self.turn.task = Some(waker.clone());
        }
        std::mem::take(&mut self.turn.requested)
    }

    /// The connection's task is to read again after this turn, once the kernel was looked at for
    /// others. A task that woke itself would keep the executor from that.
    pub fn read_again(&mut self, conn: ConnId) {
        self.again.push(conn);
    }

    /// Has the busy connections read again: straight away for a while, then by way of the bell, so
    /// that the executor looks at the kernel.
    fn go_on(&mut self) {
        let now_us = self.clock.now().monotonic_us;
        if now_us < self.looked_us + STRAIGHT_US {
            self.wake_busy();
            self.turn.behind = true;
        } else {
            self.looked_us = now_us;
            self.mesh.bell().ring_always();
        }
    }

    fn wake_busy(&mut self) {
        for conn in self.again.drain(..) {
            if let Some(conn) = self.connections.get(&conn) {
                conn.wake();
            }
        }
    }

    /// The bell was rung: by another thread, or by this one to go on reading.
    pub fn rung(&mut self) {
        self.wake_busy();
        self.request_turn();
    }

    /// The bell cannot be heard any more: the shard is not to go on.
    pub fn deaf(&mut self, why: &str) {
        self.broken = Some(format!("cannot wait for other shards: {why}"));
        self.request_turn();
    }

    /// So many octets for that connection are in the buffer.
    pub fn received(&mut self, conn: ConnId, octets: usize) {
        let now = self.now();
        let whole = std::mem::take(&mut self.buffer).freeze();
        self.shard.receive(conn, &whole.slice(..octets), now);
        self.buffer = reclaim(whole);
        self.request_turn();
    }

    /// So many octets of that connection left.
    pub fn written(&mut self, conn: &Connection, octets: usize) {
        if octets > 0 {
            let now = self.now();
            conn.written.set(conn.written.get() + octets as u64);
            self.shard.written(conn.id, octets, now);
            self.request_turn();
        }
    }

    /// The connection's socket takes output again.
    pub fn unblocked(&mut self, conn: ConnId) {
        self.unblocked.push(conn);
        self.request_turn();
    }

    /// The connection is over.
    pub fn closed(&mut self, conn: &Connection, end: End) {
        log_end(conn, end, self.shard.why_closed(conn.id));
        let now = self.now();
        self.connections.remove(&conn.id);
        self.shard.closed(conn.id, now);
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
        let closing = self.closing.front().map(|entry| entry.0);
        self.shard.next_deadline_us().into_iter().chain(closing).min()
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
        let gone = self.stopping && self.connections.is_empty() && !self.unsent;
        gone && self.disk.is_idle() && self.shard.store_idle()
    }

    /// One turn, behind the reads. The connections it opened are for the caller to start.
    pub fn turn(&mut self) -> Vec<Rc<Connection>> {
        self.mesh.awake();
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
        self.close_the_slow(now);
        self.finish(now);
        self.now = None;
        std::mem::take(&mut self.opened)
    }

    /// Announces sleep. `false`: there is something to do after all.
    #[must_use]
    pub fn may_sleep(&mut self) -> bool {
        if !self.again.is_empty() || self.shard.unfinished() {
            self.go_on();
            return true; // A turn follows in any case: others need not ring.
        }
        if !self.mesh.may_sleep() {
            return false;
        }
        if self.disk.has_answers() {
            self.mesh.awake();
            return false;
        }
        let Some(arrival) = self.arrivals.next() else {
            return true;
        };
        self.mesh.awake();
        let now = self.now();
        self.arrived(arrival, now);
        false
    }

    fn arrived(&mut self, arrival: Arrival, now: Now) {
        match arrival {
            Arrival::Connection { stream, peer, local } => {
                tracing::info!("accepting AMQP connection {peer} -> {local}");
                let id = self.shard.opened(ConnInfo { peer, local }, now);
                let connection = Rc::new(Connection::new(id, Socket::new(stream), peer, local));
                self.connections.insert(id, Rc::clone(&connection));
                self.opened.push(connection);
            }
            Arrival::Shutdown => {
                self.stopping = true;
                self.shard.shutdown(now);
            }
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
            if !self.write_dirty(now) {
                return;
            }
            if round == ROUNDS {
                self.request_turn();
            }
        }
    }

    fn hand_out(&mut self) {
        while self.disk.has_room()
            && let Some(op) = self.shard.next_op()
        {
            self.disk.submit(op);
        }
        self.disk.ring_bells();
        while let Some(trouble) = self.shard.trouble() {
            match trouble {
                Trouble::Poisoned(why) => {
                    tracing::error!("the log of messages cannot be relied on any more: {why}");
                    self.broken = Some(why);
                }
                Trouble::Full(full) => self.space.shard_is_full(full),
                Trouble::Unreadable(queue, why) => tracing::error!(
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
        self.mesh.ring_bells();
    }

    /// Whether something left for a socket.
    fn write_dirty(&mut self, now: Now) -> bool {
        let mut wrote = false;
        while let Some(conn) = self.unblocked.pop().or_else(|| self.shard.next_dirty()) {
            wrote |= self.write(conn, now);
        }
        wrote
    }

    fn write(&mut self, id: ConnId, now: Now) -> bool {
        let Some(conn) = self.connections.get(&id).map(Rc::clone) else {
            return false;
        };
        self.look_at_gate(&conn, now);
        if conn.blocked.get() {
            return false; // The task writes; the outbox stays where the shard sees its length.
        }
        let mut output = conn.output.borrow_mut();
        if let Some(outbox) = self.shard.outbox(id).filter(|outbox| !outbox.is_empty()) {
            output.take(outbox);
        }
        if output.is_empty() {
            end_writing(&conn);
            return false;
        }
        match output.write(&conn.socket.borrow(), &mut self.scratch) {
            Ok(wrote) => {
                conn.written.set(conn.written.get() + wrote.octets as u64);
                self.shard.written(id, wrote.octets, now);
                if wrote.all {
                    end_writing(&conn);
                } else {
                    conn.blocked.set(true);
                    conn.wake();
                }
                wrote.octets > 0
            }
            Err(error) => {
                conn.fail(End::Error(error.kind()));
                false
            }
        }
    }

    fn look_at_gate(&mut self, conn: &Connection, now: Now) {
        let gate = self.shard.gate(conn.id);
        if conn.gate.replace(gate) == gate {
            return;
        }
        conn.wake();
        if gate == Gate::Closing {
            let deadline = now.monotonic_us + CLOSING_US;
            self.closing.push_back((deadline, conn.id, conn.written.get()));
        }
    }

    /// A client that still takes output gets more time; one that does nothing is cut off.
    fn close_the_slow(&mut self, now: Now) {
        while self.closing.front().is_some_and(|entry| entry.0 <= now.monotonic_us) {
            let Some((_, id, before)) = self.closing.pop_front() else {
                return;
            };
            let Some(conn) = self.connections.get(&id) else {
                continue;
            };
            let written = conn.written.get();
            if conn.ended.get() || written == before {
                conn.fail(End::Slow);
            } else {
                self.closing.push_back((now.monotonic_us + CLOSING_US, id, written));
            }
        }
    }
}

/// Called with nothing left to write: on a connection that closes this is the end.
fn end_writing(conn: &Connection) {
    if conn.gate.get() == Gate::Closing && !conn.ended.replace(true) {
        conn.socket.borrow().end_writing();
    }
}

fn log_end(conn: &Connection, end: End, why: Option<&str>) {
    let Connection { peer, local, .. } = conn;
    if let Some(why) = why {
        // A client's octets may be in it.
        let why = why.escape_debug();
        return tracing::error!("closing AMQP connection {peer} -> {local}: {why}");
    }
    match (conn.gate.get(), end) {
        (Gate::Closing, End::Slow) => {
            tracing::info!(
                "closing AMQP connection {peer} -> {local}: the client kept its end open"
            );
        }
        (Gate::Closing, _) => tracing::info!("closing AMQP connection {peer} -> {local}"),
        (_, End::Error(why)) => {
            tracing::warn!("closing AMQP connection {peer} -> {local}: {why}");
        }
        _ => tracing::warn!(
            "closing AMQP connection {peer} -> {local}: client unexpectedly closed TCP connection"
        ),
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
