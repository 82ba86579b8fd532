//! What a worker is told before a run and what it tells behind it.

use crate::account::Account;
use crate::latency::Latency;
use crate::ledger::Measured;

/// When a run does what (ns of CLOCK_MONOTONIC), the same for all its workers.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// The first message is due.
    pub start: u64,
    /// The warm-up is over.
    pub measure_from: u64,
    /// No message is due any more.
    pub stop: u64,
    /// How many producers the run has.
    pub producers: usize,
    /// Whether the peer speaks AMQP and connections are closed in order.
    pub polite: bool,
    /// Never wait in the system.
    pub spin: bool,
    /// Consumers give messages back to their queues.
    pub gives_back: bool,
}

/// What became of a worker's connections.
#[derive(Debug)]
pub struct Outcome {
    /// Who got what.
    pub account: Account,
    /// From the intended time to the receipt.
    pub latency: Latency,
    /// From the intended time to the confirm.
    pub confirm_latency: Latency,
    /// Messages received after the warm-up.
    pub received: Measured,
    /// Messages sent after the warm-up.
    pub sent: Measured,
    /// Messages wholly written.
    pub written: u64,
    /// Deliveries to expect of them.
    pub expected: u64,
    /// Messages among them that go nowhere by rights.
    pub nowhere: u64,
    /// Messages refused for good by consumers.
    pub dropped: u64,
    /// Messages given back by consumers.
    pub requeued: u64,
    /// Idle connections that the broker ended.
    pub idle_lost: u64,
    /// Messages due and never sent.
    pub unsent: u64,
    /// Messages returned.
    pub returned: u64,
    /// Messages confirmed.
    pub confirmed: u64,
    /// Messages refused.
    pub nacked: u64,
    /// Messages without a confirm at the end.
    pub unconfirmed: u64,
    /// Connections whose close was not answered.
    pub unanswered: u64,
    /// CPU time of the worker's thread (ns).
    pub cpu: u64,
}
