//! Messages without a publisher here, and those that come to stateful exchanges: the shard where
//! the stateful exchanges of a vhost are routes all messages that come to one of them.
//!
//! ```text
//!   publisher's shard             home of the vhost's states        home of a queue
//!     route: elsewhere                     |                              |
//!     message, keys --- relay ------------>| route, remember              |
//!        |                                 | enqueue -------------------->|
//!        |                                 |<---- watermark: applied -----+
//!        |<------------ finished ----------+
//!     confirm
//! ```

use model::dead_letters;
use model::exchange::home_of_states;
use model::queue::Death;
use model::topology::{Change, Vhost};
use model::{
    Binding, Destination, Draft, Exchange, Message, Name, Now, OwnedMessage, QueueId, ShardId,
    Targets,
};

use crate::sessions::broker::{BrokerAccess, QueueAt, RelayRoute};
use crate::sessions::connections::Publisher;
use crate::sessions::state::Sessions;

/// How a message without a publisher here is routed beside its own names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unpublished<'a> {
    pub vhost: &'a str,
    /// Keys beside its own.
    pub keys: &'a [Name],
    /// Why it died, if it is a dead letter.
    pub death: Option<Death>,
}

impl Sessions {
    /// Where the stateful exchanges of a vhost are.
    fn home_of_states(&self, vhost: &str) -> ShardId {
        home_of_states(vhost, self.shards)
    }

    /// Whether stateful exchanges count where a publish is routed now. What is published in a
    /// transaction comes to them with the commit.
    #[inline]
    pub(super) fn meet_states(&mut self, publisher: Publisher, targets: &mut Targets, now: Now) {
        let found = self.vhost(publisher.conn).filter(|(_, vhost)| vhost.has_states());
        let here = found.is_some_and(|(name, _)| self.home_of_states(name) == self.me);
        if here && !publisher.tx {
            targets.lend(Some(std::mem::take(&mut self.states)), now.monotonic_us);
        }
    }

    /// The route does not meet stateful exchanges any more.
    #[inline]
    pub(super) fn leave_states(&mut self, targets: &mut Targets) {
        if let Some(states) = targets.give_back() {
            self.states = states;
        }
    }

    /// The stateful exchanges that a publish came to remember it.
    pub(super) fn remember(&mut self, from: Publisher, targets: &Targets, draft: &mut Draft) {
        let Self { connections, topology, states, bodies, .. } = self;
        let Some(conn) = connections.get(from.conn) else { return };
        let vhost = topology.vhost(&conn.vhost);
        if let Some(vhost) = vhost.filter(|vhost| vhost.has_states()) {
            draft.count(bodies);
            vhost.remember(targets, draft.message(), states);
        }
    }

    /// A publish is routed where its vhost's stateful exchanges are. True if it is to be held until
    /// its channel commits.
    #[cold]
    pub(super) fn route_elsewhere(
        &mut self,
        publisher: Publisher,
        draft: &mut Draft,
        keys: &[Name],
        broker: &mut impl BrokerAccess,
    ) -> bool {
        let vhost = self.vhost_name(publisher.conn);
        let home = self.home_of_states(&vhost);
        if publisher.tx {
            self.routes.push((QueueId::RELAY, home));
            return true;
        }
        if let Some(channel) = self.connections.channel(publisher.conn, publisher.number) {
            channel.counted.publish += 1;
        }
        draft.count(&self.bodies);
        let route = RelayRoute { vhost: &vhost, keys, home };
        let message = draft.message();
        let published = broker.relay(&mut self.connections, publisher, route, message);
        if publisher.confirms {
            self.connections.count_confirm(publisher, published.waits, published.refused);
        }
        false
    }

