//! A message in a queue's memory.

mod expiry;
mod values;

use std::hash::{Hash, Hasher};

use crate::body::Body;
use crate::message::Message;
use crate::queue::arena::{Arena, ArenaPlace};
use crate::queue::stored::Stored;

pub use expiry::Expiry;
pub(crate) use values::HeldValues;

/// A message that a queue holds in memory.
#[derive(Debug)]
pub(crate) struct QueuedMessage {
    pub seq: u64,
    /// Where the store has it too.
    pub stored: Stored,
    place: ArenaPlace,
    body: Option<Body>,
    /// It was delivered before.
    pub redelivered: bool,
    /// When it expires.
    pub expiry: Expiry,
}

impl QueuedMessage {
    /// Bytes of its record and body.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.place.bytes() + self.body.as_ref().map_or(0, Body::len)
    }

    /// How many bytes of encoded properties it has, if that is more than `max`.
    #[inline]
    pub fn properties_beyond(&self, max: usize, memory: &QueueMemory) -> Option<usize> {
        // Its record need not be read to see that.
        if self.is_small(max) {
            return None;
        }
        memory.message(self).properties_beyond(max)
    }

    /// Whether its properties have at most `max` bytes and all of it is in its record, as the
    /// length of the record shows.
    #[inline]
    pub fn is_small(&self, max: usize) -> bool {
        self.place.bytes() <= max && self.body.is_none()
    }

    /// Whether part of it is held by reference.
    #[inline]
    pub fn is_large(&self) -> bool {
        self.body.is_some()
    }

    /// Hashes the message; its place in the arena does not count.
    pub fn hash_with(&self, memory: &QueueMemory, state: &mut impl Hasher) {
        (self.seq, self.stored, self.redelivered, self.expiry).hash(state);
        memory.message(self).hash(state);
    }
}

/// Hashes messages in order.
pub(crate) fn hash_entries<'a>(
    entries: impl IntoIterator<Item = &'a QueuedMessage>,
    memory: &QueueMemory,
    state: &mut impl Hasher,
) {
    let mut count = 0;
    for entry in entries {
        entry.hash_with(memory, state);
        count += 1;
    }
    state.write_usize(count);
}

/// What holds the bytes of a queue's entries.
#[derive(Debug, Default)]
pub(crate) struct QueueMemory {
    arena: Arena,
    /// Bytes in bodies held by reference.
    body_bytes: usize,
}

impl QueueMemory {
    /// Bytes of memory held in chunks.
    #[inline]
    pub fn pinned(&self) -> usize {
        self.arena.pinned()
    }

    /// Bytes in bodies held by reference. Others may hold them too.
    pub fn body_bytes(&self) -> usize {
        self.body_bytes
    }

    /// Copies a message in; the store does not have it.
    pub fn keep(&mut self, seq: u64, message: Message<'_>) -> QueuedMessage {
        let body = message.large_body().cloned();
        self.body_bytes += body.as_ref().map_or(0, Body::len);
        let place = self.arena.push(message.record());
        QueuedMessage {
            seq,
            stored: Stored::NOWHERE,
            place,
            body,
            redelivered: false,
            expiry: Expiry::NEVER,
        }
    }

    /// The message of an entry.
    #[inline(always)]
    pub fn message<'a>(&'a self, entry: &'a QueuedMessage) -> Message<'a> {
        Message::new(self.arena.get(entry.place), entry.body.as_ref())
    }

    /// The message of an entry of which nothing is held by reference.
    #[inline(always)]
    pub fn small_message(&self, entry: &QueuedMessage) -> Message<'_> {
        debug_assert!(!entry.is_large());
        Message::new(self.arena.get(entry.place), None)
    }

    /// Length of the body of an entry's message.
    #[inline]
    pub fn body_len(&self, entry: &QueuedMessage) -> usize {
        // It is in the record, wherever the body is.
        Message::new(self.arena.get(entry.place), None).body_len()
    }

    /// Frees memory that is kept for the next messages.
    pub fn trim(&mut self) {
        self.arena.trim();
    }

    /// Frees the bytes of an entry.
    #[inline(always)]
    pub fn free(&mut self, entry: QueuedMessage) {
        let QueuedMessage { place, body, .. } = entry;
        if let Some(body) = body {
            self.free_body(body);
        }
        self.arena.free(place);
    }

    // Out of line, so that an entry without a large body can stay in registers until it is freed.
    #[cold]
    #[inline(never)]
    fn free_body(&mut self, body: Body) {
        self.body_bytes -= body.len();
    }
}
