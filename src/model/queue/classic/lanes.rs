//! The messages of a queue with priorities, one lane for each priority.
//!
//! ```text
//!             lane 1 (the highest)   returned | backlog <-- push
//!   pop <-- { lane 2                 returned | backlog <-- push
//!             ...                    returned | backlog <-- push
//! ```
//!
//! A message leaves when all lanes above it are empty, those too of which messages are on disk
//! only. Of each lane the tail may be spilled, the lowest lanes first. The store has the lanes in
//! segments of their own and reads the highest one first: the order of its sequence numbers
//! ([`lane`]) is that in which messages leave.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use crate::mutant::{self, Mutant};
use crate::queue::classic::backlog::{Backlog, ResidentHead};
use crate::queue::classic::unfinished::Task;
use crate::queue::entry::{QueueMemory, QueuedMessage, hash_entries};
use crate::queue::{RestoredMessages, lane};

/// The messages of one priority.
#[derive(Debug)]
struct Lane {
    /// Those that were delivered and put back. They were ahead of all in `backlog`.
    returned: BTreeMap<u64, QueuedMessage>,
    /// Bytes of the messages in `returned`.
    returned_bytes: usize,
    backlog: Backlog,
    /// The place of the next message.
    next: u64,
}

impl Lane {
    fn len(&self) -> u64 {
        self.returned.len() as u64 + self.backlog.len()
    }

    fn bytes(&self) -> usize {
        self.returned_bytes + self.backlog.bytes()
    }

    fn first(&self) -> Option<&QueuedMessage> {
        let returned = self.returned.first_key_value().map(|(_, entry)| entry);
        returned.or_else(|| self.backlog.first())
    }

    fn pop(&mut self) -> Option<QueuedMessage> {
        let returned = match mutant::active(Mutant::LaneUnordered) {
            false => self.returned.pop_first(),
            true => self.returned.pop_last(),
        };
        if let Some((_, entry)) = returned {
            self.returned_bytes -= entry.bytes();
            return Some(entry);
        }
        let first = self.backlog.pop();
        if self.backlog.is_empty() {
            // There may be hundreds of lanes; what each keeps must not fill the memory.
            self.backlog.shrink();
        }
        first
    }

    fn entries(&self) -> impl Iterator<Item = &QueuedMessage> {
        self.returned.values().chain(self.backlog.entries().iter())
    }

    /// Spills `count` messages behind the head. Returns their bytes.
    fn spill(
        &mut self,
        head: ResidentHead,
        count: usize,
        mut spill: impl FnMut(QueuedMessage) -> usize,
    ) -> usize {
        let (before, mut bodies) = (self.backlog.bytes(), 0);
        self.backlog.drain_behind(head, count, |entry| bodies += spill(entry));
        self.backlog.add_spilled_bodies(bodies);
        self.backlog.shrink();
        before - self.backlog.bytes()
    }
}

/// The messages of all priorities.
#[derive(Debug)]
pub(super) struct Lanes {
    /// The highest priority first.
    lanes: Vec<Lane>,
    /// The lane that is being fetched.
    fetching: Option<usize>,
}

impl Lanes {
    /// Lanes for the priorities up to `max`.
    pub fn new(max: u8) -> Self {
        let lane = |_| Lane {
            returned: BTreeMap::new(),
            returned_bytes: 0,
            backlog: Backlog::default(),
            next: 1,
        };
        Self { lanes: (0..=max).map(lane).collect(), fetching: None }
    }

    /// The sequence number of the next message with this priority.
    pub fn number(&mut self, priority: u8) -> u64 {
        let lowest = self.lanes.len() - 1;
        let mut above = lowest - usize::from(priority).min(lowest);
        if mutant::active(Mutant::LaneIgnored) {
            above = lowest;
        }
        let Some(lane) = self.lanes.get_mut(above) else { return 0 };
        lane.next += 1;
        lane::seq(above as u16 + 1, lane.next - 1)
    }

    fn of(&mut self, entry: &QueuedMessage) -> Option<&mut Lane> {
        let above = usize::from(lane::of(entry.seq)).checked_sub(1)?;
        self.lanes.get_mut(above)
    }

