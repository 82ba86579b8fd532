//! A queue that is held back while memory is short: its consumers still go on, each in its turn.

use crate::ids::{ChannelId, ConnId, ConsumerId};
use crate::queue::Settle;
use crate::queue::classic::ClassicQueue;
use crate::queue::classic::tests::consumers_test::{NOW, free, get, large, list, push, queue};
use crate::queue::consumer::ConsumerSpec;
use crate::queue::stub::Stub;

/// A queue that is held back, with so many consumers.
fn held(consumers: u64) -> (ClassicQueue, Stub) {
    let mut queue = queue();
    (1..=consumers).for_each(|id| queue.consume(free(id), NOW));
    queue.hold_back(true);
    (queue, Stub::default())
}

fn push_large(queue: &mut ClassicQueue, ends: &mut Stub, keys: &[&str]) {
    for key in keys {
        queue.push(large(key).message(), NOW, ends);
    }
}

/// The consumer acknowledges the last delivery of all; what that leads to.
fn acked(queue: &mut ClassicQueue, ends: &mut Stub, consumer: u64) -> Vec<(u64, String)> {
    let number = *ends.numbers.last().unwrap();
    queue.settle(ChannelId(consumer), number, Settle::Ack, NOW, ends);
    queue.dispatch(NOW, ends);
    ends.bodies()
}

#[test]
fn consumers_get_one_small_message_at_a_time() {
    let (mut queue, mut ends) = held(2);
    push(&mut queue, &mut ends, &["a", "b", "c", "d"]);
    assert_eq!(ends.bodies(), list(&[(1, "a"), (2, "b")]));
    assert_eq!(acked(&mut queue, &mut ends, 2), list(&[(2, "c")]));
    assert!(queue.unsettled_bytes() > 0);
    queue.hold_back(false);
    queue.dispatch(NOW, &mut ends);
    assert_eq!(ends.bodies().len(), 1);
}

/// Three consumers and large messages: one of them at a time is delivered, in turn.
fn one_at_a_time() -> Vec<(u64, String)> {
    let (mut queue, mut ends) = held(3);
    push_large(&mut queue, &mut ends, &["a", "b", "c", "d"]);
    let mut all = ends.bodies();
    for consumer in 1..=3 {
        all.extend(acked(&mut queue, &mut ends, consumer));
    }
    all
}

#[test]
fn consumers_get_one_large_message_at_a_time_in_turn() {
    assert_eq!(one_at_a_time(), list(&[(1, "a"), (2, "b"), (3, "c"), (1, "d")]));
}

#[cfg(feature = "mutants")]
#[test]
fn a_turn_that_is_forgotten_is_found() {
    use crate::mutant::{self, Mutant};
    mutant::select(Some(Mutant::LargeTurnForgotten));
    let all = one_at_a_time();
    mutant::select(None);
    assert_eq!(all[1], (1, "b".into()), "the one that settles is served again at once");
}

#[test]
fn consumers_go_on_in_turn_when_there_is_room() {
    let (mut queue, mut ends) = held(3);
    push_large(&mut queue, &mut ends, &["a", "b", "c"]);
    assert_eq!(ends.bodies(), list(&[(1, "a")]));
    queue.hold_back(false);
    queue.dispatch(NOW, &mut ends);
    assert_eq!(ends.bodies(), list(&[(2, "b"), (3, "c")]));
}

#[test]
fn who_holds_something_keeps_no_large_message_from_the_others() {
    let (mut queue, mut ends) = held(3);
    push(&mut queue, &mut ends, &["a"]);
    push_large(&mut queue, &mut ends, &["b", "c"]);
    assert_eq!(ends.bodies(), list(&[(1, "a"), (2, "b")]));
    assert_eq!(acked(&mut queue, &mut ends, 2), list(&[(3, "c")]));
}

#[test]
fn consumers_do_not_wait_for_a_large_message_that_is_gone() {
    let (mut queue, mut ends) = held(2);
    push_large(&mut queue, &mut ends, &["a", "b"]);
    assert_eq!(ends.bodies(), list(&[(1, "a")]));
    queue.get(get(1, 9, usize::MAX), NOW, &mut ends);
    push(&mut queue, &mut ends, &["c"]);
    assert_eq!((ends.got.len(), ends.bodies()), (1, list(&[(2, "c")])));
}

#[test]
fn one_that_never_acknowledges_waits_for_its_credit_alone() {
    let (mut queue, mut ends) = held(1);
    queue.consume(ConsumerSpec { no_ack: true, ..free(2) }, NOW);
    push_large(&mut queue, &mut ends, &["a"]);
    ends.no_large = true;
    push_large(&mut queue, &mut ends, &["b"]);
    assert_eq!(ends.bodies(), list(&[(1, "a")]));
    ends.no_large = false;
    queue.reopen(ConnId(2), NOW, &mut ends);
    assert_eq!(ends.bodies(), list(&[(2, "b")]));
}

#[test]
fn consumers_that_left_are_not_remembered() {
    let (mut queue, mut ends) = held(1);
    push_large(&mut queue, &mut ends, &["a", "b"]);
    for id in 2..1000 {
        queue.consume(free(id), NOW);
        queue.dispatch(NOW, &mut ends);
        queue.cancel(ConsumerId(id), NOW, &mut ends);
    }
    assert!(queue.consumers().barred() < 64);
    queue.consume(free(1000), NOW);
    queue.dispatch(NOW, &mut ends);
    assert_eq!((ends.bodies(), queue.ready()), (list(&[(1, "a")]), 1));
    assert_eq!(acked(&mut queue, &mut ends, 1), list(&[(1000, "b")]));
}
