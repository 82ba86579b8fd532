//! What arrives on a connection that is being closed.

use amqp::Method;
use ringtail::shard::Gate;

use crate::rig::{self, Client, Rig};

/// A frame of a type that there is not; what follows it cannot be read.
const NO_FRAME: &[u8] = &[9, 0, 1, 0, 0, 0, 0, 0xCE];

const CLOSE_CHANNEL: Method<'static> =
    Method::ChannelClose { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };

/// A client whose connection the server closed, since it opened a channel twice.
fn closed_by_server(broker: &mut Rig) -> Client {
    let client = broker.client(0);
    let octets = broker.call(client, 1, &Method::ChannelOpen { out_of_band: "" });
    assert_eq!(rig::names(&octets), ["ConnectionClose CHANNEL_ERROR - second 'channel.open' seen"]);
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
    let octets = broker.take(client);
    assert_eq!(rig::names(&octets), ["ConnectionClose NOT_ALLOWED - vhost nosuch not found"]);
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
