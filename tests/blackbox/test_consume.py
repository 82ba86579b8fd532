"""Consuming: tags, prefetch, cancel, order, get."""

import re

import pika
import pytest
from pika import spec

from support import (
    Inbox, closes_channel, closes_connection, consumers, count, drain, publish, pump, settle)
from wire import CAPABILITIES, message


@pytest.mark.row("Consume, get, ack", "basic.get")
def test_get_and_get_empty(channel, queue):
    assert channel.basic_get(queue) == (None, None, None)
    publish(channel, queue, b"1", b"2", b"3")
    method, _, body = channel.basic_get(queue)
    assert (method.message_count, method.delivery_tag, method.redelivered) == (2, 1, False)
    assert (method.exchange, method.routing_key, body) == ("", queue, b"1")
    assert channel.basic_get(queue)[0].message_count == 1
    assert channel.basic_get(queue)[0].message_count == 0
    assert channel.basic_get(queue) == (None, None, None)


@pytest.mark.row("Consume, get, ack", "basic.get of nothing")
def test_get_empty_names_no_cluster(raw, shared):
    client = raw().opened()
    assert client.call(1, spec.Basic.Get(queue=shared), spec.Basic.GetEmpty).cluster_id == ""


@pytest.mark.row("Consume, get, ack", "no-local")
def test_no_local_is_ignored(raw, shared):
    client = raw().opened()
    consume = spec.Basic.Consume(queue=shared, no_local=True, no_ack=True)
    client.call(1, consume, spec.Basic.ConsumeOk)
    client.write(message(1, "", shared, b"my own"))
    client.expect(spec.Basic.Deliver, 1)
    assert client.content()[1] == b"my own"


@pytest.mark.row("Consume, get, ack", "Dispatch")
def test_consumers_take_turns(connect, channel, shared):
    receivers = [connect().channel() for _ in range(3)]
    for receiver in receivers:
        receiver.basic_qos(prefetch_count=10)
    inboxes = [Inbox(receiver, shared) for receiver in receivers]
    publish(channel, shared, *(b"%d" % i for i in range(12)))
    for inbox in inboxes:
        inbox.exactly(4)
    turns = sorted([int(body) for body in inbox.bodies] for inbox in inboxes)
    assert turns == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]


@pytest.mark.row("Consume, get, ack", "Dispatch")
def test_a_consumer_that_is_full_is_passed_over(channel, queue):
    channel.basic_qos(prefetch_count=1)
    full = Inbox(channel, queue)
    channel.basic_qos(prefetch_count=0)
    other = Inbox(channel, queue)
    publish(channel, queue, *[b"x"] * 10)
    full.exactly(1)
    other.exactly(9)


@pytest.mark.row("Qos", "global=false")
@pytest.mark.row("Qos", "prefetch_count 0")
def test_qos_is_for_the_consumers_that_come(channel, queue):
    channel.basic_qos(prefetch_count=2)
    inbox = Inbox(channel, queue)
    channel.basic_qos(prefetch_count=0)
    publish(channel, queue, *[b"x"] * 5)
    inbox.exactly(2)
    channel.basic_qos(prefetch_count=1)
    Inbox(channel, queue).exactly(1)
    assert len(inbox.deliveries) == 2
    assert count(channel, queue) == 2


@pytest.mark.row("Consume, get, ack", "Missing queue")
def test_get_on_a_missing_queue(channel, name):
    missing = name()
    closes_channel(
        channel, lambda: channel.basic_get(missing),
        404, f"NOT_FOUND - no queue '{missing}' in vhost '/'")


@pytest.mark.row("Consume, get, ack", "Tag by the server")
def test_server_made_consumer_tags(raw, queue, shared):
    client = raw().opened(channels=2)
    tags = set()
    for channel in (1, 2, 1):
        answer = client.call(channel, spec.Basic.Consume(queue=shared), spec.Basic.ConsumeOk)
        assert re.fullmatch(r"amq\.ctag-[A-Za-z0-9_-]+", answer.consumer_tag)
        tags.add(answer.consumer_tag)
    assert len(tags) == 3


@pytest.mark.row("Consume, get, ack", "Tag used twice")
def test_a_consumer_tag_cannot_be_used_twice(connection, shared):
    channel = connection.channel()
    channel.basic_consume(shared, lambda *_: None, consumer_tag="mine")
    other = connection.channel()
    other.basic_consume(shared, lambda *_: None, consumer_tag="mine")
    raw_consume = spec.Basic.Consume(queue=shared, consumer_tag="mine")
    closes_connection(
        connection, lambda: channel._impl._send_method(raw_consume),
        530, "NOT_ALLOWED - attempt to reuse consumer tag 'mine'")


@pytest.mark.row("Consume, get, ack", "Tag used twice")
def test_a_cancelled_tag_can_be_used_again(channel, queue):
    for _ in range(3):
        channel.basic_consume(queue, lambda *_: None, consumer_tag="mine")
        channel.basic_cancel("mine")
    assert consumers(channel, queue) == 0