    /// The first lane that has messages.
    fn first_lane(&self) -> Option<usize> {
        let overtakes = mutant::active(Mutant::LaneOvertaken);
        let has = |lane: &Lane| if overtakes { lane.first().is_some() } else { lane.len() > 0 };
        self.lanes.iter().position(has)
    }

    /// The first message, if it is resident.
    #[cold]
    #[inline(never)]
    pub fn first(&self) -> Option<&QueuedMessage> {
        self.lanes.get(self.first_lane()?)?.first()
    }

    /// Takes the first message; `None` while it is spilled.
    #[cold]
    #[inline(never)]
    pub fn pop(&mut self) -> Option<QueuedMessage> {
        let first = self.first_lane()?;
        self.lanes.get_mut(first)?.pop()
    }

    /// Takes the last resident message: a deliberate fault of tests.
    #[cold]
    #[inline(never)]
    pub fn pop_last(&mut self) -> Option<QueuedMessage> {
        let last = self.lanes.iter().rposition(|lane| lane.first().is_some())?;
        let lane = self.lanes.get_mut(last)?;
        lane.backlog.pop_last().or_else(|| lane.pop())
    }

    /// Adds a message behind the others of its priority.
    #[cold]
    #[inline(never)]
    pub fn push(&mut self, entry: QueuedMessage) {
        if let Some(lane) = self.of(&entry) {
            lane.backlog.push(entry);
        }
    }

    /// Puts a message back to its position.
    #[cold]
    #[inline(never)]
    pub fn put_back(&mut self, entry: QueuedMessage) {
        if let Some(lane) = self.of(&entry) {
            lane.returned_bytes += entry.bytes();
            lane.returned.insert(entry.seq, entry);
        }
    }

