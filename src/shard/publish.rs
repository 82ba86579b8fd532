//! One publish: routed by the local copy of the topology, then into local queues or to their homes.

use std::cell::Cell;

use amqp::Method;
use model::mutant::{self, Mutant};
use model::{ConnId, Message, Name, Now, QueueId, Refusal, Resource, ShardId, Targets};

use super::conn::pause;
use super::home::{Became, cost_of_copies};
use super::machine::Shard;
use super::peers::{Awaiting, WINDOW_OCTETS};

/// What a publish needs to know of its channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Publisher {
    pub id: ConnId,
    pub number: u16,
    pub channel: model::ChannelId,
    pub confirms: bool,
    /// In tx mode: what it publishes is held until its commit, which waits until it is durable.
    pub tx: bool,
    pub mandatory: bool,
}

impl Shard {
    /// Publishes the message in the scratch draft.
    #[inline]
    pub(super) fn publish(&mut self, id: ConnId, number: u16, now: Now) {
        // Taken out, so that queues may write to any connection, this one too.
        let mut draft = std::mem::take(&mut self.scratch);
        let mut queues = std::mem::take(&mut self.routes);
        let message = draft.message();
        match self.route(id, number, message, &mut queues) {
            Ok(Some(publisher)) if publisher.tx => self.hold(publisher, message, &queues, now),
            Ok(Some(publisher)) => self.routed(publisher, message, &mut queues),
            Ok(None) => {}
            Err(refusal) => {
                let fault = refusal.fault((60, 40));
                self.fail(id, number, &fault, now);
            }
        }
        draft.done();
        queues.clear();
        self.scratch = draft;
        self.routes = queues;
    }

    /// Finds the queues a message goes to; usually those of the last one.
    #[inline]
    fn route(
        &mut self,
        id: ConnId,
        number: u16,
        message: Message<'_>,
        queues: &mut Vec<(QueueId, ShardId)>,
    ) -> Result<Option<Publisher>, Refusal> {
        let version = self.topology.version();
        let Some(conn) = self.clients.get(id) else { return Ok(None) };
        conn.publisher = true;
        let Some(channel) = conn.channel(number) else { return Ok(None) };
        let publisher = Publisher {
            id,
            number,
            channel: channel.id,
            confirms: channel.confirms.is_some(),
            tx: channel.tx.is_some() && !mutant::active(Mutant::TxPublishesAtOnce),
            mandatory: channel.mandatory,
        };
        let special = !channel.keys.is_empty() || channel.refused.is_some();
        let known = if special { None } else { channel.route.get(version, message.names()) };
        let found = known.map(|known| queues.extend_from_slice(known)).is_some();
        let order = std::mem::take(&mut channel.draft_order);
        if order != 0 {
            self.received(order);
        }
        if self.alarms.any() {
            self.block(id);
        }
        if !found {
            self.look_up(publisher, message, queues)?;
        }
        Ok(Some(publisher))
    }

    /// Finds the queues in the topology.
    fn look_up(
        &mut self,
        publisher: Publisher,
        message: Message<'_>,
        queues: &mut Vec<(QueueId, ShardId)>,
    ) -> Result<(), Refusal> {
        let mut targets = std::mem::take(&mut self.targets);
        targets.clear();
        let channel = self.clients.get(publisher.id).and_then(|c| c.channel(publisher.number));
        let header = channel.map(|c| (std::mem::take(&mut c.keys), c.refused.take()));
        let (keys, refused) = header.unwrap_or_default();
        let by_names = self.find(publisher.id, message, &keys, &mut targets);
        if let (Ok(_), Some(refused)) = (&by_names, refused) {
            self.targets = targets;
            return Err(*refused);
        }
        queues.extend_from_slice(targets.queues());
        self.targets = targets;
        let version = self.topology.version();
        let channel = self.clients.get(publisher.id).and_then(|c| c.channel(publisher.number));
        if by_names? && let Some(channel) = channel {
            channel.route.set(version, message.names(), queues);
        }
        Ok(())
    }

