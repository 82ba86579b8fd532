//! Messages that have died in a classic queue and wait until their dead letters have arrived.
//!
//! They are neither ready nor unacknowledged, and no purge reaches them. The store keeps them until
//! then, so that a crash may double a dead letter, but loses none.

use std::hash::{Hash, Hasher};

use crate::dead_letters::DeadLetterTarget;
use crate::lists::PieceList;
use crate::message::Message;
use crate::queue::classic::ClassicQueue;
use crate::queue::entry::{QueueMemory, QueuedMessage};
use crate::queue::ledger::Ledger;
use crate::queue::{Death, Dying, QueueOutput};
use crate::time::Now;

/// Bytes of dying messages beyond which a queue delivers nothing and lets no message die by itself:
/// consumers could reject faster than dead letters arrive.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// A message that has died.
#[derive(Debug)]
struct DyingMessage {
    entry: QueuedMessage,
    death: Death,
}

/// The dying messages of a queue, in the order of their deaths.
#[derive(Debug, Default)]
pub(super) struct DyingMessages {
    list: Ledger<DyingMessage>,
    /// Where they go: the last place that there was, since they died while there was one.
    target: Option<DeadLetterTarget>,
    /// The number of the last death.
    last: u64,
    bytes: usize,
}

impl DyingMessages {
    /// True if nothing more is to die until dead letters have arrived.
    #[inline]
    pub fn full(&self) -> bool {
        self.bytes > BYTES_MAX
    }

    /// Messages that die go there. `None`: no more of them do.
    pub fn go_to(&mut self, target: Option<&DeadLetterTarget>) {
        self.target = target.or(self.target.as_ref()).cloned();
    }

    /// All entries.
    pub fn entries(&self) -> impl Iterator<Item = &QueuedMessage> {
        self.list.iter().map(|(_, dying)| &dying.entry)
    }

    /// All entries, to be changed.
    pub fn entries_mut(&mut self) -> impl Iterator<Item = &mut QueuedMessage> {
        self.list.values_mut().map(|dying| &mut dying.entry)
    }

    fn add(&mut self, entry: QueuedMessage, death: Death) {
        self.last += 1;
        self.bytes += entry.bytes();
        self.list.push(self.last, DyingMessage { entry, death });
    }

    fn take(&mut self, number: u64) -> Option<QueuedMessage> {
        let DyingMessage { entry, .. } = self.list.remove(number)?;
        self.bytes -= entry.bytes();
        Some(entry)
    }

    /// All entries, which are forgotten: the queue is being dropped.
    pub fn take_all(&mut self) -> PieceList<QueuedMessage> {
        self.bytes = 0;
        let mut list = std::mem::take(&mut self.list);
        let next = || list.pop_up_to(u64::MAX).map(|(_, dying)| dying.entry);
        std::iter::from_fn(next).collect()
    }

    /// Hashes everything; see [`QueuedMessage::hash_with`].
    pub fn hash_with(&self, memory: &QueueMemory, state: &mut impl Hasher) {
        state.write_u64(self.last);
        self.target.hash(&mut *state);
        for (number, DyingMessage { entry, death }) in self.list.iter() {
            state.write_u64(number);
            state.write_u8(*death as u8);
            entry.hash_with(memory, state);
        }
    }
}

impl ClassicQueue {
    /// A message dies. It stays until its dead letter has arrived, if it leaves one: not without a
    /// dead-letter exchange, and not while the queue is being deleted.
    pub(super) fn die(
        &mut self,
        mut entry: QueuedMessage,
        death: Death,
        output: &mut impl QueueOutput,
    ) {
        if self.arguments.dead_letters.is_none() || self.frozen() {
            return self.remove(entry, output);
        }
        // If the broker ends before the letter arrives, the message is in the queue again.
        entry.redelivered |= death == Death::Rejected;
        // The letter may come back to this queue.
        self.forget_value(entry.seq);
        self.dying.add(entry, death);
        output.died(self.id);
    }

