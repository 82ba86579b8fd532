//! The route of a channel's last publish: most publishers use the same exchange and key again.

use crate::ids::{QueueId, ShardId};

/// Routes to more queues than this are not remembered.
const QUEUES_MAX: usize = 64;

/// The route of one exchange and routing key at one version of the topology.
#[derive(Debug, Default)]
pub struct LastRoute {
    version: u64,
    exchange_len: usize,
    names: Vec<u8>,
    queues: Vec<(QueueId, ShardId)>,
    counted_at: usize,
}

impl LastRoute {
    /// The queues, if `names` (exchange and key, and the length of the exchange) are those of the
    /// last publish and the topology has not changed. Versions begin at 1, so the first call finds
    /// nothing.
    #[must_use]
    #[inline]
    pub fn get(
        &self,
        version: u64,
        (exchange_len, names): (usize, &[u8]),
    ) -> Option<&[(QueueId, ShardId)]> {
        let same = self.version == version && self.exchange_len == exchange_len;
        (same && self.names == names).then_some(&self.queues)
    }

    /// Where messages by this route are counted, as [`Self::set`] was told.
    #[must_use]
    #[inline]
    pub fn counted_at(&self) -> usize {
        self.counted_at
    }

    /// Remembers a route that depends only on exchange and key, and where its messages are counted.
    pub fn set(
        &mut self,
        version: u64,
        (exchange_len, names): (usize, &[u8]),
        queues: &[(QueueId, ShardId)],
        counted_at: usize,
    ) {
        if queues.len() > QUEUES_MAX {
            return;
        }
        (self.version, self.counted_at) = (version, counted_at);
        self.exchange_len = exchange_len;
        self.names.clear();
        self.names.extend_from_slice(names);
        self.queues.clear();
        self.queues.extend_from_slice(queues);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_names_at_the_same_version_are_known() {
        let mut route = LastRoute::default();
        assert_eq!(route.get(1, (0, b"")), None);
        let queues = [(QueueId(7), ShardId(1))];
        route.set(3, (2, b"exkey"), &queues, 5);
        assert_eq!(route.counted_at(), 5);
        assert_eq!(route.get(3, (2, b"exkey")), Some(&queues[..]));
        assert_eq!(route.get(4, (2, b"exkey")), None);
        assert_eq!(route.get(3, (3, b"exkey")), None);
        assert_eq!(route.get(3, (2, b"exkez")), None);
        route.set(4, (0, b"many"), &[(QueueId(1), ShardId(0)); QUEUES_MAX + 1], 6);
        assert_eq!(route.get(4, (0, b"many")), None);
        assert_eq!((route.get(3, (2, b"exkey")).is_some(), route.counted_at()), (true, 5));
    }
}
