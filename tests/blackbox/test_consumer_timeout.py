"""The time in which a delivery is to be acknowledged."""

import time

import pika.exceptions
import pytest

from support import (
    Inbox, closes_channel, count, eventually, expect, publish, pump, settle)

SECONDS = 1
CONFIG = f"consumer_timeout = {SECONDS * 1000}\n"
NEWER = "3.10 does not know x-consumer-timeout yet and ignores it"


def text(channel, milliseconds):
    return (
        f"PRECONDITION_FAILED - delivery acknowledgement on channel {channel} timed out. Timeout "
        f"value used: {milliseconds} ms. This timeout value can be configured, see consumers doc "
        "guide to learn more")


def closed_for_time(channel, milliseconds):
    """Waits until the broker closes the channel for this time; seconds that it took."""
    begun = time.monotonic()
    pump(channel.connection, lambda: channel.is_closed)
    closed = channel._closing_reason
    expected = text(channel.channel_number, milliseconds)
    assert (closed.reply_code, closed.reply_text) == (406, expected)
    return time.monotonic() - begun


def stays_open(channel, seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        channel.connection.process_data_events(time_limit=0.05)
    settle(channel.connection)
    assert channel.is_open


@pytest.mark.row("Consumer timeout", "consumer_timeout")
def test_a_channel_that_holds_a_delivery_for_too_long_is_closed(own_broker, connect):
    to = own_broker(config=CONFIG)
    watch = connect(to).channel()
    watch.queue_declare("q")
    publish(watch, "q", b"1", b"2")
    connection = connect(to)
    bystander = connection.channel()
    slow = connection.channel()
    inbox = Inbox(slow, "q")
    inbox.exactly(2)
    took = closed_for_time(slow, SECONDS * 1000)
    assert took > SECONDS * 0.9
    # Only this channel ends, and what it held comes again, in order.
    assert bystander.is_open
    eventually(lambda: count(watch, "q") == 2)
    again = Inbox(bystander, "q").wait(2)
    assert [(each.body, each.method.redelivered) for each in again] == [(b"1", True), (b"2", True)]
    again[1].ack(multiple=True)


@pytest.mark.row("Consumer timeout", "Acknowledged in time")
def test_who_acknowledges_in_time_is_not_closed(own_broker, connect):
    to = own_broker(config=CONFIG)
    channel = connect(to).channel()
    channel.queue_declare("q")
    inbox = Inbox(channel, "q")
    automatic = Inbox(connect(to).channel(), "q", auto_ack=True)
    # Longer than the time in all, each delivery for itself.
    for number in range(8):
        publish(channel, "q", b"x", b"x")
        inbox.wait(number + 1)
        stays_open(channel, SECONDS * 0.3)
        inbox.deliveries[-1].ack(multiple=True)
    automatic.exactly(8)
    stays_open(automatic.channel, SECONDS * 1.5)


@pytest.mark.row("Consumer timeout", "The oldest delivery")
def test_later_deliveries_do_not_prolong_the_time(own_broker, connect):
    to = own_broker(config=CONFIG)
    channel = connect(to).channel()
    channel.queue_declare("q")
    publish(channel, "q", b"held")
    inbox = Inbox(channel, "q")
    inbox.wait(1)
    begun = time.monotonic()
    with pytest.raises(pika.exceptions.AMQPChannelError):
        while time.monotonic() < begun + 10:
            publish(channel, "q", b"x")
            channel.connection.process_data_events(time_limit=0.05)
            for each in inbox.deliveries[1:]:
                each.ack()
            del inbox.deliveries[1:]
            channel.queue_declare("q", passive=True)


@pytest.mark.row("Consumer timeout", "basic.get")
def test_what_a_get_took_counts_too(own_broker, connect):
    to = own_broker(config=CONFIG)
    channel = connect(to).channel()
    channel.queue_declare("q")
    publish(channel, "q", b"1")
    assert channel.basic_get("q")[2] == b"1"
    closed_for_time(channel, SECONDS * 1000)


@pytest.mark.row("Consumer timeout", "Off unless set")
def test_without_the_key_nothing_is_late(connect, channel, shared):
    publish(channel, shared, b"1")
    inbox = Inbox(channel, shared)
    inbox.wait(1)
    stays_open(channel, 1.5)


@pytest.mark.row("Consumer timeout", "x-consumer-timeout of a queue")
def test_a_queue_has_a_time_of_its_own(broker, connect, channel, name):
    queue = name()
    channel.queue_declare(queue, auto_delete=True, arguments={"x-consumer-timeout": 500})
    slow = connect().channel()
    publish(channel, queue, b"1")
    Inbox(slow, queue).wait(1)
    if expect(broker, why=NEWER, ringtail=True, rabbitmq=False):
        closed_for_time(slow, 500)
    else:
        stays_open(slow, 1)


@pytest.mark.row("Consumer timeout", "x-consumer-timeout of a consumer")
def test_a_consumers_own_time_comes_first(broker, connect, channel, name):
    queue = name()
    channel.queue_declare(queue, arguments={"x-consumer-timeout": 60000})
    publish(channel, queue, b"1")
    slow, patient = connect().channel(), connect().channel()
    Inbox(slow, queue, arguments={"x-consumer-timeout": 400}).wait(1)
    publish(channel, queue, b"2")
    if expect(broker, why=NEWER, ringtail=True, rabbitmq=False):
        closed_for_time(slow, 400)
        Inbox(patient, queue, arguments={"x-consumer-timeout": 50000}).wait(2)
    stays_open(patient, 1)
    channel.queue_delete(queue)


@pytest.mark.row("Consumer timeout", "Type of the argument")
@pytest.mark.parametrize(
    "value, why",
    [("1", '"expected integer, got longstr"'), (-1, "{value_negative,-1}"), (0, "{value_zero,0}")],
    ids=["string", "negative", "zero"])
def test_the_argument_is_a_positive_number(broker, connect, channel, name, shared, value, why):
    queue, arguments = name(), {"x-consumer-timeout": value}
    if not expect(broker, why=NEWER, ringtail=True, rabbitmq=False):
        channel.queue_declare(queue, exclusive=True, arguments=arguments)
        return
    fresh = connect().channel()
    for act, of in (
            (lambda: channel.queue_declare(queue, arguments=arguments), queue),
            (lambda: fresh.basic_consume(shared, lambda *_: None, arguments=arguments), shared)):
        closes_channel(
            channel if of == queue else fresh, act, 406,
            f"PRECONDITION_FAILED - invalid arg 'x-consumer-timeout' for queue '{of}' in vhost "
            f"'/': {why}")


@pytest.mark.row("Consumer timeout", "Acknowledged in a transaction")
def test_an_acknowledgement_that_waits_for_its_commit_is_in_time(own_broker, connect):
    to = own_broker(config=CONFIG)
    channel = connect(to).channel()
    channel.queue_declare("q")
    channel.tx_select()
    publish(channel, "q", b"1")
    Inbox(channel, "q").wait(1)[0].ack()
    stays_open(channel, SECONDS * 2)
    channel.tx_commit()
    assert count(channel, "q") == 0
