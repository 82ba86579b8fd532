//! Deliveries that are not settled in time, and the consumers that follow one that is gone.

use crate::channel::Channel;
use crate::client::Stage;
use crate::history::{History, NEVER};
use crate::names::{LATE_MS, SINGLE, TIMED, kind};
use crate::world::World;

/// The time for a delivery, and how much later its channel may be closed, in microseconds.
const LATE_US: u64 = LATE_MS * 1000;
const ACCURACY_US: u64 = 1 << 16;
/// The heartbeat of a client while the process stands still, in seconds.
const STOPPED_HEARTBEAT_S: u16 = 2;

impl Channel {
    /// The server closed the channel since a delivery was not settled in time. What was sent by
    /// then may have been obeyed.
    pub fn closed_as_late(&mut self, log: usize, text: &str, h: &mut History) {
        let due = format!(
            "PRECONDITION_FAILED - delivery acknowledgement on channel {} timed out. Timeout value \
             used: {LATE_MS} ms. This timeout value can be configured, see consumers doc guide to \
             learn more",
            self.number
        );
        let (now_us, mut earliest) = (h.now_us, NEVER);
        for delivery in h.deliveries.iter().filter(|d| d.chan == log && kind(d.queue).timed) {
            let settled = delivery.settled.is_some_and(|(_, op)| h.ops[op].span.done != NEVER);
            let effect = h.messages[delivery.message].effect;
            let Some(op) = effect.filter(|_| !delivery.no_ack && !settled) else { continue };
            let late_us = h.ops[op].sent_us + LATE_US;
            if late_us <= now_us {
                earliest = earliest.min(late_us);
            }
        }
        if text != due || earliest == NEVER {
            return h.fail(|| format!("chan {log} was closed without a cause: {text}"));
        }
        h.channel_over(log, 0, usize::MAX, h.first_after(earliest));
        self.closed();
    }
}

impl World {
    /// A channel that does not settle in time is closed: not earlier, and because of its oldest
    /// delivery.
    pub fn late(&mut self) {
        let (one, two) = (self.connect(1, 0), self.connect(1, 0));
        self.quiet();
        self.on(one, |actor| actor.delete(TIMED, false, false));
        self.quiet();
        self.on(one, |actor| {
            actor.declare(TIMED, false, false);
        });
        self.quiet();
        self.on(two, |actor| {
            actor.consume_from(TIMED, false);
        });
        self.quiet();
        let sent_us = self.now.monotonic_us;
        self.on(one, |actor| actor.publish_to(0, TIMED, 16));
        self.quiet();
        let read_us = self.now.monotonic_us;
        self.wait_until(sent_us + LATE_US * 3 / 4);
        self.on(one, |actor| actor.publish_to(0, TIMED, 16));
        self.quiet();
        self.wait_until(sent_us + LATE_US - 10_000);
        self.expect_open(two, true);
        self.wait_until(read_us + LATE_US + ACCURACY_US);
        self.expect_open(two, false);
        self.in_time(one, two);
    }

    /// Who settles each delivery in time is not closed.
    fn in_time(&mut self, one: usize, two: usize) {
        self.on(two, |actor| {
            actor.consume_from(TIMED, false);
        });
        self.quiet();
        self.on(two, |actor| actor.ack_all());
        for _ in 0..4 {
            self.on(one, |actor| actor.publish_to(0, TIMED, 16));
            self.quiet();
            self.wait_until(self.now.monotonic_us + LATE_US / 2);
            self.on(two, |actor| actor.ack_all());
            self.quiet();
        }
        self.expect_open(two, true);
        self.on(two, |actor| actor.cancel_all());
        self.quiet();
    }

    fn wait_until(&mut self, us: u64) {
        self.pass(us.saturating_sub(self.now.monotonic_us));
        self.beat();
        self.quiet();
    }

    fn expect_open(&mut self, at: usize, open: bool) {
        if self.links[at].client.channels[0].open != open && !self.broken() {
            let now_us = self.now.monotonic_us;
            self.h
                .fail(|| format!("a channel with a late delivery: open is not {open} at {now_us}"));
        }
    }

    /// The process stands still for longer than a client may be silent. Those who sent heartbeats
    /// are read before anybody is given up.
    pub fn stopped(&mut self) {
        let one = self.connect(1, STOPPED_HEARTBEAT_S);
        self.quiet();
        self.pass(u64::from(STOPPED_HEARTBEAT_S) * 4_000_000);
        self.send_heartbeats();
        // Timers come before sockets, which are read by and by.
        for shard in 0..self.shards() {
            self.finish_turn(shard, true);
        }
        self.quiet();
        if self.links[one].client.stage != Stage::Open && !self.broken() {
            self.h.fail(|| "a client was given up before it was read".into());
        }
        self.vanish(one);
        self.quiet();
    }

    /// The active consumer of a queue ends in some way, and one after the other takes its place.
    pub fn fail_over(&mut self) {
        let publisher = self.connect(1, 0);
        let consumers = [0; 5].map(|_| self.connect(1, 0));
        self.quiet();
        self.on(publisher, |actor| actor.delete(SINGLE, false, false));
        self.quiet();
        self.on(publisher, |actor| {
            actor.declare(SINGLE, false, false);
        });
        self.quiet();
        let places = consumers.map(|at| {
            let mut place = 0;
            self.on(at, |actor| place = actor.consume_from(SINGLE, false));
            self.quiet();
            place
        });
        // One of those that wait is gone before its turn.
        let gone = self.rng.usize(1..4);
        self.on(consumers[gone], |actor| actor.cancel_all());
        self.quiet();
        for active in (0..5).filter(|place| *place != gone) {
            if self.broken() {
                return;
            }
            self.serves(publisher, places[active]);
            match self.rng.u8(..4) {
                0 => self.on(consumers[active], |actor| actor.cancel_all()),
                1 => self.vanish(consumers[active]),
                2 => self.links[consumers[active]].client.close(&mut self.h, &mut self.rng),
                _ => self.on(consumers[active], |actor| actor.close_channel()),
            }
            self.quiet();
        }
    }

    /// What is published now goes to this consumer, and to nobody else.
    fn serves(&mut self, publisher: usize, consumer: usize) {
        let before = self.h.deliveries.len();
        for _ in 0..2 {
            self.on(publisher, |actor| actor.publish_to(0, SINGLE, 16));
        }
        self.quiet();
        let op = self.h.consumers[consumer].op;
        let new = self.h.deliveries[before..].iter().filter(|d| d.queue == SINGLE);
        let (own, all) = (new.clone().filter(|d| d.asked == op).count(), new.count());
        if (own, all) != (2, 2) && !self.broken() {
            self.h.fail(|| format!("of {all} messages the active consumer {consumer} got {own}"));
        }
    }
}
