//! A message that is kept by itself: beside queues, until something else has been done.

use crate::body::Body;
use crate::message::Message;

/// A copy of a message. A body by reference is shared.
#[derive(Debug, Clone, Default)]
pub struct OwnedMessage {
    record: Box<[u8]>,
    body: Option<Body>,
}

impl From<Message<'_>> for OwnedMessage {
    fn from(of: Message<'_>) -> Self {
        Self { record: of.record().into(), body: of.large_body().cloned() }
    }
}

impl OwnedMessage {
    /// The message.
    #[must_use]
    pub fn message(&self) -> Message<'_> {
        Message::new(&self.record, self.body.as_ref())
    }

    /// Bytes of memory that it holds for itself; a body by reference counts elsewhere.
    #[must_use]
    pub fn pinned(&self) -> usize {
        size_of::<Self>() + self.record.len()
    }

    /// Bytes of the record and of the body.
    #[must_use]
    pub fn len(&self) -> usize {
        self.record.len() + self.body.as_ref().map_or(0, Body::len)
    }

    /// Whether it is no message at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.record.is_empty()
    }
}
