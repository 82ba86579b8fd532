//! A queue whose consumers' channels are limited: what waits for a permit stays in its place.

use crate::hash::Seed;
use crate::ids::{ChannelId, ConnId, ConsumerId, QueueId, RequestId};
use crate::message::Message;
use crate::queue::classic::ClassicQueue;
use crate::queue::consumer::ConsumerSpec;
use crate::queue::stored::Stored;
use crate::queue::stub::{Stub, draft, with_properties};
use crate::queue::{
    EffectiveArguments, Expiry, Get, RestoredMessages, Settle, Spilled, Unfit, Way,
};
use crate::time::Now;

pub(super) const NOW: Now = Now { monotonic_us: 0, wall_ms: 0 };

pub(super) fn queue() -> ClassicQueue {
    ClassicQueue::new(QueueId(1), false, false, Seed::new(1))
}

pub(super) fn consumer(id: u64) -> ConsumerSpec {
    ConsumerSpec {
        id: ConsumerId(id),
        conn: ConnId(id),
        channel: ChannelId(id),
        no_ack: false,
        prefetch: 0,
        exclusive: false,
        priority: 0,
        limited: true,
        timeout_ms: None,
        properties_max: usize::MAX,
    }
}

pub(super) fn free(id: u64) -> ConsumerSpec {
    ConsumerSpec { limited: false, ..consumer(id) }
}

pub(super) fn get(ticket: u64, channel: u64, properties_max: usize) -> Get {
    let (ticket, conn, channel) = (RequestId(ticket), ConnId(channel), ChannelId(channel));
    Get { ticket, conn, channel, no_ack: true, properties_max }
}

pub(super) fn push(queue: &mut ClassicQueue, ends: &mut Stub, keys: &[&str]) {
    for key in keys {
        queue.push(draft(key, 1, 0).message(), NOW, ends);
    }
}

/// Does what takes long, a unit of work at a time.
fn finish(queue: &mut ClassicQueue, ends: &mut Stub) {
    crate::queue::stub::finish(queue, NOW, ends);
}

fn permit(queue: &mut ClassicQueue, ends: &mut Stub, consumer: u64, count: u32) -> u32 {
    let ask = ends.ask_of(consumer);
    queue.permitted(ask.slot, ask.consumer, count, NOW, ends)
}

pub(super) fn list(bodies: &[(u64, &str)]) -> Vec<(u64, String)> {
    bodies.iter().map(|(consumer, body)| (*consumer, (*body).to_string())).collect()
}

#[test]
fn a_message_waits_in_its_place_until_the_permit_comes() {
    let (mut queue, mut ends) = (queue(), Stub::default());
    queue.consume(consumer(1), NOW);
    push(&mut queue, &mut ends, &["a", "b"]);
    assert_eq!((ends.asks.len(), queue.ready()), (1, 2));
    assert_eq!(permit(&mut queue, &mut ends, 1, 1), 0);
    assert_eq!(ends.delivered, [(1, "a".to_string(), false)]);
    // It asks for the next at once.
    assert_eq!((ends.asks.len(), queue.ready(), queue.unacked()), (2, 1, 1));
    assert_eq!(permit(&mut queue, &mut ends, 1, 0), 0);
    queue.settle(ChannelId(1), ends.numbers[0], Settle::Requeue, NOW, &mut ends);
    queue.dispatch(NOW, &mut ends);
    assert_eq!(permit(&mut queue, &mut ends, 1, 2), 0);
    let again = [("a".to_string(), true), ("b".to_string(), false)];
    let seen = ends.delivered[1..].iter().map(|(_, body, flag)| (body.clone(), *flag));
    assert_eq!(seen.collect::<Vec<_>>(), again);
}

