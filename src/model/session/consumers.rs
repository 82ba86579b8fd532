//! The consumers of a channel, found by identity and by tag however many there are.

use std::collections::BTreeMap;

use crate::ids::{ConsumerId, QueueId, ShardId};
use crate::queue::ledger::Ledger;
use crate::topology::spec::Name;

/// A consumer as its channel knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelConsumer {
    /// The tag the client knows it by.
    pub tag: Name,
    /// Its queue.
    pub queue: QueueId,
    /// The queue's home.
    pub home: ShardId,
    /// What it is sent counts as acknowledged.
    pub no_ack: bool,
    /// Wants to be the queue's only consumer.
    pub exclusive: bool,
    /// At most so many unacknowledged messages; 0: no limit.
    pub prefetch: u16,
    /// Those of a higher priority are served first.
    pub priority: i64,
}

impl ChannelConsumer {
    /// A consumer without acknowledgements, limits and wishes.
    #[must_use]
    pub fn plain(tag: Name, (queue, home): (QueueId, ShardId)) -> Self {
        let (no_ack, exclusive, prefetch, priority) = (true, false, 0, 0);
        Self { tag, queue, home, no_ack, exclusive, prefetch, priority }
    }
}

/// The consumers of a channel.
#[derive(Debug, Default)]
pub struct ChannelConsumers {
    all: Ledger<ChannelConsumer>,
    tags: BTreeMap<Name, ConsumerId>,
}

impl ChannelConsumers {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Those behind one, the oldest first.
    pub fn behind(&self, id: ConsumerId) -> impl Iterator<Item = (ConsumerId, &ChannelConsumer)> {
        self.all.behind(id.0).map(|(id, consumer)| (ConsumerId(id), consumer))
    }

    /// All of them, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (ConsumerId, &ChannelConsumer)> {
        self.behind(ConsumerId(0))
    }

    /// Adds one whose id is greater than all before, under a tag that is free.
    pub fn add(&mut self, id: ConsumerId, consumer: ChannelConsumer) {
        self.tags.insert(consumer.tag.clone(), id);
        self.all.push(id.0, consumer);
    }

    /// The consumer with this id.
    #[must_use]
    #[inline]
    pub fn get(&self, id: ConsumerId) -> Option<&ChannelConsumer> {
        self.all.get(id.0)
    }

    /// The consumer with this tag.
    #[must_use]
    pub fn by_tag(&self, tag: &str) -> Option<(ConsumerId, &ChannelConsumer)> {
        let id = *self.tags.get(tag)?;
        Some((id, self.get(id)?))
    }

    /// Removes a consumer.
    pub fn remove(&mut self, id: ConsumerId) -> Option<ChannelConsumer> {
        let gone = self.all.remove(id.0)?;
        // A client that does not wait for answers may have given the tag to another one.
        if self.tags.get(&gone.tag) == Some(&id) {
            self.tags.remove(&gone.tag);
        }
        Some(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_found_by_id_and_by_tag() {
        let mut consumers = ChannelConsumers::default();
        for id in 1..=50_000_u64 {
            let tag = format!("tag-{id}").into();
            let consumer = ChannelConsumer::plain(tag, (QueueId(id), ShardId(0)));
            consumers.add(ConsumerId(id), consumer);
        }
        for id in (1..=50_000_u64).rev().filter(|id| id % 3 > 0) {
            let found = consumers.by_tag(&format!("tag-{id}")).map(|(found, _)| found.0);
            assert_eq!(found, Some(id));
            assert_eq!(consumers.remove(ConsumerId(id)).map(|gone| gone.queue.0), Some(id));
        }
        assert_eq!((consumers.len(), consumers.tags.len()), (16_666, 16_666));
        assert!(consumers.get(ConsumerId(3)).is_some() && consumers.by_tag("tag-4").is_none());
    }
}
