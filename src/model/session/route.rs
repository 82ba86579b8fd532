//! Where the last publish of a channel went: publishers mostly publish to the same place again.

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
}

impl LastRoute {
    /// The queues, if `names` (exchange and key, and how long the first is) are those of the last
    /// publish and the topology is the same. Versions begin at 1, so nothing is known at first.
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

    /// Remembers a route that depends on the names alone.
    pub fn set(
        &mut self,
        version: u64,
        (exchange_len, names): (usize, &[u8]),
        queues: &[(QueueId, ShardId)],
    ) {
        if queues.len() > QUEUES_MAX {
            return;
        }
        self.version = version;
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
        route.set(3, (2, b"exkey"), &queues);
        assert_eq!(route.get(3, (2, b"exkey")), Some(&queues[..]));
        assert_eq!(route.get(4, (2, b"exkey")), None);
        assert_eq!(route.get(3, (3, b"exkey")), None);
        assert_eq!(route.get(3, (2, b"exkez")), None);
        route.set(4, (0, b"many"), &[(QueueId(1), ShardId(0)); QUEUES_MAX + 1]);
        assert_eq!(route.get(4, (0, b"many")), None);
    }
}
