//! How a message of a classic queue is sent, counted and held until it is settled.

use crate::ids::{ChannelId, ConnId, ConsumerId};
use crate::queue::classic::deadlines::NEVER;
use crate::queue::classic::{ClassicQueue, UnackedMessage};
use crate::queue::consumer::Slot;
use crate::queue::entry::QueuedMessage;
use crate::queue::{Addressed, Delivery, Get, QueueOutput, Unfit, Way};
use crate::time::Now;

/// Where a message goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Receiver {
    pub conn: ConnId,
    pub channel: ChannelId,
    /// 0 for a basic.get.
    pub consumer: ConsumerId,
    pub slot: Slot,
    pub no_ack: bool,
}

/// What restrains the consumer that a message is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Restraints {
    /// It took a permit.
    pub limited: bool,
    pub held_back: bool,
    pub properties_max: usize,
}

impl ClassicQueue {
    /// Sends a message that is small for the consumer in front.
    #[inline(always)]
    pub(super) fn send_small(
        &mut self,
        to: Receiver,
        entry: QueuedMessage,
        now: Now,
        output: &mut impl QueueOutput,
    ) {
        let number = self.number(to.no_ack);
        let address = self.address(&to, number, entry.redelivered);
        output.deliver(Delivery { to: address, message: self.memory.small_message(&entry) });
        self.count_sent(to, (number, now), entry, output);
    }

    #[inline(always)]
    fn count_sent(
        &mut self,
        to: Receiver,
        numbered: (u64, Now),
        entry: QueuedMessage,
        output: &mut impl QueueOutput,
    ) {
        if to.no_ack {
            self.counters.delivered_no_ack += 1;
        } else {
            self.counters.delivered += 1;
        }
        self.sent(to, numbered, entry, output);
    }

    /// Sends a message to the consumer in front, unless that cannot be sent it, or not now. Apart
    /// from the path of small messages, which so needs to move them less.
    #[inline(never)]
    pub(super) fn send_large(
        &mut self,
        to: Receiver,
        restraints: Restraints,
        entry: QueuedMessage,
        now: Now,
        output: &mut impl QueueOutput,
    ) {
        let (conn, channel, slot) = (to.conn, to.channel, to.slot);
        if let Some(properties) = entry.properties_beyond(restraints.properties_max, &self.memory) {
            output.unfit(Unfit { conn, channel, way: Way::Deliver, properties });
            self.consumers.unfit(slot);
            return self.put_back(entry);
        }
        if entry.is_large() {
            let barred = restraints.held_back && self.large_unacked > 0;
            if barred || !output.open_for(self.id, conn, self.memory.message(&entry)) {
                return self.wait_for_room(slot, restraints.limited, barred, entry);
            }
        }
        self.consumers.sent(slot);
        let number = self.number(to.no_ack);
        output.deliver(self.delivery(&to, number, &entry));
        self.count_sent(to, (number, now), entry, output);
    }

    /// The consumer in front cannot be sent the large message in front now: it is `barred`, or has
    /// no credit.
    #[cold]
    #[inline(never)]
    fn wait_for_room(&mut self, slot: Slot, limited: bool, barred: bool, entry: QueuedMessage) {
        if limited {
            self.consumers.unspend(slot);
        }
        if barred {
            self.barred_by = entry.seq;
            self.consumers.bar(slot);
        } else {
            self.consumers.step_aside(slot);
        }
        self.put_back(entry);
    }

    /// Answers a get with a message, unless that cannot be sent to its channel.
    #[inline(never)]
    pub(super) fn send_got(
        &mut self,
        get: Get,
        entry: QueuedMessage,
        now: Now,
        output: &mut impl QueueOutput,
    ) {
        let Get { ticket, conn, channel, no_ack, properties_max } = get;
        if let Some(properties) = entry.properties_beyond(properties_max, &self.memory) {
            output.unfit(Unfit { conn, channel, way: Way::Get, properties });
            return self.put_back(entry);
        }
        let to = Receiver { conn, channel, consumer: ConsumerId(0), slot: usize::MAX, no_ack };
        let number = self.number(no_ack);
        let remaining = self.ready();
        output.got(ticket, remaining, self.delivery(&to, number, &entry));
        if no_ack {
            self.counters.got_no_ack += 1;
        } else {
            self.counters.got += 1;
        }
        self.sent(to, (number, now), entry, output);
    }

    fn number(&mut self, no_ack: bool) -> u64 {
        if no_ack {
            return 0;
        }
        self.next_number += 1;
        self.next_number - 1
    }

    #[inline(always)]
    fn delivery<'a>(
        &'a self,
        to: &Receiver,
        number: u64,
        entry: &'a QueuedMessage,
    ) -> Delivery<'a> {
        let to = self.address(to, number, entry.redelivered);
        Delivery { to, message: self.memory.message(entry) }
    }

    #[inline(always)]
    fn address(&self, to: &Receiver, number: u64, redelivered: bool) -> Addressed {
        let Receiver { conn, channel, consumer, .. } = *to;
        Addressed { conn, channel, consumer, queue: self.id, number, redelivered }
    }

    #[inline(always)]
    fn sent(
        &mut self,
        to: Receiver,
        (number, now): (u64, Now),
        entry: QueuedMessage,
        output: &mut impl QueueOutput,
    ) {
        self.counters.redelivered += u64::from(entry.redelivered);
        if to.no_ack {
            self.remove(entry, output);
        } else {
            let deadline = if self.deadlines.on() { self.deadline(&to, now) } else { NEVER };
            // A get's slot is that of no consumer, also when it is cut.
            let (consumer, slot) = (to.consumer, to.slot as u32);
            self.unacked_bytes += entry.bytes();
            self.large_unacked += u32::from(entry.is_large());
            let ledger = match self.unacked.get_mut(&to.channel) {
                Some(ledger) => ledger,
                None => self.unacked.entry(to.channel).or_default(),
            };
            let before = ledger.pinned();
            ledger.push(number, UnackedMessage { entry, consumer, slot, deadline });
            self.ledger_bytes += ledger.pinned() - before;
        }
        self.fetch_ahead(output);
    }

    #[cold]
    #[inline(never)]
    fn deadline(&mut self, to: &Receiver, now: Now) -> u32 {
        let own_ms = self.consumers.timeout_ms(to.slot, to.consumer);
        self.deadlines.of((to.conn, to.channel), own_ms, now)
    }

    /// Puts the first message, which was not delivered, back to its position.
    #[cold]
    #[inline(never)]
    fn put_back(&mut self, entry: QueuedMessage) {
        self.count_body(&entry, true);
        self.return_to_place(entry);
    }
}
