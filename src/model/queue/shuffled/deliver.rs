//! Ready messages of a shuffled queue go to waiting gets and to consumers in turn.

use crate::ids::{ChannelId, ConnId, ConsumerId};
use crate::queue::consumer::Slot;
use crate::queue::entry::QueuedMessage;
use crate::queue::shuffled::{ShuffledQueue, UnsettledMessage};
use crate::queue::{Addressed, Delivery, Get, QueueOutput, QueueService, Unfit, Way};
use crate::time::Now;

impl ShuffledQueue {
    pub(super) fn get(&mut self, get: Get, now: Now, output: &mut impl QueueOutput) {
        self.gets.push_back(get);
        self.dispatch(now, output);
    }

    pub(super) fn dispatch(&mut self, _: Now, output: &mut impl QueueOutput) {
        while self.service == QueueService::Open && self.ready_count() > 0 {
            if !self.head_is_resident() {
                return self.fetch(output);
            }
            if let Some(get) = self.gets.pop_front() {
                self.answer(get, output);
            } else if !self.serve_next(output) {
                return;
            }
        }
        self.answer_empty(output);
    }

    /// Answers all waiting gets: there is no message.
    pub(super) fn answer_empty(&mut self, output: &mut impl QueueOutput) {
        for get in self.gets.drain(..) {
            self.counters.got_empty += 1;
            output.empty(get.ticket);
        }
    }

    fn answer(&mut self, get: Get, output: &mut impl QueueOutput) {
        let Get { ticket, conn, channel, no_ack, properties_max } = get;
        if let Some(properties) = self.head_beyond(properties_max) {
            return output.unfit(Unfit { conn, channel, way: Way::Get, properties });
        }
        let Some((_, entry)) = self.ready.pop_first() else { return };
        let to = self.address((conn, channel, ConsumerId(0)), no_ack, &entry);
        let message = self.memory.message(&entry);
        output.got(ticket, self.ready(), Delivery { to, message });
        if no_ack {
            self.counters.got_no_ack += 1;
        } else {
            self.counters.got += 1;
        }
        self.sent(to, Slot::MAX, entry, output);
    }

    /// The bytes of the first message's properties, if they are more than `max`.
    fn head_beyond(&self, max: usize) -> Option<usize> {
        self.ready.first_key_value()?.1.properties_beyond(max, &self.memory)
    }

    /// Sends the first message to the consumer whose turn it is, or lets that one request a
    /// permit. False: no consumer can be sent a message now.
    fn serve_next(&mut self, output: &mut impl QueueOutput) -> bool {
        let id = self.id;
        let next = self.consumers.next(|conn| output.open(id, conn));
        let Some((slot, consumer)) = next else { return false };
        let (limited, no_ack, max) = (consumer.limited, consumer.no_ack, consumer.properties_max);
        let whom = (consumer.conn, consumer.channel, consumer.id);
        let ready = self.ready();
        if self.consumers.reserved() > 0 && self.consumers.withheld(slot, ready) {
            return false;
        }
        if limited && !self.consumers.spend(slot) {
            if let Some(ask) = self.consumers.ask(slot, ready)
                && let Some(count) = output.ask(id, ask)
            {
                self.consumers.permitted(slot, ask.consumer, count);
            }
            return true;
        }
        if let Some(properties) = self.head_beyond(max) {
            output.unfit(Unfit { conn: whom.0, channel: whom.1, way: Way::Deliver, properties });
            self.consumers.unfit(slot);
            return true;
        }
        let Some((_, entry)) = self.ready.pop_first() else { return false };
        let to = self.address(whom, no_ack, &entry);
        output.deliver(Delivery { to, message: self.memory.message(&entry) });
        self.consumers.sent(slot);
        if no_ack {
            self.counters.delivered_no_ack += 1;
        } else {
            self.counters.delivered += 1;
        }
        self.sent(to, slot, entry, output);
        true
    }

    fn address(
        &mut self,
        (conn, channel, consumer): (ConnId, ChannelId, ConsumerId),
        no_ack: bool,
        entry: &QueuedMessage,
    ) -> Addressed {
        let number = if no_ack { 0 } else { self.next_number };
        self.next_number += u64::from(!no_ack);
        let redelivered = entry.redelivered;
        Addressed { conn, channel, consumer, queue: self.id, number, redelivered }
    }

    fn sent(
        &mut self,
        to: Addressed,
        slot: Slot,
        entry: QueuedMessage,
        output: &mut impl QueueOutput,
    ) {
        self.counters.redelivered += u64::from(to.redelivered);
        if to.number == 0 {
            return self.remove(entry, output);
        }
        let outstanding = UnsettledMessage { entry, consumer: to.consumer, slot };
        self.outstanding.insert((to.channel, to.number), outstanding);
    }

    pub(super) fn permitted(
        &mut self,
        slot: Slot,
        consumer: ConsumerId,
        count: u32,
        now: Now,
        output: &mut impl QueueOutput,
    ) -> u32 {
        if !self.consumers.permitted(slot, consumer, count) {
            return count;
        }
        self.dispatch(now, output);
        self.consumers.unused(slot)
    }

    pub(super) fn limit(
        &mut self,
        channel: ChannelId,
        limited: bool,
        now: Now,
        output: &mut impl QueueOutput,
    ) {
        let mut from = 0;
        while let Some(next) = self.consumers.limit(channel, limited, from) {
            from = next;
        }
        self.dispatch(now, output);
    }

    pub(super) fn reopen(&mut self, conn: ConnId, now: Now, output: &mut impl QueueOutput) {
        self.consumers.reopen(conn);
        self.dispatch(now, output);
    }
}
