//! A shuffled queue: what is held, when it is applied, what is listed, and its storage cursor.

use crate::hash::Seed;
use crate::ids::{ChannelId, ConnId, ConsumerId, QueueId, RequestId};
use crate::message::Message;
use crate::queue::consumer::ConsumerSpec;
use crate::queue::shuffled::{HOLD_MAX_MS, HOLD_MIN_US, ShuffledQueue};
use crate::queue::stored::Stored;
use crate::queue::stub::{Stub, draft, with_properties};
use crate::queue::{
    EffectiveArguments, EnqueueEnd, Expiry, Get, RestoredMessages, Settle, Spilled, Way,
};
use crate::replay::StateHash;
use crate::time::Now;

fn at(monotonic_us: u64) -> Now {
    Now { monotonic_us, wall_ms: 0 }
}

fn queue(durable: bool) -> ShuffledQueue {
    ShuffledQueue::new(QueueId(1), durable, true, Seed::new(1))
}

fn consumer(id: u64) -> ConsumerSpec {
    ConsumerSpec {
        id: ConsumerId(id),
        conn: ConnId(id),
        channel: ChannelId(id),
        no_ack: false,
        prefetch: 0,
        exclusive: false,
        priority: 0,
        limited: false,
        timeout_ms: None,
        properties_max: usize::MAX,
    }
}

fn push(queue: &mut ShuffledQueue, stub: &mut Stub, keys: &[&str], now: Now) {
    for key in keys {
        queue.push(draft(key, 2, 10).message(), now, stub);
    }
}

/// Ticks the queue at each of its deadlines; returns the last one.
fn run(queue: &mut ShuffledQueue, stub: &mut Stub) -> u64 {
    let mut last_us = 0;
    while let Some(due_us) = queue.next_deadline_us() {
        queue.tick(at(due_us), stub);
        last_us = due_us;
    }
    last_us
}

#[test]
fn an_enqueue_is_applied_and_listed_at_its_deadline_and_not_before() {
    let (mut queue, mut stub) = (queue(false), Stub::default());
    queue.consume(consumer(1), at(0));
    push(&mut queue, &mut stub, &["a"], at(500));
    let due_us = queue.next_deadline_us().unwrap();
    assert!((500 + HOLD_MIN_US..=500 + HOLD_MAX_MS * 1000).contains(&due_us), "{due_us}");
    queue.tick(at(due_us - 1), &mut stub);
    queue.dispatch(at(due_us - 1), &mut stub);
    assert_eq!((queue.ready(), stub.held, stub.finished.len()), (0, 1, 0));
    assert_eq!((queue.snapshot().held, queue.snapshot().counters.published), (1, 0));
    queue.tick(at(due_us), &mut stub);
    assert_eq!(stub.finished, [(1, EnqueueEnd::Applied)]);
    assert_eq!(stub.bodies(), [(1, "a".to_string())]);
    assert_eq!((queue.next_deadline_us(), queue.snapshot().counters.published), (None, 1));
}

#[test]
fn enqueues_finish_out_of_order_and_come_in_that_order() {
    let (mut queue, mut stub) = (queue(false), Stub::default());
    let keys = ["1", "2", "3", "4", "5", "6", "7", "8"];
    push(&mut queue, &mut stub, &keys, at(0));
    run(&mut queue, &mut stub);
    queue.consume(consumer(1), at(0));
    queue.dispatch(at(0), &mut stub);
    let finished: Vec<String> =
        stub.finished.iter().map(|(number, _)| number.to_string()).collect();
    assert_ne!(finished, keys);
    let delivered: Vec<String> = stub.bodies().into_iter().map(|(_, key)| key).collect();
    assert_eq!(delivered, finished);
}

#[test]
fn what_is_given_back_comes_again_in_its_place() {
    let (mut queue, mut stub) = (queue(false), Stub::default());
    push(&mut queue, &mut stub, &["1", "2", "3"], at(0));
    run(&mut queue, &mut stub);
    queue.consume(consumer(1), at(0));
    queue.dispatch(at(0), &mut stub);
    let (first, numbers) = (stub.bodies(), stub.numbers.clone());
    queue.settle(ChannelId(1), numbers[1], Settle::Ack, at(0), &mut stub);
    queue.settle(ChannelId(1), numbers[1], Settle::Ack, at(0), &mut stub);
    queue.settle(ChannelId(1), numbers[2], Settle::Requeue, at(0), &mut stub);
    queue.settle(ChannelId(1), numbers[0], Settle::Requeue, at(0), &mut stub);
    queue.dispatch(at(0), &mut stub);
    assert!(stub.delivered.iter().all(|(.., redelivered)| *redelivered));
    assert_eq!(stub.bodies(), [first[0].clone(), first[2].clone()]);
    queue.settle_up_to(ChannelId(1), u64::MAX, Settle::Drop, at(0), &mut stub);
    assert_eq!((queue.ready(), queue.unacked(), queue.snapshot().counters.acked), (0, 0, 1));
}

