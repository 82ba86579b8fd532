//! A consumer with an ack policy: it takes time to process, rejects, requeues, commits. No socket,
//! no clock.

use std::collections::VecDeque;

use amqp::Method;
use amqp::frame::write_method;

use crate::account::receipts::Receipts;
use crate::messages::delivery::ReceivedMessage;
use crate::messages::timed_value::{TimedValue, span_at};

/// Reading pauses while more deliveries than this wait for processing.
const WAITING_MAX: usize = 4096;

/// What consumers do with deliveries.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AckPolicy {
    /// The share of deliveries that is rejected instead of acknowledged.
    pub nack: f64,
    /// The share of rejected deliveries that is requeued.
    pub requeue: f64,
    /// The processing time of each delivery before it is acknowledged (ns).
    pub processing: u64,
    /// Processing times (microseconds) that follow each other, instead of a fixed one.
    pub processing_over_time: Vec<TimedValue>,
    /// The least time between two deliveries (ns).
    pub interval: u64,
    /// Acks per transaction; 0 for no transactions.
    pub commit_every: u32,
}

impl AckPolicy {
    /// True if there is more to do than to acknowledge at once.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        *self != Self::default()
    }

    /// The processing time (ns) of a delivery whose processing starts `elapsed` ns after the start.
    fn processing_at(&self, elapsed: u64) -> u64 {
        let span = span_at(&self.processing_over_time, elapsed);
        span.map_or(self.processing, |span| (span.value * 1000.0) as u64)
    }
}

/// How a delivery is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AckDecision {
    Ack,
    Drop,
    Requeue,
}

/// The deliveries of one consumer, processed one after the other by its ack policy.
#[derive(Debug)]
pub struct DeliveryProcessor {
    policy: AckPolicy,
    channel: u16,
    /// When processing times that change begin (ns).
    start: u64,
    /// Deliveries with the same decision that one method settles; 0 with automatic acks.
    every: u32,
    nack: f64,
    requeue: f64,
    waiting: VecDeque<(ReceivedMessage, u64)>,
    /// The tag of the delivery being processed, and when its processing ends (ns).
    current: Option<(u64, u64)>,
    free_at: u64,
    /// Decided and not sent yet: the decision, the last tag and the number of deliveries.
    group: Option<(AckDecision, u64, u32)>,
    uncommitted: u32,
}

impl DeliveryProcessor {
    /// A processor for a channel that settles `every` deliveries with one method, or none (0).
    #[must_use]
    pub fn new(policy: AckPolicy, channel: u16, every: u32) -> Self {
        Self {
            policy,
            channel,
            start: 0,
            every,
            nack: 0.0,
            requeue: 0.0,
            waiting: VecDeque::new(),
            current: None,
            free_at: 0,
            group: None,
            uncommitted: 0,
        }
    }

    /// The same with processing times that change from `start` (ns) on.
    #[must_use]
    pub fn starting_at(self, start: u64) -> Self {
        Self { start, ..self }
    }

    /// Adds a delivery that arrived at `now` (ns).
    pub fn arrived(&mut self, delivery: ReceivedMessage, now: u64) {
        self.waiting.push_back((delivery, now));
    }

    /// The next delivery whose processing may start at `now` (ns); the one before is settled.
    pub fn next(
        &mut self,
        now: u64,
        receipts: &mut Receipts,
        out: &mut Vec<u8>,
    ) -> Option<ReceivedMessage> {
        if let Some((tag, until)) = self.current {
            if until > now {
                return None;
            }
            self.current = None;
            self.settle(tag, receipts, out);
        }
        if self.free_at > now {
            return None;
        }
        let (delivery, arrived) = self.waiting.pop_front()?;
        let begun = self.free_at.max(arrived);
        let processing = self.policy.processing_at(begun.saturating_sub(self.start));
        self.free_at = begun + processing.max(self.policy.interval);
        self.current = Some((delivery.tag, begun + processing));
        Some(delivery)
    }

    /// When there is something to do again (ns).
    #[must_use]
    pub fn wakes_at(&self) -> Option<u64> {
        let waiting = (!self.waiting.is_empty()).then_some(self.free_at);
        self.current.map(|(_, until)| until).or(waiting)
    }

    /// True if reading should pause.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.waiting.len() > WAITING_MAX
    }

    /// Settles the delivery being processed and sends all pending settlements. Returns the waiting
    /// deliveries if acks are automatic, since then they count as received.
    pub fn finish(
        &mut self,
        receipts: &mut Receipts,
        out: &mut Vec<u8>,
    ) -> VecDeque<(ReceivedMessage, u64)> {
        if let Some((tag, _)) = self.current.take() {
            self.settle(tag, receipts, out);
        }
        self.send_group(out);
        self.commit(out);
        let waiting = std::mem::take(&mut self.waiting);
        // Unacknowledged deliveries return to their queue when the channel closes.
        if self.every == 0 { waiting } else { VecDeque::new() }
    }

    fn settle(&mut self, tag: u64, receipts: &mut Receipts, out: &mut Vec<u8>) {
        if self.every == 0 {
            return;
        }
        let decision = self.decide();
        receipts.dropped += u64::from(decision == AckDecision::Drop);
        receipts.requeued += u64::from(decision == AckDecision::Requeue);
        if self.group.is_some_and(|(last, ..)| last != decision) {
            self.send_group(out);
        }
        let count = self.group.map_or(1, |(_, _, count)| count + 1);
        self.group = Some((decision, tag, count));
        self.uncommitted += 1;
        if count >= self.every {
            self.send_group(out);
        }
        if self.policy.commit_every > 0 && self.uncommitted >= self.policy.commit_every {
            self.send_group(out);
            self.commit(out);
        }
    }

    /// Shares are spread evenly: a fifth is every fifth delivery.
    fn decide(&mut self) -> AckDecision {
        if !reaches_one(&mut self.nack, self.policy.nack) {
            AckDecision::Ack
        } else if reaches_one(&mut self.requeue, self.policy.requeue) {
            AckDecision::Requeue
        } else {
            AckDecision::Drop
        }
    }

    fn send_group(&mut self, out: &mut Vec<u8>) {
        let Some((decision, delivery_tag, count)) = self.group.take() else { return };
        let multiple = count > 1;
        let method = match decision {
            AckDecision::Ack => Method::BasicAck { delivery_tag, multiple },
            AckDecision::Drop => Method::BasicNack { delivery_tag, multiple, requeue: false },
            AckDecision::Requeue => Method::BasicNack { delivery_tag, multiple, requeue: true },
        };
        write_method(out, self.channel, &method);
    }

    fn commit(&mut self, out: &mut Vec<u8>) {
        if self.policy.commit_every > 0 && self.uncommitted > 0 {
            write_method(out, self.channel, &Method::TxCommit {});
        }
        self.uncommitted = 0;
    }
}

