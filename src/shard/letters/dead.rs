//! Dead letters on their way from the queues of this shard to other queues, here or elsewhere.
//!
//! ```text
//!   queue: a message dies        next turn, this shard             home of the target
//!        |  it is held there          |                                   |
//!        +------ listed ------------> copy, route, enqueue -------------->|
//!        |                            |<---- watermark: applied, durable -+
//!        |<----- buried --------------+
//!        settled in the store
//! ```
//!
//! A letter is sent like a publish without a connection, over the same windows, and its original is
//! settled when every home has it: durable, if it is persistent. So a crash may double a letter,
//! but loses none. Nothing is sent while a message is being pushed: what dies then is listed, and
//! leaves at the end of a turn. Alarms do not stop dead letters, as in RabbitMQ: they take no more
//! memory than their originals.

use model::dead_letters::DeadMessage;
use model::mutant::{self, Mutant};
use model::{Draft, Message, Name, Now, QueueId, Refusal, ShardId};

use crate::mesh::control::Control;
use crate::mesh::enqueue::{Awaiting, cost_of_copies};
use crate::sessions::{Connections, QueueAt, Sessions, Unpublished};
use crate::shard::broker::ShardBroker;
use crate::shard::letters::LetterOrigin;
use crate::shard::machine::Shard;

/// Steps of work on dead letters in a turn: one for each letter, for each step of routing, and for
/// 256 bytes of each copy.
const STEPS_AT_ONCE: u64 = 4096;

impl Shard {
    /// Sends dead letters, as many as a turn may.
    pub(in crate::shard) fn send_dead_letters(&mut self, now: Now) {
        // A shard that has said that nothing follows sends nothing.
        if self.queues.any_dying() && !self.stopping.has_left() {
            let (sessions, mut broker) = self.parts(now);
            broker.send_dead_letters(sessions);
        }
    }

    /// Settles the originals of letters that have arrived.
    pub(in crate::shard) fn bury(&mut self) {
        if self.letters.arrived.is_empty() {
            return;
        }
        for (origin, refused) in std::mem::take(&mut self.letters.arrived) {
            match origin {
                LetterOrigin::Queue(queue, number) => {
                    let (queues, mut output) = self.home();
                    queues.bury(queue, number, &mut output);
                }
                LetterOrigin::Relay(source, number, bytes) => {
                    self.peers.get(source).forwarded(number, bytes, refused);
                }
                LetterOrigin::History => {}
            }
        }
        self.tell_applied();
        let freezing = std::mem::take(&mut self.letters.freezing);
        for (from, queue, frozen) in freezing {
            self.frozen(from, queue, frozen);
        }
    }

    /// Tells the coordinator that a queue is frozen, now or when its last dead letter has arrived.
    pub(in crate::shard) fn frozen(
        &mut self,
        from: ShardId,
        queue: QueueId,
        frozen: Result<u32, Refusal>,
    ) {
        if frozen.is_ok() && self.queues.has_dying(queue) {
            self.letters.freezing.push((from, queue, frozen));
        } else {
            self.tell(from, Control::Frozen(queue, frozen));
        }
    }

    /// True if dead letters could leave in another turn.
    pub(in crate::shard) fn has_dead_letters(&self) -> bool {
        self.queues.any_dying() && self.letters.has_room() && !self.stopping.has_left()
    }
}

