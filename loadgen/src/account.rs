//! Who got what: every message that arrives is new, a duplicate or not of this run.

use crate::sequences::{Insert, Sequences};

/// The octets of a body that identify it: when it was to be sent, then who sent it.
pub const STAMP: usize = 16;

/// What the first 16 octets of a body say: 8 octets of intended time (ns), 2 of the producer's
/// index and 6 of its sequence number, all big-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// When the message was to be sent (ns of CLOCK_MONOTONIC).
    pub intended: u64,
    /// Which producer of the run sent it.
    pub producer: u16,
    /// The how manieth message of that producer it is, from 0.
    pub sequence: u64,
}

impl Stamp {
    /// As octets.
    #[must_use]
    #[inline]
    pub fn write(self) -> [u8; STAMP] {
        let who = u64::from(self.producer) << 48 | self.sequence;
        (u128::from(self.intended) << 64 | u128::from(who)).to_be_bytes()
    }

    /// From octets.
    #[must_use]
    #[inline]
    pub fn read(octets: [u8; STAMP]) -> Self {
        let both = u128::from_be_bytes(octets);
        let who = both as u64;
        let producer = (who >> 48) as u16;
        Self { intended: (both >> 64) as u64, producer, sequence: who & ((1 << 48) - 1) }
    }
}

/// What the consumers of one thread received.
#[derive(Debug, Default)]
pub struct Account {
    /// How many producers the run has; 0 accepts the stamps of any other run.
    producers: usize,
    /// Stamps from before (ns) are not of this run.
    begin: u64,
    /// Consumers give messages back: one that comes again flagged redelivered is no duplicate.
    gives_back: bool,
    /// Of each producer, in the first book, most often the only one.
    seen: Vec<Sequences>,
    /// The same for the other books.
    others: Vec<Vec<Sequences>>,
    /// Messages that came again.
    pub duplicates: u64,
    /// Messages that carry no stamp of this run.
    pub foreign: u64,
    /// Messages flagged redelivered.
    pub redelivered: u64,
    /// New messages that came after a later one of the same producer, to the same consumer.
    pub out_of_order: u64,
    /// Messages that came again as they should, since a consumer had given them back.
    pub again: u64,
    /// Messages flagged redelivered that this thread had not seen.
    pub fresh_redelivered: u64,
}

/// Who received a message.
#[derive(Debug, Default)]
pub struct Receiver {
    /// In which book its messages are. A message that goes to several queues has one for each
    /// queue; else there is one for all, and a message in two queues is a duplicate.
    pub book: usize,
    /// For each producer the number behind the highest seen.
    pub order: Vec<u64>,
}

impl Receiver {
    /// One that has received nothing.
    #[must_use]
    pub fn new(book: usize) -> Self {
        Self { book, order: Vec::new() }
    }
}

impl Account {
    /// An empty account of a run that began at `begin` with so many producers.
    #[must_use]
    pub fn new(producers: usize, begin: u64) -> Self {
        Self { producers, begin, ..Self::default() }
    }

    /// The same, of a run whose consumers give messages back.
    #[must_use]
    pub fn giving_back(self, gives_back: bool) -> Self {
        Self { gives_back, ..self }
    }

    /// Takes a message. Says whether it is new: not received before, also not by another thread.
    #[inline(always)]
    pub fn take(&mut self, stamp: Option<Stamp>, redelivered: bool, to: &mut Receiver) -> bool {
        self.redelivered += u64::from(redelivered);
        let Some(stamp) = stamp.filter(|stamp| self.is_ours(stamp)) else {
            self.foreign += 1;
            return false;
        };
        if to.book != 0 || self.gives_back {
            return self.take_with_care(stamp, redelivered, to);
        }
        let producer = usize::from(stamp.producer);
        if producer >= self.seen.len() {
            self.seen.resize_with(producer + 1, Sequences::default);
        }
        let insert = self.seen[producer].insert(stamp.sequence);
        self.judge(insert, stamp, to)
    }

    /// Of several books, or of messages that are given back.
    #[inline(never)]
    fn take_with_care(&mut self, stamp: Stamp, redelivered: bool, to: &mut Receiver) -> bool {
        let insert = self.sequences(to.book, stamp.producer).insert(stamp.sequence);
        match insert {
            Insert::New if redelivered && self.gives_back => {
                // Another thread's consumer has had it and gave it back.
                self.fresh_redelivered += 1;
                false
            }
            Insert::Duplicate if redelivered && self.gives_back => {
                self.again += 1;
                false
            }
            insert => self.judge(insert, stamp, to),
        }
    }

