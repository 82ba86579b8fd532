//! Relayed messages that wait to be routed.

use std::collections::VecDeque;

use model::queue::Death;
use model::{ChannelId, ConnId, Name, OwnedMessage, ShardId};

/// A message that another shard has relayed, until it is routed. The windows of the others bound
/// how many there are: its bytes count in them until it has come to its queues.
#[derive(Debug)]
pub(super) struct PendingRelay {
    /// Who relayed it, and its number there.
    pub source: ShardId,
    pub number: u64,
    /// Whom it goes back to if it is mandatory.
    pub publisher: Option<(ConnId, ChannelId)>,
    pub death: Option<Death>,
    pub vhost: Name,
    pub keys: Vec<Name>,
    pub message: OwnedMessage,
}

/// The messages that other shards have relayed and that are not routed yet.
#[derive(Debug, Default)]
pub(crate) struct Relays {
    waiting: VecDeque<PendingRelay>,
    /// Bytes of memory that they hold.
    pinned: usize,
}

impl Relays {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Bytes of memory that they hold.
    pub fn pinned(&self) -> usize {
        self.pinned
    }

    pub(super) fn push(&mut self, relay: PendingRelay) {
        self.pinned += relay.message.pinned();
        self.waiting.push_back(relay);
    }

    pub(super) fn pop(&mut self) -> Option<PendingRelay> {
        let relay = self.waiting.pop_front()?;
        self.pinned -= relay.message.pinned();
        Some(relay)
    }
}
