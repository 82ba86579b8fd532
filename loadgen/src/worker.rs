//! One thread's event loop over several connections.
//!
//! ```text
//!   phase? -> publish what is due -> tell the counters -> wait -> read, answer, write
//!     ^                                                                   |
//!     +-------------------------------------------------------------------+
//! ```
//!
//! A producer is in exactly one place: in `ready` (goes at once), in `timers` (its next message is
//! due then), waiting for its socket, or held by its window until an answer comes. A connection is
//! a member; it has a lane for each of its channels, most have one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::clock::{self, SECOND};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::lane::{Lane, Role};
use crate::ledger::Ledger;
use crate::plan::{Outcome, Plan};
use crate::poll::{Poll, Ready, Watch};
use crate::producer::{Fill, Results};
use crate::shared::{Figures, Phase, Shared};
use crate::socket::{Socket, Written};

/// The key of the waker in the epoll set.
const WAKER: usize = usize::MAX;
/// How long closes may take (ns).
const CLOSE_MAX: u64 = 10 * SECOND;
/// How long after the stop producers with a schedule may send what was due before it (ns).
pub const GRACE: u64 = SECOND;

#[derive(Debug)]
struct Member {
    socket: Socket,
    /// Its first lane, that of channel 1.
    first: usize,
    /// How many lanes it has.
    lanes: usize,
    /// The lane whose publishes may be half written.
    writing: usize,
    /// The socket is watched for room.
    blocked: bool,
    /// The socket is not read: a consumer has more than it can take care of.
    muted: bool,
    /// The first lane has said goodbye for all.
    leaving: bool,
    gone: bool,
}

impl Member {
    fn lanes(&self) -> std::ops::Range<usize> {
        self.first..self.first + self.lanes
    }
}

