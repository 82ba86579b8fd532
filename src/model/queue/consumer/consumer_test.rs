//! Whose turn it is, and what permits do to it.

use crate::ids::{ChannelId, ConnId, ConsumerId};
use crate::queue::consumer::*;

fn spec(id: u64, priority: i64) -> ConsumerSpec {
    ConsumerSpec {
        id: ConsumerId(id),
        conn: ConnId(id),
        channel: ChannelId(id),
        no_ack: false,
        prefetch: 0,
        exclusive: false,
        priority,
        limited: false,
        timeout_ms: None,
        properties_max: usize::MAX,
    }
}

fn consumers(priorities: &[i64]) -> Consumers {
    let mut consumers = Consumers::default();
    (1..).zip(priorities).for_each(|(id, priority)| consumers.add(spec(id, *priority)));
    consumers
}

/// Who is sent the next messages.
fn served(consumers: &mut Consumers, count: usize) -> Vec<u64> {
    let mut served = Vec::new();
    for _ in 0..count {
        let Some((slot, consumer)) = consumers.next(|_| true) else { break };
        served.push(consumer.id.0);
        consumers.sent(slot);
    }
    served
}

#[test]
fn equals_take_turns() {
    assert_eq!(served(&mut consumers(&[0, 0, 0]), 7), [1, 2, 3, 1, 2, 3, 1]);
    assert_eq!(served(&mut consumers(&[1, 9, 9, 0]), 5), [2, 3, 2, 3, 2]);
}

#[test]
fn lower_ones_are_served_while_higher_ones_are_full_or_without_credit() {
    let mut consumers = consumers(&[-1, 0]);
    consumers.add(ConsumerSpec { prefetch: 2, ..spec(3, i64::MAX) });
    assert_eq!(served(&mut consumers, 4), [3, 3, 2, 2]);
    consumers.settled(2, ConsumerId(3));
    assert_eq!(served(&mut consumers, 2), [3, 2]);
    let next = consumers.next(|conn| conn != ConnId(2)).map(|(_, consumer)| consumer.id);
    assert_eq!(next, Some(ConsumerId(1)));
    consumers.reopen(ConnId(2));
    assert_eq!(served(&mut consumers, 1), [2]);
    assert!(consumers.remove(ConsumerId(2)) && consumers.remove(ConsumerId(3)));
    assert_eq!(served(&mut consumers, 2), [1, 1]);
}

#[test]
fn who_asks_steps_aside_and_messages_are_kept_for_it() {
    let mut consumers = consumers(&[0, 0, 5]);
    let ask = consumers.ask(2, 6).map(|ask| (ask.consumer, ask.count));
    assert_eq!(ask, Some((ConsumerId(3), 6)));
    assert_eq!((consumers.reserved(), consumers.outranked(0)), (6, true));
    // None: the others are served until there are some.
    assert!(consumers.permitted(2, ConsumerId(3), 0));
    assert_eq!((consumers.reserved(), consumers.outranked(0)), (0, false));
    assert_eq!(served(&mut consumers, 2), [1, 2]);
    assert!(consumers.permitted(2, ConsumerId(3), 2));
    assert_eq!(consumers.next(|_| true).map(|(slot, _)| slot), Some(2));
    assert!(consumers.spend(2));
    assert_eq!((consumers.unused(2), consumers.spend(2)), (1, false));
}

#[test]
fn what_is_asked_for_is_a_fair_share() {
    let mut consumers = consumers(&[0, 0, 0]);
    let count = |consumers: &mut Consumers, slot, ready| {
        consumers.ask(slot, ready).map_or(0, |ask| ask.count)
    };
    assert_eq!(count(&mut consumers, 0, 9), 3);
    assert_eq!(count(&mut consumers, 1, 9), 3);
    assert_eq!(count(&mut consumers, 2, 1000), ASK_MAX);
    assert_eq!(consumers.reserved(), 6 + ASK_MAX);
}

#[test]
fn answers_for_one_that_is_gone_are_of_no_use() {
    let mut consumers = consumers(&[0]);
    consumers.ask(0, 3);
    consumers.clear();
    assert_eq!(consumers.reserved(), 0);
    assert!(!consumers.permitted(0, ConsumerId(1), 3));
    consumers.add(spec(2, 0));
    assert!(!consumers.permitted(0, ConsumerId(1), 3));
    // One that did not ask.
    assert!(!consumers.permitted(0, ConsumerId(2), 3));
}

