//! What arrives from peers, and the end of a turn.

use model::mutant::{self, Mutant};
use model::{Ask, Message, Now, QueueId, ShardId};

use super::broker::ShardBroker;
use super::machine::Shard;
use super::stopping::StopAction;
use crate::mesh::batch::Batch;
use crate::mesh::control::Control;
use crate::mesh::enqueue::FinishedEnqueue;
use crate::mesh::enqueue::{cost, cost_of_copies};
use crate::mesh::peers::Peer;
use crate::mesh::progress::ProgressMark;
use crate::mesh::record::{MeshRecord, QueueIds};
use crate::sessions::{Connections, pause};

/// The coordinator is told of memory in steps of this many bytes.
const MEMORY_STEP: usize = 1024 * 1024;

impl Shard {
    /// A batch arrived from a peer; it is left empty.
    pub fn mesh(&mut self, from: ShardId, batch: &mut Batch, now: Now) {
        self.queues.set_time(now);
        let mut at = 0;
        while let Some(record) = batch.next(&mut at) {
            self.record(from, record, now);
        }
        batch.clear();
    }

    #[inline(always)]
    fn record(&mut self, from: ShardId, record: MeshRecord<'_>, now: Now) {
        match record {
            MeshRecord::Enqueue { queues, carried, flush_requested } => {
                self.enqueued(from, queues, carried.message(), flush_requested);
            }
            MeshRecord::Mandatory { queue, publisher, carried } => {
                let (sessions, mut broker) = self.parts(now);
                let (connections, message) = (sessions.connections(), carried.message());
                if let Some(body) = message.large_body() {
                    broker.queues.took(body);
                }
                broker.mandatory_arrived(connections, from, queue, publisher, message);
            }
            MeshRecord::Returned { publisher: (conn, channel), carried } => {
                self.sessions.connections().returned(conn, channel, carried.message());
            }
            MeshRecord::Deliver { to, carried } => {
                let message = carried.message();
                if !self.sessions.connections().deliver(from, to, message) {
                    let (sessions, mut broker) = self.parts(now);
                    broker.peers.get(from).out.credit(to.conn, cost(message));
                    sessions.permits_back(to.conn, to.channel, 0, &mut broker);
                }
            }
            MeshRecord::Got { ticket, remaining, to, carried } => {
                let connections = self.sessions.connections();
                connections.got(from, ticket, remaining, to, carried.message());
            }
            MeshRecord::Settle(what) => {
                let (queues, mut output) = self.home();
                queues.settle(what, &mut output);
            }
            MeshRecord::Credit { conn, bytes } => {
                let (queues, mut output) = self.home();
                queues.return_credit(conn, bytes, &mut output);
            }
            MeshRecord::Ask(queue, ask) => {
                let (sessions, mut broker) = self.parts(now);
                broker.asked(sessions.connections(), from, queue, ask);
            }
            MeshRecord::Permit(queue, permit) => {
                let (sessions, mut broker) = self.parts(now);
                broker.permitted(sessions.connections(), from, queue, permit);
            }
            MeshRecord::Unused { conn, channel, count } => {
                let (sessions, mut broker) = self.parts(now);
                sessions.permits_back(conn, channel, count, &mut broker);
            }
            MeshRecord::Watermark(mark) => {
                let (sessions, mut broker) = self.parts(now);
                broker.watermark(sessions.connections(), from, mark);
            }
            MeshRecord::Relay(relayed) => {
                let (_, mut broker) = self.parts(now);
                broker.relayed(from, *relayed);
            }
            MeshRecord::Fence => {
                self.parts(now).1.fence(from);
                self.peers.get(from).progress.applied(0);
            }
            MeshRecord::Control(control) => self.control(from, control, now),
        }
    }

    /// A message of another shard enters queues of this one.
    #[inline(always)]
    fn enqueued(
        &mut self,
        from: ShardId,
        queues: QueueIds<'_>,
        message: Message<'_>,
        flush_requested: bool,
    ) {
        let (home, mut output) = self.home();
        if let Some(body) = message.large_body() {
            home.took(body);
        }
        let outcome = home.push_all(queues.iter(), message, from, &mut output);
        let dead = |queue| !self.queues.contains(queue);
        let unanswered = mutant::active(Mutant::DeadEnqueueUnanswered) && queues.iter().any(dead);
        let peer = self.peers.get(from);
        if !unanswered {
            if flush_requested {
                peer.progress.request_flush();
            }
            peer.progress.applied(cost_of_copies(message, queues.count()));
        }
        if !outcome.is_plain() {
            peer.enqueued(outcome);
        }
    }

    /// Ends a turn: what its events led to goes to the outboxes and batches.
    pub fn end_turn(&mut self, now: Now) {
        self.queues.set_time(now);
        self.send_dead_letters(now);
        self.forward_relays(now);
        self.queues.budget().reserve();
        loop {
            self.go_on_with_queues(now);
            let (sessions, mut broker) = self.parts(now);
            sessions.go_on(&mut broker);
            let (queues, mut output) = broker.home(sessions.connections());
            if queues.load(&mut output) {
                continue;
            }
            broker.confirm_own(sessions.connections());
            if !sessions.go_on_with_commits(&mut broker) {
                break;
            }
        }
        self.intake.copied = 0;
        let later = self.intake.later.drain(..);
        self.sessions.connections().commit_on(later);
        self.bury();
        let (queues, mut output) = self.home();
        queues.page(&mut output);
        self.intake.backpressure = self.queues.backpressure();
        self.tell_sources();
        self.stop();
        self.sessions.end_turn(now, self.queues.pinned());
        self.tell_memory();
        self.queues.end_turn(now);
        self.work_done = self.queues.budget().next_turn();
    }

