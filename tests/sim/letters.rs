//! Dead letters: what their headers have to tell, a scene in which messages are rejected again and
//! again, and one in which they die by themselves.

use amqp::properties::Basic;
use amqp::{Table, Value};

use crate::history::{History, Settle};
use crate::names::{DEAD, EXCHANGES, FLEETING, GONE, QUEUES, RETRY, headers, kind};
use crate::world::World;

/// The dead letter that these properties belong to: one of `root`, which died as often as they say.
/// `None`: they tell something else than what happened.
pub fn letter_of(h: &History, basic: &Basic<'_>, root: usize) -> Option<usize> {
    let told = basic.headers?;
    let Some(Value::Array(deaths)) = told.get("x-death") else { return None };
    let events: Vec<Event<'_>> = deaths.iter().map(event).collect::<Option<_>>()?;
    let times = events.iter().map(|event| event.count).sum::<usize>();
    let letter = *h.letters.get(&(root, times))?;
    let log = h.messages.get(root)?;
    let died = h.messages[letter].died?;
    let expiration = log.expiration_ms.map(|ms| ms.to_string());
    let death = |queue: usize, count: usize, exchange| Event {
        queue: QUEUES[queue].name,
        count,
        exchange,
        reason: died.reason,
        expiration: expiration.as_deref(),
    };
    let first_queue = if died.delivery.is_some() { RETRY } else { log.key };
    let retry = death(first_queue, times.div_ceil(2), EXCHANGES[log.exchange].0);
    let dead = death(DEAD, times / 2, "");
    let expected = match times {
        1 => vec![retry],
        _ if times % 2 == 1 => vec![retry, dead],
        _ => vec![dead, retry],
    };
    let first = [("queue", retry.queue), ("reason", died.reason), ("exchange", retry.exchange)];
    let first = first
        .iter()
        .all(|(name, value)| text(told, &format!("x-first-death-{name}")) == Some(value));
    let own = headers("", log.headers);
    let kept = own.table().iter().all(|(name, value)| told.get(name) == Some(value));
    let none = told.get("CC").is_none() && told.get("BCC").is_none() && basic.expiration.is_none();
    let mode = basic.delivery_mode == log.persistent.then_some(2);
    (events == expected && first && kept && none && mode).then_some(letter)
}

/// What an event in x-death tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Event<'a> {
    queue: &'a str,
    count: usize,
    exchange: &'a str,
    reason: &'a str,
    /// The expiration that the message had.
    expiration: Option<&'a str>,
}

fn event(value: Value<'_>) -> Option<Event<'_>> {
    let Value::Table(table) = value else { return None };
    let count = usize::try_from(table.get("count")?.as_integer()?).ok()?;
    let (queue, exchange) = (text(table, "queue")?, text(table, "exchange")?);
    let (reason, expiration) = (text(table, "reason")?, text(table, "original-expiration"));
    Some(Event { queue, count, exchange, reason, expiration })
}

fn text<'a>(table: Table<'a>, key: &str) -> Option<&'a str> {
    table.get(key)?.as_str()
}

impl World {
    /// Messages are rejected from queue to queue and back, so many at once that windows close.
    pub fn reject_to_and_fro(&mut self) {
        let (one, two) = (self.connect(1, 0), self.connect(1, 0));
        self.quiet();
        let (count, size) = if self.rng.bool() { (24, 200_000) } else { (4, 16) };
        self.on(one, |actor| {
            actor.declare(RETRY, false, false);
            actor.declare(DEAD, false, false);
            (0..count).for_each(|_| actor.publish_to(0, RETRY, size));
        });
        self.quiet();
        for queue in [RETRY, DEAD, RETRY] {
            self.on(two, |actor| {
                (0..count).for_each(|_| {
                    actor.get_from(queue, false);
                });
            });
            self.quiet();
            self.on(two, |actor| actor.settle_up_to(usize::MAX, Settle::Drop));
            self.rush(two);
            self.turn_all();
            self.stall_all(100);
            (0..12).for_each(|_| self.turn_all());
            self.quiet();
        }
        // Large messages that stayed would fill the memory for all that follows.
        self.on(two, |actor| {
            (0..count).for_each(|_| {
                actor.get_from(DEAD, true);
            });
        });
        self.quiet();
    }

    /// Messages die since their time is over or others need their place. Their letters live on
    /// without the expiration that they had, until the time of their own queue is over; then they
    /// are dropped, since nobody has rejected them in the whole circle.
    pub fn die_by_themselves(&mut self) {
        let (one, two) = (self.connect(1, 0), self.connect(1, 0));
        self.quiet();
        self.on(one, |actor| {
            actor.declare(FLEETING, false, false);
            actor.declare(GONE, false, false);
        });
        self.quiet();
        let letters = self.let_die(one);
        self.take_letters(two, &letters);
        self.let_die(one);
        self.pass(70_000);
        self.quiet();
        for queue in [FLEETING, GONE] {
            let mut look = 0;
            self.on(one, |actor| look = actor.declare(queue, true, false));
            self.quiet();
            let left = self.h.ops[look].counts.map(|(messages, _)| messages);
            if left != Some(0) && !self.broken() {
                self.h.fail(|| format!("queue {queue} holds {left:?} letters, all have expired"));
            }
        }
    }

    /// Publishes messages and waits until each has died; these are their letters.
    fn let_die(&mut self, one: usize) -> Vec<usize> {
        let (first, count) = (self.h.messages.len(), self.rng.usize(1..6));
        for _ in 0..count {
            let expiration = [None, Some(5), Some(60)][self.rng.usize(..3)];
            self.on(one, |actor| actor.publish_with(0, (FLEETING, None), 16, expiration));
        }
        self.quiet();
        self.pass(25_000);
        self.quiet();
        let places = kind(FLEETING).limits.length.map_or(0, |length| length as usize);
        let overflow = first + count.saturating_sub(places);
        let reason = |message: usize| if message < overflow { "maxlen" } else { "expired" };
        let last = self.h.messages.len();
        (first..last).map(|message| self.h.dies(message, GONE, reason(message))).collect()
    }

    /// The letters are there, in the order in which their messages died, and nothing else.
    fn take_letters(&mut self, two: usize, letters: &[usize]) {
        let mut gets = Vec::new();
        self.on(two, |actor| {
            gets.extend((0..=letters.len()).map(|_| actor.get_from(GONE, true)));
        });
        self.quiet();
        let got = gets.into_iter().filter_map(|op| self.h.ops[op].delivery);
        let got: Vec<usize> = got.map(|delivery| self.h.deliveries[delivery].message).collect();
        if got != letters && !self.broken() {
            self.h.fail(|| format!("of the letters {letters:?} came {got:?}"));
        }
    }
}