    #[inline]
    fn judge(&mut self, insert: Insert, stamp: Stamp, to: &mut Receiver) -> bool {
        match insert {
            Insert::New => {
                self.out_of_order += u64::from(is_late(stamp, &mut to.order));
                true
            }
            Insert::Duplicate => {
                self.duplicates += 1;
                false
            }
            Insert::Absurd => {
                self.foreign += 1;
                false
            }
        }
    }

    fn sequences(&mut self, book: usize, producer: u16) -> &mut Sequences {
        let producer = usize::from(producer);
        let book = match book.checked_sub(1) {
            None => &mut self.seen,
            Some(other) => {
                if other >= self.others.len() {
                    self.others.resize_with(other + 1, Vec::new);
                }
                &mut self.others[other]
            }
        };
        if producer >= book.len() {
            book.resize_with(producer + 1, Sequences::default);
        }
        &mut book[producer]
    }

    fn is_ours(&self, stamp: &Stamp) -> bool {
        self.producers == 0
            || (usize::from(stamp.producer) < self.producers && stamp.intended >= self.begin)
    }

    /// How many different messages of the run arrived, counted for each book.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.seen.iter().chain(self.others.iter().flatten()).map(Sequences::len).sum()
    }

    /// Adds the account of another thread; what both received is a duplicate.
    pub fn add(&mut self, other: Account) {
        let apart = self.received() + other.received();
        let books = std::iter::once(other.seen).chain(other.others);
        for (book, theirs) in books.enumerate() {
            for (producer, theirs) in (0..=u16::MAX).zip(theirs) {
                let mine = self.sequences(book, producer);
                *mine = std::mem::take(mine).union(theirs);
            }
        }
        self.fresh_redelivered += other.fresh_redelivered;
        let twice = apart - self.received();
        let given_back = twice.min(self.fresh_redelivered);
        self.fresh_redelivered -= given_back;
        self.again += other.again + given_back;
        self.duplicates += other.duplicates + (twice - given_back);
        self.foreign += other.foreign;
        self.redelivered += other.redelivered;
        self.out_of_order += other.out_of_order;
    }

    /// More cannot come again than was given back: the rest are duplicates.
    pub fn settle(&mut self, given_back: u64) {
        let wrong = self.again.saturating_sub(given_back);
        self.again -= wrong;
        self.duplicates += wrong;
    }
}

/// Whether a later message of the same producer has come to this consumer before.
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
    fn a_stamp_survives_the_wire() {
        let stamp = Stamp { intended: u64::MAX - 1, producer: 65_535, sequence: (1 << 48) - 1 };
        assert_eq!(Stamp::read(stamp.write()), stamp);
        let stamp = Stamp { intended: 1, producer: 2, sequence: 3 };
        let octets = stamp.write();
        assert_eq!((octets[7], octets[9], octets[15]), (1, 2, 3));
    }

    #[test]
    fn sorts_messages_into_new_again_late_and_foreign() {
        let (mut account, mut order) = (Account::new(2, 50), Receiver::default());
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
            (Account::new(1, 0), Receiver::default(), Receiver::default());
        account.take(stamp(0, 1), false, &mut one);
        account.take(stamp(0, 0), false, &mut two);
        assert_eq!(account.out_of_order, 0);
    }

    #[test]
    fn what_two_threads_received_is_a_duplicate() {
        let (mut one, mut two) = (Account::new(1, 0), Account::new(1, 0));
        one.take(stamp(0, 0), false, &mut Receiver::default());
        two.take(stamp(0, 0), false, &mut Receiver::default());
        two.take(stamp(0, 1), false, &mut Receiver::default());
        one.add(two);
        assert_eq!((one.received(), one.duplicates), (2, 1));
    }

    #[test]
    fn a_message_of_two_queues_has_two_books() {
        let (mut account, mut one, mut two) =
            (Account::new(1, 0), Receiver::new(0), Receiver::new(1));
        account.take(stamp(0, 0), false, &mut one);
        account.take(stamp(0, 0), false, &mut two);
        account.take(stamp(0, 0), false, &mut two);
        assert_eq!((account.received(), account.duplicates), (2, 1));
    }

    #[test]
    fn what_was_given_back_may_come_again_once() {
        let mut account = Account::new(1, 0).giving_back(true);
        let mut to = Receiver::default();
        account.take(stamp(0, 0), false, &mut to);
        account.take(stamp(0, 0), true, &mut to);
        account.take(stamp(0, 0), true, &mut to);
        account.take(stamp(0, 0), false, &mut to);
        assert_eq!((account.again, account.duplicates), (2, 1), "the flag is missing on one");
        let mut other = Account::new(1, 0).giving_back(true);
        other.take(stamp(0, 0), true, &mut Receiver::default());
        account.add(other);
        assert_eq!((account.again, account.duplicates, account.received()), (3, 1, 1));
        account.settle(2);
        assert_eq!((account.again, account.duplicates), (2, 2));
    }
}
