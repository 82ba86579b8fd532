//! The event loop of one worker thread over several connections.
//!
//! ```text
//!   phase? -> publish what is due -> publish the counters -> wait -> read, answer, write
//!     ^                                                                      |
//!     +----------------------------------------------------------------------+
//! ```
//!
//! A producer is in exactly one state: queued for the next turn, queued for the time its next
//! message is due, waiting for room in its socket, or held by its in-flight limit until an answer
//! comes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::account::receipts::Receipts;
use crate::client::connection::ClientConnection;
use crate::publish::producer::FillResult;
use crate::publish::results::PublishResults;
use crate::system::clock::{self, SECOND};
use crate::system::epoll::{Epoll, Interest, Readiness};
use crate::system::error::LoadgenError;
use crate::worker::channel::{ChannelRole, WorkerChannel};
use crate::worker::channel_queue::ChannelQueue;
use crate::worker::connection::WorkerConnection;
use crate::worker::plan::RunPlan;
use crate::worker::result::WorkerResult;
use crate::worker::run_state::{RunPhase, RunState, WorkerCounters};
use crate::worker::socket::{ClientSocket, WriteResult};

/// The key of the waker in the epoll set.
const WAKER: usize = usize::MAX;
/// How long the orderly close of all connections may take (ns).
const CLOSE_MAX: u64 = 10 * SECOND;
/// How long after the stop a producer with a schedule may send what was due before it (ns).
pub const LATE_SEND_MAX: u64 = SECOND;

/// An event loop and its connections.
#[derive(Debug)]
pub struct LoadWorker {
    number: usize,
    plan: RunPlan,
    shared: Arc<RunState>,
    poll: Epoll,
    connections: Vec<WorkerConnection>,
    channels: Vec<WorkerChannel>,
    queue: ChannelQueue,
    idle_lost: u64,
    receipts: Receipts,
    results: PublishResults,
    phase: RunPhase,
    stopped_at: u64,
    close_by: u64,
}

impl LoadWorker {
    /// A worker without connections.
    ///
    /// # Errors
    /// The process is out of file descriptors.
    pub fn new(number: usize, plan: RunPlan, shared: Arc<RunState>) -> Result<Self, LoadgenError> {
        let poll = Epoll::new()?;
        poll.add(shared.counters[number].waker.source(), WAKER, Interest::Input)?;
        Ok(Self {
            number,
            plan,
            poll,
            connections: Vec::new(),
            channels: Vec::new(),
            queue: ChannelQueue::default(),
            idle_lost: 0,
            receipts: Receipts::new(plan.producers, plan.start, plan.measure_from)
                .requeuing(plan.requeues),
            results: PublishResults::new(plan.measure_from),
            phase: RunPhase::Publish,
            stopped_at: u64::MAX,
            close_by: u64::MAX,
            shared,
        })
    }

    /// Adds a connection; the first role is that of channel 1, and so on.
    ///
    /// # Errors
    /// The socket cannot be made non-blocking or watched.
    pub fn add(
        &mut self,
        connection: ClientConnection,
        roles: Vec<ChannelRole>,
    ) -> Result<(), LoadgenError> {
        let index = self.connections.len();
        let socket = ClientSocket::new(connection.stream, connection.incoming)?;
        self.poll.add(&socket.stream, index, Interest::Input)?;
        self.connections.push(WorkerConnection::new(socket, self.channels.len(), roles.len()));
        for role in roles {
            self.add_channel(index, role);
        }
        Ok(())
    }

    fn add_channel(&mut self, connection: usize, role: ChannelRole) {
        let counters = self.counters();
        let count = match &role {
            ChannelRole::Producer(_) => Some(&counters.producing),
            ChannelRole::Consumer(_) => Some(&counters.consuming),
            ChannelRole::Idle(_) => None,
        };
        if let Some(count) = count {
            count.fetch_add(1, Ordering::AcqRel);
        }
        self.queue.add(!matches!(role, ChannelRole::Consumer(_)));
        self.channels.push(WorkerChannel { connection, role });
    }

    fn counters(&self) -> &WorkerCounters {
        &self.shared.counters[self.number]
    }

    /// Runs until all connections are closed or one fails; after a failure the driver is woken.
    /// The result covers everything until then in both cases.
    pub fn run(mut self) -> (WorkerResult, Result<(), LoadgenError>) {
        let done = self.run_loop();
        if done.is_err() {
            self.stopped_at = self.stopped_at.min(clock::now());
            self.shared.fail();
        }
        (self.result(), done)
    }

