//! Where a message goes: lists without duplicates that are reused, so that routing does not
//! allocate.

use std::hash::Hash;

use super::one_of::mix;
use super::stateful::{ExchangeStates, StateAccess, StateMet};
use super::{headers, topic};
use crate::hash::{Map, Seed, Set};
use crate::ids::{QueueId, ShardId};
use crate::mutant::{self, Mutant};

/// Up to this length a list is searched from front to back; a longer one is indexed.
pub(super) const LINEAR_MAX: usize = 16;
/// An index for more items is dropped with them.
const KEPT: usize = 4096;
/// Targets of one set that are added at once where a route has to pause before the end of the set.
const ADDED_AT_ONCE: usize = if cfg!(test) { 4 } else { 1024 };

/// What a binding leads to, resolved. The bindings of a queue are removed before the queue, those
/// of an exchange before its slot is reused, so neither can be stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    Queue(QueueId, ShardId),
    /// The exchange's slot in its vhost.
    Exchange(u32),
}

/// The queues a message is routed to, each once. Reuse it: once it has grown to the largest
/// fan-out, routing allocates nothing.
#[derive(Debug)]
pub struct Targets {
    queues: Unique<(QueueId, ShardId)>,
    /// The exchanges reached over exchange-to-exchange bindings by the route under way.
    pub(super) exchanges: Unique<u32>,
    /// True if a route found a target, a new one or not, since this was reset.
    pub(crate) found: bool,
    /// What the topic exchange keeps from key to key.
    pub(super) topic: Option<Box<topic::TopicBuffers>>,
    /// What the headers exchange keeps from message to message.
    pub(super) headers: Option<Box<headers::Met>>,
    /// The state of the dice of exchanges that choose by chance.
    dice: u64,
    /// True if chance decided about a route since this was reset.
    by_chance: bool,
    pub(super) state: StateAccess,
    work: u64,
    /// Steps after which a route pauses.
    limit: u64,
    /// No exchange of the route under way is younger.
    pub(crate) version: u64,
    /// Where the route under way has paused.
    pub(crate) cursor: RouteCursor,
}

/// Where a route has paused: between two keys or two exchanges, or inside of one exchange.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RouteCursor {
    /// Whether a route has paused.
    pub paused: bool,
    /// The next key, or the one that the exchange was asked by.
    pub key: usize,
    /// The exchange reached that is being asked; `None`: the one the message was published to.
    pub nth: Option<usize>,
    /// What the exchange goes on with, if it paused: the number of a pattern of a headers exchange.
    /// A topic exchange has a list of its own ([`topic::TopicBuffers`]).
    pub inside: Option<u64>,
    /// The targets of a set that were not added yet, if it paused in the middle of one.
    pub left: Option<usize>,
}

impl RouteCursor {
    /// True if the exchange that is asked was not asked before.
    pub fn is_at_start(&self) -> bool {
        self.key == 0 && self.inside.is_none()
    }

    /// The exchange is done with a key.
    #[inline]
    pub fn leave_exchange(&mut self) {
        (self.inside, self.left) = (None, None);
    }
}

impl Default for Targets {
    fn default() -> Self {
        Self::new()
    }
}

impl Targets {
    /// An empty list.
    #[must_use]
    pub fn new() -> Self {
        Self {
            queues: Unique::default(),
            exchanges: Unique::default(),
            found: false,
            topic: None,
            headers: None,
            dice: 0,
            by_chance: false,
            state: StateAccess::default(),
            work: 0,
            limit: u64::MAX,
            version: u64::MAX,
            cursor: RouteCursor::default(),
        }
    }

    /// Forgets the queues and the work. Routes add up until then.
    #[inline]
    pub fn clear(&mut self) {
        self.queues.clear();
        self.work = 0;
        self.by_chance = false;
        self.state.met = StateMet::Nothing;
        self.state.remembering.clear();
        (self.limit, self.version) = (u64::MAX, u64::MAX);
        if self.cursor.paused {
            self.end_route();
        }
    }

