//! Flow credit: the bytes of deliveries that this home may have on the way to each connection.

use model::mutant::{self, Mutant};
use model::{ConnId, Map, QueueId, Seed};

/// Bytes of deliveries that a home may have on the way to one connection.
const CREDIT_BYTES: i64 = 256 * 1024;

/// The flow credit of one connection.
#[derive(Debug)]
struct ConnectionCredit {
    bytes: i64,
    /// Queues with consumers that wait for credit.
    stalled: Vec<QueueId>,
    /// It is among those that wait with a large message.
    waits: bool,
}

impl ConnectionCredit {
    /// Bytes that it was sent beyond its credit.
    fn overdrawn(&self) -> u64 {
        // A credit of at least 0 has none.
        u64::try_from(-self.bytes).unwrap_or(0)
    }

    fn stall(&mut self, queue: QueueId) {
        if self.stalled.last() == Some(&queue) {
            return;
        }
        if self.stalled.len() == self.stalled.capacity() {
            // Before it grows: consumers may come and go while there is no credit.
            self.stalled.sort_unstable();
            self.stalled.dedup();
        }
        self.stalled.push(queue);
    }
}

/// The flow credit of all connections with consumers here.
///
/// A message may go beyond the credit that is left, since one may be larger than all of it. Such
/// messages of all connections together have a bound, so that clients which never read cannot make
/// a home send one large message to each of them. Messages within the credit do not wait for it.
#[derive(Debug)]
pub(super) struct FlowCredit {
    conns: Map<ConnId, ConnectionCredit>,
    /// Bytes that were sent beyond credit.
    overdrawn: u64,
    overdrawn_max: u64,
    /// Connections that wait to be sent a large message.
    waiting: Vec<ConnId>,
}

impl FlowCredit {
    /// Messages may go beyond credit by so many bytes together, or one does.
    pub fn new(seed: Seed, overdrawn_max: usize) -> Self {
        let conns = Map::with_hasher(seed);
        Self { conns, overdrawn: 0, overdrawn_max: overdrawn_max as u64, waiting: Vec::new() }
    }

    /// How many connections have some.
    pub fn len(&self) -> usize {
        self.conns.len()
    }

    /// Opens credit for a connection unless it has some.
    pub fn open(&mut self, conn: ConnId) {
        let fresh = || ConnectionCredit { bytes: CREDIT_BYTES, stalled: Vec::new(), waits: false };
        self.conns.entry(conn).or_insert_with(fresh);
    }

    /// The connection is gone.
    pub fn forget(&mut self, conn: ConnId) {
        if let Some(credit) = self.conns.remove(&conn) {
            self.overdrawn -= credit.overdrawn();
        }
    }

    /// True if the connection may be sent a message of so many bytes, which is large; else as
    /// [`Self::available`]. [`Self::next_waiting`] says when it may.
    #[cold]
    pub fn available_for(&mut self, queue: QueueId, conn: ConnId, bytes: u64) -> bool {
        let Some(credit) = self.conns.get_mut(&conn) else {
            return false;
        };
        let beyond = bytes.saturating_sub(u64::try_from(credit.bytes).unwrap_or(0));
        let fits = self.overdrawn == 0 || self.overdrawn + beyond <= self.overdrawn_max;
        // Those that wait have their turn first.
        if beyond == 0 || (fits && self.waiting.is_empty()) {
            return true;
        }
        credit.stall(queue);
        if !std::mem::replace(&mut credit.waits, true) {
            self.waiting.push(conn);
        }
        false
    }

    /// True if a connection that waits with a large message is to try again.
    #[inline]
    pub fn may_go_on(&self) -> bool {
        !self.waiting.is_empty() && self.overdrawn <= self.overdrawn_max / 2
    }

