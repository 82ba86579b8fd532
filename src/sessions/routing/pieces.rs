//! A publish that is more than the work of one turn: it is routed through many keys or exchanges,
//! or goes to many queues. Its connection is not read meanwhile, so the order on the channel holds.

use model::mutant::{self, Mutant};
use model::work::ROUTING_STEPS;
use model::{ConnId, Draft, Message, Name, Targets};

use crate::sessions::broker::{BrokerAccess, QueueAt};
use crate::sessions::connections::{Publisher, Unfinished};
use crate::sessions::routing::pending::{PendingPublish, PublishStage, QUEUES_MAX, Sending};
use crate::sessions::routing::{Route, send_routed};
use crate::sessions::state::Sessions;

/// Units of work of a copy of a message for one of several queues. Where each of thousands of
/// queues gets its first message, the kernel has to find memory for all of them.
const COPY: u32 = 4;
/// Bytes of a record whose copy is another unit.
const COPIED: usize = 512;

/// How many copies of a message may be made now, at least one.
pub(in crate::sessions) fn copies_now(
    message: Message<'_>,
    broker: &mut impl BrokerAccess,
) -> (usize, u32) {
    let units = COPY + (message.record().len() / COPIED) as u32;
    let most = if mutant::active(Mutant::CopiesUncut) {
        usize::MAX
    } else {
        (broker.work().left() / units).clamp(1, QUEUES_MAX as u32) as usize
    };
    (most, units)
}

/// Whether all copies of a message for its queues may be made now; if so, they are counted.
pub(super) fn copies_fit(
    message: Message<'_>,
    queues: usize,
    broker: &mut impl BrokerAccess,
) -> bool {
    let (most, units) = copies_now(message, broker);
    if queues <= most {
        broker.work().spend(units.saturating_mul(queues as u32));
    }
    queues <= most
}

impl Sessions {
    /// Counts the steps of a route. The connection is read on in the next turn if they were many.
    pub(super) fn count_route(&mut self, id: ConnId, steps: u64, broker: &mut impl BrokerAccess) {
        if steps >= ROUTING_STEPS {
            broker.work().spend(u32::try_from(steps / ROUTING_STEPS).unwrap_or(u32::MAX));
            self.rest_if_spent(id, broker);
        }
    }

    /// Reads a connection on in the next turn if this one has done enough.
    #[inline]
    pub(in crate::sessions) fn rest_if_spent(
        &mut self,
        id: ConnId,
        broker: &mut impl BrokerAccess,
    ) {
        if broker.work().is_spent() {
            self.connections.read_later(id);
        }
    }

    /// The route of the message in `draft` goes on in the next turn.
    #[cold]
    pub(super) fn route_later(
        &mut self,
        publisher: Publisher,
        draft: Draft,
        keys: Vec<Name>,
        targets: Targets,
    ) {
        let stage = PublishStage::Routing(keys, Box::new(targets));
        self.publish_later(PendingPublish { publisher, draft, stage });
    }

    fn publish_later(&mut self, publish: PendingPublish) {
        let id = publish.publisher.conn;
        let Some(conn) = self.connections.get(id) else { return };
        conn.publishing = true;
        self.publishes.insert(id, publish);
        self.connections.go_on_later(Unfinished::Publish(id));
    }

    /// Goes on with the publish of a connection, which is read again when that is done.
    pub(in crate::sessions) fn go_on_publishing(
        &mut self,
        id: ConnId,
        broker: &mut impl BrokerAccess,
    ) {
        let Some(publish) = self.publishes.remove(&id) else { return };
        if let Some(conn) = self.connections.get(id) {
            conn.publishing = false;
        }
        let PendingPublish { publisher, draft, stage } = publish;
        match stage {
            PublishStage::Routing(keys, targets) => {
                self.go_on_routing(publisher, draft, keys, *targets, broker);
            }
            PublishStage::Sending(sending) => self.go_on_sending(publisher, draft, sending, broker),
        }
        if self.connections.get(id).is_some_and(|conn| !conn.publishing) {
            self.connections.end_work(id);
        }
    }

