//! A queue's consumers and whose turn it is. Nothing but a list of all walks through them: they are
//! found by identity, by channel and by connection.

#[cfg(test)]
mod consumer_test;
mod held;
mod round;
mod single_active;
mod spec;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::ids::{ChannelId, ConnId, ConsumerId};
use crate::mutant::{self, Mutant};
use crate::queue::consumer::round::{Round, Turn};
use crate::queue::consumer::single_active::SingleActive;

pub use spec::{ActiveConsumer, Ask, ConsumerSpec, Slot};

#[derive(Debug, Hash)]
struct Consumer {
    spec: ConsumerSpec,
    unacked: u32,
    standing: Standing,
    /// Messages that it may be sent under its channel's limit.
    permits: u32,
    /// Permits that it requested, not answered yet.
    asked: u32,
}

/// Whether a consumer may be sent the next message. It has a turn in the round while it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Standing {
    /// In the round.
    Ready,
    /// Its prefetch is used up.
    Full,
    /// Its connection has no flow credit.
    Stalled,
    /// It requested permits; that many ready messages are reserved for it meanwhile.
    Asking,
    /// Its channel's limit is reached; the channel answers when there is room.
    Waiting,
    /// A message's header fits into no frame of its connection: its channel is being closed.
    Unfit,
    /// Another one is the queue's single active consumer.
    Passive,
    /// It holds what takes too much memory.
    Held,
    /// The next message is large and there is no room for it.
    Barred,
}

/// The consumers of one queue, served in turn.
#[derive(Debug, Default, Hash)]
pub struct Consumers {
    slots: Vec<Option<Consumer>>,
    /// Slots without a consumer.
    free: Vec<Slot>,
    round: Round,
    places: BTreeMap<ConsumerId, Slot>,
    by_channel: BTreeSet<(ChannelId, Slot)>,
    /// Those whose connection has no flow credit.
    stalled: BTreeSet<(ConnId, Slot)>,
    /// Those that wait for room for a large message, in the order of their turns.
    barred: VecDeque<Turn>,
    /// How many have requested permits, by priority.
    asking: BTreeMap<i64, u32>,
    exclusive: Option<ConsumerId>,
    /// Messages reserved for consumers that requested permits.
    reserved: u32,
    /// Present if only one of them is served.
    single: Option<Box<SingleActive>>,
}

/// At most this many permits are requested at once.
pub(super) const ASK_MAX: u32 = 16;

impl Consumers {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether a consumer like this may be added: an exclusive one is the only one, and none is
    /// exclusive where one of several is active.
    #[must_use]
    pub fn admits(&self, exclusive: bool) -> bool {
        if self.single.is_some() {
            return !exclusive;
        }
        self.exclusive.is_none() && (!exclusive || self.is_empty())
    }

    /// Whether only one of them is served. It changes only while there are none.
    pub fn set_single_active(&mut self, single: bool) {
        if self.is_empty() {
            self.single = single.then(Box::default);
        }
    }

    /// The single active consumer of a queue that has such.
    #[must_use]
    pub fn single_active(&self) -> Option<&ConsumerSpec> {
        let slot = self.single.as_ref()?.active()?;
        self.slots.get(slot)?.as_ref().map(|consumer| &consumer.spec)
    }

