"""Frames: their sizes, their order, and what is not a frame."""

import pytest
from pika import frame, spec

from support import Inbox, drain, expect, publish
from wire import header, message, raw_frame

MEBIBYTE = bytes(range(256)) * 4096


@pytest.mark.row("Framing", "frame_max")
@pytest.mark.parametrize("frame_max", [4096, 8192, 131072])
def test_frame_max_is_obeyed_both_ways(raw, shared, frame_max):
    client = raw().opened(frame_max=frame_max)
    client.call(1, spec.Basic.Consume(queue=shared), spec.Basic.ConsumeOk)
    client.write(message(1, "", shared, MEBIBYTE, frame_max))
    client.expect(spec.Basic.Deliver, 1)
    assert client.content()[1] == MEBIBYTE
    assert client.largest == frame_max


@pytest.mark.row("Framing", "frame_max")
def test_between_connections_of_other_frame_max(raw, connect, shared):
    sender, receiver = connect(frame_max=131072).channel(), connect(frame_max=8192).channel()
    inbox = Inbox(receiver, shared, auto_ack=True)
    publish(sender, shared, MEBIBYTE)
    assert inbox.exactly(1)[0].body == MEBIBYTE
    inbox = Inbox(sender, shared, auto_ack=True)
    receiver.connection.close()
    publish(connect(frame_max=8192).channel(), shared, MEBIBYTE)
    assert inbox.exactly(1)[0].body == MEBIBYTE


@pytest.mark.row("Framing", "Body in pieces")
def test_a_body_in_odd_pieces(raw, channel, shared):
    client, body = raw().opened(), MEBIBYTE[:5000]
    client.send(1, spec.Basic.Publish(exchange="", routing_key=shared))
    client.write(header(1, len(body)))
    for piece in (body[:1], body[1:1], body[1:4000], body[4000:4001], body[4001:]):
        client.write(frame.Body(1, piece).marshal())
    client.reached(1, shared)
    assert drain(channel, shared) == [body]


def test_frames_cut_at_every_byte(raw, channel, shared):
    client = raw().opened()
    sent = message(1, "", shared, b"body", content_type="text/plain", headers={"a": 1})
    for cut in range(1, len(sent)):
        client.write(sent[:cut])
        client.write(sent[cut:])
    client.reached(1, shared)
    assert drain(channel, shared) == [b"body"] * (len(sent) - 1)


@pytest.mark.row("Framing", "Body in pieces")
def test_a_heartbeat_between_the_frames_of_a_content(raw, channel, shared):
    client = raw().opened()
    beat = frame.Heartbeat().marshal()
    client.send(1, spec.Basic.Publish(exchange="", routing_key=shared))
    client.write(beat + header(1, 4) + beat + frame.Body(1, b"bo").marshal() + beat)
    client.write(frame.Body(1, b"dy").marshal())
    client.reached(1, shared)
    assert drain(channel, shared) == [b"body"]


@pytest.mark.row("Framing", "Frame too large")
def test_a_frame_that_is_too_large(raw):
    client = raw().opened(frame_max=8192)
    client.write(raw_frame(3, 1, bytes(9000)))
    client.refused(
        501, "FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,9000,8184}")


@pytest.mark.row("Framing", "Frame too large")
def test_a_frame_a_little_larger_than_frame_max(raw, shared):
    client = raw().opened(frame_max=8192)
    client.send(1, spec.Basic.Publish(exchange="", routing_key=shared))
    client.write(header(1, 8192) + raw_frame(3, 1, bytes(8192)))
    client.reached(1, shared)
    client.write(raw_frame(3, 1, bytes(8193))[:7])
    client.refused(
        501, "FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,8193,8184}")


@pytest.mark.row("Framing", "Frame too large before tuning")
def test_a_frame_that_is_too_large_before_tuning(broker, raw):
    client = raw()
    client.write(b"AMQP\x00\x00\x09\x01")
    client.expect(spec.Connection.Start)
    client.write(raw_frame(1, 0, bytes(9000)))
    if expect(
            broker, why="before a connection is open 3.10 writes the reason to its log, waits 3 s "
            "and drops the socket; Ringtail tells the client",
            ringtail=True, rabbitmq=False):
        client.refused(
            501, "FRAME_ERROR - type 1, all octets = <<>>: {frame_too_large,9000,8184}")
    else:
        assert client.until_closed() == []


@pytest.mark.row("Framing", "Malformed UTF-8 in a short string")
def test_malformed_utf_8_in_a_short_string(raw):
    client = raw().opened()
    client.write(raw_frame(1, 1, b"\x00\x32\x00\x0a\x00\x00\x02\xff\xfe\x00" + bytes(4)))
    client.refused(501, "FRAME_ERROR - Malformed UTF-8 in shortstr")


@pytest.mark.row("Framing", "Announced body above 512 MiB")
def test_an_announced_body_above_every_limit(broker, raw):
    client = raw().opened()
    client.send(1, spec.Basic.Publish(exchange="", routing_key="q"))
    client.write(header(1, 1 << 30))
    if expect(
            broker, why="3.10 takes any announced size and waits for the body; newer series and "
            "Ringtail refuse at once what no setting can allow",
            ringtail=True, rabbitmq=False):
        client.refused(
            501, "FRAME_ERROR - content body size 1073741824 exceeds maximum allowed size "
            "536870912")


@pytest.mark.row("Framing", "Content without a method")
def test_a_body_first(raw):
    client = raw().opened()
    client.write(frame.Body(1, b"x").marshal())
    client.refused(
        505, "UNEXPECTED_FRAME - expected method frame, got non method frame instead")


@pytest.mark.row("Framing", "No header after a publish")
def test_a_method_where_a_header_belongs(raw):
    client = raw().opened()
    client.send(1, spec.Basic.Publish(exchange="", routing_key="q"), spec.Basic.Qos())
    client.refused(
        505, "UNEXPECTED_FRAME - expected content header for class 60, "
        "got non content header frame instead")


@pytest.mark.row("Framing", "Header of another class")
def test_a_header_of_another_class(raw):
    client = raw().opened()
    client.send(1, spec.Basic.Publish(exchange="", routing_key="q"))
    client.write(raw_frame(2, 1, b"\x00\x32\x00\x00" + bytes(8) + b"\x00\x00"))
    client.refused(
        505, "UNEXPECTED_FRAME - expected content header for class 60, "
        "got one for class 50 instead")


@pytest.mark.row("Framing", "No body after a header")
def test_a_method_where_a_body_belongs(raw):
    client = raw().opened()
    client.send(1, spec.Basic.Publish(exchange="", routing_key="q"))
    client.write(header(1, 10))
    client.send(1, spec.Basic.Qos())
    client.refused(
        505, "UNEXPECTED_FRAME - expected content body, got non content body frame instead")


@pytest.mark.row("Framing", "Body longer than announced")
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


@pytest.mark.row("Framing", "Garbage")
@pytest.mark.parametrize("garbage", [bytes(64), b"\xff" * 64, b"\x01\x00\x01\x00\x00\x00\x00\xce"])
def test_garbage_costs_only_the_connection(raw, channel, garbage):
    client = raw().opened()
    client.write(garbage)
    assert isinstance(client.next().method, spec.Connection.Close)
    channel.exchange_declare("amq.direct", passive=True)
