"""Exchanges that take each value of a header once, as rabbitmq-message-deduplication does."""

import time

import pika
import pytest

from support import closes_channel, closes_connection, count, drain, expect, publish, settle

KIND = "x-message-deduplication"
A_PLUGIN = "the type is a plugin that RabbitMQ does not ship: 503 `unknown exchange type`"


@pytest.fixture
def deduplicating(broker, channel, name):
    """Declares an exchange of the type; None where there is none."""
    made = []

    def declare(**arguments):
        exchange, arguments = name(), {key.replace("_", "-"): v for key, v in arguments.items()}
        action = lambda: channel.exchange_declare(exchange, KIND, arguments=arguments)  # noqa: E731
        if expect(broker, why=A_PLUGIN, ringtail=True, rabbitmq=False):
            action()
            made.append(exchange)
            return exchange
        closes_connection(
            channel.connection, action, 503, f"COMMAND_INVALID - unknown exchange type '{KIND}'")
        return None

    yield declare
    if channel.connection.is_open:
        fresh = channel.connection.channel()
        for exchange in made:
            fresh.exchange_delete(exchange)


def valued(channel, exchange, body, value, **headers):
    headers = {"x-deduplication-header": value} | {
        key.replace("_", "-"): header for key, header in headers.items()}
    channel.basic_publish(exchange, "key", body, pika.BasicProperties(headers=headers))


@pytest.mark.row("Exchange types", "x-message-deduplication")
def test_each_value_passes_once(channel, queue, deduplicating):
    if exchange := deduplicating(x_cache_size=100):
        channel.queue_bind(queue, exchange)
        for body, value in [(b"1", "a"), (b"2", "a"), (b"3", "b"), (b"4", 7), (b"5", 7)]:
            valued(channel, exchange, body, value)
        publish(channel, "key", b"6", b"7", exchange=exchange)
        assert drain(channel, queue) == [b"1", b"3", b"4", b"6", b"7"]


@pytest.mark.row("Exchange types", "x-message-deduplication")
def test_values_are_seen_from_all_publishers(connect, channel, queue, deduplicating):
    if exchange := deduplicating(x_cache_size=100):
        channel.queue_bind(queue, exchange)
        for n in range(6):
            publisher = connect().channel()
            publisher.confirm_delivery()
            valued(publisher, exchange, b"%d" % n, "same")
        assert drain(channel, queue) == [b"0"]


@pytest.mark.row("Exchange types", "x-message-deduplication")
def test_a_duplicate_goes_to_the_alternate_exchange(channel, exchange, queue, deduplicating):
    fanout = exchange("fanout")
    if name := deduplicating(x_cache_size=100, alternate_exchange=fanout):
        channel.queue_bind(queue, fanout)
        other = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(other, name)
        for body in [b"1", b"2"]:
            valued(channel, name, body, "a")
        settle(channel.connection)
        assert (drain(channel, other), drain(channel, queue)) == ([b"1"], [b"2"])


@pytest.mark.row("Exchange types", "x-cache-size")
def test_the_oldest_value_makes_room(channel, queue, deduplicating):
    if exchange := deduplicating(x_cache_size=3):
        channel.queue_bind(queue, exchange)
        for n in [1, 2, 3, 1, 4, 3, 1]:
            valued(channel, exchange, b"%d" % n, n)
        assert drain(channel, queue) == [b"1", b"2", b"3", b"4", b"1"]


@pytest.mark.row("Exchange types", "x-cache-ttl")
@pytest.mark.parametrize("by", ["argument", "x_cache_ttl", "x_deduplication_ttl"])
def test_a_value_is_forgotten_in_time(channel, queue, deduplicating, by):
    arguments, headers = ({"x_cache_ttl": 300}, {}) if by == "argument" else ({}, {by: 300})
    if exchange := deduplicating(x_cache_size=10, **arguments):
        channel.queue_bind(queue, exchange)
        begin = time.monotonic()
        valued(channel, exchange, b"1", "a", **headers)
        while not count(channel, queue) > 1:
            assert time.monotonic() - begin < 15
            valued(channel, exchange, b"again", "a", **headers)
        assert time.monotonic() - begin >= 0.29
        assert drain(channel, queue) == [b"1", b"again"]


@pytest.mark.row("Exchange types", "x-cache-size")
@pytest.mark.parametrize("size", [None, 0, -1, "many", True])
def test_a_size_is_needed(broker, channel, name, size):
    arguments = {} if size is None else {"x-cache-size": size}
    refused(
        broker, channel, name(), arguments,
        "Missing or invalid argument, 'x-cache-size' must be an integer greater than 0")


@pytest.mark.row("Exchange types", "x-cache-ttl")
@pytest.mark.parametrize("ttl", [0, -1, "soon"])
def test_a_time_is_positive(broker, channel, name, ttl):
    refused(
        broker, channel, name(), {"x-cache-size": "10", "x-cache-ttl": ttl},
        "Invalid argument, 'x-cache-ttl' must be an integer greater than 0")


