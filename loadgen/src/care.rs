//! A consumer that does more than acknowledge: it takes its time, refuses, gives back, commits.
//! No socket, no clock.

use std::collections::VecDeque;

use amqp::Method;
use amqp::frame::write_method;

use crate::delivery::Delivery;
use crate::ledger::Ledger;
use crate::sizes::{Span, span_at};

/// With so many deliveries waiting, the socket is not read.
const WAITING_MAX: usize = 4096;

/// What is to be done with deliveries.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Care {
    /// The share that is refused instead of acknowledged.
    pub nack: f64,
    /// The share of the refused ones that goes back to the queue.
    pub requeue: f64,
    /// How long each is thought about before it is acknowledged (ns).
    pub think: u64,
    /// One time (microseconds) after the other, instead of that.
    pub think_over_time: Vec<Span>,
    /// The least time between two (ns).
    pub interval: u64,
    /// So many acks to a transaction; 0 is no transactions.
    pub commit_every: u32,
}

impl Care {
    /// Whether there is anything to do beside acks.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        *self != Self::default()
    }

    /// How long a delivery is thought about (ns) whose turn comes so long (ns) after the start.
    fn think_at(&self, elapsed: u64) -> u64 {
        let span = span_at(&self.think_over_time, elapsed);
        span.map_or(self.think, |span| (span.value * 1000.0) as u64)
    }
}

/// What becomes of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ack,
    Drop,
    Requeue,
}

/// One careful consumer.
#[derive(Debug)]
pub struct Careful {
    care: Care,
    channel: u16,
    /// When times that change begin (ns).
    start: u64,
    /// Acks of one verdict that go as one; 0 if the broker takes all for acknowledged.
    every: u32,
    nack: f64,
    requeue: f64,
    waiting: VecDeque<(Delivery, u64)>,
    /// The tag of the one that is thought about, and until when.
    thinking: Option<(u64, u64)>,
    free_at: u64,
    /// What is decided and not told: the verdict, the last tag and how many.
    group: Option<(Verdict, u64, u32)>,
    uncommitted: u32,
}

impl Careful {
    /// A consumer on a channel that acknowledges `every` messages together, or none (0).
    #[must_use]
    pub fn new(care: Care, channel: u16, every: u32) -> Self {
        Self {
            care,
            channel,
            start: 0,
            every,
            nack: 0.0,
            requeue: 0.0,
            waiting: VecDeque::new(),
            thinking: None,
            free_at: 0,
            group: None,
            uncommitted: 0,
        }
    }

    /// The same, with times that change from `start` (ns) on.
    #[must_use]
    pub fn starting_at(self, start: u64) -> Self {
        Self { start, ..self }
    }

    /// A delivery arrived at `now`.
    pub fn arrived(&mut self, delivery: Delivery, now: u64) {
        self.waiting.push_back((delivery, now));
    }

    /// The delivery whose turn it is at `now`; the one before is settled.
    pub fn next(&mut self, now: u64, ledger: &mut Ledger, out: &mut Vec<u8>) -> Option<Delivery> {
        if let Some((tag, until)) = self.thinking {
            if until > now {
                return None;
            }
            self.thinking = None;
            self.settle(tag, ledger, out);
        }
        if self.free_at > now {
            return None;
        }
        let (delivery, arrived) = self.waiting.pop_front()?;
        let begun = self.free_at.max(arrived);
        let think = self.care.think_at(begun.saturating_sub(self.start));
        self.free_at = begun + think.max(self.care.interval);
        self.thinking = Some((delivery.tag, begun + think));
        Some(delivery)
    }

    /// When there is something to do again.
    #[must_use]
    pub fn wakes_at(&self) -> Option<u64> {
        let waiting = (!self.waiting.is_empty()).then_some(self.free_at);
        self.thinking.map(|(_, until)| until).or(waiting)
    }

    /// Whether the socket should not be read for a while.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.waiting.len() > WAITING_MAX
    }

    /// Settles all that is begun and tells it; with automatic acks all that has arrived is taken.
    pub fn finish(&mut self, ledger: &mut Ledger, out: &mut Vec<u8>) -> VecDeque<(Delivery, u64)> {
        if let Some((tag, _)) = self.thinking.take() {
            self.settle(tag, ledger, out);
        }
        self.tell(out);
        self.commit(out);
        let waiting = std::mem::take(&mut self.waiting);
        // Without an ack they go back to their queue when the channel closes.
        if self.every == 0 { waiting } else { VecDeque::new() }
    }

    fn settle(&mut self, tag: u64, ledger: &mut Ledger, out: &mut Vec<u8>) {
        if self.every == 0 {
            return;
        }
        let verdict = self.judge();
        ledger.dropped += u64::from(verdict == Verdict::Drop);
        ledger.requeued += u64::from(verdict == Verdict::Requeue);
        if self.group.is_some_and(|(last, ..)| last != verdict) {
            self.tell(out);
        }
        let count = self.group.map_or(1, |(_, _, count)| count + 1);
        self.group = Some((verdict, tag, count));
        self.uncommitted += 1;
        if count >= self.every {
            self.tell(out);
        }
        if self.care.commit_every > 0 && self.uncommitted >= self.care.commit_every {
            self.tell(out);
            self.commit(out);
        }
    }

    /// Shares are spread evenly: a fifth is every fifth.
    fn judge(&mut self) -> Verdict {
        if !reaches_one(&mut self.nack, self.care.nack) {
            Verdict::Ack
        } else if reaches_one(&mut self.requeue, self.care.requeue) {
            Verdict::Requeue
        } else {
            Verdict::Drop
        }
    }

    fn tell(&mut self, out: &mut Vec<u8>) {
        let Some((verdict, delivery_tag, count)) = self.group.take() else { return };
        let multiple = count > 1;
        let method = match verdict {
            Verdict::Ack => Method::BasicAck { delivery_tag, multiple },
            Verdict::Drop => Method::BasicNack { delivery_tag, multiple, requeue: false },
            Verdict::Requeue => Method::BasicNack { delivery_tag, multiple, requeue: true },
        };
        write_method(out, self.channel, &method);
    }

    fn commit(&mut self, out: &mut Vec<u8>) {
        if self.care.commit_every > 0 && self.uncommitted > 0 {
            write_method(out, self.channel, &Method::TxCommit {});
        }
        self.uncommitted = 0;
    }
}