#[test]
fn a_durable_queue_logs_what_it_applies_and_tells_of_it_until_it_is_settled() {
    let (mut queue, mut stub) = (queue(true), Stub { batch: 3, ..Stub::default() });
    push(&mut queue, &mut stub, &["a", "b"], at(0));
    assert_eq!(stub.logged, []);
    run(&mut queue, &mut stub);
    assert_eq!(stub.logged, [1, 2]);
    assert!(stub.finished.iter().all(|(_, end)| *end == EnqueueEnd::Logged));
    queue.get(get(1), at(0), &mut stub);
    stub.batch = 4;
    assert_eq!(queue.leave_log(4, 0, at(0), &mut stub), 0);
    queue.leave_log(4, 0, at(0), &mut stub);
    assert_eq!(stub.logged, [1, 2, 2]);
    assert_eq!(stub.settled, [1]);
    queue.let_go(at(0), &mut stub);
    assert_eq!(stub.let_go, 1);
}

fn get(ticket: u64) -> Get {
    let (ticket, conn, channel) = (RequestId(ticket), ConnId(1), ChannelId(1));
    Get { ticket, conn, channel, no_ack: true, properties_max: usize::MAX }
}

#[test]
fn who_cannot_be_sent_a_header_loses_its_turn_and_the_message_stays() {
    let (mut queue, mut stub) = (queue(false), Stub::default());
    queue.consume(ConsumerSpec { properties_max: 100, ..consumer(1) }, at(0));
    queue.push(with_properties("large", 101).message(), at(0), &mut stub);
    run(&mut queue, &mut stub);
    queue.get(Get { properties_max: 100, ..get(1) }, at(0), &mut stub);
    let ways: Vec<_> = stub.unfit.iter().map(|unfit| (unfit.way, unfit.properties)).collect();
    assert_eq!(ways, [(Way::Deliver, 101), (Way::Get, 101)]);
    assert_eq!((queue.ready(), queue.consumers().len(), stub.delivered.len()), (1, 1, 0));
    queue.get(Get { properties_max: 101, ..get(2) }, at(0), &mut stub);
    assert_eq!((stub.got, queue.ready()), (vec!["large".to_string()], 0));
}

#[test]
fn the_deadline_follows_the_effective_arguments() {
    let (mut queue, mut stub) = (queue(false), Stub::default());
    queue.reconfigure(
        EffectiveArguments { shuffle_max_ms: Some(1), ..EffectiveArguments::default() },
        at(0),
        &mut stub,
    );
    push(&mut queue, &mut stub, &["a", "b", "c"], at(7));
    assert_eq!(run(&mut queue, &mut stub), 7 + HOLD_MIN_US);
    queue.reconfigure(
        EffectiveArguments { shuffle_max_ms: Some(100), ..EffectiveArguments::default() },
        at(0),
        &mut stub,
    );
    push(&mut queue, &mut stub, &["a", "b", "c"], at(7));
    assert!(run(&mut queue, &mut stub) > 7 + HOLD_MAX_MS * 1000);
}

#[test]
fn each_enqueue_that_is_held_ends_once_whatever_becomes_of_the_queue() {
    let ends = |what: &dyn Fn(&mut ShuffledQueue, &mut Stub)| {
        let (mut queue, mut stub) = (queue(false), Stub::default());
        queue.consume(consumer(1), at(0));
        push(&mut queue, &mut stub, &["a", "b"], at(0));
        what(&mut queue, &mut stub);
        assert_eq!(queue.next_deadline_us(), None);
        push(&mut queue, &mut stub, &["c"], at(0));
        queue.let_go(at(0), &mut stub);
        let ends: Vec<EnqueueEnd> = stub.finished.iter().map(|(_, end)| *end).collect();
        (ends, stub.held, stub.refused)
    };
    let (applied, refused) = (vec![EnqueueEnd::Applied; 2], vec![EnqueueEnd::Refused; 2]);
    assert_eq!(ends(&|queue, stub| queue.freeze(at(0), stub)), (applied.clone(), 2, 0));
    let cancel = |queue: &mut ShuffledQueue, stub: &mut Stub| {
        assert!(queue.cancel(ConsumerId(1), at(0), stub));
    };
    assert_eq!(ends(&cancel), (applied, 2, 0));
    let break_down = |queue: &mut ShuffledQueue, stub: &mut Stub| {
        assert_eq!(queue.break_down(at(0), stub).0.len(), 1);
    };
    assert_eq!(ends(&break_down), (refused, 2, 1));
}