    /// Asks the exchange; says whether only the names mattered, not the headers. `more` are the
    /// keys beside the one of the publish.
    fn find(
        &self,
        id: ConnId,
        message: Message<'_>,
        more: &[Name],
        targets: &mut Targets,
    ) -> Result<bool, Refusal> {
        let Some((vhost_name, vhost)) = self.vhost(id) else { return Ok(false) };
        let resource = || Resource::exchange(vhost_name, message.exchange());
        let exchange =
            vhost.exchange(message.exchange()).ok_or_else(|| Refusal::NotFound(resource()))?;
        if exchange.spec.internal {
            return Err(Refusal::InternalExchange(resource()));
        }
        let looked_at = Cell::new(false);
        let headers = || {
            looked_at.set(true);
            message.properties().basic().headers
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
        vhost.route(exchange, keys, headers, targets);
        if exchange.spec.name.is_empty() {
            self.reply_targets(vhost_name, keys, targets);
        }
        Ok(more.is_empty() && !looked_at.get())
    }

    /// Sends a message that a transaction has held to its queues.
    #[cold]
    pub(super) fn routed_late(
        &mut self,
        publisher: Publisher,
        message: Message<'_>,
        queues: &mut [(QueueId, ShardId)],
    ) {
        self.routed(publisher, message, queues);
    }

    /// Sends a message to its queues.
    #[inline(always)]
    fn routed(
        &mut self,
        publisher: Publisher,
        message: Message<'_>,
        queues: &mut [(QueueId, ShardId)],
    ) {
        let waits = match queues {
            [] => {
                if publisher.mandatory {
                    self.give_back(publisher, message);
                }
                0
            }
            [(queue, home)] => {
                let reply = publisher.mandatory && self.is_reply_queue(*queue);
                let sent = if reply {
                    self.mandatory_reply(publisher, (*queue, *home), message)
                } else {
                    None
                };
                // Not a closure: whether that is inlined would depend on what else changes.
                match sent {
                    Some(waits) => waits,
                    None => self.enqueue(publisher, *home, std::iter::once(*queue), message),
                }
            }
            many => {
                many.sort_unstable_by_key(|(queue, home)| (*home, *queue));
                self.enqueue_many(publisher, many, message)
            }
        };
        if publisher.confirms {
            let first = mutant::active(Mutant::ConfirmByFirst);
            self.count_confirm(publisher, if first { waits.min(1) } else { waits });
        }
    }

    fn enqueue_many(
        &mut self,
        publisher: Publisher,
        by_home: &[(QueueId, ShardId)],
        message: Message<'_>,
    ) -> u16 {
        let homes = by_home.chunk_by(|one, other| one.1 == other.1);
        homes
            .map(|queues| {
                let home = queues.first().map(|(_, home)| *home).unwrap_or_default();
                self.enqueue(publisher, home, queues.iter().map(|(queue, _)| *queue), message)
            })
            .sum()
    }

    /// Puts a message into queues of one home; 1 if its confirm waits for that.
    #[inline(always)]
    fn enqueue(
        &mut self,
        publisher: Publisher,
        home: ShardId,
        queues: impl ExactSizeIterator<Item = QueueId>,
        message: Message<'_>,
    ) -> u16 {
        let copies = queues.len();
        let urgent = message.persistent() && (publisher.confirms || publisher.tx);
        if home == self.me {
            let became = self.push_all(queues, message);
            if !became.nothing() {
                self.became_own(publisher, became);
            }
            if self.crowded {
                self.stall(publisher.id, home);
            }
            if copies > 1 {
                self.count_copies(publisher.id, cost_of_copies(message, copies));
            }
            if !urgent {
                return 0;
            }
            self.peers.get(home).progress.urgent();
        } else {
            self.peers.get(home).out.enqueue(queues, message, urgent);
        }
        self.sent(publisher, home, cost_of_copies(message, copies), message.persistent())
    }

    /// Counts what was sent to a home; 1 if the confirm waits for that.
    #[inline(always)]
    pub(super) fn sent(
        &mut self,
        publisher: Publisher,
        home: ShardId,
        octets: u64,
        persistent: bool,
    ) -> u16 {
        let here = home == self.me;
        let early = mutant::active(Mutant::ConfirmTooEarly) && !here;
        let confirms = publisher.confirms && !early;
        let peer = self.peers.get(home);
        let enqueue = peer.send(octets);
        if confirms {
            let Publisher { id: conn, channel, .. } = publisher;
            let publish = self.clients.next_publish(conn, publisher.number);
            let awaiting = Awaiting { enqueue, conn, channel, publish };
            let durable = persistent && !mutant::active(Mutant::ConfirmByApplied);
            self.peers.get(home).wait(awaiting, durable);
        } else if publisher.tx && !here {
            let Publisher { id: conn, channel, .. } = publisher;
            self.peers.get(home).committed(Awaiting { enqueue, conn, channel, publish: 0 });
        }
        if !here && self.peers.full(home) {
            self.stall(publisher.id, home);
        }
        u16::from(confirms)
    }

    /// A message enters queues of this shard.
    #[inline(always)]
    pub(super) fn push_all(
        &mut self,
        queues: impl Iterator<Item = QueueId>,
        message: Message<'_>,
    ) -> Became {
        if message.persistent() {
            self.store.next_message();
        }
        for queue in queues {
            self.push(queue, message);
        }
        std::mem::take(&mut self.home.became)
    }

    /// A message enters a queue of this shard; one that is gone drops it.
    #[inline(always)]
    pub(super) fn push(&mut self, queue: QueueId, message: Message<'_>) {
        // Other shards' reply queues are not here.
        if queue.origin() == self.me {
            return self.push_reply(queue, message);
        }
        self.with_queue(queue, |queue, door| queue.push(message, door));
    }

    /// What goes to many queues is small to send and large to keep: beyond a window's octets the
    /// rest waits for the next turn, so that others have theirs and an alarm can come between.
    fn count_copies(&mut self, id: ConnId, octets: u64) {
        self.copied += octets;
        if self.copied_enough() {
            self.stall(id, self.me);
        }
    }

    /// Whether publishes to several queues of this shard have to wait for the next turn.
    pub(super) fn copied_enough(&self) -> bool {
        self.copied > WINDOW_OCTETS
    }

    /// The connection published more to a home than that has applied: it is not read for now.
    pub(super) fn stall(&mut self, id: ConnId, home: ShardId) {
        let Some(conn) = self.clients.get(id) else {
            return;
        };
        if conn.paused & pause::WINDOW == 0 {
            conn.paused |= pause::WINDOW;
            self.peers.get(home).stalled.push(id);
            self.clients.touch(id);
        }
    }

    pub(super) fn give_back(&mut self, publisher: Publisher, message: Message<'_>) {
        if publisher.confirms && mutant::active(Mutant::AckBeforeReturn) {
            let number = self.clients.next_publish(publisher.id, publisher.number);
            let ack = Method::BasicAck { delivery_tag: number, multiple: false };
            self.clients.send(publisher.id, publisher.number, &ack);
        }
        let Some(conn) = self.clients.get(publisher.id) else {
            return;
        };
        conn.give_back(publisher.number, message);
        self.clients.touch(publisher.id);
    }

    #[inline]
    fn count_confirm(&mut self, publisher: Publisher, waits: u16) {
        let Publisher { id, number, .. } = publisher;
        let refused = std::mem::take(&mut self.refused);
        let channel = self.clients.get(id).and_then(|conn| conn.channel(number));
        let Some(confirms) = channel.and_then(|channel| channel.confirms.as_mut()) else {
            return;
        };
        let due = confirms.due();
        let publish = confirms.publish(waits);
        if refused {
            confirms.refuse(publish);
        }
        if !due && confirms.due() {
            self.clients.telling.push((id, number));
        }
    }
}
