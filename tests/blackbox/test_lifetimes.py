"""Messages that expire, queues that expire, and queues with limits."""

import time

import pika
import pytest

from support import (
    Inbox, closes_channel, count, drain, eventually, exists, publish, pump, settle)

INVALID = "PRECONDITION_FAILED - invalid arg '{}' for queue '{}' in vhost '/': {}"
TEN_YEARS_MS = 315360000000


@pytest.mark.row("Limits and lifetimes", "Arguments")
@pytest.mark.parametrize(("arguments", "argument", "why"), [
    ({"x-message-ttl": "1"}, "x-message-ttl", '"expected integer, got longstr"'),
    ({"x-message-ttl": -1}, "x-message-ttl", "{value_negative,-1}"),
    ({"x-message-ttl": TEN_YEARS_MS + 1}, "x-message-ttl", "{value_too_large,315360000001}"),
    ({"x-expires": True}, "x-expires", '"expected integer, got bool"'),
    ({"x-expires": 0}, "x-expires", "{value_zero,0}"),
    ({"x-expires": -5}, "x-expires", "{value_negative,-5}"),
    ({"x-expires": TEN_YEARS_MS + 1}, "x-expires", "{value_too_large,315360000001}"),
    ({"x-max-length": -1}, "x-max-length", "{value_negative,-1}"),
    ({"x-max-length": None}, "x-max-length", '"expected integer, got void"'),
    ({"x-max-length-bytes": -1}, "x-max-length-bytes", "{value_negative,-1}"),
    ({"x-overflow": "nope"}, "x-overflow", "invalid_overflow"),
    ({"x-overflow": 1}, "x-overflow", "{unacceptable_type,signedint}"),
    ({"x-overflow": "nope", "x-message-ttl": -1}, "x-message-ttl", "{value_negative,-1}"),
], ids=str)
def test_bad_arguments(channel, name, arguments, argument, why):
    queue = name()
    closes_channel(
        channel, lambda: channel.queue_declare(queue, arguments=arguments), 406,
        INVALID.format(argument, queue, why))


@pytest.mark.row("Limits and lifetimes", "Arguments")
@pytest.mark.parametrize(("first", "then", "told"), [
    ({"x-message-ttl": 10}, {}, "'x-message-ttl' {of}: received none but current is the value "
     "'10' of type 'signedint'"),
    ({"x-expires": 100001}, {"x-expires": 100000},
     "'x-expires' {of}: received '100000' but current is '100001'"),
    ({"x-overflow": "reject-publish"}, {"x-overflow": "drop-head"},
     "'x-overflow' {of}: received 'drop-head' but current is 'reject-publish'"),
    ({"x-max-length-bytes": 10}, {"x-max-length": 10}, "'x-max-length' {of}: received the value "
     "'10' of type 'signedint' but current is none"),
], ids=str)
def test_other_arguments(channel, name, first, then, told):
    queue = name()
    channel.queue_declare(queue, exclusive=True, arguments=first)
    refused = channel.connection.channel()
    closes_channel(
        refused, lambda: refused.queue_declare(queue, exclusive=True, arguments=then), 406,
        "PRECONDITION_FAILED - inequivalent arg "
        + told.format(of=f"for queue '{queue}' in vhost '/'"))


def lives(channel, queue, body, expiration):
    """Publishes a message that lives for so many milliseconds."""
    channel.basic_publish("", queue, body, pika.BasicProperties(expiration=str(expiration)))


@pytest.mark.row("Limits and lifetimes", "Message TTL")
@pytest.mark.parametrize(("ttl", "expiration"), [
    (900, None), (None, 900), (900, 100000), (100000, 900), (0, None), (None, "0"), (None, "+900")])
def test_the_lower_time_wins(channel, name, ttl, expiration):
    arguments = {} if ttl is None else {"x-message-ttl": ttl}
    queue = channel.queue_declare(name(), exclusive=True, arguments=arguments).method.queue
    properties = pika.BasicProperties()
    if expiration is not None:
        properties.expiration = str(expiration)
    # RabbitMQ counts before it takes what was not confirmed.
    channel.confirm_delivery()
    channel.basic_publish("", queue, b"dies", properties)
    if str(ttl) != "0" and expiration != "0":
        assert count(channel, queue) == 1
    eventually(lambda: count(channel, queue) == 0)
    assert channel.basic_get(queue)[0] is None


