//! Ready messages of a classic queue go to waiting gets and to consumers in turn.

use crate::ids::{ChannelId, ConnId, ConsumerId};
use crate::mutant::{self, Mutant};
use crate::queue::classic::ClassicQueue;
use crate::queue::classic::send::{Receiver, Restraints};
use crate::queue::classic::unfinished::Task;
use crate::queue::consumer::Slot;
use crate::queue::entry::QueuedMessage;
use crate::queue::{QueueOutput, QueueService};
use crate::time::Now;
use crate::work::DELIVERED_AT_ONCE;

impl ClassicQueue {
    /// Drops what a limit or the time demands, and serves waiting gets and consumers as long as
    /// there are messages in memory, some of them at once.
    #[inline]
    pub(super) fn dispatch(&mut self, now: Now, output: &mut impl QueueOutput) {
        self.dispatch_some(DELIVERED_AT_ONCE, now, output);
    }

    /// The same with at most `most` messages. Returns how many units of work that was.
    #[inline]
    pub(super) fn dispatch_some(
        &mut self,
        most: u32,
        now: Now,
        output: &mut impl QueueOutput,
    ) -> u32 {
        if self.tasks.withholds() {
            return 0;
        }
        if self.timed || self.drops_head {
            return self.dispatch_watched(most, now, output);
        }
        self.serve(most, now, output)
    }

    /// Serves the consumer whose turn it is, if any, with the only message, which has just entered
    /// and is sent even if it expires now.
    pub(super) fn serve_first(&mut self, now: Now, output: &mut impl QueueOutput) {
        if !self.tasks.withholds() {
            self.serve_untimed(DELIVERED_AT_ONCE, now, output);
        }
    }

    /// The only message has just entered, and a permit is asked for: it is not dropped before the
    /// answer, even if it expires now or the queue may hold nothing.
    pub(super) fn spare_first(&mut self) {
        let asked = self.consumers.reserved() > 0;
        self.spared = self.backlog.first().filter(|_| asked).map(|entry| entry.seq);
    }

    /// Whether the first message is not to be dropped now.
    pub(super) fn spares_first(&self) -> bool {
        self.spared.is_some()
            && self.consumers.reserved() > 0
            && self.returned.is_empty()
            && self.spared == self.backlog.first().map(|entry| entry.seq)
    }

    /// Serves consumers whatever the time of the messages and the limits.
    fn serve_untimed(&mut self, most: u32, now: Now, output: &mut impl QueueOutput) {
        let timed = std::mem::take(&mut self.timed);
        self.serve(most, now, output);
        self.timed = timed;
    }

    /// Serves waiting gets and consumers with at most `most` messages. Returns how many units of
    /// work that was.
    pub(super) fn serve(&mut self, most: u32, now: Now, output: &mut impl QueueOutput) -> u32 {
        let mut used = 0;
        loop {
            used += self.serve_ready(most.saturating_sub(used), now, output);
            if !self.lift_bar() {
                return used;
            }
        }
    }

    /// The same for the consumers that are ready.
    #[inline(always)]
    fn serve_ready(&mut self, most: u32, now: Now, output: &mut impl QueueOutput) -> u32 {
        let mut used = 0;
        while self.service == QueueService::Open && self.counted() > 0 {
            if self.dying.full() {
                return used;
            }
            if used == most && !mutant::active(Mutant::DispatchUncut) {
                self.tasks.dispatch_later();
                return used;
            }
            used += 1;
            if self.timed {
                if !self.expire(now, output) {
                    return used;
                }
                // It may have dropped all, and nothing is timed any more.
                if self.counted() == 0 {
                    break;
                }
            }
            if let Some(get) = self.gets.front().copied() {
                let Some(entry) = self.take_head(output) else {
                    return used;
                };
                self.gets.pop_front();
                if self.timed {
                    // The answer counts nothing that has expired behind the message.
                    self.expire(now, output);
                }
                self.send_got(get, entry, now, output);
                continue;
            }
            let id = self.id;
            let next = self.consumers.next(|conn| output.open(id, conn));
            let Some((slot, consumer)) = next else { return used };
            let (limited, properties_max) = (consumer.limited, consumer.properties_max);
            let (conn, channel, consumer, no_ack) =
                (consumer.conn, consumer.channel, consumer.id, consumer.no_ack);
            let held_back = self.held_back && !no_ack;
            if held_back && self.consumers.has_unacked(slot) {
                self.consumers.hold(slot);
                continue;
            }
            if self.consumers.reserved() > 0 && self.consumers.withheld(slot, self.ready()) {
                return used;
            }
            // A permit cannot be used for a message that has to be fetched first.
            if limited && !self.head_is_resident(output) {
                return used;
            }
            if limited && !self.take_permit(slot, output) {
                continue;
            }
            let Some(entry) = self.take_head(output) else {
                return used;
            };
            let to = Receiver { conn, channel, consumer, slot, no_ack };
            if entry.is_small(properties_max) {
                self.consumers.sent(slot);
                self.send_small(to, entry, now, output);
            } else {
                let restraints = Restraints { limited, held_back, properties_max };
                self.send_large(to, restraints, entry, now, output);
            }
        }
        if !self.gets.is_empty() {
            self.refuse_gets(now, output);
        }
        used
    }

