"""Neighbours of an attack in processes of their own, which measure how long they wait."""

import contextlib
import itertools
import multiprocessing
import os
import select
import time

from pika import frame, spec

import wire

PAUSE_SECONDS = 0.005
HEARTBEAT_SECONDS = 2


def messages(address):
    """Publishes a message and gets it back."""
    client = wire.Wire(address, seconds=300).opened()
    client.call(1, spec.Queue.Declare(queue="neighbour"), spec.Queue.DeclareOk)
    get = frame.Method(1, spec.Basic.Get(queue="neighbour", no_ack=True)).marshal()
    for number in itertools.count():
        yield
        body = b"%d" % number
        client.write(wire.message(1, "", "neighbour", body) + get)
        assert isinstance(client.next().method, spec.Basic.GetOk)
        assert client.content()[1] == body


def logins(address):
    """Logs in and leaves."""
    while True:
        yield
        wire.Wire(address, seconds=300).opened().socket.close()


def heartbeats(address):
    """Sends heartbeats and nothing else, and is not closed."""
    client = wire.Wire(address, seconds=300).opened(heartbeat=HEARTBEAT_SECONDS)
    while True:
        yield
        client.write(frame.Heartbeat().marshal())
        if select.select([client.socket], [], [], 0)[0]:
            assert isinstance(client.read(), frame.Heartbeat), "it is closed"


def gets(address):
    """Asks an empty queue for a message."""
    client = wire.Wire(address, seconds=300).opened()
    client.call(1, spec.Queue.Declare(queue="neighbour"), spec.Queue.DeclareOk)
    while True:
        yield
        client.call(1, spec.Basic.Get(queue="neighbour"), spec.Basic.GetEmpty)


LOOKS = {"messages": messages, "logins": logins, "heartbeats": heartbeats, "gets": gets}


def _close_inherited(out):
    """Closes the parent's sockets, so that the broker notices when the parent closes them."""
    for number in map(int, os.listdir("/proc/self/fd")):
        if number > 2 and number != out.fileno():
            with contextlib.suppress(OSError):
                os.close(number)


def _watch(address, what, out):
    _close_inherited(out)
    # It is to measure the broker, not how the attacker and it share their CPU.
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    look = LOOKS[what](address)
    next(look)
    out.send("ready")
    longest = 0.0
    while True:
        begin = time.monotonic()
        next(look)
        longest = max(longest, time.monotonic() - begin)
        if out.poll(PAUSE_SECONDS):
            if out.recv() == "stop":
                return
            out.send(longest)
            longest = 0.0


class Address:
    """What a client needs to know of a broker; it goes to another process."""

    def __init__(self, broker):
        self.host, self.port = broker.host, broker.port
        self.user, self.password = broker.user, broker.password


class Watch:
    """A neighbour in a process of its own. If it fails, the next question to it does."""

    def __init__(self, broker, what):
        self.pipe, other = multiprocessing.Pipe()
        self.process = multiprocessing.Process(
            target=_watch, args=(Address(broker), what, other), daemon=True)
        self.process.start()
        other.close()
        self.pipe.recv()

    def longest(self):
        """The longest wait since this was asked last, in milliseconds."""
        self.pipe.send("longest")
        return 1000 * self.pipe.recv()

    def stop(self):
        """Ends it."""
        with contextlib.suppress(OSError):
            self.pipe.send("stop")
        self.process.join()