    /// All of them, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &ConsumerSpec> {
        let slots = self.places.values().filter_map(|slot| self.slots.get(*slot)?.as_ref());
        slots.map(|consumer| &consumer.spec)
    }

    /// The time that the consumer gave itself to settle a delivery, in milliseconds.
    #[must_use]
    pub fn timeout_ms(&self, slot: Slot, id: ConsumerId) -> Option<u64> {
        let spec = &self.slots.get(slot)?.as_ref()?.spec;
        spec.timeout_ms.filter(|_| spec.id == id)
    }

    /// Adds one at the end of the round, or behind those that wait to become the active one.
    pub fn add(&mut self, spec: ConsumerSpec) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.places.insert(spec.id, slot);
        self.by_channel.insert((spec.channel, slot));
        if spec.exclusive {
            self.exclusive = Some(spec.id);
        }
        let (standing, priority) = (Standing::Ready, spec.priority);
        self.slots[slot] = Some(Consumer { spec, unacked: 0, standing, permits: 0, asked: 0 });
        if self.single.as_mut().is_none_or(|single| single.add(slot, priority)) {
            self.enter(slot);
        } else if let Some(consumer) = self.slot(slot) {
            consumer.standing = Standing::Passive;
        }
    }

    /// Removes a consumer; false if there is no such one.
    pub fn remove(&mut self, id: ConsumerId) -> bool {
        let Some(slot) = self.places.get(&id).copied() else { return false };
        let kept = |consumer: &mut Consumer| {
            consumer.standing != Standing::Passive || !mutant::active(Mutant::PassiveKept)
        };
        let taken = self.slots.get_mut(slot).and_then(|consumer| consumer.take_if(kept));
        let Some(consumer) = taken else { return false };
        let Consumer { spec, standing, asked, .. } = consumer;
        self.places.remove(&id);
        self.by_channel.remove(&(spec.channel, slot));
        self.exclusive.take_if(|exclusive| *exclusive == id);
        self.free.push(slot);
        self.reserved -= asked;
        match standing {
            Standing::Ready => {
                let slots = &self.slots;
                self.round.voided(rank(spec.priority), |turn| holds(slots, *turn));
            }
            Standing::Stalled => {
                self.stalled.remove(&(spec.conn, slot));
            }
            Standing::Asking => self.asked_no_more(spec.priority),
            Standing::Full
            | Standing::Waiting
            | Standing::Unfit
            | Standing::Passive
            | Standing::Held
            | Standing::Barred => {}
        }
        self.fail_over(slot);
        if self.is_empty() {
            self.clear();
        }
        true
    }

    /// Removes one of the consumers of a channel; false if there is none.
    pub fn remove_one_of(&mut self, channel: ChannelId) -> bool {
        let first = self.of(channel).next();
        let found = first.and_then(|slot| self.slots.get(slot)?.as_ref());
        found.map(|consumer| consumer.spec.id).is_some_and(|id| self.remove(id))
    }

    /// Takes the oldest of them.
    pub fn take_first(&mut self) -> Option<ConsumerSpec> {
        let (id, slot) = self.places.first_key_value()?;
        let (id, spec) = (*id, self.slots.get(*slot)?.as_ref()?.spec.clone());
        self.remove(id).then_some(spec)
    }

    /// Removes all of them.
    pub fn clear(&mut self) {
        let single = self.single.is_some().then(Box::default);
        *self = Self { single, ..Self::default() };
    }

    fn of(&self, channel: ChannelId) -> impl Iterator<Item = Slot> {
        self.by_channel.range((channel, 0)..=(channel, Slot::MAX)).map(|(_, slot)| *slot)
    }

    /// Makes another consumer the active one if that one was in the slot that is free now.
    fn fail_over(&mut self, gone: Slot) {
        let Some(single) = &mut self.single else { return };
        let Some(slot) = single.remove(gone) else { return };
        if let Some(consumer) = self.slot(slot) {
            consumer.standing = Standing::Ready;
            self.enter(slot);
        }
    }

    /// The consumer whose turn it is. Those whose connection is not `open` step aside until
    /// [`Self::reopen`].
    #[inline(always)]
    pub fn next(&mut self, mut open: impl FnMut(ConnId) -> bool) -> Option<(Slot, &ConsumerSpec)> {
        let slot = loop {
            let Turn { slot, id } = self.round.front()?;
            let consumer = self.slots.get(slot).and_then(Option::as_ref);
            match consumer.filter(|consumer| consumer.spec.id == id) {
                Some(consumer) if open(consumer.spec.conn) => break slot,
                Some(_) => self.step_aside(slot),
                None => self.round.pop_void(),
            }
        };
        Some((slot, &self.slots.get(slot)?.as_ref()?.spec))
    }

    /// The consumer in front waits until [`Self::reopen`].
    #[cold]
    pub fn step_aside(&mut self, slot: Slot) {
        self.round.pop_front();
        if let Some(consumer) = self.slot(slot) {
            consumer.standing = Standing::Stalled;
            let conn = consumer.spec.conn;
            self.stalled.insert((conn, slot));
        }
    }

    /// The consumer in front cannot be sent the next message, nor anything more.
    #[cold]
    pub fn unfit(&mut self, slot: Slot) {
        self.round.pop_front();
        if let Some(consumer) = self.slot(slot) {
            consumer.standing = Standing::Unfit;
        }
    }

    /// The consumer in front was sent a message: it goes to the end of the round, or leaves it if
    /// its prefetch is used up.
    #[inline]
    pub fn sent(&mut self, slot: Slot) {
        let Some(consumer) = self.slot(slot) else {
            return;
        };
        if !consumer.spec.no_ack {
            consumer.unacked += 1;
        }
        if !consumer.has_room() {
            consumer.standing = Standing::Full;
            self.round.pop_front();
        } else if !mutant::active(Mutant::AlwaysTheFirst) {
            self.round.rotate();
        }
    }

    /// A message of the consumer was settled.
    #[inline(always)]
    pub fn settled(&mut self, slot: Slot, id: ConsumerId) {
        let Some(consumer) = self.slot(slot).filter(|consumer| consumer.spec.id == id) else {
            return;
        };
        if mutant::active(Mutant::PrefetchNotReturned) {
            return;
        }
        consumer.unacked = consumer.unacked.saturating_sub(1);
        let ready = match consumer.standing {
            Standing::Full => consumer.has_room(),
            Standing::Held => consumer.unacked == 0,
            _ => false,
        };
        if ready {
            consumer.standing = Standing::Ready;
            self.enter(slot);
        }
    }

    /// The connection has flow credit again.
    pub fn reopen(&mut self, conn: ConnId) {
        let waiting = self.stalled.extract_if((conn, 0)..=(conn, Slot::MAX), |_| true);
        for (_, slot) in waiting.collect::<Vec<_>>() {
            if let Some(consumer) = self.slot(slot) {
                consumer.standing = Standing::Ready;
                self.enter(slot);
            }
        }
    }

    /// The consumers of a channel are limited together from now on, or no more: the first of them
    /// from a slot on. Returns the slot to go on from; `None` behind the last one.
    pub fn limit(&mut self, channel: ChannelId, limited: bool, from: Slot) -> Option<Slot> {
        self.limit_some(channel, limited, (from, 1)).1
    }

    /// As [`Self::limit`], for at most `most` of them: one search of the index finds them all.
    /// Returns also how many there were.
    pub fn limit_some(
        &mut self,
        channel: ChannelId,
        limited: bool,
        (from, most): (Slot, u32),
    ) -> (u32, Option<Slot>) {
        let from_here = self.by_channel.range((channel, from)..=(channel, Slot::MAX));
        let slots: Vec<Slot> = from_here.take(most as usize).map(|(_, slot)| *slot).collect();
        for slot in &slots {
            self.limit_one(*slot, limited);
        }
        (slots.len() as u32, slots.last().map(|last| last + 1))
    }

    fn limit_one(&mut self, slot: Slot, limited: bool) {
        let Some(consumer) = self.slot(slot).filter(|consumer| !consumer.spec.no_ack) else {
            return;
        };
        consumer.spec.limited = limited;
        let waits = matches!(consumer.standing, Standing::Asking | Standing::Waiting);
        if !limited && waits {
            self.answered(slot, Standing::Ready);
            self.enter(slot);
        }
    }

    /// A request for permits is over.
    fn answered(&mut self, slot: Slot, standing: Standing) {
        let Some(consumer) = self.slot(slot) else { return };
        let before = std::mem::replace(&mut consumer.standing, standing);
        let (asked, priority) = (std::mem::take(&mut consumer.asked), consumer.spec.priority);
        self.reserved -= asked;
        if before == Standing::Asking {
            self.asked_no_more(priority);
        }
    }

    fn asked_no_more(&mut self, priority: i64) {
        if let Some(count) = self.asking.get_mut(&priority) {
            *count -= 1;
            if *count == 0 {
                self.asking.remove(&priority);
            }
        }
    }

    /// Messages that are reserved for consumers that requested permits.
    #[inline]
    #[must_use]
    pub fn reserved(&self) -> u32 {
        self.reserved
    }

    /// Whether a consumer that requested permits has a higher priority than the one in this slot.
    #[must_use]
    pub fn outranked(&self, slot: Slot) -> bool {
        let highest = self.asking.last_key_value();
        highest.is_some_and(|(priority, _)| *priority > self.priority(slot))
            && !mutant::active(Mutant::PriorityIgnored)
    }

    /// True if the consumer in this slot gets none of the `ready` messages: each is reserved for
    /// pending requests for permits, or a consumer of a higher priority has requested some. A
    /// consumer that has a permit is exempt from the first, or two consumers would return permits
    /// to each other forever.
    #[cold]
    #[must_use]
    pub fn withheld(&self, slot: Slot, ready: u32) -> bool {
        (self.reserved >= ready && !self.has_permit(slot)) || self.outranked(slot)
    }

    /// Whether the consumer has a permit.
    #[must_use]
    fn has_permit(&self, slot: Slot) -> bool {
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

    /// Gives back a permit that was taken for a message that cannot be sent now.
    pub fn unspend(&mut self, slot: Slot) {
        if let Some(consumer) = self.slot(slot) {
            consumer.permits += 1;
        }
    }

    /// The consumer in front requests permits and steps aside until [`Self::permitted`]. Its share
    /// of the `ready` messages is reserved for it.
    pub fn ask(&mut self, slot: Slot, ready: u32) -> Option<Ask> {
        self.round.pop_front();
        let priority = self.priority(slot);
        let equals = self.round.equals(rank(priority)).min(ready as usize);
        let share = ready.saturating_sub(self.reserved) / (equals as u32).saturating_add(1);
        let consumer = self.slot(slot)?;
        let count = share.clamp(1, ASK_MAX).min(consumer.room());
        (consumer.standing, consumer.asked) = (Standing::Asking, count);
        let ConsumerSpec { id, conn, channel, .. } = consumer.spec;
        self.reserved += count;
        *self.asking.entry(priority).or_default() += 1;
        Some(Ask { conn, channel, consumer: id, slot, count })
    }

    /// The channel's answer: `count` permits, or 0 if the consumer is to wait for another answer.
    /// False if the consumer did not request any.
    pub fn permitted(&mut self, slot: Slot, id: ConsumerId, count: u32) -> bool {
        let waits = |c: &&mut Consumer| {
            c.spec.id == id && matches!(c.standing, Standing::Asking | Standing::Waiting)
        };
        let Some(consumer) = self.slot(slot).filter(waits) else {
            return false;
        };
        consumer.permits += count;
        let standing = if count == 0 { Standing::Waiting } else { Standing::Ready };
        self.answered(slot, standing);
        if count > 0 {
            self.enter_first(slot);
        }
        true
    }

    /// Takes the permits that the consumer did not use.
    pub fn unused(&mut self, slot: Slot) -> u32 {
        self.slot(slot).map_or(0, |consumer| std::mem::take(&mut consumer.permits))
    }

    /// Puts a consumer that is ready behind its equals.
    #[inline]
    fn enter(&mut self, slot: Slot) {
        if let Some(consumer) = self.slots.get(slot).and_then(Option::as_ref) {
            let ConsumerSpec { id, priority, .. } = consumer.spec;
            self.round.push_back(Turn { slot, id }, rank(priority));
        }
    }

    /// Puts a consumer that is ready ahead of its equals.
    #[cold]
    fn enter_first(&mut self, slot: Slot) {
        if let Some(consumer) = self.slots.get(slot).and_then(Option::as_ref) {
            let ConsumerSpec { id, priority, .. } = consumer.spec;
            self.round.push_front(Turn { slot, id }, rank(priority));
        }
    }

    fn priority(&self, slot: Slot) -> i64 {
        self.slots.get(slot).and_then(Option::as_ref).map_or(0, |consumer| consumer.spec.priority)
    }

    fn slot(&mut self, slot: Slot) -> Option<&mut Consumer> {
        self.slots.get_mut(slot)?.as_mut()
    }
}

/// The priority by which a consumer is served.
#[inline]
fn rank(priority: i64) -> i64 {
    if mutant::active(Mutant::PriorityIgnored) { 0 } else { priority }
}

/// Whether the consumer whose turn it is still has its slot.
fn holds(slots: &[Option<Consumer>], turn: Turn) -> bool {
    let consumer = slots.get(turn.slot).and_then(Option::as_ref);
    consumer.is_some_and(|consumer| consumer.spec.id == turn.id)
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
