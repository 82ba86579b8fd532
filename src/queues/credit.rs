//! Flow credit: the bytes of deliveries that this home may have on the way to each connection.

use model::mutant::{self, Mutant};
use model::{ConnId, Map, QueueId, Seed};

/// Bytes of deliveries that a home may have on the way to one connection.
const CREDIT_BYTES: i64 = 256 * 1024;

/// A connection that takes nothing of what it was sent beyond its credit for so long is stuck.
const STUCK_US: u64 = 200_000;
/// One that is stuck for so long is given up if others wait for its place.
const GIVEN_UP_US: u64 = 30_000_000;
/// So often it is looked for them, while somebody waits.
const LOOK_US: u64 = 100_000;

/// The flow credit of one connection.
#[derive(Debug)]
struct ConnectionCredit {
    bytes: i64,
    /// Queues with consumers that wait for credit.
    stalled: Vec<QueueId>,
    /// It is among those that wait with a large message.
    waits: bool,
    /// When it was last sent something beyond its credit, or took some of that.
    moved_us: u64,
    stuck: bool,
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

/// Bytes that connections were sent beyond their credit.
#[derive(Debug, Clone, Copy, Default)]
struct Overdraft {
    bytes: u64,
    connections: usize,
}

impl Overdraft {
    /// A connection had `before` of it and has `now`.
    fn change(&mut self, before: u64, now: u64) {
        self.bytes = self.bytes + now - before;
        self.connections = self.connections + usize::from(now > 0) - usize::from(before > 0);
    }
}

/// The flow credit of all connections with consumers here.
///
/// A message may go beyond the credit that is left, since one may be larger than all of it. Such
/// messages of all connections together have a bound, so that clients which never read cannot make
/// a home send one large message to each of them. Messages within the credit do not wait for it.
///
/// A connection that takes nothing is stuck. It keeps its place and takes none from the others:
/// they have the bound for themselves, as long as one connection is stuck, or several with no more
/// than that bound. If there is more, the others wait, and who is stuck for long is given up.
#[derive(Debug)]
pub(super) struct FlowCredit {
    conns: Map<ConnId, ConnectionCredit>,
    /// Those that take what they are sent.
    moving: Overdraft,
    stuck: Overdraft,
    overdrawn_max: u64,
    /// Connections that wait to be sent a large message.
    waiting: Vec<ConnId>,
    /// The time of this turn, and of the next look.
    now_us: u64,
    look_us: u64,
}

impl FlowCredit {
    /// Messages may go beyond credit by so many bytes together, or one does.
    pub fn new(seed: Seed, overdrawn_max: usize) -> Self {
        Self {
            conns: Map::with_hasher(seed),
            moving: Overdraft::default(),
            stuck: Overdraft::default(),
            overdrawn_max: overdrawn_max as u64,
            waiting: Vec::new(),
            now_us: 0,
            look_us: 0,
        }
    }

    /// How many connections have some.
    pub fn len(&self) -> usize {
        self.conns.len()
    }

    /// Opens credit for a connection unless it has some.
    pub fn open(&mut self, conn: ConnId) {
        let moved_us = self.now_us;
        self.conns.entry(conn).or_insert_with(|| ConnectionCredit {
            bytes: CREDIT_BYTES,
            stalled: Vec::new(),
            waits: false,
            moved_us,
            stuck: false,
        });
    }

    /// The connection is gone.
    pub fn forget(&mut self, conn: ConnId) {
        if let Some(credit) = self.conns.remove(&conn) {
            let overdraft = if credit.stuck { &mut self.stuck } else { &mut self.moving };
            overdraft.change(credit.overdrawn(), 0);
        }
    }

    /// True if those that are stuck leave room for others.
    fn has_room(&self) -> bool {
        self.stuck.connections <= 1 || self.stuck.bytes <= self.overdrawn_max
    }