    /// Has routes pause after so many steps more. What is not cut takes a few thousand: the words
    /// or headers of a message, a node of a topic exchange, a binding of a headers exchange.
    #[inline]
    pub fn may_work(&mut self, steps: u64) {
        self.limit = self.work.saturating_add(steps);
    }

    /// The version of the topology when a route begins that may pause.
    #[inline]
    pub fn begin(&mut self, version: u64) {
        self.version = version;
    }

    /// True if a route has paused, and goes on when it is asked for again.
    #[inline]
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.cursor.paused
    }

    /// True if some targets of a set were added before the route paused, and the others follow.
    #[inline]
    pub(super) fn goes_on_with_set(&self) -> bool {
        self.cursor.left.is_some()
    }

    /// What chance depends on from now on. Equal numbers give equal routes.
    #[inline]
    pub fn roll(&mut self, number: u64) {
        self.dice = number;
    }

    /// A random number. The route is then not to be remembered.
    pub(super) fn draw(&mut self) -> u64 {
        self.by_chance = true;
        self.dice = mix(self.dice);
        self.dice
    }

    /// True if the same message may go elsewhere next time, with the same topology.
    #[inline]
    #[must_use]
    pub fn by_chance(&self) -> bool {
        self.by_chance
    }

    /// Lends what the stateful exchanges of this shard remember to a route, if the route may meet
    /// them here, and the time in microseconds of the monotonic clock.
    #[inline]
    pub fn lend(&mut self, states: Option<ExchangeStates>, now_us: u64) {
        self.state.states = states;
        self.state.now_us = now_us;
    }

    /// Gives back what was lent.
    #[inline]
    pub fn give_back(&mut self) -> Option<ExchangeStates> {
        self.state.states.take()
    }

    /// A stateful exchange is asked. False if what it remembers is not here.
    pub(super) fn meets_state(&mut self) -> bool {
        let is_here = self.state.states.is_some();
        // One value, not two flags: of flags set as `a |= !here; b |= here` next to each other
        // rustc 1.95 makes code that sets both.
        self.state.met = if is_here { StateMet::Here } else { StateMet::Elsewhere };
        is_here
    }

    /// True if the message came to a stateful exchange that is here.
    #[inline]
    #[must_use]
    pub fn has_met_state(&self) -> bool {
        self.state.met == StateMet::Here
    }

    /// The exchange in this slot is to remember the message.
    pub(super) fn remembering(&mut self, slot: u32) {
        self.state.remembering.push(slot);
    }

    /// The slots of the exchanges that are to remember the message.
    #[inline]
    pub(crate) fn slots_remembering(&self) -> &[u32] {
        &self.state.remembering
    }

    /// True if the message came to a stateful exchange that is not here: it has to be routed where
    /// that is, and what was found means nothing.
    #[inline]
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        self.state.met == StateMet::Elsewhere
    }

    /// Whether the route has to pause.
    #[inline]
    pub(crate) fn is_spent(&self) -> bool {
        self.work >= self.limit && !mutant::active(Mutant::RouteUncut)
    }

    /// True if so many targets may be added without a pause.
    #[inline]
    fn has_room_for(&self, targets: usize) -> bool {
        targets <= ADDED_AT_ONCE || self.work + targets as u64 <= self.limit
    }

    /// The work of all routes since the last [`clear`](Self::clear), in steps. A step is one key or
    /// exchange asked, one word of a key, one node or edge of the topic trie, one header, one
    /// binding of a headers exchange or 64 arguments of it, or one target found, known already or
    /// not. It takes a few nanoseconds, tens where memory is slow.
    #[inline]
    #[must_use]
    pub fn work(&self) -> u64 {
        self.work
    }

    #[inline]
    pub(crate) fn count_work(&mut self, steps: usize) {
        self.work += steps as u64;
    }

    /// The queues and their home shards, in the order they were found.
    #[inline]
    #[must_use]
    pub fn queues(&self) -> &[(QueueId, ShardId)] {
        &self.queues.items
    }

    /// Whether no queue was found.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queues.items.is_empty()
    }

    /// Adds a queue that was not found by a binding.
    #[inline]
    pub fn queue(&mut self, id: QueueId, home: ShardId) {
        self.found = true;
        self.queues.push((id, home));
    }

    #[inline]
    pub(super) fn push(&mut self, target: Target) {
        match target {
            Target::Queue(id, home) => self.queue(id, home),
            Target::Exchange(slot) => self.exchange_reached(slot),
        }
    }

    pub(crate) fn exchange_reached(&mut self, slot: u32) {
        self.found = true;
        self.exchanges.push(slot);
    }

    /// The exchange reached `nth` by the route under way.
    #[inline]
    pub(crate) fn exchange(&self, nth: usize) -> Option<u32> {
        self.exchanges.items.get(nth).copied()
    }

    /// The route under way is over.
    pub(crate) fn end_route(&mut self) {
        self.exchanges.clear();
        self.cursor = RouteCursor::default();
    }
}