    /// A message that was refused at a limit dies. Its publisher is told, so beyond the bound it is
    /// dropped.
    pub(super) fn die_on_entry(&mut self, message: Message<'_>, output: &mut impl QueueOutput) {
        if self.arguments.dead_letters.is_some() && !self.dying.full() {
            let entry = self.keep(message);
            self.die(entry, Death::MaxLength, output);
        }
    }

    /// True if messages have to be read before they die.
    pub(super) fn reads_what_dies(&self) -> bool {
        self.arguments.dead_letters.is_some() || self.has_priorities() || self.values.is_some()
    }

    pub(super) fn dying(&self, from: u64) -> Option<Dying<'_>> {
        let target = self.dying.target.as_ref()?;
        let (number, DyingMessage { entry, death }) = self.dying.list.first_from(from)?;
        Some(Dying { number, death: *death, message: self.memory.message(entry), target })
    }

    pub(super) fn buried(&mut self, number: u64, now: Now, output: &mut impl QueueOutput) {
        let stalled = self.dying.full();
        if let Some(entry) = self.dying.take(number) {
            self.remove(entry, output);
        }
        if stalled && !self.dying.full() {
            self.dispatch(now, output);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::hash::Seed;
    use crate::ids::{ChannelId, ConnId, ConsumerId, QueueId, RequestId};
    use crate::queue::classic::dying::*;
    use crate::queue::consumer::ConsumerSpec;
    use crate::queue::stub::{Stub, draft, finish};
    use crate::queue::{EffectiveArguments, Get, Settle};

    const NOW: Now = Now { monotonic_us: 0, wall_ms: 0 };
    const CHANNEL: ChannelId = ChannelId(1);

    /// A durable queue whose messages were logged in batch 7, with a consumer that was sent these.
    fn delivered(dead_letters: Option<DeadLetterTarget>, keys: &[&str]) -> (ClassicQueue, Stub) {
        let mut queue = ClassicQueue::new(QueueId(1), true, false, Seed::new(1));
        let mut ends = Stub { batch: 7, ..Stub::default() };
        let arguments = EffectiveArguments { dead_letters, ..EffectiveArguments::default() };
        queue.reconfigure(arguments, NOW, &mut ends);
        for key in keys {
            queue.push(draft(key, 2, 0).message(), NOW, &mut ends);
        }
        queue.consume(consumer(), NOW);
        queue.dispatch(NOW, &mut ends);
        (queue, ends)
    }

    fn consumer() -> ConsumerSpec {
        ConsumerSpec {
            id: ConsumerId(1),
            conn: ConnId(1),
            channel: CHANNEL,
            no_ack: false,
            prefetch: 0,
            exclusive: false,
            priority: 0,
            limited: false,
            timeout_ms: None,
            properties_max: usize::MAX,
        }
    }

    fn target() -> Option<DeadLetterTarget> {
        Some(DeadLetterTarget { exchange: "dlx".into(), key: None })
    }

    fn dying(queue: &ClassicQueue, from: u64) -> Option<(u64, String)> {
        let dying = queue.dying(from)?;
        assert_eq!((dying.death, &*dying.target.exchange), (Death::Rejected, "dlx"));
        Some((dying.number, dying.message.routing_key().into()))
    }

    #[test]
    fn without_an_exchange_a_rejected_message_is_gone() {
        let (mut queue, mut ends) = delivered(None, &["a"]);
        queue.settle_up_to(CHANNEL, u64::MAX, Settle::Drop, NOW, &mut ends);
        finish(&mut queue, NOW, &mut ends);
        assert_eq!((ends.died, queue.dying(0).is_none(), &ends.settled[..]), (0, true, &[1][..]));
    }

    #[test]
    fn a_rejected_message_is_held_until_its_dead_letter_has_arrived() {
        let (mut queue, mut ends) = delivered(target(), &["a", "b", "c"]);
        queue.settle_up_to(CHANNEL, u64::MAX, Settle::Drop, NOW, &mut ends);
        finish(&mut queue, NOW, &mut ends);
        assert_eq!((ends.died, ends.settled.len(), queue.ready(), queue.unacked()), (3, 0, 0, 0));
        assert_eq!(dying(&queue, 0), Some((1, "a".into())));
        assert_eq!(dying(&queue, 2), Some((2, "b".into())));
        queue.buried(2, NOW, &mut ends);
        assert_eq!((&ends.settled[..], dying(&queue, 2)), (&[2][..], Some((3, "c".into()))));
        // An unknown number, or one that was buried before, is ignored.
        queue.buried(2, NOW, &mut ends);
        queue.buried(9, NOW, &mut ends);
        assert_eq!(queue.purge(NOW, &mut ends), 0);
        for number in [1, 3] {
            queue.buried(number, NOW, &mut ends);
        }
        assert_eq!((&ends.settled[..], queue.dying(0).is_none()), (&[2, 1, 3][..], true));
    }

    #[test]
    fn letters_of_before_leave_although_the_exchange_is_taken_away() {
        let (mut queue, mut ends) = delivered(target(), &["a", "b"]);
        queue.settle(CHANNEL, ends.numbers[0], Settle::Drop, NOW, &mut ends);
        queue.reconfigure(EffectiveArguments::default(), NOW, &mut ends);
        queue.settle(CHANNEL, ends.numbers[1], Settle::Drop, NOW, &mut ends);
        assert_eq!((dying(&queue, 0), &ends.settled[..]), (Some((1, "a".into())), &[2][..]));
    }

    #[test]
    fn a_queue_that_is_deleted_has_no_dead_letters_but_those_of_before() {
        let (mut queue, mut ends) = delivered(target(), &["a", "b"]);
        queue.settle(CHANNEL, ends.numbers[0], Settle::Drop, NOW, &mut ends);
        queue.freeze(NOW, &mut ends);
        queue.settle(CHANNEL, ends.numbers[1], Settle::Drop, NOW, &mut ends);
        assert_eq!((ends.died, &ends.settled[..]), (1, &[2][..]));
        assert_eq!(dying(&queue, 0), Some((1, "a".into())));
        queue.let_go(NOW, &mut ends);
        finish(&mut queue, NOW, &mut ends);
        assert_eq!(ends.let_go, 1);
    }

    #[test]
    fn dying_messages_leave_the_log_with_the_others_and_are_flagged_at_the_end() {
        let (mut queue, mut ends) = delivered(target(), &["a"]);
        queue.settle_up_to(CHANNEL, u64::MAX, Settle::Drop, NOW, &mut ends);
        finish(&mut queue, NOW, &mut ends);
        ends.logged.clear();
        ends.batch = 9;
        queue.leave_log(9, 0, NOW, &mut ends);
        assert_eq!((&ends.logged[..], queue.delivered()), (&[1][..], vec![1]));
    }

    #[test]
    fn too_many_dying_messages_stop_deliveries_until_letters_arrive() {
        let (mut queue, mut ends) = delivered(target(), &["a"]);
        for key in ["b", "c"] {
            queue.push(draft(key, 1, 9 * 1024 * 1024).message(), NOW, &mut ends);
        }
        queue.settle_up_to(CHANNEL, u64::MAX, Settle::Drop, NOW, &mut ends);
        finish(&mut queue, NOW, &mut ends);
        queue.push(draft("d", 1, 0).message(), NOW, &mut ends);
        let get = Get {
            ticket: RequestId(1),
            conn: ConnId(1),
            channel: CHANNEL,
            no_ack: true,
            properties_max: usize::MAX,
        };
        queue.get(get, NOW, &mut ends);
        assert_eq!((ends.delivered.len(), ends.got.len(), ends.empty, queue.ready()), (3, 0, 0, 1));
        queue.buried(1, NOW, &mut ends);
        assert_eq!(ends.got.len(), 0);
        queue.buried(2, NOW, &mut ends);
        assert_eq!((ends.got.len(), queue.ready()), (1, 0));
    }
}
