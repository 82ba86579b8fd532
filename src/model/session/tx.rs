//! A transaction of one channel: publishes and settles that wait for tx.commit.

use crate::body::{Body, BodyGauge};
use crate::ids::{QueueId, RequestId, ShardId};
use crate::lists::PieceList;
use crate::message::Message;
use crate::queue::Settle;
use crate::queue::arena::{Arena, ArenaPlace};
use crate::session::DeliveryRun;

/// A publish that waits. Its queues are those at the time it was read, as in RabbitMQ.
#[derive(Debug)]
struct Held {
    place: ArenaPlace,
    body: Option<Body>,
    queues: usize,
    mandatory: bool,
    /// It was sent to some of its queues.
    begun: bool,
}

/// Settles that wait. A rollback makes the deliveries outstanding again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldSettles {
    /// The deliveries.
    pub run: DeliveryRun,
    /// How they are settled.
    pub how: Settle,
}

/// Bytes that the settles of a transaction may take: those of millions of deliveries that are
/// settled together or in their order, those of 130,000 that are settled in any other.
pub const SETTLES_MAX: usize = 8 * 1024 * 1024;

/// The stage of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Publishes are being sent.
    Publishing,
    /// Home shards have not applied all publishes.
    Applying,
    /// Home shards have not applied all settles.
    Settling,
}

/// A commit under way.
#[derive(Debug)]
pub struct Commit {
    /// The request that its channel waits for.
    pub ticket: RequestId,
    /// Its stage.
    pub stage: Stage,
    /// Home shards that got something in this stage, and whether persistent messages were among it.
    pub homes: Vec<(ShardId, bool)>,
    /// Home shards that have not answered.
    pub waits: usize,
    /// A queue has refused one of the publishes.
    pub refused: bool,
    /// The settles that were not sent yet, once all publishes are applied.
    pub settles: Option<std::vec::IntoIter<HeldSettles>>,
}

impl Commit {
    /// A commit that has sent nothing yet.
    #[must_use]
    pub fn new(ticket: RequestId) -> Self {
        let (stage, homes) = (Stage::Publishing, Vec::new());
        Self { ticket, stage, homes, waits: 0, refused: false, settles: None }
    }

    /// Remembers that something was sent to a home shard.
    pub fn involve(&mut self, home: ShardId, persistent: bool) {
        match self.homes.iter_mut().find(|(other, _)| *other == home) {
            Some((_, any)) => *any |= persistent,
            None => self.homes.push((home, persistent)),
        }
    }
}

/// The transaction of a channel in tx mode; after a commit or a rollback the next one begins.
#[derive(Debug, Default)]
pub struct Transaction {
    arena: Arena,
    body_bytes: usize,
    publishes: PieceList<Held>,
    queues: PieceList<(QueueId, ShardId)>,
    settles: Vec<HeldSettles>,
    /// Present while it is being committed.
    pub commit: Option<Commit>,
}

impl Transaction {
    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.publishes.is_empty() && self.settles.is_empty()
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn pinned(&self) -> usize {
        self.arena.pinned()
            + self.body_bytes
            + self.publishes.capacity() * size_of::<Held>()
            + self.queues.capacity() * size_of::<(QueueId, ShardId)>()
            + self.settles_pinned()
    }

    /// Bytes of memory held for settles.
    #[must_use]
    pub fn settles_pinned(&self) -> usize {
        self.settles.capacity() * size_of::<HeldSettles>()
    }

    /// Holds a publish; one without queues will be returned.
    pub fn publish(
        &mut self,
        message: Message<'_>,
        queues: &[(QueueId, ShardId)],
        mandatory: bool,
    ) {
        let body = message.large_body().cloned();
        self.body_bytes += body.as_ref().map_or(0, Body::len);
        let place = self.arena.push(message.record());
        self.publishes.push_back(Held {
            place,
            body,
            queues: queues.len(),
            mandatory,
            begun: false,
        });
        queues.iter().for_each(|queue| self.queues.push_back(*queue));
    }

