//! A queue whose consumers' channels are limited: what waits for a permit stays in its place.

use crate::consumer::{Ask, ConsumerSpec};
use crate::hash::Seed;
use crate::ids::{ChannelId, ConnId, ConsumerId, QueueId, Ticket};
use crate::message::{Draft, Message};
use crate::queue::{Delivery, Get, Outlet, Queue, Settle, Spilled};
use crate::stored::Stored;

/// Remembers what the queue does; answers asks when it is told to, or at once.
#[derive(Default)]
struct Ends {
    asks: Vec<Ask>,
    /// Permits that are given at once; `None`: the answer comes later.
    at_once: Option<u32>,
    /// Consumer, body and the redelivered flag.
    delivered: Vec<(u64, String, bool)>,
    numbers: Vec<u64>,
    got: Vec<String>,
    empty: usize,
    refused: usize,
    fetched: usize,
    spilled: Vec<(u64, Vec<u8>)>,
    closed: Option<ConnId>,
}

fn text(message: Message<'_>) -> String {
    message.routing_key().to_string()
}

impl Outlet for Ends {
    fn open(&mut self, _: QueueId, conn: ConnId) -> bool {
        self.closed != Some(conn)
    }
    fn ask(&mut self, _: QueueId, ask: Ask) -> Option<u32> {
        self.asks.push(ask);
        let given = self.at_once.map(|given| given.min(1));
        self.at_once = self.at_once.map(|left| left.saturating_sub(1));
        given
    }
    fn deliver(&mut self, Delivery { to, message }: Delivery<'_>) {
        self.delivered.push((to.consumer.0, text(message), to.redelivered));
        self.numbers.push(to.number);
    }
    fn got(&mut self, _: Ticket, _: u32, delivery: Delivery<'_>) {
        self.got.push(text(delivery.message));
    }
    fn empty(&mut self, _: Ticket) {
        self.empty += 1;
    }
    fn refuse(&mut self) {
        self.refused += 1;
    }
    fn log(&mut self, _: QueueId, _: u64, _: Message<'_>) -> Stored {
        Stored::NOWHERE
    }
    fn write_through(&mut self, _: QueueId, _: u64, _: Message<'_>) -> bool {
        false
    }
    fn log_again(&mut self, _: QueueId, _: u64, old: Stored, _: Message<'_>) -> Stored {
        old
    }
    fn settled(&mut self, _: QueueId, _: u64, _: Stored) {}
    fn let_go(&mut self, _: Stored) {}
    fn spill(&mut self, _: QueueId, spilled: Spilled<'_>) {
        self.spilled.push((spilled.seq, spilled.message.record().to_vec()));
    }
    fn fetch(&mut self, _: QueueId) {
        self.fetched += 1;
    }
    fn purge(&mut self, _: QueueId) {}
}

impl Ends {
    /// What consumers got since the last look.
    fn bodies(&mut self) -> Vec<(u64, String)> {
        self.delivered.drain(..).map(|(consumer, body, _)| (consumer, body)).collect()
    }

    fn ask_of(&self, consumer: u64) -> Ask {
        *self.asks.iter().rfind(|ask| ask.consumer.0 == consumer).unwrap()
    }
}

fn queue() -> Queue {
    Queue::new(QueueId(1), false, false, Seed::new(1))
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
        limited: true,
    }
}

fn free(id: u64) -> ConsumerSpec {
    ConsumerSpec { limited: false, ..consumer(id) }
}

fn push(queue: &mut Queue, ends: &mut Ends, keys: &[&str]) {
    for key in keys {
        let mut draft = Draft::default();
        draft.begin("", key);
        draft.header(amqp::Properties::EMPTY, 1, 0, 0);
        queue.push(draft.message(), ends);
    }
}

fn permit(queue: &mut Queue, ends: &mut Ends, consumer: u64, count: u32) -> u32 {
    let ask = ends.ask_of(consumer);
    queue.permitted(ask.slot, ask.consumer, count, ends)
}

fn list(bodies: &[(u64, &str)]) -> Vec<(u64, String)> {
    bodies.iter().map(|(consumer, body)| (*consumer, (*body).to_string())).collect()
}

