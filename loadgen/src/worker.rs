//! One thread's event loop over several connections.
//!
//! ```text
//!   phase? -> publish what is due -> tell the counters -> wait -> read, answer, write
//!     ^                                                                   |
//!     +-------------------------------------------------------------------+
//! ```
//!
//! A producer is in exactly one place: in `ready` (goes at once), in `timers` (its next message is
//! due then), waiting for its socket, or held by its window until an answer comes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::account::Account;
use crate::clock::{self, SECOND};
use crate::connection::Connection;
use crate::consumer::Consumer;
use crate::failure::Failure;
use crate::latency::Latency;
use crate::ledger::{Ledger, Measured};
use crate::poll::{Poll, Ready, Watch};
use crate::producer::{Fill, Producer, Results};
use crate::shared::{Figures, Phase, Shared};
use crate::socket::{Socket, Written};

/// The key of the waker in the epoll set.
const WAKER: usize = usize::MAX;
/// How long closes may take (ns).
const CLOSE_MAX: u64 = 10 * SECOND;
/// How long after the stop producers with a schedule may send what was due before it (ns).
pub const GRACE: u64 = SECOND;

/// When a run does what (ns of CLOCK_MONOTONIC), the same for all its workers.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// The first message is due.
    pub start: u64,
    /// The warm-up is over.
    pub measure_from: u64,
    /// No message is due any more.
    pub stop: u64,
    /// How many producers the run has.
    pub producers: usize,
    /// Whether the peer speaks AMQP and connections are closed in order.
    pub polite: bool,
    /// Never wait in the system.
    pub spin: bool,
}

/// What a connection is for.
#[derive(Debug)]
pub enum Role {
    /// It publishes.
    Producer(Box<Producer>),
    /// It consumes.
    Consumer(Box<Consumer>),
}

#[derive(Debug)]
struct Member {
    socket: Socket,
    role: Role,
    /// A producer that is in `ready` or in `timers`.
    scheduled: bool,
    /// The socket is watched for room.
    blocked: bool,
    gone: bool,
}

/// What became of a worker's connections.
#[derive(Debug)]
pub struct Outcome {
    /// Who got what.
    pub account: Account,
    /// From the intended time to the receipt.
    pub latency: Latency,
    /// From the intended time to the confirm.
    pub confirm_latency: Latency,
    /// Messages received after the warm-up.
    pub received: Measured,
    /// Messages sent after the warm-up.
    pub sent: Measured,
    /// Messages wholly written.
    pub written: u64,
    /// Messages due and never sent.
    pub unsent: u64,
    /// Messages returned.
    pub returned: u64,
    /// Messages confirmed.
    pub confirmed: u64,
    /// Messages refused.
    pub nacked: u64,
    /// Messages without a confirm at the end.
    pub unconfirmed: u64,
    /// Connections whose close was not answered.
    pub unanswered: u64,
    /// CPU time of the worker's thread (ns).
    pub cpu: u64,
}

/// An event loop and its connections.
#[derive(Debug)]
pub struct Worker {
    number: usize,
    plan: Plan,
    shared: Arc<Shared>,
    poll: Poll,
    members: Vec<Member>,
    ready: Vec<usize>,
    timers: BinaryHeap<Reverse<(u64, usize)>>,
    ledger: Ledger,
    results: Results,
    phase: Phase,
    stopped_at: u64,
    close_by: u64,
}

impl Worker {
    /// A worker without connections.
    ///
    /// # Errors
    /// The system has no descriptors left.
    pub fn new(number: usize, plan: Plan, shared: Arc<Shared>) -> Result<Self, Failure> {
        let poll = Poll::new()?;
        poll.add(shared.figures[number].waker.source(), WAKER, Watch::Input)?;
        Ok(Self {
            number,
            plan,
            poll,
            members: Vec::new(),
            ready: Vec::new(),
            timers: BinaryHeap::new(),
            ledger: Ledger::new(plan.producers, plan.start, plan.measure_from),
            results: Results::new(plan.measure_from),
            phase: Phase::Publish,
            stopped_at: u64::MAX,
            close_by: u64::MAX,
            shared,
        })
    }

    /// Takes a connection over.
    ///
    /// # Errors
    /// The system refuses.
    pub fn add(&mut self, connection: Connection, role: Role) -> Result<(), Failure> {
        let index = self.members.len();
        let socket = Socket::new(connection.stream, connection.incoming)?;
        self.poll.add(&socket.stream, index, Watch::Input)?;
        let scheduled = matches!(role, Role::Producer(_));
        let figures = self.figures();
        if scheduled {
            figures.producing.fetch_add(1, Ordering::AcqRel);
            self.ready.push(index);
        } else {
            figures.consuming.fetch_add(1, Ordering::AcqRel);
        }
        self.members.push(Member { socket, role, scheduled, blocked: false, gone: false });
        Ok(())
    }