/// An event loop and its connections.
#[derive(Debug)]
pub struct Worker {
    number: usize,
    plan: Plan,
    shared: Arc<Shared>,
    poll: Poll,
    members: Vec<Member>,
    lanes: Vec<Lane>,
    idle_lost: u64,
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
            lanes: Vec::new(),
            idle_lost: 0,
            ready: Vec::new(),
            timers: BinaryHeap::new(),
            ledger: Ledger::new(plan.producers, plan.start, plan.measure_from)
                .giving_back(plan.gives_back),
            results: Results::new(plan.measure_from),
            phase: Phase::Publish,
            stopped_at: u64::MAX,
            close_by: u64::MAX,
            shared,
        })
    }

    /// Takes a connection over; the first role is that of channel 1, and so on.
    ///
    /// # Errors
    /// The system refuses.
    pub fn add(&mut self, connection: Connection, roles: Vec<Role>) -> Result<(), Failure> {
        let member = self.members.len();
        let socket = Socket::new(connection.stream, connection.incoming)?;
        self.poll.add(&socket.stream, member, Watch::Input)?;
        let (first, lanes) = (self.lanes.len(), roles.len());
        for role in roles {
            let figures = self.figures();
            let count = match &role {
                Role::Producer(_) => Some(&figures.producing),
                Role::Consumer(_) => Some(&figures.consuming),
                Role::Idle(_) => None,
            };
            if let Some(count) = count {
                count.fetch_add(1, Ordering::AcqRel);
            }
            let scheduled = !matches!(role, Role::Consumer(_));
            if scheduled {
                self.ready.push(self.lanes.len());
            }
            self.lanes.push(Lane { member, role, scheduled });
        }
        let (blocked, muted, leaving, gone, writing) = (false, false, false, false, first);
        self.members.push(Member { socket, first, lanes, writing, blocked, muted, leaving, gone });
        Ok(())
    }

    fn figures(&self) -> &Figures {
        &self.shared.figures[self.number]
    }

    /// Runs until all connections are closed or one goes wrong; then the leading thread is told.
    /// What was seen until then counts either way.
    pub fn run(mut self) -> (Outcome, Result<(), Failure>) {
        let done = self.turns();
        if done.is_err() {
            self.stopped_at = self.stopped_at.min(clock::now());
            self.shared.fail();
        }
        (self.outcome(), done)
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
            self.stop_producers(now)?;
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

    fn stop_producers(&mut self, now: u64) -> Result<(), Failure> {
        self.stopped_at = self.stopped_at.min(now);
        if self.figures().producing.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        for lane in 0..self.lanes.len() {
            self.stop(lane)?;
        }
        self.figures().producing.store(0, Ordering::Release);
        self.shared.tell();
        Ok(())
    }

    /// Lets a producer publish no more; what it has begun is committed.
    fn stop(&mut self, lane: usize) -> Result<(), Failure> {
        let Lane { member, role, .. } = &mut self.lanes[lane];
        let member = *member;
        if let Role::Producer(producer) = role {
            producer.stop();
            producer.commit(&mut self.members[member].socket.out);
            if !self.members[member].socket.out.is_empty() {
                self.write(member)?;
            }
        }
        Ok(())
    }

    /// Leaves in order: the first channel is the last to go.
    fn close(&mut self, index: usize) -> Result<(), Failure> {
        let member = &mut self.members[index];
        if !self.plan.polite {
            member.gone = true;
        }
        if member.gone {
            return Ok(());
        }
        let now = clock::now();
        for lane in member.lanes().skip(1) {
            self.lanes[lane].role.close(now, &mut self.ledger, &mut member.socket.out);
        }
        self.leave(index);
        self.write(index).map(|_| ())
    }

    /// The first lane says goodbye once all others have.
    fn leave(&mut self, index: usize) {
        let member = &mut self.members[index];
        let closed = |lane: usize| self.lanes[lane].role.is_closed();
        if member.leaving || !member.lanes().skip(1).all(closed) {
            return;
        }
        member.leaving = true;
        let role = &mut self.lanes[member.first].role;
        role.close(clock::now(), &mut self.ledger, &mut member.socket.out);
    }

    fn is_done(&self, now: u64) -> bool {
        self.phase == Phase::Close
            && (now >= self.close_by || self.members.iter().all(|member| member.gone))
    }

    /// Lets every producer publish that may.
    fn publish(&mut self, now: u64) -> Result<(), Failure> {
        while let Some(&Reverse((due, lane))) = self.timers.peek()
            && due <= now
        {
            self.timers.pop();
            self.ready.push(lane);
        }
        // Those that go on at once enter the list anew, behind this turn's reads.
        for lane in std::mem::take(&mut self.ready) {
            self.lanes[lane].scheduled = false;
            self.pump(lane, now)?;
        }
        Ok(())
    }

    fn pump(&mut self, lane: usize, now: u64) -> Result<(), Failure> {
        let Lane { member: index, role, .. } = &mut self.lanes[lane];
        let index = *index;
        let Role::Producer(producer) = role else {
            return self.work(lane, now);
        };
        let member = &mut self.members[index];
        if member.blocked || producer.is_over() {
            return Ok(());
        }
        match producer.fill(now, &mut self.results) {
            Fill::Ready => {
                let next = producer.next();
                producer.commit(&mut member.socket.out);
                member.writing = lane;
                if self.write(index)? == Written::All {
                    self.schedule(lane, next);
                }
            }
            Fill::At(due) => self.schedule(lane, Some(due)),
            Fill::Held => {}
            Fill::Over => {
                self.stop(lane)?;
                self.figures().producing.fetch_sub(1, Ordering::AcqRel);
                self.shared.tell();
            }
        }
        Ok(())
    }

    /// Lets a careful consumer or an idle connection do what is due.
    fn work(&mut self, lane: usize, now: u64) -> Result<(), Failure> {
        let Lane { member: index, role, .. } = &mut self.lanes[lane];
        let index = *index;
        let member = &mut self.members[index];
        if member.gone {
            return Ok(());
        }
        let out = &mut member.socket.out;
        let (next, enough) = match role {
            Role::Producer(_) => (None, false),
            Role::Idle(idle) => (idle.beat(now, out), false),
            Role::Consumer(consumer) => {
                let had_enough = consumer.has_enough();
                consumer.work(now, &mut self.ledger, out);
                (consumer.wakes_at(), consumer.has_enough() && !had_enough)
            }
        };
        self.count_enough(enough);
        if next.is_some() {
            self.schedule(lane, next);
        }
        self.mute(index)?;
        self.flush(index)
    }

    fn count_enough(&self, enough: bool) {
        if enough {
            self.figures().consuming.fetch_sub(1, Ordering::AcqRel);
            self.shared.tell();
        }
    }

    /// Reads a connection no more while one of its consumers has too much, or again.
    fn mute(&mut self, index: usize) -> Result<(), Failure> {
        let full = |lane: usize| self.lanes[lane].role.is_full();
        let muted = self.members[index].lanes().any(full);
        if std::mem::replace(&mut self.members[index].muted, muted) != muted {
            self.watch(index)?;
        }
        Ok(())
    }

    fn watch(&self, index: usize) -> Result<(), Failure> {
        let member = &self.members[index];
        let watch = match (member.blocked, member.muted) {
            (false, false) => Watch::Input,
            (true, false) => Watch::Both,
            (true, true) => Watch::Output,
            (false, true) => Watch::Nothing,
        };
        self.poll.modify(&member.socket.stream, index, watch)
    }

    fn schedule(&mut self, lane: usize, due: Option<u64>) {
        if std::mem::replace(&mut self.lanes[lane].scheduled, true) {
            return;
        }
        match due {
            Some(due) => self.timers.push(Reverse((due, lane))),
            None => self.ready.push(lane),
        }
    }

    fn flush(&mut self, index: usize) -> Result<(), Failure> {
        let member = &self.members[index];
        if !member.socket.out.is_empty() && !member.blocked {
            self.write(index)?;
        }
        Ok(())
    }

    /// Writes what a connection has pending, and watches for room if it does not all go.
    fn write(&mut self, index: usize) -> Result<Written, Failure> {
        let member = &mut self.members[index];
        let publishes = match &mut self.lanes[member.writing].role {
            Role::Producer(producer) => Some(&mut producer.publishes),
            _ => None,
        };
        let written = member.socket.write(publishes)?;
        if written == Written::Broken {
            return Err(self.last_words(index));
        }
        let blocked = written == Written::Blocked;
        if blocked != member.blocked {
            member.blocked = blocked;
            self.watch(index)?;
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
        match self.serve(event) {
            Err(failure) if self.is_idle(event.key) => self.lose(event.key, &failure),
            served => served,
        }
    }

    fn serve(&mut self, event: &Ready) -> Result<(), Failure> {
        if event.input && self.members[event.key].socket.receive()? {
            self.take(event.key)?;
        }
        if event.output && self.members[event.key].blocked {
            let written = self.write(event.key)?;
            if written == Written::All {
                self.reopen(event.key);
            }
        }
        Ok(())
    }

    fn is_idle(&self, index: usize) -> bool {
        matches!(self.lanes[self.members[index].first].role, Role::Idle(_))
    }

    /// An idle connection has ended. That is told, but messages still count.
    fn lose(&mut self, index: usize, failure: &Failure) -> Result<(), Failure> {
        if self.idle_lost == 0 {
            eprintln!("an idle connection is lost: {failure}");
        }
        self.idle_lost += 1;
        self.members[index].gone = true;
        self.poll.remove(&self.members[index].socket.stream)
    }

    /// Takes the frames that a connection has received, and answers.
    fn take(&mut self, index: usize) -> Result<(), Failure> {
        let now = clock::now();
        let Member { first, lanes, .. } = self.members[index];
        if lanes == 1 {
            self.take_lane(index, first, now)?;
        } else {
            self.deal(index, now)?;
        }
        if self.lanes[first].role.is_closed() {
            self.members[index].gone = true;
            return self.poll.remove(&self.members[index].socket.stream);
        }
        if self.phase == Phase::Close && lanes > 1 {
            self.leave(index);
        }
        self.flush(index)?;
        self.reopen(index);
        Ok(())
    }

    /// Hands the frames of several channels to their lanes.
    fn deal(&mut self, index: usize, now: u64) -> Result<(), Failure> {
        loop {
            let Member { first, lanes, ref socket, .. } = self.members[index];
            let before = socket.incoming.unread().len();
            let Some(channel) = socket.incoming.channel() else { return Ok(()) };
            let lane = usize::from(channel.saturating_sub(1));
            if lane >= lanes {
                return Err(Failure::Protocol(format!("a frame on channel {channel}")));
            }
            self.take_lane(index, first + lane, now)?;
            if self.members[index].socket.incoming.unread().len() == before {
                return Ok(());
            }
        }
    }

    fn take_lane(&mut self, index: usize, lane: usize, now: u64) -> Result<(), Failure> {
        let Socket { incoming, out, .. } = &mut self.members[index].socket;
        let books = (&mut self.ledger, &mut self.results);
        let role = &mut self.lanes[lane].role;
        let enough = role.take(incoming, now, books, out)?;
        let wakes_at = match role {
            Role::Consumer(consumer) => consumer.wakes_at(),
            _ => None,
        };
        self.count_enough(enough);
        if wakes_at.is_some() {
            self.schedule(lane, wakes_at);
            self.mute(index)?;
        }
        Ok(())
    }

    /// An answer, or room in the socket, may let producers go on that are held.
    fn reopen(&mut self, index: usize) {
        let lanes = self.members[index].lanes();
        if self.lanes[lanes.start].role.producer().is_some() {
            lanes.for_each(|lane| self.schedule(lane, None));
            return;
        }
        if self.plan.polite {
            return;
        }
        let arrived = self.ledger.received();
        for lane in 0..self.lanes.len() {
            if let Role::Producer(producer) = &mut self.lanes[lane].role
                && producer.arrived(arrived)
            {
                self.schedule(lane, None);
            }
        }
    }

    fn tell(&self) {
        let figures = self.figures();
        figures.sent.store(self.results.sent, Ordering::Release);
        figures.expected.store(self.results.expected, Ordering::Release);
        figures.received.store(self.ledger.received(), Ordering::Release);
        figures.again.store(self.ledger.account.again, Ordering::Release);
        figures.requeued.store(self.ledger.requeued, Ordering::Release);
        figures.returned.store(self.results.returned, Ordering::Release);
        figures.confirmed.store(self.results.confirmed, Ordering::Release);
        figures.nacked.store(self.results.nacked, Ordering::Release);
        if self.phase == Phase::Drain {
            let open = self.lanes.iter().filter_map(|lane| lane.role.producer());
            let unconfirmed = open.map(|producer| producer.unconfirmed()).sum();
            figures.unconfirmed.store(unconfirmed, Ordering::Release);
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

    /// What became of it all so far.
    pub fn outcome(self) -> Outcome {
        let producers = || self.lanes.iter().filter_map(|lane| lane.role.producer());
        Outcome {
            written: producers().map(|producer| producer.written()).sum(),
            expected: producers().map(|producer| producer.expected().0).sum(),
            nowhere: producers().map(|producer| producer.expected().1).sum(),
            dropped: self.ledger.dropped,
            requeued: self.ledger.requeued,
            idle_lost: self.idle_lost,
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
