"""RabbitMQ's tutorials as programs of their own: what a newcomer types first."""

import itertools
import sys

import pytest

import catalogue
from programs import Program
from support import eventually

NUMBERS = itertools.count(1)


@pytest.fixture
def tutorial(broker, tmp_path):
    """Starts roles of one tutorial; those that still run at the end are killed."""
    prefix, started = f"tutorial.{next(NUMBERS)}.", []

    def start(script, *arguments):
        path = catalogue.HERE / "tutorials" / f"{script}.py"
        command = [sys.executable, "-u", path, *arguments]
        started.append(Program(command, tmp_path, catalogue.environment(broker, prefix)))
        return started[-1]

    yield start
    for program in started:
        program.kill()


def test_one_hello_world(tutorial):
    tutorial("hello_world", "send", "Hello World!").finish()
    receiver = tutorial("hello_world", "receive").says("got Hello World!")
    tutorial("hello_world", "send", "over").finish()
    receiver.finish()


def test_two_work_queues(tutorial):
    workers = [tutorial("work_queue", "worker").says("waiting") for _ in range(2)]
    tutorial("work_queue", "new_task", "hang").finish()
    tutorial("work_queue", "new_task", "one", "two", "three").finish()
    hung, free = sorted(workers, key=lambda worker: _hangs(worker, workers), reverse=True)
    for task in ("one", "two", "three"):
        free.says(f"done {task}")
    hung.kill()
    free.says("received hang again").says("done hang")
    tutorial("work_queue", "new_task", "over").finish()
    free.finish()


def _hangs(worker, workers):
    # The worker that got the first task says so; the other has the rest.
    eventually(lambda: any("received hang" in each.text() for each in workers))
    return "received hang" in worker.text()


@pytest.mark.parametrize(("kind", "keys", "heard"), [
    ("fanout", [], ["[kern.critical] disk on fire", "[kern.info] all well", "[cron.info] tick"]),
    ("direct", ["kern.info", "cron.info"], ["[kern.info] all well", "[cron.info] tick"]),
    ("topic", ["kern.*", "*.critical"], ["[kern.critical] disk on fire", "[kern.info] all well"]),
    ("topic", ["#"], ["[kern.critical] disk on fire", "[kern.info] all well", "[cron.info] tick"]),
])
def test_three_four_and_five_logs(tutorial, kind, keys, heard):
    receivers = [tutorial("logs", "receive", kind, *keys).says("waiting") for _ in range(2)]
    for key, text in (
            ("kern.critical", "disk on fire"), ("kern.info", "all well"), ("cron.info", "tick"),
            ("over", "over")):
        tutorial("logs", "emit", kind, key, text).finish()
    for receiver in receivers:
        assert receiver.finish().splitlines() == ["waiting", *heard]


def test_six_rpc(tutorial):
    server = tutorial("rpc", "server").says("waiting")
    clients = [tutorial("rpc", "client", "30", "5", "0") for _ in range(3)]
    for client in clients:
        assert client.finish().splitlines() == ["fib(30) is 832040", "fib(5) is 5", "fib(0) is 0"]
    assert server.process.poll() is None, server.text()


@pytest.mark.parametrize("way", ["one_by_one", "in_batches", "all_at_once"])
def test_seven_publisher_confirms(tutorial, way):
    assert tutorial("confirms", way).finish() == "confirmed 50\n"
