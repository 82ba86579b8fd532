//! One publish: routed by the local copy of the topology, then handed to the broker.

pub(super) mod pending;
pub(super) mod pieces;
pub(super) mod relays;

use std::cell::Cell;

use model::access::Access;
use model::mutant::{self, Mutant};
use model::session::content::REPLY_TO;
use model::topology::spec::{clean, has_line_end};
use model::work::ROUTING_STEPS;
use model::{ConnId, Message, Name, QueueSpec, Refusal, Resource, Targets};

use crate::sessions::broker::{BrokerAccess, QueueAt};
use crate::sessions::connections::{ChannelRef, Connections, Publisher};
use crate::sessions::state::Sessions;

/// Why a publish goes nowhere.
enum Unrouted {
    /// It is refused.
    Refused(Refusal),
    /// The coordinator has to be asked for these rights first.
    Unknown(Publisher, Vec<Access>),
}

impl From<Refusal> for Unrouted {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Sessions {
    /// Publishes the message in the scratch draft.
    #[inline]
    pub(super) fn publish(&mut self, id: ConnId, number: u16, broker: &mut impl BrokerAccess) {
        let publisher = match self.route(id, number, broker) {
            Ok(Some(publisher)) => publisher,
            Ok(None) => return self.published(),
            Err(Unrouted::Refused(refusal)) => {
                return self.not_routed(id, number, &refusal, broker);
            }
            Err(Unrouted::Unknown(publisher, rights)) => {
                let Publisher { conn, number, channel, .. } = publisher;
                return self.ask_publish_rights(
                    ChannelRef { conn, number, channel },
                    rights,
                    broker,
                );
            }
        };
        if publisher.tx {
            return self.hold_scratch(publisher, broker);
        }
        self.scratch.count(&self.bodies);
        if self.routes.len() > 1 {
            return self.send_to_several(publisher, broker);
        }
        let Self { connections, scratch, routes, .. } = self;
        send_routed(connections, publisher, scratch.message(), routes, broker);
        self.published();
    }

    /// The message in the scratch draft is done with.
    #[inline]
    fn published(&mut self) {
        self.scratch.done();
        self.routes.clear();
    }

    #[cold]
    fn not_routed(
        &mut self,
        id: ConnId,
        number: u16,
        refusal: &Refusal,
        broker: &mut impl BrokerAccess,
    ) {
        self.routes.clear();
        let exchange = self.scratch.message().exchange();
        if has_line_end(exchange) {
            // It is published again, under the name that is meant.
            let name = clean(exchange);
            self.scratch.rename_exchange(&name);
            return self.publish(id, number, broker);
        }
        self.published();
        self.fail(id, number, &refusal.fault((60, 40)), broker);
    }

    /// Holds the message in the scratch draft until its channel commits.
    #[cold]
    fn hold_scratch(&mut self, publisher: Publisher, broker: &mut impl BrokerAccess) {
        let mut draft = std::mem::take(&mut self.scratch);
        let queues = std::mem::take(&mut self.routes);
        self.hold(publisher, draft.message(), &queues, broker);
        self.scratch = draft;
        self.routes = queues;
        self.published();
    }

    /// Sends a message that a transaction has held and that was counted; true if a queue of this
    /// shard refused it.
    #[cold]
    pub(super) fn send_held(
        &mut self,
        publisher: Publisher,
        message: Message<'_>,
        queues: &mut [QueueAt],
        broker: &mut impl BrokerAccess,
    ) -> bool {
        send_routed(&mut self.connections, publisher, message, queues, broker)
    }

    /// Finds the queues that the message in the scratch draft goes to; usually those of the last
    /// one.
    #[inline(always)]
    fn route(
        &mut self,
        id: ConnId,
        number: u16,
        broker: &mut impl BrokerAccess,
    ) -> Result<Option<Publisher>, Unrouted> {
        let Self { connections, scratch, routes, exchange_counts, .. } = self;
        let Some(conn) = connections.get(id) else { return Ok(None) };
        conn.publisher = true;
        let Some(channel) = conn.channels.get(number) else { return Ok(None) };
        let publisher = Publisher {
            conn: id,
            number,
            channel: channel.id,
            confirms: channel.confirms.is_some(),
            tx: channel.tx.is_some() && !mutant::active(Mutant::TxPublishesAtOnce),
            mandatory: channel.mandatory,
        };
        let (version, message) = (self.topology.version(), scratch.message());
        let special = !channel.keys.is_empty() || channel.refused.is_some();
        let known = if special { None } else { channel.route.get(version, message.names()) };
        let found = known.map(|known| routes.extend_from_slice(known)).is_some();
        if found && !publisher.tx {
            channel.counted.publish += 1;
            exchange_counts.count(channel.route.counted_at(), routes.len());
        }
        let order = std::mem::take(&mut channel.draft_order);
        if order != 0 {
            self.partial.finished(connections, order);
        }
        if self.alarms.any() {
            self.block(id);
        }
        if !found && !self.look_up(publisher, broker)? {
            return Ok(None);
        }
        Ok(Some(publisher))
    }

