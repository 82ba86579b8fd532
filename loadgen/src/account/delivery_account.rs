//! Classifies every received message: new, duplicate, redelivered, out of order or foreign.

use crate::account::sequence_set::{InsertResult, SequenceSet};
use crate::messages::stamp::Stamp;

/// What the consumers of one thread received.
#[derive(Debug, Default)]
pub struct DeliveryAccount {
    /// How many producers the run has; 0 accepts the stamps of any other run.
    producers: usize,
    /// Messages with an earlier stamp (ns) are of another run.
    begin: u64,
    /// Consumers requeue messages: a second receipt with the redelivered flag is no duplicate.
    requeues: bool,
    /// The sequence numbers seen, by producer, in the first sequence set. Most runs have only this.
    seen: Vec<SequenceSet>,
    /// The same for all further sequence sets.
    others: Vec<Vec<SequenceSet>>,
    /// Messages received more than once.
    pub duplicates: u64,
    /// Messages without a stamp of this run.
    pub foreign: u64,
    /// Messages with the redelivered flag.
    pub redelivered: u64,
    /// New messages that arrived after a later one of the same producer, at the same consumer.
    pub out_of_order: u64,
    /// Messages received again because a consumer had requeued them.
    pub requeued_again: u64,
    /// Messages with the redelivered flag that this thread had not received before.
    pub redelivered_unseen: u64,
}

/// What one consumer remembers of its messages.
#[derive(Debug, Default)]
pub struct ReceiverState {
    /// The index of its sequence set. If messages are routed to several queues, each queue has a
    /// set of its own. Else all queues share one, and a message in two queues is a duplicate.
    pub set: usize,
    /// For each producer, the highest sequence number received plus 1.
    pub order: Vec<u64>,
}

impl ReceiverState {
    /// A consumer that has received nothing.
    #[must_use]
    pub fn new(set: usize) -> Self {
        Self { set, order: Vec::new() }
    }
}

impl DeliveryAccount {
    /// An empty account of a run that started at `begin` with `producers` producers.
    #[must_use]
    pub fn new(producers: usize, begin: u64) -> Self {
        Self { producers, begin, ..Self::default() }
    }

    /// The same for a run whose consumers requeue messages.
    #[must_use]
    pub fn requeuing(self, requeues: bool) -> Self {
        Self { requeues, ..self }
    }

    /// Counts a received message. Returns true if it is new to this thread and not requeued.
    #[inline(always)]
    pub fn take(
        &mut self,
        stamp: Option<Stamp>,
        redelivered: bool,
        to: &mut ReceiverState,
    ) -> bool {
        self.redelivered += u64::from(redelivered);
        let Some(stamp) = stamp.filter(|stamp| self.is_ours(stamp)) else {
            self.foreign += 1;
            return false;
        };
        if to.set != 0 || self.requeues {
            return self.take_out_of_line(stamp, redelivered, to);
        }
        let producer = usize::from(stamp.producer);
        if producer >= self.seen.len() {
            self.seen.resize_with(producer + 1, SequenceSet::default);
        }
        let insert = self.seen[producer].insert(stamp.sequence);
        self.classify(insert, stamp, to)
    }

    /// The path for several sequence sets and for requeued messages, out of line to keep
    /// [`Self::take`] small.
    #[inline(never)]
    fn take_out_of_line(
        &mut self,
        stamp: Stamp,
        redelivered: bool,
        to: &mut ReceiverState,
    ) -> bool {
        let insert = self.sequences(to.set, stamp.producer).insert(stamp.sequence);
        match insert {
            InsertResult::New if redelivered && self.requeues => {
                // A consumer of another thread has received it before and requeued it.
                self.redelivered_unseen += 1;
                false
            }
            InsertResult::Duplicate if redelivered && self.requeues => {
                self.requeued_again += 1;
                false
            }
            insert => self.classify(insert, stamp, to),
        }
    }

    #[inline]
    fn classify(&mut self, insert: InsertResult, stamp: Stamp, to: &mut ReceiverState) -> bool {
        match insert {
            InsertResult::New => {
                self.out_of_order += u64::from(is_late(stamp, &mut to.order));
                true
            }
            InsertResult::Duplicate => {
                self.duplicates += 1;
                false
            }
            InsertResult::Absurd => {
                self.foreign += 1;
                false
            }
        }
    }

    fn sequences(&mut self, set: usize, producer: u16) -> &mut SequenceSet {
        let producer = usize::from(producer);
        let set = match set.checked_sub(1) {
            None => &mut self.seen,
            Some(other) => {
                if other >= self.others.len() {
                    self.others.resize_with(other + 1, Vec::new);
                }
                &mut self.others[other]
            }
        };
        if producer >= set.len() {
            set.resize_with(producer + 1, SequenceSet::default);
        }
        &mut set[producer]
    }

    fn is_ours(&self, stamp: &Stamp) -> bool {
        self.producers == 0
            || (usize::from(stamp.producer) < self.producers && stamp.intended >= self.begin)
    }

