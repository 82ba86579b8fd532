"""What publishers and consumers see of the disk alarm and of the memory alarm."""

import contextlib
import os
import subprocess

import pytest
from pika import spec

import wire
from support import eventually, expect, tells

# More than any disk has.
NEVER_ENOUGH = "disk_free_limit.absolute = 8000000GB\n"


@pytest.fixture
def client():
    """Opens connections that speak single frames, to any broker."""
    with contextlib.ExitStack() as stack:
        yield lambda broker: stack.enter_context(wire.Wire(broker)).opened()


@pytest.fixture
def small_disk(make_broker):
    """A broker whose data are on a file system of a few MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    broker = make_broker(config="disk_free_limit.absolute = 16MiB\n")
    if broker.target != "ringtail":
        pytest.skip("the folders of this target are not on a file system of their own")
    folder = broker.folder / "data"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this container does not let root mount a file system")
    try:
        yield broker.start()
    finally:
        if broker.process and broker.process.poll() is None:
            broker.stop()
        subprocess.run(["umount", str(folder)], check=True)
        broker.discard()


def declare(connection, queue):
    connection.call(1, spec.Queue.Declare(queue=queue), spec.Queue.DeclareOk)


def consumed(connection):
    """The body of the next delivery."""
    connection.expect(spec.Basic.Deliver, 1)
    return connection.content()[1]


def blocked(connection):
    """The reason of connection.blocked, which is the next thing that comes."""
    return connection.expect(spec.Connection.Blocked, 0).reason


@pytest.mark.row("Handshake", "connection.blocked")
def test_the_disk_alarm_comes_and_goes_with_the_space(small_disk, client, name):
    queue, consumer, publisher = name(), client(small_disk), client(small_disk)
    declare(consumer, queue)
    consume = spec.Basic.Consume(queue=queue, no_ack=True)
    consumer.call(1, consume, spec.Basic.ConsumeOk)
    publisher.write(wire.message(1, "", queue, b"before"))
    assert consumed(consumer) == b"before"
    filler = small_disk.folder / "data" / "filler"
    filler.write_bytes(bytes(20 << 20))
    tells(small_disk, "disk resource limit alarm set", "Free disk space is insufficient. Free bytes: ")
    publisher.write(wire.message(1, "", queue, b"blocks"))
    assert blocked(publisher) == "low on disk"
    publisher.write(wire.message(1, "", queue, b"waits"))
    # Consumers go on with what was published in front of it.
    assert consumed(consumer) == b"blocks"
    filler.unlink()
    publisher.expect(spec.Connection.Unblocked, 0)
    assert consumed(consumer) == b"waits"
    tells(small_disk, "disk resource limit alarm cleared")


@pytest.mark.row("Handshake", "connection.blocked")
def test_too_little_space_from_the_start(own_broker, client, name):
    broker = own_broker(config=NEVER_ENOUGH)
    queue, consumer, publisher = name(), client(broker), client(broker)
    declare(consumer, queue)
    publisher.write(wire.message(1, "", queue, b"blocks"))
    assert blocked(publisher) == "low on disk"
    # Who does not publish is not blocked.
    declare(consumer, queue)


@pytest.mark.row("Handshake", "connection.blocked, more than one reason")
def test_more_than_one_reason(own_broker, client, name):
    broker = own_broker(config=NEVER_ENOUGH + "vm_memory_high_watermark.absolute = 1MiB\n"
                        "vm_memory_calculation_strategy = allocated\n")
    queue, first, filler, others = name(), client(broker), client(broker), []
    declare(first, queue)
    first.write(wire.message(1, "", queue, b"blocks"))
    assert blocked(first) == expect(
        broker, why="Ringtail counts what it holds for clients, RabbitMQ its whole process",
        ringtail="low on disk", rabbitmq="low on disk & memory")
    if broker.target == "ringtail":
        # A message that does not come to its end is in no queue and cannot go to disk.
        filler.write(wire.message(1, "", queue, bytes(8 << 20))[:4 << 20])
    tells(broker, "memory resource limit alarm set")

    def reasons_of_another():
        """Why a new connection is blocked."""
        others.append(client(broker))
        others[-1].write(wire.message(1, "", queue, b"blocks"))
        return blocked(others[-1])

    # A shard may hear of it a moment after the log.
    eventually(lambda: reasons_of_another() == "low on disk & memory")
    # One more reason, or one less, is no news for who is blocked.
    filler.socket.close()
    if broker.target == "ringtail":
        tells(broker, "memory resource limit alarm cleared")
    for connection in (first, others[-1]):
        connection.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.next()
