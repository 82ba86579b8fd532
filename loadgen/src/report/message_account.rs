//! What became of every message of a run.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use crate::report::run_totals::RunTotals;

/// What became of every message of the whole run, warm-up included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MessageAccount {
    /// Messages written completely.
    pub sent: u64,
    /// Expected deliveries: one for each queue that a message is routed to.
    pub expected: u64,
    /// Messages that matched no binding, as intended.
    pub unroutable: u64,
    /// Distinct messages received, counted once for each queue.
    pub received: u64,
    /// Messages returned, counted as the deliveries they were expected to be.
    pub returned: u64,
    /// Messages that the broker nacked, counted in the same way.
    pub nacked: u64,
    /// Messages in the queues at the end.
    pub left_in_queue: u64,
    /// The part of `left_in_queue` that a consumer had received and requeued.
    pub left_again: u64,
    /// Expected deliveries that cannot be found anywhere.
    pub missing: u64,
    /// Expected deliveries that cannot be found, from queues whose arguments allow them to discard
    /// messages. Lost messages cannot be told from expired or dropped ones.
    pub discarded: u64,
    /// The part of `received` that a consumer rejected without requeue.
    pub dropped: u64,
    /// Messages that a consumer requeued, counted each time.
    pub requeued: u64,
    pub confirmed: u64,
    pub unconfirmed: u64,
    pub unsent: u64,
    pub duplicates: u64,
    pub redelivered: u64,
    pub out_of_order: u64,
    pub foreign: u64,
}

impl MessageAccount {
    /// The account of a run.
    #[must_use]
    pub fn new(totals: &RunTotals) -> Self {
        let workers = &totals.workers;
        Self {
            sent: workers.written,
            expected: totals.expected(),
            unroutable: workers.unroutable,
            left_again: totals.left_again(),
            dropped: workers.dropped,
            requeued: workers.requeued,
            received: workers.account.received(),
            returned: workers.returned,
            nacked: workers.nacked,
            left_in_queue: totals.left,
            missing: totals.missing(),
            discarded: totals.not_found() - totals.missing(),
            confirmed: workers.confirmed,
            unconfirmed: workers.unconfirmed,
            unsent: workers.unsent,
            duplicates: workers.account.duplicates,
            redelivered: workers.account.redelivered,
            out_of_order: workers.account.out_of_order,
            foreign: workers.account.foreign,
        }
    }
}

impl MessageAccount {
    /// The line that adds up: what was sent or waited, and where it went.
    fn write_sum(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { sent, expected, received, returned, nacked, missing, .. } = self;
        let waiting = self.left_in_queue - self.left_again;
        if *sent == 0 && *expected > 0 {
            return writeln!(
                f,
                "{expected} in queue before = {received} received + {waiting} left in queue + \
                 {missing} missing"
            );
        }
        if *sent == 0 {
            return writeln!(f, "{received} received, {waiting} left in queue");
        }
        let copies = match expected == sent {
            true => String::new(),
            false => format!(" for {expected} deliveries ({} unroutable)", self.unroutable),
        };
        writeln!(
            f,
            "{sent} sent{copies} = {received} received + {returned} returned + {nacked} nacked + \
             {waiting} left in queue + {missing} missing"
        )
    }

    fn write_discarded(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.discarded == 0 {
            return Ok(());
        }
        writeln!(
            f,
            "{} of the messages sent were discarded by their queues, as their arguments allow; \
             lost ones cannot be told apart from them",
            self.discarded
        )
    }

    fn write_rejected(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { dropped, requeued, left_again, .. } = self;
        if dropped + requeued == 0 {
            return Ok(());
        }
        writeln!(
            f,
            "of the received: {dropped} rejected, {left_again} requeued and left in queue \
             ({requeued} times requeued)"
        )
    }
}

impl Display for MessageAccount {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        self.write_sum(f)?;
        self.write_discarded(f)?;
        self.write_rejected(f)?;
        if self.confirmed + self.unconfirmed > 0 {
            writeln!(f, "{} confirmed, {} without a confirm", self.confirmed, self.unconfirmed)?;
        }
        let order = match self.out_of_order {
            0 => "messages of each producer in order".to_owned(),
            late => format!("{late} messages out of order"),
        };
        writeln!(
            f,
            "{order}, {} duplicates, {} redelivered, {} not of this run",
            self.duplicates, self.redelivered, self.foreign
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::delivery_account::{DeliveryAccount, ReceiverState};
    use crate::measure::measured_count::MeasuredCount;
    use crate::messages::stamp::Stamp;
    use crate::system::clock::{MILLISECOND, SECOND};

    fn totals() -> RunTotals {
        let mut totals = RunTotals::new(Vec::new(), SECOND);
        let workers = &mut totals.workers;
        workers.account = DeliveryAccount::new(1, 0);
        for sequence in [0, 2, 1] {
            let stamp = Stamp { intended: 5, producer: 0, sequence };
            let order = vec![if sequence == 1 { 3 } else { 0 }];
            workers.account.take(Some(stamp), false, &mut ReceiverState { set: 0, order });
        }
        workers.expected = 10;
        (workers.written, workers.returned, workers.nacked) = (10, 1, 1);
        workers.sent = MeasuredCount { count: 10, last: 3 * SECOND };
        workers.latency.record(MILLISECOND);
        totals.left = 2;
        totals
    }

    #[test]
    fn every_message_is_accounted_for() {
        let account = MessageAccount::new(&totals());
        assert_eq!((account.received, account.missing, account.out_of_order), (3, 3, 1));
        let text = account.to_string();
        let line = "10 sent = 3 received + 1 returned + 1 nacked + 2 left in queue + 3 missing";
        assert!(text.contains(line), "{text}");
    }
}