    /// Finds the queues in the topology. False if that goes on in the next turn.
    fn look_up(
        &mut self,
        publisher: Publisher,
        broker: &mut impl BrokerAccess,
    ) -> Result<bool, Unrouted> {
        let conn = self.connections.conns.get(&publisher.conn);
        if conn.is_some_and(|conn| !conn.access.is_unrestricted()) {
            let mut draft = std::mem::take(&mut self.scratch);
            let unknown = self.missing_publish_rights(publisher.conn, draft.message());
            self.scratch = draft;
            let unknown = unknown?;
            if !unknown.is_empty() {
                return Err(Unrouted::Unknown(publisher, unknown));
            }
        }
        Ok(self.look_up_permitted(publisher, broker)?)
    }

    /// The same where the rights are known.
    fn look_up_permitted(
        &mut self,
        publisher: Publisher,
        broker: &mut impl BrokerAccess,
    ) -> Result<bool, Refusal> {
        let channel = self.connections.channel(publisher.conn, publisher.number);
        let header = channel.map(|c| (std::mem::take(&mut c.keys), c.refused.take()));
        let (keys, refused) = header.unwrap_or_default();
        let mut targets = std::mem::take(&mut self.targets);
        targets.clear();
        targets.begin(self.topology.version());
        targets.roll(self.chance.roll());
        targets.may_work(u64::from(broker.work().left()) * ROUTING_STEPS);
        if refused.is_none() {
            // What is refused is not remembered.
            self.meet_states(publisher, &mut targets, broker.now());
        }
        let mut draft = std::mem::take(&mut self.scratch);
        let route = self.find(publisher.conn, draft.message(), &keys, &mut targets);
        self.leave_states(&mut targets);
        self.count_route(publisher.conn, targets.work(), broker);
        let found = match (&route, refused) {
            (Ok(_), Some(refused)) => Err(*refused),
            (Ok(Route::Unfinished), None) => {
                self.route_later(publisher, draft, keys, targets);
                return Ok(false);
            }
            (Ok(Route::Elsewhere), None) => {
                let found = self.route_elsewhere(publisher, &mut draft, &keys, broker);
                (self.targets, self.scratch) = (targets, draft);
                return Ok(found);
            }
            (Ok(Route::Found { by_names }), None) => {
                self.remember(publisher, &targets, &mut draft);
                let message = draft.message();
                self.routes.extend_from_slice(targets.queues());
                let place = self.count_found(publisher, message);
                let channel = self.connections.channel(publisher.conn, publisher.number);
                if let Some(channel) = channel.filter(|_| *by_names) {
                    channel.route.set(
                        self.topology.version(),
                        message.names(),
                        &self.routes,
                        place,
                    );
                }
                Ok(true)
            }
            (Err(_), refused) => {
                // It may be published again, by another name.
                self.put_back(publisher, keys, refused);
                route.map(|_| true)
            }
        };
        (self.targets, self.scratch) = (targets, draft);
        found
    }

    /// Counts a message that is not held; returns where the next ones by its route are counted.
    fn count_found(&mut self, publisher: Publisher, message: Message<'_>) -> usize {
        let Some(conn) = self.connections.get(publisher.conn) else { return usize::MAX };
        let place = self.exchange_counts.place(&conn.vhost, message.exchange());
        if !publisher.tx
            && let Some(channel) = conn.channels.get(publisher.number)
        {
            channel.counted.publish += 1;
            self.exchange_counts.count(place, self.routes.len());
        }
        place
    }

    /// Counts a message that a transaction has held. Its exchange may be gone by now.
    pub(super) fn count_held(&mut self, publisher: Publisher, message: Message<'_>, copies: usize) {
        let Some(conn) = self.connections.get(publisher.conn) else { return };
        if let Some(channel) = conn.channels.get(publisher.number) {
            channel.counted.publish += 1;
        }
        let exchange = message.exchange();
        let vhost = self.topology.vhost(&conn.vhost);
        if vhost.is_some_and(|vhost| vhost.exchange(exchange).is_some()) {
            let place = self.exchange_counts.place(&conn.vhost, exchange);
            self.exchange_counts.count(place, copies);
        }
    }

