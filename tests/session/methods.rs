//! Methods that a client must not send, or not at that time.

use amqp::frame::{write_body, write_header};
use amqp::{Method, Properties, Table};

use crate::rig::{self, Rig};

#[test]
fn methods_of_the_server_are_refused_as_rabbitmq_does() {
    let (exchange, routing_key) = ("", "");
    let methods = [
        Method::BasicDeliver {
            consumer_tag: "",
            delivery_tag: 1,
            redelivered: false,
            exchange,
            routing_key,
        },
        Method::BasicReturn { reply_code: 1, reply_text: "", exchange, routing_key },
        Method::BasicGetEmpty { cluster_id: "" },
        Method::BasicConsumeOk { consumer_tag: "" },
        Method::QueueDeclareOk { queue: "", message_count: 0, consumer_count: 0 },
        Method::ExchangeDeclareOk {},
        Method::ConfirmSelectOk {},
        Method::ChannelOpenOk { channel_id: &[] },
        Method::ConnectionTune { channel_max: 0, frame_max: 0, heartbeat: 0 },
        Method::ConnectionUnblocked {},
    ];
    let mut broker = Rig::new(1);
    for method in methods {
        let client = broker.client(0);
        let mut bytes = rig::encoded(1, &method);
        if method.has_content() {
            write_header(&mut bytes, 1, 1, Properties::EMPTY.encoded());
            write_body(&mut bytes, 1, b"x", 0);
        }
        let answer = rig::names(&broker.send(client, &bytes));
        assert_eq!(answer, ["ConnectionClose COMMAND_INVALID - unimplemented method"]);
        broker.vanish(client);
    }
    assert_eq!(broker.leftovers(), 0);
}

#[test]
fn the_default_exchange_is_not_declared_passively_either() {
    let mut broker = Rig::new(1);
    let client = broker.client(0);
    let declare = Method::ExchangeDeclare {
        ticket: 0,
        exchange: "",
        kind: "direct",
        passive: true,
        durable: false,
        auto_delete: false,
        internal: false,
        nowait: false,
        arguments: Table::EMPTY,
    };
    let answer = rig::names(&broker.call(client, 1, &declare));
    let text = "ACCESS_REFUSED - operation not permitted on the default exchange";
    assert_eq!(answer, [format!("ChannelClose {text}")]);
}

#[test]
fn a_name_of_line_ends_only_is_no_name() {
    let mut broker = Rig::new(1);
    let client = broker.client(0);
    let bytes = broker.call(client, 1, &rig::declare("\r\n", false));
    let (mut parser, mut at) = (amqp::Parser::new(0), 0);
    let frame = parser.next(&bytes, &mut at).unwrap();
    let Some(amqp::Frame::Method { payload, .. }) = frame else {
        panic!("{frame:?}");
    };
    let Ok(Method::QueueDeclareOk { queue, .. }) = Method::read(payload) else {
        panic!("{:?}", rig::names(&bytes));
    };
    assert!(queue.starts_with("amq.gen-"), "{queue:?}");
}
