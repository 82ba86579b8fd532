"""A Celery worker as a process of its own, and its users."""

import contextlib
import importlib
import json
import os
import sys

import amqp.exceptions
import celery
import pytest

import catalogue
from programs import Program
from support import eventually

PYTHON = catalogue.HERE / "python"
SECONDS = 20

# Ringtail has no TTL and no expiring queues yet: nothing may ask for x-message-ttl or x-expires.
SETTINGS = {
    "result_expires": None,
    "control_queue_ttl": None, "control_queue_expires": None,
    "event_queue_ttl": None, "event_queue_expires": None}
WITHOUT_GOSSIP = ("--without-gossip",)


def told(broker, prefix, settings):
    """The environment that the application reads its settings from."""
    return catalogue.environment(broker, prefix) | {
        "SHOP_SETTINGS": json.dumps(settings), "PYTHONPATH": str(PYTHON)}


def client(environ):
    """The application's module, read anew: each one has an application of its own."""
    before = dict(os.environ)
    os.environ.update(environ)
    sys.path.insert(0, str(PYTHON))
    try:
        for each in ("shop", "place"):
            sys.modules.pop(each, None)
        return importlib.import_module("shop")
    finally:
        sys.path.remove(str(PYTHON))
        os.environ.clear()
        os.environ.update(before)


class Shop:
    """A worker, and an application that sends it tasks."""

    def __init__(self, broker, folder, prefix, settings, options=()):
        self.broker = broker
        environ = told(broker, prefix, settings)
        self.module = client(environ)
        command = [
            sys.executable, "-m", "celery", "-A", "shop", "worker", "--loglevel", "INFO",
            "--concurrency", "2", "--hostname", f"{prefix}@shop", *options]
        self.worker = Program(command, folder, environ)

    def opened(self):
        self.worker.says("shop is open")
        return self

    def close(self):
        """A warm shutdown: the worker closes its connections in order."""
        if self.worker.process.poll() is None:
            self.worker.process.terminate()
            self.worker.finish()

    def __getattr__(self, name):
        return getattr(self.module, name)


@contextlib.contextmanager
def opened(*arguments):
    shop = Shop(*arguments)
    try:
        yield shop
        shop.close()
    finally:
        shop.app.close()
        shop.worker.kill()


@pytest.fixture
def lacking(request, pytestconfig):
    """Ringtail has not built yet what the test needs: the test must fail there."""

    def mark(why, raises=None):
        if pytestconfig.option.target == "ringtail":
            request.applymarker(pytest.mark.xfail(strict=True, reason=why, raises=raises))

    return mark


@pytest.fixture(scope="module")
def shop(broker, tmp_path_factory):
    """A worker that several tests use."""
    folder = tmp_path_factory.mktemp("shop")
    with opened(broker, folder, "shop.", SETTINGS, WITHOUT_GOSSIP) as shop:
        yield shop.opened()


def test_results(shop):
    results = [shop.add.delay(number, number) for number in range(20)]
    assert [result.get(SECONDS) for result in results] == list(range(0, 40, 2))
    with pytest.raises(KeyError, match="what"):
        shop.broken.delay("what").get(SECONDS)


def test_a_retried_task(shop):
    assert shop.third_time_lucky.delay(21).get(SECONDS) == 42


def test_a_group_and_a_chain(shop):
    group = celery.group(shop.add.s(number, 1) for number in range(10))
    assert group().get(SECONDS) == list(range(1, 11))
    assert celery.chain(shop.add.s(1, 2), shop.add.s(3), shop.add.s(4))().get(SECONDS) == 10


def test_the_rpc_backend_has_no_chords(shop):
    with pytest.raises(NotImplementedError, match="chords"):
        celery.chord([shop.add.s(1, 2), shop.add.s(3, 4)])(shop.add.s(5))


def test_a_task_with_a_countdown(shop):
    assert shop.add.apply_async((1, 1), countdown=1).get(SECONDS) == 2


