//! What a client has agreed to: how many channels it opens, and how large a frame it takes.

use amqp::frame::write_header;
use amqp::properties::Basic;
use amqp::{Method, TableWriter, Value};

use crate::rig::{self, Client, Rig};

const OPEN: Method<'static> = Method::ChannelOpen { out_of_band: "" };
const CLOSE_OK: Method<'static> = Method::ChannelCloseOk {};
const TOO_LARGE: &str = "ChannelClose PRECONDITION_FAILED - a message's header needs a frame of \
                         10036 octets, which is larger than the negotiated frame_max (4096)";

/// A client with channel 1 open that takes frames of 4096 bytes.
fn narrow(broker: &mut Rig) -> Client {
    let client = broker.tuned_to(0, (2047, 4096, 0));
    broker.call(client, 0, &rig::open("/"));
    broker.call(client, 1, &OPEN);
    client
}

/// A publish without a body, with a header of so many bytes around nothing.
fn publish(routing_key: &str, mandatory: bool, bytes: usize) -> Vec<u8> {
    let (ticket, exchange, immediate) = (0, "", false);
    let method = Method::BasicPublish { ticket, exchange, routing_key, mandatory, immediate };
    let (mut frames, mut properties, value) =
        (rig::encoded(1, &method), Vec::new(), vec![7; bytes]);
    let headers = TableWriter::new().with("name", Value::LongString(&value));
    Basic { headers: Some(headers.table()), ..Basic::default() }.write(&mut properties);
    write_header(&mut frames, 1, 0, &properties);
    frames
}

/// A broker with a queue `q` that holds a message with a small header, a large and a small one.
fn filled(shards: u16) -> (Rig, Client) {
    let mut broker = Rig::new(shards);
    let publisher = broker.client(0);
    broker.call(publisher, 1, &rig::declare("q", false));
    let publishes = [1, 10_000, 1].map(|bytes| publish("q", false, bytes)).concat();
    assert!(broker.send(publisher, &publishes).is_empty());
    (broker, publisher)
}

fn get(no_ack: bool) -> Method<'static> {
    Method::BasicGet { ticket: 0, queue: "q", no_ack }
}

/// How many messages the queue holds; they are taken.
fn left(broker: &mut Rig, client: Client) -> usize {
    let mut count = 0;
    while rig::names(&broker.call(client, 1, &get(true))) == ["BasicGetOk"] {
        count += 1;
    }
    count
}

#[test]
fn channels_are_counted_whatever_their_numbers() {
    let mut broker = Rig::new(2);
    let client = broker.tuned_to(0, (3, 131_072, 0));
    broker.call(client, 0, &rig::open("/"));
    for number in [65_535, 256, 1] {
        assert_eq!(rig::names(&broker.call(client, number, &OPEN)), ["ChannelOpenOk"]);
        let bytes = broker.call(client, number, &rig::declare("", false));
        assert_eq!(rig::methods(&bytes), [(number, "QueueDeclareOk".to_owned())]);
    }
    // Until both sides have closed it a channel counts.
    let bytes = broker.call(client, 65_535, &rig::passive("nosuch"));
    assert!(rig::names(&bytes)[0].starts_with("ChannelClose NOT_FOUND"));
    broker.call(client, 65_535, &CLOSE_OK);
    assert_eq!(rig::names(&broker.call(client, 65_534, &OPEN)), ["ChannelOpenOk"]);
    let text = "number of channels opened (3) has reached the negotiated channel_max (3)";
    let names = rig::names(&broker.call(client, 2, &OPEN));
    assert_eq!(names, [format!("ConnectionClose NOT_ALLOWED - {text}")]);
    broker.vanish(client);
    assert_eq!(broker.leftovers(), 0);
}

#[test]
fn a_consumer_is_not_sent_a_header_that_fits_into_no_frame() {
    for (shards, no_ack) in [(1, false), (1, true), (2, false), (2, true)] {
        let (mut broker, publisher) = filled(shards);
        let client = narrow(&mut broker);
        broker.call(client, 2, &OPEN);
        let (queue, consumer_tag) = ("q", "");
        let consume = Method::BasicConsume {
            ticket: 0,
            queue,
            consumer_tag,
            no_local: false,
            no_ack,
            exclusive: false,
            nowait: false,
            arguments: amqp::Table::EMPTY,
        };
        let names = rig::names(&broker.call(client, 1, &consume));
        assert_eq!(names, ["BasicConsumeOk", "BasicDeliver", TOO_LARGE], "{shards}, {no_ack}");
        // With acknowledgements the first message is back, in front.
        let first = if no_ack { TOO_LARGE } else { "BasicGetOk" };
        assert_eq!(rig::names(&broker.call(client, 2, &get(true))), [first]);
        assert_eq!(left(&mut broker, publisher), 2, "{shards}, {no_ack}");
        broker.vanish(client);
        broker.vanish(publisher);
        assert_eq!(broker.leftovers(), 0);
    }
}

#[test]
fn a_get_is_not_answered_with_a_header_that_fits_into_no_frame() {
    for (shards, no_ack) in [(1, false), (1, true), (2, false), (2, true)] {
        let (mut broker, publisher) = filled(shards);
        let client = narrow(&mut broker);
        assert_eq!(rig::names(&broker.call(client, 1, &get(no_ack))), ["BasicGetOk"]);
        assert_eq!(rig::names(&broker.call(client, 1, &get(no_ack))), [TOO_LARGE]);
        broker.call(client, 1, &CLOSE_OK);
        assert_eq!(left(&mut broker, publisher), if no_ack { 2 } else { 3 });
        broker.vanish(client);
        broker.vanish(publisher);
        assert_eq!(broker.leftovers(), 0);
    }
}

#[test]
fn a_publish_with_a_header_that_cannot_come_back_is_refused() {
    // The frame is as long as a client may make it, and 8 bytes longer than it takes.
    let bytes = publish("nobody", true, 4096 + 8 - 36);
    let text = TOO_LARGE.replace("10036", "4104");
    for confirms in [false, true] {
        let mut broker = Rig::new(1);
        let client = narrow(&mut broker);
        if confirms {
            broker.call(client, 1, &Method::ConfirmSelect { nowait: false });
        }
        let fits = publish("nobody", true, 4096 - 36);
        let names = rig::names(&broker.send(client, &fits));
        assert_eq!(
            names,
            if confirms { vec!["BasicReturn", "BasicAck"] } else { vec!["BasicReturn"] }
        );
        let names = rig::names(&broker.send(client, &bytes));
        assert_eq!(names, if confirms { vec!["BasicNack", &text] } else { vec![&*text] });
        broker.vanish(client);
        assert_eq!(broker.leftovers(), 0);
    }
}
