//! The backlog of a classic queue: resident messages in order, and a count of spilled ones.
//!
//! ```text
//!   pop <-- resident ... | spilled ... | resident ... <-- push
//!           ahead          a count       the tail
//! ```
//!
//! Without spilled messages there is no gap, but `ahead` is kept: messages that were loaded are
//! never spilled again, so that whatever is spilled later is behind all that ever was.
//!
//! A queue with priorities has a backlog for each of them (`lanes.rs`). Its own one leads there on
//! the paths of spilled messages, so that other queues do not pay for it.

use std::hash::{Hash, Hasher};

use crate::lists::PieceList;
use crate::mutant::{self, Mutant};
use crate::queue::RestoredMessages;
use crate::queue::classic::lanes::Lanes;
use crate::queue::classic::unfinished::Task;
use crate::queue::entry::{QueueMemory, QueuedMessage, hash_entries};

/// Entries that memory is kept for after messages were spilled, because other queues need memory.
const KEPT_SPILLED: usize = 64;
/// Spilled messages are fetched when fewer bytes than this are ahead of them.
const LOW: usize = 32 * 1024;

/// The resident head: the first messages, which are not spilled.
#[derive(Debug, Clone, Copy, Default, Hash)]
pub(crate) struct ResidentHead {
    pub entries: usize,
    bytes: usize,
}

/// Messages in order, some of them spilled.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    entries: PieceList<QueuedMessage>,
    /// Bytes of the messages in `entries`.
    bytes: usize,
    /// The messages ahead of the spilled ones, or ahead of those that were spilled and loaded.
    ahead: ResidentHead,
    /// Messages that are not in `entries`: the spilled ones, or all that are in `lanes`.
    apart: u64,
    /// Bytes of the bodies of the spilled messages.
    spilled_bodies: u64,
    fetching: bool,
    /// Messages of the fetch under way that have been loaded.
    arrived: Vec<QueuedMessage>,
    /// All messages of a queue with priorities. Beside it only `apart` and `fetching` are used.
    lanes: Option<Box<Lanes>>,
    /// Entries that fit into `lanes`.
    room: usize,
}

impl Backlog {
    /// Resident and spilled messages.
    #[inline]
    pub fn len(&self) -> u64 {
        self.entries.len() as u64 + self.apart
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.apart == 0
    }

    /// Messages that are spilled.
    #[inline]
    pub fn spilled(&self) -> u64 {
        self.lanes.as_ref().map_or(self.apart, |lanes| lanes.spilled())
    }

    /// Whether any message may be spilled.
    #[inline]
    pub fn may_be_spilled(&self) -> bool {
        self.apart > 0
    }

    /// Bytes of the resident messages.
    pub fn bytes(&self) -> usize {
        self.lanes.as_ref().map_or(self.bytes, |lanes| lanes.bytes())
    }