    /// Spilled messages.
    #[cold]
    #[inline(never)]
    pub fn spilled(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.backlog.spilled()).sum()
    }

    /// Bytes of their bodies.
    #[cold]
    #[inline(never)]
    pub fn spilled_bodies(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.backlog.spilled_bodies()).sum()
    }

    /// Bytes of the resident messages.
    #[cold]
    #[inline(never)]
    pub fn bytes(&self) -> usize {
        self.lanes.iter().map(Lane::bytes).sum()
    }

    /// Entries that fit without another allocation, those put back, and the lanes themselves.
    #[cold]
    #[inline(never)]
    pub fn capacity(&self) -> usize {
        let own = self.lanes.len() * size_of::<Lane>() / size_of::<QueuedMessage>();
        let each = |lane: &Lane| lane.returned.len() + lane.backlog.capacity();
        own + self.lanes.iter().map(each).sum::<usize>()
    }

    /// Whether the first spilled messages are to be fetched, since fewer than `low` bytes are
    /// ahead of them. If so, the fetch counts as under way.
    #[cold]
    #[inline(never)]
    pub fn fetch(&mut self, low: usize) -> bool {
        let mut low = low;
        for (above, lane) in self.lanes.iter().enumerate() {
            low = low.saturating_sub(lane.returned_bytes);
            if lane.backlog.spilled() > 0 {
                self.fetching = lane.backlog.is_low(low).then_some(above);
                break;
            }
            low = low.saturating_sub(lane.backlog.bytes());
        }
        self.fetching.is_some()
    }

    /// The first spilled message was loaded; [`Self::join`] follows.
    #[cold]
    #[inline(never)]
    pub fn arrive(&mut self, entry: QueuedMessage, body: usize) {
        if let Some(lane) = self.of(&entry) {
            lane.backlog.arrive(entry, body);
        }
    }

    /// Puts the loaded messages into their places.
    #[cold]
    #[inline(never)]
    pub fn join(&mut self) {
        self.fetching = None;
        let loading = self.lanes.iter_mut().filter(|lane| lane.backlog.loads());
        loading.for_each(|lane| lane.backlog.join());
    }

    /// Empties all lanes; a fetch under way is cancelled. `drop` gets the resident messages.
    #[cold]
    #[inline(never)]
    pub fn take(&mut self, drop: &mut impl FnMut(Task)) {
        self.fetching = None;
        for lane in &mut self.lanes {
            lane.returned_bytes = 0;
            drop(Task::Return(std::mem::take(&mut lane.returned)));
            lane.backlog.take(drop);
        }
    }

    /// Takes over what was recovered. Returns how many messages that is.
    pub fn restore(&mut self, found: &RestoredMessages) -> u64 {
        for lane in &mut self.lanes {
            lane.next = found.next_seq.max(1);
        }
        for one in &found.lanes {
            let above = usize::from(one.lane).checked_sub(1);
            if let Some(lane) = above.and_then(|above| self.lanes.get_mut(above)) {
                lane.backlog.restore(one.messages, one.bodies);
            }
        }
        self.spilled()
    }

    /// Bytes behind the head of all lanes.
    #[cold]
    #[inline(never)]
    pub fn behind(&self, window: usize) -> usize {
        let windows = self.windows(window).into_iter();
        windows.zip(self.spillable()).map(|(window, lane)| lane.backlog.behind(window)).sum()
    }

    /// The lanes of which messages may be spilled: while one is being fetched, none above it, since
    /// the store reads the first spilled ones there are.
    fn spillable(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.iter().skip(self.fetching.unwrap_or(0))
    }

    /// What is left of the window of all for each lane that may be spilled.
    fn windows(&self, window: usize) -> Vec<usize> {
        let ahead = self.lanes.iter().take(self.fetching.unwrap_or(0)).map(Lane::bytes);
        let mut left = window.saturating_sub(ahead.sum());
        let own = |lane: &Lane| {
            let own = left;
            left = left.saturating_sub(lane.bytes());
            own
        };
        self.spillable().map(own).collect()
    }

    /// Spills at least `bytes` of messages behind the head, or all there are: those of the lowest
    /// priority first, and of each priority the first ones first. `spill` returns the bytes of
    /// their bodies.
    pub fn spill(
        &mut self,
        window: usize,
        bytes: usize,
        mut spill: impl FnMut(QueuedMessage) -> usize,
    ) {
        let mut left = bytes;
        let windows = self.windows(window);
        let lanes = self.lanes.iter_mut().skip(self.fetching.unwrap_or(0));
        for (lane, window) in lanes.zip(windows).rev() {
            let head = lane.backlog.head(window);
            let count = lane.backlog.count_behind(head, left);
            left = left.saturating_sub(lane.spill(head, count, &mut spill));
        }
    }

    /// Of each lane, spills the messages behind the head up to the last `old` one.
    pub fn spill_old(
        &mut self,
        window: usize,
        old: impl Fn(&QueuedMessage) -> bool,
        mut spill: impl FnMut(QueuedMessage) -> usize,
    ) {
        let windows = self.windows(window);
        let lanes = self.lanes.iter_mut().skip(self.fetching.unwrap_or(0));
        for (lane, window) in lanes.zip(windows) {
            let head = lane.backlog.head(window);
            let entries = lane.backlog.entries();
            let behind = entries.len() - head.entries;
            let last = entries.iter().rev().take(behind).position(&old);
            let count = last.map_or(0, |last| behind - last);
            lane.spill(head, count, &mut spill);
        }
    }

    /// All resident messages.
    pub fn entries(&self) -> impl Iterator<Item = &QueuedMessage> {
        self.lanes.iter().flat_map(Lane::entries)
    }

    /// All resident messages. Their bytes are not to change.
    pub fn entries_mut(&mut self) -> impl Iterator<Item = &mut QueuedMessage> {
        self.lanes.iter_mut().flat_map(|lane| {
            lane.returned.values_mut().chain(lane.backlog.entries_mut().iter_mut())
        })
    }

    /// Hashes the state; the bytes of messages are in `memory`.
    pub fn hash_with(&self, memory: &QueueMemory, state: &mut impl Hasher) {
        self.fetching.hash(state);
        for lane in &self.lanes {
            state.write_u64(lane.next);
            hash_entries(lane.returned.values(), memory, state);
            lane.backlog.hash_with(memory, state);
        }
    }
}
