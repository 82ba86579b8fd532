"""Programs that users already have, run unchanged against a broker on localhost:5672."""

import pathlib
import sys

import pika
import pytest

import brokers
from programs import Program
from support import Inbox, eventually

PORT = 5672
LISTENING = ("Waiting for messages", "Waiting for logs")


@pytest.fixture
def default_broker(pytestconfig, own_broker):
    """Starts a broker on the port that the programs have written into them."""
    if not pytestconfig.option.programs:
        pytest.skip("no folder of programs given (--programs)")
    if not brokers.port_is_free(PORT):
        pytest.skip(f"port {PORT} is taken by another process: these programs need it")
    return lambda **settings: own_broker(port=PORT, **settings)


@pytest.fixture
def run(pytestconfig, tmp_path):
    """Starts programs; those that still run at the end are killed."""
    folder, started = pytestconfig.option.programs, []

    def start(script, *arguments):
        command = [sys.executable, "-u", pathlib.Path(folder).resolve() / script, *arguments]
        program = Program(command, tmp_path)
        started.append(program)
        return program

    yield start
    for program in started:
        program.kill()


def consumers_of(connect, broker, queue, wanted):
    """Waits until the queue has so many consumers."""
    channel = connect(to=broker).channel()
    eventually(
        lambda: channel.queue_declare(queue, passive=True).method.consumer_count == wanted)
    return channel


def waiting(program):
    """Waits until a receiver says that it waits."""
    eventually(lambda: any(text in program.text() for text in LISTENING), why=program.text)
    return program


def test_sender_and_receiver(default_broker, run):
    default_broker()
    run("sender.py").finish()
    receiver = waiting(run("receiver.py")).says("hello, snowdeer !!")
    run("sender.py").finish()
    receiver.says("Message is Arrived b'[", times=2)


def test_work_queue(default_broker, run, connect):
    broker = default_broker()
    workers = [waiting(run("worker.py")) for _ in range(2)]
    control = consumers_of(connect, broker, "task_queue", 2)
    for task in ("one", "two", "three", "four"):
        run("new_task.py", task).finish()
    for worker in workers:
        worker.says("[x] Done", times=2)
    run("new_task.py", "long......").finish()
    eventually(lambda: any("long" in worker.text() for worker in workers))
    busy, idle = sorted(workers, key=lambda worker: "long" not in worker.text())
    for task in ("five", "six", "seven"):
        run("new_task.py", task).finish()
    idle.says("[x] Done", times=5)
    assert busy.text().count("Received") == 3
    busy.kill()
    idle.says("Received b'long......'")
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="406"):
        control.queue_declare("task_queue", durable=False)


def test_logs_by_fanout(default_broker, run):
    default_broker()
    receivers = [run("receive_logs.py") for _ in range(3)]
    for receiver in receivers:
        waiting(receiver)
    # They say that they wait before they consume, but after their queues are bound.
    run("emit_log.py", "log0").finish()
    for receiver in receivers:
        receiver.says("[x] b'log0'")
    run("emit_log.py").finish()
    for receiver in receivers:
        receiver.says("[x] b'info: Hello World!'")


def test_logs_by_severity(default_broker, run):
    default_broker()
    errors = waiting(run("receive_logs_direct.py", "error"))
    more = waiting(run("receive_logs_direct.py", "info", "warning", "error"))
    for severity in ("info", "error", "debug", "warning"):
        run("emit_log_direct.py", severity, "text of", severity).finish()
    more.says("'warning':b'text of warning'")
    assert more.text().count("[x]") == 3
    errors.says("'error':b'text of error'")
    assert errors.text().count("[x]") == 1


def test_logs_by_topic(default_broker, run):
    default_broker()
    kernel = waiting(run("receive_logs_topic.py", "kern.*"))
    critical = waiting(run("receive_logs_topic.py", "*.critical"))
    both = waiting(run("receive_logs_topic.py", "kern.*", "*.critical"))
    everything = waiting(run("receive_logs_topic.py", "#"))
    run("emit_log_topic.py", "kern.critical", "A critical kernel error").finish()
    run("emit_log_topic.py", "cron.info", "tick").finish()
    everything.says("'cron.info':b'tick'")
    for receiver in (kernel, critical, both):
        receiver.says("'kern.critical':b'A critical kernel error'")
        assert receiver.text().count("[x]") == 1


def test_url_parameters(default_broker, run, connect):
    channel = connect(to=default_broker(user="admin", password="1111")).channel()
    channel.exchange_declare("cafe.topic", "topic")
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, "cafe.topic", "order.coffee.*")
    inbox = Inbox(channel, queue, auto_ack=True)
    run("url_parameters.py").finish()
    assert inbox.exactly(1)[0].body == b"hello world"
