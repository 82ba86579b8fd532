//! Deliveries that are not settled in time: what a classic queue tells, and when.

use crate::hash::Seed;
use crate::ids::{ChannelId, ConnId, ConsumerId, QueueId, RequestId};
use crate::queue::classic::ClassicQueue;
use crate::queue::consumer::ConsumerSpec;
use crate::queue::stub::{Stub, draft, finish};
use crate::queue::{EffectiveArguments, Get, Settle};
use crate::time::Now;

/// A delivery is at most so late, in milliseconds.
const LATE_MS: u64 = 66;

fn at(ms: u64) -> Now {
    Now { monotonic_us: 7_000_000 + ms * 1000, wall_ms: 0 }
}

fn queue(timeout_ms: Option<u64>) -> ClassicQueue {
    let mut queue = ClassicQueue::new(QueueId(1), false, false, Seed::new(1));
    let arguments = EffectiveArguments { consumer_timeout_ms: timeout_ms, ..Default::default() };
    queue.reconfigure(arguments, at(0), &mut Stub::default());
    queue
}

fn consumer(id: u64, timeout_ms: Option<u64>) -> ConsumerSpec {
    ConsumerSpec {
        id: ConsumerId(id),
        conn: ConnId(id),
        channel: ChannelId(id),
        no_ack: false,
        prefetch: 0,
        exclusive: false,
        priority: 0,
        limited: false,
        timeout_ms,
        properties_max: usize::MAX,
    }
}

fn push(queue: &mut ClassicQueue, ends: &mut Stub, ms: u64) {
    queue.push(draft("m", 1, 0).message(), at(ms), ends);
}

/// Ticks the queue whenever it wants to be, up to `ms`; what it tells: channel, number, time.
fn told(queue: &mut ClassicQueue, ends: &mut Stub, ms: u64) -> Vec<(u64, u64, u64)> {
    while let Some(due_us) = queue.next_deadline_us().filter(|due| *due <= at(ms).monotonic_us) {
        queue.tick(Now { monotonic_us: due_us, wall_ms: 0 }, ends);
        assert!(queue.next_deadline_us().is_none_or(|next| next > due_us));
    }
    ends.overdue.drain(..).map(|one| (one.channel.0, one.number, one.timeout_ms)).collect()
}

#[test]
fn the_oldest_delivery_counts_and_each_channel_for_itself() {
    let (mut queue, mut ends) = (queue(Some(1000)), Stub::default());
    queue.consume(consumer(1, None), at(0));
    queue.consume(consumer(2, None), at(0));
    [0, 100, 300, 800].into_iter().for_each(|ms| push(&mut queue, &mut ends, ms));
    assert_eq!(told(&mut queue, &mut ends, 999), []);
    assert_eq!(told(&mut queue, &mut ends, 1000 + LATE_MS), [(1, 1, 1000)]);
    queue.settle(ChannelId(2), 2, Settle::Ack, at(1070), &mut ends);
    // The channel has not ended yet: the queue keeps everything, and may ask again.
    let again = told(&mut queue, &mut ends, 1799);
    assert_eq!((again.iter().all(|one| one.0 == 1), queue.unacked()), (true, 3));
    assert!(told(&mut queue, &mut ends, 1800 + LATE_MS).contains(&(2, 4, 1000)));
    assert_eq!(told(&mut queue, &mut ends, 2999), [(1, 1, 1000), (2, 4, 1000)]);
    // Nobody is left to whom the requeued ones could go.
    queue.cancel(ConsumerId(2), at(3000), &mut ends);
    queue.channel_gone(ChannelId(1), at(3000), &mut ends);
    queue.settle_up_to(ChannelId(2), 4, Settle::Ack, at(3000), &mut ends);
    finish(&mut queue, at(3000), &mut ends);
    assert_eq!(queue.unacked(), 0);
    assert_eq!((told(&mut queue, &mut ends, 9000), queue.next_deadline_us()), (vec![], None));
}

