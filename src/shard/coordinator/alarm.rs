//! The memory alarm: raised when all shards together pin too much, taken back well below that.

use model::ShardId;

#[derive(Debug)]
pub(super) struct Alarm {
    /// Octets pinned, by shard.
    pinned: Vec<u64>,
    limit: u64,
    raised: bool,
}

impl Alarm {
    pub fn new(shards: u16, limit: u64) -> Self {
        Self { pinned: vec![0; usize::from(shards)], limit, raised: false }
    }

    /// A shard pins so many octets. Says whether the alarm is raised, if that is news.
    pub fn memory(&mut self, shard: ShardId, octets: u64) -> Option<bool> {
        *self.pinned.get_mut(shard.index())? = octets;
        let sum = self.pinned.iter().fold(0, |sum: u64, octets| sum.saturating_add(*octets));
        // The gap keeps publishers from being stopped and started with every message.
        let low = self.limit - self.limit / 10;
        let raised = if self.raised { sum >= low } else { sum > self.limit };
        let is_news = raised != self.raised;
        self.raised = raised;
        is_news.then_some(raised)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alarm_is_raised_above_the_limit_and_taken_back_below_nine_tenths() {
        let mut alarm = Alarm::new(2, 1000);
        assert_eq!(alarm.memory(ShardId(0), 600), None);
        assert_eq!(alarm.memory(ShardId(1), 400), None);
        assert_eq!(alarm.memory(ShardId(1), 401), Some(true));
        assert_eq!(alarm.memory(ShardId(1), 500), None);
        assert_eq!(alarm.memory(ShardId(1), 300), None);
        assert_eq!(alarm.memory(ShardId(1), 299), Some(false));
        assert_eq!(alarm.memory(ShardId(1), 400), None);
        assert_eq!(alarm.memory(ShardId(7), u64::MAX), None);
        assert_eq!(alarm.memory(ShardId(1), u64::MAX), Some(true));
    }
}