def test_a_task_that_expires(lacking, shop):
    lacking("expires= of a task becomes the property expiration, and there is no TTL yet")
    with shop.app.connection() as connection:
        task = shop.add.apply_async((2, 2), expires=60, connection=connection)
        assert task.get(SECONDS / 4) == 4


def test_a_task_of_a_killed_process_is_delivered_again(shop, tmp_path):
    marker = tmp_path / "marker"
    assert shop.dies_once.delay(str(marker)).get(SECONDS) == "survived"
    assert marker.exists()


def test_remote_control(shop, tmp_path):
    control, marker = shop.app.control, tmp_path / "marker"
    assert [list(reply.values()) for reply in control.ping(timeout=SECONDS, limit=1)] == [
        [{"ok": "pong"}]]
    running = [shop.patient.delay(str(marker)) for _ in range(2)]
    revoked = shop.add.delay(1, 1)
    inspect = control.inspect(timeout=SECONDS, limit=1)
    eventually(lambda: len(_only(inspect.active())) == 2)
    control.revoke(revoked.id, reply=True, timeout=SECONDS, limit=1)
    assert revoked.id in _only(inspect.revoked())
    marker.touch()
    assert [result.get(SECONDS) for result in running] == ["seen", "seen"]
    with pytest.raises(celery.exceptions.TaskRevokedError):
        revoked.get(SECONDS)
    assert _only(inspect.stats())["broker"]["port"] == shop.broker.port


def _only(replies):
    [reply] = replies.values()
    return reply


def test_events(shop):
    """What `celery events` and Flower look at."""
    heard = []
    with shop.app.connection() as connection:
        receiver = shop.app.events.Receiver(connection, handlers={"*": heard.append})
        shop.app.control.enable_events(reply=True, timeout=SECONDS, limit=1)
        capture = receiver.itercapture(timeout=SECONDS)
        next(capture)
        shop.add.delay(1, 2).get(SECONDS)
        while "task-succeeded" not in {event["type"] for event in heard}:
            next(capture)


def test_a_worker_comes_back_after_the_broker_closed_its_connection(own_broker, tmp_path):
    broker = own_broker()
    with opened(broker, tmp_path, "again.", SETTINGS, WITHOUT_GOSSIP) as shop:
        assert shop.opened().add.delay(1, 2).get(SECONDS) == 3
        shop.app.close()
        broker.stop()
        broker.start()
        shop.worker.says("Connected to amqp", times=2)
        assert shop.add.delay(3, 4).get(SECONDS) == 7


def _capture(shop):
    with shop.app.connection() as connection:
        next(shop.app.events.Receiver(connection).itercapture(timeout=1, wakeup=False), None)


@pytest.mark.parametrize(("setting", "argument", "use"), [
    ("result_expires", "x-expires", lambda shop: shop.add.delay(1, 2)),
    ("control_queue_ttl", "x-message-ttl", lambda shop: shop.app.control.ping(timeout=0.1)),
    ("control_queue_expires", "x-expires", lambda shop: shop.app.control.ping(timeout=0.1)),
    ("event_queue_ttl", "x-message-ttl", _capture),
    ("event_queue_expires", "x-expires", _capture),
], ids=lambda value: "" if callable(value) else value)
def test_a_setting_left_at_its_default(lacking, broker, setting, argument, use):
    lacking(f"{argument} is not built yet", raises=amqp.exceptions.PreconditionFailed)
    settings = {key: value for key, value in SETTINGS.items() if key != setting}
    shop = client(told(broker, f"{setting}.", settings))
    try:
        use(shop)
    except TimeoutError:
        pass  # the queue is there, and no event came
    except amqp.exceptions.PreconditionFailed as refused:
        assert argument in str(refused)
        raise
    finally:
        shop.app.close()


def test_every_default(lacking, broker, tmp_path):
    lacking("x-message-ttl and x-expires are not built yet")
    with opened(broker, tmp_path, "defaults.", {}) as shop:
        assert shop.opened().add.delay(1, 2).get(SECONDS) == 3
