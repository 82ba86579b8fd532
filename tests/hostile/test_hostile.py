"""Clients that mean harm, and a neighbour that must not notice."""

import contextlib
import random
import re
import socket
import struct
import time

import pytest
from pika import frame, spec

import wire
from many import open_all, push
from neighbour import Neighbour
from support import eventually
from wire import HEADER, Wire

MIB = 1 << 20
# Tables in each other that are taken, with room for those around them.
LEVELS = 1000
LARGE = "x" * 120_000
RESET = struct.pack("ii", 1, 0)


@contextlib.contextmanager
def sockets(broker, many):
    """So many plain sockets, connected; all are closed at the end."""
    opened = []
    try:
        for _ in range(many):
            opened.append(socket.create_connection((broker.host, broker.port), timeout=15))
        yield opened
    finally:
        for each in opened:
            each.close()


def closed(each):
    """Whether the broker has closed this socket; what it said before is thrown away."""
    each.setblocking(False)
    try:
        while each.recv(1 << 16):
            pass
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True


def server_gone(each):
    eventually(lambda: closed(each), seconds=30)


def start_ok(table):
    """The bytes of a connection.start-ok with this encoded table."""
    payload = struct.pack(">HHI", 10, 11, len(table)) + table
    payload += b"\5PLAIN" + struct.pack(">I", 12) + b"\0guest\0guest" + b"\5en_US"
    return wire.raw_frame(1, 0, payload)


def bomb(depth, kind):
    """The content of a table with tables or arrays in each other."""
    name, content = b"\0" if kind == b"F" else b"", b""
    for _ in range(depth):
        content = name + kind + struct.pack(">I", len(content)) + content
    return content if name else b"\0" + content


def test_handshakes_that_never_end(own_broker, scaled, measured):
    broker = own_broker(config="handshake_timeout = 2500\n")
    starts = [b"", b"A", HEADER[:7], HEADER, HEADER + start_ok(b"")[:20], b"\x16\x03\x01"]
    with contextlib.ExitStack() as stack:
        neighbour, before = stack.enter_context(Neighbour(broker)), broker.rss()
        slow = stack.enter_context(sockets(broker, scaled(1200)))
        for number, each in enumerate(slow):
            each.sendall(starts[number % len(starts)])
        # Byte by byte is no progress either.
        rest, dripping = start_ok(b""), slow[3::60]
        for at in range(len(rest) - 1):
            for each in dripping:
                with contextlib.suppress(OSError):
                    each.sendall(rest[at:at + 1])
        neighbour.goes_on()
        measured(f"{(broker.rss() - before) // len(slow)} bytes for each that never ends")
        Wire(broker).opened().socket.close()
        for each in slow:
            server_gone(each)
        neighbour.goes_on()
    assert "panicked" not in broker.log()


def test_sockets_that_only_listen_or_only_speak(broker, neighbour):
    clients = open_all(broker, 40, heartbeat=1)
    for client in clients[::2]:
        client.socket.shutdown(socket.SHUT_WR)
    # The others say nothing any more: no heartbeats come, and none are read.
    for client in clients:
        server_gone(client.socket)
        client.socket.close()
    neighbour.goes_on()


def test_connections_that_vanish_in_the_middle(broker, neighbour, channel, shared, scaled):
    content = wire.message(1, "", shared, b"x" * 200_000)
    rng, before = random.Random(7), broker.descriptors()
    for number in range(scaled(100)):
        client = Wire(broker).opened()
        client.call(1, spec.Queue.Declare(queue=f"mine.{number}", exclusive=True),
                    spec.Queue.DeclareOk)
        client.write(content[:rng.randrange(1, len(content))])
        if number % 2:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.socket.close()
    eventually(lambda: broker.descriptors() <= before + 4)
    assert channel.queue_declare(shared, passive=True).method.message_count == 0
    neighbour.goes_on()


def unread(what, queue):
    """Bytes that are answered with many more, or with as many."""
    if what == "returns":
        return wire.message(1, "", "nobody", b"x" * 1000, mandatory=True) * 20_000
    if what == "gets":
        return frame.Method(1, spec.Basic.Get(queue=queue)).marshal() * 10_000
    if what == "deliveries":
        return frame.Method(1, spec.Basic.Consume(queue=queue)).marshal()
    methods = spec.Channel.Open(), spec.Queue.Purge(queue="nobody"), spec.Channel.CloseOk()
    return b"".join(
        frame.Method(channel, method).marshal()
        for channel in range(2, 300) for method in methods) * 150


@pytest.mark.parametrize("what", ["returns", "errors", "gets", "deliveries"])
def test_a_peer_that_never_reads(broker, neighbour, shared, measured, what):
    client = Wire(broker).opened()
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    if what in ("gets", "deliveries"):
        for _ in range(20):
            client.write(wire.message(1, "", shared, b"x" * MIB))
        client.reached(1, shared)
    hostile = unread(what, shared)
    before = broker.rss()
    taken = push(client.socket, hostile)
    neighbour.goes_on()
    more = broker.rss() - before
    measured(f"{taken} of {len(hostile)} bytes were read, {more // 1024} KiB more in memory")
    # The marks for output and for input behind barriers, one message over, buffers that doubled.
    assert more < 24 * MIB
    client.socket.close()
    neighbour.goes_on()