    /// Distinct messages of this run, counted once for each sequence set.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.seen.iter().chain(self.others.iter().flatten()).map(SequenceSet::len).sum()
    }

    /// Adds the account of another thread. A message that both received is a duplicate.
    pub fn add(&mut self, other: DeliveryAccount) {
        let separate = self.received() + other.received();
        let sets = std::iter::once(other.seen).chain(other.others);
        for (set, theirs) in sets.enumerate() {
            for (producer, theirs) in (0..=u16::MAX).zip(theirs) {
                let mine = self.sequences(set, producer);
                *mine = std::mem::take(mine).union(theirs);
            }
        }
        self.redelivered_unseen += other.redelivered_unseen;
        let twice = separate - self.received();
        let requeued = twice.min(self.redelivered_unseen);
        self.redelivered_unseen -= requeued;
        self.requeued_again += other.requeued_again + requeued;
        self.duplicates += other.duplicates + (twice - requeued);
        self.foreign += other.foreign;
        self.redelivered += other.redelivered;
        self.out_of_order += other.out_of_order;
    }

    /// Limits the messages received again to those requeued; the others are duplicates.
    pub fn settle(&mut self, requeued: u64) {
        let wrong = self.requeued_again.saturating_sub(requeued);
        self.requeued_again -= wrong;
        self.duplicates += wrong;
    }
}

/// True if this consumer has received a later message of the same producer.
#[inline]
fn is_late(stamp: Stamp, order: &mut Vec<u64>) -> bool {
    let producer = usize::from(stamp.producer);
    if producer >= order.len() {
        order.resize(producer + 1, 0);
    }
    let late = stamp.sequence < order[producer];
    order[producer] = order[producer].max(stamp.sequence + 1);
    late
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(producer: u16, sequence: u64) -> Option<Stamp> {
        Some(Stamp { intended: 100, producer, sequence })
    }

    #[test]
    fn messages_are_new_duplicate_late_or_foreign() {
        let (mut account, mut order) = (DeliveryAccount::new(2, 50), ReceiverState::default());
        for sequence in [0, 1, 3, 2, 2] {
            account.take(stamp(1, sequence), false, &mut order);
        }
        account.take(stamp(2, 0), false, &mut order);
        account.take(None, true, &mut order);
        let before = Stamp { intended: 49, producer: 0, sequence: 0 };
        account.take(Some(before), false, &mut order);
        assert_eq!((account.received(), account.duplicates), (4, 1));
        assert_eq!((account.out_of_order, account.foreign, account.redelivered), (1, 3, 1));
    }

    #[test]
    fn two_consumers_may_share_a_producer() {
        let (mut account, mut one, mut two) =
            (DeliveryAccount::new(1, 0), ReceiverState::default(), ReceiverState::default());
        account.take(stamp(0, 1), false, &mut one);
        account.take(stamp(0, 0), false, &mut two);
        assert_eq!(account.out_of_order, 0);
    }

    #[test]
    fn a_message_received_by_two_threads_is_a_duplicate() {
        let (mut one, mut two) = (DeliveryAccount::new(1, 0), DeliveryAccount::new(1, 0));
        one.take(stamp(0, 0), false, &mut ReceiverState::default());
        two.take(stamp(0, 0), false, &mut ReceiverState::default());
        two.take(stamp(0, 1), false, &mut ReceiverState::default());
        one.add(two);
        assert_eq!((one.received(), one.duplicates), (2, 1));
    }

    #[test]
    fn a_message_of_two_queues_counts_in_two_sequence_sets() {
        let (mut account, mut one, mut two) =
            (DeliveryAccount::new(1, 0), ReceiverState::new(0), ReceiverState::new(1));
        account.take(stamp(0, 0), false, &mut one);
        account.take(stamp(0, 0), false, &mut two);
        account.take(stamp(0, 0), false, &mut two);
        assert_eq!((account.received(), account.duplicates), (2, 1));
    }

    #[test]
    fn a_requeued_message_may_be_received_again_once() {
        let mut account = DeliveryAccount::new(1, 0).requeuing(true);
        let mut to = ReceiverState::default();
        account.take(stamp(0, 0), false, &mut to);
        account.take(stamp(0, 0), true, &mut to);
        account.take(stamp(0, 0), true, &mut to);
        account.take(stamp(0, 0), false, &mut to);
        assert_eq!(
            (account.requeued_again, account.duplicates),
            (2, 1),
            "the flag is missing on one"
        );
        let mut other = DeliveryAccount::new(1, 0).requeuing(true);
        other.take(stamp(0, 0), true, &mut ReceiverState::default());
        account.add(other);
        assert_eq!((account.requeued_again, account.duplicates, account.received()), (3, 1, 1));
        account.settle(2);
        assert_eq!((account.requeued_again, account.duplicates), (2, 2));
    }
}
