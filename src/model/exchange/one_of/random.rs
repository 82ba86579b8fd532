//! A random exchange: each message goes to the destination of one binding, whatever its key is.

use crate::exchange::targets::{Target, TargetSet, Targets};

/// The bindings of a random exchange.
#[derive(Debug, Default)]
pub(in crate::exchange) struct Random {
    targets: TargetSet,
    bindings: usize,
}

impl Random {
    pub fn add(&mut self, target: Target) {
        self.targets.add(target);
        self.bindings += 1;
    }

    pub fn remove(&mut self, target: Target) {
        self.targets.remove(target);
        self.bindings = self.bindings.saturating_sub(1);
    }

    pub fn collect(&self, targets: &mut Targets) {
        let bindings = self.bindings.max(1) as u64;
        // 2^64 is so much more than bindings that all have nearly the same chance.
        let nth = (targets.draw() % bindings) as usize;
        if let Some(target) = self.targets.of_binding(nth, self.bindings) {
            targets.push(target);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{QueueId, ShardId};

    fn target(number: u64) -> Target {
        Target::Queue(QueueId(number), ShardId(0))
    }

    /// How often each of these queues got one of so many messages.
    fn counts<const N: usize>(random: &Random, messages: u64) -> [usize; N] {
        let mut counts = [0; N];
        for number in 0..messages {
            let mut targets = Targets::new();
            targets.roll(number);
            random.collect(&mut targets);
            assert_eq!((targets.queues().len(), targets.by_chance()), (1, true));
            counts[targets.queues()[0].0.0 as usize] += 1;
        }
        counts
    }

    #[test]
    fn every_binding_has_the_same_chance() {
        let mut random = Random::default();
        (0..4).for_each(|number| random.add(target(number)));
        assert!(counts::<4>(&random, 4000).iter().all(|count| count.abs_diff(1000) < 150));
        random.add(target(3));
        random.add(target(3));
        random.remove(target(0));
        let [none, one, two, three] = counts(&random, 5000);
        assert_eq!(none, 0);
        assert!([one, two, three / 3].iter().all(|count| count.abs_diff(1000) < 150));
    }

    #[test]
    fn equal_dice_choose_alike() {
        let mut random = Random::default();
        (0..50).for_each(|number| random.add(target(number)));
        assert_eq!(counts::<50>(&random, 100), counts::<50>(&random, 100));
    }

    #[test]
    fn without_bindings_nothing_is_found() {
        let (mut random, mut targets) = (Random::default(), Targets::new());
        random.collect(&mut targets);
        random.add(target(1));
        random.remove(target(1));
        random.collect(&mut targets);
        assert!(targets.is_empty());
    }
}
