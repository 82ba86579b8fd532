"""Much of everything: connections, channels, queues, bindings, bytes. What each costs is measured."""

import os
import pathlib

import pytest
from pika import frame, spec

from many import open_all
from neighbour import Neighbour
from support import eventually
from wire import Wire, message

KIB, MIB = 1 << 10, 1 << 20
CHANNELS = 200
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(broker):
    """CPU time of the broker so far, which does not count what else the machine does."""
    fields = pathlib.Path(f"/proc/{broker.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def pipelined(client, methods, answer):
    """Sends many methods and takes as many answers. Each is decided elsewhere and its channel
    waits for that, so they go over many channels."""
    methods = list(methods)
    for start in range(0, len(methods), CHANNELS):
        some = methods[start:start + CHANNELS]
        client.write(b"".join(
            frame.Method(number, method).marshal() for number, method in enumerate(some, 2)))
        for _ in some:
            client.expect(answer)


def publish_confirmed(client, contents, together=500):
    """Publishes with at most so many unconfirmed; the channel is in confirm mode already."""
    for start in range(0, len(contents), together):
        some = contents[start:start + together]
        client.write(b"".join(some))
        confirmed_since(client, len(some))


def confirmed_since(client, many):
    """Waits for the confirms of the last `many` publishes, counted from where the last ended."""
    client.done = getattr(client, "done", 0)
    missing = set(range(client.done + 1, client.done + many + 1))
    while missing:
        ack = client.expect(spec.Basic.Ack, 1)
        gone = {tag for tag in missing if tag <= ack.delivery_tag}
        missing -= gone if ack.multiple else {ack.delivery_tag}
    client.done += many


def confirming(broker, seconds=60):
    """A client whose channel 1 is in confirm mode; the others are for `pipelined`."""
    [client] = open_all(broker, 1, channels=CHANNELS + 1, seconds=seconds)
    client.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    return client


def test_a_thousand_connections_with_ten_channels(own_broker, scaled, measured):
    broker, many, channels = own_broker(), scaled(1000), 10
    with Neighbour(broker) as neighbour:
        first = broker.rss()
        clients = open_all(broker, many, channels=0)
        opened = broker.rss()
        for client in clients:
            client.write(b"".join(
                frame.Method(number, spec.Channel.Open()).marshal()
                for number in range(1, channels + 1)))
        for client in clients:
            for number in range(1, channels + 1):
                client.expect(spec.Channel.OpenOk, number)
        measured(f"{(opened - first) // many} bytes a connection, "
                 f"{(broker.rss() - opened) // many // channels} bytes a channel")
        clients[0].call(1, spec.Queue.Declare(queue="shared"), spec.Queue.DeclareOk)
        for client in clients:
            client.call(10, spec.Confirm.Select(), spec.Confirm.SelectOk)
            client.write(message(10, "", "shared", b"x"))
        for client in clients:
            client.expect(spec.Basic.Ack, 10)
        count = clients[0].call(1, spec.Queue.Purge(queue="shared"), spec.Queue.PurgeOk)
        assert count.message_count == many
        for client in clients:
            client.socket.close()
        eventually(lambda: broker.descriptors() < 100, seconds=30)
        neighbour.goes_on()
        measured(f"the neighbour waited {neighbour.longest * 1000:.0f} ms at most")


def test_ten_thousand_queues(own_broker, scaled, measured):
    broker, many = own_broker(), scaled(10_000)
    names = [f"queue.{number}" for number in range(many)]
    with Neighbour(broker) as neighbour:
        client, before = confirming(broker), broker.rss()
        pipelined(client, (spec.Queue.Declare(queue=name) for name in names),
                  spec.Queue.DeclareOk)
        declared = broker.rss()
        publish_confirmed(client, [message(1, "", name, name.encode()) for name in names])
        measured(f"{(declared - before) // many} bytes a queue, "
                 f"{(broker.rss() - declared) // many} more with a message in it")
        [consumer] = open_all(broker, 1, channels=CHANNELS)
        seen = set()
        for start in range(0, many, CHANNELS):
            some = names[start:start + CHANNELS]
            consumer.write(b"".join(
                frame.Method(number, spec.Basic.Consume(queue=name, no_ack=True)).marshal()
                for number, name in enumerate(some, 1)))
            collect(consumer, len(some), seen)
        assert seen == {name.encode() for name in names}
        consumer.socket.close()
        pipelined(client, (spec.Queue.Delete(queue=name) for name in names),
                  spec.Queue.DeleteOk)
        neighbour.goes_on()
        measured(f"the neighbour waited {neighbour.longest * 1000:.0f} ms at most")


def collect(client, many, seen):
    """Takes the answers of so many consumes and a delivery of each."""
    answers = 0
    while answers < 2 * many:
        method = client.next().method
        if isinstance(method, spec.Basic.Deliver):
            body = client.content()[1]
            assert body not in seen
            seen.add(body)
        else:
            assert isinstance(method, spec.Basic.ConsumeOk)
        answers += 1


@pytest.mark.parametrize("frame_max", [4096, 131_072])
def test_a_message_of_64_mib(broker, neighbour, shared, measured, frame_max):
    body = os.urandom(MIB) * 64
    before = broker.rss()
    client = confirming(broker)
    client.write(message(1, "", shared, body, frame_max=frame_max))
    client.expect(spec.Basic.Ack, 1)
    measured(f"{(broker.rss() - before) / MIB:.0f} MiB more in memory")
    reader = Wire(broker, seconds=60).opened(frame_max=max(frame_max, 8192))
    reader.call(1, spec.Basic.Get(queue=shared), spec.Basic.GetOk)
    assert reader.content()[1] == body
    reader.send(1, spec.Basic.Nack(1, requeue=True))
    reader.call(1, spec.Basic.Consume(queue=shared, no_ack=True), spec.Basic.ConsumeOk)
    reader.expect(spec.Basic.Deliver, 1)
    assert reader.content()[1] == body
    assert reader.largest <= max(frame_max, 8192)
    client.socket.close()
    reader.socket.close()
    neighbour.goes_on()


@pytest.mark.parametrize("kind", ["topic", "direct"])
def test_a_hundred_thousand_bindings(own_broker, scaled, measured, kind):
    broker, many, parts = own_broker(), scaled(100_000), 5
    exchange, queue = f"amq.{kind}", "bound"
    keys = [f"key.{number}.{number % 7}" for number in range(many)]
    client = confirming(broker)
    client.call(1, spec.Queue.Declare(queue=queue), spec.Queue.DeclareOk)
    before, seconds = broker.rss(), []
    for part in range(parts):
        begin = cpu_seconds(broker)
        pipelined(client, (
            spec.Queue.Bind(queue=queue, exchange=exchange, routing_key=key)
            for key in keys[part::parts]), spec.Queue.BindOk)
        seconds.append(cpu_seconds(broker) - begin)
    measured(f"{(broker.rss() - before) // many} bytes a binding, "
             f"{sum(seconds) / many * 1e6:.0f} µs of CPU a bind")
    assert seconds[-1] < 3 * seconds[0] + 0.2, seconds
    some = keys[::many // 1000]
    publish_confirmed(client, [message(1, exchange, key, key.encode()) for key in some])
    client.write(message(1, exchange, "key.of.nobody", b""))
    confirmed_since(client, 1)
    purged = client.call(1, spec.Queue.Purge(queue=queue), spec.Queue.PurgeOk)
    assert purged.message_count == len(some)
    pipelined(client, (
        spec.Queue.Unbind(queue=queue, exchange=exchange, routing_key=key)
        for key in keys[:many // 2]), spec.Queue.UnbindOk)
    publish_confirmed(client, [message(1, exchange, key, b"") for key in some])
    purged = client.call(1, spec.Queue.Purge(queue=queue), spec.Queue.PurgeOk)
    assert purged.message_count == len(some) // 2


def test_a_consumer_that_never_reads_while_a_publisher_floods(own_broker, scaled, measured):
    broker, many, size = own_broker(), scaled(10_000), 4 * KIB
    with Neighbour(broker) as neighbour:
        publisher, deaf = confirming(broker), Wire(broker).opened()
        publisher.call(1, spec.Queue.Declare(queue="flooded"), spec.Queue.DeclareOk)
        deaf.call(1, spec.Basic.Consume(queue="flooded", no_ack=True), spec.Basic.ConsumeOk)
        before = broker.rss()
        publish_confirmed(publisher, [message(1, "", "flooded", b"x" * size)] * many)
        more, content = broker.peak() - before, many * (size + 200)
        measured(f"{more / MIB:.1f} MiB more for {content / MIB:.1f} MiB of messages")
        # A window on the way to the home, the credit and the output of one connection.
        assert more < content * 1.2 + 8 * MIB
        neighbour.goes_on()
        measured(f"the neighbour waited {neighbour.longest * 1000:.0f} ms at most")
        deaf.socket.close()


def test_a_flood_goes_to_disk_where_the_memory_ends(own_broker, scaled, measured):
    limit, size = 48 * MIB, 16 * KIB
    broker = own_broker(config=f"vm_memory_high_watermark.absolute = {limit}\n")
    flooder, other = confirming(broker, seconds=60), Wire(broker).opened()
    other.call(1, spec.Queue.Declare(queue="flooded"), spec.Queue.DeclareOk)
    before, sent = broker.rss(), 0
    flood = message(1, "", "flooded", b"x" * size) * 16
    while sent * size < 6 * limit:
        flooder.write(flood)
        sent += 16
    eventually(lambda: passive_count(other) == sent, 60)
    more = broker.peak() - before
    measured(f"{more / MIB:.0f} MiB more at a limit of {limit / MIB:.0f}, {sent * size // MIB} sent")
    # The queue's half, what waits for the disk, windows and buffers.
    assert more < limit * 1.2 + 16 * MIB
    other.call(1, spec.Basic.Get(queue="flooded", no_ack=True), spec.Basic.GetOk)
    assert len(other.content()[1]) == size
    purged = other.call(1, spec.Queue.Purge(queue="flooded"), spec.Queue.PurgeOk)
    assert purged.message_count == sent - 1
    flooder.socket.close()


def passive_count(client):
    """Messages in the flooded queue."""
    declare = spec.Queue.Declare(queue="flooded", passive=True)
    return client.call(1, declare, spec.Queue.DeclareOk).message_count