fn reaches_one(sum: &mut f64, share: f64) -> bool {
    *sum += share;
    // Tenths do not add up to exactly 1.
    let reached = *sum >= 1.0 - 1e-9;
    if reached {
        *sum -= 1.0;
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::receive_buffer::ReceiveBuffer;
    use amqp::Frame;

    struct Scene {
        processor: DeliveryProcessor,
        receipts: Receipts,
        out: Vec<u8>,
    }

    impl Scene {
        fn new(policy: AckPolicy, every: u32, count: u64) -> Self {
            let mut processor = DeliveryProcessor::new(policy, 1, every);
            for tag in 1..=count {
                processor.arrived(ReceivedMessage { tag, redelivered: false, stamp: None }, 100);
            }
            Self { processor, receipts: Receipts::new(1, 0, 0), out: Vec::new() }
        }

        fn until(&mut self, now: u64) -> Vec<u64> {
            let Self { processor, receipts, out } = self;
            std::iter::from_fn(|| processor.next(now, receipts, out)).map(|one| one.tag).collect()
        }

        fn written(&mut self) -> Vec<String> {
            let mut incoming = ReceiveBuffer::new(4096);
            incoming.room()[..self.out.len()].copy_from_slice(&self.out);
            incoming.filled(self.out.len());
            self.out.clear();
            let mut written = Vec::new();
            while let Some(Frame::Method { payload, .. }) = incoming.frame().unwrap() {
                written.push(match Method::read(payload).unwrap() {
                    Method::BasicAck { delivery_tag, multiple } => {
                        format!("ack {delivery_tag} {multiple}")
                    }
                    Method::BasicNack { delivery_tag, multiple, requeue } => {
                        format!("nack {delivery_tag} {multiple} {requeue}")
                    }
                    other => other.name().to_owned(),
                });
            }
            written
        }
    }

    #[test]
    fn processing_takes_its_time_and_late_wakes_do_not_add_up() {
        let mut scene = Scene::new(AckPolicy { processing: 10, ..AckPolicy::default() }, 1, 4);
        assert_eq!(scene.until(100), [1]);
        assert!(scene.written().is_empty(), "it is being processed");
        assert_eq!(scene.processor.wakes_at(), Some(110));
        assert_eq!(scene.until(125), [2, 3]);
        assert_eq!(scene.written(), ["ack 1 false", "ack 2 false"]);
        assert_eq!(scene.processor.wakes_at(), Some(130), "as if it had woken up in time");
    }

    #[test]
    fn processing_times_follow_each_other() {
        let spans = ["0.01:0.0000001", "0.04:0.0000001"].map(|text| text.parse().unwrap());
        let policy = AckPolicy { processing_over_time: spans.to_vec(), ..AckPolicy::default() };
        let mut scene = Scene::new(policy, 1, 20);
        scene.processor = scene.processor.starting_at(100);
        assert_eq!(scene.until(199).len(), 10, "one every 10 ns");
        assert_eq!(scene.until(299).len(), 3, "at 200, 240 and 280");
        assert_eq!(scene.until(349).len(), 3, "at 320, 330 and 340: the first time again");
    }

    #[test]
    fn a_rate_delays_messages_but_not_their_acks() {
        let mut scene = Scene::new(AckPolicy { interval: 50, ..AckPolicy::default() }, 1, 3);
        assert_eq!(scene.until(100), [1]);
        assert_eq!(scene.written(), ["ack 1 false"]);
        assert_eq!((scene.processor.wakes_at(), scene.until(200)), (Some(150), vec![2, 3]));
    }

    #[test]
    fn shares_are_rejected_and_requeued() {
        let policy = AckPolicy { nack: 0.5, requeue: 0.5, ..AckPolicy::default() };
        let mut scene = Scene::new(policy, 1, 8);
        scene.until(100);
        let written = scene.written();
        assert_eq!(
            written[..4],
            ["ack 1 false", "nack 2 false false", "ack 3 false", "nack 4 false true"]
        );
        assert_eq!((scene.receipts.dropped, scene.receipts.requeued), (2, 2));
    }

    #[test]
    fn equal_decisions_are_sent_together_and_a_commit_ends_a_group() {
        let policy = AckPolicy { nack: 1.0, commit_every: 3, ..AckPolicy::default() };
        let mut scene = Scene::new(policy, 2, 4);
        scene.until(100);
        assert_eq!(scene.written(), ["nack 2 true false", "nack 3 false false", "TxCommit"]);
        scene.processor.finish(&mut scene.receipts, &mut scene.out);
        assert_eq!(scene.written(), ["nack 4 false false", "TxCommit"]);
    }
}
