"""What is published arrives as it was: bodies, properties, headers of every type."""

import datetime
import decimal
import struct

import pika
import pytest
from pika import spec

from support import Inbox, drain, expect, publish
from wire import raw_frame

SIZES = [0, 1, 2047, 2048, 2049, 8184, 8185, 65535, 131063, 131064, 131065, 262128, 5 << 20]


def body_of(size):
    """Bytes that repeat nowhere near a frame's length."""
    return b"".join(struct.pack(">I", i) for i in range(size // 4 + 1))[:size]


@pytest.mark.row("Publish, return, confirm", "Content")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("persistent", [1, 2])
def test_bodies(channel, queue, size, persistent):
    body = body_of(size)
    properties = pika.BasicProperties(delivery_mode=persistent)
    channel.basic_publish("", queue, body, properties)
    channel.basic_publish("", queue, body, properties)
    assert channel.basic_get(queue, auto_ack=True)[2] == body
    delivery = Inbox(channel, queue, auto_ack=True).exactly(1)[0]
    assert delivery.body == body
    assert delivery.properties.delivery_mode == persistent


def test_bodies_of_all_sizes_after_each_other(connect, channel, shared):
    inbox = Inbox(connect().channel(), shared, auto_ack=True)
    bodies = [body_of(size) for size in SIZES[:-1] * 3]
    publish(channel, shared, *bodies)
    inbox.exactly(len(bodies))
    assert inbox.bodies == bodies


def test_a_fanned_out_large_body(connect, channel, exchange, name):
    logs, body = exchange("fanout"), body_of(1 << 20)
    inboxes = []
    for _ in range(4):
        receiver, queue = connect().channel(), name()
        receiver.queue_declare(queue, exclusive=True)
        receiver.queue_bind(queue, logs)
        inboxes.append(Inbox(receiver, queue, auto_ack=True))
    publish(channel, "", body, b"small", exchange=logs)
    for inbox in inboxes:
        inbox.exactly(2)
        assert inbox.bodies == [body, b"small"]


EVERY_PROPERTY = {
    "content_type": "application/json", "content_encoding": "gzip", "delivery_mode": 2,
    "priority": 7, "correlation_id": "c-1", "reply_to": "replies", "expiration": "60000",
    "message_id": "m-1", "timestamp": 1_700_000_000, "type": "order", "user_id": "guest",
    "app_id": "shop", "cluster_id": "legacy"}


def test_every_property(channel, queue):
    sent = pika.BasicProperties(**EVERY_PROPERTY, headers={"x": "y"})
    channel.basic_publish("", queue, b"", sent)
    _, got, _ = channel.basic_get(queue)
    assert vars(got) == vars(sent)


@pytest.mark.parametrize("only", EVERY_PROPERTY)
def test_each_property_alone(channel, queue, only):
    sent = pika.BasicProperties(**{only: EVERY_PROPERTY[only]})
    channel.basic_publish("", queue, b"", sent)
    assert vars(channel.basic_get(queue)[1]) == vars(sent)


def test_headers_as_pika_writes_them(channel, queue):
    headers = {
        "text": "grün", "binary": b"\x00\xff", "true": True, "false": False, "int": -5,
        "long": 1 << 40, "decimal": decimal.Decimal("3.14"), "none": None,
        "time": datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc),
        "list": [1, "two", [3], {"four": 4}], "table": {"a": {"b": {"c": []}}}}
    channel.basic_publish("", queue, b"", pika.BasicProperties(headers=headers))
    got = channel.basic_get(queue)[1].headers
    got["time"] = got["time"].replace(tzinfo=datetime.timezone.utc)
    if isinstance(got["binary"], str):
        got["binary"] = got["binary"].encode("latin-1")
    assert got == headers


def field(kind, value):
    """A table with one field `k` of this type."""
    entry = b"\x01k" + kind + value
    return struct.pack(">I", len(entry)) + entry


FIELDS = {
    "S": struct.pack(">I", 3) + b"abc", "T": struct.pack(">Q", 1_700_000_000), "t": b"\x01",
    "b": b"\x80", "B": b"\xff", "s": b"\x80\x00", "u": b"\xff\xff", "I": b"\x80\x00\x00\x00",
    "i": b"\xff\xff\xff\xff", "l": b"\x80" + bytes(7), "f": struct.pack(">f", 0.1),
    "d": struct.pack(">d", 0.1), "D": b"\x02" + struct.pack(">I", 314), "V": b"",
    "x": struct.pack(">I", 3) + b"\x00\xff\x01", "F": field(b"t", b"\x00"),
    "A": struct.pack(">I", 4) + b"t\x01t\x00"}


@pytest.mark.row("Publish, return, confirm", "Content")
@pytest.mark.parametrize("kind", FIELDS)
def test_headers_of_every_type_pass_byte_by_byte(raw, shared, kind):
    client, table = raw().opened(), field(kind.encode(), FIELDS[kind])
    sent = struct.pack(">HHQH", 60, 0, 0, 1 << 13) + table
    client.send(1, spec.Basic.Publish(exchange="", routing_key=shared))
    client.write(raw_frame(2, 1, sent))
    client.send(1, spec.Basic.Get(queue=shared, no_ack=True))
    while sent not in client.pending:
        assert client._fill(), client.pending


def test_routing_keys_of_all_lengths(channel, exchange, queue):
    direct = exchange("direct")
    for key in ("", "x" * 255, "grün", "a b\tc"):
        channel.queue_bind(queue, direct, key)
        publish(channel, key, b"1", exchange=direct)
        method, _, _ = channel.basic_get(queue, auto_ack=True)
        assert (method.routing_key, method.exchange) == (key, direct)
    assert drain(channel, queue) == []
