"""One ordinary user tries to make the broker hold more memory than its limit; a neighbour goes on.

What decides is the memory of the process: beyond what an idle one has, it stays within a quarter
above the limit. What the broker counts itself is compared with that.
"""

import contextlib
import re
import threading

import pytest
from pika import frame, spec

from many import open_all
from neighbour import Neighbour
from support import eventually
from test_heavy import confirming, publish_confirmed
from test_hostile import push
from wire import Wire, message

MB, MIB = 10**6, 1 << 20
LIMIT = 200 * MB
CONFIG = f"vm_memory_high_watermark.absolute = {LIMIT}\nlog.console.level = debug\n"
# What an idle process has, and does not count.
IDLE = 36 * MIB
LARGE = "x" * 120_000
# Looks at the memory, one each 20 ms, that show that nothing happens any more.
QUIET_LOOKS = 40
# Below the limit for the arguments of one method.
TABLE = {"x-any": "x" * 16_000}


class Attack:
    """A broker with a limit, its neighbour, and what is judged in the end."""

    def __init__(self, broker, measured):
        self.broker, self.measured = broker, measured
        self.before = broker.rss()
        self.most = self.counted = 0
        self.over = threading.Event()
        self.watch = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self.watch.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.watch.join()

    def _watch(self):
        while not self.over.wait(0.02):
            with contextlib.suppress(OSError):
                self.most = max(self.most, self.broker.rss())

    def alarmed(self):
        """Whether the memory alarm was ever set."""
        return "memory resource limit alarm set" in self.broker.log()

    def counts(self):
        """What the broker counted, and what the process had, at each look."""
        found = re.findall(r"memory in bytes counted=(\d+) process=(\d+)", self.broker.log())
        return [(int(counted), int(process)) for counted, process in found]

    def held(self):
        """The attack goes on, and the memory stays within its bound."""
        most = max(self.most, self.broker.rss())
        counted, process = max(self.counts(), key=lambda both: both[1], default=(0, 0))
        self.measured(
            f"{most / MB:.0f} MB at most of {LIMIT / MB:.0f}, {self.before / MB:.0f} before; counted "
            f"{counted / MB:.0f} where the process had {process / MB:.0f} beyond idle; "
            f"alarm: {self.alarmed()}")
        assert most <= LIMIT * 1.25 + IDLE, (most, counted, process)

    def counted_well(self):
        """Where the process had most, the broker's own count is within a quarter of that."""
        counted, process = max(self.counts(), key=lambda both: both[1])
        used = process + IDLE - self.before
        assert 0.75 * used <= counted <= 1.25 * used + 8 * MIB, (counted, used)

    def given_back(self, seconds=30):
        """After the attack its memory goes back to the system."""
        room = 32 * MIB
        eventually(
            lambda: self.broker.rss() < self.before + room, seconds,
            lambda: f"{self.broker.rss() / MB:.0f} MB are left of {self.most / MB:.0f}")

    def settled(self, seconds=30):
        """Waits until the memory has not grown for a while."""
        seen = [self.broker.rss()]

        def still():
            """Whether the last looks saw the same."""
            seen.append(self.broker.rss())
            return len(seen) > QUIET_LOOKS and max(seen[-QUIET_LOOKS:]) - seen[-QUIET_LOOKS] < MIB

        eventually(still, seconds)

    def ends_well(self, *clients):
        """SIGTERM ends the broker in order. It would wait for a close-ok of clients that are left."""
        for client in clients:
            client.socket.close()
        assert self.broker.stop() == 0
        assert "panicked" not in self.broker.log()


@pytest.fixture
def attack(own_broker, measured):
    """An attack on a broker of its own."""
    with Attack(own_broker(config=CONFIG), measured) as under_way:
        yield under_way


def declare_many(client, many, prefix="many", arguments=None, **kinds):
    """Declares so many queues."""
    names = [f"{prefix}.{number}" for number in range(many)]
    for at in range(0, many, 500):
        some = names[at:at + 500]
        client.send(1, *(spec.Queue.Declare(queue=name, arguments=arguments, **kinds) for name in some))
        for _ in some:
            client.expect(spec.Queue.DeclareOk, 1)
    return names


