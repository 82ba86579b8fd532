"""Celery without any argument of queues: what it does over the plain protocol."""

import celery
import pytest

import catalogue
from support import eventually
from workers import PLAIN, SECONDS, WITHOUT_GOSSIP, opened


@pytest.fixture(scope="module")
def shop(broker, tmp_path_factory):
    """A worker that several tests use."""
    folder = tmp_path_factory.mktemp("shop")
    with opened(broker, folder, "shop.", PLAIN, WITHOUT_GOSSIP) as shop:
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


@pytest.mark.needs(catalogue.TTL)
def test_a_task_that_expires(shop):
    """`expires=` of a task becomes the property expiration."""
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
    with opened(broker, tmp_path, "again.", PLAIN, WITHOUT_GOSSIP) as shop:
        assert shop.opened().add.delay(1, 2).get(SECONDS) == 3
        shop.app.close()
        broker.stop()
        broker.start()
        shop.worker.says("Connected to amqp", times=2)
        assert shop.add.delay(3, 4).get(SECONDS) == 7
