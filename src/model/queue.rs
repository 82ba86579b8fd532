//! A classic queue: messages in order, consumers in turn, unacknowledged deliveries.
//!
//! ```text
//!             returned          ready (in order of arrival)
//!          +------------+   +-----------------------------------+
//!   pop <--| by seq     |<--| here, here, ... away, away, here  |<-- push
//!          +------------+   +-----------------------------------+
//!              ^  requeue                 | deliver
//!              |                          v
//!          +--------------------------------------+
//!          | unacked: channel -> number -> entry  |--> ack: gone
//!          +--------------------------------------+
//! ```
//!
//! A requeued message was in front of all that are ready, so it goes back to its original position
//! by being taken first, in order of its sequence number. An entry may be *away* (its record is in
//! the store); when it comes to the head it is fetched, and delivery goes on once it is loaded.

use std::collections::{BTreeMap, VecDeque};

use crate::arena::{Arena, Place};
use crate::consumer::{ConsumerSpec, Consumers, Slot};
use crate::hash::{Map, Seed};
use crate::ids::{ChannelId, ConnId, ConsumerId, QueueId};
use crate::ledger::Ledger;
use crate::message::{Body, Message};
use crate::mutant::{self, Mutant};
pub use crate::outlet::{Addressed, Delivery, Get, Outlet, Settle};

/// Room for so many entries is kept when a longer backlog has gone.
const READY_KEPT: usize = 1024;

#[derive(Debug)]
enum Content {
    Here { place: Place, body: Option<Body> },
    Away,
}

#[derive(Debug)]
struct Entry {
    seq: u64,
    redelivered: bool,
    content: Content,
}

#[derive(Debug)]
struct Unacked {
    entry: Entry,
    consumer: ConsumerId,
    slot: Slot,
}

/// Counted since the queue was created.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages that entered.
    pub published: u64,
    /// Messages sent to consumers and gets.
    pub delivered: u64,
    /// Of those, sent again.
    pub redelivered: u64,
    /// Messages acknowledged, by the client or by being sent.
    pub acked: u64,
}

/// A classic queue.
#[derive(Debug)]
pub struct Queue {
    id: QueueId,
    auto_delete: bool,
    frozen: bool,
    arena: Arena,
    /// Octets in bodies held by reference.
    body_octets: usize,
    /// Records beyond this many octets go to the store.
    resident_max: usize,
    ready: VecDeque<Entry>,
    returned: BTreeMap<u64, Entry>,
    unacked: Map<ChannelId, Ledger<Unacked>>,
    consumers: Consumers,
    gets: VecDeque<Get>,
    fetching: Option<u64>,
    next_seq: u64,
    next_number: u64,
    counters: Counters,
}

impl Queue {
    /// An empty queue. Records beyond `resident_max` octets go to the store.
    #[must_use]
    pub fn new(id: QueueId, auto_delete: bool, resident_max: usize, seed: Seed) -> Self {
        Self {
            id,
            auto_delete,
            frozen: false,
            arena: Arena::default(),
            body_octets: 0,
            resident_max,
            ready: VecDeque::new(),
            returned: BTreeMap::new(),
            unacked: Map::with_hasher(seed),
            consumers: Consumers::default(),
            gets: VecDeque::new(),
            fetching: None,
            next_seq: 1,
            next_number: 1,
            counters: Counters::default(),
        }
    }

    /// Messages that could be delivered.
    #[must_use]
    pub fn ready(&self) -> u32 {
        u32::try_from(self.ready.len() + self.returned.len()).unwrap_or(u32::MAX)
    }

    /// Messages delivered and not settled.
    #[must_use]
    pub fn unacked(&self) -> usize {
        self.unacked.values().map(Ledger::len).sum()
    }