def test_large_headers_to_thousands_of_queues(attack, scaled):
    client = Wire(attack.broker, seconds=60).opened()
    with Neighbour(attack.broker) as neighbour:
        names = declare_many(client, scaled(4000))
        for at in range(0, len(names), 500):
            some = names[at:at + 500]
            client.send(1, *(spec.Queue.Bind(queue=name, exchange="amq.fanout") for name in some))
            for _ in some:
                client.expect(spec.Queue.BindOk, 1)
        attack.before = attack.broker.rss()
        client.write(message(1, "amq.fanout", "", b"", headers={"h": LARGE}))
        client.reached(1, names[0])
        neighbour.goes_on(50)
        attack.held()
        for name in names:
            client.send(1, spec.Queue.Delete(queue=name, nowait=True))
        client.reached(1, neighbour.queue)
        client.socket.close()
        attack.given_back()
        neighbour.goes_on()
    assert not attack.alarmed()
    attack.ends_well()


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


def endless(kind, number):
    """The methods that fill the topology."""
    if kind == "queues":
        return spec.Queue.Declare(queue=f"large.{number}", arguments=TABLE)
    if kind == "bindings":
        return spec.Queue.Bind(
            queue="bound", exchange="amq.headers", routing_key=str(number), arguments=TABLE)
    return spec.Exchange.Declare(exchange=f"large.{number}", arguments=TABLE)


def fill(broker, kind, durable=False):
    """Declares until it is refused; the number that was taken, and why no more."""
    client, taken = Wire(broker, seconds=60).opened(), 0
    client.call(1, spec.Queue.Declare(queue="bound"), spec.Queue.DeclareOk)
    while taken < 3000:
        method = endless(kind, taken)
        if durable:
            method.durable = True
        client.send(1, method)
        answer = client.next().method
        if isinstance(answer, spec.Channel.Close):
            client.send(1, spec.Channel.CloseOk())
            client.call(1, spec.Channel.Open(), spec.Channel.OpenOk)
            return client, taken, answer
        taken += 1
    raise AssertionError(f"{taken} were taken")


@pytest.mark.parametrize("kind", ["queues", "bindings", "exchanges"])
def test_what_is_declared_fills_a_part_of_the_memory(attack, kind):
    with Neighbour(attack.broker) as neighbour:
        client, taken, why = fill(attack.broker, kind)
        assert why.reply_code == 406
        assert "bytes of memory that they may" in why.reply_text
        attack.measured(f"{taken} {kind}")
        neighbour.goes_on()
        attack.held()
        # Who declares what is there already is not refused, nor who deletes.
        client.call(1, spec.Queue.Declare(queue="bound"), spec.Queue.DeclareOk)
        if kind == "queues":
            for number in range(taken):
                client.send(1, spec.Queue.Delete(queue=f"large.{number}", nowait=True))
        elif kind == "bindings":
            client.send(1, spec.Queue.Delete(queue="bound", nowait=True))
        else:
            for number in range(taken):
                client.send(1, spec.Exchange.Delete(exchange=f"large.{number}", nowait=True))
        client.call(1, spec.Queue.Declare(queue="last"), spec.Queue.DeclareOk)
        attack.given_back()
        neighbour.goes_on()
    assert not attack.alarmed()
    attack.ends_well(client)


def test_durable_declares_give_their_memory_back(attack):
    client, taken, _ = fill(attack.broker, "queues", durable=True)
    attack.held()
    for number in range(taken):
        client.send(1, spec.Queue.Delete(queue=f"large.{number}", nowait=True))
    client.call(1, spec.Queue.Declare(queue="last"), spec.Queue.DeclareOk)
    attack.given_back()
    attack.ends_well(client)


def deaf(broker, many, channels=1):
    """Clients that never read what they are sent."""
    return open_all(broker, many, channels=channels)


