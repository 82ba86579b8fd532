"""Faults of the disk and of the data folder: the running process says so, and loses no promise."""

import contextlib
import os
import resource
import select
import subprocess

import pika
import pytest
from pika import spec

from support import DEADLINE_SECONDS, count, eventually, expect, tells
from wire import Wire, message

PERSISTENT = pika.BasicProperties(delivery_mode=2)
OWN = "not compared, the files and their faults are Ringtail's own"
QUEUE = "kept"
OTHER = "other"
CRASHED = f"NOT_FOUND - queue '{QUEUE}' in vhost '/' has crashed and failed to restart"
MANY = 60


@pytest.fixture(autouse=True)
def only_ringtail(broker):
    """No other broker is harmed."""
    if not expect(broker, why=OWN, ringtail=True, rabbitmq=False):
        pytest.skip(OWN)


@pytest.fixture
def idle(make_broker):
    """Makes brokers that are not started yet."""
    with contextlib.ExitStack() as stack:

        def make(**settings):
            broker = make_broker(**settings)
            stack.callback(broker.discard)
            return broker

        yield make


@pytest.fixture
def connect():
    """Opens pika connections to brokers that may be gone when the test ends."""
    opened = []

    def open_connection(to):
        parameters = pika.ConnectionParameters(to.host, to.port, heartbeat=0)
        opened.append(pika.BlockingConnection(parameters))
        return opened[-1]

    yield open_connection
    for connection in opened:
        with contextlib.suppress(pika.exceptions.AMQPError):
            connection.close()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 160 MiB with a file of 104 MiB on it. Asked for before the broker that uses
    it, it goes after it."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", folder], stderr=subprocess.PIPE)
    if mounted.returncode:
        pytest.skip(f"a file system of its own needs root: {mounted.stderr.decode().strip()}")
    (folder / "filler").write_bytes(bytes(104 << 20))
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def body(number):
    """The body of a message, a little more than a kilobyte."""
    return b"%06d" % number + b"x" * 1100


def publish(channel, queue, numbers):
    """Publishes one after the other, each confirmed before the next; how many were confirmed."""
    confirmed = 0
    try:
        for number in numbers:
            channel.basic_publish("", queue, body(number), PERSISTENT)
            confirmed += 1
    except pika.exceptions.AMQPError:
        pass
    return confirmed


def declare(connect, broker, *queues):
    """A channel with confirms to a broker that has these durable queues."""
    channel = connect(to=broker).channel()
    channel.confirm_delivery()
    for queue in queues:
        channel.queue_declare(queue, durable=True)
    return channel


def drained(connect, broker, queue=QUEUE, seconds=DEADLINE_SECONDS):
    """The numbers of all messages of a queue."""
    channel = connect(to=broker).channel()
    numbers = []
    expected = count(channel, queue)
    channel.basic_qos(prefetch_count=100)
    for method, _, data in channel.consume(queue, inactivity_timeout=seconds):
        if method is None:
            break
        numbers.append(int(data[:6]))
        assert data == body(numbers[-1])
        channel.basic_ack(method.delivery_tag)
        if len(numbers) == expected:
            break
    channel.connection.close()
    return numbers


def logs(broker):
    """The files of the logs, the one written last at the end."""
    return sorted((broker.data / "log").glob("*.log"), key=lambda file: file.stat().st_mtime_ns)


def refusal(broker):
    """What a broker says that does not start."""
    broker.keep = True
    with pytest.raises(AssertionError, match="ringtail exited [1-9]") as raised:
        broker.start()
    broker.keep = False
    return str(raised.value)


# Faults while it runs ----------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["log:sync:eio:10-", "log:write:eio:10-"])
def test_a_log_that_cannot_be_written_ends_the_process(idle, connect, fault):
    broker = idle()
    broker.faults = fault
    channel = declare(connect, broker.start(), QUEUE)
    confirmed = publish(channel, QUEUE, range(MANY))
    assert broker.stopped() not in (0, None)
    assert 0 < confirmed < MANY
    log = broker.log()
    assert ".log" in log and "Input/output error" in log
    assert "panicked" not in log
    broker.faults = None
    numbers = drained(connect, broker.start())
    assert numbers[:confirmed] == list(range(confirmed))
    assert len(numbers) <= confirmed + 1


