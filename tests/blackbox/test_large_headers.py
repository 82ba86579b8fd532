"""Headers that fit into no frame of the client that is to get them."""

import pika
import pytest
from pika import spec

from support import Inbox, count, drain, eventually, expect, publish
from wire import message

FRAME_MAX = 4096
# What a frame has around one header of this name.
AROUND = len("name") + 32
WHY = (
    "3.10 sends the header all the same, and a client that holds the broker to frame_max gives the "
    "connection up")
TEXT = (
    "PRECONDITION_FAILED - a message's header needs a frame of {} octets, which is larger than the "
    "negotiated frame_max (4096)")


def large(size):
    """Properties that need a frame of this size for themselves."""
    return pika.BasicProperties(headers={"name": "x" * (size - AROUND)})


@pytest.fixture
def filled(channel, shared):
    """A queue that holds a small message, one with a header of 10 KB, and another small one."""
    for properties, body in ((None, b"1"), (large(10_000), b"2"), (None, b"3")):
        channel.basic_publish("", shared, body, properties)
    eventually(lambda: count(channel, shared) == 3)
    return shared


def refused(client, method, size=10_000):
    """Channel 1 is closed since a header is too large; what else there is goes on."""
    close = client.expect(spec.Channel.Close, 1)
    assert (close.reply_code, close.reply_text) == (406, TEXT.format(size))
    assert (close.class_id, close.method_id) == method
    client.send(1, spec.Channel.CloseOk())
    client.call(2, spec.Queue.Declare(queue="", exclusive=True), spec.Queue.DeclareOk)
    assert client.largest <= FRAME_MAX


def too_large_for_the_client(client):
    """RabbitMQ sends it."""
    assert len(client.content()[0].headers["name"]) == 10_000 - AROUND
    assert client.largest == 10_000


@pytest.mark.row("Framing", "Header larger than frame_max")
@pytest.mark.parametrize("no_ack", [False, True])
def test_a_consumer_is_not_sent_what_its_client_would_refuse(
        broker, raw, channel, filled, no_ack):
    client = raw().opened(channels=2, frame_max=FRAME_MAX)
    consume = spec.Basic.Consume(queue=filled, no_ack=no_ack)
    client.call(1, consume, spec.Basic.ConsumeOk)
    client.expect(spec.Basic.Deliver, 1)
    assert client.content()[1] == b"1"
    if not expect(broker, why=WHY, ringtail=True, rabbitmq=False):
        client.expect(spec.Basic.Deliver, 1)
        return too_large_for_the_client(client)
    refused(client, (0, 0))
    rest = [b"2", b"3"] if no_ack else [b"1", b"2", b"3"]
    eventually(lambda: count(channel, filled) == len(rest))
    # Every later consumer meets the same message, once each time.
    client.call(1, spec.Channel.Open(), spec.Channel.OpenOk)
    client.call(1, spec.Basic.Qos(prefetch_count=1), spec.Basic.QosOk)
    client.send(1, spec.Basic.Consume(queue=filled, no_ack=no_ack))
    client.expect(spec.Basic.ConsumeOk, 1)
    if not no_ack:
        client.expect(spec.Basic.Deliver, 1)
        client.content()
        client.send(1, spec.Basic.Ack(1))
        rest = [b"2", b"3"]
    refused(client, (0, 0))
    eventually(lambda: count(channel, filled) == 2)
    assert drain(channel, filled) == rest


@pytest.mark.row("Framing", "Header larger than frame_max")
def test_another_consumer_gets_what_one_cannot_be_sent(broker, raw, channel, filled):
    publish(channel, filled, b"4")
    client = raw().opened(channels=2, frame_max=FRAME_MAX)
    client.call(1, spec.Basic.Qos(prefetch_count=1), spec.Basic.QosOk)
    client.call(1, spec.Basic.Consume(queue=filled), spec.Basic.ConsumeOk)
    client.expect(spec.Basic.Deliver, 1)
    client.content()
    inbox = Inbox(channel, filled)
    if expect(broker, why=WHY, ringtail=True, rabbitmq=False):
        inbox.wait(3)
        assert inbox.bodies == [b"2", b"3", b"4"]
        assert not any(each.method.redelivered for each in inbox.deliveries)


@pytest.mark.row("Framing", "Header larger than frame_max")
@pytest.mark.parametrize("no_ack", [False, True])
def test_a_get_is_not_answered_with_what_its_client_would_refuse(
        broker, raw, channel, filled, no_ack):
    client = raw().opened(channels=2, frame_max=FRAME_MAX)
    get = spec.Basic.Get(queue=filled, no_ack=no_ack)
    client.call(1, get, spec.Basic.GetOk)
    client.content()
    client.send(1, get)
    if not expect(broker, why=WHY, ringtail=True, rabbitmq=False):
        client.expect(spec.Basic.GetOk, 1)
        return too_large_for_the_client(client)
    refused(client, (60, 70))
    rest = [b"2", b"3"] if no_ack else [b"1", b"2", b"3"]
    eventually(lambda: count(channel, filled) == len(rest))
    assert drain(channel, filled) == rest


@pytest.mark.row("Framing", "Header larger than frame_max")
@pytest.mark.parametrize("confirms", [False, True])
def test_a_publish_is_not_returned_in_a_frame_that_is_too_large(broker, raw, confirms):
    client = raw().opened(channels=2, frame_max=FRAME_MAX)
    if confirms:
        client.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    # A client may exceed frame_max by the eight bytes that a frame has around its payload.
    properties = {"headers": large(FRAME_MAX + 8).headers}
    client.write(message(1, "", "nobody", b"", mandatory=True, **properties))
    if not expect(broker, why=WHY, ringtail=True, rabbitmq=False):
        client.expect(spec.Basic.Return, 1)
        client.content()
        assert client.largest == FRAME_MAX + 8
        return
    if confirms:
        client.expect(spec.Basic.Nack, 1)
    refused(client, (60, 40), FRAME_MAX + 8)


@pytest.mark.row("Framing", "Header larger than frame_max")
def test_a_reply_is_not_sent_in_a_frame_that_is_too_large(broker, raw, channel):
    client = raw().opened(channels=2, frame_max=FRAME_MAX)
    reply_to = "amq.rabbitmq.reply-to"
    client.call(1, spec.Basic.Consume(queue=reply_to, no_ack=True), spec.Basic.ConsumeOk)
    server = channel.queue_declare("", exclusive=True).method.queue
    client.write(message(1, "", server, b"", reply_to=reply_to))
    request = eventually(lambda: channel.basic_get(server, auto_ack=True)[1])
    channel.basic_publish("", request.reply_to, b"reply", large(10_000))
    if not expect(broker, why=WHY, ringtail=True, rabbitmq=False):
        client.expect(spec.Basic.Deliver, 1)
        return too_large_for_the_client(client)
    refused(client, (0, 0))


@pytest.mark.row("Framing", "frame_max")
def test_a_header_as_large_as_a_frame_is_sent(raw, channel, shared):
    client = raw().opened(frame_max=FRAME_MAX)
    client.call(1, spec.Basic.Consume(queue=shared), spec.Basic.ConsumeOk)
    for body in (b"", bytes(10_000)):
        channel.basic_publish("", shared, body, large(FRAME_MAX))
        client.expect(spec.Basic.Deliver, 1)
        assert client.content() == (large(FRAME_MAX), body)
    client.call(1, spec.Basic.Get(queue=shared), spec.Basic.GetEmpty)
    assert client.largest == FRAME_MAX
