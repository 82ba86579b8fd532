//! What arrives on a connection that is being closed.

use amqp::Method;
use ringtail::shard::Gate;

use crate::rig::{self, Client, Rig};

/// A frame of an unknown type; nothing after it can be read.
const NO_FRAME: &[u8] = &[9, 0, 1, 0, 0, 0, 0, 0xCE];

const CLOSE_CHANNEL: Method<'static> =
    Method::ChannelClose { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };

/// A client whose connection the server closed, since it opened a channel twice.
fn closed_by_server(broker: &mut Rig) -> Client {
    let client = broker.client(0);
    let bytes = broker.call(client, 1, &Method::ChannelOpen { out_of_band: "" });
    assert_eq!(rig::names(&bytes), ["ConnectionClose CHANNEL_ERROR - second 'channel.open' seen"]);
    client
}

#[test]
fn no_frame_instead_of_close_ok_ends_the_connection() {
    let mut broker = Rig::new(2);
    let client = closed_by_server(&mut broker);
    broker.send(client, NO_FRAME);
    assert_eq!(broker.gate(client), Gate::Closing);
    broker.vanish(client);
    assert_eq!(broker.leftovers(), 0);
}

#[test]
fn a_body_without_its_end_instead_of_close_ok_ends_the_connection() {
    let mut broker = Rig::new(2);
    let client = closed_by_server(&mut broker);
    broker.send(client, &[3, 0, 1, 0, 0, 0, 1]);
    broker.send(client, b"x");
    broker.send(client, b"?");
    assert_eq!(broker.gate(client), Gate::Closing);
}

#[test]
fn what_follows_the_close_of_a_client_is_not_looked_at() {
    let mut broker = Rig::new(2);
    let client = broker.client(0);
    broker.call(client, 1, &rig::declare("mine", true));
    broker.receive(client, &[&rig::encoded(0, &rig::close()), NO_FRAME].concat());
    broker.receive(client, NO_FRAME);
    broker.settle();
    assert_eq!(rig::names(&broker.take(client)), ["ConnectionCloseOk"]);
    assert_eq!(broker.gate(client), Gate::Closing);
    broker.vanish(client);
    assert_eq!(broker.leftovers(), 0);
}

#[test]
fn close_ok_is_found_behind_what_was_sent_too_early() {
    let mut broker = Rig::new(2);
    let client = broker.tuned(0);
    let channel = rig::encoded(1, &Method::ChannelOpen { out_of_band: "" });
    let (some, rest) = channel.split_at(5);
    broker.receive(client, &[&rig::encoded(0, &rig::open("nosuch")), some].concat());
    broker.settle();
    let bytes = broker.take(client);
    assert_eq!(rig::names(&bytes), ["ConnectionClose NOT_ALLOWED - vhost nosuch not found"]);
    let close_ok = rig::encoded(0, &Method::ConnectionCloseOk {});
    assert_eq!(broker.gate(client), Gate::Open);
    broker.send(client, &[rest, &close_ok].concat());
    assert_eq!(broker.gate(client), Gate::Closing);
}

#[test]
fn confirms_come_before_the_end_of_their_channel_or_not_at_all() {
    let mut broker = Rig::new(2);
    for end in [Method::BasicAck { delivery_tag: 9, multiple: false }, CLOSE_CHANNEL] {
        let client = broker.client(0);
        broker.call(client, 1, &rig::declare("q", false));
        broker.call(client, 1, &Method::ConfirmSelect { nowait: false });
        // The first is confirmed at once, the second by another shard, later.
        let publishes = [rig::publish("nobody", b"1"), rig::publish("q", b"2")];
        broker.receive(client, &[publishes.concat(), rig::encoded(1, &end)].concat());
        broker.settle();
        let names = rig::names(&broker.take(client));
        let ack = names.iter().rposition(|name| name == "BasicAck");
        assert_eq!(ack, Some(0), "{end:?}: {names:?}");
        assert_eq!(names.len(), 2, "{names:?}");
        broker.vanish(client);
    }
    assert_eq!(broker.leftovers(), 0);
}

#[test]
fn nothing_follows_a_connection_close_of_the_server() {
    let mut broker = Rig::new(2);
    let (client, other) = (broker.client(0), broker.client(1));
    broker.call(client, 1, &rig::declare("q", false));
    broker.call(client, 1, &rig::consume("q"));
    broker.call(client, 1, &Method::ConfirmSelect { nowait: false });
    broker.receive(client, &rig::publish("nobody", b"1"));
    broker.receive(client, &rig::encoded(1, &Method::ChannelOpen { out_of_band: "" }));
    broker.receive(other, &rig::publish("q", b"2"));
    broker.settle();
    assert_eq!(
        rig::names(&broker.take(client)),
        ["ConnectionClose CHANNEL_ERROR - second 'channel.open' seen"]
    );
}

const CLOSE_OK: Method<'static> = Method::ConnectionCloseOk {};
const SECOND_US: u64 = 1_000_000;