@pytest.mark.row("Consume, get, ack", "cancel-ok")
def test_no_delivery_after_cancel_ok(raw, channel, shared):
    publish(channel, shared, *(b"%d" % i for i in range(50)))
    client = raw().opened()
    for _ in range(20):
        consume = spec.Basic.Consume(queue=shared, consumer_tag="c")
        client.call(1, consume, spec.Basic.ConsumeOk)
        client.send(1, spec.Basic.Cancel(consumer_tag="c"))
        while isinstance((answer := client.next().method), spec.Basic.Deliver):
            client.content()
        assert isinstance(answer, spec.Basic.CancelOk)
        # What comes next must be the answer to this, not a delivery.
        client.call(1, spec.Basic.Recover(requeue=True), spec.Basic.RecoverOk)
        client.call(1, spec.Basic.Qos(prefetch_count=0), spec.Basic.QosOk)
    assert count(channel, shared) == 50
    assert drain(channel, shared) == [b"%d" % i for i in range(50)]


@pytest.mark.row("Consume, get, ack", "cancel-ok")
def test_cancel_leaves_unacknowledged_messages_alone(channel, queue):
    publish(channel, queue, b"1", b"2")
    inbox = Inbox(channel, queue)
    inbox.exactly(2)
    channel.basic_cancel(inbox.tag)
    publish(channel, queue, b"3")
    assert count(channel, queue) == 1
    inbox.deliveries[0].ack()
    channel.basic_nack(inbox.deliveries[1].tag)
    assert drain(channel, queue) == [b"2", b"3"]


@pytest.mark.row("Consume, get, ack", "Cancel of an unknown tag")
def test_cancel_of_an_unknown_tag(raw):
    client = raw().opened()
    answer = client.call(1, spec.Basic.Cancel(consumer_tag="none"), spec.Basic.CancelOk)
    assert answer.consumer_tag == "none"


@pytest.mark.row("Consume, get, ack", "consume-ok")
def test_consume_ok_comes_before_the_first_delivery(raw, channel, shared):
    publish(channel, shared, *[b"x"] * 10)
    client = raw().opened()
    for number in range(10):
        tag = f"tag{number}"
        client.send(
            1, spec.Basic.Qos(prefetch_count=1),
            spec.Basic.Consume(queue=shared, consumer_tag=tag))
        client.expect(spec.Basic.QosOk, 1)
        assert client.expect(spec.Basic.ConsumeOk, 1).consumer_tag == tag
        assert client.expect(spec.Basic.Deliver, 1).consumer_tag == tag
        client.content()


@pytest.mark.row("Qos", "global=false")
@pytest.mark.row("Qos", "prefetch_count 0")
def test_prefetch_is_per_consumer(channel, queue):
    publish(channel, queue, *[b"x"] * 20)
    channel.basic_qos(prefetch_count=3)
    first = Inbox(channel, queue)
    channel.basic_qos(prefetch_count=5)
    second = Inbox(channel, queue)
    second.exactly(5)
    first.exactly(3)
    first.deliveries[0].ack()
    first.exactly(4)
    assert len(second.deliveries) == 5
    first.deliveries[3].ack(multiple=True)
    pump(channel.connection, lambda: len(first.deliveries) + len(second.deliveries) == 17)
    channel.basic_qos(prefetch_count=0)
    assert len(Inbox(channel, queue).exactly(3)) == 3


def test_prefetch_refills_in_order(channel, queue):
    publish(channel, queue, *(b"%d" % i for i in range(100)))
    channel.basic_qos(prefetch_count=7)
    inbox = Inbox(channel, queue)
    for i in range(100):
        inbox.wait(i + 1)[i].ack()
    assert inbox.bodies == [b"%d" % i for i in range(100)]


@pytest.mark.row("Qos", "no-ack consumers and basic.get")
def test_prefetch_does_not_hold_an_auto_ack_consumer(channel, queue):
    channel.basic_qos(prefetch_count=1)
    publish(channel, queue, *[b"x"] * 10)
    Inbox(channel, queue, auto_ack=True).exactly(10)


@pytest.mark.row("Qos", "no-ack consumers and basic.get")
def test_get_is_not_counted_by_a_consumers_prefetch(channel, queue):
    channel.basic_qos(prefetch_count=1)
    publish(channel, queue, b"1", b"2", b"3")
    inbox = Inbox(channel, queue)
    inbox.exactly(1)
    assert channel.basic_get(queue)[2] == b"2"
    inbox.deliveries[0].ack()
    assert inbox.exactly(2)[1].body == b"3"


@pytest.mark.row("Consume, get, ack", "Cancel by the server")
def test_cancel_notify_on_queue_deletion(connect, channel, shared):
    inbox = Inbox(connect().channel(), shared)
    publish(channel, shared, b"held")
    delivery = inbox.exactly(1)[0]
    channel.queue_delete(shared)
    pump(inbox.channel.connection, lambda: inbox.cancelled)
    # A tag whose queue is gone can still be acknowledged.
    delivery.ack()
    settle(inbox.channel.connection)
    assert inbox.channel.is_open