    /// True if there is something to do in another turn although nothing happens until then.
    #[must_use]
    pub fn unfinished(&self) -> bool {
        self.sessions.unfinished()
            || self.queues.unfinished()
            || self.has_dead_letters()
            || self.has_relays()
    }

    /// Goes on with the end of the broker, if it has begun.
    fn stop(&mut self) {
        let me = self.me;
        let others = self.peers.shards() - 1;
        loop {
            if self.queues.has_work() || self.sessions.publishes() {
                return;
            }
            let relays = self.relays.len() + self.peers.relayed();
            let letters = self.queues.any_dying() || self.letters.waiting() + relays > 0;
            match self.stopping.next(self.connections(), letters, others) {
                StopAction::Nothing => return,
                StopAction::TellOthers => {
                    for peer in (0..=others).map(ShardId).filter(|peer| *peer != me) {
                        self.tell(peer, Control::Left);
                    }
                }
                StopAction::StopStore => self.queues.stop(),
            }
        }
    }

    fn tell_sources(&mut self) {
        let (me, backpressure) = (self.me, self.intake.backpressure);
        for source in (0..self.peers.shards()).map(ShardId).filter(|source| *source != me) {
            self.parts(Now::default()).1.advance_durable(source);
            let peer = self.peers.get(source);
            if let Some(mark) = peer.news(backpressure) {
                peer.out.watermark(mark);
            }
            let ended = peer.held.take_finished();
            if !ended.is_empty() {
                peer.out.control(Control::Finished(ended));
            }
        }
    }

    fn tell_memory(&mut self) {
        let memory = self.memory();
        if memory.abs_diff(self.memory_told) >= MEMORY_STEP {
            self.memory_told = memory;
            let coordinator = self.peers.coordinator();
            self.tell(coordinator, Control::Memory(memory as u64));
        }
    }
}

impl ShardBroker<'_> {
    /// A home asks a channel for permits; it is answered in any case.
    #[cold]
    fn asked(&mut self, connections: &mut Connections, home: ShardId, queue: QueueId, ask: Ask) {
        let count = connections.permits(home, queue, ask);
        self.peers.get(home).out.permit(queue, Ask { count, ..ask });
    }

    /// A channel's answer to a queue of this shard.
    #[cold]
    fn permitted(
        &mut self,
        connections: &mut Connections,
        from: ShardId,
        queue: QueueId,
        permit: Ask,
    ) {
        let (queues, mut output) = self.home(connections);
        let unused = queues.permitted(queue, permit, &mut output);
        if unused > 0 {
            self.peers.get(from).out.unused(permit.conn, permit.channel, unused);
        }
    }

    /// A home has applied more of what this shard sent it.
    fn watermark(&mut self, connections: &mut Connections, home: ShardId, mark: ProgressMark) {
        self.peers.get(home).answered(mark);
        self.confirm(connections, home);
        let backpressure = home == self.me && self.intake.backpressure;
        if !backpressure && self.peers.relaxed(home) {
            let peer = self.peers.get(home);
            connections.commit_on(peer.commits.drain(..));
            for id in std::mem::take(&mut peer.stalled) {
                connections.unpause(id, pause::WINDOW);
            }
            self.unblock_letters(home);
        }
    }

    /// Tells channels what a home's watermarks and lists confirm.
    #[inline]
    fn confirm(&mut self, connections: &mut Connections, home: ShardId) {
        let peer = self.peers.get(home);
        while let Some(done) = peer.confirmed() {
            if done.is_dead_letter() {
                self.letters.confirmed(done.publish);
                continue;
            }
            connections.confirm(done.conn, done.channel, done.publish);
        }
    }

    /// Enqueues that a home held have ended.
    #[cold]
    pub(super) fn finished(
        &mut self,
        connections: &mut Connections,
        home: ShardId,
        ended: &[FinishedEnqueue],
    ) {
        for of in self.peers.get(home).finished(ended) {
            connections.refuse(of.conn, of.channel, of.publish);
        }
        self.confirm(connections, home);
    }

    /// This shard's own queues have applied everything it sent them.
    fn confirm_own(&mut self, connections: &mut Connections) {
        self.intake.backpressure = self.queues.backpressure();
        self.peers.get(self.me).apply_all();
        self.advance_durable(self.me);
        let ended = self.peers.get(self.me).held.take_finished();
        if !ended.is_empty() {
            self.finished(connections, self.me, &ended);
        }
        let mark = self.peers.get(self.me).progress.done();
        self.watermark(connections, self.me, mark);
    }

    /// Finds out what of that source is durable by now, and whether it waits for the rest.
    fn advance_durable(&mut self, source: ShardId) {
        let log = self.queues.log_position();
        let Peer { progress, held, .. } = self.peers.get(source);
        progress.mark(log.filling);
        let waits = held.mark(log.filling);
        let durable = if log.settled { u64::MAX } else { log.durable };
        progress.durable(durable);
        held.durable(durable);
        if progress.flush_due(log.filling) || waits {
            self.queues.request_flush();
        }
    }
}