    /// The body of the first publish counts from now on. The transaction has counted it so far.
    pub fn count_front(&mut self, gauge: &BodyGauge) {
        let body = self.publishes.front_mut().and_then(|first| first.body.as_mut());
        body.into_iter().for_each(|body| gauge.made(body));
    }

    /// The first publish and its mandatory flag; writes its queues to `queues`.
    pub fn front(&self, queues: &mut Vec<(QueueId, ShardId)>) -> Option<(Message<'_>, bool)> {
        let first = self.publishes.front()?;
        queues.clear();
        queues.extend(self.queues.iter().take(first.queues));
        let message = Message::new(self.arena.get(first.place), first.body.as_ref());
        Some((message, first.mandatory))
    }

    /// Whether the first publish was sent to some of its queues.
    #[must_use]
    pub fn front_is_begun(&self) -> bool {
        self.publishes.front().is_some_and(|first| first.begun)
    }

    /// Drops the first queues of the first publish, which it was sent to. False if there are more.
    pub fn sent(&mut self, queues: usize) -> bool {
        let Some(first) = self.publishes.front_mut() else { return true };
        if queues >= first.queues {
            return true;
        }
        first.queues -= queues;
        first.begun = true;
        self.queues.drain(0..queues, drop);
        false
    }

    /// Drops the first publish, which was sent to its queues.
    pub fn pop(&mut self) {
        let Some(first) = self.publishes.pop_front() else { return };
        self.body_bytes -= first.body.as_ref().map_or(0, Body::len);
        self.arena.free(first.place);
        self.queues.drain(0..first.queues, drop);
        if self.publishes.is_empty() {
            (self.publishes, self.queues) = Default::default();
            self.arena = Arena::default();
        }
    }

    /// Holds settles.
    pub fn settle(&mut self, settles: HeldSettles) {
        let last = self.settles.last_mut().filter(|last| last.how == settles.how);
        // What is taken back must not span a tag that stays outstanding.
        let last = last.filter(|last| last.run.is_followed_by(&settles.run));
        if !last.is_some_and(|last| last.run.join(&settles.run)) {
            self.settles.push(settles);
        }
    }

    /// How many publishes are held.
    #[must_use]
    pub fn publishes(&self) -> usize {
        self.publishes.len()
    }

    /// Takes the settles in the order in which they were sent. Neighbours of one kind are sorted by
    /// tag, so that requeued messages come again in their order.
    pub fn take_settles(&mut self) -> Vec<HeldSettles> {
        let mut settles = std::mem::take(&mut self.settles);
        for alike in settles.chunk_by_mut(|one, other| one.how == other.how) {
            alike.sort_unstable_by_key(|settles| settles.run.tag());
        }
        settles
    }

    /// Takes the deliveries that are outstanding again, in no order.
    pub fn take_back(&mut self) -> Vec<DeliveryRun> {
        let settles = std::mem::take(&mut self.settles);
        settles.into_iter().map(|settles| settles.run).collect()
    }

    /// A home shard has applied what it got. True if no other is waited for.
    pub fn answered(&mut self) -> bool {
        let Some(commit) = self.commit.as_mut().filter(|commit| commit.waits > 0) else {
            return false;
        };
        commit.waits -= 1;
        commit.waits == 0
    }
}

#[cfg(test)]
mod tests {
    use amqp::Properties;

    use super::*;
    use crate::message::Draft;
    use crate::session::{Outstanding, Unacked};

    fn draft(size: usize) -> Draft {
        let mut draft = Draft::default();
        draft.begin("", "q");
        draft.header(Properties::EMPTY, 0, 0, size as u32);
        let chunk = bytes::Bytes::from(vec![7; size]);
        draft.body(&chunk, &chunk);
        draft
    }

