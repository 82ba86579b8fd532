//! Messages that come to stateful exchanges: relayed to the shard where these are, routed there,
//! and sent on like dead letters; and what an exchange has kept, on its way to what is bound to it.

use model::mutant::{self, Mutant};
use model::topology::Change;
use model::{Message, Now, ShardId};

use crate::mesh::control::Control;
use crate::mesh::enqueue::{Awaiting, cost, cost_of_copies};
use crate::mesh::record::Relayed;
use crate::sessions::{
    Connections, Published, Publisher, QueueAt, RelayRoute, Sessions, Unpublished,
};
use crate::shard::broker::ShardBroker;
use crate::shard::letters::LetterOrigin;
use crate::shard::letters::pending::PendingRelay;
use crate::shard::machine::Shard;

/// Steps of work on relayed messages in a turn, as for dead letters.
const STEPS_AT_ONCE: u64 = 4096;

impl Shard {
    /// Routes relayed messages, as many as a turn may.
    pub(in crate::shard) fn forward_relays(&mut self, now: Now) {
        let mut steps = 0;
        while steps < STEPS_AT_ONCE && self.letters.has_room() {
            let Some(relay) = self.relays.pop() else { return };
            let (sessions, mut broker) = self.parts(now);
            steps += broker.forward(sessions, &relay);
        }
    }

    /// True if relayed messages could be routed in another turn.
    pub(in crate::shard) fn has_relays(&self) -> bool {
        self.relays.len() > 0 && self.letters.has_room()
    }

    /// This shard has applied the topology up to a version. It says so when what was bound has got
    /// what its exchange has kept.
    pub(in crate::shard) fn applied(&mut self, version: u64) {
        self.letters.applied = Some(version);
        self.tell_applied();
    }

    pub(in crate::shard) fn tell_applied(&mut self) {
        if self.letters.brings_histories() {
            return;
        }
        if let Some(version) = self.letters.applied.take() {
            let coordinator = self.peers.coordinator();
            self.tell(coordinator, Control::Applied(version));
        }
    }

    /// What was bound to an exchange gets what that has kept.
    pub(in crate::shard) fn bring_history(&mut self, change: &Change, now: Now) {
        let Change::Bound(vhost, binding) = change else { return };
        // A shard that has said that nothing follows sends nothing.
        if self.stopping.has_left() {
            return;
        }
        let mut routes = Vec::new();
        for kept in self.sessions.history_for(vhost, binding) {
            let (sessions, mut broker) = self.parts(now);
            let message = kept.message();
            sessions.route_history(vhost, &binding.destination, (message, now), &mut routes);
            broker.send_letter(sessions, LetterOrigin::History, (message, false), &mut routes);
        }
    }
}

impl ShardBroker<'_> {
    /// Relays a message of a client of this shard.
    pub(in crate::shard) fn relay_publish(
        &mut self,
        connections: &mut Connections,
        publisher: Publisher,
        route: RelayRoute<'_>,
        message: Message<'_>,
    ) -> Published {
        let RelayRoute { vhost, keys, home } = route;
        let to = publisher.mandatory.then_some((publisher.conn, publisher.channel));
        self.peers.get(home).out.relay(to, None, (vhost, keys), message);
        let (bytes, persistent) = (cost(message), message.persistent());
        let waits = self.sent(connections, publisher, home, bytes, persistent);
        self.peers.get(home).is_relay();
        Published { waits, refused: false }
    }

    /// Relays a dead letter; the number of homes that it waits for.
    pub(in crate::shard) fn relay_letter(
        &mut self,
        letter: u64,
        how: Unpublished<'_>,
        (message, durable): (Message<'_>, bool),
        routes: &[QueueAt],
    ) -> u16 {
        let Some((_, home)) = routes.first() else { return 0 };
        let peer = self.peers.get(*home);
        peer.out.relay(None, how.death, (how.vhost, how.keys), message);
        let enqueue = peer.send(cost(message));
        peer.is_relay();
        peer.wait(Awaiting::dead_letter(enqueue, letter), durable);
        1
    }

    /// A message has come whose queues are found here. It is counted at once, and confirmed by a
    /// list when it has come to its queues.
    #[cold]
    pub(in crate::shard) fn relayed(&mut self, source: ShardId, relayed: Relayed<'_>) {
        let Relayed { publisher, death, vhost, keys, carried } = relayed;
        let message = carried.message();
        if let Some(body) = message.large_body() {
            self.queues.took(body);
        }
        let peer = self.peers.get(source);
        let number = peer.hold(false);
        peer.progress.applied(0);
        if message.persistent() {
            // It is not logged here, but its confirm may wait behind what is.
            peer.progress.request_flush();
        }
        let message = message.into();
        self.relays.push(PendingRelay { source, number, publisher, death, vhost, keys, message });
    }

    /// Routes a relayed message and sends it on; the steps that it took.
    fn forward(&mut self, sessions: &mut Sessions, relay: &PendingRelay) -> u64 {
        let PendingRelay { source, number, publisher, death, vhost, keys, message } = relay;
        let message = message.message();
        let mut routes = std::mem::take(&mut self.letters.routes);
        let how = Unpublished { vhost, keys, death: *death };
        let published = (message.exchange(), message);
        let steps = 1 + sessions.route_at_once(how, published, self.now, &mut routes);
        sessions.count_relayed(vhost, message.exchange(), routes.len());
        if let Some(publisher) = publisher.filter(|_| routes.is_empty()) {
            self.peers.get(*source).out.returned(publisher, message);
        }
        let origin = LetterOrigin::Relay(*source, *number, cost(message));
        let durable = message.persistent();
        let bytes = self.send_letter(sessions, origin, (message, durable), &mut routes);
        self.letters.routes = routes;
        steps + bytes / 256
    }

    /// Sends a message to its queues; the bytes of the copies.
    fn send_letter(
        &mut self,
        sessions: &mut Sessions,
        origin: LetterOrigin,
        (message, durable): (Message<'_>, bool),
        routes: &mut [QueueAt],
    ) -> u64 {
        let bytes = cost_of_copies(message, routes.len());
        let letter = self.letters.begin(origin, bytes);
        let connections = sessions.connections();
        let waits = self.enqueue_letter(connections, letter, (message, durable), routes);
        let early = mutant::active(Mutant::RelayConfirmedEarly);
        self.letters.wait(letter, if early { 0 } else { waits });
        bytes
    }
}