#[test]
fn one_who_waits_does_not_stop_the_others() {
    let (mut queue, mut ends) = (queue(), Stub::default());
    queue.consume(consumer(1), NOW);
    queue.consume(free(2), NOW);
    push(&mut queue, &mut ends, &["a"]);
    assert_eq!(ends.bodies(), []);
    permit(&mut queue, &mut ends, 1, 0);
    push(&mut queue, &mut ends, &["b"]);
    assert_eq!(ends.bodies(), list(&[(2, "a"), (2, "b")]));
    // The permit comes too late.
    assert_eq!(permit(&mut queue, &mut ends, 1, 3), 3);
    push(&mut queue, &mut ends, &["c"]);
    assert_eq!((ends.bodies(), ends.asks.len()), (vec![], 2));
}

#[test]
fn who_has_a_permit_is_not_kept_back_by_one_who_asks() {
    let (mut queue, mut ends) = (queue(), Stub::default());
    queue.consume(consumer(1), NOW);
    queue.consume(consumer(2), NOW);
    push(&mut queue, &mut ends, &["a"]);
    assert_eq!(permit(&mut queue, &mut ends, 1, 0), 0);
    assert_eq!(ends.asks.len(), 2);
    assert_eq!(permit(&mut queue, &mut ends, 1, 1), 0);
    assert_eq!(ends.bodies(), list(&[(1, "a")]));
    assert_eq!(permit(&mut queue, &mut ends, 2, 1), 1);
}

#[test]
fn a_message_that_is_kept_can_be_got_and_purged() {
    let (mut queue, mut ends) = (queue(), Stub::default());
    queue.consume(consumer(1), NOW);
    push(&mut queue, &mut ends, &["a", "b"]);
    queue.get(get(1, 9, usize::MAX), NOW, &mut ends);
    assert_eq!((ends.got.clone(), queue.purge(NOW, &mut ends)), (vec!["a".to_string()], 1));
    assert_eq!(permit(&mut queue, &mut ends, 1, 1), 1);
    // A message of those who need no permit waits no more for the answer that came.
    queue.consume(ConsumerSpec { no_ack: true, ..free(2) }, NOW);
    push(&mut queue, &mut ends, &["c", "d"]);
    permit(&mut queue, &mut ends, 1, 0);
    assert_eq!(ends.bodies(), list(&[(2, "c"), (2, "d")]));
}

#[test]
fn a_lower_one_waits_for_the_answer_to_a_higher_one() {
    let (mut queue, mut ends) = (queue(), Stub::default());
    queue.consume(ConsumerSpec { no_ack: true, ..free(1) }, NOW);
    queue.consume(ConsumerSpec { priority: 1, ..consumer(2) }, NOW);
    push(&mut queue, &mut ends, &["a", "b", "c"]);
    assert_eq!(ends.bodies(), []);
    permit(&mut queue, &mut ends, 2, 1);
    assert_eq!(ends.bodies(), list(&[(2, "a")]));
    permit(&mut queue, &mut ends, 2, 0);
    assert_eq!(ends.bodies(), list(&[(1, "b"), (1, "c")]));
}

#[test]
fn answers_at_once_keep_the_turns() {
    let (mut queue, mut ends) = (queue(), Stub::default());
    ends.at_once = Some(5);
    (1..=3).for_each(|id| queue.consume(consumer(id), NOW));
    push(&mut queue, &mut ends, &["a", "b", "c", "d", "e", "f"]);
    assert_eq!(ends.bodies(), list(&[(1, "a"), (2, "b"), (3, "c"), (1, "d"), (2, "e")]));
    assert_eq!(queue.ready(), 1);
}

#[test]
fn a_permit_for_one_without_credit_or_without_a_queue_is_of_no_use() {
    let (mut queue, mut ends) = (queue(), Stub::default());
    queue.consume(consumer(1), NOW);
    push(&mut queue, &mut ends, &["a"]);
    ends.closed = Some(ConnId(1));
    assert_eq!(permit(&mut queue, &mut ends, 1, 2), 2);
    ends.closed = None;
    queue.reopen(ConnId(1), NOW, &mut ends);
    assert_eq!(ends.asks.len(), 2);
    queue.freeze(NOW, &mut ends);
    assert_eq!(permit(&mut queue, &mut ends, 1, 1), 1);
    assert_eq!(ends.bodies(), []);
}

