"""Exchanges of type x-recent-history: a queue that is bound gets the last messages."""

import pika
import pytest

from support import closes_channel, drain, expect, publish

PLUGINS = ["rabbitmq_recent_history_exchange"]
KIND = "x-recent-history"


@pytest.fixture(scope="module")
def broker(make_broker):
    """A broker with the type of this file."""
    broker = make_broker(plugins=PLUGINS).start()
    yield broker
    broker.discard()


def numbers(*which):
    return [b"%d" % n for n in which]


@pytest.mark.row("Exchange types", "x-recent-history")
def test_a_queue_gets_the_last_messages_in_their_order(channel, exchange, queue):
    name = exchange(KIND)
    publish(channel, "key", *numbers(*range(30)), exchange=name)
    channel.queue_bind(queue, name)
    assert drain(channel, queue) == numbers(*range(10, 30)), "20 of them"
    publish(channel, "key", b"next", exchange=name)
    assert drain(channel, queue) == [b"next"]


@pytest.mark.row("Exchange types", "x-recent-history")
@pytest.mark.parametrize("length", [1, 3, 100])
def test_as_many_messages_as_the_exchange_says(channel, exchange, queue, length):
    name = exchange(KIND, arguments={"x-recent-history-length": length})
    publish(channel, "key", *numbers(*range(40)), exchange=name)
    channel.queue_bind(queue, name)
    assert drain(channel, queue) == numbers(*range(max(0, 40 - length), 40))


@pytest.mark.row("Exchange types", "x-recent-history")
def test_messages_are_kept_as_they_were_published(channel, exchange, queue):
    name = exchange(KIND)
    properties = pika.BasicProperties(
        content_type="text/plain", headers={"h": [1, "two"]}, delivery_mode=2, message_id="m")
    body = b"x" * 100_000
    channel.basic_publish(name, "the key", body, properties)
    channel.queue_bind(queue, name, "another key")
    method, kept, found = channel.basic_get(queue, auto_ack=True)
    assert (method.exchange, method.routing_key, method.redelivered) == (name, "the key", False)
    assert (found, kept.headers, kept.delivery_mode) == (body, {"h": [1, "two"]}, 2)
    assert (kept.content_type, kept.message_id) == ("text/plain", "m")


@pytest.mark.row("Exchange types", "x-recent-history")
def test_every_new_binding_brings_them_again(channel, exchange, queue):
    name = exchange(KIND)
    publish(channel, "key", b"m", exchange=name)
    for key in ["a", "a", "b"]:
        channel.queue_bind(queue, name, key)
    assert drain(channel, queue) == [b"m", b"m"]


@pytest.mark.row("Exchange types", "x-recent-history")
def test_binding_keys_mean_nothing(channel, exchange, queue):
    name = exchange(KIND)
    for key in ["a", "b"]:
        channel.queue_bind(queue, name, key)
    publish(channel, "c", b"m", exchange=name)
    assert drain(channel, queue) == [b"m"]


@pytest.mark.row("Exchange types", "x-recent-history-no-store")
def test_messages_may_say_that_they_are_not_kept(channel, exchange, name):
    history, early, late = exchange(KIND), name(), name()
    for queue in [early, late]:
        channel.queue_declare(queue, exclusive=True)
    channel.queue_bind(early, history)
    for value, body in [(True, b"no"), (False, b"yes"), ("true", b"text")]:
        header = pika.BasicProperties(headers={"x-recent-history-no-store": value})
        channel.basic_publish(history, "key", body, header)
    channel.queue_bind(late, history)
    assert drain(channel, early) == [b"no", b"yes", b"text"]
    assert drain(channel, late) == [b"yes", b"text"]


@pytest.mark.row("Exchange types", "x-recent-history-length")
@pytest.mark.parametrize(("value", "shown"), [
    (0, "0"), (-1, "-1"), ("ten", "<<\"ten\">>"), (True, "true")])
def test_the_length_is_a_positive_integer(channel, name, value, shown):
    arguments = {"x-recent-history-length": value}
    closes_channel(
        channel, lambda: channel.exchange_declare(name(), KIND, arguments=arguments), 406,
        f"PRECONDITION_FAILED - Invalid argument {shown}, 'x-recent-history-length' must be a "
        "positive integer")


