//! A message in a queue's memory.

use crate::arena::{Arena, Place};
use crate::message::{Body, Message};
use crate::stored::Stored;

/// A message that a queue holds in memory.
#[derive(Debug)]
pub(crate) struct Entry {
    pub seq: u64,
    /// Where the store has it too.
    pub stored: Stored,
    place: Place,
    body: Option<Body>,
    /// It was delivered before.
    pub redelivered: bool,
}

impl Entry {
    /// Octets of its record and body.
    #[inline]
    pub fn octets(&self) -> usize {
        self.place.octets() + self.body.as_ref().map_or(0, Body::len)
    }
}

/// What holds the octets of a queue's entries.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    arena: Arena,
    /// Octets in bodies held by reference.
    body_octets: usize,
}

impl Memory {
    /// Octets of memory held: chunks and bodies by reference.
    pub fn pinned(&self) -> usize {
        self.arena.pinned() + self.body_octets
    }

    /// Takes a message in; the store does not have it.
    pub fn hold(&mut self, seq: u64, message: Message<'_>) -> Entry {
        let body = message.large_body().cloned();
        self.body_octets += body.as_ref().map_or(0, Body::len);
        let place = self.arena.push(message.record());
        Entry { seq, stored: Stored::NOWHERE, place, body, redelivered: false }
    }

    /// The message of an entry.
    #[inline(always)]
    pub fn message<'a>(&'a self, entry: &'a Entry) -> Message<'a> {
        Message::new(self.arena.get(entry.place), entry.body.as_ref())
    }

    /// Gives the octets of an entry up.
    #[inline]
    pub fn free(&mut self, entry: Entry) {
        self.body_octets -= entry.body.as_ref().map_or(0, Body::len);
        self.arena.free(entry.place);
    }
}
