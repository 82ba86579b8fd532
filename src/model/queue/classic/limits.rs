//! The limits of a classic queue: how many messages are ready, and the bytes of their bodies.
//!
//! Either the first messages die to make room, or what enters is refused. Spilled messages at the
//! head are dropped in whole chunks without being read. As long as fewer are too many, they stay on
//! disk and do not count, so that a full queue costs no reading.

use crate::message::Message;
use crate::mutant::{self, Mutant};
use crate::queue::classic::ClassicQueue;
use crate::queue::classic::expire::DROPPED_AT_ONCE;
use crate::queue::entry::QueuedMessage;
use crate::queue::{
    Death, DropSpilled, DroppedSpilled, EffectiveArguments, Overflow, QueueOutput, QueueService,
};
use crate::time::Now;

/// How much more is ready than may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Surplus {
    messages: u64,
    bodies: u64,
}

impl ClassicQueue {
    /// Takes over effective arguments.
    pub(super) fn reconfigure(
        &mut self,
        arguments: EffectiveArguments,
        now: Now,
        output: &mut impl QueueOutput,
    ) {
        self.consumers.set_single_active(arguments.single_active_consumer);
        self.deadlines.set_queue(arguments.consumer_timeout_ms);
        self.special = arguments.message_ttl_ms.is_some()
            || arguments.limited()
            || arguments.max_priority.is_some()
            || arguments.deduplicates;
        if arguments.deduplicates {
            self.values.get_or_insert_default();
        }
        if let Some(max) = arguments.max_priority {
            self.backlog.set_priorities(max);
        }
        self.drops_head = arguments.limited() && arguments.overflow == Overflow::DropHead;
        self.bodies = match arguments.max_length_bytes {
            Some(_) => self.ready_bodies(),
            None => 0,
        };
        self.dying.go_to(arguments.dead_letters.as_ref());
        self.arguments = arguments;
        self.lifetimes.unused_us = super::expire::NEVER_US;
        self.used(now);
        self.dispatch(now, output);
    }

    /// Bytes of the bodies of all ready messages, counted anew.
    fn ready_bodies(&self) -> u64 {
        let resident = self.returned.values().chain(self.backlog.resident());
        let resident = resident.map(|entry| self.memory.message(entry).body_len() as u64);
        resident.sum::<u64>() + self.backlog.spilled_bodies()
    }

    /// A message is ready, or is no more.
    #[inline]
    pub(super) fn count_body(&mut self, entry: &QueuedMessage, ready: bool) {
        if self.arguments.max_length_bytes.is_some() {
            self.count_body_bytes(self.memory.body_len(entry), ready);
        }
    }

    #[cold]
    pub(super) fn count_body_bytes(&mut self, body: usize, ready: bool) {
        let body = body as u64;
        match ready {
            true => self.bodies += body,
            false if mutant::active(Mutant::UnackedBytesCount) => {}
            false => self.bodies = self.bodies.saturating_sub(body),
        }
    }

    /// Whether a message that enters is refused, since it would exceed a limit.
    pub(super) fn refuses(&self, message: Message<'_>) -> bool {
        if !self.arguments.limited() || self.drops_head || mutant::active(Mutant::LimitIgnored) {
            return false;
        }
        let EffectiveArguments { max_length, max_length_bytes, .. } = self.arguments;
        let bodies = self.bodies + message.body_len() as u64;
        max_length.is_some_and(|max| self.ready_count() + 1 > max)
            || max_length_bytes.is_some_and(|max| bodies > max)
    }

    fn excess(&self) -> Option<Surplus> {
        let beyond = |is: u64, max: Option<u64>| max.map_or(0, |max| is.saturating_sub(max));
        let off_by_one = self.backlog.spilled() > 0 && mutant::active(Mutant::SpilledLimitPlusOne);
        let counted = self.counted() - u64::from(off_by_one);
        let messages = beyond(counted, self.arguments.max_length);
        let bodies = beyond(self.bodies, self.arguments.max_length_bytes);
        (messages > 0 || bodies > 0).then_some(Surplus { messages, bodies })
    }

    /// Drops the first messages as long as there are too many. False if there still are: the others
    /// follow in the next turn, or when they are loaded.
    #[cold]
    pub(super) fn drop_excess(&mut self, now: Now, output: &mut impl QueueOutput) -> bool {
        if self.spares_first() {
            return true;
        }
        for _ in 0..DROPPED_AT_ONCE {
            let Some(surplus) = self.excess() else { return true };
            if self.dying.full() {
                // It goes on when dead letters have arrived.
                return false;
            }
            match self.take_excess() {
                Some(entry) => self.die(entry, Death::MaxLength, output),
                None if self.drop_spilled_excess(surplus, now, output) => {}
                None => return self.excess().is_none(),
            }
        }
        self.lifetimes.message_us = now.monotonic_us;
        self.excess().is_none()
    }

    fn take_excess(&mut self) -> Option<QueuedMessage> {
        if mutant::active(Mutant::DropTail) {
            return self.backlog.pop_last();
        }
        self.take_first()
    }

    /// Drops what is too much of the spilled messages at the head, as far as that is whole chunks.
    /// True if the head is resident now.
    fn drop_spilled_excess(
        &mut self,
        surplus: Surplus,
        now: Now,
        output: &mut impl QueueOutput,
    ) -> bool {
        if self.backlog.is_fetching() {
            return false;
        }
        let Surplus { messages, bodies } = surplus;
        let what = match self.reads_what_dies() {
            true => DropSpilled::Nothing,
            false => DropSpilled::First { messages, bodies },
        };
        let dropped = self.drop_spilled(what, output).messages > 0;
        let Some(left) = self.excess() else { return false };
        let waited = !self.consumers.is_empty() || !self.gets.is_empty();
        if dropped {
            // There may be more of them; the disk is not read for those.
            self.lifetimes.message_us = now.monotonic_us;
        } else if left.bodies > 0 || waited || self.reads_what_dies() {
            self.fetch(output);
        }
        dropped && self.backlog.spilled() == 0
    }

    /// Drops spilled messages without reading them.
    pub(super) fn drop_spilled(
        &mut self,
        what: DropSpilled,
        output: &mut impl QueueOutput,
    ) -> DroppedSpilled {
        let dropped = output.drop_spilled(self.id, what);
        self.backlog.drop_spilled(dropped.messages, dropped.bodies);
        if self.arguments.max_length_bytes.is_some() {
            self.bodies = self.bodies.saturating_sub(dropped.bodies);
        }
        dropped
    }

    /// Drops what is too much and what has expired, then serves gets and consumers.
    #[cold]
    #[inline(never)]
    pub(super) fn dispatch_watched(
        &mut self,
        most: u32,
        now: Now,
        output: &mut impl QueueOutput,
    ) -> u32 {
        self.lifetimes.message_us = super::expire::NEVER_US;
        if self.service == QueueService::Open {
            let within = !self.drops_head || self.drop_excess(now, output);
            let fresh = !self.timed || self.expire(now, output);
            if !(within && fresh) {
                self.arm(now);
                return 1;
            }
        }
        let used = self.serve(most, now, output);
        self.arm(now);
        used
    }
}