#[test]
fn a_message_waits_in_its_place_until_the_permit_comes() {
    let (mut queue, mut ends) = (queue(), Ends::default());
    queue.consume(consumer(1));
    push(&mut queue, &mut ends, &["a", "b"]);
    assert_eq!((ends.asks.len(), queue.ready()), (1, 2));
    assert_eq!(permit(&mut queue, &mut ends, 1, 1), 0);
    assert_eq!(ends.delivered, [(1, "a".to_string(), false)]);
    // It asks for the next at once.
    assert_eq!((ends.asks.len(), queue.ready(), queue.unacked()), (2, 1, 1));
    assert_eq!(permit(&mut queue, &mut ends, 1, 0), 0);
    queue.settle(ChannelId(1), ends.numbers[0], Settle::Requeue, &mut ends);
    queue.dispatch(&mut ends);
    assert_eq!(permit(&mut queue, &mut ends, 1, 2), 0);
    let again = [("a".to_string(), true), ("b".to_string(), false)];
    let seen = ends.delivered[1..].iter().map(|(_, body, flag)| (body.clone(), *flag));
    assert_eq!(seen.collect::<Vec<_>>(), again);
}

#[test]
fn one_who_waits_does_not_stop_the_others() {
    let (mut queue, mut ends) = (queue(), Ends::default());
    queue.consume(consumer(1));
    queue.consume(free(2));
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
    let (mut queue, mut ends) = (queue(), Ends::default());
    queue.consume(consumer(1));
    queue.consume(consumer(2));
    push(&mut queue, &mut ends, &["a"]);
    assert_eq!(permit(&mut queue, &mut ends, 1, 0), 0);
    assert_eq!(ends.asks.len(), 2);
    assert_eq!(permit(&mut queue, &mut ends, 1, 1), 0);
    assert_eq!(ends.bodies(), list(&[(1, "a")]));
    assert_eq!(permit(&mut queue, &mut ends, 2, 1), 1);
}

#[test]
fn a_message_that_is_kept_can_be_got_and_purged() {
    let (mut queue, mut ends) = (queue(), Ends::default());
    queue.consume(consumer(1));
    push(&mut queue, &mut ends, &["a", "b"]);
    let get = Get { ticket: Ticket(1), conn: ConnId(9), channel: ChannelId(9), no_ack: true };
    queue.get(get, &mut ends);
    assert_eq!((ends.got.clone(), queue.purge(&mut ends)), (vec!["a".to_string()], 1));
    assert_eq!(permit(&mut queue, &mut ends, 1, 1), 1);
    // A message of those who need no permit waits no more for the answer that came.
    queue.consume(ConsumerSpec { no_ack: true, ..free(2) });
    push(&mut queue, &mut ends, &["c", "d"]);
    permit(&mut queue, &mut ends, 1, 0);
    assert_eq!(ends.bodies(), list(&[(2, "c"), (2, "d")]));
}

#[test]
fn a_lower_one_waits_for_the_answer_to_a_higher_one() {
    let (mut queue, mut ends) = (queue(), Ends::default());
    queue.consume(ConsumerSpec { no_ack: true, ..free(1) });
    queue.consume(ConsumerSpec { priority: 1, ..consumer(2) });
    push(&mut queue, &mut ends, &["a", "b", "c"]);
    assert_eq!(ends.bodies(), []);
    permit(&mut queue, &mut ends, 2, 1);
    assert_eq!(ends.bodies(), list(&[(2, "a")]));
    permit(&mut queue, &mut ends, 2, 0);
    assert_eq!(ends.bodies(), list(&[(1, "b"), (1, "c")]));
}

#[test]
fn answers_at_once_keep_the_turns() {
    let (mut queue, mut ends) = (queue(), Ends::default());
    ends.at_once = Some(5);
    (1..=3).for_each(|id| queue.consume(consumer(id)));
    push(&mut queue, &mut ends, &["a", "b", "c", "d", "e", "f"]);
    assert_eq!(ends.bodies(), list(&[(1, "a"), (2, "b"), (3, "c"), (1, "d"), (2, "e")]));
    assert_eq!(queue.ready(), 1);
}

#[test]
fn a_permit_for_one_without_credit_or_without_a_queue_is_of_no_use() {
    let (mut queue, mut ends) = (queue(), Ends::default());
    queue.consume(consumer(1));
    push(&mut queue, &mut ends, &["a"]);
    ends.closed = Some(ConnId(1));
    assert_eq!(permit(&mut queue, &mut ends, 1, 2), 2);
    ends.closed = None;
    queue.reopen(ConnId(1), &mut ends);
    assert_eq!(ends.asks.len(), 2);
    queue.freeze();
    assert_eq!(permit(&mut queue, &mut ends, 1, 1), 1);
    assert_eq!(ends.bodies(), []);
}