pub(super) fn large(key: &str) -> crate::message::Draft {
    let (mut large, body) = (draft(key, 1, 0), bytes::Bytes::from(vec![0; 5000]));
    large.header(amqp::Properties::EMPTY, 1, 0, 5000);
    large.body(&body, &body);
    large
}

#[test]
fn a_large_message_waits_in_front_until_there_is_room_for_it() {
    let (mut queue, mut ends) = (queue(), Stub { no_large: true, ..Stub::default() });
    queue.consume(ConsumerSpec { no_ack: true, ..free(1) }, NOW);
    queue.consume(consumer(2), NOW);
    queue.push(large("large").message(), NOW, &mut ends);
    push(&mut queue, &mut ends, &["small"]);
    assert_eq!((permit(&mut queue, &mut ends, 2, 1), ends.bodies()), (1, vec![]));
    ends.no_large = false;
    queue.reopen(ConnId(1), NOW, &mut ends);
    assert_eq!(ends.bodies(), list(&[(1, "large"), (1, "small")]));
}

#[test]
fn spilled_messages_are_loaded_before_permits_are_requested() {
    let (mut queue, mut ends) = (queue(), Stub::default());
    push(&mut queue, &mut ends, &["a", "b", "c"]);
    queue.spill(0, usize::MAX, NOW, &mut ends);
    queue.consume(consumer(1), NOW);
    queue.dispatch(NOW, &mut ends);
    // The first stays resident, or its permit might never meet it.
    assert_eq!((ends.asks.len(), ends.fetched), (1, 0));
    let bring = |queue: &mut ClassicQueue, ends: &mut Stub| {
        let (seq, record) = ends.spilled.remove(0);
        let message = Message::new(&record, None);
        let stored = Stored::SPILLED;
        let expiry = Expiry::NEVER;
        queue.loaded(Spilled { seq, redelivered: false, stored, expiry, message });
        queue.all_loaded(NOW, ends);
    };
    // The second is spilled: its permit is returned.
    assert_eq!(permit(&mut queue, &mut ends, 1, 2), 1);
    assert_eq!((ends.bodies(), ends.asks.len(), ends.fetched), (list(&[(1, "a")]), 1, 1));
    bring(&mut queue, &mut ends);
    assert_eq!(ends.asks.len(), 2);
    assert_eq!(permit(&mut queue, &mut ends, 1, 1), 0);
    assert_eq!((ends.bodies(), ends.fetched), (list(&[(1, "b")]), 2));
}

#[test]
fn a_limit_set_and_lifted_reaches_the_consumers_that_are_there() {
    let (mut queue, mut ends) = (queue(), Stub::default());
    queue.consume(free(1), NOW);
    push(&mut queue, &mut ends, &["a"]);
    queue.limit(ChannelId(1), true, NOW, &mut ends);
    finish(&mut queue, &mut ends);
    push(&mut queue, &mut ends, &["b", "c"]);
    assert_eq!(ends.bodies(), list(&[(1, "a")]));
    permit(&mut queue, &mut ends, 1, 0);
    queue.limit(ChannelId(1), false, NOW, &mut ends);
    finish(&mut queue, &mut ends);
    assert_eq!(ends.bodies(), list(&[(1, "b"), (1, "c")]));
    assert_eq!(permit(&mut queue, &mut ends, 1, 1), 1);
}

#[test]
fn a_queue_that_cannot_be_read_is_out_of_service_until_it_is_purged() {
    let (mut queue, mut ends) = (queue(), Stub::default());
    push(&mut queue, &mut ends, &["a", "b", "c"]);
    queue.consume(free(1), NOW);
    queue.dispatch(NOW, &mut ends);
    queue.cancel(ConsumerId(1), NOW, &mut ends);
    queue.settle_up_to(ChannelId(1), u64::MAX, Settle::Requeue, NOW, &mut ends);
    finish(&mut queue, &mut ends);
    push(&mut queue, &mut ends, &["d", "e"]);
    queue.spill(0, usize::MAX, NOW, &mut ends);
    ends.closed = Some(ConnId(1));
    queue.consume(free(1), NOW);
    let (consumers, gets) = queue.break_down(NOW, &mut ends);
    assert_eq!((consumers.len(), gets.len()), (1, 0));
    assert_eq!((queue.consumers().len(), queue.ready(), queue.broken()), (0, 5, true));
    push(&mut queue, &mut ends, &["f"]);
    assert_eq!((ends.refused, queue.ready()), (1, 5));
    ends.closed = None;
    queue.consume(free(2), NOW);
    queue.dispatch(NOW, &mut ends);
    ends.bodies();
    assert_eq!(queue.purge(NOW, &mut ends), 5);
    push(&mut queue, &mut ends, &["g"]);
    assert_eq!((ends.bodies(), ends.refused, queue.broken()), (list(&[(2, "g")]), 1, false));
}

