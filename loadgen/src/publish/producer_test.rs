//! What a producer publishes and how it counts the answers.

use super::*;
use crate::client::methods::CHANNEL;
use crate::messages::publish_template::PublishTemplate;
use crate::publish::confirm_window::ConfirmWindow;

fn producer(rate: Option<f64>, limit: Option<u64>, window: InFlightLimit) -> ProducerChannel {
    let template = PublishTemplate {
        channel: CHANNEL,
        exchange: String::new(),
        routing_key: "q".to_owned(),
        size: 16,
        persistent: false,
        priority: None,
        mandatory: true,
        with_header: false,
    };
    let publishes = PublishBatch::new(&template, 4096, 100_000, 10);
    ProducerChannel::new(0, publishes, PublishSchedule::new(1_000, u64::MAX, rate), limit, window)
}

fn feed(producer: &mut ProducerChannel, bytes: &[u8], now: u64, results: &mut PublishResults) {
    let mut incoming = ReceiveBuffer::new(4096);
    incoming.room()[..bytes.len()].copy_from_slice(bytes);
    incoming.filled(bytes.len());
    producer.take(&mut incoming, now, results, &mut Vec::new()).unwrap();
}

fn written(producer: &mut ProducerChannel) {
    let len = producer.publishes.pending().len();
    producer.publishes.advance(len);
}

#[test]
fn a_producer_follows_its_schedule_and_its_limit() {
    let mut results = PublishResults::new(0);
    let mut producer = producer(Some(1_000_000.0), Some(4), InFlightLimit::Unlimited);
    assert_eq!(producer.fill(999, &mut results), FillResult::NotBefore(1_000));
    assert_eq!(producer.fill(3_500, &mut results), FillResult::Ready);
    assert_eq!((results.sent, producer.next()), (3, Some(4_000)));
    assert_eq!((producer.written(), producer.unsent(9_000)), (0, 1));
    written(&mut producer);
    assert_eq!(producer.fill(99_000, &mut results), FillResult::Ready);
    written(&mut producer);
    assert_eq!(producer.fill(99_000, &mut results), FillResult::Finished);
    assert_eq!((producer.written(), producer.unsent(99_000)), (4, 0));
}

#[test]
fn a_full_window_stops_the_producer_and_a_confirm_opens_it() {
    let mut results = PublishResults::new(0);
    let mut producer = producer(None, None, InFlightLimit::Confirms(ConfirmWindow::new(2)));
    assert_eq!(producer.fill(2_000, &mut results), FillResult::Ready);
    written(&mut producer);
    assert_eq!(producer.fill(2_000, &mut results), FillResult::LimitReached);
    let mut bytes = Vec::new();
    write_method(&mut bytes, CHANNEL, &Method::BasicAck { delivery_tag: 1, multiple: false });
    assert_eq!(bytes.len(), ACK_LEN);
    let nack = Method::BasicNack { delivery_tag: 2, multiple: true, requeue: false };
    write_method(&mut bytes, CHANNEL, &nack);
    feed(&mut producer, &bytes, 7_000, &mut results);
    assert_eq!((results.confirmed, results.nacked, producer.unconfirmed()), (1, 1, 0));
    let latency = results.latency.percentiles().unwrap();
    assert_eq!((latency.count, latency.max.round()), (1, 5.0), "a nack has no latency");
    assert_eq!(producer.fill(8_000, &mut results), FillResult::Ready);
}

#[test]
fn a_return_is_counted_and_its_content_is_skipped() {
    let mut results = PublishResults::new(0);
    let mut producer = producer(None, None, InFlightLimit::Unlimited);
    let mut bytes = Vec::new();
    let returned = Method::BasicReturn {
        reply_code: 312,
        reply_text: "NO_ROUTE",
        exchange: "",
        routing_key: "q",
    };
    write_method(&mut bytes, CHANNEL, &returned);
    amqp::frame::write_header(&mut bytes, CHANNEL, 16, &[0, 0]);
    amqp::frame::write_body(&mut bytes, CHANNEL, &[0; 16], 0);
    feed(&mut producer, &bytes, 0, &mut results);
    assert_eq!(results.returned, 1);
}

#[test]
fn flow_pauses_and_close_ok_closes() {
    let mut results = PublishResults::new(0);
    let mut producer = producer(None, None, InFlightLimit::Unlimited);
    let mut bytes = Vec::new();
    write_method(&mut bytes, CHANNEL, &Method::ChannelFlow { active: false });
    feed(&mut producer, &bytes, 0, &mut results);
    assert_eq!(producer.fill(2_000, &mut results), FillResult::LimitReached);
    bytes.clear();
    write_method(&mut bytes, 0, &Method::ConnectionCloseOk {});
    feed(&mut producer, &bytes, 0, &mut results);
    assert!(producer.is_closed() && producer.stop() && !producer.stop());
}

#[test]
fn arrivals_open_the_window_of_a_closed_loop() {
    let mut results = PublishResults::new(0);
    let mut producer = producer(None, None, InFlightLimit::Arrivals { window: 1, arrived: 0 });
    assert_eq!(producer.fill(2_000, &mut results), FillResult::Ready);
    written(&mut producer);
    assert_eq!(producer.fill(2_000, &mut results), FillResult::LimitReached);
    producer.arrived(1);
    assert_eq!(producer.fill(2_000, &mut results), FillResult::Ready);
    assert_eq!(results.sent, 2);
}
