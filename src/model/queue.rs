//! A classic queue: messages in order, consumers in turn, unacknowledged deliveries.
//!
//! ```text
//!             returned          backlog (in order of arrival)
//!          +------------+   +-----------------------------------+
//!   pop <--| by seq     |<--| here, here | ... away ... | here  |<-- push
//!          +------------+   +-----------------------------------+
//!              ^  requeue                 | deliver
//!              |                          v
//!          +--------------------------------------+
//!          | unacked: channel -> number -> entry  |--> ack: gone
//!          +--------------------------------------+
//! ```
//!
//! A requeued message was in front of all that are ready, so it goes back to its original position
//! by being taken first, in order of its sequence number. Messages behind the head may be *away*
//! (the store has them, `queue_store.rs`); before they are the head they are fetched, and delivery
//! waits until they are here.
//!
//! A persistent message that a durable queue keeps is logged, or, where a long backlog is in front
//! of it, goes to the store and nowhere else. However it leaves the queue for good, the store is
//! told.

use std::collections::{BTreeMap, VecDeque};

use crate::backlog::Backlog;
use crate::consumer::{ConsumerSpec, Consumers, Slot};
use crate::entry::{Entry, Memory};
use crate::hash::{Map, Seed};
use crate::ids::{ChannelId, ConnId, ConsumerId, QueueId};
use crate::ledger::Ledger;
use crate::message::Message;
use crate::mutant::{self, Mutant};
pub use crate::outlet::{Addressed, Delivery, Get, Outlet, Settle, Spilled};
use crate::stored::Stored;

/// Whether a queue takes and gives messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Open,
    /// What it has on the disk cannot be read.
    Broken,
    /// It is being deleted.
    Frozen,
}

#[derive(Debug)]
pub(crate) struct Unacked {
    pub entry: Entry,
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
    pub(crate) id: QueueId,
    /// Its persistent messages are logged.
    pub(crate) durable: bool,
    auto_delete: bool,
    standing: Standing,
    /// Persistent messages go to the store at once as long as what is away is the last there is.
    pub(crate) through: bool,
    pub(crate) memory: Memory,
    pub(crate) backlog: Backlog,
    pub(crate) returned: BTreeMap<u64, Entry>,
    pub(crate) unacked: Map<ChannelId, Ledger<Unacked>>,
    consumers: Consumers,
    gets: VecDeque<Get>,
    pub(crate) next_seq: u64,
    /// The last message that was logged when it entered.
    pub(crate) logged: u64,
    /// No message behind this one was logged again.
    pub(crate) logged_again: u64,
    next_number: u64,
    counters: Counters,
}

impl Queue {
    /// An empty queue. If it is `durable`, its persistent messages are logged.
    #[must_use]
    pub fn new(id: QueueId, durable: bool, auto_delete: bool, seed: Seed) -> Self {
        Self {
            id,
            durable,
            auto_delete,
            standing: Standing::Open,
            through: false,
            memory: Memory::default(),
            backlog: Backlog::default(),
            returned: BTreeMap::new(),
            unacked: Map::with_hasher(seed),
            consumers: Consumers::default(),
            gets: VecDeque::new(),
            next_seq: 1,
            logged: 0,
            logged_again: 0,
            next_number: 1,
            counters: Counters::default(),
        }
    }

    /// Messages that could be delivered, those that are away too.
    #[must_use]
    #[inline]
    pub fn ready(&self) -> u32 {
        let ready = self.backlog.len() + self.returned.len() as u64;
        u32::try_from(ready).unwrap_or(u32::MAX)
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
        let entries = self.backlog.capacity() + self.returned.len();
        self.memory.pinned() + entries * size_of::<Entry>()
    }

    /// Whether the queue is being deleted.
    #[must_use]
    pub fn frozen(&self) -> bool {
        self.standing == Standing::Frozen
    }

    /// Whether it is out of service; see [`Self::break_down`].
    #[must_use]
    pub fn broken(&self) -> bool {
        self.standing == Standing::Broken
    }

    /// From now on the queue only waits for its end: what enters is dropped, nothing is delivered.
    pub fn freeze(&mut self) {
        self.standing = Standing::Frozen;
    }

