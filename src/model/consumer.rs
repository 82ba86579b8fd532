//! A queue's consumers and whose turn it is.

use std::collections::VecDeque;

use crate::ids::{ChannelId, ConnId, ConsumerId};
use crate::mutant::{self, Mutant};

/// A consumer as its queue's home keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerSpec {
    /// Its identity.
    pub id: ConsumerId,
    /// The connection, whose flow credit it shares.
    pub conn: ConnId,
    /// The channel its unacknowledged messages belong to.
    pub channel: ChannelId,
    /// Deliveries are acknowledged by being sent.
    pub no_ack: bool,
    /// At most so many unacknowledged messages; 0: no limit.
    pub prefetch: u16,
    /// Wants to be the queue's only consumer.
    pub exclusive: bool,
}

#[derive(Debug)]
struct Consumer {
    spec: ConsumerSpec,
    unacked: u32,
    standing: Standing,
}

/// Whether a consumer may be sent the next message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// In the round.
    Ready,
    /// Its prefetch is used up.
    Full,
    /// Its connection has no flow credit.
    Stalled,
}

/// The consumers of one queue, served in turn.
#[derive(Debug, Default)]
pub struct Consumers {
    slots: Vec<Option<Consumer>>,
    round: VecDeque<usize>,
    count: usize,
}

/// A consumer's place in the list, valid while it exists.
pub type Slot = usize;

impl Consumers {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether one of them is exclusive.
    #[must_use]
    pub fn has_exclusive(&self) -> bool {
        self.slots.iter().flatten().any(|consumer| consumer.spec.exclusive)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &ConsumerSpec> {
        self.slots.iter().flatten().map(|consumer| &consumer.spec)
    }

    /// Adds one at the end of the round.
    pub fn add(&mut self, spec: ConsumerSpec) {
        let consumer = Consumer { spec, unacked: 0, standing: Standing::Ready };
        let slot = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        if slot == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[slot] = Some(consumer);
        self.round.push_back(slot);
        self.count += 1;
    }

    /// Removes those that `gone` names; says how many.
    pub fn remove(&mut self, gone: impl Fn(&ConsumerSpec) -> bool) -> usize {
        let before = self.count;
        for slot in 0..self.slots.len() {
            if self.slots[slot].as_ref().is_some_and(|consumer| gone(&consumer.spec)) {
                self.slots[slot] = None;
                self.round.retain(|other| *other != slot);
                self.count -= 1;
            }
        }
        while self.slots.last().is_some_and(Option::is_none) {
            self.slots.pop();
        }
        before - self.count
    }

    /// Whose turn it is; those whose connection is not `open` step aside until [`Self::reopen`].
    #[inline]
    pub fn next(&mut self, mut open: impl FnMut(ConnId) -> bool) -> Option<(Slot, &ConsumerSpec)> {
        loop {
            let slot = *self.round.front()?;
            let conn = self.slots.get(slot).and_then(Option::as_ref).map(|c| c.spec.conn);
            if conn.is_some_and(&mut open) {
                break;
            }
            self.round.pop_front();
            if let Some(consumer) = self.slot(slot) {
                consumer.standing = Standing::Stalled;
            }
        }
        let slot = *self.round.front()?;
        Some((slot, &self.slots.get(slot)?.as_ref()?.spec))
    }

    /// The consumer in front was sent a message: it goes to the end of the round, or out of it when
    /// its prefetch is used up.
    #[inline]
    pub fn sent(&mut self, slot: Slot) {
        self.round.pop_front();
        let Some(consumer) = self.slot(slot) else {
            return;
        };
        if !consumer.spec.no_ack {
            consumer.unacked += 1;
        }
        if consumer.has_room() && mutant::active(Mutant::AlwaysTheFirst) {
            self.round.push_front(slot);
        } else if consumer.has_room() {
            self.round.push_back(slot);
        } else {
            consumer.standing = Standing::Full;
        }
    }

    /// A message of the consumer was settled.
    #[inline]
    pub fn settled(&mut self, slot: Slot, id: ConsumerId) {
        let Some(consumer) = self.slot(slot).filter(|consumer| consumer.spec.id == id) else {
            return;
        };
        if mutant::active(Mutant::PrefetchNotReturned) {
            return;
        }
        consumer.unacked = consumer.unacked.saturating_sub(1);
        if consumer.standing == Standing::Full && consumer.has_room() {
            consumer.standing = Standing::Ready;
            self.round.push_back(slot);
        }
    }

    /// The connection has flow credit again.
    pub fn reopen(&mut self, conn: ConnId) {
        for slot in 0..self.slots.len() {
            let Some(consumer) = self.slot(slot) else {
                continue;
            };
            if consumer.spec.conn == conn && consumer.standing == Standing::Stalled {
                consumer.standing = Standing::Ready;
                self.round.push_back(slot);
            }
        }
    }

    fn slot(&mut self, slot: Slot) -> Option<&mut Consumer> {
        self.slots.get_mut(slot)?.as_mut()
    }
}

impl Consumer {
    fn has_room(&self) -> bool {
        let more = u32::from(mutant::active(Mutant::PrefetchPlusOne));
        self.spec.prefetch == 0 || self.unacked < u32::from(self.spec.prefetch) + more
    }
}