    /// Lets consumers go on that were barred by a large message which is not the first any more;
    /// false if there are none.
    #[inline]
    fn lift_bar(&mut self) -> bool {
        self.barred_by != 0 && self.lift_bar_of_another()
    }

    #[cold]
    #[inline(never)]
    fn lift_bar_of_another(&mut self) -> bool {
        // It was put back.
        let returned = self.returned.first_key_value().map(|(_, entry)| entry);
        let first = returned.or_else(|| self.backlog.first());
        if first.is_some_and(|entry| entry.seq == self.barred_by) {
            return false;
        }
        self.barred_by = 0;
        self.consumers.lift();
        true
    }

    /// A large delivery was settled. Consumers that waited for that go on, ahead of the one that
    /// settled it.
    #[cold]
    pub(super) fn large_settled(&mut self) {
        self.large_unacked -= 1;
        if self.large_unacked == 0 && !mutant::active(Mutant::LargeTurnForgotten) {
            self.barred_by = 0;
            self.consumers.lift();
        }
    }

    /// Answers gets that waited for a fetch when the queue was purged or frozen.
    pub(super) fn refuse_gets(&mut self, _: Now, output: &mut impl QueueOutput) {
        for get in self.gets.drain(..) {
            self.counters.got_empty += 1;
            output.empty(get.ticket);
        }
    }

    /// Takes a permit of the consumer in front, whose channel limits it. Without one it requests
    /// some and steps aside; the message stays where it is.
    #[cold]
    #[inline(never)]
    fn take_permit(&mut self, slot: Slot, output: &mut impl QueueOutput) -> bool {
        if self.consumers.spend(slot) {
            return true;
        }
        if let Some(ask) = self.consumers.ask(slot, self.ready())
            && let Some(count) = output.ask(self.id, ask)
        {
            self.consumers.permitted(slot, ask.consumer, count);
        }
        false
    }

    /// A channel answers a request for permits. Returns how many were not needed.
    pub(super) fn permitted(
        &mut self,
        slot: Slot,
        consumer: ConsumerId,
        count: u32,
        now: Now,
        output: &mut impl QueueOutput,
    ) -> u32 {
        let spares = self.spares_first();
        if !self.consumers.permitted(slot, consumer, count) {
            return count;
        }
        if spares {
            // One message: those behind it have their time.
            self.serve_untimed(1, now, output);
        }
        self.dispatch(now, output);
        self.consumers.unused(slot)
    }

    /// The consumers of a channel need its permits from now on, or no more.
    pub(super) fn limit(
        &mut self,
        channel: ChannelId,
        limited: bool,
        _: Now,
        _: &mut impl QueueOutput,
    ) {
        self.tasks.add(Task::Limit { channel, limited, from: 0 });
    }

    /// The connection may be sent messages again.
    pub(super) fn reopen(&mut self, conn: ConnId, now: Now, output: &mut impl QueueOutput) {
        self.consumers.reopen(conn);
        self.dispatch(now, output);
    }

    /// Whether the first message is in memory; if not, it is fetched.
    fn head_is_resident(&mut self, output: &mut impl QueueOutput) -> bool {
        let resident = !self.returned.is_empty() || self.backlog.head_is_resident();
        if !resident {
            self.fetch(output);
        }
        resident
    }

    /// The first message, if it is in memory; if not, it is fetched.
    #[inline(always)]
    fn take_head(&mut self, output: &mut impl QueueOutput) -> Option<QueuedMessage> {
        if !self.returned.is_empty() {
            return self.take_returned();
        }
        // It is not taken out of the option, which would move it once more.
        let head = self.backlog.pop();
        match &head {
            Some(head) => self.count_body(head, false),
            None => self.fetch(output),
        }
        head
    }

    /// Fetches spilled messages in time, once the one in front was sent. One that was put back
    /// needs no other one behind it in memory.
    #[inline]
    pub(super) fn fetch_ahead(&mut self, output: &mut impl QueueOutput) {
        if self.backlog.may_be_spilled() && self.returned.is_empty() {
            self.fetch(output);
        }
    }

    #[cold]
    #[inline(never)]
    fn take_returned(&mut self) -> Option<QueuedMessage> {
        let (_, entry) = self.returned.pop_first()?;
        self.returned_bytes -= entry.bytes();
        self.count_body(&entry, false);
        Some(entry)
    }

    /// The first message, if it is in memory. It is to be dropped, so that nothing is fetched.
    pub(super) fn take_first(&mut self) -> Option<QueuedMessage> {
        let returned = self.returned.pop_first().map(|(_, entry)| entry);
        self.returned_bytes -= returned.as_ref().map_or(0, QueuedMessage::bytes);
        let first = returned.or_else(|| self.backlog.pop())?;
        self.count_body(&first, false);
        Some(first)
    }
}