    /// True if the connection may be sent a message of so many bytes, which is large; else as
    /// [`Self::available`]. [`Self::may_go_on`] says when it may.
    #[cold]
    pub fn available_for(&mut self, queue: QueueId, conn: ConnId, bytes: u64) -> bool {
        let (has_room, moving) = (self.has_room(), self.moving.bytes);
        let Some(credit) = self.conns.get_mut(&conn) else {
            return false;
        };
        let beyond = bytes.saturating_sub(u64::try_from(credit.bytes).unwrap_or(0));
        let fits = has_room && (moving == 0 || moving + beyond <= self.overdrawn_max);
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
        !self.waiting.is_empty() && self.moving.bytes <= self.overdrawn_max / 2 && self.has_room()
    }

    /// The connections that waited with large messages, and their queues.
    #[cold]
    pub fn take_waiting(&mut self) -> Vec<(ConnId, Vec<QueueId>)> {
        let mut all = Vec::new();
        for conn in std::mem::take(&mut self.waiting) {
            if let Some(credit) = self.conns.get_mut(&conn) {
                credit.waits = false;
                all.push((conn, std::mem::take(&mut credit.stalled)));
            }
        }
        all
    }

    /// A turn ends at this time. Looks for connections that are stuck if others wait; those that
    /// are given up.
    #[inline]
    pub fn look(&mut self, now_us: u64) -> Vec<ConnId> {
        self.now_us = now_us;
        if self.waiting.is_empty() || now_us < self.look_us {
            return Vec::new();
        }
        self.look_for_stuck()
    }

    /// When [`Self::look`] is to be called, though nothing happens until then.
    #[inline]
    pub fn next_look_us(&self) -> Option<u64> {
        (!self.waiting.is_empty()).then_some(self.look_us)
    }

    #[cold]
    fn look_for_stuck(&mut self) -> Vec<ConnId> {
        let now_us = self.now_us;
        self.look_us = now_us + LOOK_US;
        let rests = |credit: &ConnectionCredit, us| now_us.saturating_sub(credit.moved_us) >= us;
        for credit in self.conns.values_mut().filter(|credit| credit.bytes < 0 && !credit.stuck) {
            if rests(credit, STUCK_US) && !mutant::active(Mutant::StuckBlocksAll) {
                credit.stuck = true;
                self.moving.change(credit.overdrawn(), 0);
                self.stuck.change(0, credit.overdrawn());
            }
        }
        if self.has_room() {
            return Vec::new();
        }
        let long =
            self.conns.iter().filter(|(_, credit)| credit.stuck && rests(credit, GIVEN_UP_US));
        let mut long: Vec<_> = long.map(|(id, credit)| (credit.moved_us, *id)).collect();
        long.sort_unstable();
        // Until there is room: the home hears of their end later.
        let mut left = self.stuck;
        let given_up = long.into_iter().map(|(_, id)| id).take_while(|id| {
            let more = left.connections > 1 && left.bytes > self.overdrawn_max;
            let overdrawn = self.conns.get(id).map_or(0, ConnectionCredit::overdrawn);
            left.change(overdrawn, 0);
            more
        });
        given_up.collect()
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
                credit.moved_us = self.now_us;
                let overdraft = if credit.stuck { &mut self.stuck } else { &mut self.moving };
                overdraft.change(before.min(0).unsigned_abs(), credit.overdrawn());
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
        let overdraft = if credit.stuck { &mut self.stuck } else { &mut self.moving };
        overdraft.change(before, 0);
        self.moving.change(0, credit.overdrawn());
        (credit.stuck, credit.moved_us) = (false, self.now_us);
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
        let waited = [(two, vec![QueueId(1), QueueId(2)]), (other, vec![QueueId(3)])];
        assert_eq!(credit.take_waiting(), waited);
        assert!(credit.available_for(QueueId(1), two, LARGE / 2));
        credit.spend(two, LARGE / 2);
        assert!(!credit.available_for(QueueId(3), other, LARGE));
        credit.forget(one);
        credit.forget(two);
        let waited = vec![(other, vec![QueueId(3)])];
        assert_eq!((credit.moving.bytes, credit.take_waiting()), (0, waited));
    }

