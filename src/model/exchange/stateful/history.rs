//! The last messages that came to an exchange of type `x-recent-history`.

use std::collections::VecDeque;

use amqp::{Basic, Value};

use super::owned::OwnedMessage;
use crate::message::Message;
use crate::mutant::{self, Mutant};

/// Messages that an exchange keeps unless it says otherwise.
pub(in crate::exchange) const DEFAULT_LENGTH: usize = 20;
/// Most messages that an exchange may keep: a queue that is bound gets them in one turn.
pub const HISTORY_MAX: usize = 4096;
/// Most bytes of them, unless it is a single message.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// A message with this header, if it is true, is not kept.
const NO_STORE: &str = "x-recent-history-no-store";

/// Whether a history keeps a message with these properties.
pub(in crate::exchange) fn is_stored(properties: &Basic<'_>) -> bool {
    let flag = properties.headers.and_then(|headers| headers.get(NO_STORE));
    flag != Some(Value::Bool(true)) || mutant::active(Mutant::NoStoreIgnored)
}

/// The last messages of an exchange.
#[derive(Debug, Default)]
pub(super) struct KeptMessages {
    messages: VecDeque<OwnedMessage>,
    /// Bytes of the messages with their bodies.
    bytes: usize,
    /// Bytes of memory that they hold for themselves.
    pinned: usize,
}

impl KeptMessages {
    /// Keeps a message, of at most `length` in all.
    pub fn push(&mut self, message: Message<'_>, length: usize) {
        let message = OwnedMessage::from(message);
        self.bytes += message.len();
        self.pinned += message.pinned();
        self.messages.push_back(message);
        while self.messages.len() > length.max(1)
            || self.bytes > BYTES_MAX && self.messages.len() > 1
        {
            let Some(oldest) = self.messages.pop_front() else { return };
            self.bytes -= oldest.len();
            self.pinned -= oldest.pinned();
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &OwnedMessage> {
        self.messages.iter()
    }

    /// Bytes of memory that it holds; bodies by reference count elsewhere.
    pub fn pinned(&self) -> usize {
        self.pinned
    }
}

#[cfg(test)]
mod tests {
    use amqp::Properties;

    use super::*;
    use crate::message::Draft;

    fn push(history: &mut KeptMessages, body: &[u8], length: usize) {
        let mut draft = Draft::default();
        draft.begin("x", "key");
        draft.header(Properties::EMPTY, 0, 0, body.len() as u32);
        let chunk = bytes::Bytes::copy_from_slice(body);
        draft.body(&chunk, &chunk);
        history.push(draft.message(), length);
    }

    fn firsts(history: &KeptMessages) -> Vec<u8> {
        history.iter().map(|stored| stored.message().inline_body()[0]).collect()
    }

    #[test]
    fn the_last_messages_are_kept_in_order() {
        let mut history = KeptMessages::default();
        (0..10).for_each(|number| push(&mut history, &[number], 3));
        assert_eq!(firsts(&history), [7, 8, 9]);
        push(&mut history, &[10], 1);
        assert_eq!(firsts(&history), [10]);
        assert_eq!(history.bytes, history.iter().map(OwnedMessage::len).sum::<usize>());
    }

    #[test]
    fn bytes_are_bounded_but_one_message_is_kept() {
        let mut history = KeptMessages::default();
        (0..20).for_each(|_| push(&mut history, &[1; 1 << 20], 20));
        assert!(history.messages.len() == 3 && history.bytes <= BYTES_MAX);
        push(&mut history, &[1; 8 << 20], 20);
        assert_eq!(history.messages.len(), 1);
    }
}