def together(clients, data):
    """All clients send the same at once, as much as the broker takes."""
    threads = [threading.Thread(target=push, args=(client.socket, data)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_returns_that_nobody_reads(attack):
    data = message(1, "", "nobody", bytes(30 * MB), mandatory=True)
    clients = deaf(attack.broker, 25)
    together(clients, data)
    attack.held()
    attack.counted_well()
    for client in clients:
        client.socket.close()
    attack.given_back()
    with Neighbour(attack.broker) as neighbour:
        neighbour.goes_on()
    attack.ends_well()


@pytest.mark.parametrize("no_ack", [True, False], ids=["no-ack", "ack"])
def test_large_deliveries_that_nobody_reads(attack, no_ack):
    publisher, size = confirming(attack.broker, seconds=60), 30 * MB
    publisher.call(1, spec.Queue.Declare(queue="deaf", durable=True), spec.Queue.DeclareOk)
    data = message(1, "", "deaf", bytes(size), delivery_mode=2)
    for _ in range(25):
        publish_confirmed(publisher, [data])
    attack.most = 0
    with Neighbour(attack.broker) as neighbour:
        clients = deaf(attack.broker, 25)
        for client in clients:
            client.send(1, spec.Basic.Qos(prefetch_count=1))
            client.expect(spec.Basic.QosOk, 1)
            client.call(1, spec.Basic.Consume(queue="deaf", no_ack=no_ack), spec.Basic.ConsumeOk)
        neighbour.goes_on(200)
        attack.settled()
        neighbour.goes_on()
        attack.held()
        # All is delivered once they read.
        taken = []
        for client in clients:
            threading.Thread(target=read_on, args=(client, taken, no_ack), daemon=True).start()
        eventually(lambda: len(taken) == 25, 60, lambda: f"{len(taken)} were delivered")
        assert set(taken) == {size}
        neighbour.goes_on()
        count = publisher.call(
            1, spec.Queue.Declare(queue="deaf", passive=True), spec.Queue.DeclareOk).message_count
        assert count == 0
        for client in clients:
            client.socket.close()
        publisher.call(1, spec.Queue.Delete(queue="deaf"), spec.Queue.DeleteOk)
        attack.given_back()
        neighbour.goes_on()
    attack.ends_well(publisher)


def read_on(client, taken, no_ack):
    """Takes deliveries until the socket is closed."""
    client.socket.settimeout(60)
    with contextlib.suppress(OSError, EOFError, AssertionError):
        for tag in range(1, 26):
            client.expect(spec.Basic.Deliver, 1)
            taken.append(len(client.content()[1]))
            if not no_ack:
                client.send(1, spec.Basic.Ack(tag))


def test_gets_on_many_channels_that_nobody_reads(attack):
    publisher = confirming(attack.broker, seconds=60)
    publisher.call(1, spec.Queue.Declare(queue="got"), spec.Queue.DeclareOk)
    publish_confirmed(publisher, [message(1, "", "got", bytes(MB))] * 600, together=20)
    with Neighbour(attack.broker) as neighbour:
        client = Wire(attack.broker, seconds=60).opened(channels=600)
        attack.most = 0
        gets = [frame.Method(number, spec.Basic.Get(queue="got", no_ack=True)).marshal()
                for number in range(1, 601)]
        before = attack.broker.rss()
        client.write(b"".join(gets))
        neighbour.goes_on(100)
        more = attack.broker.rss() - before
        attack.measured(f"{more / MB:.0f} MB more for 600 gets of 1 MB")
        assert more < 40 * MB
        attack.held()
        for _ in range(600):
            client.expect(spec.Basic.GetOk)
            assert len(client.content()[1]) == MB
        client.socket.close()
        neighbour.goes_on()
    attack.ends_well(publisher)


def test_messages_that_nobody_acknowledges(attack, scaled):
    many = scaled(1_000_000)
    publisher = confirming(attack.broker, seconds=60)
    publisher.call(1, spec.Queue.Declare(queue="hoard"), spec.Queue.DeclareOk)
    hoarder = Wire(attack.broker, seconds=60).opened()
    hoarder.call(1, spec.Basic.Consume(queue="hoard"), spec.Basic.ConsumeOk)
    reader = threading.Thread(target=read_all, args=(hoarder,), daemon=True)
    reader.start()
    with Neighbour(attack.broker) as neighbour:
        before = attack.broker.rss()
        publish_confirmed(publisher, [message(1, "", "hoard", b"")] * many, together=20_000)
        neighbour.goes_on(100)
        more = attack.broker.rss() - before
        attack.measured(f"{more / many:.0f} bytes of memory for each of {many} empty messages")
        attack.held()
        hoarder.socket.close()
        publisher.call(1, spec.Queue.Delete(queue="hoard"), spec.Queue.DeleteOk)
        attack.given_back()
        neighbour.goes_on()
    attack.ends_well(publisher)


def read_all(client):
    """Reads whatever comes, and forgets it."""
    client.socket.settimeout(None)
    with contextlib.suppress(OSError):
        while client.socket.recv(MIB):
            pass