    /// Sends a message that a transaction has held to the stateful exchanges that it comes to.
    /// Returns its queues if they are found here. Keys of BCC are not known any more.
    pub(in crate::sessions) fn relay_held(
        &mut self,
        publisher: Publisher,
        (home, message): (ShardId, Message<'_>),
        broker: &mut impl BrokerAccess,
    ) -> Vec<QueueAt> {
        let vhost = self.vhost_name(publisher.conn);
        let keys = dead_letters::copies_to(message.properties());
        if home != publisher.conn.origin() {
            let route = RelayRoute { vhost: &vhost, keys: &keys, home };
            broker.relay(&mut self.connections, publisher, route, message);
            return vec![(QueueId::RELAY, home)];
        }
        let mut routes = Vec::new();
        let how = Unpublished { vhost: &vhost, keys: &keys, death: None };
        self.route_at_once(how, (message.exchange(), message), broker.now(), &mut routes);
        routes
    }

    /// Finds the queues of a message without a publisher here, none if its exchange does not
    /// exist, or the place where they are found. Does so many steps; false if there are more, for
    /// another call with the same targets.
    pub fn route_unpublished(
        &mut self,
        how: Unpublished<'_>,
        (message, now): (Message<'_>, Now),
        (targets, most): (&mut Targets, u64),
        routes: &mut Vec<QueueAt>,
    ) -> bool {
        self.route_from((how, now), (message.exchange(), message), (targets, most), routes)
    }

    /// The same in one go; the steps that it took.
    pub fn route_at_once(
        &mut self,
        how: Unpublished<'_>,
        (exchange, message): (&str, Message<'_>),
        now: Now,
        routes: &mut Vec<QueueAt>,
    ) -> u64 {
        let mut targets = std::mem::take(&mut self.targets);
        targets.clear();
        self.route_from((how, now), (exchange, message), (&mut targets, u64::MAX), routes);
        let steps = targets.work();
        self.targets = targets;
        steps
    }

    fn route_from(
        &mut self,
        (how, now): (Unpublished<'_>, Now),
        (exchange, message): (&str, Message<'_>),
        (targets, most): (&mut Targets, u64),
        routes: &mut Vec<QueueAt>,
    ) -> bool {
        routes.clear();
        if !targets.is_paused() {
            targets.clear();
            targets.begin(self.topology.version());
            targets.roll(self.chance.roll());
        }
        targets.may_work(most);
        let home = self.home_of_states(how.vhost);
        if home == self.me {
            targets.lend(Some(std::mem::take(&mut self.states)), now.monotonic_us);
        }
        let all = self.walk(how, (exchange, message), targets, routes);
        self.leave_states(targets);
        if all && targets.is_elsewhere() {
            routes.clear();
            routes.push((QueueId::RELAY, home));
        }
        all
    }

    /// Goes on with a route; false if it pauses.
    fn walk(
        &mut self,
        how: Unpublished<'_>,
        (exchange, message): (&str, Message<'_>),
        targets: &mut Targets,
        routes: &mut Vec<QueueAt>,
    ) -> bool {
        let found = self.topology.vhost(how.vhost);
        let found = found.and_then(|vhost| Some((vhost, vhost.exchange(exchange)?)));
        let Some((vhost, exchange)) = found else { return true };
        let keys = how.keys.iter().map(AsRef::as_ref);
        let keys: Vec<&str> = std::iter::once(message.routing_key()).chain(keys).collect();
        let properties = || message.properties().basic();
        if !vhost.route(exchange, &keys, properties, targets) {
            return false;
        }
        if exchange.spec.name.is_empty() {
            self.reply_targets(how.vhost, &keys, targets);
        }
        routes.extend_from_slice(targets.queues());
        leave_circles(vhost, how.death, message, routes);
        if let Some(mut states) = targets.give_back() {
            vhost.remember(targets, message, &mut states);
            self.states = states;
        }
        true
    }

    /// Counts a message that was routed here for another shard.
    pub fn count_relayed(&mut self, vhost: &str, exchange: &str, copies: usize) {
        let found = self.topology.vhost(vhost);
        if found.is_some_and(|found| found.exchange(exchange).is_some()) {
            let place = self.exchange_counts.place(vhost, exchange);
            self.exchange_counts.count(place, copies);
        }
    }

    /// What a change of the topology says that stateful exchanges of this shard forget; in front
    /// of the change.
    pub(in crate::sessions) fn forget_states(&mut self, change: &Change) {
        let Self { topology, states, .. } = self;
        match change {
            Change::ExchangeDeleted(vhost, name) => {
                let vhost = topology.vhost(vhost);
                let exchange = vhost.and_then(|vhost| vhost.exchange(name));
                exchange.into_iter().for_each(|exchange| states.forget(exchange));
            }
            Change::VhostDeleted(vhost) => {
                let vhost = topology.vhost(vhost).filter(|vhost| vhost.has_states());
                let exchanges = vhost.into_iter().flat_map(Vhost::exchanges);
                exchanges.for_each(|exchange| states.forget(exchange));
            }
            _ => {}
        }
    }

    /// What an exchange has kept for a destination that was bound to it, from the oldest message
    /// on.
    pub fn history_for(&self, vhost: &str, binding: &Binding) -> Vec<OwnedMessage> {
        let found = self.topology.vhost(vhost).filter(|vhost| vhost.has_states());
        let exchange: Option<&Exchange> = found.and_then(|vhost| vhost.exchange(&binding.source));
        let stored = exchange.into_iter().flat_map(|exchange| self.states.stored(exchange));
        stored.cloned().collect()
    }

    /// The queues that a kept message goes to from what was bound.
    pub fn route_history(
        &mut self,
        vhost: &str,
        to: &Destination,
        (message, now): (Message<'_>, Now),
        routes: &mut Vec<QueueAt>,
    ) {
        routes.clear();
        match to {
            Destination::Queue(name) => {
                let queue = self.topology.vhost(vhost).and_then(|vhost| vhost.queue(name));
                routes.extend(queue.map(|queue| (queue.spec.id, queue.spec.home)));
            }
            Destination::Exchange(name) => {
                let keys = dead_letters::copies_to(message.properties());
                let how = Unpublished { vhost, keys: &keys, death: None };
                self.route_at_once(how, (name, message), now, routes);
            }
        }
    }
}

/// Takes out the queues that a dead letter would go round in circles through.
fn leave_circles(
    vhost: &Vhost,
    death: Option<Death>,
    letter: Message<'_>,
    routes: &mut Vec<QueueAt>,
) {
    let Some(death) = death else { return };
    let circular = dead_letters::circular(letter.properties(), death).into_iter();
    for queue in circular.filter_map(|name| vhost.queue(name)) {
        routes.retain(|(id, _)| *id != queue.spec.id);
    }
}
