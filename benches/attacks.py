#!/usr/bin/env python3
"""How long a neighbour waits while another client asks for as much work as it can.

    benches/attacks.py [ATTACK ...] [--scale N] [--binary FILE]

A broker of one shard has one CPU; the attacker and its neighbour have the other. The neighbour
publishes a message and gets it back every few milliseconds. Its longest wait is taken twice: before
the attack, and from its first byte until the broker has answered the attacker's last one. A second
neighbour logs in again and again. Without a name all attacks run. Needs the release build, two CPUs
that do nothing else, and pika (`tests/run` makes a .venv with it).
"""

import argparse
import contextlib
import multiprocessing
import os
import pathlib
import struct
import time

from compare import GENERATOR_CPU, ROOT, Ringtail, machine
from pika import frame, spec
import wire  # beside the brokers, whose folder compare has put on the path

MB = 1_000_000
PAUSE_SECONDS = 0.005
BEFORE_SECONDS = 2
MEMORY = 2_000 * MB
OPEN_OK = struct.pack(">HHI", 20, 11, 0)
LAST = 1999
ATTACKS = {}


def attack(function):
    """Registers an attack: a generator that prepares, yields, attacks, and waits for the end."""
    ATTACKS[function.__name__.replace("_", "-")] = function
    return function