    /// The connections that waited with large messages, and their queues.
    #[cold]
    pub fn take_waiting(&mut self) -> Vec<(ConnId, QueueId)> {
        let mut all = Vec::new();
        for conn in std::mem::take(&mut self.waiting) {
            if let Some(credit) = self.conns.get_mut(&conn) {
                credit.waits = false;
                all.extend(credit.stalled.drain(..).map(|queue| (conn, queue)));
            }
        }
        all
    }

    /// True if the connection may be sent a message; else the queue is among those that
    /// [`Self::give_back`] returns.
    #[inline]
    pub fn available(&mut self, queue: QueueId, conn: ConnId) -> bool {
        let Some(credit) = self.conns.get_mut(&conn) else {
            return false;
        };
        if credit.bytes > 0 || mutant::active(Mutant::CreditIgnored) {
            return true;
        }
        credit.stall(queue);
        false
    }

    /// Takes credit for a delivery.
    #[inline]
    pub fn spend(&mut self, conn: ConnId, bytes: u64) {
        if let Some(credit) = self.conns.get_mut(&conn) {
            let before = credit.bytes;
            credit.bytes -= bytes as i64;
            if credit.bytes < 0 {
                self.overdrawn += credit.overdrawn() - before.min(0).unsigned_abs();
            }
        }
    }

    /// Returns credit for deliveries that have left for the socket; the queues that may go on.
    pub fn give_back(&mut self, conn: ConnId, bytes: u64) -> Vec<QueueId> {
        let Some(credit) = self.conns.get_mut(&conn) else {
            return Vec::new();
        };
        let before = credit.overdrawn();
        // Never more than what was spent, which was below i64::MAX.
        credit.bytes += bytes as i64;
        self.overdrawn -= before - credit.overdrawn();
        let enough = credit.bytes >= CREDIT_BYTES / 2;
        if enough { std::mem::take(&mut credit.stalled) } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use crate::queues::credit::*;

    const LARGE: u64 = 10_000_000;

    #[test]
    fn large_messages_beyond_credit_wait_for_each_other_and_small_ones_do_not() {
        let mut credit = FlowCredit::new(Seed::new(1), 15_000_000);
        let [one, two, other] = [1, 2, 3].map(ConnId);
        [one, two, other].into_iter().for_each(|conn| credit.open(conn));
        assert!(credit.available_for(QueueId(1), one, LARGE));
        credit.spend(one, LARGE);
        assert!(!credit.available_for(QueueId(1), two, LARGE) && !credit.may_go_on());
        assert!(!credit.available_for(QueueId(2), two, LARGE));
        assert!(credit.available(QueueId(1), other) && credit.available_for(QueueId(1), other, 9));
        credit.spend(other, 9);
        assert_eq!(credit.give_back(one, LARGE / 4), []);
        assert!(credit.may_go_on() && !credit.available_for(QueueId(3), other, LARGE / 4));
        let waited = [(two, QueueId(1)), (two, QueueId(2)), (other, QueueId(3))];
        assert_eq!(credit.take_waiting(), waited);
        assert!(credit.available_for(QueueId(1), two, LARGE / 2));
        credit.spend(two, LARGE / 2);
        assert!(!credit.available_for(QueueId(3), other, LARGE));
        credit.forget(one);
        credit.forget(two);
        assert_eq!((credit.overdrawn, credit.take_waiting()), (0, vec![(other, QueueId(3))]));
    }

    #[test]
    fn the_only_one_may_be_of_any_size() {
        let mut credit = FlowCredit::new(Seed::new(1), 1);
        credit.open(ConnId(1));
        assert!(credit.available_for(QueueId(1), ConnId(1), LARGE));
    }

    #[test]
    fn a_connection_without_credit_remembers_each_queue_a_few_times() {
        let mut credit = ConnectionCredit { bytes: 0, stalled: Vec::new(), waits: false };
        for n in 0..10_000 {
            credit.stall(QueueId(n % 3));
        }
        assert!(credit.stalled.len() < 20 && credit.stalled.contains(&QueueId(2)), "{credit:?}");
    }
}