@pytest.mark.row("Exchange types", "x-recent-history-length")
def test_a_history_has_a_bound(broker, channel, name):
    exchange, arguments = name(), {"x-recent-history-length": 4097}
    if expect(
            broker, why="RabbitMQ keeps any number in the memory of every node",
            ringtail=True, rabbitmq=False):
        closes_channel(
            channel, lambda: channel.exchange_declare(exchange, KIND, arguments=arguments), 406,
            "PRECONDITION_FAILED - Invalid argument 4097, 'x-recent-history-length' must be at "
            "most 4096")
    else:
        channel.exchange_declare(exchange, KIND, arguments=arguments, auto_delete=True)
        channel.exchange_delete(exchange)


@pytest.mark.row("Exchange types", "Histories between exchanges")
def test_what_comes_by_another_exchange_is_kept(channel, exchange, queue):
    front, name = exchange("fanout"), exchange(KIND)
    channel.exchange_bind(name, front)
    publish(channel, "key", b"m", exchange=front)
    channel.queue_bind(queue, name)
    assert drain(channel, queue) == [b"m"]


@pytest.mark.row("Exchange types", "Histories between exchanges")
def test_an_exchange_that_is_bound_passes_them_on(broker, channel, exchange, queue):
    behind, name = exchange("fanout"), exchange(KIND)
    publish(channel, "key", *numbers(1, 2, 3), exchange=name)
    channel.queue_bind(queue, behind)
    channel.exchange_bind(behind, name)
    assert drain(channel, queue) == expect(
        broker, why="RabbitMQ passes them on from the newest to the oldest",
        ringtail=numbers(1, 2, 3), rabbitmq=numbers(3, 2, 1))


@pytest.mark.row("Exchange types", "Publishing to x-recent-history")
def test_what_goes_to_no_queue_is_kept_and_returned(channel, exchange, queue):
    name = exchange(KIND)
    channel.confirm_delivery()
    with pytest.raises(pika.exceptions.UnroutableError):
        channel.basic_publish(name, "key", b"m", mandatory=True)
    channel.queue_bind(queue, name)
    assert drain(channel, queue) == [b"m"]


@pytest.mark.row("Exchange types", "Publishing to x-recent-history")
def test_dead_letters_are_kept(channel, exchange, queue, name):
    history, dying = exchange(KIND), name()
    channel.queue_declare(dying, exclusive=True, arguments={"x-dead-letter-exchange": history})
    publish(channel, dying, b"m")
    method, _, _ = channel.basic_get(dying)
    channel.basic_reject(method.delivery_tag, requeue=False)
    early = name()
    channel.queue_declare(early, exclusive=True)
    publish(channel, "key", b"after", exchange=history)
    channel.queue_bind(queue, history)
    assert sorted(drain(channel, queue)) == [b"after", b"m"]


@pytest.mark.row("Exchange types", "Publishing to x-recent-history")
def test_a_transaction_is_kept_with_its_commit(broker, connection, channel, exchange, name):
    history, early, late = exchange(KIND), name(), name()
    for queue in [early, late]:
        channel.queue_declare(queue, exclusive=True)
    tx = connection.channel()
    tx.tx_select()
    tx.basic_publish(history, "key", b"m")
    tx.queue_bind(early, history)
    assert drain(channel, early) == expect(
        broker, why="RabbitMQ keeps a publish of a transaction at once, and after a rollback too",
        ringtail=[], rabbitmq=[b"m"])
    tx.tx_rollback()
    tx.queue_bind(late, history)
    assert drain(channel, late) == expect(
        broker, why="RabbitMQ keeps a publish of a transaction at once, and after a rollback too",
        ringtail=[], rabbitmq=[b"m"])


@pytest.mark.row("Exchange types", "Publishing to x-recent-history")
def test_two_clients_publish_and_a_third_binds(connect, channel, exchange, queue):
    name = exchange(KIND)
    publishers = [connect().channel() for _ in range(2)]
    for n in range(10):
        publish(publishers[n % 2], "key", b"%d" % n, exchange=name)
    channel.queue_bind(queue, name)
    assert drain(channel, queue) == numbers(*range(10))


@pytest.mark.row("Exchange types", "Histories after a restart")
def test_a_restart_forgets_them(own_broker, connect):
    broker = own_broker(plugins=PLUGINS)
    channel = connect(broker).channel()
    channel.exchange_declare("kept", KIND, durable=True)
    channel.basic_publish("kept", "key", b"m", pika.BasicProperties(delivery_mode=2))
    channel.queue_declare("q", durable=True)
    channel.queue_bind("q", "kept")
    assert drain(channel, "q") == [b"m"]
    channel.connection.close()
    broker.stop()
    broker.start()
    channel = connect(broker).channel()
    channel.queue_declare("later", durable=True)
    channel.queue_bind("later", "kept")
    assert drain(channel, "later") == []