fn reaches_one(sum: &mut f64, share: f64) -> bool {
    *sum += share;
    // Tenths do not add up to one exactly.
    let reached = *sum >= 1.0 - 1e-9;
    if reached {
        *sum -= 1.0;
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incoming::Incoming;
    use amqp::Frame;

    struct Scene {
        careful: Careful,
        ledger: Ledger,
        out: Vec<u8>,
    }

    impl Scene {
        fn new(care: Care, every: u32, count: u64) -> Self {
            let mut careful = Careful::new(care, 1, every);
            for tag in 1..=count {
                careful.arrived(Delivery { tag, redelivered: false, stamp: None }, 100);
            }
            Self { careful, ledger: Ledger::new(1, 0, 0), out: Vec::new() }
        }

        fn until(&mut self, now: u64) -> Vec<u64> {
            let Self { careful, ledger, out } = self;
            std::iter::from_fn(|| careful.next(now, ledger, out)).map(|one| one.tag).collect()
        }

        fn said(&mut self) -> Vec<String> {
            let mut incoming = Incoming::new(4096);
            incoming.room()[..self.out.len()].copy_from_slice(&self.out);
            incoming.filled(self.out.len());
            self.out.clear();
            let mut said = Vec::new();
            while let Some(Frame::Method { payload, .. }) = incoming.frame().unwrap() {
                said.push(match Method::read(payload).unwrap() {
                    Method::BasicAck { delivery_tag, multiple } => {
                        format!("ack {delivery_tag} {multiple}")
                    }
                    Method::BasicNack { delivery_tag, multiple, requeue } => {
                        format!("nack {delivery_tag} {multiple} {requeue}")
                    }
                    other => other.name().to_owned(),
                });
            }
            said
        }
    }

    #[test]
    fn thinking_takes_its_time_and_late_wakes_do_not_add_up() {
        let mut scene = Scene::new(Care { think: 10, ..Care::default() }, 1, 4);
        assert_eq!(scene.until(100), [1]);
        assert!(scene.said().is_empty(), "it is thought about");
        assert_eq!(scene.careful.wakes_at(), Some(110));
        assert_eq!(scene.until(125), [2, 3]);
        assert_eq!(scene.said(), ["ack 1 false", "ack 2 false"]);
        assert_eq!(scene.careful.wakes_at(), Some(130), "as if it had woken in time");
    }

    #[test]
    fn times_to_think_follow_one_another() {
        let spans = ["0.01:0.0000001", "0.04:0.0000001"].map(|text| text.parse().unwrap());
        let care = Care { think_over_time: spans.to_vec(), ..Care::default() };
        let mut scene = Scene::new(care, 1, 20);
        scene.careful = scene.careful.starting_at(100);
        assert_eq!(scene.until(199).len(), 10, "one in 10 ns");
        assert_eq!(scene.until(299).len(), 3, "at 200, 240 and 280");
        assert_eq!(scene.until(349).len(), 3, "at 320, 330 and 340: the first comes again");
    }

    #[test]
    fn a_rate_holds_messages_back_but_not_their_acks() {
        let mut scene = Scene::new(Care { interval: 50, ..Care::default() }, 1, 3);
        assert_eq!(scene.until(100), [1]);
        assert_eq!(scene.said(), ["ack 1 false"]);
        assert_eq!((scene.careful.wakes_at(), scene.until(200)), (Some(150), vec![2, 3]));
    }

    #[test]
    fn shares_are_refused_and_given_back() {
        let care = Care { nack: 0.5, requeue: 0.5, ..Care::default() };
        let mut scene = Scene::new(care, 1, 8);
        scene.until(100);
        let said = scene.said();
        assert_eq!(
            said[..4],
            ["ack 1 false", "nack 2 false false", "ack 3 false", "nack 4 false true"]
        );
        assert_eq!((scene.ledger.dropped, scene.ledger.requeued), (2, 2));
    }

    #[test]
    fn one_verdict_goes_together_and_a_transaction_ends_it() {
        let care = Care { nack: 1.0, commit_every: 3, ..Care::default() };
        let mut scene = Scene::new(care, 2, 4);
        scene.until(100);
        assert_eq!(scene.said(), ["nack 2 true false", "nack 3 false false", "TxCommit"]);
        scene.careful.finish(&mut scene.ledger, &mut scene.out);
        assert_eq!(scene.said(), ["nack 4 false false", "TxCommit"]);
    }
}
