//! What is counted of a channel, under RabbitMQ's names in `message_stats`.

/// What a channel did since it was opened. Each number only grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChannelCounters {
    /// Messages published; those of a transaction when it commits, unless they go to no queue.
    pub publish: u64,
    /// Publishes that were confirmed with an ack.
    pub confirm: u64,
    /// Mandatory messages that went to no queue.
    pub return_unroutable: u64,
    /// Other messages that went to no queue.
    pub drop_unroutable: u64,
    /// Messages sent to consumers that acknowledge.
    pub deliver: u64,
    /// Messages sent to consumers that do not acknowledge.
    pub deliver_no_ack: u64,
    /// Messages that basic.get took and is to acknowledge.
    pub get: u64,
    /// Messages that basic.get took without acknowledgement.
    pub get_no_ack: u64,
    /// Questions of basic.get that found no message.
    pub get_empty: u64,
    /// Messages sent with the redelivered flag, to consumers and to basic.get.
    pub redeliver: u64,
    /// Messages acknowledged with basic.ack; those of a transaction when it commits.
    pub ack: u64,
}