#[test]
fn a_message_that_may_not_live_waits_for_the_permit_that_it_caused() {
    let zero_ttl = EffectiveArguments { message_ttl_ms: Some(0), ..EffectiveArguments::default() };
    let no_room = EffectiveArguments { max_length: Some(0), ..EffectiveArguments::default() };
    for (arguments, permits) in [(&zero_ttl, 1), (&zero_ttl, 0), (&no_room, 1), (&no_room, 0)] {
        let (mut queue, mut ends) = (queue(), Stub::default());
        queue.reconfigure(arguments.clone(), NOW, &mut ends);
        queue.consume(consumer(1), NOW);
        push(&mut queue, &mut ends, &["a"]);
        queue.tick(NOW, &mut ends);
        assert_eq!((queue.counted(), queue.next_deadline_us()), (1, None), "{arguments:?}");
        permit(&mut queue, &mut ends, 1, permits);
        let delivered = ends.delivered.len() as u32;
        assert_eq!((delivered, queue.counted()), (permits, 0), "{arguments:?}");
    }
}

#[test]
fn a_message_that_may_not_live_takes_a_permit_that_is_given_at_once() {
    let (mut queue, mut ends) = (queue(), Stub { at_once: Some(1), ..Stub::default() });
    let zero_ttl = EffectiveArguments { message_ttl_ms: Some(0), ..EffectiveArguments::default() };
    queue.reconfigure(zero_ttl, NOW, &mut ends);
    queue.consume(consumer(1), NOW);
    push(&mut queue, &mut ends, &["a", "b"]);
    assert_eq!((ends.bodies(), queue.counted()), (list(&[(1, "a")]), 0));
}

#[test]
fn a_get_that_waits_is_answered_when_the_last_messages_expire() {
    let (mut queue, mut ends) = (queue(), Stub::default());
    let found = RestoredMessages { messages: 2, next_seq: 3, expires: true, ..Default::default() };
    queue.restore(found);
    queue.get(get(7, 1, usize::MAX), NOW, &mut ends);
    queue.get(get(8, 1, usize::MAX), NOW, &mut ends);
    for (seq, expiry) in [(1, Expiry::NEVER), (2, Expiry::at_ms(5))] {
        let (mut draft, stored) = (draft("m", 2, 0), Stored::SPILLED);
        queue.loaded(Spilled { seq, redelivered: false, stored, expiry, message: draft.message() });
    }
    queue.all_loaded(Now { monotonic_us: 10_000, wall_ms: 10 }, &mut ends);
    assert_eq!((ends.got.len(), ends.empty, queue.ready()), (1, 1, 0));
}

#[test]
fn a_get_that_waits_for_what_cannot_be_read_is_given_back() {
    let (mut queue, mut ends) = (queue(), Stub::default());
    queue.restore(RestoredMessages { messages: 2, next_seq: 3, ..RestoredMessages::default() });
    queue.get(get(7, 1, usize::MAX), NOW, &mut ends);
    assert_eq!(ends.fetched, 1);
    let (consumers, gets) = queue.break_down(NOW, &mut ends);
    assert_eq!((consumers.len(), gets.len(), ends.empty), (0, 1, 0));
    queue.freeze(NOW, &mut ends);
    push(&mut queue, &mut ends, &["a"]);
    assert_eq!((ends.refused, queue.break_down(NOW, &mut ends)), (0, Default::default()));
}