    /// The consumers.
    #[must_use]
    pub fn consumers(&self) -> &Consumers {
        &self.consumers
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Octets of memory held: chunks, bodies by reference, entries.
    #[must_use]
    pub fn pinned(&self) -> usize {
        let entries = self.ready.capacity() + self.returned.len();
        self.arena.pinned() + self.body_octets + entries * size_of::<Entry>()
    }

    /// Whether the queue is being deleted.
    #[must_use]
    pub fn frozen(&self) -> bool {
        self.frozen
    }

    /// From now on the queue only waits for its end: what enters is dropped, nothing is delivered.
    pub fn freeze(&mut self) {
        self.frozen = true;
    }

    /// A message enters and goes to a consumer whose turn it is, or waits.
    #[inline(always)]
    pub fn push(&mut self, message: Message<'_>, outlet: &mut impl Outlet) {
        if self.frozen {
            return;
        }
        self.counters.published += 1;
        if self.ready.is_empty() && self.returned.is_empty() && self.pass(message, outlet) {
            return;
        }
        let entry = self.keep(message, outlet);
        self.ready.push_back(entry);
        self.dispatch(outlet);
    }

    /// Hands a message that nothing is in front of straight to a consumer that acknowledges by
    /// being sent to: it never enters the arena.
    #[inline(always)]
    fn pass(&mut self, message: Message<'_>, outlet: &mut impl Outlet) -> bool {
        let id = self.id;
        let Some((slot, consumer)) = self.consumers.next(|conn| outlet.open(id, conn)) else {
            return false;
        };
        if !consumer.no_ack {
            return false;
        }
        let (conn, channel, consumer) = (consumer.conn, consumer.channel, consumer.id);
        if self.consumers.reserved() > 0 {
            return false;
        }
        let (queue, number, redelivered) = (id, 0, false);
        let to = Addressed { conn, channel, consumer, queue, number, redelivered };
        outlet.deliver(Delivery { to, message });
        self.consumers.sent(slot);
        self.counters.delivered += 1;
        self.counters.acked += 1;
        true
    }

    fn keep(&mut self, message: Message<'_>, outlet: &mut impl Outlet) -> Entry {
        let seq = self.next_seq;
        self.next_seq += 1;
        let content = if self.arena.pinned() + self.body_octets >= self.resident_max {
            outlet.spill(self.id, seq, message);
            Content::Away
        } else {
            self.hold(message)
        };
        Entry { seq, redelivered: false, content }
    }

    fn hold(&mut self, message: Message<'_>) -> Content {
        let body = message.large_body().cloned();
        self.body_octets += body.as_ref().map_or(0, Body::len);
        Content::Here { place: self.arena.push(message.record()), body }
    }

    /// Serves waiting gets and consumers as long as there are messages at hand.
    pub fn dispatch(&mut self, outlet: &mut impl Outlet) {
        while !self.frozen && self.ready() > 0 {
            if let Some(get) = self.gets.front().copied() {
                let Some(entry) = self.take_head(outlet) else {
                    return;
                };
                self.gets.pop_front();
                self.send_got(get, entry, outlet);
                continue;
            }
            let id = self.id;
            let next = self.consumers.next(|conn| outlet.open(id, conn));
            let Some((slot, consumer)) = next else { return };
            let limited = consumer.limited;
            let (conn, channel, consumer, no_ack) =
                (consumer.conn, consumer.channel, consumer.id, consumer.no_ack);
            if self.consumers.reserved() > 0 && self.kept_back(slot) {
                return;
            }
            // A permit would be of no use for what is not at hand.
            if limited && !self.at_hand(outlet) {
                return;
            }
            if limited && !self.permit(slot, outlet) {
                continue;
            }
            let Some(entry) = self.take_head(outlet) else {
                return;
            };
            let send = Send { conn, channel, consumer, slot, no_ack };
            self.consumers.sent(slot);
            self.send(send, entry, outlet);
        }
        self.refuse_gets(outlet);
    }

    /// Gets that were waiting for the head to be loaded when it was purged or the queue frozen.
    fn refuse_gets(&mut self, outlet: &mut impl Outlet) {
        for get in self.gets.drain(..) {
            outlet.empty(get.ticket);
        }
    }

    /// Whether what is ready is kept for consumers whose channels were asked for permits: all of
    /// it, or from one of a lower priority.
    #[cold]
    fn kept_back(&self, slot: Slot) -> bool {
        self.consumers.reserved() >= self.ready() || self.consumers.outranked(slot)
    }

    /// Takes a permit for the consumer in front, which its channel limits; or asks for some, and
    /// the consumer steps aside. The message stays where it is meanwhile.
    #[cold]
    fn permit(&mut self, slot: Slot, outlet: &mut impl Outlet) -> bool {
        if self.consumers.spend(slot) {
            return true;
        }
        if let Some(ask) = self.consumers.ask(slot, self.ready())
            && let Some(count) = outlet.ask(self.id, ask)
        {
            self.consumers.permitted(slot, ask.consumer, count);
        }
        false
    }

    /// A channel's answer: so many permits for a consumer, 0 if it is to wait. Says how many were
    /// of no use.
    pub fn permitted(
        &mut self,
        slot: Slot,
        consumer: ConsumerId,
        count: u32,
        outlet: &mut impl Outlet,
    ) -> u32 {
        if !self.consumers.permitted(slot, consumer, count) {
            return count;
        }
        self.dispatch(outlet);
        self.consumers.unused(slot)
    }

    /// The consumers of a channel need its permits from now on, or no more.
    pub fn limit(&mut self, channel: ChannelId, limited: bool, outlet: &mut impl Outlet) {
        self.consumers.limit(channel, limited);
        self.dispatch(outlet);
    }

    /// Whether the record of the first message is at hand; if not, it is fetched.
    fn at_hand(&mut self, outlet: &mut impl Outlet) -> bool {
        let head = self.ready.front().filter(|_| self.returned.is_empty());
        let Some(away) = head.filter(|head| matches!(head.content, Content::Away)) else {
            return self.ready() > 0;
        };
        if self.fetching.is_none() {
            self.fetching = Some(away.seq);
            outlet.fetch(self.id, away.seq);
        }
        false
    }

    /// The first message, if its record is at hand; else it is fetched.
    fn take_head(&mut self, outlet: &mut impl Outlet) -> Option<Entry> {
        if let Some((_, entry)) = self.returned.pop_first() {
            return Some(entry);
        }
        let head = self.ready.front()?;
        if matches!(head.content, Content::Away) {
            let here = |entry: &Entry| !matches!(entry.content, Content::Away);
            if mutant::active(Mutant::AwayOvertaken)
                && let Some(at) = self.ready.iter().position(here)
            {
                return self.ready.remove(at);
            }
            self.at_hand(outlet);
            return None;
        }
        let head = self.ready.pop_front();
        if self.ready.is_empty() && self.ready.capacity() > READY_KEPT {
            self.ready.shrink_to(READY_KEPT);
        }
        head
    }

    fn send(&mut self, to: Send, entry: Entry, outlet: &mut impl Outlet) {
        let number = self.number(to.no_ack);
        if let Some(delivery) = self.delivery(&to, number, &entry) {
            outlet.deliver(delivery);
        }
        self.sent(to, number, entry);
    }

    fn send_got(&mut self, get: Get, entry: Entry, outlet: &mut impl Outlet) {
        let to = Send {
            conn: get.conn,
            channel: get.channel,
            consumer: ConsumerId(0),
            slot: usize::MAX,
            no_ack: get.no_ack,
        };
        let number = self.number(to.no_ack);
        let remaining = self.ready();
        if let Some(delivery) = self.delivery(&to, number, &entry) {
            outlet.got(get.ticket, remaining, delivery);
        }
        self.sent(to, number, entry);
    }

    fn number(&mut self, no_ack: bool) -> u64 {
        if no_ack {
            return 0;
        }
        self.next_number += 1;
        self.next_number - 1
    }

    #[inline(always)]
    fn delivery<'a>(&'a self, to: &Send, number: u64, entry: &'a Entry) -> Option<Delivery<'a>> {
        // Only a message at hand is taken from the head.
        let Content::Here { place, body } = &entry.content else {
            return None;
        };
        let to = Addressed {
            conn: to.conn,
            channel: to.channel,
            consumer: to.consumer,
            queue: self.id,
            number,
            redelivered: entry.redelivered,
        };
        let message = Message::new(self.arena.get(*place), body.as_ref());
        Some(Delivery { to, message })
    }

    fn sent(&mut self, to: Send, number: u64, entry: Entry) {
        self.counters.delivered += 1;
        self.counters.redelivered += u64::from(entry.redelivered);
        if to.no_ack {
            self.counters.acked += 1;
            self.free(entry);
        } else {
            let unacked = Unacked { entry, consumer: to.consumer, slot: to.slot };
            self.unacked.entry(to.channel).or_default().push(number, unacked);
        }
    }

    fn free(&mut self, entry: Entry) {
        if let Content::Here { place, body } = entry.content {
            self.body_octets -= body.as_ref().map_or(0, Body::len);
            self.arena.free(place);
        }
    }

    /// Settles one delivery of a channel. An unknown number is ignored: its channel is gone.
    pub fn settle(&mut self, channel: ChannelId, number: u64, how: Settle) {
        let Some(ledger) = self.unacked.get_mut(&channel) else {
            return;
        };
        let found = ledger.remove(number);
        if ledger.is_empty() && self.unacked.len() > 1 {
            self.unacked.remove(&channel);
        }
        if let Some(unacked) = found {
            self.settled(unacked, how);
        }
    }

    /// Settles all deliveries of a channel up to and including `number`.
    pub fn settle_up_to(&mut self, channel: ChannelId, number: u64, how: Settle) {
        let number = if mutant::active(Mutant::SettleTooMuch) { u64::MAX } else { number };
        while let Some((_, unacked)) =
            self.unacked.get_mut(&channel).and_then(|ledger| ledger.pop_up_to(number))
        {
            self.settled(unacked, how);
        }
    }

    fn settled(&mut self, unacked: Unacked, how: Settle) {
        self.consumers.settled(unacked.slot, unacked.consumer);
        let mut entry = unacked.entry;
        match how {
            Settle::Ack => {
                self.counters.acked += 1;
                self.free(entry);
            }
            Settle::Drop => self.free(entry),
            Settle::Requeue => {
                entry.redelivered = !mutant::active(Mutant::FlagLost);
                if mutant::active(Mutant::RequeueToTail) {
                    return self.ready.push_back(entry);
                }
                self.returned.insert(entry.seq, entry);
            }
        }
    }

    /// Adds a consumer; [`Self::dispatch`] serves it.
    pub fn consume(&mut self, spec: ConsumerSpec) {
        self.consumers.add(spec);
    }

    /// Whether a consumer like this may be added (spec: exclusive).
    #[must_use]
    pub fn admits(&self, exclusive: bool) -> bool {
        !self.consumers.has_exclusive() && (!exclusive || self.consumers.is_empty())
    }

    /// Removes a consumer; what it was sent stays unacknowledged. True when that was the last one
    /// of an auto-delete queue, which is frozen then.
    pub fn cancel(&mut self, consumer: ConsumerId) -> bool {
        let removed = self.consumers.remove(|spec| spec.id == consumer);
        self.unused(removed)
    }

    /// Requeues what the channel was sent and removes its consumers. True as for [`Self::cancel`].
    pub fn channel_gone(&mut self, channel: ChannelId) -> bool {
        let removed = self.consumers.remove(|spec| spec.channel == channel);
        self.settle_up_to(channel, u64::MAX, Settle::Requeue);
        self.unacked.remove(&channel);
        self.gets.retain(|get| get.channel != channel);
        self.unused(removed)
    }

    fn unused(&mut self, removed: usize) -> bool {
        let unused = self.auto_delete && removed > 0 && self.consumers.is_empty() && !self.frozen;
        self.frozen |= unused;
        unused
    }

    /// One message, now; the answer comes through the outlet.
    pub fn get(&mut self, get: Get, outlet: &mut impl Outlet) {
        if self.ready() == 0 {
            outlet.empty(get.ticket);
        } else {
            self.gets.push_back(get);
            self.dispatch(outlet);
        }
    }

    /// Drops the ready messages; says how many there were.
    pub fn purge(&mut self, outlet: &mut impl Outlet) -> u32 {
        let purged = self.ready();
        let kept = if mutant::active(Mutant::PurgeKeepsOne) { self.ready.pop_back() } else { None };
        let returned = std::mem::take(&mut self.returned);
        let ready = std::mem::take(&mut self.ready);
        for entry in returned.into_values().chain(ready) {
            if matches!(entry.content, Content::Away) && self.fetching != Some(entry.seq) {
                outlet.forget(self.id, entry.seq);
            }
            self.free(entry);
        }
        self.ready.extend(kept);
        self.refuse_gets(outlet);
        purged
    }

    /// The record that was fetched is here. One that was purged meanwhile is forgotten.
    pub fn loaded(&mut self, seq: u64, message: Message<'_>, outlet: &mut impl Outlet) {
        if self.fetching == Some(seq) {
            self.fetching = None;
        }
        if self.ready.front().is_some_and(|head| head.seq == seq) {
            let content = self.hold(message);
            if let Some(head) = self.ready.front_mut() {
                head.content = content;
            }
        }
        self.dispatch(outlet);
    }

    /// The connection may be sent messages again.
    pub fn reopen(&mut self, conn: ConnId, outlet: &mut impl Outlet) {
        self.consumers.reopen(conn);
        self.dispatch(outlet);
    }
}

/// Where a message goes.
#[derive(Debug, Clone, Copy)]
struct Send {
    conn: ConnId,
    channel: ChannelId,
    consumer: ConsumerId,
    slot: Slot,
    no_ack: bool,
}
