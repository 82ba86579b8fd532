"""What the broker must keep for a client, up to more than its limit. Sizes are those of the limit, so
they are never scaled."""

import contextlib
import socket
import threading

from pika import frame, spec

import wire
from many import open_all, push, together

from .attacker import MB, TABLE, attack

LIMIT = 200 * MB
LARGE = 10 * MB
DEAF = 40
TOGETHER = 200
GETS = 200


def refused(client, declare, delete):
    """Declares until that is refused, and deletes all; what is there may be declared again."""
    client.call(1, spec.Queue.Declare(queue="q"), spec.Queue.DeclareOk)
    yield
    taken, answer = 0, None
    while not isinstance(answer, spec.Channel.Close):
        assert taken < 3000, "nothing was refused"
        client.send(1, *map(declare, range(taken, taken + TOGETHER)))
        taken += TOGETHER
        for _ in range(TOGETHER):
            answer = client.next().method
            if isinstance(answer, spec.Channel.Close):
                break
    assert answer.reply_code == 406 and "bytes of memory that they may" in answer.reply_text
    client.send(1, spec.Channel.CloseOk())
    client.call(1, spec.Channel.Open(), spec.Channel.OpenOk)
    client.call(1, spec.Queue.Declare(queue="q"), spec.Queue.DeclareOk)
    yield
    client.send(1, *delete(taken))
    client.over()
    client.call(1, spec.Queue.Declare(queue="last"), spec.Queue.DeclareOk)


@attack(LIMIT)
def arguments_of_queues(client, scaled):
    """Queues with 16 KB of arguments each, until that is refused."""
    yield from refused(
        client, lambda n: spec.Queue.Declare(queue=f"q{n}", arguments=TABLE), delete_queues)


@attack(LIMIT)
def arguments_of_durable_queues(client, scaled):
    """Durable queues with 16 KB of arguments each, until that is refused."""
    yield from refused(
        client, lambda n: spec.Queue.Declare(queue=f"q{n}", durable=True, arguments=TABLE),
        delete_queues)


def delete_queues(many):
    """What deletes them."""
    return (spec.Queue.Delete(queue=f"q{n}", nowait=True) for n in range(many))


@attack(LIMIT)
def arguments_of_exchanges(client, scaled):
    """Exchanges with 16 KB of arguments each, until that is refused."""
    yield from refused(
        client, lambda n: spec.Exchange.Declare(exchange=f"e{n}", arguments=TABLE),
        lambda many: (spec.Exchange.Delete(exchange=f"e{n}", nowait=True) for n in range(many)))


@attack(LIMIT)
def arguments_of_bindings(client, scaled):
    """Bindings with 16 KB of arguments each, until that is refused."""
    yield from refused(
        client, lambda n: spec.Queue.Bind(
            queue="q", exchange="amq.headers", routing_key=str(n), arguments=TABLE),
        lambda many: [spec.Queue.Delete(queue="q", nowait=True)])


@attack(LIMIT)
def returns(client, scaled):
    """40 connections that never read have a mandatory message of 10 MB returned."""
    data = wire.message(1, "", "nobody", bytes(LARGE), mandatory=True)
    clients = open_all(client.broker, DEAF)
    yield
    together(clients, data)
    yield
    for each in clients:
        each.socket.close()


def deliveries(client, no_ack):
    """Clients that never read are sent a large message each, and then read on."""
    client.call(1, spec.Queue.Declare(queue="deaf", durable=True), spec.Queue.DeclareOk)
    client.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    data = wire.message(1, "", "deaf", bytes(LARGE), delivery_mode=2)
    for _ in range(DEAF):
        client.write(data)
        client.expect(spec.Basic.Ack, 1)
    clients = open_all(client.broker, DEAF)
    yield
    for each in clients:
        each.send(1, spec.Basic.Qos(prefetch_count=1))
        each.expect(spec.Basic.QosOk, 1)
        each.call(1, spec.Basic.Consume(queue="deaf", no_ack=no_ack), spec.Basic.ConsumeOk)
    yield
    taken = Taken(clients, no_ack)
    taken.all()
    assert client.call(1, spec.Queue.Delete(queue="deaf"), spec.Queue.DeleteOk).message_count == 0


class Taken:
    """Clients that read on, until all of them together have what there was."""

    def __init__(self, clients, no_ack):
        self.clients, self.no_ack = clients, no_ack
        self.counted = threading.Semaphore(0)
        for client in clients:
            threading.Thread(target=self._read, args=(client,), daemon=True).start()

    def _read(self, client):
        with contextlib.suppress(OSError, EOFError, AssertionError):
            for tag in range(1, DEAF + 1):
                client.expect(spec.Basic.Deliver, 1)
                assert len(client.content()[1]) == LARGE
                if not self.no_ack:
                    client.send(1, spec.Basic.Ack(tag))
                self.counted.release()

    def all(self):
        """Waits for all, and closes the clients."""
        for number in range(DEAF):
            assert self.counted.acquire(timeout=30), f"{number} of {DEAF} were delivered"
        for client in self.clients:
            # The thread that reads ends with that.
            client.socket.shutdown(socket.SHUT_RDWR)


@attack(LIMIT)
def deliveries_without_acknowledgements(client, scaled):
    """40 connections that never read are delivered 10 MB each, without acknowledgements."""
    yield from deliveries(client, no_ack=True)


@attack(LIMIT)
def deliveries_to_acknowledge(client, scaled):
    """40 connections that never read are delivered 10 MB each."""
    yield from deliveries(client, no_ack=False)


@attack(LIMIT, most=40 * MB)
def gets_of_large_messages(client, scaled):
    """200 channels of a connection that does not read get a message of 1 MB each."""
    client.declare("q")
    client.fill("q", GETS, bytes(MB))
    with wire.Wire(client.broker, seconds=60).opened(channels=GETS) as deaf:
        yield
        deaf.write(b"".join(
            frame.Method(number, spec.Basic.Get(queue="q", no_ack=True)).marshal()
            for number in range(1, GETS + 1)))
        client.reached(1, "q")
        yield
        for _ in range(GETS):
            deaf.expect(spec.Basic.GetOk)
            assert len(deaf.content()[1]) == MB


@attack(LIMIT)
def hoard(client, scaled):
    """A consumer acknowledges none of 3,000,000 messages, as many as it gets before the alarm."""
    client.declare("q")
    hoarder = wire.Wire(client.broker, seconds=60).opened()
    hoarder.call(1, spec.Basic.Consume(queue="q"), spec.Basic.ConsumeOk)
    threading.Thread(target=read_all, args=(hoarder,), daemon=True).start()
    data = wire.message(1, "", "q", b"") * 3_000_000
    yield
    push(client.socket, data)
    yield
    hoarder.socket.shutdown(socket.SHUT_RDWR)
    with wire.Wire(client.broker, seconds=60).opened() as other:
        other.call(1, spec.Queue.Delete(queue="q"), spec.Queue.DeleteOk)


def read_all(client):
    """Reads whatever comes, and forgets it."""
    client.socket.settimeout(None)
    with contextlib.suppress(OSError):
        while client.socket.recv(1 << 20):
            pass
