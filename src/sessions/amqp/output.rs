//! What the broker writes by itself in AMQP 0-9-1: deliveries, returns, confirms, and the ends of
//! consumers, channels and connections.

use amqp::Code;
use amqp::frame::{self, Deliver};
use amqp::methods::Method;
use model::mutant::{self, Mutant};
use model::queue::Addressed;
use model::session::Verdict;
use model::session::channel::State;
use model::{Fault, Message, ShardId};

use crate::mesh::enqueue::cost;
use crate::sessions::amqp::wire::Wire;
use crate::sessions::channels::Channels;
use crate::sessions::output::ClientOutput;

/// Writes a delivery from `home`; false when nobody takes it any more.
#[inline]
pub(crate) fn deliver(
    wire: &Wire,
    (output, channels): (&mut ClientOutput, &mut Channels),
    home: ShardId,
    to: Addressed,
    message: Message<'_>,
) -> bool {
    let Some((number, channel)) = channels.open_by_id(to.channel) else {
        return false;
    };
    channel.counted.redeliver += u64::from(to.redelivered);
    let to_consumer = channel.deliver_to(to.consumer, (to.queue, home), to.number);
    let Some((consumer, delivery_tag)) = to_consumer else { return false };
    let deliver = Deliver {
        consumer_tag: consumer.tag.as_bytes(),
        delivery_tag,
        redelivered: to.redelivered,
        exchange: message.exchange_bytes(),
        routing_key: message.routing_key_bytes(),
    };
    output.outbox.deliver(number, &deliver);
    output.outbox.content(number, message, wire.frame_max());
    output.delivered(home, cost(message));
    true
}

/// Writes a message that basic.get found.
pub(crate) fn got(
    wire: &Wire,
    (output, channels): (&mut ClientOutput, &mut Channels),
    (home, remaining): (ShardId, u32),
    to: Addressed,
    message: Message<'_>,
) {
    let Some((number, channel)) = channels.open_by_id(to.channel) else {
        return;
    };
    channel.got(to.number);
    channel.counted.redeliver += u64::from(to.redelivered);
    let method = Method::BasicGetOk {
        delivery_tag: channel.deliver(to.queue, home, to.number),
        redelivered: to.redelivered,
        exchange: message.exchange(),
        routing_key: message.routing_key(),
        message_count: remaining,
    };
    output.outbox.method(number, &method);
    output.outbox.content(number, message, wire.frame_max());
}

pub(crate) fn got_nothing(output: &mut ClientOutput, number: u16) {
    output.outbox.method(number, &Method::BasicGetEmpty { cluster_id: "" });
}

/// Returns a message that nobody takes; false if its header fits into no frame.
#[must_use]
pub(crate) fn give_back(
    wire: &Wire,
    output: &mut ClientOutput,
    number: u16,
    message: Message<'_>,
    publish: Option<u64>,
) -> bool {
    if let Some(delivery_tag) = publish
        && mutant::active(Mutant::AckBeforeReturn)
    {
        output.outbox.method(number, &Method::BasicAck { delivery_tag, multiple: false });
    }
    if message.properties_beyond(wire.properties_max()).is_some() {
        return false;
    }
    let method = Method::BasicReturn {
        reply_code: 312,
        reply_text: "NO_ROUTE",
        exchange: message.exchange(),
        routing_key: message.routing_key(),
    };
    output.outbox.method(number, &method);
    output.outbox.content(number, message, wire.frame_max());
    true
}

/// Tells which publishes of a channel are confirmed.
pub(crate) fn tell_confirms(output: &mut ClientOutput, channels: &mut Channels, number: u16) {
    // Behind channel.close nothing of the channel may follow.
    let open = channels.get(number).filter(|channel| channel.state == State::Open);
    let Some(confirms) = open.and_then(|channel| channel.confirms.as_mut()) else {
        return;
    };
    confirms.tell(|verdict, delivery_tag, multiple| {
        let method = match verdict {
            Verdict::Ack => Method::BasicAck { delivery_tag, multiple },
            Verdict::Nack => Method::BasicNack { delivery_tag, multiple, requeue: false },
        };
        output.outbox.method(number, &method);
    });
}

/// Tells that the server cancelled a consumer, if the client can take that.
pub(crate) fn tell_cancelled(
    wire: &Wire,
    output: &mut ClientOutput,
    number: u16,
    tag: &str,
) -> bool {
    let notify = wire.handshake.capabilities().consumer_cancel_notify;
    if notify {
        output.outbox.method(number, &Method::BasicCancel { consumer_tag: tag, nowait: true });
    }
    notify
}

pub(crate) fn tell_channel_failed(output: &mut ClientOutput, number: u16, fault: &Fault) {
    let (class_id, method_id) = fault.method;
    let method = Method::ChannelClose {
        reply_code: fault.code.number(),
        reply_text: &fault.text,
        class_id,
        method_id,
    };
    output.outbox.method(number, &method);
}

pub(crate) fn tell_channel_closed(output: &mut ClientOutput, number: u16) {
    output.outbox.method(number, &Method::ChannelCloseOk {});
}

/// True if the client is to answer connection.close with this fault. After a framing error nothing
/// that follows can be read, not even close-ok.
pub(crate) fn answers(fault: &Fault) -> bool {
    fault.code != Code::FrameError
}

/// Says why the server closes the connection.
pub(crate) fn tell_failed(output: &mut ClientOutput, fault: &Fault) {
    let (class_id, method_id) = fault.method;
    let method = Method::ConnectionClose {
        reply_code: fault.code.number(),
        reply_text: &fault.text,
        class_id,
        method_id,
    };
    output.outbox.method(0, &method);
}

pub(crate) fn tell_closed(output: &mut ClientOutput) {
    output.outbox.method(0, &Method::ConnectionCloseOk {});
}

/// Tells that the connection is not read for now, if the client can take that.
pub(crate) fn tell_blocked(wire: &Wire, output: &mut ClientOutput, reason: &str) -> bool {
    let told = wire.handshake.capabilities().blocked;
    if told {
        output.outbox.method(0, &Method::ConnectionBlocked { reason });
    }
    told
}

pub(crate) fn tell_unblocked(output: &mut ClientOutput) {
    output.outbox.method(0, &Method::ConnectionUnblocked {});
}

pub(crate) fn heartbeat(output: &mut ClientOutput) {
    frame::write_heartbeat(output.outbox.buffer());
}