class Attacker(wire.Wire):
    """A client that sends much, and takes what comes without looking at it."""

    def __init__(self, broker):
        super().__init__(broker, seconds=300)
        self.opened()

    def over(self):
        """Waits until the broker has done all that was sent: it answers in order."""
        self.send(LAST, spec.Channel.Open())
        answer = struct.pack(">BHI", 1, LAST, len(OPEN_OK)) + OPEN_OK
        self._until(lambda tail: answer in tail)
        self.call(LAST, spec.Channel.Close(200, "", 0, 0), spec.Channel.CloseOk)

    def take(self, many):
        """Takes so many bytes."""
        left, self.pending = many - len(self.pending), b""
        while left > 0:
            left -= len(self.socket.recv(1 << 20))

    def _until(self, is_last):
        tail = self.pending
        while not is_last(tail):
            tail = tail[-64:] + self.socket.recv(1 << 20)
        self.pending = b""

    def declare(self, *queues, **kinds):
        """Declares queues, many at once."""
        for at in range(0, len(queues), 500):
            self.send(1, *(spec.Queue.Declare(queue=queue, nowait=True, **kinds)
                           for queue in queues[at:at + 500]))
        self.over()

    def bind(self, exchange, bindings):
        """Binds queues: a routing key and arguments each."""
        bindings = list(bindings)
        for at in range(0, len(bindings), 500):
            self.send(1, *(spec.Queue.Bind(queue=queue, exchange=exchange, routing_key=key,
                                           arguments=arguments, nowait=True)
                           for queue, key, arguments in bindings[at:at + 500]))
        self.over()

    def fill(self, queue, many, body=b""):
        """Publishes so many messages."""
        some = wire.message(1, "", queue, body) * 1000
        for _ in range(many // 1000):
            self.write(some)
        self.reached(1, queue)

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


def patterns(many):
    """Patterns of a topic exchange with many places to begin."""
    return (("q", f"#.a.#.b{number}.#.*.#.*", None) for number in range(many))


@attack
def topic_words(client, scale):
    """Keys of 127 words against patterns with several `#`."""
    client.declare("q")
    client.bind("amq.topic", patterns(500 * scale))
    data = publish("amq.topic", ".".join(["a"] * 127)) * 150
    yield
    client.write(data)
    client.over()


@attack
def topic_cc(client, scale):
    """One message with 150 keys against 1,000 patterns."""
    client.declare("q")
    client.bind("amq.topic", patterns(1000 * scale))
    keys = [f"{'a.' * 60}b{number}" for number in range(150)]
    yield
    client.write(publish("amq.topic", "a", {"CC": keys}))
    client.over()


@attack
def fanout_cc(client, scale):
    """One message with 1,000 keys through 4,000 bindings that ignore keys."""
    names = [f"f{number}" for number in range(4000 * scale)]
    client.declare(*names)
    client.bind("amq.fanout", ((name, "", None) for name in names))
    yield
    client.write(publish("amq.fanout", "a", {"CC": [f"k{n}" for n in range(999)]}))
    client.over()


@attack
def headers_many(client, scale):
    """9,000 headers against 500 bindings of a headers exchange."""
    client.declare("q")
    client.bind("amq.headers", (
        ("q", "", {"x-match": "any", **{f"h{number}.{n}": n for n in range(20)}})
        for number in range(500 * scale)))
    data = publish("amq.headers", "", {f"h{number}": number for number in range(9000)})
    yield
    client.write(data)
    client.over()


@attack
def fanout_headers(client, scale):
    """One message with 120 KB of headers to 8,000 queues."""
    names = [f"f{number}" for number in range(8000 * scale)]
    client.declare(*names)
    client.bind("amq.fanout", ((name, "", None) for name in names))
    data = publish("amq.fanout", "", {"large": "x" * 120_000})
    yield
    client.write(data)
    client.over()


@attack
def nack_requeue(client, scale):
    """One nack puts a million messages back."""
    client.hold_new("q", 1_000_000 * scale)
    client.send(1, spec.Basic.Cancel("holds-q", nowait=True))
    yield
    client.send(1, spec.Basic.Nack(0, multiple=True, requeue=True))
    client.reached(1, "q")


@attack
def ack_multiple(client, scale):
    """One ack settles a million messages."""
    client.hold_new("q", 1_000_000 * scale)
    yield
    client.send(1, spec.Basic.Ack(0, multiple=True))
    client.reached(1, "q")


@attack
def channel_end(client, scale):
    """A channel ends that holds a million messages."""
    many = 1_000_000 * scale
    client.declare("q")
    client.send(2, spec.Channel.Open())
    client.expect(spec.Channel.OpenOk)
    client.fill("q", many)
    client.hold("q", many, channel=2)
    yield
    client.call(2, spec.Channel.Close(200, "", 0, 0), spec.Channel.CloseOk)


@attack
def consumers_end(client, scale):
    """A channel ends with 50,000 consumers."""
    client.declare("q")
    for at in range(0, 50_000 * scale, 500):
        client.send(1, *(spec.Basic.Consume(queue="q", consumer_tag=f"c{at + n}", nowait=True)
                         for n in range(500)))
    client.over()
    yield
    client.call(1, spec.Channel.Close(200, "", 0, 0), spec.Channel.CloseOk)


@attack
def consumers_begin(client, scale):
    """50,000 consumers on one channel, and as many cancels."""
    client.declare("q")
    consumes = [spec.Basic.Consume(queue="q", consumer_tag=f"c{n}", nowait=True)
                for n in range(50_000 * scale)]
    cancels = [spec.Basic.Cancel(consume.consumer_tag, nowait=True) for consume in consumes]
    data = b"".join(frame.Method(1, method).marshal() for method in consumes + cancels)
    yield
    client.write(data)
    client.over()


@attack
def durable_declares(client, scale):
    """2,000 durable queues with 16 KB of arguments each."""
    declares = [spec.Queue.Declare(queue=f"d{n}", durable=True, nowait=True,
                                   arguments={"x-any": "x" * 16_000}) for n in range(2000 * scale)]
    data = b"".join(frame.Method(1, method).marshal() for method in declares)
    yield
    client.write(data)
    client.over()


@attack
def purge(client, scale):
    """A purge of a million messages."""
    client.declare("q")
    client.fill("q", 1_000_000 * scale)
    yield
    client.call(1, spec.Queue.Purge(queue="q"), spec.Queue.PurgeOk)


@attack
def delete_full(client, scale):
    """The end of a queue with a million messages."""
    client.declare("q")
    client.fill("q", 1_000_000 * scale)
    yield
    client.call(1, spec.Queue.Delete(queue="q"), spec.Queue.DeleteOk)


@attack
def delete_bound_queue(client, scale):
    """The end of a queue with 50,000 bindings."""
    client.declare("q")
    client.bind("amq.topic", (("q", f"a.{number}", None) for number in range(50_000 * scale)))
    yield
    client.call(1, spec.Queue.Delete(queue="q"), spec.Queue.DeleteOk)


@attack
def delete_exchange(client, scale):
    """The end of an exchange with 50,000 bindings."""
    client.declare("q")
    client.call(1, spec.Exchange.Declare(exchange="e", type="topic"),
                spec.Exchange.DeclareOk)
    client.bind("e", (("q", f"a.{number}", None) for number in range(50_000 * scale)))
    yield
    client.call(1, spec.Exchange.Delete(exchange="e"), spec.Exchange.DeleteOk)


def hold_publishes(client, scale):
    """A transaction holds 100,000 publishes."""
    client.declare("q")
    client.call(1, spec.Tx.Select(), spec.Tx.SelectOk)
    for _ in range(100 * scale):
        client.write(wire.message(1, "", "q", b"") * 1000)
    client.over()


@attack
def commit(client, scale):
    """A commit of 100,000 publishes."""
    hold_publishes(client, scale)
    yield
    client.call(1, spec.Tx.Commit(), spec.Tx.CommitOk)


@attack
def rollback(client, scale):
    """A rollback of 100,000 publishes."""
    hold_publishes(client, scale)
    yield
    client.call(1, spec.Tx.Rollback(), spec.Tx.RollbackOk)


@attack
def recover_in_a_transaction(client, scale):
    """Settles of 200,000 messages that are put back one by one."""
    many = 200_000 * scale
    client.declare("q")
    client.fill("q", many)
    client.call(1, spec.Tx.Select(), spec.Tx.SelectOk)
    client.hold("q", many)
    client.send(1, spec.Basic.Cancel("holds-q", nowait=True), spec.Basic.Ack(1))
    yield
    client.call(1, spec.Basic.Recover(requeue=True), spec.Basic.RecoverOk)
    client.reached(1, "q")


@attack
def dead_letters(client, scale):
    """200,000 messages are rejected at once and go to another queue."""
    many = 200_000 * scale
    client.declare("dead")
    client.hold_new("q", many, arguments={
        "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
    yield
    client.send(1, spec.Basic.Nack(0, multiple=True, requeue=False))
    client.reached(1, "dead")
    while client.call(1, spec.Queue.Declare(queue="dead", passive=True),
                      spec.Queue.DeclareOk).message_count < many:
        time.sleep(0.05)  # a poll that the end of the attack is rounded to


@attack
def expire_at_once(client, scale):
    """300,000 messages expire at the same moment, and go to another queue."""
    many = 300_000 * scale
    client.declare("dead")
    client.declare("q", arguments={
        "x-message-ttl": 15_000, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
    client.fill("q", many)
    yield
    while client.call(1, spec.Queue.Declare(queue="dead", passive=True),
                      spec.Queue.DeclareOk).message_count < many:
        time.sleep(0.05)  # a poll that the end of the attack is rounded to


@attack
def exclusive_queues(client, scale):
    """A connection ends that owns 5,000 queues."""
    with Attacker(client.broker) as owner:
        owner.declare(*(f"x{number}" for number in range(5000 * scale)), exclusive=True)
        yield
        owner.call(0, spec.Connection.Close(200, "", 0, 0), spec.Connection.CloseOk)


@attack
def gets(client, scale):
    """100,000 gets of an empty queue in one write."""
    client.declare("q")
    data = frame.Method(1, spec.Basic.Get(queue="q")).marshal() * (100_000 * scale)
    yield
    sent = 0
    while sent < len(data):
        sent += client.socket.send(data[sent:sent + 65536])
        client.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while client.socket.recv(1 << 20):
                pass
        client.socket.settimeout(300)
    client.over()


@attack
def channels(client, scale):
    """50,000 channels are opened and closed."""
    data = b"".join(frame.Method(7, method).marshal() for method in (
        spec.Channel.Open(), spec.Channel.Close(200, "", 0, 0))) * (50_000 * scale)
    yield
    client.write(data)
    client.over()


@attack
def limits(client, scale):
    """10,000 consumers share a limit that changes 200 times."""
    client.declare("q")
    for at in range(0, 10_000 * scale, 500):
        client.send(1, *(spec.Basic.Consume(queue="q", consumer_tag=f"c{at + n}", nowait=True)
                         for n in range(500)))
    client.over()
    data = b"".join(frame.Method(1, spec.Basic.Qos(prefetch_count=n % 3, global_qos=True)).marshal()
                    for n in range(200))
    yield
    client.write(data)
    client.over()


def neighbour(address, what, out):
    """A client that measures how long it waits, until it is told to stop."""
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


def messages(address):
    """Publishes a message and gets it back."""
    client = wire.Wire(address, seconds=300).opened()
    client.call(1, spec.Queue.Declare(queue="neighbour"), spec.Queue.DeclareOk)
    data = wire.message(1, "", "neighbour", b"x")
    data += frame.Method(1, spec.Basic.Get(queue="neighbour", no_ack=True)).marshal()
    while True:
        yield
        client.write(data)
        assert isinstance(client.next().method, spec.Basic.GetOk)
        client.content()


def logins(address):
    """Logs in and leaves."""
    while True:
        yield
        wire.Wire(address, seconds=300).opened().socket.close()


LOOKS = {"messages": messages, "logins": logins}


class Address:
    """What a client needs to know of a broker; it goes to another process."""

    def __init__(self, broker):
        self.host, self.port = broker.host, broker.port
        self.user, self.password = broker.user, broker.password


class Watch:
    """A neighbour in a process of its own."""

    def __init__(self, broker, what):
        self.pipe, other = multiprocessing.Pipe()
        self.process = multiprocessing.Process(
            target=neighbour, args=(Address(broker), what, other), daemon=True)
        self.process.start()
        self.pipe.recv()

    def longest(self):
        """The longest wait since this was asked last, in milliseconds."""
        self.pipe.send("longest")
        return 1000 * self.pipe.recv()

    def stop(self):
        """Ends it."""
        self.pipe.send("stop")
        self.process.join()


def resident(broker):
    """The memory of the process, in bytes."""
    status = pathlib.Path(f"/proc/{broker.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def run(name, options):
    """One attack on a broker of its own; the line of the table."""
    config = f"vm_memory_high_watermark.absolute = {MEMORY}\n"
    broker = Ringtail(binary=options.binary, shards=1, config=config)
    try:
        broker.start()
        with Attacker(broker) as client:
            under_way = ATTACKS[name](client, options.scale)
            next(under_way)
            watches = [Watch(broker, what) for what in LOOKS]
            time.sleep(BEFORE_SECONDS)  # the twin that is not attacked
            before = [watch.longest() for watch in watches]
            begin = time.monotonic()
            next(under_way, None)
            took = time.monotonic() - begin
            during = [watch.longest() for watch in watches]
            for watch in watches:
                watch.stop()
        waits = " ".join(f"{a:7.1f} -> {b:7.1f}" for a, b in zip(before, during))
        print(f"{name:26} {took:7.2f} s  {waits}  {resident(broker) / MB:6.0f} MB", flush=True)
    finally:
        broker.discard()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help=", ".join(ATTACKS))
    parser.add_argument("--scale", type=int, default=1, help="so many times as much (default 1)")
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/ringtail",
                        help="ringtail executable (default target/release/ringtail)")
    options = parser.parse_args()
    unknown = [name for name in options.attacks if name not in ATTACKS]
    if unknown:
        parser.error(f"no attack {unknown[0]}; there are {', '.join(ATTACKS)}")
    os.sched_setaffinity(0, {int(GENERATOR_CPU)})
    print(machine())
    print(f"{'attack':26} {'took':>9}  {'message, ms: before, under attack; a login the same':44}"
          "  memory")
    for name in options.attacks or ATTACKS:
        run(name, options)


if __name__ == "__main__":
    main()
