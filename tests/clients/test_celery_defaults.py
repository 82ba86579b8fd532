"""Celery with all its defaults: queues with a time to live that expire, gossip, events, beat."""

import contextlib
import datetime
import json
import time

import amqp.exceptions
import celery
import kombu
import pytest

import catalogue
from support import eventually
from workers import PLAIN, SECONDS, Shop, client, opened, told

TTL, EXPIRES, DEAD_LETTERS = catalogue.TTL, catalogue.EXPIRES, catalogue.DEAD_LETTERS
BEAT_SECONDS = 0.3


def _capture(shop):
    with shop.app.connection() as connection:
        next(shop.app.events.Receiver(connection).itercapture(timeout=1, wakeup=False), None)


@pytest.mark.parametrize(("setting", "use"), [
    pytest.param(setting, use, id=setting, marks=pytest.mark.needs(
        feature, raises=amqp.exceptions.PreconditionFailed))
    for setting, feature, use in (
        ("result_expires", EXPIRES, lambda shop: shop.add.delay(1, 2)),
        ("control_queue_ttl", TTL, lambda shop: shop.app.control.ping(timeout=0.1)),
        ("control_queue_expires", EXPIRES, lambda shop: shop.app.control.ping(timeout=0.1)),
        ("event_queue_ttl", TTL, _capture),
        ("event_queue_expires", EXPIRES, _capture))])
def test_a_setting_left_at_its_default(broker, setting, use):
    settings = {key: value for key, value in PLAIN.items() if key != setting}
    shop = client(told(broker, f"{setting}.", settings))
    # A timeout: the queue is there, and no event came.
    with contextlib.suppress(TimeoutError):
        use(shop)
    shop.app.close()


@pytest.fixture(scope="module")
def notes(tmp_path_factory):
    """The file that beat's task writes to."""
    return tmp_path_factory.mktemp("beat") / "notes"


@pytest.fixture(scope="module")
def shop(broker, notes, tmp_path_factory):
    """A worker with events and beat, and nothing set."""
    folder = tmp_path_factory.mktemp("defaults")
    beat = {"task": "shop.noted", "schedule": BEAT_SECONDS, "args": [str(notes), "tick"]}
    options = ("-E", "--beat", "--schedule", str(notes.with_name("schedule")))
    with opened(broker, folder, "defaults.", {"beat_schedule": {"tick": beat}}, options) as shop:
        yield shop.opened()


@pytest.mark.needs(TTL, EXPIRES)
class TestEveryDefault:
    """Of one worker, which several tests use."""

    def test_results(self, shop):
        assert [shop.add.delay(1, number).get(SECONDS) for number in range(5)] == [1, 2, 3, 4, 5]
        group = celery.group(shop.add.s(number, 1) for number in range(10))
        assert group().get(SECONDS) == list(range(1, 11))

    def test_a_task_with_an_eta(self, shop):
        begin = time.time()
        late = shop.add.apply_async((1, 1), eta=_in_seconds(1.5))
        soon = shop.add.apply_async((2, 2), countdown=0.5)
        assert (soon.get(SECONDS), late.ready()) == (4, False)
        assert (late.get(SECONDS), time.time() - begin >= 1.5) == (2, True)

    def test_a_task_that_is_retried_later(self, shop):
        begin = time.time()
        assert shop.retried_later.delay(0.5).get(SECONDS) == 2
        assert time.time() - begin >= 1

    def test_a_late_acknowledgement_of_a_killed_process(self, shop, tmp_path):
        assert shop.dies_once.delay(str(tmp_path / "marker")).get(SECONDS) == "survived"

    def test_beat(self, shop, notes):
        eventually(lambda: notes.exists() and notes.read_text().count("tick\n") >= 3)

    def test_events(self, shop):
        types = ["task-sent", "task-received", "task-started", "task-succeeded"]
        heard = []
        with shop.app.connection() as connection:
            receiver = shop.app.events.Receiver(connection, handlers={"*": heard.append})
            capture = receiver.itercapture(timeout=SECONDS)
            next(capture)
            shop.app.conf.task_send_sent_event = True
            task = shop.add.delay(1, 2)
            while len(told_of(heard, task)) < len(types):
                next(capture)
        assert sorted(told_of(heard, task)) == sorted(types)

    def test_a_queue_that_a_worker_is_told_to_consume(self, shop):
        control, queue = shop.app.control, "defaults.further"
        control.add_consumer(queue, reply=True, timeout=SECONDS, limit=1)
        assert shop.add.apply_async((1, 2), queue=queue).get(SECONDS) == 3
        control.cancel_consumer(queue, reply=True, timeout=SECONDS, limit=1)
        [queues] = control.inspect(timeout=SECONDS, limit=1).active_queues().values()
        assert [each["name"] for each in queues] == ["defaults.celery"]

    def test_workers_that_gossip(self, shop, broker, tmp_path):
        """Two workers know of each other. Their elections often have no end, with RabbitMQ too."""
        other = Shop(broker, tmp_path, "defaults.", {}, ("--hostname", "other@shop"))
        try:
            other.opened().worker.says("sync with 1 nodes").says("sync complete")
            assert len(shop.app.control.ping(timeout=SECONDS, limit=2)) == 2
            _heartbeats(shop, {"defaults.@shop", "other@shop"})
            other.close()
        finally:
            other.app.close()
            other.worker.kill()


def _in_seconds(seconds):
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)


def told_of(events, task):
    """The types of the events of a task."""
    return [event["type"] for event in events if event.get("uuid") == task.id]


def _heartbeats(shop, hostnames):
    """Waits until every worker was heard of, by all that listen."""
    heard = set()
    with shop.app.connection() as connection:
        receiver = shop.app.events.Receiver(
            connection, handlers={"worker-heartbeat": lambda event: heard.add(event["hostname"])})
        capture = receiver.itercapture(timeout=SECONDS)
        while not hostnames <= heard:
            next(capture)


@pytest.mark.needs(TTL)
def test_tasks_that_expire_before_a_worker_comes(broker):
    shop = client(told(broker, "late.", PLAIN))
    with shop.app.connection() as connection:
        shop.add.apply_async((1, 1), connection=connection)
        shop.add.apply_async((2, 2), connection=connection, expires=0.3)
        queue = shop.app.amqp.queues["late.celery"](connection.channel())
        assert queue.get(no_ack=True).properties["correlation_id"]
        eventually(lambda: queue.queue_declare(passive=True).message_count == 0)
    shop.app.close()


@pytest.mark.needs(DEAD_LETTERS)
def test_a_refused_task_goes_to_a_queue_of_its_own(broker, tmp_path):
    with opened(broker, tmp_path, "refusing.", PLAIN, ("--without-gossip",),
                SHOP_KEEPS_REFUSED="yes") as shop:
        shop.opened()
        with shop.app.connection() as connection:
            queue = kombu.Queue(shop.REFUSED, durable=False)(connection.channel())
            queue.declare()
            task = shop.refused.delay("out of stock")
            message = eventually(lambda: queue.get(no_ack=True))
        assert (message.headers["task"], message.headers["id"]) == ("shop.refused", task.id)
        assert json.loads(message.body)[0] == ["out of stock"]
        [death] = message.headers["x-death"]
        assert (death["reason"], death["queue"], death["count"]) == (
            "rejected", "refusing.celery", 1)