    /// Counts a message of a transaction that goes to no queue and does not come back.
    pub(super) fn count_dropped(&mut self, publisher: Publisher, message: Message<'_>) {
        self.count_held(publisher, message, 0);
        count_unroutable(&mut self.connections, publisher);
    }

    /// Gives what a message's header said besides its names back to the channel.
    #[cold]
    fn put_back(&mut self, from: Publisher, keys: Vec<Name>, refused: Option<Box<Refusal>>) {
        if let Some(channel) = self.connections.channel(from.conn, from.number) {
            (channel.keys, channel.refused) = (keys, refused);
        }
    }

    /// Routes. `more` are the keys beside the one of the publish.
    pub(super) fn find(
        &self,
        id: ConnId,
        message: Message<'_>,
        more: &[Name],
        targets: &mut Targets,
    ) -> Result<Route, Refusal> {
        let Some((vhost_name, vhost)) = self.vhost(id) else {
            return Ok(Route::Found { by_names: false });
        };
        let resource = || Resource::exchange(vhost_name, message.exchange());
        let exchange =
            vhost.exchange(message.exchange()).ok_or_else(|| Refusal::NotFound(resource()))?;
        if exchange.spec.internal {
            return Err(Refusal::InternalExchange(resource()));
        }
        let looked_at = Cell::new(false);
        let properties = || {
            looked_at.set(true);
            message.properties().basic()
        };
        let (one, several): (_, Vec<&str>);
        let keys = if more.is_empty() {
            one = [message.routing_key()];
            &one[..]
        } else {
            let more = more.iter().map(AsRef::as_ref);
            several = std::iter::once(message.routing_key()).chain(more).collect();
            &several
        };
        if !vhost.route(exchange, keys, properties, targets) {
            return Ok(Route::Unfinished);
        }
        if targets.is_elsewhere() {
            return Ok(Route::Elsewhere);
        }
        if exchange.spec.name.is_empty() {
            self.reply_targets(vhost_name, keys, targets);
        }
        let by_chance = targets.by_chance() && !mutant::active(Mutant::ChanceRemembered);
        Ok(Route::Found { by_names: more.is_empty() && !looked_at.get() && !by_chance })
    }

    /// A queue by name that the connection may use.
    pub(super) fn usable_queue(
        &self,
        id: ConnId,
        name: &str,
    ) -> Result<(&QueueSpec, u64), Refusal> {
        let Some((vhost_name, vhost)) = self.vhost(id) else {
            return Err(Refusal::NoPreviousQueue);
        };
        let resource = || Resource::queue(vhost_name, name);
        let found = vhost.queue(name).ok_or_else(|| Refusal::NotFound(resource()))?;
        let locked = found.spec.owner.is_some_and(|owner| owner != id);
        if locked && !mutant::active(Mutant::LockIgnored) {
            return Err(Refusal::Locked(resource()));
        }
        Ok((&found.spec, found.version))
    }

    /// Adds the direct reply-to consumers that routing keys of the default exchange name.
    fn reply_targets(&self, vhost: &str, keys: &[&str], targets: &mut Targets) {
        for key in keys.iter().filter(|key| key.starts_with(REPLY_TO)) {
            if let Some(queue) = self.reply_key.queue(vhost, key) {
                targets.queue(queue, queue.origin());
            }
        }
    }
}

/// How far a route came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// The queues are found. `by_names`: they depend only on exchange and routing key, so that they
    /// may be remembered.
    Found { by_names: bool },
    /// It goes on in the next turn.
    Unfinished,
    /// It is found on the shard where the vhost's stateful exchanges are.
    Elsewhere,
}

/// Sends a message to its queues; true if one of this shard refused it.
#[inline(always)]
fn send_routed(
    connections: &mut Connections,
    publisher: Publisher,
    message: Message<'_>,
    queues: &mut [QueueAt],
    broker: &mut impl BrokerAccess,
) -> bool {
    let mut published = broker.publish(connections, publisher, message, queues);
    if queues.is_empty() {
        count_unroutable(connections, publisher);
    }
    if queues.is_empty() && publisher.mandatory {
        let returned = connections.give_back(publisher, message);
        // Acknowledged it would count as one that a queue took.
        published.refused |= publisher.confirms && !returned;
    }
    if publisher.confirms {
        connections.count_confirm(publisher, published.waits, published.refused);
    }
    published.refused
}

#[cold]
fn count_unroutable(connections: &mut Connections, publisher: Publisher) {
    let Some(channel) = connections.channel(publisher.conn, publisher.number) else { return };
    if publisher.mandatory {
        channel.counted.return_unroutable += 1;
    } else {
        channel.counted.drop_unroutable += 1;
    }
}
