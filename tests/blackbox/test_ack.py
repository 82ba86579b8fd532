"""Acknowledging: single, multiple, requeueing, and tags that are not there."""

import pytest
from pika import spec

from support import Inbox, closes_channel, count, drain, eventually, publish, settle
from wire import message

UNKNOWN = "PRECONDITION_FAILED - unknown delivery tag {}"
FIVE = [b"1", b"2", b"3", b"4", b"5"]


@pytest.fixture
def five(channel, queue):
    """Five messages of the queue, delivered and not acknowledged."""
    publish(channel, queue, *FIVE)
    return Inbox(channel, queue).exactly(5)


def left(channel, queue, delivery):
    """What is still in the queue once the channel's consumer is gone and its messages are back."""
    channel.basic_cancel(delivery.method.consumer_tag)
    channel.basic_recover(requeue=True)
    return drain(channel, queue)


def test_ack_single(channel, queue, five):
    five[1].ack()
    assert left(channel, queue, five[0]) == [b"1", b"3", b"4", b"5"]


@pytest.mark.row("Consume, get, ack", "multiple")
def test_ack_multiple(channel, queue, five):
    five[2].ack(multiple=True)
    assert left(channel, queue, five[0]) == [b"4", b"5"]


@pytest.mark.row("Consume, get, ack", "multiple, tag 0")
def test_ack_multiple_of_tag_0_is_all(channel, queue, five):
    channel.basic_ack(0, multiple=True)
    assert left(channel, queue, five[0]) == []


@pytest.mark.row("Consume, get, ack", "multiple, tag 0")
def test_multiple_of_tag_0_with_nothing_outstanding(channel):
    channel.basic_ack(0, multiple=True)
    channel.basic_nack(0, multiple=True)
    settle(channel.connection)
    assert channel.is_open


@pytest.mark.row("Consume, get, ack", "reject, nack without requeue")
@pytest.mark.parametrize("method", ["basic_nack", "basic_reject"])
def test_dropping_one(channel, queue, five, method):
    getattr(channel, method)(five[1].tag, requeue=False)
    assert left(channel, queue, five[0]) == [b"1", b"3", b"4", b"5"]


@pytest.mark.row("Consume, get, ack", "reject, nack without requeue")
def test_dropping_several(channel, queue, five):
    channel.basic_nack(five[2].tag, multiple=True, requeue=False)
    assert left(channel, queue, five[0]) == [b"4", b"5"]


@pytest.mark.row("Requeue", "Position")
@pytest.mark.parametrize("method", ["basic_nack", "basic_reject"])
def test_requeueing_one_keeps_its_position(channel, queue, method):
    publish(channel, queue, *FIVE)
    tags = [channel.basic_get(queue)[0].delivery_tag for _ in range(4)]
    getattr(channel, method)(tags[2], requeue=True)
    getattr(channel, method)(tags[0], requeue=True)
    getattr(channel, method)(tags[3], requeue=True)
    getattr(channel, method)(tags[1], requeue=True)
    assert drain(channel, queue) == FIVE


@pytest.mark.row("Requeue", "Position")
def test_requeueing_several_keeps_their_positions(channel, queue):
    publish(channel, queue, *FIVE)
    tags = [channel.basic_get(queue)[0].delivery_tag for _ in range(4)]
    channel.basic_ack(tags[1])
    channel.basic_nack(tags[2], multiple=True, requeue=True)
    first, _, body = channel.basic_get(queue)
    assert (body, first.redelivered, first.message_count) == (b"1", True, 2)
    assert drain(channel, queue) == [b"3", b"5"]
    channel.basic_nack(0, multiple=True)
    assert drain(channel, queue) == [b"1", b"4"]


@pytest.mark.row("Requeue", "redelivered")
def test_redelivered_is_set_only_after_a_delivery(channel, queue):
    publish(channel, queue, b"1", b"2")
    method, _, _ = channel.basic_get(queue)
    channel.basic_reject(method.delivery_tag, requeue=True)
    assert [channel.basic_get(queue)[0].redelivered for _ in range(2)] == [True, False]


@pytest.mark.row("Consume, get, ack", "Unknown delivery tag")
@pytest.mark.parametrize("action", [
    lambda channel: channel.basic_ack(7),
    lambda channel: channel.basic_nack(7, multiple=True),
    lambda channel: channel.basic_reject(7),
], ids=["ack", "nack", "reject"])
def test_an_unknown_tag(channel, action):
    closes_channel(channel, lambda: action(channel), 406, UNKNOWN.format(7))


@pytest.mark.row("Consume, get, ack", "multiple, tag 0")
def test_a_single_ack_of_tag_0(channel):
    closes_channel(channel, lambda: channel.basic_ack(0), 406, UNKNOWN.format(0))


@pytest.mark.row("Consume, get, ack", "Unknown delivery tag")
def test_a_second_ack(channel, queue):
    publish(channel, queue, b"1")
    tag = channel.basic_get(queue)[0].delivery_tag
    channel.basic_ack(tag)
    closes_channel(channel, lambda: channel.basic_ack(tag), 406, UNKNOWN.format(tag))


@pytest.mark.row("Consume, get, ack", "Unknown delivery tag")
def test_ack_of_an_auto_acknowledged_delivery(channel, queue):
    publish(channel, queue, b"1")
    delivery = Inbox(channel, queue, auto_ack=True).exactly(1)[0]
    closes_channel(channel, delivery.ack, 406, UNKNOWN.format(delivery.tag))


@pytest.mark.row("Consume, get, ack", "Tags")
def test_tags_are_the_channels_own(connection, channel, queue):
    publish(channel, queue, b"1")
    tag = channel.basic_get(queue)[0].delivery_tag
    other = connection.channel()
    closes_channel(other, lambda: other.basic_ack(tag), 406, UNKNOWN.format(tag))
    channel.basic_ack(tag)


