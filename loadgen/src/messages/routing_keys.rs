//! The routing keys of producers, and the deliveries to expect for them.

use std::sync::Arc;

use crate::messages::pseudo_random::scramble;

/// The routing keys that producers use in turn, with the expected deliveries of each.
#[derive(Debug)]
pub struct RoutingKeys {
    /// The keys, at least one.
    pub names: Vec<String>,
    /// The expected deliveries and the unroutable messages of the first n keys.
    sums: Vec<(u64, u64)>,
}

impl RoutingKeys {
    /// Keys with the weight of each: the deliveries to expect, or 1 for a return.
    #[must_use]
    pub fn new(names: Vec<String>, weight: impl Fn(&str) -> u64) -> Self {
        let mut sums = vec![(0, 0)];
        let (mut weights, mut unroutable) = (0, 0);
        for name in &names {
            let here = weight(name);
            weights += here;
            unroutable += u64::from(here == 0);
            sums.push((weights, unroutable));
        }
        Self { names, sums }
    }

    /// The most queues that one message is routed to.
    #[must_use]
    pub fn copies_max(&self) -> u64 {
        self.sums.windows(2).map(|pair| pair[1].0 - pair[0].0).max().unwrap_or(0)
    }

    fn first(&self, count: u64) -> (u64, u64) {
        let len = self.names.len() as u64;
        let (rounds, rest) = (count / len, (count % len) as usize);
        let (all, part) = (self.sums[len as usize], self.sums[rest]);
        (rounds * all.0 + part.0, rounds * all.1 + part.1)
    }
}

/// The order in which one producer uses the keys.
#[derive(Debug, Clone)]
pub struct KeyCycle {
    /// The keys.
    pub keys: Arc<RoutingKeys>,
    /// The index of the first key.
    pub offset: u64,
}

impl KeyCycle {
    /// One key, each message routed to one queue.
    #[must_use]
    pub fn plain(key: &str) -> Self {
        Self { keys: Arc::new(RoutingKeys::new(vec![key.to_owned()], |_| 1)), offset: 0 }
    }

    /// The index of a message's key.
    #[must_use]
    pub fn key(&self, sequence: u64) -> usize {
        ((self.offset + sequence) % self.keys.names.len() as u64) as usize
    }

    /// The deliveries (or returns) to expect for `count` messages from number `first` on.
    #[must_use]
    pub fn weight(&self, first: u64, count: u64) -> u64 {
        let first = self.offset + first;
        self.keys.first(first + count).0 - self.keys.first(first).0
    }

    /// How many of the first `count` messages are unroutable, as intended.
    #[must_use]
    pub fn unroutable(&self, count: u64) -> u64 {
        self.keys.first(self.offset + count).1 - self.keys.first(self.offset).1
    }
}

/// `count` pseudo-random keys, the same in every run.
#[must_use]
pub fn random_keys(count: u32) -> Vec<String> {
    (0..u64::from(count)).map(|n| format!("{:016x}", scramble(n))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_add_up_from_anywhere() {
        let names = ["a", "bb", "", "dddd"].map(str::to_owned).to_vec();
        let route =
            KeyCycle { keys: Arc::new(RoutingKeys::new(names, |key| key.len() as u64)), offset: 3 };
        let slow = |first, count| -> u64 {
            (first..first + count).map(|n| route.keys.names[route.key(n)].len() as u64).sum()
        };
        for (first, count) in [(0, 0), (0, 1), (2, 9), (5, 4), (1, 100)] {
            assert_eq!(route.weight(first, count), slow(first, count), "{first} {count}");
        }
        assert_eq!((route.unroutable(3), route.unroutable(4), route.unroutable(8)), (0, 1, 2));
    }
}
