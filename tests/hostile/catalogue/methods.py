"""Many methods in one write, and the end of what they made."""

import contextlib

from pika import frame, spec

from .attacker import TABLE, Attacker, attack


@attack()
def consumers_end(client, scaled):
    """A channel ends with 50,000 consumers."""
    client.declare("q")
    client.consume("q", scaled(50_000))
    yield
    client.call(1, spec.Channel.Close(200, "", 0, 0), spec.Channel.CloseOk)


@attack()
def consumers_begin(client, scaled):
    """50,000 consumers on one channel, and as many cancels."""
    client.declare("q")
    consumes = [spec.Basic.Consume(queue="q", consumer_tag=f"c{n}", nowait=True)
                for n in range(scaled(50_000))]
    cancels = [spec.Basic.Cancel(consume.consumer_tag, nowait=True) for consume in consumes]
    data = b"".join(frame.Method(1, method).marshal() for method in consumes + cancels)
    yield
    client.write(data)
    client.over()


@attack()
def durable_declares(client, scaled):
    """2,000 durable queues with 16 KB of arguments each."""
    declares = [spec.Queue.Declare(queue=f"d{n}", durable=True, nowait=True, arguments=TABLE)
                for n in range(scaled(2000))]
    data = b"".join(frame.Method(1, method).marshal() for method in declares)
    yield
    client.write(data)
    client.over()


@attack()
def delete_bound_queue(client, scaled):
    """The end of a queue with 50,000 bindings."""
    client.declare("q")
    client.bind("amq.topic", (("q", f"a.{number}", None) for number in range(scaled(50_000))))
    yield
    client.call(1, spec.Queue.Delete(queue="q"), spec.Queue.DeleteOk)


@attack()
def delete_exchange(client, scaled):
    """The end of an exchange with 50,000 bindings."""
    client.declare("q")
    client.call(1, spec.Exchange.Declare(exchange="e", type="topic"),
                spec.Exchange.DeclareOk)
    client.bind("e", (("q", f"a.{number}", None) for number in range(scaled(50_000))))
    yield
    client.call(1, spec.Exchange.Delete(exchange="e"), spec.Exchange.DeleteOk)


@attack()
def exclusive_queues(client, scaled):
    """A connection ends that owns 5,000 queues."""
    with Attacker(client.broker) as owner:
        owner.declare(*(f"x{number}" for number in range(scaled(5000))), exclusive=True)
        yield
        owner.call(0, spec.Connection.Close(200, "", 0, 0), spec.Connection.CloseOk)


@attack()
def gets(client, scaled):
    """100,000 gets of an empty queue in one write."""
    client.declare("q")
    data = frame.Method(1, spec.Basic.Get(queue="q")).marshal() * scaled(100_000)
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


@attack()
def channels(client, scaled):
    """50,000 channels are opened and closed."""
    data = b"".join(frame.Method(7, method).marshal() for method in (
        spec.Channel.Open(), spec.Channel.Close(200, "", 0, 0))) * scaled(50_000)
    yield
    client.write(data)
    client.over()


@attack()
def limits(client, scaled):
    """10,000 consumers share a limit that changes 200 times."""
    client.declare("q")
    client.consume("q", scaled(10_000))
    data = b"".join(frame.Method(1, spec.Basic.Qos(prefetch_count=n % 3, global_qos=True)).marshal()
                    for n in range(200))
    yield
    client.write(data)
    client.over()