#[test]
fn a_purge_leaves_what_is_held() {
    let (mut queue, mut stub) = (queue(false), Stub::default());
    push(&mut queue, &mut stub, &["a"], at(0));
    let last_us = run(&mut queue, &mut stub);
    push(&mut queue, &mut stub, &["b"], at(last_us));
    assert_eq!((queue.purge(at(last_us), &mut stub), queue.ready()), (1, 0));
    run(&mut queue, &mut stub);
    queue.get(get(1), at(0), &mut stub);
    queue.get(get(2), at(0), &mut stub);
    assert_eq!((stub.got, stub.empty), (vec!["b".to_string()], 1));
    let counters = queue.snapshot().counters;
    assert_eq!((counters.got_no_ack, counters.got_empty, counters.published), (1, 1, 2));
}

#[test]
fn what_a_restart_left_is_read_back_before_all_that_entered_since() {
    let (mut queue, mut stub) = (queue(true), Stub { batch: 1, ..Stub::default() });
    queue.restore(RestoredMessages { messages: 3, next_seq: 10, ..RestoredMessages::default() });
    push(&mut queue, &mut stub, &["new"], at(0));
    run(&mut queue, &mut stub);
    queue.get(get(1), at(0), &mut stub);
    queue.get(get(2), at(0), &mut stub);
    assert_eq!((queue.ready(), stub.fetched, stub.got.len()), (4, 1, 0));
    load(&mut queue, &mut stub, &[5, 7]);
    // The head is on disk again, so it is read at once.
    assert_eq!((stub.got.clone(), stub.fetched), (texts(&["5", "7"]), 2));
    assert_eq!(stub.settled, [5, 7]);
    queue.get(get(3), at(0), &mut stub);
    assert_eq!((stub.got.len(), stub.fetched), (2, 2));
    load(&mut queue, &mut stub, &[9]);
    queue.get(get(4), at(0), &mut stub);
    assert_eq!((stub.got, stub.logged), (texts(&["5", "7", "9", "new"]), vec![10]));
}

fn texts(keys: &[&str]) -> Vec<String> {
    keys.iter().map(ToString::to_string).collect()
}

fn load(queue: &mut ShuffledQueue, stub: &mut Stub, seqs: &[u64]) {
    for seq in seqs {
        let record = draft(&seq.to_string(), 2, 0).message().record().to_vec();
        let message = Message::new(&record, None);
        let stored = Stored::SPILLED_DURABLE;
        let expiry = Expiry::NEVER;
        queue.loaded(Spilled { seq: *seq, redelivered: false, stored, expiry, message });
    }
    queue.all_loaded(at(0), stub);
}

#[test]
fn messages_leave_their_segment_and_a_purge_forgets_what_is_unread() {
    let (mut queue, mut stub) = (queue(true), Stub { batch: 1, ..Stub::default() });
    queue.restore(RestoredMessages { messages: 5, next_seq: 10, ..RestoredMessages::default() });
    queue.consume(ConsumerSpec { prefetch: 1, ..consumer(1) }, at(0));
    queue.dispatch(at(0), &mut stub);
    load(&mut queue, &mut stub, &[1, 2]);
    queue.leave_segment(1, 1, at(0), &mut stub);
    assert_eq!(stub.logged, [1]);
    assert_eq!((queue.purge(at(0), &mut stub), stub.purged, stub.settled.clone()), (4, 1, vec![2]));
    assert_eq!((queue.ready(), queue.unacked()), (0, 1));
}

#[test]
fn the_same_commands_and_times_give_the_same_state() {
    let run_of = |seed, second_us| {
        let (mut queue, mut stub) =
            (ShuffledQueue::new(QueueId(1), true, false, Seed::new(seed)), Stub::default());
        push(&mut queue, &mut stub, &["a", "b"], at(0));
        push(&mut queue, &mut stub, &["c"], at(second_us));
        queue.tick(at(2000), &mut stub);
        queue.state_hash()
    };
    assert_eq!(run_of(1, 5), run_of(2, 5));
    assert_ne!(run_of(1, 5), run_of(1, 6));
}
