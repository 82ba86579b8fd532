//! The alarms: raised when all shards together pin too much memory, taken back well below that; and
//! when too little of the disk is free, as the shell finds out.

use model::ShardId;

use super::Coordinator;
use crate::shard::message::{Alarms, Control};

#[derive(Debug)]
pub(super) struct Alarm {
    /// Octets pinned, by shard.
    pinned: Vec<u64>,
    limit: u64,
    raised: Alarms,
}

impl Alarm {
    pub fn new(shards: u16, limit: u64) -> Self {
        Self { pinned: vec![0; usize::from(shards)], limit, raised: Alarms::default() }
    }

    /// A shard pins so many octets. Says what is short, if that is news.
    pub fn memory(&mut self, shard: ShardId, octets: u64) -> Option<Alarms> {
        *self.pinned.get_mut(shard.index())? = octets;
        let sum = self.pinned.iter().fold(0, |sum: u64, octets| sum.saturating_add(*octets));
        // The gap keeps publishers from being stopped and started with every message.
        let low = self.limit - self.limit / 10;
        let memory = if self.raised.memory { sum >= low } else { sum > self.limit };
        self.set(Alarms { memory, ..self.raised })
    }

    fn set(&mut self, alarms: Alarms) -> Option<Alarms> {
        let is_news = alarms != self.raised;
        self.raised = alarms;
        is_news.then_some(alarms)
    }
}

impl Coordinator {
    /// Too little of the disk is free (`true`), or enough.
    pub fn disk(&mut self, low: bool) {
        if let Some(alarms) = self.alarm.set(Alarms { disk: low, ..self.alarm.raised }) {
            self.tell_alarms(alarms);
        }
    }

    /// Alarms wait for nothing that is decided.
    pub(super) fn tell_alarms(&mut self, alarms: Alarms) {
        for shard in self.versions.shards() {
            self.send_aside(shard, Control::Alarm(alarms));
        }
    }

    /// What is short.
    #[must_use]
    pub fn alarms(&self) -> Alarms {
        self.alarm.raised
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Alarms = Alarms { memory: false, disk: false };
    const MEMORY: Alarms = Alarms { memory: true, disk: false };
    const BOTH: Alarms = Alarms { memory: true, disk: true };

    #[test]
    fn the_alarm_is_raised_above_the_limit_and_taken_back_below_nine_tenths() {
        let mut alarm = Alarm::new(2, 1000);
        assert_eq!(alarm.memory(ShardId(0), 600), None);
        assert_eq!(alarm.memory(ShardId(1), 400), None);
        assert_eq!(alarm.memory(ShardId(1), 401), Some(MEMORY));
        assert_eq!(alarm.memory(ShardId(1), 500), None);
        assert_eq!(alarm.memory(ShardId(1), 300), None);
        assert_eq!(alarm.memory(ShardId(1), 299), Some(NONE));
        assert_eq!(alarm.memory(ShardId(1), 400), None);
        assert_eq!(alarm.memory(ShardId(7), u64::MAX), None);
        assert_eq!(alarm.memory(ShardId(1), u64::MAX), Some(MEMORY));
    }

    #[test]
    fn memory_and_disk_are_apart() {
        let mut alarm = Alarm::new(1, 1000);
        assert_eq!(alarm.memory(ShardId(0), 1001), Some(MEMORY));
        assert_eq!(alarm.set(BOTH), Some(BOTH));
        assert_eq!(alarm.set(BOTH), None);
        let disk = Alarms { memory: false, disk: true };
        assert_eq!(alarm.memory(ShardId(0), 0), Some(disk));
        assert_eq!(alarm.set(NONE), Some(NONE));
        let reasons = [MEMORY, disk, BOTH].map(Alarms::reason);
        assert_eq!(reasons, ["low on memory", "low on disk", "low on disk & memory"]);
        assert_eq!([NONE, MEMORY, disk, BOTH].map(Alarms::any), [false, true, true, true]);
    }
}