#[test]
fn the_client_ends_its_socket_after_close_ok() {
    let mut broker = Rig::new(2);
    let client = broker.client(0);
    assert_eq!(rig::names(&broker.call(client, 0, &rig::close())), ["ConnectionCloseOk"]);
    assert_eq!(broker.gate(client), Gate::Open);
    assert!(broker.shards[0].closed_in_order(client.conn));
    assert_eq!(broker.shards[0].why_closed(client.conn), None);
    broker.vanish(client);
    assert_eq!(broker.leftovers(), 0);
}

#[test]
fn each_close_of_a_client_gets_its_close_ok() {
    let mut broker = Rig::new(2);
    let twice = [rig::encoded(0, &rig::close()), rig::encoded(0, &rig::close())].concat();
    for exclusive in [false, true] {
        let client = broker.client(0);
        broker.call(client, 1, &rig::declare("q", exclusive));
        // The second close arrives in two pieces, the first of them with the first close.
        broker.receive(client, &twice[..30]);
        broker.receive(client, &twice[30..]);
        broker.settle();
        assert_eq!(rig::names(&broker.take(client)), ["ConnectionCloseOk"; 2], "{exclusive}");
        let bytes = [rig::publish("q", b"late"), twice.clone()].concat();
        assert_eq!(rig::names(&broker.send(client, &bytes)), ["ConnectionCloseOk"; 2]);
        assert_eq!(broker.gate(client), Gate::Open);
        broker.vanish(client);
    }
    assert_eq!(broker.leftovers(), 0);
}

#[test]
fn a_method_that_cannot_be_read_is_ignored_behind_close_ok() {
    let mut broker = Rig::new(1);
    let client = broker.client(0);
    broker.call(client, 0, &rig::close());
    let unreadable = [1, 0, 0, 0, 0, 0, 4, 0, 10, 0, 50, 0xCE];
    assert!(broker.send(client, &unreadable).is_empty());
    assert_eq!(rig::names(&broker.call(client, 0, &rig::close())), ["ConnectionCloseOk"]);
}

#[test]
fn a_client_that_keeps_its_socket_after_close_ok_is_closed() {
    for (heartbeat, seconds) in [(0, 30), (7, 7), (600, 30)] {
        let mut broker = Rig::new(1);
        let client = broker.tuned_to(0, (2047, 131_072, heartbeat));
        broker.call(client, 0, &rig::open("/"));
        broker.call(client, 0, &rig::close());
        broker.now.monotonic_us = seconds * SECOND_US - 1;
        broker.tick(0);
        assert_eq!(broker.gate(client), Gate::Open, "heartbeat {heartbeat}");
        broker.now.monotonic_us += 1000;
        broker.tick(0);
        assert_eq!(broker.gate(client), Gate::Closing, "heartbeat {heartbeat}");
        assert_eq!(broker.shards[0].why_closed(client.conn), None);
    }
}

#[test]
fn a_client_that_closes_during_the_handshake_is_kept_no_longer_than_that() {
    let mut broker = Rig::new(1);
    let client = broker.accepted(0);
    broker.send(client, &amqp::PROTOCOL_HEADER);
    broker.now.monotonic_us = 2 * SECOND_US;
    assert_eq!(rig::names(&broker.call(client, 0, &rig::close())), ["ConnectionCloseOk"]);
    broker.now.monotonic_us = 10 * SECOND_US - 1;
    broker.tick(0);
    assert_eq!(broker.gate(client), Gate::Open);
    broker.now.monotonic_us += 1000;
    broker.tick(0);
    assert_eq!(broker.gate(client), Gate::Closing);
}

#[test]
fn crossing_closes_are_all_answered_until_close_ok_comes() {
    let mut broker = Rig::new(2);
    let client = closed_by_server(&mut broker);
    for _ in 0..2 {
        assert_eq!(rig::names(&broker.call(client, 0, &rig::close())), ["ConnectionCloseOk"]);
        assert_eq!(broker.gate(client), Gate::Open);
    }
    broker.call(client, 0, &CLOSE_OK);
    assert_eq!(broker.gate(client), Gate::Closing);
}

#[test]
fn a_broker_that_stops_does_not_wait_for_closed_clients() {
    let mut broker = Rig::new(2);
    let (closed, closing, crossing) = (broker.client(0), broker.client(0), broker.client(0));
    broker.call(closed, 0, &rig::close());
    broker.call(closing, 1, &rig::declare("mine", true));
    broker.receive(closing, &rig::encoded(0, &rig::close()));
    broker.shards[0].shutdown(broker.now);
    assert_eq!(broker.gate(closed), Gate::Closing);
    broker.settle();
    assert_eq!(rig::names(&broker.take(closing)), ["ConnectionCloseOk"]);
    assert_eq!(broker.gate(closing), Gate::Closing);
    assert_eq!(broker.gate(crossing), Gate::Open);
    broker.call(crossing, 0, &rig::close());
    assert_eq!(broker.gate(crossing), Gate::Closing);
}