    fn figures(&self) -> &Figures {
        &self.shared.figures[self.number]
    }

    /// Runs until all connections are closed.
    ///
    /// # Errors
    /// The first that goes wrong; the leading thread is told.
    pub fn run(mut self) -> Result<Outcome, Failure> {
        let done = self.turns();
        if done.is_err() {
            self.shared.fail();
        }
        done.map(|()| self.outcome())
    }

    fn turns(&mut self) -> Result<(), Failure> {
        let mut ready = Vec::new();
        for index in 0..self.members.len() {
            // The set-up may have received deliveries behind consume-ok.
            self.take(index)?;
        }
        loop {
            let now = clock::now();
            self.advance(now)?;
            if self.is_done(now) {
                return Ok(());
            }
            self.publish(now)?;
            self.tell();
            ready.clear();
            let patience = self.patience();
            self.poll.wait(patience, &mut ready)?;
            for event in &ready {
                self.on_ready(event)?;
            }
        }
    }

    /// Follows the phase of the run.
    fn advance(&mut self, now: u64) -> Result<(), Failure> {
        let phase = self.shared.phase();
        if phase > Phase::Publish || now >= self.plan.stop.saturating_add(GRACE) {
            self.stop_producers(now);
        }
        if phase == self.phase {
            return Ok(());
        }
        self.phase = phase;
        if phase == Phase::Close {
            self.close_by = now + CLOSE_MAX;
            for index in 0..self.members.len() {
                self.close(index)?;
            }
        }
        Ok(())
    }

    fn stop_producers(&mut self, now: u64) {
        self.stopped_at = self.stopped_at.min(now);
        if self.figures().producing.load(Ordering::Acquire) == 0 {
            return;
        }
        for member in &mut self.members {
            if let Role::Producer(producer) = &mut member.role {
                producer.stop();
            }
        }
        self.figures().producing.store(0, Ordering::Release);
        self.shared.tell();
    }

    fn close(&mut self, index: usize) -> Result<(), Failure> {
        let member = &mut self.members[index];
        if !self.plan.polite {
            member.gone = true;
            return Ok(());
        }
        match &mut member.role {
            Role::Producer(producer) => producer.close(&mut member.socket.out),
            Role::Consumer(consumer) => consumer.close(&mut member.socket.out),
        }
        self.write(index).map(|_| ())
    }

    fn is_done(&self, now: u64) -> bool {
        self.phase == Phase::Close
            && (now >= self.close_by || self.members.iter().all(|member| member.gone))
    }

    /// Lets every producer publish that may.
    fn publish(&mut self, now: u64) -> Result<(), Failure> {
        while let Some(&Reverse((due, index))) = self.timers.peek()
            && due <= now
        {
            self.timers.pop();
            self.ready.push(index);
        }
        // Those that go on at once enter the list anew, behind this turn's reads.
        for index in std::mem::take(&mut self.ready) {
            self.members[index].scheduled = false;
            self.pump(index, now)?;
        }
        Ok(())
    }

    fn pump(&mut self, index: usize, now: u64) -> Result<(), Failure> {
        let member = &mut self.members[index];
        let Role::Producer(producer) = &mut member.role else {
            return Ok(());
        };
        if member.blocked || producer.is_over() {
            return Ok(());
        }
        match producer.fill(now, &mut self.results) {
            Fill::Ready => {
                let next = producer.next();
                if self.write(index)? == Written::All {
                    self.schedule(index, next);
                }
            }
            Fill::At(due) => self.schedule(index, Some(due)),
            Fill::Held => {}
            Fill::Over => {
                producer.stop();
                self.figures().producing.fetch_sub(1, Ordering::AcqRel);
                self.shared.tell();
            }
        }
        Ok(())
    }

    fn schedule(&mut self, index: usize, due: Option<u64>) {
        let member = &mut self.members[index];
        if std::mem::replace(&mut member.scheduled, true) {
            return;
        }
        match due {
            Some(due) => self.timers.push(Reverse((due, index))),
            None => self.ready.push(index),
        }
    }

    /// Writes what a connection has pending, and watches for room if it does not all go.
    fn write(&mut self, index: usize) -> Result<Written, Failure> {
        let member = &mut self.members[index];
        let publishes = match &mut member.role {
            Role::Producer(producer) => Some(&mut producer.publishes),
            Role::Consumer(_) => None,
        };
        let written = member.socket.write(publishes)?;
        if written == Written::Broken {
            return Err(self.last_words(index));
        }
        let blocked = written == Written::Blocked;
        if blocked != member.blocked {
            member.blocked = blocked;
            let watch = if blocked { Watch::Both } else { Watch::Input };
            self.poll.modify(&member.socket.stream, index, watch)?;
        }
        Ok(written)
    }

