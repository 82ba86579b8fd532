//! How long clients may take to settle the deliveries of a classic queue.
//!
//! Each delivery keeps its deadline. Within a channel deadlines increase, so only the first
//! delivery of each channel is looked at, and not before the earliest deadline that was known at
//! the last look. Where consumers have times of their own, the first [`LOOK_MAX`] are looked at.
//! The queue takes nothing back: the channel is asked to close, and its end requeues.

use std::collections::BTreeMap;

use crate::ids::{ChannelId, ConnId};
use crate::mutant::{self, Mutant};
use crate::queue::classic::{ClassicQueue, UnackedMessage};
use crate::queue::ledger::Ledger;
use crate::queue::{Overdue, QueueOutput};
use crate::time::Now;

/// A deadline of the next larger multiple of 2^16 microseconds (66 ms): so much is a delivery late
/// at most, and so far apart looks are at least.
const UNIT_BITS: u32 = 16;
/// No deadline, in units.
pub(super) const NEVER: u32 = u32::MAX;
/// Deliveries of a channel that are looked at where consumers have times of their own.
const LOOK_MAX: usize = 1024;
/// When the queue looks again at what it could not look at, or has told of, in microseconds.
const AGAIN_US: u64 = 1_000_000;

/// The deadlines of a queue's deliveries.
#[derive(Debug, Default, Hash)]
pub(super) struct Deadlines {
    /// The time for deliveries whose consumers have none of their own, in milliseconds.
    queue_ms: Option<u64>,
    /// Consumers have times of their own, or deliveries may have such.
    own: bool,
    /// The last time of that kind, in milliseconds.
    own_ms: u64,
    /// When the next look is due, in microseconds of the monotonic clock.
    next_us: Option<u64>,
    /// The channels with deliveries that have deadlines.
    conns: BTreeMap<ChannelId, ConnId>,
}

impl Deadlines {
    /// Whether deliveries have deadlines.
    #[inline]
    pub fn on(&self) -> bool {
        self.queue_ms.is_some() || self.own
    }

    /// When [`ClassicQueue::look_for_overdue`] is to be called.
    #[inline]
    pub fn next_us(&self) -> Option<u64> {
        self.next_us
    }

    /// Sets the time for deliveries from now on, in milliseconds.
    pub fn set_queue(&mut self, ms: Option<u64>) {
        self.queue_ms = ms;
    }

    /// A consumer comes that may have a time of its own.
    pub fn consume(&mut self, own_ms: Option<u64>) {
        if let Some(ms) = own_ms {
            (self.own, self.own_ms) = (true, ms);
        }
    }

    /// The channel holds nothing any more.
    pub fn forget(&mut self, channel: ChannelId) {
        self.conns.remove(&channel);
    }

    /// The deadline of a delivery that is sent now, in units.
    #[cold]
    pub fn of(&mut self, to: (ConnId, ChannelId), own_ms: Option<u64>, now: Now) -> u32 {
        let Some(ms) = own_ms.or(self.queue_ms) else { return NEVER };
        let ms = if mutant::active(Mutant::TimeoutTooEarly) { ms / 2 } else { ms };
        let due_us = now.monotonic_us.saturating_add(ms.saturating_mul(1000));
        let unit = u32::try_from((due_us >> UNIT_BITS) + 1).unwrap_or(NEVER);
        if unit != NEVER {
            self.conns.insert(to.1, to.0);
            self.look_at(unit);
        }
        unit
    }

    fn look_at(&mut self, unit: u32) {
        let due_us = start_us(unit);
        self.next_us = Some(self.next_us.map_or(due_us, |next| next.min(due_us)));
    }
}

/// The first microsecond of a unit.
fn start_us(unit: u32) -> u64 {
    u64::from(unit) << UNIT_BITS
}

impl ClassicQueue {
    /// Tells of the channels that hold a delivery for too long.
    pub(super) fn look_for_overdue(&mut self, now: Now, output: &mut impl QueueOutput) {
        let due = self.deadlines.next_us.is_some_and(|due_us| due_us <= now.monotonic_us);
        if !due {
            return;
        }
        self.deadlines.next_us = None;
        if mutant::active(Mutant::TimeoutIgnored) {
            return;
        }
        let again_us = now.monotonic_us.saturating_add(AGAIN_US);
        let mut next_us = u64::MAX;
        let mut conns = std::mem::take(&mut self.deadlines.conns);
        conns.retain(|channel, conn| {
            let ledger = self.unacked.get(channel).filter(|ledger| !ledger.is_empty());
            let Some(ledger) = ledger else { return false };
            let look = Look::at(ledger, self.deadlines.own, now);
            if let Some((number, late)) = look.overdue {
                let timeout_ms = self.time_of(late);
                let (conn, channel, queue) = (*conn, *channel, self.id);
                output.overdue(Overdue { conn, channel, queue, number, timeout_ms });
            }
            let unseen = look.overdue.is_some() || look.more;
            next_us =
                next_us.min(start_us(look.first)).min(if unseen { again_us } else { u64::MAX });
            true
        });
        let any_own = self.consumers.iter().any(|consumer| consumer.timeout_ms.is_some());
        self.deadlines.own &= any_own || !conns.is_empty();
        self.deadlines.conns = conns;
        self.deadlines.next_us = (next_us < start_us(NEVER)).then_some(next_us);
    }

    /// The time that a delivery had, in milliseconds. Of one whose consumer is gone only the
    /// queue's time, or the last one of a consumer, is known.
    fn time_of(&self, late: &UnackedMessage) -> u64 {
        let own = self.consumers.timeout_ms(late.slot as usize, late.consumer);
        own.or(self.deadlines.queue_ms).unwrap_or(self.deadlines.own_ms)
    }
}

/// What a look at the deliveries of one channel has found.
struct Look<'a> {
    /// The first one that is overdue, with its number.
    overdue: Option<(u64, &'a UnackedMessage)>,
    /// The earliest deadline of those that are not, in units.
    first: u32,
    /// There are more deliveries that were not looked at and may be due earlier.
    more: bool,
}

impl<'a> Look<'a> {
    fn at(ledger: &'a Ledger<UnackedMessage>, own: bool, now: Now) -> Self {
        let most = if own { LOOK_MAX } else { 1 };
        let mut look = Look { overdue: None, first: NEVER, more: own && ledger.len() > most };
        let skipped = if mutant::active(Mutant::TimeoutOfNewest) { ledger.len() - 1 } else { 0 };
        for (number, unacked) in ledger.iter().skip(skipped).take(most) {
            if start_us(unacked.deadline) <= now.monotonic_us {
                look.overdue = look.overdue.or(Some((number, unacked)));
            } else {
                look.first = look.first.min(unacked.deadline);
            }
        }
        look
    }
}