def test_writes_in_pieces_and_slow_syncs_lose_nothing(idle, connect):
    broker = idle()
    broker.faults = "log:write:short,queue:write:short,log:sync:slow20"
    channel = declare(connect, broker.start(), QUEUE)
    assert publish(channel, QUEUE, range(MANY)) == MANY
    broker.kill()
    assert drained(connect, broker.start()) == list(range(MANY))


def test_a_write_that_found_no_room_is_tried_again(idle, connect):
    broker = idle()
    broker.faults = "log:write:enospc:10-15"
    channel = declare(connect, broker.start(), QUEUE)
    assert publish(channel, QUEUE, range(MANY)) == MANY
    tells(broker, "disk resource limit alarm set")
    broker.kill()
    broker.faults = None
    assert drained(connect, broker.start()) == list(range(MANY))


@pytest.mark.parametrize("fault, reason", [
    ("emfile", "Too many open files"),
    ("enfile", "Too many open files in system"),
    ("enomem", "Cannot allocate memory"),
])
def test_a_log_that_cannot_be_opened_is_tried_again(idle, connect, fault, reason):
    broker = idle()
    broker.faults = f"log:open:{fault}:1-6"
    channel = declare(connect, broker.start(), QUEUE)
    assert publish(channel, QUEUE, range(MANY)) == MANY
    tells(broker, "publishers wait", "have succeeded", "disk resource limit alarm set")
    tells(broker, "disk resource limit alarm cleared")
    # Told once each, however often it is tried.
    assert broker.log().count(reason) == 1
    assert broker.log().count("have succeeded") == 1
    broker.kill()
    broker.faults = None
    assert drained(connect, broker.start()) == list(range(MANY))


def test_a_segment_that_cannot_be_opened_is_read_later(full, connect):
    full.faults = "queue:open:emfile:1-3"
    full.start()
    assert drained(connect, full) == list(range(MANY))
    tells(full, "Too many open files")
    assert full.log().count("Too many open files") == 1 and "out of service" not in full.log()
    full.kill()
    full.faults = None