    /// Entries that fit without another allocation.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.entries.capacity() + self.room
    }

    #[inline]
    pub fn push(&mut self, entry: QueuedMessage) {
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
    }

    /// Takes the first message; `None` while it is spilled.
    #[inline(always)]
    pub fn pop(&mut self) -> Option<QueuedMessage> {
        if self.apart > 0 || self.ahead.entries > 0 {
            return self.pop_ahead();
        }
        self.pop_front()
    }

    #[inline(always)]
    fn pop_front(&mut self) -> Option<QueuedMessage> {
        let first = self.entries.pop_front();
        self.bytes -= first.as_ref().map_or(0, QueuedMessage::bytes);
        first
    }

    #[cold]
    #[inline(never)]
    fn pop_ahead(&mut self) -> Option<QueuedMessage> {
        if let Some(lanes) = &mut self.lanes {
            let first = lanes.pop();
            self.apart -= u64::from(first.is_some());
            self.measure();
            return first;
        }
        if self.ahead.entries == 0 && self.apart > 0 && !mutant::active(Mutant::SpilledOvertaken) {
            return None;
        }
        let first = self.pop_front()?;
        self.ahead.entries = self.ahead.entries.saturating_sub(1);
        self.ahead.bytes = self.ahead.bytes.saturating_sub(first.bytes());
        Some(first)
    }

    /// Whether the first message is resident.
    pub fn head_is_resident(&self) -> bool {
        if self.apart > 0 { self.first_is_ahead() } else { !self.entries.is_empty() }
    }

    #[cold]
    #[inline(never)]
    fn first_is_ahead(&self) -> bool {
        let ahead = || self.ahead.entries > 0;
        self.lanes.as_ref().map_or_else(ahead, |lanes| lanes.first().is_some())
    }

    /// Whether spilled messages are to be fetched now. If so, the fetch counts as under way.
    #[cold]
    pub fn fetch(&mut self) -> bool {
        let low = match &mut self.lanes {
            _ if self.fetching => false,
            Some(lanes) => lanes.fetch(LOW),
            None => self.is_low(LOW),
        };
        self.fetching |= low;
        low
    }

    /// Whether fewer than `low` bytes are ahead of spilled messages.
    pub fn is_low(&self, low: usize) -> bool {
        self.apart > 0 && self.ahead.bytes < low
    }

    /// Whether a fetch is under way.
    pub fn is_fetching(&self) -> bool {
        self.fetching
    }

    /// The first message, if it is resident.
    pub fn first(&self) -> Option<&QueuedMessage> {
        if let Some(lanes) = &self.lanes {
            return lanes.first();
        }
        if self.head_is_resident() { self.entries.front() } else { None }
    }

    /// Takes the last resident message: a deliberate fault of tests.
    #[cold]
    pub fn pop_last(&mut self) -> Option<QueuedMessage> {
        if let Some(lanes) = &mut self.lanes {
            let last = lanes.pop_last();
            self.apart -= u64::from(last.is_some());
            return last;
        }
        if self.entries.len() <= self.ahead.entries {
            return self.pop();
        }
        let last = self.entries.pop_back()?;
        self.bytes -= last.bytes();
        Some(last)
    }

    /// Bytes of the bodies of the spilled messages.
    pub fn spilled_bodies(&self) -> u64 {
        self.lanes.as_ref().map_or(self.spilled_bodies, |lanes| lanes.spilled_bodies())
    }

    /// The first spilled messages are dropped.
    pub fn drop_spilled(&mut self, messages: u64, bodies: u64) {
        self.apart = self.apart.saturating_sub(messages);
        self.spilled_bodies = self.spilled_bodies.saturating_sub(bodies);
    }

    /// The first spilled message was loaded; [`Self::join`] follows.
    pub fn arrive(&mut self, entry: QueuedMessage, body: usize) {
        if let Some(lanes) = &mut self.lanes {
            return lanes.arrive(entry, body);
        }
        self.drop_spilled(1, body as u64);
        self.arrived.push(entry);
    }

    /// Puts the loaded messages into their place.
    pub fn join(&mut self) {
        self.fetching = false;
        if let Some(lanes) = &mut self.lanes {
            lanes.join();
            return self.measure();
        }
        let mut arrived = std::mem::take(&mut self.arrived);
        if mutant::active(Mutant::LoadedBackwards) {
            arrived.reverse();
        }
        let bytes: usize = arrived.iter().map(QueuedMessage::bytes).sum();
        let (entries, ahead) = (arrived.len(), self.ahead.entries);
        // The part ahead is short and the tail may be very long, so the part ahead is moved.
        let mut first = Vec::with_capacity(ahead);
        self.entries.drain(0..ahead, |entry| first.push(entry));
        for entry in first.into_iter().chain(arrived).rev() {
            self.entries.push_front(entry);
        }
        self.bytes += bytes;
        self.ahead.entries += entries;
        self.ahead.bytes += bytes;
    }

    /// Empties the backlog; a fetch under way is cancelled. `drop` gets the resident messages.
    pub fn take(&mut self, drop: &mut impl FnMut(Task)) {
        let Self { entries, mut lanes, .. } = std::mem::take(self);
        lanes.iter_mut().for_each(|lanes| lanes.take(drop));
        self.lanes = lanes;
        self.measure();
        drop(Task::Drop(entries));
    }

    /// True if the tail of the backlog is spilled, so that the next message may be as well.
    pub fn ends_spilled(&self) -> bool {
        let ends = self.entries.len() == self.ahead.entries;
        self.apart > 0 && (ends || mutant::active(Mutant::BypassOvertakes))
    }

    /// Adds a spilled message; only where [`Self::ends_spilled`].
    pub fn push_spilled(&mut self, body: usize) {
        self.apart += 1;
        self.spilled_bodies += body as u64;
    }

    /// Adds to the bodies of spilled messages.
    pub fn add_spilled_bodies(&mut self, bytes: usize) {
        self.spilled_bodies += bytes as u64;
    }

    /// Sets the number of spilled messages, with the bytes of their bodies.
    pub fn restore(&mut self, spilled: u64, bodies: u64) {
        self.apart = spilled;
        self.spilled_bodies = bodies;
    }

    /// The resident head: the messages ahead of spilled ones, or else the first `window` bytes.
    /// It has at least one message, since a permit requested for a message cannot be used while
    /// that is spilled.
    pub fn head(&self, window: usize) -> ResidentHead {
        let mut head = self.ahead;
        if self.apart > 0 {
            return head;
        }
        for entry in self.entries.iter().skip(head.entries) {
            let bytes = head.bytes + entry.bytes();
            if bytes > window && head.entries > 0 {
                break;
            }
            head = ResidentHead { entries: head.entries + 1, bytes };
        }
        head
    }

    /// Bytes behind the head, or a few less.
    #[inline]
    pub fn behind(&self, window: usize) -> usize {
        if self.apart > 0 {
            let bytes = || self.bytes - self.ahead.bytes;
            return self.lanes.as_ref().map_or_else(bytes, |lanes| lanes.behind(window));
        }
        let first = self.entries.front().map_or(0, QueuedMessage::bytes);
        self.bytes - self.bytes.min(window.max(first).max(self.ahead.bytes))
    }

    /// How many entries behind the head have `bytes` together, or all of them.
    pub fn count_behind(&self, head: ResidentHead, bytes: usize) -> usize {
        let mut left = bytes;
        let enough = |entry: &QueuedMessage| {
            let more = left > 0;
            left = left.saturating_sub(entry.bytes());
            more
        };
        self.entries.iter().skip(head.entries).map(enough).take_while(|more| *more).count()
    }

    /// Takes `count` entries behind the head out; they count as spilled.
    pub fn drain_behind(
        &mut self,
        head: ResidentHead,
        count: usize,
        mut spill: impl FnMut(QueuedMessage),
    ) {
        if count > 0 {
            self.ahead = head;
        }
        self.apart += count as u64;
        let bytes = &mut self.bytes;
        self.entries.drain(head.entries..head.entries + count, |entry| {
            *bytes -= entry.bytes();
            spill(entry);
        });
    }

    /// Gives back memory that a longer backlog needed.
    pub fn shrink(&mut self) {
        // There may be thousands of queues; what each keeps must not fill the memory.
        self.entries.shrink(KEPT_SPILLED);
    }

    /// The entries in memory, in order.
    pub fn entries(&self) -> &PieceList<QueuedMessage> {
        &self.entries
    }

    /// The entries in memory, in order. Their bytes are not to change.
    pub fn entries_mut(&mut self) -> &mut PieceList<QueuedMessage> {
        &mut self.entries
    }

    /// All messages in memory that are not being loaded, of one priority after the other.
    pub fn resident(&self) -> impl Iterator<Item = &QueuedMessage> {
        let lanes = self.lanes.iter().flat_map(|lanes| lanes.entries());
        self.entries.iter().chain(lanes)
    }

    /// Whether messages are being loaded.
    pub fn loads(&self) -> bool {
        !self.arrived.is_empty()
    }

    /// Keeps the messages of each priority apart from now on. The backlog is empty.
    pub fn set_priorities(&mut self, max: u8) {
        self.lanes.get_or_insert_with(|| Box::new(Lanes::new(max)));
        self.measure();
    }

    /// Counts anew what fits into the lanes, after they have changed.
    #[cold]
    pub fn measure(&mut self) {
        self.room = self.lanes.as_ref().map_or(0, |lanes| lanes.capacity());
    }

    /// The messages of a queue with priorities.
    #[inline]
    pub fn lanes(&mut self) -> Option<&mut Lanes> {
        self.lanes.as_deref_mut()
    }

    /// Adds a message behind the others of its priority, or to the end.
    #[cold]
    pub fn enter(&mut self, entry: QueuedMessage) {
        let Some(lanes) = &mut self.lanes else { return self.push(entry) };
        self.apart += 1;
        lanes.push(entry);
        self.measure();
    }

    /// Puts a message of a queue with priorities back to its position.
    #[cold]
    pub fn put_back(&mut self, entry: QueuedMessage) {
        if let Some(lanes) = &mut self.lanes {
            self.apart += 1;
            lanes.put_back(entry);
            self.measure();
        }
    }

    /// Takes over what was recovered of a queue with priorities.
    pub fn restore_lanes(&mut self, found: &RestoredMessages) {
        if let Some(lanes) = &mut self.lanes {
            self.apart = lanes.restore(found);
        }
    }

    /// Hashes the state; the bytes of messages are in `memory`.
    pub fn hash_with(&self, memory: &QueueMemory, state: &mut impl Hasher) {
        (self.bytes, self.ahead, self.apart, self.spilled_bodies, self.fetching).hash(state);
        hash_entries(self.entries.iter(), memory, state);
        hash_entries(&self.arrived, memory, state);
        self.lanes.iter().for_each(|lanes| lanes.hash_with(memory, state));
    }
}