def test_bodies_that_were_announced_and_never_come(broker, neighbour, scaled, measured):
    clients = open_all(broker, scaled(200))
    before = broker.rss()
    for client in clients:
        method = spec.Basic.Publish(exchange="", routing_key="nobody")
        client.write(frame.Method(1, method).marshal() + wire.header(1, 100 * MIB))
        client.write(frame.Body(1, b"x" * 5000).marshal())
    neighbour.goes_on()
    each = (broker.rss() - before) / len(clients)
    measured(f"{each:.0f} bytes for each of 5,000 that came of 100 MiB announced")
    assert each < 80 * 1024
    for client in clients:
        client.socket.close()


@pytest.mark.parametrize("kind", [b"F", b"A"])
def test_tables_in_tables_in_tables(broker, neighbour, raw, kind):
    for depth in (60, 1000, 1100, 20_000):
        table = bomb(depth, kind)
        room = 131_000
        if len(table) < 8000:
            client = raw()
            client.write(HEADER)
            client.expect(spec.Connection.Start)
            client.write(start_ok(table))
            answer = client.next()
            fine = isinstance(getattr(answer, "method", None), spec.Connection.Tune)
            assert fine == (depth <= LEVELS), answer
        if len(table) < room:
            client = raw().opened()
            declare = struct.pack(">HHH", 50, 10, 0) + b"\1q\0" + struct.pack(">I", len(table))
            client.write(wire.raw_frame(1, 1, declare + table))
            answer = client.next().method
            expected = spec.Queue.DeclareOk if depth <= LEVELS else spec.Connection.Close
            assert isinstance(answer, expected), answer
    neighbour.goes_on()


def test_floods_of_channels(broker, neighbour, raw, measured):
    client, sizes = raw(seconds=30).opened(channels=0), []
    numbers = range(1, 2048)
    close = spec.Channel.Close(200, "", 0, 0)
    # The allocator takes steps of some MiB at times of its own; a leak grows in every round.
    while len(sizes) < 20 or sizes[-1] - sizes[-6] >= MIB // 2:
        assert len(sizes) < 200, sizes
        client.write(b"".join(
            frame.Method(number, spec.Channel.Open()).marshal() for number in numbers))
        for number in numbers:
            client.expect(spec.Channel.OpenOk, number)
        sizes.append(broker.rss())
        client.write(b"".join(frame.Method(number, close).marshal() for number in numbers))
        for number in numbers:
            client.expect(spec.Channel.CloseOk, number)
    measured(f"2,047 channels opened {len(sizes)} times: {(sizes[-1] - sizes[0]) // 1024} KiB grown")
    # Any number is free as long as fewer than channel_max are open.
    for number in (*numbers[1:], 2048):
        client.send(number, spec.Channel.Open())
        client.expect(spec.Channel.OpenOk, number)
    client.send(1, spec.Channel.Open())
    assert client.expect(spec.Connection.Close, 0).reply_code == 530
    neighbour.goes_on()


def test_more_connections_than_open_files(own_broker):
    broker = own_broker(files=200)
    begin = time.monotonic()
    with Neighbour(broker) as neighbour:
        for _ in range(2):
            with sockets(broker, 600) as flood:
                for each in flood:
                    with contextlib.suppress(OSError):
                        each.sendall(HEADER)
                eventually(lambda: sum(map(closed, flood)) >= 400)
                neighbour.goes_on()
            # Those that were let in are gone, and others are welcome.
            eventually(lambda: broker.descriptors() < 100)
            Wire(broker).opened().socket.close()
        neighbour.goes_on()
    told = broker.log().count("clients were refused")
    assert 1 <= told <= time.monotonic() - begin + 2


@pytest.mark.parametrize("size", [131_073, 1 << 31, (1 << 32) - 1])
def test_frames_too_large(broker, neighbour, raw, size):
    before = broker.rss()
    client = raw().opened()
    client.write(struct.pack(">BHI", 3, 1, size) + b"x" * 1000)
    close = client.expect(spec.Connection.Close, 0)
    assert close.reply_code == 501 and "frame_too_large" in close.reply_text
    client.until_closed()
    assert broker.rss() - before < 8 * MIB
    neighbour.goes_on()


def test_garbage_behind_an_error(broker, neighbour, raw):
    rng = random.Random(3)
    for error in (spec.Channel.Open(), spec.Tx.Select(), spec.Basic.GetEmpty()):
        client = raw().opened()
        client.send(1, error)
        client.send(1, spec.Channel.Open())
        push(client.socket, rng.randbytes(8 * MIB), seconds=1)
        frames = client.until_closed()
        assert isinstance(frames[-1].method, spec.Connection.Close), frames
        neighbour.goes_on(5)


REFUSED_TABLES = {
    "queue": lambda: spec.Queue.Declare(queue="large", arguments={"x-any": LARGE}),
    "exchange": lambda: spec.Exchange.Declare(exchange="large", arguments={"x-any": LARGE}),
    "binding": lambda: spec.Queue.Bind(
        queue="bound", exchange="amq.headers", arguments={"h": LARGE}),
    "unbinding": lambda: spec.Queue.Unbind(
        queue="bound", exchange="amq.headers", arguments={"h": LARGE}),
    "consumer": lambda: spec.Basic.Consume(queue="bound", arguments={"x-any": LARGE}),
}


@pytest.mark.parametrize("what", REFUSED_TABLES)
def test_a_table_of_arguments_has_a_limit(broker, raw, what):
    client = raw().opened()
    client.call(1, spec.Queue.Declare(queue="bound"), spec.Queue.DeclareOk)
    client.send(1, REFUSED_TABLES[what]())
    close = client.expect(spec.Channel.Close, 1)
    assert close.reply_code == 406
    assert re.fullmatch(
        r"PRECONDITION_FAILED - arguments of 120\d\d\d bytes are larger than the limit of 16384",
        close.reply_text)
