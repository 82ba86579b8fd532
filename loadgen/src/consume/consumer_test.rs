//! What a consumer answers and counts.

use amqp::frame::{write_body, write_header};

use super::*;
use crate::client::methods::CLOSE;
use crate::messages::stamp::Stamp;

struct Scene {
    consumer: ConsumerChannel,
    incoming: ReceiveBuffer,
    receipts: Receipts,
    out: Vec<u8>,
}

impl Scene {
    fn new(acks: AckMode, limit: Option<u64>) -> Self {
        Self {
            consumer: ConsumerChannel::new(acks, limit),
            incoming: ReceiveBuffer::new(4096),
            receipts: Receipts::new(1, 0, 0),
            out: Vec::new(),
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.incoming.room()[..bytes.len()].copy_from_slice(bytes);
        self.incoming.filled(bytes.len());
        let Self { consumer, incoming, receipts, out } = self;
        consumer.take(incoming, 1_000, receipts, out).unwrap();
    }

    fn close(&mut self) {
        self.consumer.close(1_000, &mut self.receipts, &mut self.out);
    }

    fn output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }
}

fn deliver(tag: u64, size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let method = Method::BasicDeliver {
        consumer_tag: CONSUMER_TAG,
        delivery_tag: tag,
        redelivered: false,
        exchange: "",
        routing_key: "q",
    };
    write_method(&mut out, CHANNEL, &method);
    write_header(&mut out, CHANNEL, size as u64, &[0, 0]);
    let stamp = Stamp { intended: 100, producer: 0, sequence: tag - 1 };
    let mut body = stamp.write().to_vec();
    body.resize(size, 0);
    write_body(&mut out, CHANNEL, &body, 4096);
    out
}

fn ack(delivery_tag: u64, multiple: bool) -> Vec<u8> {
    method(CHANNEL, &Method::BasicAck { delivery_tag, multiple })
}

fn method(channel: u16, method: &Method<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    write_method(&mut out, channel, method);
    out
}

#[test]
fn acks_in_groups_and_the_rest_at_the_close() {
    let mut scene = Scene::new(AckMode::Every(2), None);
    scene.feed(&[deliver(1, 16), deliver(2, 16), deliver(3, 16)].concat());
    assert_eq!(scene.output(), ack(2, true));
    scene.close();
    let cancel = Method::BasicCancel { consumer_tag: CONSUMER_TAG, nowait: false };
    assert_eq!(scene.output(), method(CHANNEL, &cancel));
    let cancel_ok = method(CHANNEL, &Method::BasicCancelOk { consumer_tag: CONSUMER_TAG });
    scene.feed(&[deliver(4, 16), deliver(5, 16), cancel_ok].concat());
    assert_eq!(scene.output(), [ack(4, true), ack(5, false), method(0, &CLOSE)].concat());
    scene.feed(&method(0, &Method::ConnectionCloseOk {}));
    assert!(scene.consumer.is_closed());
    assert_eq!(scene.receipts.received(), 5);
}

#[test]
fn the_fast_and_the_slow_path_see_the_same_at_every_cut() {
    let stream: Vec<u8> = [16, 16, 5000, 16, 100, 100]
        .iter()
        .zip(1..)
        .flat_map(|(&s, tag)| deliver(tag, s))
        .collect();
    for cut in (0..stream.len()).step_by(7) {
        let mut scene = Scene::new(AckMode::Every(1), None);
        scene.feed(&stream[..cut]);
        scene.feed(&stream[cut..]);
        let acks: Vec<u8> = (1..=6).flat_map(|tag| ack(tag, false)).collect();
        assert_eq!(scene.output(), acks, "cut at {cut}");
        assert_eq!((scene.receipts.received(), scene.receipts.account.out_of_order), (6, 0));
    }
}

#[test]
fn deliveries_over_the_limit_are_not_counted() {
    let mut scene = Scene::new(AckMode::Every(10), Some(2));
    scene.feed(&[deliver(1, 16), deliver(2, 16), deliver(3, 16)].concat());
    let cancel = Method::BasicCancel { consumer_tag: CONSUMER_TAG, nowait: false };
    assert_eq!(scene.output(), [ack(2, true), method(CHANNEL, &cancel)].concat());
    assert!(scene.consumer.has_enough());
    assert_eq!(scene.receipts.received(), 2);
}

#[test]
fn with_automatic_acks_deliveries_over_the_limit_are_counted() {
    let mut scene = Scene::new(AckMode::Automatic, Some(1));
    scene.feed(&[deliver(1, 16), deliver(2, 16)].concat());
    let cancel = Method::BasicCancel { consumer_tag: CONSUMER_TAG, nowait: false };
    assert_eq!(scene.output(), method(CHANNEL, &cancel));
    assert_eq!(scene.receipts.received(), 2);
}
