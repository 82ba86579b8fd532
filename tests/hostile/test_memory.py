"""Memory of messages that are gone goes back to the system although the process is idle."""

import contextlib
import time

import pytest
from pika import spec

from support import eventually
from test_heavy import confirming, publish_confirmed
from wire import Wire, message

KIB, MIB = 1 << 10, 1 << 20
QUEUE = "large"
MANY = 300_000
SECONDS = 10
SLACK = 32 * MIB


@pytest.fixture(params=[(1, None), (2, "cross")], ids=["1 shard", "2 shards"])
def idle_broker(request, make_broker):
    """A broker that keeps all messages in memory; with two shards all cross from one to the other."""
    broker = make_broker(config="vm_memory_high_watermark.absolute = 4GB\n")
    broker.shards, broker.place = request.param
    broker.start()
    yield broker
    broker.discard()


def purge(broker, client):
    """Removes the messages and leaves the queue."""
    client.call(1, spec.Queue.Purge(queue=QUEUE), spec.Queue.PurgeOk)


def delete(broker, client):
    """Removes the queue."""
    client.call(1, spec.Queue.Delete(queue=QUEUE), spec.Queue.DeleteOk)


def drain(broker, client):
    """Takes all messages, and does nothing more."""
    with Wire(broker).opened() as consumer:
        consumer.send(1, spec.Basic.Consume(queue=QUEUE, no_ack=True))
        received = 0
        while received < MANY * KIB:
            received += len(consumer.socket.recv(MIB))
        declare = spec.Queue.Declare(queue=QUEUE, passive=True)
        consumer.socket.settimeout(0.05)

        def taken():
            """Reads on, since frames take more than their bodies, and asks what is left."""
            with contextlib.suppress(TimeoutError):
                while consumer.socket.recv(MIB):
                    pass
            return client.call(1, declare, spec.Queue.DeclareOk).message_count == 0

        eventually(taken)


@pytest.mark.parametrize("empty", [purge, delete, drain])
def test_memory_of_a_large_queue_goes_back(idle_broker, measured, empty):
    client = confirming(idle_broker)
    client.call(1, spec.Queue.Declare(queue=QUEUE), spec.Queue.DeclareOk)
    before = idle_broker.rss()
    contents = [message(1, "", QUEUE, bytes(KIB))] * MANY
    publish_confirmed(client, contents, together=5000)
    full = idle_broker.rss()
    assert full > before + MANY * KIB
    empty(idle_broker, client)
    begun = time.monotonic()
    eventually(lambda: idle_broker.rss() < before + SLACK, SECONDS, lambda: left(idle_broker, before))
    seconds = time.monotonic() - begun
    measured(f"{full / MIB:.0f} MiB, {idle_broker.rss() / MIB:.0f} MiB after {seconds:.1f} s, "
             f"{before / MIB:.0f} MiB before")


def left(broker, before):
    """Why it is too much."""
    return f"{broker.rss() / MIB:.0f} MiB are left, {before / MIB:.0f} MiB before"