    /// What the queue has away cannot be read: it is out of service until it is purged or deleted.
    /// It refuses what enters and delivers nothing; what it has stays, and what was delivered can
    /// be settled. Its consumers and the gets that waited are gone: they are for the caller to
    /// tell. Where it is being deleted nothing changes.
    pub fn break_down(&mut self) -> (Vec<ConsumerSpec>, Vec<Get>) {
        if self.frozen() {
            return Default::default();
        }
        self.standing = Standing::Broken;
        let consumers = self.consumers.iter().cloned().collect();
        self.consumers.remove(|_| true);
        (consumers, self.gets.drain(..).collect())
    }

    /// A message enters and goes to a consumer whose turn it is, or waits.
    #[inline(always)]
    pub fn push(&mut self, message: Message<'_>, outlet: &mut impl Outlet) {
        if self.standing != Standing::Open {
            return self.turn_away(outlet);
        }
        self.counters.published += 1;
        if self.backlog.is_empty() && self.returned.is_empty() && self.pass(message, outlet) {
            return;
        }
        if self.durable && message.persistent() {
            return self.push_persistent(message, outlet);
        }
        let entry = self.hold(message);
        self.backlog.push(entry);
        self.dispatch(outlet);
    }

    /// A message enters that the store is to have.
    // Never inlined: the path of other messages is not to pay for it.
    #[inline(never)]
    fn push_persistent(&mut self, message: Message<'_>, outlet: &mut impl Outlet) {
        if !(self.through && self.write_through(message, outlet)) {
            let mut entry = self.hold(message);
            entry.stored = outlet.log(self.id, entry.seq, message);
            self.logged = entry.seq;
            self.backlog.push(entry);
        }
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

    /// A queue that is being deleted drops what enters; one that is out of service refuses it.
    #[cold]
    fn turn_away(&self, outlet: &mut impl Outlet) {
        if self.broken() {
            outlet.refuse();
        }
    }

    #[inline]
    fn hold(&mut self, message: Message<'_>) -> Entry {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.memory.hold(seq, message)
    }

    /// Serves waiting gets and consumers as long as there are messages at hand.
    pub fn dispatch(&mut self, outlet: &mut impl Outlet) {
        while self.standing == Standing::Open && self.ready() > 0 {
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
    /// it, unless this one has its permit, or from one of a lower priority. Else two whose permits
    /// come in turn could each send theirs back for the other's sake, for ever.
    #[cold]
    fn kept_back(&self, slot: Slot) -> bool {
        let all = self.consumers.reserved() >= self.ready();
        (all && !self.consumers.has_permit(slot)) || self.consumers.outranked(slot)
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

    /// Whether the first message is at hand; if not, it is fetched.
    fn at_hand(&mut self, outlet: &mut impl Outlet) -> bool {
        let here = !self.returned.is_empty() || self.backlog.at_hand();
        if !here {
            self.fetch(outlet);
        }
        here
    }

    /// The first message, if it is at hand. What is away is fetched in time.
    #[inline]
    fn take_head(&mut self, outlet: &mut impl Outlet) -> Option<Entry> {
        if let Some((_, entry)) = self.returned.pop_first() {
            return Some(entry);
        }
        let head = self.backlog.pop();
        if self.backlog.away() > 0 {
            self.fetch(outlet);
        }
        head
    }

    fn send(&mut self, to: Send, entry: Entry, outlet: &mut impl Outlet) {
        let number = self.number(to.no_ack);
        outlet.deliver(self.delivery(&to, number, &entry));
        self.sent(to, number, entry, outlet);
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
        outlet.got(get.ticket, remaining, self.delivery(&to, number, &entry));
        self.sent(to, number, entry, outlet);
    }

    fn number(&mut self, no_ack: bool) -> u64 {
        if no_ack {
            return 0;
        }
        self.next_number += 1;
        self.next_number - 1
    }

    #[inline(always)]
    fn delivery<'a>(&'a self, to: &Send, number: u64, entry: &'a Entry) -> Delivery<'a> {
        let to = Addressed {
            conn: to.conn,
            channel: to.channel,
            consumer: to.consumer,
            queue: self.id,
            number,
            redelivered: entry.redelivered,
        };
        Delivery { to, message: self.memory.message(entry) }
    }

    #[inline]
    fn sent(&mut self, to: Send, number: u64, entry: Entry, outlet: &mut impl Outlet) {
        self.counters.delivered += 1;
        self.counters.redelivered += u64::from(entry.redelivered);
        if to.no_ack {
            self.counters.acked += 1;
            self.gone(entry, outlet);
        } else {
            let unacked = Unacked { entry, consumer: to.consumer, slot: to.slot };
            self.unacked.entry(to.channel).or_default().push(number, unacked);
        }
    }

    /// A message has left the queue for good.
    #[inline]
    fn gone(&mut self, entry: Entry, outlet: &mut impl Outlet) {
        if entry.stored != Stored::NOWHERE && !mutant::active(Mutant::SettleNotTold) {
            outlet.settled(self.id, entry.seq, entry.stored);
        }
        self.memory.free(entry);
    }

    /// Settles one delivery of a channel. An unknown number is ignored: its channel is gone.
    pub fn settle(
        &mut self,
        channel: ChannelId,
        number: u64,
        how: Settle,
        outlet: &mut impl Outlet,
    ) {
        let Some(ledger) = self.unacked.get_mut(&channel) else {
            return;
        };
        let found = ledger.remove(number);
        if ledger.is_empty() && self.unacked.len() > 1 {
            self.unacked.remove(&channel);
        }
        if let Some(unacked) = found {
            self.settled(unacked, how, outlet);
        }
    }

    /// Settles all deliveries of a channel up to and including `number`.
    pub fn settle_up_to(
        &mut self,
        channel: ChannelId,
        number: u64,
        how: Settle,
        outlet: &mut impl Outlet,
    ) {
        let number = if mutant::active(Mutant::SettleTooMuch) { u64::MAX } else { number };
        while let Some((_, unacked)) =
            self.unacked.get_mut(&channel).and_then(|ledger| ledger.pop_up_to(number))
        {
            self.settled(unacked, how, outlet);
        }
    }

    #[inline]
    fn settled(&mut self, unacked: Unacked, how: Settle, outlet: &mut impl Outlet) {
        self.consumers.settled(unacked.slot, unacked.consumer);
        let mut entry = unacked.entry;
        match how {
            Settle::Ack => {
                self.counters.acked += 1;
                self.gone(entry, outlet);
            }
            Settle::Drop => self.gone(entry, outlet),
            Settle::Requeue => {
                entry.redelivered = !mutant::active(Mutant::FlagLost);
                if mutant::active(Mutant::RequeueToTail) {
                    return self.backlog.push(entry);
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
    pub fn channel_gone(&mut self, channel: ChannelId, outlet: &mut impl Outlet) -> bool {
        let removed = self.consumers.remove(|spec| spec.channel == channel);
        self.settle_up_to(channel, u64::MAX, Settle::Requeue, outlet);
        self.unacked.remove(&channel);
        self.gets.retain(|get| get.channel != channel);
        self.unused(removed)
    }

    fn unused(&mut self, removed: usize) -> bool {
        let last = removed > 0 && self.consumers.is_empty();
        let unused = self.auto_delete && last && !self.frozen();
        if unused {
            self.freeze();
        }
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

    /// Drops the ready messages; says how many there were. A queue that was out of service is in
    /// service again.
    pub fn purge(&mut self, outlet: &mut impl Outlet) -> u32 {
        let purged = self.ready();
        if self.broken() {
            self.standing = Standing::Open;
        }
        if self.backlog.away() > 0 {
            outlet.purge(self.id);
        }
        let returned = std::mem::take(&mut self.returned);
        let mut ready = self.backlog.take();
        let kept = if mutant::active(Mutant::PurgeKeepsOne) { ready.pop_back() } else { None };
        for entry in returned.into_values().chain(ready) {
            self.gone(entry, outlet);
        }
        kept.into_iter().for_each(|entry| self.backlog.push(entry));
        self.refuse_gets(outlet);
        purged
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
