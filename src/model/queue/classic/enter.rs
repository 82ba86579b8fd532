//! A message enters a classic queue: straight to a consumer, to the store, or into memory.

use std::sync::Arc;

use crate::message::Message;
use crate::mutant::{self, Mutant};
use crate::queue::Expiry;
use crate::queue::classic::ClassicQueue;
use crate::queue::entry::QueuedMessage;
use crate::queue::{Addressed, Delivery, Overflow, QueueOutput, QueueService};
use crate::time::Now;

impl ClassicQueue {
    /// A message enters and goes to the consumer whose turn it is, or waits. True if it went
    /// straight to the consumer.
    #[inline(always)]
    pub(super) fn push(
        &mut self,
        message: Message<'_>,
        now: Now,
        output: &mut impl QueueOutput,
    ) -> bool {
        if self.service != QueueService::Open {
            self.turn_away(output);
            return false;
        }
        if self.special || message.expires() {
            self.push_special(message, now, output);
            return false;
        }
        self.counters.published += 1;
        let empty = self.backlog.is_empty() && self.returned.is_empty() && !self.tasks.withholds();
        if empty && self.deliver_directly(message, output) {
            return true;
        }
        if self.durable && message.persistent() {
            self.take_in_persistent(message, Expiry::NEVER, output);
        } else {
            let entry = self.keep(message);
            self.backlog.push(entry);
        }
        self.dispatch(now, output);
        false
    }

    /// A message that may expire, has a priority, or that a limit concerns, enters. One that is
    /// ahead of all others goes to a waiting consumer even if it may not live at all, or the queue
    /// may hold nothing.
    #[cold]
    #[inline(never)]
    fn push_special(&mut self, message: Message<'_>, now: Now, output: &mut impl QueueOutput) {
        if self.timed && self.first_expiry().is_none_or(|first| first.has_come(now.wall_ms)) {
            // What has expired leaves room, and is not ahead of the message.
            self.dispatch(now, output);
        }
        if self.refuses(message) {
            if self.arguments.overflow == Overflow::RejectPublishDlx {
                self.die_on_entry(message, output);
            }
            return output.refuse();
        }
        let Ok(value) = self.value_of(message) else { return };
        self.counters.published += 1;
        let empty = self.backlog.is_empty() && self.returned.is_empty();
        let first = empty && !self.tasks.withholds();
        if first && self.deliver_directly(message, output) {
            return;
        }
        let expiry = self.expiry_of(message, now);
        self.timed |= expiry != Expiry::NEVER;
        if self.arguments.max_length_bytes.is_some() {
            self.count_body_bytes(message.body_len(), true);
        }
        let mut seq = self.next_seq;
        if self.has_priorities() {
            seq = self.take_in_by_priority(message, expiry, output);
        } else if self.durable && message.persistent() {
            self.take_in_persistent(message, expiry, output);
        } else {
            let mut entry = self.keep(message);
            entry.expiry = expiry;
            self.backlog.push(entry);
        }
        if let Some((values, value)) = self.values.as_mut().zip(value) {
            values.enter(seq, value);
        }
        if first && !mutant::active(Mutant::ZeroTtlDropped) {
            self.serve_first(now, output);
            self.spare_first();
        }
        self.dispatch(now, output);
    }

    /// The deduplication value of a message that is to enter. `Err`: it is dropped, since one in
    /// the queue has the same.
    fn value_of(&self, message: Message<'_>) -> Result<Option<Arc<[u8]>>, ()> {
        match &self.values {
            Some(values) if self.arguments.deduplicates => values.check(message),
            _ => Ok(None),
        }
    }

    /// Takes in a message that the store is to have.
    // Out of line, so that the path of transient messages stays small.
    #[inline(never)]
    fn take_in_persistent(
        &mut self,
        message: Message<'_>,
        expiry: Expiry,
        output: &mut impl QueueOutput,
    ) {
        if !(self.bypasses_log && self.bypass_log(message, expiry, output)) {
            let mut entry = self.keep(message);
            entry.expiry = expiry;
            entry.stored = output.log(self.id, entry.seq, expiry, message);
            self.logged = entry.seq;
            self.backlog.push(entry);
        }
    }

    /// Sends a message that is ahead of all others to a consumer that does not acknowledge. It is
    /// never copied into the queue's memory. False: there is no such consumer.
    #[inline(always)]
    fn deliver_directly(&mut self, message: Message<'_>, output: &mut impl QueueOutput) -> bool {
        let id = self.id;
        let Some((slot, consumer)) = self.consumers.next(|conn| output.open(id, conn)) else {
            return false;
        };
        if !consumer.no_ack || message.properties_beyond(consumer.properties_max).is_some() {
            return false;
        }
        let (conn, channel, consumer) = (consumer.conn, consumer.channel, consumer.id);
        if self.consumers.reserved() > 0 {
            return false;
        }
        if message.large_body().is_some() && !output.open_for(id, conn, message) {
            return false;
        }
        let (queue, number, redelivered) = (id, 0, false);
        let to = Addressed { conn, channel, consumer, queue, number, redelivered };
        output.deliver(Delivery { to, message });
        self.consumers.sent(slot);
        self.counters.delivered_no_ack += 1;
        true
    }

    /// A queue that is being deleted drops what enters; one that is out of service refuses it.
    #[cold]
    fn turn_away(&self, output: &mut impl QueueOutput) {
        if self.broken() {
            output.refuse();
        }
    }

    /// Copies a message into memory under the next sequence number.
    #[inline]
    pub(super) fn keep(&mut self, message: Message<'_>) -> QueuedMessage {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.memory.keep(seq, message)
    }
}