@pytest.mark.row("Limits and lifetimes", "Message TTL")
def test_only_the_first_message_expires(channel, queue):
    publish(channel, queue, b"stays")
    lives(channel, queue, b"dies", 30)
    time.sleep(0.15)
    assert count(channel, queue) == 2
    assert channel.basic_get(queue)[2] == b"stays"
    assert count(channel, queue) == 0


@pytest.mark.row("Limits and lifetimes", "Message TTL")
def test_a_get_counts_nothing_that_has_expired_behind_it(channel, queue):
    channel.confirm_delivery()
    for body, milliseconds in [(b"first", 100000), (b"gone", 0), (b"last", 100000)]:
        lives(channel, queue, body, milliseconds)
    assert count(channel, queue) == 3
    got, _, body = channel.basic_get(queue)
    assert (body, got.message_count) == (b"first", 1)


@pytest.mark.row("Limits and lifetimes", "Message TTL of 0")
@pytest.mark.parametrize("auto_ack", [True, False])
def test_a_waiting_consumer_gets_what_may_not_live(channel, name, auto_ack):
    queue = channel.queue_declare(
        name(), exclusive=True, arguments={"x-message-ttl": 0}).method.queue
    publish(channel, queue, b"dies")
    inbox = Inbox(channel, queue, auto_ack=auto_ack)
    publish(channel, queue, b"one")
    lives(channel, queue, b"two", 0)
    pump(channel.connection, lambda: len(inbox.bodies) == 2)
    assert inbox.bodies == [b"one", b"two"]


@pytest.mark.row("Limits and lifetimes", "Requeued and expired")
def test_what_is_requeued_keeps_its_time(channel, queue):
    lives(channel, queue, b"dies", 100)
    method, _, _ = channel.basic_get(queue)
    time.sleep(0.2)
    channel.basic_nack(method.delivery_tag, requeue=True)
    assert count(channel, queue) == 0


@pytest.mark.row("Limits and lifetimes", "After a restart")
def test_a_restart_keeps_the_time(own_broker, connect, name):
    broker, queue = own_broker(), name()
    channel = connect(broker).channel()
    channel.queue_declare(queue, durable=True)
    channel.confirm_delivery()
    for body, expiration in [(b"dies", "1500"), (b"lives", "600000")]:
        channel.basic_publish("", queue, body, pika.BasicProperties(
            delivery_mode=2, expiration=expiration))
    channel.connection.close()
    broker.stop()
    time.sleep(1.5)
    channel = connect(broker.start()).channel()
    eventually(lambda: count(channel, queue) == 1)
    assert channel.basic_get(queue)[2] == b"lives"


@pytest.mark.row("Limits and lifetimes", "x-expires")
def test_an_unused_queue_goes(channel, name):
    queue = name()
    channel.queue_declare(queue, arguments={"x-expires": 400})
    publish(channel, queue, b"goes too")
    for use in [lambda: channel.basic_get(queue, auto_ack=True), lambda: count(channel, queue)]:
        time.sleep(0.25)
        use()
    time.sleep(0.25)
    assert exists(channel.connection, queue)
    eventually(lambda: not exists_after(channel.connection, queue, 0.5))


def exists_after(connection, queue, seconds):
    """To look is to use it, so looks are rare."""
    time.sleep(seconds)
    return exists(connection, queue)


@pytest.mark.row("Limits and lifetimes", "x-expires")
def test_a_consumer_uses_its_queue(channel, name):
    queue = name()
    channel.queue_declare(queue, arguments={"x-expires": 200})
    inbox = Inbox(channel, queue, auto_ack=True)
    time.sleep(0.5)
    publish(channel, queue, b"arrives")
    pump(channel.connection, lambda: inbox.bodies == [b"arrives"])
    channel.basic_cancel(inbox.tag)
    eventually(lambda: not exists_after(channel.connection, queue, 0.3))


