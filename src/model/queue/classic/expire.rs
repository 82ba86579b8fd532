//! Messages of a classic queue expire, and a queue that nobody uses.
//!
//! A message expires at the head only, as in RabbitMQ: one behind it that lives longer keeps its
//! place in the count until the head is gone. The time is fixed when a message enters, in wall
//! clock time, since it outlives the process. The timer is monotonic and set anew after each
//! command, so that a changed wall clock delays nothing for longer than to the next command.

use crate::message::Message;
use crate::mutant::{self, Mutant};
use crate::queue::Expiry;
use crate::queue::classic::ClassicQueue;
use crate::queue::{Death, DropSpilled, QueueOutput, QueueService};
use crate::time::Now;

/// Messages that one command drops at most from memory, since they have expired or are too many.
/// The others follow in the next turn.
pub(super) const DROPPED_AT_ONCE: usize = 2000;
/// No deadline.
pub(super) const NEVER_US: u64 = u64::MAX;

/// When something of a queue is due by the clock, in microseconds of the monotonic clock.
#[derive(Debug, Clone, Copy, Hash)]
pub(super) struct Lifetimes {
    /// The first message expires, or there are more to drop.
    pub message_us: u64,
    /// The queue was unused for as long as it may be.
    pub unused_us: u64,
    /// No spilled message that is the first one expires before this.
    pub spilled: Expiry,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self { message_us: NEVER_US, unused_us: NEVER_US, spilled: Expiry::at_ms(0) }
    }
}

impl ClassicQueue {
    /// When a message that enters now expires: the lower of the two times that it may live.
    #[cold]
    pub(super) fn expiry_of(&self, message: Message<'_>, now: Now) -> Expiry {
        let (own, common) = (message.expiration_ms(), self.arguments.message_ttl_ms);
        let lives = match own.into_iter().chain(common) {
            times if mutant::active(Mutant::HigherTtlWins) => times.max(),
            times => times.min(),
        };
        lives.map_or(Expiry::NEVER, |ms| Expiry::at_ms(now.wall_ms.saturating_add(ms)))
    }

    /// When the first message expires. `None`: there is none, or it is spilled.
    pub(super) fn first_expiry(&self) -> Option<Expiry> {
        let returned = self.returned.first_key_value().map(|(_, entry)| entry);
        returned.or_else(|| self.backlog.first()).map(|entry| entry.expiry)
    }

    /// Drops what has expired at the head. False if there is more than fits into a turn.
    #[cold]
    pub(super) fn expire(&mut self, now: Now, output: &mut impl QueueOutput) -> bool {
        if mutant::active(Mutant::ExpiredDelivered) {
            return true;
        }
        if self.spares_first() {
            return true;
        }
        for _ in 0..DROPPED_AT_ONCE {
            if self.dying.full() {
                // It goes on when dead letters have arrived.
                return false;
            }
            match self.first_expiry() {
                Some(first) if first.has_come(now.wall_ms) => {
                    let entry = self.take_first();
                    entry.into_iter().for_each(|entry| self.die(entry, Death::Expired, output));
                }
                Some(_) => return true,
                None if self.expire_spilled(now, output) => {}
                None => return true,
            }
        }
        self.lifetimes.message_us = now.monotonic_us;
        false
    }

    /// Drops spilled messages at the head that have expired: whole chunks without reading them.
    /// What is left of a chunk is fetched. True if the head may be another one now.
    fn expire_spilled(&mut self, now: Now, output: &mut impl QueueOutput) -> bool {
        if self.backlog.spilled() == 0 {
            self.timed = false;
            return false;
        }
        if self.backlog.is_fetching() {
            return false;
        }
        let what = match self.reads_what_dies() {
            true => DropSpilled::Nothing,
            false => DropSpilled::Expired(now.wall_ms),
        };
        let dropped = self.drop_spilled(what, output);
        self.lifetimes.spilled = dropped.next;
        if !dropped.next.has_come(now.wall_ms) {
            return dropped.messages > 0;
        }
        if dropped.messages > 0 {
            // There may be more of them; the disk is not read for those.
            self.lifetimes.message_us = now.monotonic_us;
        } else {
            self.fetch(output);
        }
        false
    }

    /// Sets the timer for the message that is the first one now, unless one is set.
    pub(super) fn arm(&mut self, now: Now) {
        if !self.timed || self.lifetimes.message_us != NEVER_US || self.dying.full() {
            return;
        }
        if self.spares_first() {
            // The answer comes at once, and the timer is set behind it.
            return;
        }
        let spilled = || {
            let waits = self.backlog.spilled() > 0 && !self.backlog.is_fetching();
            waits.then_some(self.lifetimes.spilled)
        };
        let first = self.first_expiry().or_else(spilled).unwrap_or(Expiry::NEVER);
        if first != Expiry::NEVER {
            let left_ms = first.ms().saturating_sub(now.wall_ms);
            self.lifetimes.message_us = now.monotonic_us.saturating_add(left_ms * 1000);
        }
    }

    /// The queue is used: the time after which it is deleted begins anew.
    #[inline]
    pub(super) fn used(&mut self, now: Now) {
        if let Some(expires_ms) = self.arguments.expires_ms {
            self.lifetimes.unused_us = now.monotonic_us.saturating_add(expires_ms * 1000);
        }
    }

    /// Freezes the queue if it was unused for as long as it may be. A queue with consumers looks
    /// again when the last one goes.
    fn freeze_expired(&mut self, now: Now) -> bool {
        if now.monotonic_us < self.lifetimes.unused_us {
            return false;
        }
        self.lifetimes.unused_us = NEVER_US;
        let unused = self.consumers.is_empty() && self.service == QueueService::Open;
        if unused {
            self.service = QueueService::Frozen;
        }
        unused
    }

    pub(super) fn next_deadline_us(&self) -> Option<u64> {
        let next_us = self.lifetimes.message_us.min(self.lifetimes.unused_us);
        let next_us = next_us.min(self.deadlines.next_us().unwrap_or(NEVER_US));
        Some(next_us).filter(|next_us| *next_us != NEVER_US)
    }

    pub(super) fn tick(&mut self, now: Now, output: &mut impl QueueOutput) -> bool {
        self.look_for_overdue(now, output);
        self.lifetimes.message_us = NEVER_US;
        self.dispatch(now, output);
        self.freeze_expired(now)
    }

    /// Somebody declares it again, or asks what it holds.
    pub(super) fn touch(&mut self, now: Now, output: &mut impl QueueOutput) {
        self.used(now);
        self.dispatch(now, output);
    }
}