#[test]
fn a_lifted_limit_puts_those_who_wait_back() {
    let mut consumers = consumers(&[0, 0]);
    assert_eq!(consumers.limit(ChannelId(1), true, 0), Some(1));
    consumers.ask(0, 3);
    assert_eq!(consumers.limit(ChannelId(1), true, 0), Some(1));
    assert_eq!((consumers.reserved(), served(&mut consumers, 2)), (1, vec![2, 2]));
    assert_eq!(consumers.limit(ChannelId(1), false, 0), Some(1));
    assert_eq!(consumers.limit(ChannelId(1), false, 1), None);
    assert_eq!((consumers.reserved(), served(&mut consumers, 2)), (0, vec![2, 1]));
}

fn single(priorities: &[i64]) -> Consumers {
    let mut consumers = Consumers::default();
    consumers.set_single_active(true);
    (1..).zip(priorities).for_each(|(id, priority)| consumers.add(spec(id, *priority)));
    consumers
}

fn active(consumers: &Consumers) -> Option<u64> {
    consumers.single_active().map(|spec| spec.id.0)
}

#[test]
fn one_is_active_and_the_others_follow_in_the_order_of_registration() {
    let mut consumers = single(&[0, 0, 0, 0]);
    assert_eq!((served(&mut consumers, 3), consumers.len()), (vec![1, 1, 1], 4));
    // A slot that is used again is that of the last one.
    assert!(consumers.remove(ConsumerId(2)));
    consumers.add(spec(5, 0));
    assert!(consumers.remove(ConsumerId(1)));
    assert_eq!((active(&consumers), served(&mut consumers, 2)), (Some(3), vec![3, 3]));
    assert!(consumers.remove(ConsumerId(3)) && consumers.remove(ConsumerId(4)));
    assert_eq!(served(&mut consumers, 2), [5, 5]);
    consumers.clear();
    assert_eq!((active(&consumers), served(&mut consumers, 1)), (None, vec![]));
    consumers.add(spec(6, 0));
    assert_eq!((active(&consumers), served(&mut consumers, 1)), (Some(6), vec![6]));
}

#[test]
fn a_higher_priority_comes_first_once_the_active_one_is_gone() {
    let mut consumers = single(&[0, 3, 9, 9]);
    assert_eq!(served(&mut consumers, 2), [1, 1]);
    let order = [1, 3, 4, 2].map(|id| {
        let found = active(&consumers);
        assert!(consumers.remove(ConsumerId(id)));
        found
    });
    assert_eq!(order, [1, 3, 4, 2].map(Some));
}

#[test]
fn a_full_or_stalled_active_one_stops_the_queue() {
    let mut consumers = Consumers::default();
    consumers.set_single_active(true);
    consumers.add(ConsumerSpec { prefetch: 2, ..spec(1, 0) });
    consumers.add(spec(2, 5));
    assert_eq!(served(&mut consumers, 9), [1, 1]);
    consumers.settled(0, ConsumerId(1));
    let stalled = consumers.next(|conn| conn != ConnId(1)).map(|(_, spec)| spec.id);
    assert_eq!(stalled, None);
    consumers.reopen(ConnId(2));
    assert_eq!(served(&mut consumers, 1), []);
    consumers.reopen(ConnId(1));
    assert_eq!(served(&mut consumers, 1), [1]);
}

#[test]
fn who_waits_asks_for_no_permits() {
    let mut consumers = single(&[0, 0]);
    consumers.limit(ChannelId(1), true, 0);
    consumers.limit(ChannelId(2), true, 0);
    assert!(consumers.ask(0, 5).is_some());
    assert!(consumers.next(|_| true).is_none());
    consumers.limit(ChannelId(2), false, 0);
    assert!(!consumers.permitted(1, ConsumerId(2), 3) && consumers.next(|_| true).is_none());
    // What was reserved for the one that is gone is free for the next.
    assert!(consumers.remove(ConsumerId(1)));
    assert_eq!((consumers.reserved(), served(&mut consumers, 1)), (0, vec![2]));
}

#[test]
fn none_is_exclusive_where_one_is_active() {
    let mut consumers = single(&[]);
    assert!(consumers.admits(false) && !consumers.admits(true));
    consumers.add(spec(1, 0));
    // It is too late to change that.
    consumers.set_single_active(false);
    assert!(consumers.admits(false) && !consumers.admits(true) && active(&consumers) == Some(1));
}