def full(channel, name, overflow=None, **limits):
    """A queue with limits."""
    arguments = {f"x-{key.replace('_', '-')}": value for key, value in limits.items()}
    if overflow:
        arguments["x-overflow"] = overflow
    return channel.queue_declare(name(), exclusive=True, arguments=arguments).method.queue


@pytest.mark.row("Limits and lifetimes", "drop-head")
def test_the_first_messages_make_room(channel, name):
    queue = full(channel, name, max_length=2)
    publish(channel, queue, b"1", b"2", b"3")
    assert count(channel, queue) == 2
    assert drain(channel, queue) == [b"2", b"3"]


@pytest.mark.row("Limits and lifetimes", "drop-head")
def test_bytes_of_ready_bodies_are_limited(channel, name):
    queue = full(channel, name, max_length_bytes=5)
    publish(channel, queue, b"111", b"22", b"3")
    assert count(channel, queue) == 2
    assert channel.basic_get(queue)[2] == b"22"
    publish(channel, queue, b"4444")
    assert count(channel, queue) == 2
    publish(channel, queue, b"666666")
    assert count(channel, queue) == 0


@pytest.mark.row("Limits and lifetimes", "drop-head")
def test_a_requeued_message_may_be_the_first_to_go(channel, name):
    queue = full(channel, name, max_length=2)
    publish(channel, queue, b"1", b"2")
    method, _, _ = channel.basic_get(queue)
    publish(channel, queue, b"3")
    channel.basic_nack(method.delivery_tag, requeue=True)
    assert count(channel, queue) == 2
    assert drain(channel, queue) == [b"2", b"3"]


@pytest.mark.row("Limits and lifetimes", "A length of 0")
def test_a_queue_that_holds_nothing_serves_its_consumer(channel, name):
    queue = full(channel, name, max_length=0)
    publish(channel, queue, b"lost")
    assert count(channel, queue) == 0
    inbox = Inbox(channel, queue)
    publish(channel, queue, b"taken")
    pump(channel.connection, lambda: inbox.bodies == [b"taken"])


@pytest.mark.row("Limits and lifetimes", "reject-publish")
@pytest.mark.parametrize("overflow", ["reject-publish", "reject-publish-dlx"])
@pytest.mark.parametrize(("limits", "bodies"), [
    ({"max_length": 2}, [b"1", b"2"]), ({"max_length_bytes": 5}, [b"111", b"22"])])
def test_a_full_queue_refuses(channel, name, overflow, limits, bodies):
    queue = full(channel, name, overflow, **limits)
    channel.confirm_delivery()
    for body in bodies:
        channel.basic_publish("", queue, body)
    with pytest.raises(pika.exceptions.NackError):
        channel.basic_publish("", queue, b"3")
    assert count(channel, queue) == 2
    assert channel.basic_get(queue, auto_ack=True)[2] == bodies[0]
    channel.basic_publish("", queue, b"4")
    assert drain(channel, queue) == [bodies[1], b"4"]


@pytest.mark.row("Limits and lifetimes", "A length of 0")
def test_a_queue_that_takes_nothing_refuses_although_a_consumer_waits(channel, name):
    queue = full(channel, name, "reject-publish", max_length=0)
    inbox = Inbox(channel, queue)
    channel.confirm_delivery()
    with pytest.raises(pika.exceptions.NackError):
        channel.basic_publish("", queue, b"refused")
    settle(channel.connection)
    assert inbox.bodies == []


@pytest.mark.row("Limits and lifetimes", "reject-publish")
def test_requeued_messages_are_never_refused(channel, name):
    queue = full(channel, name, "reject-publish", max_length=2)
    publish(channel, queue, b"1", b"2")
    method, _, _ = channel.basic_get(queue)
    publish(channel, queue, b"3")
    channel.basic_nack(method.delivery_tag, requeue=True)
    assert count(channel, queue) == 3
    assert drain(channel, queue) == [b"1", b"2", b"3"]
