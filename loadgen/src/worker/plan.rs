//! When a run does what: the times and properties that all its workers share.

/// The times of a run (ns of CLOCK_MONOTONIC) and what all its workers must know.
#[derive(Debug, Clone, Copy)]
pub struct RunPlan {
    /// When the first message is due.
    pub start: u64,
    /// When the warm-up ends.
    pub measure_from: u64,
    /// From when on no message is due.
    pub stop: u64,
    /// How many producers the run has.
    pub producers: usize,
    /// True if the peer speaks AMQP, so that connections are closed in order.
    pub peer_is_broker: bool,
    /// Busy-wait instead of sleeping in the kernel.
    pub spin: bool,
    /// Consumers requeue messages.
    pub requeues: bool,
}