@contextlib.contextmanager
def no_descriptors(broker):
    """Meanwhile the broker can open nothing. What is open stays so."""
    limits = resource.prlimit(broker.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(broker.process.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    yield
    resource.prlimit(broker.process.pid, resource.RLIMIT_NOFILE, limits)


def test_without_descriptors_what_needs_none_goes_on_and_the_rest_waits(idle, connect):
    broker = idle()
    channel = declare(connect, broker.start(), QUEUE)
    channel.queue_declare(OTHER)
    with Wire(broker).opened() as publisher:
        publisher.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
        with no_descriptors(broker):
            # The first persistent message opens the log.
            publisher.write(message(1, "", QUEUE, body(7), delivery_mode=2))
            tells(broker, "disk resource limit alarm set")
            channel.queue_purge(OTHER)
            assert count(channel, QUEUE) == 1
            assert not came(publisher)
        while not isinstance(publisher.next().method, spec.Basic.Ack):
            pass
    tells(broker, "disk resource limit alarm cleared")
    log = broker.log()
    assert log.count("Too many open files (os error 24); it is tried again") == 1
    assert "cannot go on" not in log and "panicked" not in log
    broker.kill()
    assert drained(connect, broker.start()) == [7]


def test_a_full_disk_blocks_publishers_and_nobody_else(small_disk, idle, connect):
    broker = idle(config="disk_free_limit.absolute = 1MB\n")
    broker.data = small_disk / "data"
    declare(connect, broker.start(), QUEUE)
    big = bytes(100_000)
    with Wire(broker).opened() as publisher:
        publisher.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
        sent = until_blocked(broker, publisher, big)
        channel = connect(to=broker).channel()
        taken = 0
        for method, _, _ in channel.consume(QUEUE):
            channel.basic_ack(method.delivery_tag)
            taken += 1
            if taken == 20:
                break
        channel.cancel()
        (small_disk / "filler").unlink()
        acks = until_confirmed(publisher, sent)
        assert any(isinstance(each, spec.Connection.Unblocked) for each in acks)
    broker.kill()
    channel = declare(connect, broker.start(), QUEUE)
    assert sent - taken <= count(channel, QUEUE) <= sent
    channel.connection.close()


def until_blocked(broker, publisher, data):
    """Publishes one by one until the broker blocks; how many were sent, the last not confirmed."""
    alarm = "disk resource limit alarm set"
    for sent in range(1, 2000):
        publisher.write(message(1, "", QUEUE, data, delivery_mode=2))
        if wait_for_answer(broker, publisher, alarm):
            answer = publisher.expect((spec.Basic.Ack, spec.Connection.Blocked))
            if isinstance(answer, spec.Connection.Blocked):
                assert answer.reason == "low on disk"
                return sent
            assert answer.delivery_tag == sent
        else:
            break
    # Who publishes although there is an alarm is told.
    publisher.write(message(1, "", QUEUE, data, delivery_mode=2))
    assert publisher.expect(spec.Connection.Blocked).reason == "low on disk"
    return sent + 1


def wait_for_answer(broker, publisher, alarm):
    """Waits for bytes of the broker, or for its alarm; whether it was the first."""
    eventually(lambda: came(publisher) or alarm in broker.log())
    return came(publisher)


def came(client):
    """Whether bytes of the broker are there to be read."""
    return client.pending or select.select([client.socket], [], [], 0)[0]


def until_confirmed(publisher, last):
    """What comes until this delivery tag is confirmed."""
    came = []
    while True:
        came.append(publisher.next().method)
        if isinstance(came[-1], spec.Basic.Ack) and came[-1].delivery_tag == last:
            break
    if not any(isinstance(each, spec.Connection.Unblocked) for each in came):
        came.append(publisher.next().method)
    return came


# The data folder at the start --------------------------------------------------------------------


def test_a_folder_in_use_is_refused(idle, broker):
    second = idle()
    second.data = broker.data
    text = refusal(second)
    assert str(broker.data) in text and "in use" in text


def test_a_folder_that_cannot_be_written_is_refused(small_disk, idle):
    broker = idle()
    broker.data = small_disk / "data"
    broker.start().stop()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    text = refusal(broker)
    assert str(broker.data) in text and "Read-only file system" in text


def test_a_start_without_room_is_refused_and_loses_nothing(small_disk, idle, connect):
    broker = idle(config="disk_free_limit.absolute = 1MB\n")
    broker.data = small_disk / "data"
    assert publish(declare(connect, broker.start(), QUEUE), QUEUE, range(MANY)) == MANY
    broker.kill()
    with contextlib.suppress(OSError), open(small_disk / "filler", "ab", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    text = refusal(broker)
    assert "No space left on device" in text and "about 1 MiB" in text and "queues" in text
    (small_disk / "filler").unlink()
    assert drained(connect, broker.start()) == list(range(MANY))


def test_an_unknown_format_is_refused(idle):
    broker = idle()
    broker.start().stop()
    (broker.data / "format").write_text("ringtail 99\n")
    text = refusal(broker)
    assert str(broker.data) in text and "ringtail 99" in text


def test_another_number_of_shards(idle, connect):
    broker = idle()
    queues = [f"{QUEUE}.{number}" for number in range(8)]
    expected = []
    for shards in (2, 1, 4, 3):
        broker.shards = shards
        channel = declare(connect, broker.start(), *queues)
        new = range(len(expected), len(expected) + 10)
        for queue in queues:
            assert publish(channel, queue, new) == len(new)
        expected += new
        broker.kill()
    broker.start()
    for queue in queues:
        assert drained(connect, broker, queue) == expected


# Damaged files -----------------------------------------------------------------------------------


def filled(idle, connect, *queues):
    """A killed broker whose queues have many messages."""
    broker = idle()
    channel = declare(connect, broker.start(), *queues)
    for queue in queues:
        assert publish(channel, queue, range(MANY)) == MANY
    return broker


def used(file):
    """How many bytes of a file are written: it may have been made larger before."""
    return len(file.read_bytes().rstrip(b"\0"))


@pytest.mark.parametrize("tail", ["garbage", "half a batch"])
def test_an_unfinished_write_is_cut_off_and_told(idle, connect, tail):
    broker = filled(idle, connect, QUEUE)
    broker.kill()
    log = logs(broker)[-1]
    end = used(log)
    torn = os.urandom(700) if tail == "garbage" else log.read_bytes()[end - 900:end - 100]
    with open(log, "r+b") as file:
        file.seek(end)
        file.write(torn)
    broker.start()
    tells(broker, log.name, "cut off")
    assert drained(connect, broker) == list(range(MANY))


def test_damage_of_what_was_promised_is_refused(idle, connect):
    broker = filled(idle, connect, QUEUE)
    broker.kill()
    log = logs(broker)[-1]
    at = inside(log)
    flip(log, at)
    text = refusal(broker)
    assert log.name in text and "damaged" in text and "restore the file" in text
    # It is refused again, and nothing has been made worse.
    flip(log, at)
    assert drained(connect, broker.start()) == list(range(MANY))


def inside(log):
    """A place in the first half of a log that is in the middle of a message."""
    return log.read_bytes().index(b"x" * 1000, used(log) // 3) + 500


def flip(file, at):
    """Changes one byte, or changes it back."""
    with open(file, "r+b") as opened:
        opened.seek(at)
        byte = opened.read(1)[0]
        opened.seek(at)
        opened.write(bytes([byte ^ 0x55]))


def segments(broker):
    """The files of queues, in the order in which these were declared."""
    return sorted((broker.data / "queues").glob("*.seg"))


@contextlib.contextmanager
def harmed(broker, harm):
    """A broker, not running, starts, and the messages of its first queue cannot be read."""
    broker.faults = "queue:read:eio:1" if harm == "fault" else None
    broker.start()
    first = segments(broker)[0]
    whole = first.read_bytes()
    if harm == "damage":
        flip(first, used(first) // 2)
    if harm == "cut":
        os.truncate(first, len(whole) // 2)
    yield first
    if first.exists():
        first.write_bytes(whole)


@pytest.fixture
def full(only_ringtail, idle, connect):
    """A broker, not running, of two queues with messages, all of them in segments."""
    broker = filled(idle, connect, QUEUE, OTHER)
    broker.kill()
    # A start moves what is in the logs into segments of the queues.
    broker.start().kill()
    assert len(segments(broker)) == 2
    return broker


@pytest.mark.row("Errors", "Queue whose messages cannot be read")
@pytest.mark.parametrize("harm", ["damage", "cut", "fault"])
def test_a_queue_that_cannot_be_read_is_out_of_service(full, connect, harm):
    with harmed(full, harm) as segment:
        for use in [
            lambda channel: channel.basic_get(QUEUE),
            lambda channel: channel.basic_get(QUEUE),
            lambda channel: channel.basic_consume(QUEUE, lambda *_: None),
        ]:
            with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
                use(connect(to=full).channel())
            assert (closed.value.reply_code, closed.value.reply_text) == (404, CRASHED)
        tells(full, f"queue '{QUEUE}' in vhost '/' is out of service", segment.name)
        channel = declare(connect, full)
        with pytest.raises(pika.exceptions.NackError):
            channel.basic_publish("", QUEUE, body(0), PERSISTENT)
        assert count(channel, QUEUE) == MANY
        # Others do not notice.
        assert publish(channel, OTHER, [MANY]) == 1
        assert drained(connect, full, OTHER) == list(range(MANY + 1))
        full.kill()
    full.faults = None
    assert drained(connect, full.start()) == list(range(MANY))


@pytest.mark.row("Errors", "Queue whose messages cannot be read")
def test_consumers_of_a_queue_that_cannot_be_read_are_cancelled(full, connect):
    with harmed(full, "damage"), Wire(full).opened() as client:
        consume = spec.Basic.Consume(queue=QUEUE, consumer_tag="tag")
        client.call(1, consume, spec.Basic.ConsumeOk)
        assert client.expect(spec.Basic.Cancel).consumer_tag == "tag"
        client.call(1, spec.Tx.Select(), spec.Tx.SelectOk)
        client.write(message(1, "", OTHER, body(MANY)) + message(1, "", QUEUE, b""))
        closed = client.call(1, spec.Tx.Commit(), spec.Channel.Close)
        assert closed.reply_text == "PRECONDITION_FAILED - partial tx completion"
        channel = connect(to=full).channel()
        assert count(channel, OTHER) == MANY + 1
        # Without its messages it is as good as new, also at the next start.
        assert channel.queue_purge(QUEUE).method.message_count == MANY
        channel.confirm_delivery()
        assert publish(channel, QUEUE, [7, 8]) == 2
        full.kill()
    assert drained(connect, full.start()) == [7, 8]


@pytest.mark.row("Errors", "Queue whose messages cannot be read")
def test_a_queue_that_cannot_be_read_is_deleted(full, connect):
    with harmed(full, "cut"):
        with pytest.raises(pika.exceptions.ChannelClosedByBroker):
            connect(to=full).channel().basic_get(QUEUE)
        channel = declare(connect, full)
        assert channel.queue_delete(QUEUE).method.message_count == MANY
        channel.queue_declare(QUEUE, durable=True)
        assert publish(channel, QUEUE, [7]) == 1
        full.kill()
    assert drained(connect, full.start()) == [7]


# What is declared and deleted ---------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["meta:write:eio:1-", "meta:sync:eio:3-"])
def test_metadata_that_cannot_be_written_ends_the_process(idle, connect, fault):
    broker = idle()
    declare(connect, broker.start(), QUEUE).connection.close()
    broker.stop()
    # A start syncs what it finds, twice.
    broker.faults = fault
    channel = declare(connect, broker.start(), QUEUE)
    with pytest.raises(pika.exceptions.AMQPError):
        channel.queue_declare(OTHER, durable=True)
    assert broker.stopped() not in (0, None)
    log = broker.log()
    assert "may not be on the disk" in log and ".meta" in log and "Input/output error" in log
    assert "panicked" not in log
    broker.faults = None
    channel = declare(connect, broker.start(), QUEUE)
    # Nobody was told that it is there, so it may be, whole, or not.
    with contextlib.suppress(pika.exceptions.ChannelClosedByBroker):
        assert count(channel, OTHER) == 0
    channel = declare(connect, broker, OTHER)
    assert publish(channel, OTHER, [1]) == 1


@pytest.mark.parametrize("fault", ["emfile", "enfile", "enomem"])
def test_metadata_that_cannot_be_opened_are_tried_again(idle, connect, fault):
    broker = idle()
    broker.faults = f"meta:open:{fault}:2-9"
    channel = declare(connect, broker.start(), QUEUE, OTHER)
    assert publish(channel, QUEUE, [7]) == 1
    tells(broker, "there is room again")
    assert broker.log().count("waits until there is room") == 1
    assert broker.log().count("there is room again") == 1
    broker.kill()
    broker.faults = None
    assert drained(connect, broker.start()) == [7]


def test_while_the_metadata_have_no_room_all_else_goes_on(idle, connect):
    broker = idle(config="vm_memory_high_watermark.absolute = 20MB\n")
    declare(connect, broker.start(), QUEUE).connection.close()
    broker.stop()
    broker.faults = "meta:write:enospc:1-100"
    broker.start()
    with Wire(broker).opened() as waits, Wire(broker).opened() as publisher:
        for queue in [OTHER, f"{OTHER}.2"]:
            declares = spec.Queue.Declare(queue=queue, durable=True, nowait=queue != OTHER)
            waits.send(1, declares)
            tells(broker, "waits until there is room")
        # Logins, declares of what there is, messages, and alarms.
        channel = declare(connect, broker, QUEUE)
        assert publish(channel, QUEUE, [7]) == 1
        # The first message keeps the large ones from the head of the queue, so they go to the disk and
        # the alarm ends. One that ends before its connection hears of it is not told.
        published, told = 1, []
        while not told:
            publisher.write(message(1, "", QUEUE, bytes(24_000_000)) + message(1, "", QUEUE, b""))
            published += 2
            told, _, _ = select.select([publisher.socket], [], [], 1)
        assert publisher.expect(spec.Connection.Blocked).reason == "low on memory"
        assert publisher.expect(spec.Connection.Unblocked)
        eventually(lambda: count(channel, QUEUE) == published)
        channel.connection.close()
        assert not select.select([waits.socket], [], [], 0)[0]
        assert waits.expect(spec.Queue.DeclareOk, 1).queue == OTHER
        waits.call(1, spec.Queue.Declare(queue=f"{OTHER}.2", passive=True), spec.Queue.DeclareOk)
    tells(broker, "there is room again")
    broker.kill()
    channel = declare(connect, broker.start())
    assert [count(channel, queue) for queue in [OTHER, f"{OTHER}.2"]] == [0, 0]