    #[test]
    fn publishes_come_out_in_order_and_leave_no_memory() {
        let mut tx = Transaction::default();
        assert_eq!(tx.pinned(), 0);
        for n in 0..100 {
            let queues = vec![(QueueId(n as u64), ShardId(0)); n % 4];
            tx.publish(draft(n * 100).message(), &queues, n % 3 == 0);
        }
        assert!(tx.pinned() > 100 * 99 / 2 * 100);
        let mut queues = Vec::new();
        for n in 0..100 {
            let (message, mandatory) = tx.front(&mut queues).unwrap();
            assert_eq!(mandatory, n % 3 == 0);
            assert_eq!(message.body_len(), n * 100);
            assert_eq!(queues, vec![(QueueId(n as u64), ShardId(0)); n % 4]);
            tx.pop();
        }
        assert!(tx.front(&mut queues).is_none() && tx.is_empty());
        assert_eq!(tx.pinned(), 0);
    }

    #[test]
    fn settles_of_one_kind_are_sorted_and_come_back_with_their_tags() {
        let sent =
            [(3, Settle::Requeue), (1, Settle::Requeue), (4, Settle::Ack), (2, Settle::Requeue)];
        let mut tx = Transaction::default();
        sent.into_iter().for_each(|(tag, how)| tx.settle(held(tag, tag, how)));
        let settles = tx.take_settles();
        let tags: Vec<u64> = settles.iter().map(|settles| settles.run.tag()).collect();
        assert_eq!(tags, [1, 3, 4, 2]);
        sent.into_iter().for_each(|(tag, how)| tx.settle(held(tag, tag, how)));
        let tags: Vec<u64> = tx.take_back().iter().map(DeliveryRun::tag).collect();
        assert_eq!((tags, tx.pinned()), (vec![3, 1, 4, 2], 0));
    }

    #[test]
    fn what_is_taken_back_spans_no_tag_of_another_queue() {
        let mut unacked = Unacked::default();
        let queues = [1, 1, 1, 2, 1, 1];
        for (tag, queue) in (1..).zip(queues) {
            let delivery = Outstanding { queue: QueueId(queue), home: ShardId(0), number: tag };
            unacked.push(tag, delivery);
        }
        let mut tx = Transaction::default();
        for tag in [3, 5, 6, 2] {
            let run = DeliveryRun::new(tag, unacked.remove(tag).unwrap());
            tx.settle(HeldSettles { run, how: Settle::Ack });
        }
        unacked.restore(tx.take_back());
        assert!((1..=6).all(|tag| unacked.remove(tag).is_some()));
    }

    fn held(tag: u64, number: u64, how: Settle) -> HeldSettles {
        let delivery = Outstanding { queue: QueueId(1), home: ShardId(0), number };
        HeldSettles { run: DeliveryRun::new(tag, delivery), how }
    }

    #[test]
    fn settles_in_the_order_of_their_tags_take_less_than_two_bytes_each() {
        let mut tx = Transaction::default();
        (1..=100_000).for_each(|tag| tx.settle(held(tag, tag + 7, Settle::Ack)));
        assert!(tx.pinned() < 200_000, "{}", tx.pinned());
        let settles = tx.take_settles();
        let numbers = settles.iter().flat_map(|settles| settles.run.deliveries());
        assert!(numbers.map(|one| one.number).eq(8..=100_007));
    }

    #[test]
    fn a_commit_waits_for_each_home_once() {
        let mut tx = Transaction::default();
        assert!(!tx.answered());
        let mut commit = Commit::new(RequestId(1));
        for (home, persistent) in [(1, false), (2, false), (1, true)] {
            commit.involve(ShardId(home), persistent);
        }
        assert_eq!(commit.homes, [(ShardId(1), true), (ShardId(2), false)]);
        commit.waits = 2;
        tx.commit = Some(commit);
        assert_eq!([(); 3].map(|()| tx.answered()), [false, true, false]);
    }
}
