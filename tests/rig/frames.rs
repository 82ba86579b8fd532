//! Frames that the clients of tests send, and readers for what they get.

use amqp::frame::{write_body, write_header, write_method};
use amqp::{Frame, Method, Parser, Properties, Table};
use bytes::Bytes;

/// The frame of a method.
pub fn encoded(channel: u16, method: &Method<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_method(&mut bytes, channel, method);
    bytes
}

/// connection.open
pub fn open(virtual_host: &str) -> Method<'_> {
    Method::ConnectionOpen { virtual_host, capabilities: "", insist: false }
}

/// connection.close
pub fn close() -> Method<'static> {
    Method::ConnectionClose { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 }
}

/// queue.declare of a queue that is not durable.
pub fn declare(queue: &str, exclusive: bool) -> Method<'_> {
    Method::QueueDeclare {
        ticket: 0,
        queue,
        passive: false,
        durable: false,
        exclusive,
        auto_delete: false,
        nowait: false,
        arguments: Table::EMPTY,
    }
}

/// basic.consume with acknowledgements.
pub fn consume(queue: &str) -> Method<'_> {
    consume_with(queue, false)
}

/// basic.consume, perhaps without acknowledgements.
pub fn consume_with(queue: &str, no_ack: bool) -> Method<'_> {
    Method::BasicConsume {
        ticket: 0,
        queue,
        consumer_tag: "",
        no_local: false,
        no_ack,
        exclusive: false,
        nowait: false,
        arguments: Table::EMPTY,
    }
}

/// The frames of a publish to a queue on channel 1.
pub fn publish(queue: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = content(queue, body.len() as u64);
    write_body(&mut bytes, 1, body, 131_072);
    bytes
}

/// So many publishes to a queue on channel 1.
pub fn publishes(queue: &str, size: usize, count: usize) -> Bytes {
    publish(queue, &vec![b'x'; size]).repeat(count).into()
}

/// A publish to all queues of `amq.fanout` on channel 1.
pub fn fan_out(body: &[u8]) -> Vec<u8> {
    let mut bytes = content_to("amq.fanout", "", body.len() as u64);
    write_body(&mut bytes, 1, body, 131_072);
    bytes
}

/// The method and the header of a publish to a queue on channel 1.
pub fn content(queue: &str, size: u64) -> Vec<u8> {
    content_to("", queue, size)
}

fn content_to(exchange: &str, routing_key: &str, size: u64) -> Vec<u8> {
    let method = Method::BasicPublish {
        ticket: 0,
        exchange,
        routing_key,
        mandatory: false,
        immediate: false,
    };
    let mut bytes = encoded(1, &method);
    write_header(&mut bytes, 1, size, Properties::EMPTY.encoded());
    bytes
}

/// The names of the methods that a client got; a close with its reply text.
pub fn names(bytes: &[u8]) -> Vec<String> {
    methods(bytes).into_iter().map(|(_, name)| name).collect()
}

/// The same with the channel of each.
pub fn methods(bytes: &[u8]) -> Vec<(u16, String)> {
    let (mut parser, mut at, mut names) = (Parser::new(0), 0, Vec::new());
    while let Some(frame) = parser.next(bytes, &mut at).unwrap() {
        let Frame::Method { channel, payload } = frame else {
            continue;
        };
        let method = Method::read(payload).unwrap();
        let name = match method {
            Method::ConnectionClose { reply_text, .. }
            | Method::ChannelClose { reply_text, .. } => {
                format!("{} {reply_text}", method.name())
            }
            _ => method.name().to_owned(),
        };
        names.push((channel, name));
    }
    names
}

/// A passive queue.declare.
pub fn passive(queue: &str) -> Method<'_> {
    Method::QueueDeclare {
        ticket: 0,
        queue,
        passive: true,
        durable: false,
        exclusive: false,
        auto_delete: false,
        nowait: false,
        arguments: Table::EMPTY,
    }
}

/// The number of deliveries, and the tag of the last.
pub fn deliveries(bytes: &[u8]) -> (usize, u64) {
    read_methods(bytes, |method, (count, last)| match method {
        Method::BasicDeliver { delivery_tag, .. } => (count + 1, delivery_tag),
        _ => (count, last),
    })
}

/// The tags of the acks, each with its flag multiple.
pub fn acks(bytes: &[u8]) -> Vec<(u64, bool)> {
    read_methods(bytes, |method, mut acks: Vec<_>| {
        if let Method::BasicAck { delivery_tag, multiple } = method {
            acks.push((delivery_tag, multiple));
        }
        acks
    })
}

fn read_methods<T: Default>(bytes: &[u8], mut fold: impl FnMut(Method<'_>, T) -> T) -> T {
    let (mut parser, mut at, mut found) = (Parser::new(0), 0, T::default());
    while let Ok(Some(frame)) = parser.next(bytes, &mut at) {
        if let Frame::Method { payload, .. } = frame
            && let Ok(method) = Method::read(payload)
        {
            found = fold(method, found);
        }
    }
    found
}