#[test]
fn who_cannot_be_sent_a_header_loses_its_turn_and_the_message_stays() {
    for no_ack in [false, true] {
        let (mut queue, mut ends) = (queue(), Stub::default());
        let narrow = |id| ConsumerSpec { no_ack, properties_max: 100, ..free(id) };
        queue.consume(narrow(1), NOW);
        for (key, bytes) in [("fits", 100), ("large", 101), ("behind", 100)] {
            queue.push(with_properties(key, bytes).message(), NOW, &mut ends);
        }
        assert_eq!(ends.bodies(), list(&[(1, "fits")]));
        let (conn, channel) = (ConnId(1), ChannelId(1));
        let unfit = |way| Unfit { conn, channel, way, properties: 101 };
        assert_eq!(std::mem::take(&mut ends.unfit), [unfit(Way::Deliver)]);
        // It is one of the queue's consumers until its channel is closed, and is sent nothing.
        assert_eq!((queue.ready(), queue.consumers().len()), (2, 1));
        queue.get(get(1, 1, 100), NOW, &mut ends);
        assert_eq!(std::mem::take(&mut ends.unfit), [unfit(Way::Get)]);
        queue.settle_up_to(channel, u64::MAX, Settle::Ack, NOW, &mut ends);
        finish(&mut queue, &mut ends);
        queue.reopen(conn, NOW, &mut ends);
        assert_eq!((queue.ready(), ends.bodies()), (2, list(&[])));
        // Others get what it could not be sent, in order and not as redelivered.
        queue.get(get(2, 2, 101), NOW, &mut ends);
        assert_eq!(ends.got, ["large"]);
        queue.consume(narrow(2), NOW);
        queue.dispatch(NOW, &mut ends);
        assert_eq!(ends.delivered.last(), Some(&(2, "behind".to_string(), false)));
        assert!(ends.unfit.is_empty());
        queue.channel_gone(channel, NOW, &mut ends);
        finish(&mut queue, &mut ends);
        assert_eq!(queue.consumers().len(), 1);
    }
}

#[test]
fn what_the_active_consumer_held_goes_to_the_next_one() {
    let (mut queue, mut ends) = (queue(), Stub::default());
    let single = EffectiveArguments { single_active_consumer: true, ..Default::default() };
    queue.reconfigure(single, NOW, &mut ends);
    (1..=3).for_each(|id| queue.consume(free(id), NOW));
    push(&mut queue, &mut ends, &["a", "b"]);
    assert_eq!(ends.bodies(), list(&[(1, "a"), (1, "b")]));
    assert_eq!(queue.snapshot().active.map(|active| active.consumer), Some(ConsumerId(1)));
    queue.channel_gone(ChannelId(1), NOW, &mut ends);
    finish(&mut queue, &mut ends);
    assert_eq!(ends.bodies(), list(&[(2, "a"), (2, "b")]));
    assert_eq!(queue.snapshot().active.map(|active| active.channel), Some(ChannelId(2)));
    // What a cancelled one holds stays with its channel.
    queue.cancel(ConsumerId(2), NOW, &mut ends);
    push(&mut queue, &mut ends, &["c"]);
    assert_eq!((ends.bodies(), queue.unacked()), (list(&[(3, "c")]), 3));
    queue.cancel(ConsumerId(3), NOW, &mut ends);
    assert_eq!(queue.snapshot().active, None);
}

