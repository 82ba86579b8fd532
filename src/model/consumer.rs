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
    /// Those of a higher priority are served first; 0 unless the client asks for another.
    pub priority: i64,
    /// Its channel limits all its consumers together: each message needs a permit of the channel.
    pub limited: bool,
}

#[derive(Debug)]
struct Consumer {
    spec: ConsumerSpec,
    unacked: u32,
    standing: Standing,
    /// Messages that it may be sent under its channel's limit.
    permits: u32,
    /// Permits that it asked for, not answered yet.
    asked: u32,
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
    /// Its channel was asked for permits; so many ready messages are kept for it meanwhile.
    Asking,
    /// Its channel's limit is reached: it is told when there is room.
    Waiting,
}

/// The consumers of one queue, served in turn.
#[derive(Debug, Default)]
pub struct Consumers {
    slots: Vec<Option<Consumer>>,
    /// Those who are ready: the highest priority first, in turn among equals.
    round: VecDeque<usize>,
    count: usize,
    /// Some have another priority than 0.
    ranked: bool,
    /// Messages kept for those who ask.
    reserved: u32,
}

/// A consumer's place in the list, valid while it exists.
pub type Slot = usize;

/// A consumer asks its channel for permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// The connection.
    pub conn: ConnId,
    /// The channel.
    pub channel: ChannelId,
    /// The consumer.
    pub consumer: ConsumerId,
    /// Its place in the queue's list.
    pub slot: Slot,
    /// How many messages it could be sent now, at least 1.
    pub count: u32,
}