    /// The peer takes nothing any more; it may have said why before it went.
    fn last_words(&mut self, index: usize) -> Failure {
        loop {
            let received = self.members[index].socket.receive().map(|_| ());
            let taken = received.and_then(|()| self.take(index));
            if let Err(failure) = taken {
                return failure;
            }
        }
    }

    fn on_ready(&mut self, event: &Ready) -> Result<(), Failure> {
        if event.key == WAKER {
            return self.figures().waker.reset();
        }
        if self.members[event.key].gone {
            return Ok(());
        }
        if event.input && self.members[event.key].socket.receive()? {
            self.take(event.key)?;
        }
        if event.output && self.members[event.key].blocked {
            let written = self.write(event.key)?;
            if written == Written::All {
                self.schedule(event.key, None);
            }
        }
        Ok(())
    }

    /// Takes the frames that a connection has received, and answers.
    fn take(&mut self, index: usize) -> Result<(), Failure> {
        let now = clock::now();
        let member = &mut self.members[index];
        let Socket { incoming, out, .. } = &mut member.socket;
        let closed = match &mut member.role {
            Role::Producer(producer) => {
                producer.take(incoming, now, &mut self.results, out)?;
                producer.is_closed()
            }
            Role::Consumer(consumer) => {
                let had_enough = consumer.has_enough();
                consumer.take(incoming, now, &mut self.ledger, out)?;
                if consumer.has_enough() && !had_enough {
                    self.shared.figures[self.number].consuming.fetch_sub(1, Ordering::AcqRel);
                    self.shared.tell();
                }
                consumer.is_closed()
            }
        };
        if closed {
            member.gone = true;
            return self.poll.remove(&member.socket.stream);
        }
        if !member.socket.out.is_empty() && !member.blocked {
            self.write(index)?;
        }
        self.reopen(index);
        Ok(())
    }

    /// An answer may have opened the window of a producer that is held.
    fn reopen(&mut self, index: usize) {
        if let Role::Producer(_) = self.members[index].role {
            self.schedule(index, None);
            return;
        }
        if self.plan.polite {
            return;
        }
        let arrived = self.ledger.received();
        for index in 0..self.members.len() {
            if let Role::Producer(producer) = &mut self.members[index].role
                && producer.arrived(arrived)
            {
                self.schedule(index, None);
            }
        }
    }

    fn tell(&self) {
        let figures = self.figures();
        let open = self.members.iter().filter_map(|member| match &member.role {
            Role::Producer(producer) => Some(producer.unconfirmed()),
            Role::Consumer(_) => None,
        });
        figures.sent.store(self.results.sent, Ordering::Release);
        figures.received.store(self.ledger.received(), Ordering::Release);
        figures.returned.store(self.results.returned, Ordering::Release);
        figures.confirmed.store(self.results.confirmed, Ordering::Release);
        figures.nacked.store(self.results.nacked, Ordering::Release);
        if self.phase == Phase::Drain {
            figures.unconfirmed.store(open.sum(), Ordering::Release);
            figures.at_rest.store(true, Ordering::Release);
            self.shared.tell();
        }
    }

    /// How long there is nothing to do (ns).
    fn patience(&self) -> Option<u64> {
        if self.plan.spin || !self.ready.is_empty() {
            return Some(0);
        }
        let due = self.timers.peek().map_or(u64::MAX, |Reverse((due, _))| *due);
        let stop = if self.phase == Phase::Publish {
            self.plan.stop.saturating_add(GRACE)
        } else {
            u64::MAX
        };
        let next = due.min(stop).min(self.close_by);
        (next != u64::MAX).then(|| next.saturating_sub(clock::now()))
    }

    fn outcome(self) -> Outcome {
        let producers = || {
            self.members.iter().filter_map(|member| match &member.role {
                Role::Producer(producer) => Some(producer),
                Role::Consumer(_) => None,
            })
        };
        Outcome {
            written: producers().map(|producer| producer.written()).sum(),
            unsent: producers().map(|producer| producer.unsent(self.stopped_at)).sum(),
            unconfirmed: producers().map(|producer| producer.unconfirmed()).sum(),
            unanswered: self.members.iter().filter(|member| !member.gone).count() as u64,
            cpu: clock::thread_cpu(),
            account: self.ledger.account,
            latency: self.ledger.latency,
            confirm_latency: self.results.latency,
            received: self.ledger.measured,
            sent: self.results.measured,
            returned: self.results.returned,
            confirmed: self.results.confirmed,
            nacked: self.results.nacked,
        }
    }
}