    fn run_loop(&mut self) -> Result<(), LoadgenError> {
        let mut ready = Vec::new();
        for index in 0..self.connections.len() {
            // The setup may have read deliveries that followed basic.consume-ok.
            self.take(index)?;
        }
        loop {
            let now = clock::now();
            self.advance(now)?;
            if self.is_done(now) {
                return Ok(());
            }
            self.serve_due(now)?;
            self.publish_counters();
            ready.clear();
            let wait_limit = self.wait_limit();
            self.poll.wait(wait_limit, &mut ready)?;
            for event in &ready {
                self.on_ready(event)?;
            }
        }
    }

    /// Follows the phase of the run.
    fn advance(&mut self, now: u64) -> Result<(), LoadgenError> {
        let phase = self.shared.phase();
        if phase > RunPhase::Publish || now >= self.plan.stop.saturating_add(LATE_SEND_MAX) {
            self.stop_producers(now)?;
        }
        if phase == self.phase {
            return Ok(());
        }
        self.phase = phase;
        if phase == RunPhase::Close {
            self.close_by = now + CLOSE_MAX;
            for index in 0..self.connections.len() {
                self.close(index)?;
            }
        }
        Ok(())
    }

    fn stop_producers(&mut self, now: u64) -> Result<(), LoadgenError> {
        self.stopped_at = self.stopped_at.min(now);
        if self.counters().producing.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        for channel in 0..self.channels.len() {
            self.stop(channel)?;
        }
        self.counters().producing.store(0, Ordering::Release);
        self.shared.wake_driver();
        Ok(())
    }

    /// Stops a producer and commits its open transaction.
    fn stop(&mut self, channel: usize) -> Result<(), LoadgenError> {
        let WorkerChannel { connection: index, role } = &mut self.channels[channel];
        let index = *index;
        if let ChannelRole::Producer(producer) = role {
            producer.stop();
            producer.commit(&mut self.connections[index].socket.out);
            if !self.connections[index].socket.out.is_empty() {
                self.write(index)?;
            }
        }
        Ok(())
    }

    /// Starts the orderly close of a connection: channel 1 closes last, with the connection.
    fn close(&mut self, index: usize) -> Result<(), LoadgenError> {
        let connection = &mut self.connections[index];
        if !self.plan.peer_is_broker {
            connection.closed = true;
        }
        if connection.closed {
            return Ok(());
        }
        let now = clock::now();
        for channel in connection.channels().skip(1) {
            let role = &mut self.channels[channel].role;
            role.close(now, &mut self.receipts, &mut connection.socket.out);
        }
        self.close_first_channel(index);
        self.write(index).map(|_| ())
    }

    /// Closes channel 1 and the connection once all other channels are closed.
    fn close_first_channel(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let closed = |channel: usize| self.channels[channel].role.is_closed();
        if connection.closing || !connection.channels().skip(1).all(closed) {
            return;
        }
        connection.closing = true;
        let role = &mut self.channels[connection.first].role;
        role.close(clock::now(), &mut self.receipts, &mut connection.socket.out);
    }

    fn is_done(&self, now: u64) -> bool {
        self.phase == RunPhase::Close
            && (now >= self.close_by || self.connections.iter().all(|one| one.closed))
    }

    /// Serves every channel that is ready or due.
    fn serve_due(&mut self, now: u64) -> Result<(), LoadgenError> {
        for channel in self.queue.take_due(now) {
            self.queue.served(channel);
            self.serve_channel(channel, now)?;
        }
        Ok(())
    }

    fn serve_channel(&mut self, channel: usize, now: u64) -> Result<(), LoadgenError> {
        let WorkerChannel { connection: index, role } = &mut self.channels[channel];
        let index = *index;
        let ChannelRole::Producer(producer) = role else {
            return self.do_due_work(channel, now);
        };
        let connection = &mut self.connections[index];
        if connection.blocked || producer.is_over() {
            return Ok(());
        }
        match producer.fill(now, &mut self.results) {
            FillResult::Ready => {
                let next = producer.next();
                producer.commit(&mut connection.socket.out);
                connection.writing = channel;
                if self.write(index)? == WriteResult::All {
                    self.queue.schedule(channel, next);
                }
            }
            FillResult::NotBefore(due) => self.queue.schedule(channel, Some(due)),
            FillResult::LimitReached => {}
            FillResult::Finished => {
                self.stop(channel)?;
                self.counters().producing.fetch_sub(1, Ordering::AcqRel);
                self.shared.wake_driver();
            }
        }
        Ok(())
    }

