"""The client that attacks, and the list of what it does."""

import dataclasses
import struct
import threading
import time
import typing

from pika import frame, spec

import wire

MB = 1_000_000
# No attack on anything but memory comes near it.
AMPLE = 2_000 * MB
OPEN_OK = struct.pack(">HHI", 20, 11, 0)
LAST = 1999
# Below the limit for the arguments of one method.
TABLE = {"x-any": "x" * 16_000}
ATTACKS = {}


@dataclasses.dataclass(frozen=True)
class Attack:
    """What is done, to a broker with which memory limit, and how much memory that may take."""

    steps: typing.Callable
    limit: int
    most: int | None

    @property
    def on_memory(self):
        """Whether it is memory that it wants."""
        return self.limit < AMPLE or self.most is not None

    @property
    def neighbour(self):
        """What its neighbour does. One that publishes would wait for the end of an alarm."""
        return "messages" if self.limit == AMPLE else "gets"


def attack(limit=AMPLE, most=None):
    """Registers an attack: a generator that prepares, yields, attacks, and waits for the end. It
    may yield once more, and then takes back what it made the broker keep."""

    def register(steps):
        ATTACKS[steps.__name__.replace("_", "-")] = Attack(steps, limit, most)
        return steps

    return register


class Attacker(wire.Wire):
    """A client that sends much, and takes what comes without looking at it."""

    def __init__(self, broker):
        self.wrote = threading.Event()
        super().__init__(broker, seconds=300)
        self.opened()

    def write(self, data):
        super().write(data)
        self.wrote.set()

    def over(self):
        """Waits until the connection has done all that was sent: it answers in order."""
        self.send(LAST, spec.Channel.Open())
        answer = struct.pack(">BHI", 1, LAST, len(OPEN_OK)) + OPEN_OK
        self._until(lambda tail: answer in tail)
        self.call(LAST, spec.Channel.Close(200, "", 0, 0), spec.Channel.CloseOk)

    def take(self, many):
        """Takes so many bytes."""
        left, self.pending = many - len(self.pending), b""
        while left > 0:
            left -= len(self._some())

    def _until(self, is_last):
        tail = self.pending
        while not is_last(tail):
            tail = tail[-64:] + self._some()
        self.pending = b""

    def _some(self):
        data = self.socket.recv(1 << 20)
        if not data:
            raise EOFError("the broker has closed the connection")
        return data

    def declare(self, *queues, **kinds):
        """Declares queues, many at once."""
        for at in range(0, len(queues), 500):
            self.send(1, *(spec.Queue.Declare(queue=queue, nowait=True, **kinds)
                           for queue in queues[at:at + 500]))
        self._declared(queues[-1])

    def bind(self, exchange, bindings):
        """Binds queues: a routing key and arguments each."""
        bindings = list(bindings)
        for at in range(0, len(bindings), 500):
            self.send(1, *(spec.Queue.Bind(queue=queue, exchange=exchange, routing_key=key,
                                           arguments=arguments, nowait=True)
                           for queue, key, arguments in bindings[at:at + 500]))
        self._declared(bindings[-1][0])

    def _declared(self, queue):
        """Waits until all that was declared on the channel is known to every connection."""
        self.call(1, spec.Queue.Declare(queue=queue, passive=True), spec.Queue.DeclareOk)

    def fan_out(self, many):
        """Declares so many queues, which get what comes to amq.fanout; their names."""
        names = [f"f{number}" for number in range(many)]
        self.declare(*names)
        self.bind("amq.fanout", ((name, "", None) for name in names))
        return names

    def until(self, queue, is_so):
        """Waits until the number of its messages is so."""
        passive = spec.Queue.Declare(queue=queue, passive=True)
        while not is_so(self.call(1, passive, spec.Queue.DeclareOk).message_count):
            time.sleep(0.02)  # a poll that the end of the attack is rounded to

    def fill(self, queue, many, body=b""):
        """Publishes so many messages."""
        one = wire.message(1, "", queue, body)
        for at in range(0, many, 1000):
            self.write(one * min(1000, many - at))
        self.reached(1, queue)

    def consume(self, queue, many):
        """Registers so many consumers."""
        for at in range(0, many, 500):
            self.send(1, *(spec.Basic.Consume(queue=queue, consumer_tag=f"c{at + n}", nowait=True)
                           for n in range(min(500, many - at))))
        self.over()

    def hold(self, queue, many, channel=1):
        """Is sent all messages of a queue, and acknowledges none."""
        tag = f"holds-{queue}"
        self.call(channel, spec.Basic.Consume(queue=queue, consumer_tag=tag), spec.Basic.ConsumeOk)
        method = spec.Basic.Deliver(tag, 1, False, "", queue)
        one = len(frame.Method(channel, method).marshal()) + len(wire.header(channel, 0))
        self.take(many * one)

    def hold_new(self, queue, many, **kinds):
        """Declares a queue, fills it, and holds all its messages."""
        self.declare(queue, **kinds)
        self.fill(queue, many)
        self.hold(queue, many)


def publish(exchange, key, headers=None):
    """The frames of a message with headers."""
    return wire.message(1, exchange, key, b"x", headers=headers)
