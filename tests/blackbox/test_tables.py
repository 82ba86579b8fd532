"""Field tables that nest: in headers, in arguments and in what a client says of itself."""

import struct

import pytest
from pika import spec

from support import expect
from wire import HEADER, raw_frame

LEVELS_MAX = 1024
TABLE, ARRAY = b"F", b"A"


def counted(content):
    return struct.pack(">I", len(content)) + content


def named(name, value):
    return bytes([len(name)]) + name + value


def nested(levels, last=b"t\x01"):
    """The content of a table with so many tables and arrays in each other."""
    value = last
    for level in range(levels, 0, -1):
        kind = ARRAY if level % 2 else TABLE
        value = kind + counted(value if kind == ARRAY else named(b"k", value))
    return named(b"deep", value)


def short(text):
    return named(text.encode(), b"")


def method(channel, of, arguments):
    """A method's frame, with arguments that no library encodes."""
    return raw_frame(1, channel, struct.pack(">I", of.INDEX) + arguments)


def declare(queue, table):
    return method(1, spec.Queue.Declare, b"\0\0" + short(queue) + b"\x04" + counted(table))


def bind(queue, exchange, table):
    names = short(queue) + short(exchange) + short("")
    return method(1, spec.Queue.Bind, b"\0\0" + names + b"\0" + counted(table))


def publish(exchange, table, key=""):
    names = b"\0\0" + short(exchange) + short(key) + b"\0"
    header = struct.pack(">HHQH", 60, 0, 0, 0x2000) + counted(table)
    return method(1, spec.Basic.Publish, names) + raw_frame(2, 1, header)


def start_ok(broker, table):
    login = f"\0{broker.user}\0{broker.password}".encode()
    rest = short("PLAIN") + counted(login) + short("en_US")
    return method(0, spec.Connection.StartOk, counted(table) + rest)


@pytest.mark.row("Framing", "Nested tables")
@pytest.mark.parametrize("levels", [65, 512, LEVELS_MAX])
def test_deep_tables_are_taken_everywhere(raw, name, exchange, levels):
    client, queue, source, table = raw(), name(), exchange("headers"), nested(levels)
    client.write(HEADER)
    client.expect(spec.Connection.Start, 0)
    # Before tuning 3.10 takes frames of 4096 bytes.
    client.write(start_ok(client.broker, nested(min(levels, 600))))
    client.expect(spec.Connection.Tune, 0)
    client.send(0, spec.Connection.TuneOk(2047, 131072, 0), spec.Connection.Open("/"))
    client.expect(spec.Connection.OpenOk, 0)
    client.call(1, spec.Channel.Open(), spec.Channel.OpenOk)
    for _ in range(2):
        client.write(declare(queue, table))
        client.expect(spec.Queue.DeclareOk, 1)
    client.write(bind(queue, source, table))
    client.expect(spec.Queue.BindOk, 1)
    client.write(publish(source, nested(levels - 1)) + publish(source, table))
    client.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    got = client.call(1, spec.Basic.Get(queue=queue, no_ack=True), spec.Basic.GetOk)
    assert got.message_count == 0
    # Read as bytes: pika would need a stack that deep.
    while not client.pending.endswith(b"\xce"):
        assert client._fill()
    assert client.pending[7:-1] == struct.pack(">HHQH", 60, 0, 0, 0x2000) + counted(table)


@pytest.mark.row("Framing", "Nested tables")
@pytest.mark.parametrize("where", [
    lambda queue, table: declare(f"{queue}.other", table),
    lambda queue, table: publish("", table, queue),
    lambda queue, table: bind(queue, "amq.headers", table)], ids=["declare", "publish", "bind"])
def test_deeper_tables_close_the_connection(broker, raw, shared, where):
    client = raw().opened()
    client.write(where(shared, nested(LEVELS_MAX + 1)))
    if expect(
            broker, why="3.10 has no limit; a level costs it hundreds of bytes of memory",
            ringtail=True, rabbitmq=False):
        client.refused(502, "SYNTAX_ERROR - field table nested too deeply")
        return
    client.send(0, spec.Connection.Close(200, "", 0, 0))
    while not isinstance(answer := client.next().method, spec.Connection.CloseOk):
        assert isinstance(answer, (spec.Queue.DeclareOk, spec.Queue.BindOk)), answer


@pytest.mark.row("Framing", "Nested tables")
def test_tables_as_deep_as_a_frame_is_long(broker, raw, channel):
    client = raw().opened()
    client.write(b"".join(declare("deep", nested(18_000)) for _ in range(16)))
    if expect(
            broker, why="3.10 has no limit; a level costs it hundreds of bytes of memory",
            ringtail=True, rabbitmq=False):
        client.refused(502, "SYNTAX_ERROR - field table nested too deeply")
    channel.exchange_declare("amq.direct", passive=True)


LARGE = {"x-any": "x" * 20_000}
WITH_ARGUMENTS = {
    "queue": lambda queue: spec.Queue.Declare(
        queue=f"{queue}.2", exclusive=True, arguments=LARGE),
    "exchange": lambda queue: spec.Exchange.Declare(
        exchange=queue, auto_delete=True, arguments=LARGE),
    "binding": lambda queue: spec.Queue.Bind(
        queue=queue, exchange="amq.direct", arguments=LARGE),
    "consumer": lambda queue: spec.Basic.Consume(queue=queue, arguments=LARGE),
}


@pytest.mark.row("Framing", "Large tables of arguments")
@pytest.mark.parametrize("what", WITH_ARGUMENTS)
def test_large_tables_of_arguments(raw, name, what):
    client, queue = raw().opened(), name()
    client.call(1, spec.Queue.Declare(queue=queue, exclusive=True), spec.Queue.DeclareOk)
    client.send(1, WITH_ARGUMENTS[what](queue))
    answer = client.next().method
    refused = expect(
        client.broker, why="3.10 keeps what a frame holds, in every process that looks at it",
        ringtail=True, rabbitmq=False)
    assert isinstance(answer, spec.Channel.Close) == refused, answer
    if refused:
        assert answer.reply_code == 406
        assert answer.reply_text == (
            "PRECONDITION_FAILED - arguments of 20011 bytes are larger than the limit of 16384")
    elif what == "exchange":
        client.call(1, spec.Exchange.Delete(exchange=queue), spec.Exchange.DeleteOk)


@pytest.mark.row("Framing", "Large tables of arguments")
def test_what_is_16_kib_is_taken(raw, name):
    client, queue = raw().opened(), name()
    # A name of a length, its type, and a string of a length.
    arguments = {"x-any": "x" * (16 * 1024 - 1 - 5 - 1 - 4)}
    declare_it = spec.Queue.Declare(queue=queue, exclusive=True, arguments=arguments)
    for _ in range(2):
        client.call(1, declare_it, spec.Queue.DeclareOk)
