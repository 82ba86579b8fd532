//! What a queue looks like from outside: plain values.

use crate::queue::consumer::ActiveConsumer;

/// What was counted since the queue was created. Each number only grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct QueueCounters {
    /// Messages that entered the queue, those that went straight to a consumer too.
    pub published: u64,
    /// Messages sent to consumers that acknowledge.
    pub delivered: u64,
    /// Messages sent to consumers that do not acknowledge.
    pub delivered_no_ack: u64,
    /// Messages that basic.get took and is to acknowledge.
    pub got: u64,
    /// Messages that basic.get took without acknowledgement.
    pub got_no_ack: u64,
    /// Questions of basic.get that found no message.
    pub got_empty: u64,
    /// Messages sent with the redelivered flag, to consumers and to basic.get.
    pub redelivered: u64,
    /// Messages acknowledged by a client.
    pub acked: u64,
}

/// Whether a queue takes and gives messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum QueueService {
    /// It does.
    #[default]
    Open,
    /// Its messages on disk cannot be read; see [`crate::queue::QueueCommands::break_down`].
    Broken,
    /// It is being deleted.
    Frozen,
}

/// A queue at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct QueueSnapshot {
    /// Whether it takes and gives messages.
    pub service: QueueService,
    /// Messages that could be delivered, on disk or in memory.
    pub ready: u64,
    /// Messages delivered and not settled.
    pub unacknowledged: u64,
    /// Messages that entered and cannot be delivered yet.
    pub held: u64,
    /// Consumers.
    pub consumers: u64,
    /// The one of them that is served, where that is a single one.
    pub active: Option<ActiveConsumer>,
    /// Bytes of the ready messages that are in memory: records and bodies.
    pub ready_bytes: u64,
    /// Bytes of memory that the queue holds, free space in its chunks included.
    pub memory_bytes: u64,
    /// What was counted.
    pub counters: QueueCounters,
}