    /// Connections that take nothing, one after the other, and one that reads; who is given up.
    fn stuck(credit: &mut FlowCredit, many: u64, reader: ConnId) {
        for number in 0..many {
            let conn = ConnId(number);
            credit.open(conn);
            credit.take_waiting();
            assert!(credit.available_for(QueueId(1), conn, LARGE), "{number}");
            credit.spend(conn, LARGE);
            // The next one waits, and it is seen that this one takes nothing.
            assert!(!credit.available_for(QueueId(2), reader, LARGE));
            credit.look(credit.now_us);
            assert!(!credit.may_go_on());
            assert_eq!(credit.look(credit.now_us + STUCK_US), []);
        }
    }

    fn one_that_is_stuck_keeps_only_its_own_place() {
        let mut credit = FlowCredit::new(Seed::new(1), 1_000_000);
        let reader = ConnId(9);
        credit.open(reader);
        stuck(&mut credit, 1, reader);
        // All that follows is for the one that reads, again and again.
        for _ in 0..3 {
            assert!(credit.may_go_on());
            assert_eq!(credit.take_waiting().len(), 1);
            assert!(credit.available_for(QueueId(2), reader, LARGE));
            credit.spend(reader, LARGE);
            assert!(!credit.available_for(QueueId(2), ConnId(0), LARGE));
            credit.give_back(reader, LARGE);
        }
    }

    #[test]
    fn a_connection_that_takes_nothing_keeps_only_its_own_place() {
        one_that_is_stuck_keeps_only_its_own_place();
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn one_that_blocks_all_is_found_out() {
        mutant::select(Some(Mutant::StuckBlocksAll));
        let found = std::panic::catch_unwind(one_that_is_stuck_keeps_only_its_own_place).is_err();
        mutant::select(None);
        assert!(found);
    }

    #[test]
    fn those_that_take_nothing_for_long_are_given_up_when_others_wait() {
        let mut credit = FlowCredit::new(Seed::new(1), 1_000_000);
        let reader = ConnId(9);
        credit.open(reader);
        stuck(&mut credit, 2, reader);
        assert!(!credit.may_go_on() && credit.next_look_us().is_some());
        let begun_us = credit.now_us;
        assert_eq!(credit.look(begun_us + GIVEN_UP_US / 2), []);
        // One that takes a little begins anew; then only one is stuck.
        credit.give_back(ConnId(0), 1000);
        assert!(credit.has_room());
        credit.look(credit.now_us + STUCK_US);
        credit.look(credit.now_us + LOOK_US + STUCK_US);
        assert!(!credit.has_room());
        assert_eq!(credit.look(begun_us + GIVEN_UP_US), [ConnId(1)]);
        credit.forget(ConnId(1));
        assert!(credit.may_go_on());
        let waiting = credit.take_waiting();
        assert_eq!(waiting.last(), Some(&(reader, vec![QueueId(2)])));
        assert!(credit.available_for(QueueId(2), reader, LARGE));
        credit.forget(ConnId(0));
        assert_eq!((credit.stuck.bytes, credit.stuck.connections), (0, 0));
    }

    #[test]
    fn the_only_one_may_be_of_any_size() {
        let mut credit = FlowCredit::new(Seed::new(1), 1);
        credit.open(ConnId(1));
        assert!(credit.available_for(QueueId(1), ConnId(1), LARGE));
    }

    #[test]
    fn a_connection_without_credit_remembers_each_queue_a_few_times() {
        let (bytes, stalled, waits) = (0, Vec::new(), false);
        let mut credit = ConnectionCredit { bytes, stalled, waits, moved_us: 0, stuck: false };
        for n in 0..10_000 {
            credit.stall(QueueId(n % 3));
        }
        assert!(credit.stalled.len() < 20 && credit.stalled.contains(&QueueId(2)), "{credit:?}");
    }
}