@pytest.mark.row("Exchange types", "x-cache-persistence")
@pytest.mark.parametrize(("where", "text"), [
    ("tape", "'x-cache-persistence' must be either 'disk' or 'memory'"),
    (1, "'x-cache-persistence' must be either 'disk' or 'memory'"),
    ("disk", "'x-cache-persistence' 'disk' is not supported yet"),
])
def test_values_are_in_memory(broker, channel, name, where, text):
    refused(
        broker, channel, name(), {"x-cache-size": 10, "x-cache-persistence": where},
        f"Invalid argument, {text}")


def refused(broker, channel, exchange, arguments, text):
    action = lambda: channel.exchange_declare(exchange, KIND, arguments=arguments)  # noqa: E731
    if expect(broker, why=A_PLUGIN, ringtail=True, rabbitmq=False):
        closes_channel(channel, action, 406, f"PRECONDITION_FAILED - {text}")
    else:
        closes_connection(
            channel.connection, action, 503, f"COMMAND_INVALID - unknown exchange type '{KIND}'")


A_QUEUE_OF_THE_PLUGIN = "RabbitMQ without the plugin ignores the argument"


@pytest.fixture
def held(channel, name):
    """A queue that takes a value while no message in it has it."""
    queue = name()
    channel.queue_declare(queue, exclusive=True, arguments={"x-message-deduplication": True})
    return queue


def numbers(broker, ours, *others):
    return expect(
        broker, why=A_QUEUE_OF_THE_PLUGIN, ringtail=list(ours), rabbitmq=list(others))


@pytest.mark.row("Queues", "Deduplication")
def test_a_value_enters_once(broker, channel, held):
    publish_valued(channel, held, [(b"1", "a"), (b"2", "a"), (b"3", "b"), (b"4", None)])
    assert drain(channel, held) == numbers(broker, [b"1", b"3", b"4"], b"1", b"2", b"3", b"4")


@pytest.mark.row("Queues", "Deduplication")
def test_a_value_may_enter_again_when_its_message_is_acknowledged(broker, channel, held):
    publish_valued(channel, held, [(b"1", "a")])
    method, _, _ = channel.basic_get(held)
    publish_valued(channel, held, [(b"2", "a")])
    channel.basic_nack(method.delivery_tag, requeue=True)
    publish_valued(channel, held, [(b"3", "a")])
    method, _, body = channel.basic_get(held)
    assert body == b"1"
    channel.basic_ack(method.delivery_tag)
    publish_valued(channel, held, [(b"4", "a")])
    assert drain(channel, held) == numbers(broker, [b"4"], b"2", b"3", b"4")


@pytest.mark.row("Queues", "Deduplication")
def test_a_purge_and_a_limit_let_values_enter_again(broker, channel, name, held):
    publish_valued(channel, held, [(b"1", "a")])
    channel.queue_purge(held)
    publish_valued(channel, held, [(b"2", "a")])
    assert drain(channel, held) == [b"2"]
    short = name()
    arguments = {"x-message-deduplication": True, "x-max-length": 1}
    channel.queue_declare(short, exclusive=True, arguments=arguments)
    publish_valued(channel, short, [(b"1", "a"), (b"2", "b"), (b"3", "a"), (b"4", "a")])
    assert drain(channel, short) == numbers(broker, [b"3"], b"4")


@pytest.mark.row("Queues", "Deduplication")
def test_a_duplicate_is_confirmed(channel, held):
    confirming = channel.connection.channel()
    confirming.confirm_delivery()
    for body in [b"1", b"2"]:
        header = pika.BasicProperties(headers={"x-deduplication-header": "a"})
        confirming.basic_publish("", held, body, header, mandatory=True)


@pytest.mark.row("Queues", "Deduplication")
def test_the_argument_is_a_boolean(broker, channel, name):
    queue, arguments = name(), {"x-message-deduplication": "yes"}
    if expect(broker, why=A_QUEUE_OF_THE_PLUGIN, ringtail=True, rabbitmq=False):
        closes_channel(
            channel, lambda: channel.queue_declare(queue, arguments=arguments), 406,
            "PRECONDITION_FAILED - invalid arg 'x-message-deduplication' for queue "
            f"'{queue}' in vhost '/': {{unacceptable_type,longstr}}")
    else:
        channel.queue_declare(queue, exclusive=True, arguments=arguments)


def publish_valued(channel, queue, messages):
    """Publishes messages with their values, `None` for none, and waits for the confirms."""
    confirming = channel.connection.channel()
    confirming.confirm_delivery()
    for body, value in messages:
        headers = None if value is None else {"x-deduplication-header": value}
        confirming.basic_publish("", queue, body, pika.BasicProperties(headers=headers))
    confirming.close()
