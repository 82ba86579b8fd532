//! Queues with limits, and messages that expire: each is compared with a list, to the millisecond.

use crate::channel::Channel;
use crate::history::{Fate, History};
use crate::names::{BYTES, EXPIRES, FULL, LIVES, REFUSES, kind};
use crate::world::World;

/// A message that should be in the queue: when it expires in milliseconds, and its size.
#[derive(Debug, Clone, Copy)]
struct Expected {
    message: usize,
    expires_ms: u64,
    size: usize,
}

impl World {
    /// Compares queues with lists.
    pub fn lifetimes(&mut self) {
        let (one, two) = (self.connect(1, 0), self.connect(1, 0));
        self.quiet();
        self.on(one, |actor| {
            [LIVES, FULL, BYTES, REFUSES].iter().for_each(|queue| {
                actor.declare(*queue, false, false);
            });
            actor.confirm();
        });
        self.quiet();
        for queue in [LIVES, FULL, BYTES, REFUSES] {
            self.compare(one, two, queue);
        }
        if !self.broken() {
            self.expires(one, two);
        }
    }

    fn compare(&mut self, one: usize, two: usize, queue: usize) {
        let (mut list, mut taken) = (Vec::new(), Vec::new());
        for _ in 0..12 {
            if self.broken() {
                return;
            }
            match self.rng.u8(..8) {
                0..4 => self.enter(one, queue, &mut list),
                4 => {
                    let microseconds = self.rng.u64(..40_000);
                    self.pass(microseconds);
                    self.quiet();
                }
                5 | 6 => self.take(two, queue, &mut list, &mut taken),
                _ => {
                    expire(self.next_ms(), &mut list);
                    self.on(two, |actor| actor.requeue_all());
                    self.quiet();
                    list.append(&mut taken);
                    list.sort_by_key(|one| one.message);
                    drop_head(queue, &mut list);
                }
            }
            self.look(one, queue, &mut list);
        }
        self.on(two, |actor| actor.ack_all());
        self.quiet();
    }

    /// Goes to the next millisecond, so that what follows is done within one; which one that is.
    fn next_ms(&mut self) -> u64 {
        let microseconds = 1050 - self.h.now_us % 1000;
        self.pass(microseconds);
        (0..self.shards()).for_each(|shard| self.turn(shard, false));
        self.h.now_us / 1000
    }

    fn enter(&mut self, one: usize, queue: usize, list: &mut Vec<Expected>) {
        let expiration = [None, None, Some(0), Some(20), Some(60)][self.rng.usize(..5)];
        let (size, now_ms) = (self.rng.usize(..50), self.next_ms());
        self.on(one, |actor| actor.publish_with(0, (queue, None), size, expiration));
        self.quiet();
        let limits = kind(queue).limits;
        let message = self.h.messages.len() - 1;
        let lives = expiration.into_iter().chain(limits.ttl_ms).min();
        let expires_ms = lives.map_or(u64::MAX, |ms| now_ms + ms);
        expire(now_ms, list);
        let full = limits.refuses && limits.length.is_some_and(|max| list.len() as u64 >= max);
        if self.h.messages[message].refused != full && !self.broken() {
            self.h.fail(|| format!("queue {queue} refused {message}: it should be {full}"));
        }
        if !full {
            list.push(Expected { message, expires_ms, size });
            drop_head(queue, list);
        }
    }

    fn take(
        &mut self,
        two: usize,
        queue: usize,
        list: &mut Vec<Expected>,
        taken: &mut Vec<Expected>,
    ) {
        let (no_ack, mut op, now_ms) = (self.rng.bool(), 0, self.next_ms());
        self.on(two, |actor| op = actor.get_from(queue, no_ack));
        self.quiet();
        expire(now_ms, list);
        let expected = (!list.is_empty()).then(|| list.remove(0));
        let got = self.h.ops[op].delivery.map(|delivery| self.h.deliveries[delivery].message);
        if got != expected.map(|one| one.message) && !self.broken() {
            self.h.fail(|| format!("queue {queue} gave {got:?} and not {expected:?}"));
        }
        if !no_ack {
            taken.extend(expected);
        }
    }

    fn look(&mut self, one: usize, queue: usize, list: &mut Vec<Expected>) {
        let (mut probe, now_ms) = (0, self.next_ms());
        self.on(one, |actor| probe = actor.declare(queue, true, false));
        self.quiet();
        expire(now_ms, list);
        let told = self.h.ops[probe].counts.map(|(messages, _)| messages as usize);
        if told != Some(list.len()) && !self.broken() {
            self.h.fail(|| format!("queue {queue} holds {told:?} messages and not {list:?}"));
        }
    }

    /// A queue is deleted when it was unused, and only then.
    fn expires(&mut self, one: usize, two: usize) {
        self.on(one, |actor| {
            actor.declare(EXPIRES, false, false);
        });
        self.quiet();
        for _ in 0..3 {
            self.pass(60_000);
            self.quiet();
            let gets = self.rng.bool();
            self.on(one, |actor| match gets {
                true => {
                    actor.get_from(EXPIRES, true);
                }
                false => {
                    actor.declare(EXPIRES, false, false);
                }
            });
            self.quiet();
        }
        let mut probe = 0;
        self.on(one, |actor| probe = actor.declare(EXPIRES, true, false));
        self.quiet();
        let there = self.h.ops[probe].fate;
        (0..2).for_each(|_| {
            self.pass(51_000);
            self.quiet();
        });
        self.on(two, |actor| probe = actor.declare(EXPIRES, true, false));
        self.quiet();
        let gone = self.h.ops[probe].fate;
        if (there, gone) != (Fate::Done, Fate::Refused(404)) && !self.broken() {
            self.h.fail(|| format!("an unused queue was {there:?} and is {gone:?}"));
        }
    }
}

fn expire(now_ms: u64, list: &mut Vec<Expected>) {
    while list.first().is_some_and(|first| first.expires_ms <= now_ms) {
        list.remove(0);
    }
}

fn drop_head(queue: usize, list: &mut Vec<Expected>) {
    let limits = kind(queue).limits;
    let beyond = |list: &[Expected]| {
        let bytes: usize = list.iter().map(|one| one.size).sum();
        limits.length.is_some_and(|max| list.len() as u64 > max)
            || limits.bytes.is_some_and(|max| bytes as u64 > max)
    };
    while !limits.refuses && beyond(list) {
        list.remove(0);
    }
}

impl Channel {
    /// Only one queue refuses publishes.
    pub fn refused(&mut self, tag: u64, multiple: bool, h: &mut History) {
        let before: Vec<usize> =
            self.confirms.iter().flat_map(|one| one.open.values()).copied().collect();
        self.confirmed(tag, multiple, h, &mut Vec::new());
        let open = |message: &usize| {
            self.confirms.iter().any(|one| one.open.values().any(|other| other == message))
        };
        for message in before.into_iter().filter(|message| !open(message)) {
            let log = &mut h.messages[message];
            log.refused = true;
            if log.exchange != 0 || !kind(log.key).limits.refuses {
                h.fail(|| format!("publish of message {message} was refused"));
            }
        }
    }
}
