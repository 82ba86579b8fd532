//! What a producer publishes and how it counts the answers.

use super::*;
use crate::connection::CHANNEL;
use crate::publishes::Shape;

fn producer(rate: Option<f64>, limit: Option<u64>, window: Window) -> Producer {
    let shape = Shape {
        channel: CHANNEL,
        exchange: String::new(),
        routing_key: "q".to_owned(),
        size: 16,
        persistent: false,
        mandatory: true,
        with_header: false,
    };
    let publishes = Publishes::new(&shape, 4096, 100_000, 10);
    Producer::new(0, publishes, Pace::new(1_000, u64::MAX, rate), limit, window)
}

fn feed(producer: &mut Producer, octets: &[u8], now: u64, results: &mut Results) {
    let mut incoming = Incoming::new(4096);
    incoming.room()[..octets.len()].copy_from_slice(octets);
    incoming.filled(octets.len());
    producer.take(&mut incoming, now, results, &mut Vec::new()).unwrap();
}

fn written(producer: &mut Producer) {
    let len = producer.publishes.pending().len();
    producer.publishes.advance(len);
}

#[test]
fn follows_its_schedule_and_its_limit() {
    let mut results = Results::new(0);
    let mut producer = producer(Some(1_000_000.0), Some(4), Window::Open);
    assert_eq!(producer.fill(999, &mut results), Fill::At(1_000));
    assert_eq!(producer.fill(3_500, &mut results), Fill::Ready);
    assert_eq!((results.sent, producer.next()), (3, Some(4_000)));
    assert_eq!((producer.written(), producer.unsent(9_000)), (0, 1));
    written(&mut producer);
    assert_eq!(producer.fill(99_000, &mut results), Fill::Ready);
    written(&mut producer);
    assert_eq!(producer.fill(99_000, &mut results), Fill::Over);
    assert_eq!((producer.written(), producer.unsent(99_000)), (4, 0));
}

#[test]
fn a_full_window_holds_and_a_confirm_opens_it() {
    let mut results = Results::new(0);
    let mut producer = producer(None, None, Window::Confirms(Confirms::new(2)));
    assert_eq!(producer.fill(2_000, &mut results), Fill::Ready);
    written(&mut producer);
    assert_eq!(producer.fill(2_000, &mut results), Fill::Held);
    let mut octets = Vec::new();
    write_method(&mut octets, CHANNEL, &Method::BasicAck { delivery_tag: 1, multiple: false });
    assert_eq!(octets.len(), ACK_LEN);
    let nack = Method::BasicNack { delivery_tag: 2, multiple: true, requeue: false };
    write_method(&mut octets, CHANNEL, &nack);
    feed(&mut producer, &octets, 7_000, &mut results);
    assert_eq!((results.confirmed, results.nacked, producer.unconfirmed()), (1, 1, 0));
    let latency = results.latency.percentiles().unwrap();
    assert_eq!((latency.count, latency.max.round()), (1, 5.0), "a nack has no latency");
    assert_eq!(producer.fill(8_000, &mut results), Fill::Ready);
}

#[test]
fn a_return_counts_and_its_content_is_passed_over() {
    let mut results = Results::new(0);
    let mut producer = producer(None, None, Window::Open);
    let mut octets = Vec::new();
    let returned = Method::BasicReturn {
        reply_code: 312,
        reply_text: "NO_ROUTE",
        exchange: "",
        routing_key: "q",
    };
    write_method(&mut octets, CHANNEL, &returned);
    amqp::frame::write_header(&mut octets, CHANNEL, 16, &[0, 0]);
    amqp::frame::write_body(&mut octets, CHANNEL, &[0; 16], 0);
    feed(&mut producer, &octets, 0, &mut results);
    assert_eq!(results.returned, 1);
}

#[test]
fn flow_pauses_and_close_ok_closes() {
    let mut results = Results::new(0);
    let mut producer = producer(None, None, Window::Open);
    let mut octets = Vec::new();
    write_method(&mut octets, CHANNEL, &Method::ChannelFlow { active: false });
    feed(&mut producer, &octets, 0, &mut results);
    assert_eq!(producer.fill(2_000, &mut results), Fill::Held);
    octets.clear();
    write_method(&mut octets, 0, &Method::ConnectionCloseOk {});
    feed(&mut producer, &octets, 0, &mut results);
    assert!(producer.is_closed() && producer.stop() && !producer.stop());
}

#[test]
fn arrivals_open_the_window_of_a_closed_loop() {
    let mut results = Results::new(0);
    let mut producer = producer(None, None, Window::Arrivals { window: 1, arrived: 0 });
    assert_eq!(producer.fill(2_000, &mut results), Fill::Ready);
    written(&mut producer);
    assert_eq!(producer.fill(2_000, &mut results), Fill::Held);
    producer.arrived(1);
    assert_eq!(producer.fill(2_000, &mut results), Fill::Ready);
    assert_eq!(results.sent, 2);
}