impl ShardBroker<'_> {
    fn send_dead_letters(&mut self, sessions: &mut Sessions) {
        let mut steps = 0;
        let uncut = mutant::active(Mutant::LettersUncut);
        while (steps < STEPS_AT_ONCE || uncut) && self.letters.has_room() {
            let Some(queue) = self.queues.next_dying() else { return };
            let mut draft = std::mem::take(&mut self.letters.draft);
            let mut routes = std::mem::take(&mut self.letters.routes);
            let most = if uncut { u64::MAX } else { STEPS_AT_ONCE - steps };
            steps += self.send_dead_letter(sessions, queue, (&mut draft, &mut routes), most);
            draft.done();
            (self.letters.draft, self.letters.routes) = (draft, routes);
        }
    }

    /// Sends the next dead letter of a queue, or goes on with its route; the steps that it took.
    fn send_dead_letter(
        &mut self,
        sessions: &mut Sessions,
        queue: QueueId,
        (draft, routes): (&mut Draft, &mut Vec<QueueAt>),
        most: u64,
    ) -> u64 {
        let Some(number) = self.queues.next_letter(queue).map(|next| next.number) else { return 0 };
        let (steps, keys) = self.route_letter(sessions, queue, (draft, routes), most);
        if self.letters.routing.is_some() {
            return steps;
        }
        let message = draft.message();
        let relay = routes.first().is_some_and(|(id, _)| *id == QueueId::RELAY);
        let relay = self.queues.next_letter(queue).filter(|_| relay);
        // Where its queues are found elsewhere, they are told how.
        let relay = relay.map(|next| (next.vhost.clone(), next.dead.death));
        // What a stateful exchange has taken is not routed again.
        let bounded = !self.letters.targets.has_met_state();
        let full = routes.iter().map(|(_, home)| *home);
        let full = full.filter(|_| bounded).find(|home| self.has_no_room(*home));
        match full {
            Some(_) if mutant::active(Mutant::DeadLetterNotKept) => routes.clear(),
            Some(home) => {
                self.letters.blocked[home.index()].push(queue);
                return steps;
            }
            None => {}
        }
        self.queues.letter_left(queue, number);
        self.queues.list_dying(queue);
        let bytes = cost_of_copies(message, routes.len());
        let letter = self.letters.begin(LetterOrigin::Queue(queue, number), bytes);
        let durable = message.persistent() && !mutant::active(Mutant::BuriedBeforeDurable);
        let message = (message, durable);
        let waits = match relay {
            Some((vhost, death)) => {
                let how = Unpublished { vhost: &vhost, keys: &keys, death: Some(death) };
                self.relay_letter(letter, how, message, routes)
            }
            None => self.enqueue_letter(sessions.connections(), letter, message, routes),
        };
        self.letters.wait(letter, waits);
        steps + bytes / 256
    }

    /// Writes the next dead letter of a queue and finds the queues it goes to; the steps that it
    /// took, and its keys beside its own. What is more than `most` goes on in the next turn.
    fn route_letter(
        &mut self,
        sessions: &mut Sessions,
        queue: QueueId,
        (draft, routes): (&mut Draft, &mut Vec<QueueAt>),
        most: u64,
    ) -> (u64, Vec<Name>) {
        let Some(next) = self.queues.next_letter(queue) else { return (0, Vec::new()) };
        let (DeadMessage { death, .. }, number) = (next.dead, next.number);
        let keys = next.dead.write(self.now, draft);
        draft.count(&self.queues.gauge());
        let mut targets = std::mem::take(&mut self.letters.targets);
        if self.letters.routing.take() != Some((queue, number)) {
            targets.clear();
        }
        let before = targets.work();
        let how = Unpublished { vhost: next.vhost, keys: &keys, death: Some(death) };
        let letter = (draft.message(), self.now);
        if !sessions.route_unpublished(how, letter, (&mut targets, most), routes) {
            self.letters.routing = Some((queue, number));
            self.queues.list_dying_first(queue);
        }
        let steps = 1 + targets.work() - before;
        self.letters.targets = targets;
        (steps, keys)
    }

    fn has_no_room(&mut self, home: ShardId) -> bool {
        if home == self.me { self.intake.backpressure } else { self.peers.full(home) }
    }

    /// Puts a letter into its queues; the number of their homes.
    pub(in crate::shard) fn enqueue_letter(
        &mut self,
        connections: &mut Connections,
        letter: u64,
        (message, durable): (Message<'_>, bool),
        routes: &mut [QueueAt],
    ) -> u16 {
        routes.sort_unstable_by_key(|(queue, home)| (*home, *queue));
        let mut homes = 0;
        for queues in routes.chunk_by(|one, other| one.1 == other.1) {
            let home = queues.first().map(|(_, home)| *home).unwrap_or_default();
            let ids = queues.iter().map(|(queue, _)| *queue);
            if home == self.me {
                self.enqueue_letter_here(connections, letter, message, ids);
            } else {
                self.peers.get(home).out.enqueue(ids, message, durable);
            }
            let peer = self.peers.get(home);
            let enqueue = peer.send(cost_of_copies(message, queues.len()));
            peer.wait(Awaiting::dead_letter(enqueue, letter), durable);
            homes += 1;
        }
        homes
    }

    fn enqueue_letter_here(
        &mut self,
        connections: &mut Connections,
        letter: u64,
        message: Message<'_>,
        queues: impl Iterator<Item = QueueId>,
    ) {
        let me = self.me;
        let (own, mut output) = self.home(connections);
        let outcome = own.push_all(queues, message, me, &mut output);
        if outcome.refused() {
            // A dead letter is then refused for good: RabbitMQ drops it, too.
            self.letters.refused(letter);
        }
        if outcome.logged() {
            let progress = &mut self.peers.get(me).progress;
            progress.logged();
            progress.request_flush();
            self.intake.backpressure |= self.queues.backpressure();
        }
    }

    /// Windows to a home have opened: letters that waited for it may leave.
    pub(in crate::shard) fn unblock_letters(&mut self, home: ShardId) {
        for queue in self.letters.unblocked(home) {
            self.queues.list_dying(queue);
        }
    }
}
