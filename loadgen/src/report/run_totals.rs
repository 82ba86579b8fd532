//! The results of all workers of a run together, and what else the run found.

use crate::report::figures::SecondFigures;
use crate::system::error::LoadgenError;
use crate::system::process_usage::BrokerUsage;
use crate::worker::result::WorkerResult;

/// The results of all workers together, and what else the run found.
#[derive(Debug, Default)]
pub struct RunTotals {
    /// The results of all workers, added up.
    pub workers: WorkerResult,
    /// When the warm-up ended (ns of CLOCK_MONOTONIC).
    pub measure_from: u64,
    /// Messages of this run that are still in the queues.
    pub left: u64,
    /// Messages that were in the queues when a run without producers started.
    pub filled: Option<u64>,
    /// True if the queues may discard messages: then absent ones do not count as missing.
    pub may_discard: bool,
    /// Why the run failed, if it did. Messages that look missing may have been in flight.
    pub broken: Option<String>,
    /// The signal that ended the run.
    pub signal: Option<i32>,
    /// CPU time of the relay's thread (ns), if there was a relay.
    pub relay_cpu: Option<u64>,
    /// What the broker used, if its process is known.
    pub broker: Option<BrokerUsage>,
    /// One entry for each second.
    pub seconds: Vec<SecondFigures>,
}

impl RunTotals {
    /// Adds up the results of all workers; rates count from `measure_from` (ns).
    #[must_use]
    pub fn new(results: Vec<WorkerResult>, measure_from: u64) -> Self {
        let mut totals = Self { measure_from, ..Self::default() };
        for result in results {
            totals.workers.add(result);
        }
        totals.workers.account.settle(totals.workers.requeued);
        totals
    }

    /// Records how the run ended. After an early end the results cover only the time until then.
    pub fn ended(&mut self, ended: Result<(), LoadgenError>) {
        let failure = ended.err();
        self.broken = failure.as_ref().map(ToString::to_string);
        self.signal = match failure {
            Some(LoadgenError::Interrupted(signal)) => Some(signal),
            _ => None,
        };
    }

    /// Messages sent or messages received, whichever is greater.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.workers.written.max(self.workers.account.received())
    }

    /// Expected deliveries: of the messages sent, or of those that were in the queues before.
    #[must_use]
    pub fn expected(&self) -> u64 {
        self.filled.unwrap_or(self.workers.expected)
    }

    /// Expected deliveries that cannot be found anywhere. Always 0 for a run without producers and
    /// backlog, and for queues that may discard messages.
    #[must_use]
    pub fn missing(&self) -> u64 {
        if self.may_discard { 0 } else { self.not_found() }
    }

    /// Expected deliveries that cannot be found anywhere, discarded ones included.
    #[must_use]
    pub fn not_found(&self) -> u64 {
        let waiting = self.left - self.left_again();
        let WorkerResult { account, returned, nacked, .. } = &self.workers;
        let found = account.received() + returned + nacked + waiting;
        self.expected().saturating_sub(found)
    }

    /// Messages in the queues that a consumer had received and requeued.
    #[must_use]
    pub fn left_again(&self) -> u64 {
        self.workers.requeued.saturating_sub(self.workers.account.requeued_again).min(self.left)
    }
}