/// At most so many permits are asked for at once.
const ASK_MAX: u32 = 16;

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
        // Such a one is alone.
        self.count == 1 && self.iter().any(|consumer| consumer.exclusive)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &ConsumerSpec> {
        self.slots.iter().flatten().map(|consumer| &consumer.spec)
    }

    /// Adds one at the end of the round.
    pub fn add(&mut self, spec: ConsumerSpec) {
        self.ranked |= spec.priority != 0;
        let standing = Standing::Ready;
        let consumer = Consumer { spec, unacked: 0, standing, permits: 0, asked: 0 };
        let full = self.count == self.slots.len();
        let free = if full { None } else { self.slots.iter().position(Option::is_none) };
        let slot = free.unwrap_or(self.slots.len());
        if slot == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[slot] = Some(consumer);
        self.enter(slot);
        self.count += 1;
    }

    /// Removes those that `gone` names; says how many.
    pub fn remove(&mut self, gone: impl Fn(&ConsumerSpec) -> bool) -> usize {
        let before = self.count;
        for slot in &mut self.slots {
            if let Some(consumer) = slot.take_if(|consumer| gone(&consumer.spec)) {
                self.reserved -= consumer.asked;
                self.count -= 1;
            }
        }
        // Once for all: a channel may have had very many.
        self.round.retain(|slot| self.slots.get(*slot).is_some_and(Option::is_some));
        while self.slots.last().is_some_and(Option::is_none) {
            self.slots.pop();
        }
        let mut rest = self.slots.iter().flatten();
        self.ranked = rest.any(|consumer| consumer.spec.priority != 0);
        before - self.count
    }

    /// Whose turn it is; those whose connection is not `open` step aside until [`Self::reopen`].
    #[inline(always)]
    pub fn next(&mut self, mut open: impl FnMut(ConnId) -> bool) -> Option<(Slot, &ConsumerSpec)> {
        loop {
            let slot = *self.round.front()?;
            let conn = self.slots.get(slot).and_then(Option::as_ref).map(|c| c.spec.conn);
            if conn.is_some_and(&mut open) {
                break;
            }
            self.step_aside(slot);
        }
        let slot = *self.round.front()?;
        Some((slot, &self.slots.get(slot)?.as_ref()?.spec))
    }

    #[cold]
    fn step_aside(&mut self, slot: Slot) {
        self.round.pop_front();
        if let Some(consumer) = self.slot(slot) {
            consumer.standing = Standing::Stalled;
        }
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
            self.enter(slot);
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
            self.enter(slot);
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
                self.enter(slot);
            }
        }
    }

    /// The consumers of a channel are limited together from now on, or no more.
    pub fn limit(&mut self, channel: ChannelId, limited: bool) {
        for slot in 0..self.slots.len() {
            let own = |c: &&mut Consumer| c.spec.channel == channel && !c.spec.no_ack;
            let Some(consumer) = self.slot(slot).filter(own) else {
                continue;
            };
            consumer.spec.limited = limited;
            let waits = matches!(consumer.standing, Standing::Asking | Standing::Waiting);
            if !limited && waits {
                consumer.standing = Standing::Ready;
                let asked = std::mem::take(&mut consumer.asked);
                self.reserved -= asked;
                self.enter(slot);
            }
        }
    }

    /// Messages that are kept for consumers whose channels were asked for permits.
    #[inline]
    #[must_use]
    pub fn reserved(&self) -> u32 {
        self.reserved
    }

    /// Whether a consumer that asks for permits has a higher priority than the one in this slot.
    #[must_use]
    pub fn outranked(&self, slot: Slot) -> bool {
        let asking = |c: &&Consumer| c.standing == Standing::Asking;
        let highest = self.slots.iter().flatten().filter(asking).map(|c| c.spec.priority).max();
        highest.is_some_and(|priority| priority > self.priority(slot))
            && !mutant::active(Mutant::PriorityIgnored)
    }

    /// Whether the consumer has a permit.
    #[must_use]
    pub fn has_permit(&self, slot: Slot) -> bool {
        let consumer = self.slots.get(slot).and_then(Option::as_ref);
        consumer.is_some_and(|consumer| consumer.permits > 0)
    }

    /// Takes one of the consumer's permits.
    pub fn spend(&mut self, slot: Slot) -> bool {
        let Some(consumer) = self.slot(slot).filter(|consumer| consumer.permits > 0) else {
            return false;
        };
        consumer.permits -= 1;
        true
    }

    /// The consumer in front asks for permits and steps aside until [`Self::permitted`]. Of the
    /// `ready` messages its share is kept for it.
    pub fn ask(&mut self, slot: Slot, ready: u32) -> Option<Ask> {
        self.round.pop_front();
        let priority = self.priority(slot);
        let others = self.round.iter().take(ready as usize);
        let equals = others.take_while(|other| self.priority(**other) == priority).count();
        let share = ready.saturating_sub(self.reserved) / (equals as u32 + 1);
        let consumer = self.slot(slot)?;
        let count = share.clamp(1, ASK_MAX).min(consumer.room());
        (consumer.standing, consumer.asked) = (Standing::Asking, count);
        let ConsumerSpec { id, conn, channel, .. } = consumer.spec;
        self.reserved += count;
        Some(Ask { conn, channel, consumer: id, slot, count })
    }

    /// The channel's answer: so many permits now, or none until more are told. False if the
    /// consumer waits for none.
    pub fn permitted(&mut self, slot: Slot, id: ConsumerId, count: u32) -> bool {
        let waits = |c: &&mut Consumer| {
            c.spec.id == id && matches!(c.standing, Standing::Asking | Standing::Waiting)
        };
        let Some(consumer) = self.slot(slot).filter(waits) else {
            return false;
        };
        let asked = std::mem::take(&mut consumer.asked);
        consumer.permits += count;
        consumer.standing = if count == 0 { Standing::Waiting } else { Standing::Ready };
        self.reserved -= asked;
        if count > 0 {
            let priority = self.priority(slot);
            let at = self.round.partition_point(|other| self.priority(*other) > priority);
            self.round.insert(at, slot);
        }
        true
    }

    /// Takes the permits that the consumer has no use for.
    pub fn unused(&mut self, slot: Slot) -> u32 {
        self.slot(slot).map_or(0, |consumer| std::mem::take(&mut consumer.permits))
    }

    /// Puts a consumer that is ready behind its equals.
    #[inline]
    fn enter(&mut self, slot: Slot) {
        if !self.ranked || mutant::active(Mutant::PriorityIgnored) {
            return self.round.push_back(slot);
        }
        self.enter_ranked(slot);
    }

    #[cold]
    fn enter_ranked(&mut self, slot: Slot) {
        let priority = self.priority(slot);
        let at = self.round.partition_point(|other| self.priority(*other) >= priority);
        self.round.insert(at, slot);
    }

    fn priority(&self, slot: Slot) -> i64 {
        self.slots.get(slot).and_then(Option::as_ref).map_or(0, |consumer| consumer.spec.priority)
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

    /// How many more messages its prefetch allows; only asked where there is room.
    fn room(&self) -> u32 {
        match self.spec.prefetch {
            0 => u32::MAX,
            prefetch => u32::from(prefetch).saturating_sub(self.unacked).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(id: u64, priority: i64) -> ConsumerSpec {
        ConsumerSpec {
            id: ConsumerId(id),
            conn: ConnId(id),
            channel: ChannelId(id),
            no_ack: false,
            prefetch: 0,
            exclusive: false,
            priority,
            limited: false,
        }
    }

    fn consumers(priorities: &[i64]) -> Consumers {
        let mut consumers = Consumers::default();
        (1..).zip(priorities).for_each(|(id, priority)| consumers.add(spec(id, *priority)));
        consumers
    }

    /// Who is sent the next messages.
    fn served(consumers: &mut Consumers, count: usize) -> Vec<u64> {
        let mut served = Vec::new();
        for _ in 0..count {
            let Some((slot, consumer)) = consumers.next(|_| true) else { break };
            served.push(consumer.id.0);
            consumers.sent(slot);
        }
        served
    }

    #[test]
    fn equals_take_turns() {
        assert_eq!(served(&mut consumers(&[0, 0, 0]), 7), [1, 2, 3, 1, 2, 3, 1]);
        assert_eq!(served(&mut consumers(&[1, 9, 9, 0]), 5), [2, 3, 2, 3, 2]);
    }

    #[test]
    fn lower_ones_are_served_while_higher_ones_are_full_or_without_credit() {
        let mut consumers = consumers(&[-1, 0]);
        consumers.add(ConsumerSpec { prefetch: 2, ..spec(3, i64::MAX) });
        assert_eq!(served(&mut consumers, 4), [3, 3, 2, 2]);
        consumers.settled(2, ConsumerId(3));
        assert_eq!(served(&mut consumers, 2), [3, 2]);
        let next = consumers.next(|conn| conn != ConnId(2)).map(|(_, consumer)| consumer.id);
        assert_eq!(next, Some(ConsumerId(1)));
        consumers.reopen(ConnId(2));
        assert_eq!(served(&mut consumers, 1), [2]);
        consumers.remove(|consumer| consumer.priority != -1);
        assert_eq!(served(&mut consumers, 2), [1, 1]);
    }

    #[test]
    fn who_asks_steps_aside_and_messages_are_kept_for_it() {
        let mut consumers = consumers(&[0, 0, 5]);
        let ask = consumers.ask(2, 6).map(|ask| (ask.consumer, ask.count));
        assert_eq!(ask, Some((ConsumerId(3), 6)));
        assert_eq!((consumers.reserved(), consumers.outranked(0)), (6, true));
        // None: the others are served until there are some.
        assert!(consumers.permitted(2, ConsumerId(3), 0));
        assert_eq!((consumers.reserved(), consumers.outranked(0)), (0, false));
        assert_eq!(served(&mut consumers, 2), [1, 2]);
        assert!(consumers.permitted(2, ConsumerId(3), 2));
        assert_eq!(consumers.next(|_| true).map(|(slot, _)| slot), Some(2));
        assert!(consumers.spend(2));
        assert_eq!((consumers.unused(2), consumers.spend(2)), (1, false));
    }

    #[test]
    fn what_is_asked_for_is_a_fair_share() {
        let mut consumers = consumers(&[0, 0, 0]);
        let count = |consumers: &mut Consumers, slot, ready| {
            consumers.ask(slot, ready).map_or(0, |ask| ask.count)
        };
        assert_eq!(count(&mut consumers, 0, 9), 3);
        assert_eq!(count(&mut consumers, 1, 9), 3);
        assert_eq!(count(&mut consumers, 2, 1000), ASK_MAX);
        assert_eq!(consumers.reserved(), 6 + ASK_MAX);
    }

    #[test]
    fn answers_for_one_that_is_gone_are_of_no_use() {
        let mut consumers = consumers(&[0]);
        consumers.ask(0, 3);
        consumers.remove(|_| true);
        assert_eq!(consumers.reserved(), 0);
        assert!(!consumers.permitted(0, ConsumerId(1), 3));
        consumers.add(spec(2, 0));
        assert!(!consumers.permitted(0, ConsumerId(1), 3));
        // One that did not ask.
        assert!(!consumers.permitted(0, ConsumerId(2), 3));
    }

    #[test]
    fn a_lifted_limit_puts_those_who_wait_back() {
        let mut consumers = consumers(&[0, 0]);
        consumers.limit(ChannelId(1), true);
        consumers.ask(0, 3);
        consumers.limit(ChannelId(1), true);
        assert_eq!((consumers.reserved(), served(&mut consumers, 2)), (1, vec![2, 2]));
        consumers.limit(ChannelId(1), false);
        assert_eq!((consumers.reserved(), served(&mut consumers, 2)), (0, vec![2, 1]));
    }
}
