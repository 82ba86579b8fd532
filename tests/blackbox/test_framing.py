"""Frames: their sizes, their order, and what is not a frame."""

import pytest
from pika import frame, spec

from support import Inbox, drain, expect, publish
from wire import header, message, octets

MEBIBYTE = bytes(range(256)) * 4096


@pytest.mark.parametrize("frame_max", [8192, 131072])
def test_frame_max_is_obeyed_both_ways(raw, shared, frame_max):
    client = raw().opened(frame_max=frame_max)
    client.call(1, spec.Basic.Consume(queue=shared), spec.Basic.ConsumeOk)
    client.write(message(1, "", shared, MEBIBYTE, frame_max))
    client.expect(spec.Basic.Deliver, 1)
    assert client.content()[1] == MEBIBYTE
    assert client.largest == frame_max


def test_between_connections_of_other_frame_max(raw, connect, shared):
    sender, receiver = connect(frame_max=131072).channel(), connect(frame_max=8192).channel()
    inbox = Inbox(receiver, shared, auto_ack=True)
    publish(sender, shared, MEBIBYTE)
    assert inbox.exactly(1)[0].body == MEBIBYTE
    inbox = Inbox(sender, shared, auto_ack=True)
    receiver.connection.close()
    publish(connect(frame_max=8192).channel(), shared, MEBIBYTE)
    assert inbox.exactly(1)[0].body == MEBIBYTE


def test_a_body_in_odd_pieces(raw, channel, shared):
    client, body = raw().opened(), MEBIBYTE[:5000]
    client.send(1, spec.Basic.Publish(exchange="", routing_key=shared))
    client.write(header(1, len(body)))
    for piece in (body[:1], body[1:1], body[1:4000], body[4000:4001], body[4001:]):
        client.write(frame.Body(1, piece).marshal())
    client.reached(1, shared)
    assert drain(channel, shared) == [body]


def test_frames_cut_at_every_octet(raw, channel, shared):
    client = raw().opened()
    sent = message(1, "", shared, b"body", content_type="text/plain", headers={"a": 1})
    for cut in range(1, len(sent)):
        client.write(sent[:cut])
        client.write(sent[cut:])
    client.reached(1, shared)
    assert drain(channel, shared) == [b"body"] * (len(sent) - 1)


def test_a_heartbeat_between_the_frames_of_a_content(raw, channel, shared):
    client = raw().opened()
    beat = frame.Heartbeat().marshal()
    client.send(1, spec.Basic.Publish(exchange="", routing_key=shared))
    client.write(beat + header(1, 4) + beat + frame.Body(1, b"bo").marshal() + beat)
    client.write(frame.Body(1, b"dy").marshal())
    client.reached(1, shared)
    assert drain(channel, shared) == [b"body"]


def starts(text):
    """Whether a reply text begins so; what follows prints octets the way Erlang does."""
    return lambda reply: reply.startswith(text)


def test_a_frame_that_is_too_large(raw):
    client = raw().opened(frame_max=8192)
    client.write(octets(3, 1, bytes(9000)))
    client.refused(501, starts("FRAME_ERROR - "))


def test_a_frame_that_is_too_large_before_tuning(raw):
    client = raw()
    client.write(b"AMQP\x00\x00\x09\x01")
    client.expect(spec.Connection.Start)
    client.write(octets(1, 0, bytes(9000)))
    assert client.until_closed() is not None


def test_a_wrong_end_of_frame(raw):
    client = raw().opened()
    client.write(octets(1, 1, b"\x00\x3c\x00\x0a\x00\x00\x00\x00\x00\x01\x00", end=0xCD))
    client.refused(501, starts("FRAME_ERROR - "))


def test_an_unknown_frame_type(raw):
    client = raw().opened()
    client.write(octets(9, 1, b"?"))
    assert client.expect(spec.Connection.Close, 0).reply_code in (501, 505)


def test_a_body_first(raw):
    client = raw().opened()
    client.write(frame.Body(1, b"x").marshal())
    client.refused(
        505, "UNEXPECTED_FRAME - expected method frame, got non method frame instead")


def test_a_method_where_a_header_belongs(raw):
    client = raw().opened()
    client.send(1, spec.Basic.Publish(exchange="", routing_key="q"), spec.Basic.Qos())
    client.refused(
        505, "UNEXPECTED_FRAME - expected content header for class 60, "
        "got non content header frame instead")


def test_a_header_of_another_class(raw):
    client = raw().opened()
    client.send(1, spec.Basic.Publish(exchange="", routing_key="q"))
    client.write(octets(2, 1, b"\x00\x32\x00\x00" + bytes(8) + b"\x00\x00"))
    client.refused(
        505, "UNEXPECTED_FRAME - expected content header for class 60, "
        "got one for class 50 instead")


def test_a_method_where_a_body_belongs(raw):
    client = raw().opened()
    client.send(1, spec.Basic.Publish(exchange="", routing_key="q"))
    client.write(header(1, 10))
    client.send(1, spec.Basic.Qos())
    client.refused(
        505, "UNEXPECTED_FRAME - expected content body, got non content body frame instead")


def test_a_body_longer_than_announced(broker, raw, shared):
    client = raw().opened()
    client.send(1, spec.Basic.Publish(exchange="", routing_key=shared))
    client.write(header(1, 3) + frame.Body(1, b"four").marshal())
    if expect(
            broker, why="3.10 does not notice and waits for the end of a body that has passed; "
            "newer series answer 501",
            ringtail=True, rabbitmq=False):
        client.refused(501, "FRAME_ERROR - content body frame exceeds remaining content size")


def test_an_announced_size_allocates_nothing(raw, channel, queue):
    clients = [raw().opened() for _ in range(20)]
    for client in clients:
        client.send(1, spec.Basic.Publish(exchange="", routing_key=queue))
        client.write(header(1, 100 << 20) + frame.Body(1, b"a little").marshal())
    publish(channel, queue, b"others go on")
    assert drain(channel, queue) == [b"others go on"]


@pytest.mark.parametrize("garbage", [bytes(64), b"\xff" * 64, b"\x01\x00\x01\x00\x00\x00\x00\xce"])
def test_garbage_costs_only_the_connection(raw, channel, garbage):
    client = raw().opened()
    client.write(garbage)
    assert isinstance(client.next().method, spec.Connection.Close)
    channel.exchange_declare("amq.direct", passive=True)
