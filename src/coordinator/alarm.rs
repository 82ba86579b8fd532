//! The alarms. That of memory is raised when all shards and the coordinator together count more
//! than the limit, or when the process has more, and cleared well below it; that of the disk
//! follows what the shell finds.

use model::ShardId;

use crate::mesh::control::Alarms;

/// Which alarms are raised, and why.
#[derive(Debug, Hash)]
pub(super) struct AlarmState {
    /// Bytes counted, by shard, and behind them those of the coordinator.
    counted: Vec<u64>,
    /// Bytes that the process has in memory, as far as they are told.
    process: u64,
    limit: u64,
    raised: Alarms,
}

impl AlarmState {
    pub fn new(shards: u16, limit: u64) -> Self {
        let counted = vec![0; usize::from(shards) + 1];
        Self { counted, process: 0, limit, raised: Alarms::default() }
    }

    /// The alarms that are raised.
    pub fn raised(&self) -> Alarms {
        self.raised
    }

    /// An endpoint counts this many bytes. Returns the alarms if they have changed.
    pub fn memory(&mut self, endpoint: ShardId, bytes: u64) -> Option<Alarms> {
        *self.counted.get_mut(endpoint.index())? = bytes;
        self.look()
    }

    /// The process has this many bytes in memory. Returns the alarms if they have changed.
    pub fn process(&mut self, bytes: u64) -> Option<Alarms> {
        self.process = bytes;
        self.look()
    }

    /// Bytes that all endpoints count together.
    pub fn counted(&self) -> u64 {
        self.counted.iter().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes))
    }

    fn look(&mut self) -> Option<Alarms> {
        let used = self.counted().max(self.process);
        // The gap keeps publishers from being stopped and started with every message.
        let low = self.limit - self.limit / 10;
        let memory = if self.raised.memory { used >= low } else { used > self.limit };
        self.set(Alarms { memory, ..self.raised })
    }

    /// Too little of the disk is free (`true`), or enough. Returns the alarms if they have changed.
    pub fn disk(&mut self, is_low: bool) -> Option<Alarms> {
        self.set(Alarms { disk: is_low, ..self.raised })
    }

    fn set(&mut self, alarms: Alarms) -> Option<Alarms> {
        let has_changed = alarms != self.raised;
        self.raised = alarms;
        has_changed.then_some(alarms)
    }
}

#[cfg(test)]
mod tests {
    use crate::coordinator::alarm::*;

    const NONE: Alarms = Alarms { memory: false, disk: false };
    const MEMORY: Alarms = Alarms { memory: true, disk: false };
    const DISK: Alarms = Alarms { memory: false, disk: true };
    const BOTH: Alarms = Alarms { memory: true, disk: true };

    #[test]
    fn the_memory_alarm_is_raised_above_the_limit_and_cleared_below_nine_tenths() {
        let mut alarm = AlarmState::new(2, 1000);
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
    fn what_the_process_has_counts_if_it_is_more() {
        let mut alarm = AlarmState::new(1, 1000);
        assert_eq!(alarm.memory(ShardId(0), 500), None);
        assert_eq!(alarm.process(1001), Some(MEMORY));
        assert_eq!(alarm.memory(ShardId(0), 100), None);
        assert_eq!(alarm.process(899), Some(NONE));
        assert_eq!(alarm.memory(ShardId(1), 901), Some(MEMORY));
        assert_eq!(alarm.counted(), 1001);
        assert_eq!(alarm.process(0), None);
    }

    #[test]
    fn memory_and_disk_are_independent() {
        let mut alarm = AlarmState::new(1, 1000);
        assert_eq!(alarm.memory(ShardId(0), 1001), Some(MEMORY));
        assert_eq!(alarm.disk(true), Some(BOTH));
        assert_eq!(alarm.disk(true), None);
        assert_eq!(alarm.memory(ShardId(0), 0), Some(DISK));
        assert_eq!(alarm.disk(false), Some(NONE));
        let reasons = [MEMORY, DISK, BOTH].map(Alarms::reason);
        assert_eq!(reasons, ["low on memory", "low on disk", "low on disk & memory"]);
        assert_eq!([NONE, MEMORY, DISK, BOTH].map(Alarms::any), [false, true, true, true]);
    }
}