#[test]
fn what_is_away_is_loaded_before_permits_are_asked_for() {
    let (mut queue, mut ends) = (queue(), Ends::default());
    push(&mut queue, &mut ends, &["a", "b", "c"]);
    queue.spill(0, usize::MAX, &mut ends);
    queue.consume(consumer(1));
    queue.dispatch(&mut ends);
    // The first stays at hand, or its permit might never meet it.
    assert_eq!((ends.asks.len(), ends.fetched), (1, 0));
    let bring = |queue: &mut Queue, ends: &mut Ends| {
        let (seq, record) = ends.spilled.remove(0);
        let message = Message::new(&record, None);
        let stored = Stored::SPILLED;
        queue.loaded(Spilled { seq, redelivered: false, stored, message });
        queue.brought(ends);
    };
    // The second is away: its permit goes back.
    assert_eq!(permit(&mut queue, &mut ends, 1, 2), 1);
    assert_eq!((ends.bodies(), ends.asks.len(), ends.fetched), (list(&[(1, "a")]), 1, 1));
    bring(&mut queue, &mut ends);
    assert_eq!(ends.asks.len(), 2);
    assert_eq!(permit(&mut queue, &mut ends, 1, 1), 0);
    assert_eq!((ends.bodies(), ends.fetched), (list(&[(1, "b")]), 2));
}

#[test]
fn a_limit_set_and_lifted_reaches_the_consumers_that_are_there() {
    let (mut queue, mut ends) = (queue(), Ends::default());
    queue.consume(free(1));
    push(&mut queue, &mut ends, &["a"]);
    queue.limit(ChannelId(1), true, &mut ends);
    push(&mut queue, &mut ends, &["b", "c"]);
    assert_eq!(ends.bodies(), list(&[(1, "a")]));
    permit(&mut queue, &mut ends, 1, 0);
    queue.limit(ChannelId(1), false, &mut ends);
    assert_eq!(ends.bodies(), list(&[(1, "b"), (1, "c")]));
    assert_eq!(permit(&mut queue, &mut ends, 1, 1), 1);
}

#[test]
fn a_queue_that_cannot_be_read_is_out_of_service_until_it_is_purged() {
    let (mut queue, mut ends) = (queue(), Ends::default());
    push(&mut queue, &mut ends, &["a", "b", "c"]);
    queue.consume(free(1));
    queue.dispatch(&mut ends);
    queue.cancel(ConsumerId(1));
    queue.settle_up_to(ChannelId(1), u64::MAX, Settle::Requeue, &mut ends);
    push(&mut queue, &mut ends, &["d", "e"]);
    queue.spill(0, usize::MAX, &mut ends);
    ends.closed = Some(ConnId(1));
    queue.consume(free(1));
    let (consumers, gets) = queue.break_down();
    assert_eq!((consumers.len(), gets.len()), (1, 0));
    assert_eq!((queue.consumers().len(), queue.ready(), queue.broken()), (0, 5, true));
    push(&mut queue, &mut ends, &["f"]);
    assert_eq!((ends.refused, queue.ready()), (1, 5));
    ends.closed = None;
    queue.consume(free(2));
    queue.dispatch(&mut ends);
    ends.bodies();
    assert_eq!(queue.purge(&mut ends), 5);
    push(&mut queue, &mut ends, &["g"]);
    assert_eq!((ends.bodies(), ends.refused, queue.broken()), (list(&[(2, "g")]), 1, false));
}

#[test]
fn a_get_that_waits_for_what_cannot_be_read_is_given_back() {
    let (mut queue, mut ends) = (queue(), Ends::default());
    queue.restore(2, 3);
    let (ticket, conn, channel) = (Ticket(7), ConnId(1), ChannelId(1));
    queue.get(Get { ticket, conn, channel, no_ack: true }, &mut ends);
    assert_eq!(ends.fetched, 1);
    let (consumers, gets) = queue.break_down();
    assert_eq!((consumers.len(), gets.len(), ends.empty), (0, 1, 0));
    queue.freeze();
    push(&mut queue, &mut ends, &["a"]);
    assert_eq!((ends.refused, queue.break_down()), (0, Default::default()));
}