@pytest.mark.row("Consume, get, ack", "Tags")
def test_tags_count_over_consumers_and_gets(channel, name):
    queues = [name(), name()]
    for queue in queues:
        channel.queue_declare(queue, exclusive=True)
        publish(channel, queue, b"1", b"2")
    tags = [channel.basic_get(queue)[0].delivery_tag for queue in queues * 2]
    assert tags == [1, 2, 3, 4]
    channel.basic_ack(3, multiple=True)
    channel.basic_nack(4)
    assert [count(channel, queue) for queue in queues] == [0, 1]


@pytest.mark.row("Consume, get, ack", "multiple")
def test_multiple_over_many_queues(channel, name):
    queues = [name() for _ in range(10)]
    for queue in queues:
        channel.queue_declare(queue, exclusive=True)
        publish(channel, queue, b"1", b"2")
        channel.basic_get(queue)
    channel.basic_ack(5, multiple=True)
    channel.basic_nack(0, multiple=True)
    assert [drain(channel, queue) for queue in queues] == [[b"2"]] * 5 + [[b"1", b"2"]] * 5


@pytest.mark.row("Requeue", "Channel or connection ends")
@pytest.mark.row("Requeue", "Position")
@pytest.mark.parametrize("requeue", ["recover", "channel", "connection", "socket"])
def test_unacknowledged_messages_come_back_in_place(raw, channel, shared, requeue):
    publish(channel, shared, *FIVE)
    client = raw().opened()
    for _ in range(3):
        client.call(1, spec.Basic.Get(queue=shared), spec.Basic.GetOk)
        client.content()
    client.send(1, spec.Basic.Ack(2))
    if requeue == "recover":
        client.call(1, spec.Basic.Recover(requeue=True), spec.Basic.RecoverOk)
    elif requeue == "channel":
        client.call(1, spec.Channel.Close(200, "", 0, 0), spec.Channel.CloseOk)
    elif requeue == "connection":
        client.call(0, spec.Connection.Close(200, "", 0, 0), spec.Connection.CloseOk)
    else:
        client.call(1, spec.Basic.Qos(), spec.Basic.QosOk)
        client.socket.close()
    eventually(lambda: count(channel, shared) == 4)
    got = [channel.basic_get(shared) for _ in range(4)]
    assert [body for _, _, body in got] == [b"1", b"3", b"4", b"5"]
    assert [method.redelivered for method, _, _ in got] == [True, True, False, False]


@pytest.mark.row("Requeue", "recover(true)")
def test_recover_redelivers_to_the_same_consumer(channel, queue):
    publish(channel, queue, b"1", b"2")
    inbox = Inbox(channel, queue)
    inbox.exactly(2)
    channel.basic_recover(requeue=True)
    again = inbox.exactly(4)[2:]
    assert [each.body for each in again] == [b"1", b"2"]
    assert all(each.method.redelivered for each in again)
    assert [each.tag for each in again] == [3, 4]


@pytest.mark.row("Requeue", "recover(true)")
def test_recover_may_redeliver_to_another(connect, channel, shared):
    publish(channel, shared, b"1")
    first = Inbox(channel, shared)
    first.exactly(1)
    other = Inbox(connect().channel(), shared)
    channel.basic_cancel(first.tag)
    channel.basic_recover(requeue=True)
    assert other.exactly(1)[0].method.redelivered
    assert len(first.deliveries) == 1


@pytest.mark.row("Requeue", "redelivered")
def test_redelivered_although_nobody_has_seen_it(raw, channel, shared):
    publish(channel, shared, b"1")
    client = raw().opened()
    client.send(1, spec.Basic.Consume(queue=shared))
    eventually(lambda: count(channel, shared) == 0)
    # The delivery is still unread in the socket.
    client.socket.close()
    eventually(lambda: count(channel, shared) == 1)
    assert channel.basic_get(shared)[0].redelivered


@pytest.mark.row("Requeue", "Channel or connection ends")
@pytest.mark.parametrize("number", [0, 1], ids=["connection", "channel"])
def test_close_ok_comes_after_the_messages_are_back(raw, channel, shared, number):
    publish(channel, shared, *FIVE)
    for _ in range(20):
        client = raw().opened()
        client.call(1, spec.Basic.Consume(queue=shared), spec.Basic.ConsumeOk)
        for _ in FIVE:
            client.expect(spec.Basic.Deliver, 1)
            client.content()
        if number:
            client.call(1, spec.Channel.Close(200, "", 0, 0), spec.Channel.CloseOk)
        else:
            client.call(0, spec.Connection.Close(200, "", 0, 0), spec.Connection.CloseOk)
        assert count(channel, shared) == 5
    assert drain(channel, shared) == FIVE


@pytest.mark.row("Requeue", "recover(false)")
def test_recover_without_requeue_is_not_implemented(raw):
    client = raw().opened()
    client.send(1, spec.Basic.Recover(requeue=False))
    client.refused(540, "NOT_IMPLEMENTED - requeue=false")


def test_publish_get_ack_pipelined(raw, channel, shared):
    client = raw().opened()
    client.write(message(1, "", shared, b"a") + message(1, "", shared, b"b"))
    client.send(1, spec.Basic.Get(queue=shared), spec.Basic.Get(queue=shared))
    for body in (b"a", b"b"):
        client.expect(spec.Basic.GetOk, 1)
        assert client.content()[1] == body
    client.send(1, spec.Basic.Ack(2, multiple=True), spec.Basic.Get(queue=shared))
    client.expect(spec.Basic.GetEmpty, 1)
    assert count(channel, shared) == 0
