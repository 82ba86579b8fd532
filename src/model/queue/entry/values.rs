//! The deduplication values of the messages in a queue with `x-message-deduplication`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::exchange::deduplication_value;
use crate::message::Message;
use crate::mutant::{self, Mutant};

/// Bytes that a value takes beside its own.
const OVERHEAD: usize = 160;

/// The value of each message in the queue that has one, also of those on disk. A restart forgets
/// them, as rabbitmq-message-deduplication does.
#[derive(Debug, Default, Hash)]
pub struct HeldValues {
    by_seq: BTreeMap<u64, Arc<[u8]>>,
    held: BTreeSet<Arc<[u8]>>,
    bytes: usize,
}

impl HeldValues {
    /// The value of a message that is to enter. `Err`: a message in the queue has it.
    pub fn check(&self, message: Message<'_>) -> Result<Option<Arc<[u8]>>, ()> {
        let Some(value) = deduplication_value(message.properties()) else { return Ok(None) };
        let held = self.held.contains(&value) && !mutant::active(Mutant::HeldValueIgnored);
        if held { Err(()) } else { Ok(Some(value)) }
    }

    /// A message with this value has entered.
    pub fn enter(&mut self, seq: u64, value: Arc<[u8]>) {
        self.bytes += value.len() + OVERHEAD;
        self.held.insert(value.clone());
        self.by_seq.insert(seq, value);
    }

    /// The message has left.
    pub fn leave(&mut self, seq: u64) {
        if mutant::active(Mutant::HeldValueStays) {
            return;
        }
        if let Some(value) = self.by_seq.remove(&seq) {
            self.bytes -= value.len() + OVERHEAD;
            self.held.remove(&value);
        }
    }

    /// All messages have left but those of these numbers.
    pub fn leave_all_but(&mut self, stay: impl Iterator<Item = u64>) {
        let mut before = std::mem::take(self);
        for seq in stay {
            if let Some(value) = before.by_seq.remove(&seq) {
                self.enter(seq, value);
            }
        }
    }

    /// Bytes of memory that they hold.
    pub fn pinned(&self) -> usize {
        self.bytes
    }
}