    /// Processes deliveries of a slow consumer, or sends the heartbeat of an idle connection.
    fn do_due_work(&mut self, channel: usize, now: u64) -> Result<(), LoadgenError> {
        let WorkerChannel { connection: index, role } = &mut self.channels[channel];
        let index = *index;
        let connection = &mut self.connections[index];
        if connection.closed {
            return Ok(());
        }
        let out = &mut connection.socket.out;
        let (next, enough) = match role {
            ChannelRole::Producer(_) => (None, false),
            ChannelRole::Idle(idle) => (idle.beat(now, out), false),
            ChannelRole::Consumer(consumer) => {
                let had_enough = consumer.has_enough();
                consumer.process(now, &mut self.receipts, out);
                (consumer.wakes_at(), consumer.has_enough() && !had_enough)
            }
        };
        self.count_enough(enough);
        if next.is_some() {
            self.queue.schedule(channel, next);
        }
        self.update_reading(index)?;
        self.flush(index)
    }

    fn count_enough(&self, enough: bool) {
        if enough {
            self.counters().consuming.fetch_sub(1, Ordering::AcqRel);
            self.shared.wake_driver();
        }
    }

    /// Pauses reading while a consumer of the connection is full, and resumes it afterwards.
    fn update_reading(&mut self, index: usize) -> Result<(), LoadgenError> {
        let full = |channel: usize| self.channels[channel].role.is_full();
        let pause = self.connections[index].channels().any(full);
        if std::mem::replace(&mut self.connections[index].reading_paused, pause) != pause {
            self.update_interest(index)?;
        }
        Ok(())
    }

    fn update_interest(&self, index: usize) -> Result<(), LoadgenError> {
        let connection = &self.connections[index];
        self.poll.modify(&connection.socket.stream, index, connection.interest())
    }

    fn flush(&mut self, index: usize) -> Result<(), LoadgenError> {
        let connection = &self.connections[index];
        if !connection.socket.out.is_empty() && !connection.blocked {
            self.write(index)?;
        }
        Ok(())
    }

    /// Writes what a connection has pending, and watches for room if the socket is full.
    fn write(&mut self, index: usize) -> Result<WriteResult, LoadgenError> {
        let connection = &mut self.connections[index];
        let publishes = match &mut self.channels[connection.writing].role {
            ChannelRole::Producer(producer) => Some(&mut producer.publishes),
            _ => None,
        };
        let written = connection.socket.write(publishes)?;
        if written == WriteResult::Broken {
            return Err(self.close_reason(index));
        }
        let blocked = written == WriteResult::Blocked;
        if blocked != connection.blocked {
            connection.blocked = blocked;
            self.update_interest(index)?;
        }
        Ok(written)
    }

    /// Why the peer closed the socket: reads until a close method or the end of the stream.
    fn close_reason(&mut self, index: usize) -> LoadgenError {
        loop {
            let received = self.connections[index].socket.receive().map(|_| ());
            let taken = received.and_then(|()| self.take(index));
            if let Err(failure) = taken {
                return failure;
            }
        }
    }

    fn on_ready(&mut self, event: &Readiness) -> Result<(), LoadgenError> {
        if event.key == WAKER {
            return self.counters().waker.reset();
        }
        if self.connections[event.key].closed {
            return Ok(());
        }
        match self.serve_socket(event) {
            Err(failure) if self.is_idle(event.key) => self.drop_idle(event.key, &failure),
            served => served,
        }
    }

    fn serve_socket(&mut self, event: &Readiness) -> Result<(), LoadgenError> {
        if event.input && self.connections[event.key].socket.receive()? {
            self.take(event.key)?;
        }
        if event.output && self.connections[event.key].blocked {
            let written = self.write(event.key)?;
            if written == WriteResult::All {
                self.resume_producers(event.key);
            }
        }
        Ok(())
    }

    fn is_idle(&self, index: usize) -> bool {
        matches!(self.channels[self.connections[index].first].role, ChannelRole::Idle(_))
    }

    /// Counts an idle connection that failed; the run goes on.
    fn drop_idle(&mut self, index: usize, failure: &LoadgenError) -> Result<(), LoadgenError> {
        if self.idle_lost == 0 {
            eprintln!("an idle connection was lost: {failure}");
        }
        self.idle_lost += 1;
        self.connections[index].closed = true;
        self.poll.remove(&self.connections[index].socket.stream)
    }

    /// Handles the frames that a connection has received, and answers.
    fn take(&mut self, index: usize) -> Result<(), LoadgenError> {
        let now = clock::now();
        let WorkerConnection { first, count, .. } = self.connections[index];
        if count == 1 {
            self.take_channel(index, first, now)?;
        } else {
            self.dispatch(index, now)?;
        }
        if self.channels[first].role.is_closed() {
            self.connections[index].closed = true;
            return self.poll.remove(&self.connections[index].socket.stream);
        }
        if self.phase == RunPhase::Close && count > 1 {
            self.close_first_channel(index);
        }
        self.flush(index)?;
        self.resume_producers(index);
        Ok(())
    }