@pytest.mark.row("Consume, get, ack", "Cancel by the server")
def test_cancel_notify_needs_the_capability(raw, channel, shared):
    without = {key: CAPABILITIES[key] for key in ("publisher_confirms", "basic.nack")}
    silent, told = raw(capabilities=without).opened(), raw().opened()
    for client in (silent, told):
        client.call(1, spec.Basic.Consume(queue=shared, consumer_tag="c"), spec.Basic.ConsumeOk)
    channel.queue_delete(shared)
    cancel = told.expect(spec.Basic.Cancel, 1)
    assert (cancel.consumer_tag, cancel.nowait) == ("c", True)
    silent.call(1, spec.Basic.Qos(prefetch_count=1), spec.Basic.QosOk)


@pytest.mark.row("Consume, get, ack", "Exclusive consumer")
def test_an_exclusive_consumer_is_alone(connect, channel, shared):
    inbox = Inbox(channel, shared, exclusive=True)
    refused = connect().channel()
    text = f"ACCESS_REFUSED - queue '{shared}' in vhost '/' in exclusive use"
    closes_channel(refused, lambda: refused.basic_consume(shared, lambda *_: None), 403, text)
    channel.basic_cancel(inbox.tag)
    other = connect().channel()
    Inbox(other, shared)
    closes_channel(
        channel, lambda: channel.basic_consume(shared, lambda *_: None, exclusive=True), 403, text)


def test_consumers_are_counted(connect, channel, shared):
    inboxes = [Inbox(connect().channel(), shared) for _ in range(3)]
    assert consumers(channel, shared) == 3
    inboxes[0].channel.basic_cancel(inboxes[0].tag)
    assert consumers(channel, shared) == 2
    inboxes[1].channel.connection.close()
    assert consumers(channel, shared) == 1


def test_nowait_consume_and_cancel(raw, channel, shared):
    client = raw().opened()
    client.send(1, spec.Basic.Consume(queue=shared, consumer_tag="c", nowait=True))
    publish(channel, shared, b"1")
    assert client.expect(spec.Basic.Deliver, 1).consumer_tag == "c"
    client.content()
    client.send(1, spec.Basic.Cancel(consumer_tag="c", nowait=True))
    client.call(1, spec.Basic.Qos(prefetch_count=0), spec.Basic.QosOk)
    publish(channel, shared, b"2")
    assert drain(channel, shared) == [b"2"]


def test_get_takes_turns_with_publishes_of_the_same_channel(raw, shared):
    client = raw().opened()
    for i in range(50):
        client.write(message(1, "", shared, b"%d" % i))
        client.call(1, spec.Basic.Get(queue=shared, no_ack=True), spec.Basic.GetOk)
        assert client.content()[1] == b"%d" % i


@pytest.mark.row("Consume, get, ack", "Missing queue")
def test_consume_a_missing_queue(channel, name):
    missing = name()
    closes_channel(
        channel, lambda: channel.basic_consume(missing, lambda *_: None),
        404, f"NOT_FOUND - no queue '{missing}' in vhost '/'")


def test_many_consumers_on_one_queue(connect, channel, shared):
    receiver = connect().channel()
    receiver.basic_qos(prefetch_count=1)
    inboxes = [Inbox(receiver, shared) for _ in range(50)]
    publish(channel, shared, *[b"x"] * 60)
    pump(receiver.connection, lambda: all(inbox.deliveries for inbox in inboxes))
    settle(receiver.connection)
    assert [len(inbox.deliveries) for inbox in inboxes] == [1] * 50
    assert count(channel, shared) == 10


@pytest.mark.parametrize("size", [0, 3000])
def test_a_consumer_that_does_not_read_stops_nobody(raw, connect, channel, name, size):
    stuck, queue, other = raw().opened(), name(), name()
    for each in (queue, other):
        channel.queue_declare(each, exclusive=False)
    stuck.call(1, spec.Basic.Consume(queue=queue, no_ack=True), spec.Basic.ConsumeOk)
    publisher = connect().channel()
    for _ in range(2000):
        publisher.basic_publish("", queue, bytes(size), pika.BasicProperties())
    publish(publisher, other, b"still served")
    assert drain(channel, other) == [b"still served"]
    for each in (queue, other):
        channel.queue_delete(each)


def test_a_tag_in_use_is_refused_before_the_queue_is_looked_for(connection, channel, queue, name):
    channel.basic_consume(queue, print, consumer_tag="t")
    raw_consume = spec.Basic.Consume(queue=name(), consumer_tag="t")
    closes_connection(
        connection, lambda: channel._impl._send_method(raw_consume),
        530, "NOT_ALLOWED - attempt to reuse consumer tag 't'")