/// A list without duplicates, in the order of insertion.
#[derive(Debug)]
pub(super) struct Unique<T> {
    items: Vec<T>,
    /// The first items of the list; brought up to date only when a long list is searched.
    index: Set<T>,
}

impl<T> Default for Unique<T> {
    fn default() -> Self {
        // The keys are numbers of this broker, so the seed protects nothing.
        Self { items: Vec::new(), index: Set::with_hasher(Seed::default()) }
    }
}

impl<T: Copy + Eq + Hash> Unique<T> {
    #[inline]
    fn push(&mut self, item: T) {
        if !self.holds(&item) {
            self.items.push(item);
        }
    }

    #[inline]
    fn holds(&mut self, item: &T) -> bool {
        if self.items.len() <= LINEAR_MAX {
            return self.items.contains(item);
        }
        self.index.extend(&self.items[self.index.len()..]);
        self.index.contains(item)
    }

    #[inline]
    fn clear(&mut self) {
        self.items.clear();
        // Clearing touches the whole table of a set, even of an empty one.
        if self.index.capacity() > KEPT {
            self.index = Set::with_hasher(Seed::default());
        } else if !self.index.is_empty() {
            self.index.clear();
        }
    }
}

/// The targets of bindings that match alike, each with the number of bindings that lead to it.
#[derive(Debug, Default)]
pub(super) struct TargetSet {
    entries: Vec<(Target, u32)>,
    /// Indexes in `entries`, once there are many.
    index: Option<Box<Map<Target, usize>>>,
    /// How many entries are exchanges.
    exchanges: usize,
}

impl TargetSet {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Counts one more binding to the target.
    pub fn add(&mut self, target: Target) {
        if let Some(at) = self.position(target) {
            self.entries[at].1 += 1;
            return;
        }
        self.exchanges += usize::from(matches!(target, Target::Exchange(_)));
        self.entries.push((target, 1));
        if let Some(index) = &mut self.index {
            index.insert(target, self.entries.len() - 1);
        } else if self.entries.len() > LINEAR_MAX {
            let mut index = Map::with_hasher(Seed::default());
            index.extend(self.entries.iter().enumerate().map(|(at, entry)| (entry.0, at)));
            self.index = Some(Box::new(index));
        }
    }

    /// Counts one binding to the target less. The target is removed with its last binding.
    pub fn remove(&mut self, target: Target) {
        let Some(at) = self.position(target) else {
            return;
        };
        self.entries[at].1 -= 1;
        if self.entries[at].1 > 0 {
            return;
        }
        self.exchanges -= usize::from(matches!(target, Target::Exchange(_)));
        self.entries.swap_remove(at);
        if let Some(index) = &mut self.index {
            index.remove(&target);
            if let Some(moved) = self.entries.get(at) {
                index.insert(moved.0, at);
            }
        }
    }