    /// Hands each received frame to its channel.
    fn dispatch(&mut self, index: usize, now: u64) -> Result<(), LoadgenError> {
        loop {
            let WorkerConnection { first, count, ref socket, .. } = self.connections[index];
            let before = socket.incoming.unread().len();
            let Some(number) = socket.incoming.channel() else { return Ok(()) };
            let channel = usize::from(number.saturating_sub(1));
            if channel >= count {
                return Err(LoadgenError::Protocol(format!("a frame on unknown channel {number}")));
            }
            self.take_channel(index, first + channel, now)?;
            if self.connections[index].socket.incoming.unread().len() == before {
                return Ok(());
            }
        }
    }

    fn take_channel(&mut self, index: usize, channel: usize, now: u64) -> Result<(), LoadgenError> {
        let ClientSocket { incoming, out, .. } = &mut self.connections[index].socket;
        let results = (&mut self.receipts, &mut self.results);
        let role = &mut self.channels[channel].role;
        let enough = role.take(incoming, now, results, out)?;
        let wakes_at = role.wakes_at();
        self.count_enough(enough);
        if wakes_at.is_some() {
            self.queue.schedule(channel, wakes_at);
            self.update_reading(index)?;
        }
        Ok(())
    }

    /// Queues the producers that an answer, or room in the socket, may let continue.
    fn resume_producers(&mut self, index: usize) {
        let channels = self.connections[index].channels();
        if self.channels[channels.start].role.producer().is_some() {
            channels.for_each(|channel| self.queue.schedule(channel, None));
            return;
        }
        if self.plan.peer_is_broker {
            return;
        }
        let arrived = self.receipts.received();
        for (channel, WorkerChannel { role, .. }) in self.channels.iter_mut().enumerate() {
            if let ChannelRole::Producer(producer) = role
                && producer.arrived(arrived)
            {
                self.queue.schedule(channel, None);
            }
        }
    }

    fn publish_counters(&self) {
        let counters = self.counters();
        counters.sent.store(self.results.sent, Ordering::Release);
        counters.expected.store(self.results.expected, Ordering::Release);
        counters.received.store(self.receipts.received(), Ordering::Release);
        counters.requeued_again.store(self.receipts.account.requeued_again, Ordering::Release);
        counters.requeued.store(self.receipts.requeued, Ordering::Release);
        counters.returned.store(self.results.returned, Ordering::Release);
        counters.confirmed.store(self.results.confirmed, Ordering::Release);
        counters.nacked.store(self.results.nacked, Ordering::Release);
        if self.phase == RunPhase::Drain {
            let open = self.channels.iter().filter_map(|channel| channel.role.producer());
            let unconfirmed = open.map(|producer| producer.unconfirmed()).sum();
            counters.unconfirmed.store(unconfirmed, Ordering::Release);
            counters.at_rest.store(true, Ordering::Release);
            self.shared.wake_driver();
        }
    }

    /// How long the worker may wait for its sockets (ns); `None` is without limit.
    fn wait_limit(&self) -> Option<u64> {
        if self.plan.spin || self.queue.has_ready() {
            return Some(0);
        }
        let stop = if self.phase == RunPhase::Publish {
            self.plan.stop.saturating_add(LATE_SEND_MAX)
        } else {
            u64::MAX
        };
        let next = self.queue.next_due().min(stop).min(self.close_by);
        (next != u64::MAX).then(|| next.saturating_sub(clock::now()))
    }

    /// The results of all connections so far.
    pub fn result(self) -> WorkerResult {
        let producers = || self.channels.iter().filter_map(|channel| channel.role.producer());
        WorkerResult {
            written: producers().map(|producer| producer.written()).sum(),
            expected: producers().map(|producer| producer.expected().0).sum(),
            unroutable: producers().map(|producer| producer.expected().1).sum(),
            dropped: self.receipts.dropped,
            requeued: self.receipts.requeued,
            idle_lost: self.idle_lost,
            unsent: producers().map(|producer| producer.unsent(self.stopped_at)).sum(),
            unconfirmed: producers().map(|producer| producer.unconfirmed()).sum(),
            unanswered: self.connections.iter().filter(|one| !one.closed).count() as u64,
            cpu: clock::thread_cpu(),
            account: self.receipts.account,
            latency: self.receipts.latency,
            confirm_latency: self.results.latency,
            received: self.receipts.measured,
            sent: self.results.measured,
            returned: self.results.returned,
            confirmed: self.results.confirmed,
            nacked: self.results.nacked,
        }
    }
}