#[test]
fn what_comes_back_has_its_time_again() {
    let (mut queue, mut ends) = (queue(Some(1000)), Stub::default());
    queue.consume(consumer(1, None), at(0));
    push(&mut queue, &mut ends, 0);
    queue.settle(ChannelId(1), 1, Settle::Requeue, at(900), &mut ends);
    queue.dispatch(at(900), &mut ends);
    assert_eq!(told(&mut queue, &mut ends, 1899), []);
    assert_eq!(told(&mut queue, &mut ends, 1900 + LATE_MS), [(1, 2, 1000)]);
}

#[test]
fn a_consumers_own_time_comes_before_that_of_the_queue() {
    let (mut queue, mut ends) = (queue(Some(1000)), Stub::default());
    queue.consume(consumer(1, Some(5000)), at(0));
    push(&mut queue, &mut ends, 0);
    // On the same channel, with the time of the queue and a shorter one.
    queue.cancel(ConsumerId(1), at(0), &mut ends);
    queue.consume(ConsumerSpec { channel: ChannelId(1), ..consumer(2, Some(200)) }, at(0));
    push(&mut queue, &mut ends, 100);
    assert_eq!(told(&mut queue, &mut ends, 299), []);
    assert_eq!(told(&mut queue, &mut ends, 300 + LATE_MS), [(1, 2, 200)]);
    queue.settle(ChannelId(1), 2, Settle::Ack, at(400), &mut ends);
    queue.cancel(ConsumerId(2), at(400), &mut ends);
    let (ticket, conn, channel) = (RequestId(1), ConnId(1), ChannelId(1));
    push(&mut queue, &mut ends, 500);
    let get = Get { ticket, conn, channel, no_ack: false, properties_max: usize::MAX };
    queue.get(get, at(500), &mut ends);
    assert_eq!(told(&mut queue, &mut ends, 1499), []);
    assert_eq!(told(&mut queue, &mut ends, 1500 + LATE_MS), [(1, 3, 1000)]);
    queue.settle(ChannelId(1), 3, Settle::Ack, at(1600), &mut ends);
    assert_eq!(told(&mut queue, &mut ends, 4999), []);
    assert_eq!(told(&mut queue, &mut ends, 5000 + LATE_MS).len(), 1);
}

#[test]
fn without_a_time_and_without_acknowledgements_there_is_no_deadline() {
    let (mut queue_off, mut ends) = (queue(None), Stub::default());
    queue_off.consume(consumer(1, None), at(0));
    push(&mut queue_off, &mut ends, 0);
    assert_eq!((queue_off.unacked(), queue_off.next_deadline_us()), (1, None));
    let mut queue = queue(Some(1));
    queue.consume(ConsumerSpec { no_ack: true, ..consumer(1, Some(1)) }, at(0));
    push(&mut queue, &mut ends, 0);
    assert_eq!(queue.next_deadline_us(), None);
    // A time beyond what can be told is none.
    queue.consume(ConsumerSpec { priority: 1, ..consumer(2, Some(u64::MAX)) }, at(0));
    push(&mut queue, &mut ends, 0);
    assert_eq!((queue.unacked(), queue.next_deadline_us()), (1, None));
}

#[test]
fn looks_are_apart_however_many_deliveries_are_due() {
    let (mut queue, mut ends) = (queue(Some(1)), Stub::default());
    queue.consume(consumer(1, Some(1_000_000)), at(0));
    queue.consume(ConsumerSpec { priority: 1, ..consumer(2, Some(1)) }, at(0));
    (0..3000).for_each(|ms| push(&mut queue, &mut ends, ms / 10));
    let mut looks = 0;
    while let Some(due_us) = queue.next_deadline_us().filter(|due| *due < at(1300).monotonic_us) {
        queue.tick(Now { monotonic_us: due_us, wall_ms: 0 }, &mut ends);
        looks += 1;
    }
    assert!((1..=20).contains(&looks), "{looks}");
}