#[test]
fn what_is_put_back_comes_in_order_however_many_turns_that_takes() {
    let (mut queue, mut ends) = (queue(), Stub::default());
    let keys = ["a", "b", "c", "d", "e", "f"];
    push(&mut queue, &mut ends, &keys);
    queue.consume(ConsumerSpec { prefetch: 4, ..free(1) }, NOW);
    queue.dispatch(NOW, &mut ends);
    queue.consume(ConsumerSpec { no_ack: true, ..free(2) }, NOW);
    ends.bodies();
    queue.settle_up_to(ChannelId(1), u64::MAX, Settle::Requeue, NOW, &mut ends);
    for left in [3, 2, 1, 0] {
        assert_eq!(queue.go_on(1, NOW, &mut ends).used, 1);
        // Nothing overtakes what has yet to come back, not even for another consumer.
        queue.dispatch(NOW, &mut ends);
        queue.reopen(ConnId(2), NOW, &mut ends);
        push(&mut queue, &mut ends, &["later"]);
        assert_eq!((queue.unacked(), ends.bodies(), queue.withholds()), (left, list(&[]), true));
    }
    finish(&mut queue, &mut ends);
    let order: Vec<_> = ends.delivered.iter().map(|(_, key, again)| (&key[..], *again)).collect();
    let first = keys.map(|key| (key, key < "e"));
    assert_eq!((&order[..6], order.len()), (&first[..], 10));
}

#[test]
fn a_channel_with_many_consumers_goes_in_pieces() {
    let (mut queue, mut ends) =
        (ClassicQueue::new(QueueId(1), false, true, Seed::new(1)), Stub::default());
    for id in 1..=1000 {
        queue.consume(ConsumerSpec { channel: ChannelId(id % 2), ..free(id) }, NOW);
    }
    let mut unused = 0;
    for channel in [0, 1] {
        queue.channel_gone(ChannelId(channel), NOW, &mut ends);
        while queue.unfinished() {
            let progress = queue.go_on(100, NOW, &mut ends);
            assert!(progress.used <= 100);
            unused += u32::from(progress.unused);
        }
        assert_eq!(queue.consumers().len() as u64, 500 * (1 - channel));
    }
    assert_eq!((unused, queue.frozen()), (1, true));
}

#[test]
fn a_purge_is_seen_at_once_and_its_memory_goes_in_pieces() {
    let (mut queue, mut ends) = (queue(), Stub::default());
    (0..1000).for_each(|_| push(&mut queue, &mut ends, &["purged"]));
    let before = queue.pinned();
    assert_eq!((queue.purge(NOW, &mut ends), queue.ready()), (1000, 0));
    push(&mut queue, &mut ends, &["new"]);
    queue.consume(free(1), NOW);
    queue.dispatch(NOW, &mut ends);
    assert_eq!(ends.bodies(), list(&[(1, "new")]));
    let mut turns = 0;
    while queue.unfinished() {
        assert!(queue.go_on(100, NOW, &mut ends).used <= 100);
        turns += 1;
    }
    assert!(turns >= 10 && queue.pinned() < before / 2, "{turns}, {}", queue.pinned());
}

#[test]
fn many_deliveries_go_in_pieces() {
    let (mut queue, mut ends) = (queue(), Stub::default());
    (0..1000).for_each(|_| push(&mut queue, &mut ends, &["many"]));
    queue.consume(free(1), NOW);
    queue.dispatch(NOW, &mut ends);
    let first = ends.bodies().len();
    assert!(first < 100, "{first} were delivered at once");
    while queue.unfinished() {
        queue.go_on(10, NOW, &mut ends);
        assert!(ends.bodies().len() <= 10);
    }
    assert_eq!(queue.unacked(), 1000);
}

#[test]
fn a_queue_that_is_dropped_goes_in_pieces() {
    let (mut queue, mut ends) =
        (ClassicQueue::new(QueueId(1), true, false, Seed::new(1)), Stub::default());
    ends.batch = 1;
    for _ in 0..1000 {
        queue.push(draft("a", 2, 0).message(), NOW, &mut ends);
    }
    (1..=100).for_each(|id| queue.consume(ConsumerSpec { prefetch: 1, ..free(id) }, NOW));
    queue.dispatch(NOW, &mut ends);
    queue.freeze(NOW, &mut ends);
    queue.let_go(NOW, &mut ends);
    while queue.unfinished() {
        let before = ends.let_go;
        queue.go_on(100, NOW, &mut ends);
        assert!(ends.let_go - before <= 100);
    }
    assert_eq!((ends.let_go, ends.settled.len()), (1000, 0));
    assert_eq!(std::iter::from_fn(|| queue.take_consumer()).count(), 100);
}