    fn go_on_routing(
        &mut self,
        publisher: Publisher,
        mut draft: Draft,
        keys: Vec<Name>,
        mut targets: Targets,
        broker: &mut impl BrokerAccess,
    ) {
        let (before, id) = (targets.work(), publisher.conn);
        targets.may_work(u64::from(broker.work().left()) * ROUTING_STEPS);
        self.meet_states(publisher, &mut targets, broker.now());
        let route = self.find(id, draft.message(), &keys, &mut targets);
        self.leave_states(&mut targets);
        self.count_route(id, targets.work() - before, broker);
        if let Ok(Route::Unfinished) = route {
            return self.route_later(publisher, draft, keys, targets);
        }
        if let Ok(Route::Elsewhere) = route {
            if self.route_elsewhere(publisher, &mut draft, &keys, broker) {
                let queues = std::mem::take(&mut self.routes);
                self.hold(publisher, draft.message(), &queues, broker);
            }
            return;
        }
        self.remember(publisher, &targets, &mut draft);
        // If the exchange is gone by now, the message goes to what was found before.
        let queues = targets.queues().to_vec();
        self.routes.extend_from_slice(&queues);
        self.count_found(publisher, draft.message());
        self.routes.clear();
        if publisher.tx {
            return self.hold(publisher, draft.message(), &queues, broker);
        }
        self.send_to_many(publisher, draft, queues, broker);
    }

    /// Sends the message in the scratch draft to its queues, in pieces if this turn has not that
    /// much work left.
    #[inline(never)]
    pub(super) fn send_to_several(&mut self, publisher: Publisher, broker: &mut impl BrokerAccess) {
        let Self { connections, scratch, routes, .. } = self;
        if !copies_fit(scratch.message(), routes.len(), broker) {
            return self.send_scratch(publisher, broker);
        }
        send_routed(connections, publisher, scratch.message(), routes, broker);
        self.published();
        self.rest_if_spent(publisher.conn, broker);
    }

    /// Sends the message in the scratch draft to its queues in pieces.
    #[cold]
    fn send_scratch(&mut self, publisher: Publisher, broker: &mut impl BrokerAccess) {
        let draft = std::mem::take(&mut self.scratch);
        let queues = std::mem::take(&mut self.routes);
        self.send_to_many(publisher, draft, queues, broker);
    }

    /// Sends a message to its queues, as many as the turn's work allows.
    fn send_to_many(
        &mut self,
        publisher: Publisher,
        mut draft: Draft,
        mut queues: Vec<QueueAt>,
        broker: &mut impl BrokerAccess,
    ) {
        if copies_fit(draft.message(), queues.len(), broker) {
            send_routed(&mut self.connections, publisher, draft.message(), &mut queues, broker);
            return;
        }
        queues.sort_unstable_by_key(|(queue, home)| (*home, *queue));
        self.connections.begin_confirm(publisher);
        let sending = Sending { queues, sent: 0, refused: false };
        self.go_on_sending(publisher, draft, sending, broker);
    }

    fn go_on_sending(
        &mut self,
        publisher: Publisher,
        mut draft: Draft,
        mut sending: Sending,
        broker: &mut impl BrokerAccess,
    ) {
        while sending.sent < sending.queues.len() {
            if broker.work().is_spent() && !mutant::active(Mutant::SendingUncut) {
                let stage = PublishStage::Sending(sending);
                return self.publish_later(PendingPublish { publisher, draft, stage });
            }
            let (most, units) = copies_now(draft.message(), broker);
            let end = sending.queues.len().min(sending.sent.saturating_add(most));
            let Some(piece) = sending.queues.get_mut(sending.sent..end) else { break };
            broker.work().spend(units.saturating_mul(piece.len() as u32));
            let published =
                broker.publish(&mut self.connections, publisher, draft.message(), piece);
            self.connections.add_confirms(publisher, published.waits);
            sending.refused |= published.refused;
            sending.sent = end;
        }
        self.connections.end_confirm(publisher, sending.refused);
    }

    /// A connection is gone while its publish goes on: the message goes to all its queues, as the
    /// client may have been promised, unless it is still being routed.
    pub(in crate::sessions) fn publish_is_done(
        &mut self,
        id: ConnId,
        broker: &mut impl BrokerAccess,
    ) -> bool {
        self.go_on_publishing(id, broker);
        self.connections.get(id).is_none_or(|conn| !conn.publishing)
    }
}