    /// The target of the `nth` of all `bindings` that lead to targets of this set.
    pub fn of_binding(&self, mut nth: usize, bindings: usize) -> Option<Target> {
        if bindings == self.entries.len() {
            return self.entries.get(nth).map(|entry| entry.0);
        }
        let found = self.entries.iter().find(|(_, count)| {
            let count = *count as usize;
            let is_here = nth < count;
            nth = nth.saturating_sub(count);
            is_here
        });
        found.map(|entry| entry.0)
    }

    /// Adds the targets to the list; false if the route pauses before the last one.
    #[inline]
    pub fn collect(&self, targets: &mut Targets) -> bool {
        if targets.cursor.left.is_some() || !targets.has_room_for(self.entries.len()) {
            return self.collect_some(targets);
        }
        targets.count_work(self.entries.len());
        if self.exchanges == 0 && targets.is_empty() {
            // No target is here twice, so nothing needs to be searched.
            targets.found |= !self.entries.is_empty();
            targets.queues.items.extend(self.entries.iter().filter_map(queue));
        } else {
            self.entries.iter().for_each(|entry| targets.push(entry.0));
        }
        true
    }

    /// Adds targets as long as the route may go on, the last ones first: where one is removed
    /// meanwhile the last one takes its place, which was added before.
    #[cold]
    fn collect_some(&self, targets: &mut Targets) -> bool {
        let mut left = targets.cursor.left.take().unwrap_or(usize::MAX).min(self.entries.len());
        while left > 0 {
            let first = left.saturating_sub(ADDED_AT_ONCE);
            let piece = self.entries.get(first..left).unwrap_or_default();
            targets.count_work(piece.len());
            piece.iter().for_each(|entry| targets.push(entry.0));
            left = first;
            if left > 0 && targets.is_spent() {
                targets.cursor.left = Some(left);
                return false;
            }
        }
        true
    }

    fn position(&self, target: Target) -> Option<usize> {
        match &self.index {
            Some(index) => index.get(&target).copied(),
            None => self.entries.iter().position(|entry| entry.0 == target),
        }
    }
}

#[inline]
fn queue(entry: &(Target, u32)) -> Option<(QueueId, ShardId)> {
    match entry.0 {
        Target::Queue(id, home) => Some((id, home)),
        Target::Exchange(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(number: u64) -> Target {
        Target::Queue(QueueId(number), ShardId(0))
    }

    fn found(set: &TargetSet) -> Vec<u64> {
        let mut targets = Targets::new();
        set.collect(&mut targets);
        let mut ids: Vec<u64> = targets.queues().iter().map(|queue| queue.0.0).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn a_target_stays_until_its_last_binding_goes() {
        let mut set = TargetSet::default();
        set.add(target(1));
        set.add(target(1));
        set.remove(target(1));
        assert_eq!(found(&set), [1]);
        set.remove(target(1));
        assert!(set.is_empty());
        set.remove(target(1));
        assert!(set.is_empty());
    }

    #[test]
    fn a_long_set_forgets_the_right_one() {
        let mut set = TargetSet::default();
        (0..100).for_each(|number| set.add(target(number)));
        (0..100).filter(|number| number % 3 != 0).for_each(|number| set.remove(target(number)));
        assert_eq!(found(&set), (0..100).filter(|number| number % 3 == 0).collect::<Vec<_>>());
    }

    #[test]
    fn a_list_holds_each_queue_once_however_long_it_is() {
        let mut targets = Targets::new();
        for _ in 0..3 {
            (0..50).for_each(|number| targets.queue(QueueId(number), ShardId(0)));
        }
        assert_eq!(targets.queues().len(), 50);
        targets.clear();
        assert!(targets.is_empty());
        targets.queue(QueueId(7), ShardId(1));
        assert_eq!(targets.queues(), [(QueueId(7), ShardId(1))]);
    }

    #[test]
    fn a_set_added_to_a_filled_list_adds_only_what_is_new() {
        let mut set = TargetSet::default();
        (0..40).for_each(|number| set.add(target(number)));
        let mut targets = Targets::new();
        set.collect(&mut targets);
        set.collect(&mut targets);
        assert_eq!(targets.queues().len(), 40);
    }
}
