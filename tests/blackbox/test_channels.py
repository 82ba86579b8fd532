"""Channels: opening, closing, what an error discards, and what it leaves alone."""

import pika
import pytest
from pika import spec

from support import Inbox, count, drain, eventually, exists, expect, publish
from wire import message


@pytest.mark.row("Errors", "Soft code")
def test_a_channel_error_leaves_the_connection_usable(connection, queue_of):
    queue = queue_of(connection)
    for _ in range(5):
        channel = connection.channel()
        with pytest.raises(pika.exceptions.ChannelClosedByBroker):
            channel.queue_declare("nosuch", passive=True)
    channel = connection.channel()
    publish(channel, queue, b"1")
    assert drain(channel, queue) == [b"1"]


@pytest.fixture
def queue_of(name):
    """Declares an exclusive queue of a connection."""
    def declare(connection):
        queue = name()
        connection.channel().queue_declare(queue, exclusive=True)
        return queue
    return declare


@pytest.mark.row("Errors", "Soft code")
def test_a_channel_error_leaves_other_channels_alone(connection, queue_of):
    queue, healthy = queue_of(connection), connection.channel()
    inbox = Inbox(healthy, queue)
    broken = connection.channel()
    with pytest.raises(pika.exceptions.ChannelClosedByBroker):
        broken.exchange_declare("nosuch", passive=True)
    publish(healthy, queue, b"1")
    inbox.exactly(1)[0].ack()


@pytest.mark.row("Errors", "Class and method id")
def test_the_close_names_the_method(raw):
    client = raw().opened(channels=3)
    client.send(2, spec.Queue.Declare(queue="nosuch", passive=True))
    close = client.expect(spec.Channel.Close, 2)
    assert (close.class_id, close.method_id) == (50, 10)
    client.send(3, spec.Basic.Ack(1))
    close = client.expect(spec.Channel.Close, 3)
    assert (close.class_id, close.method_id) == (60, 80)


@pytest.mark.row("Errors", "After channel.close")
def test_a_channel_error_discards_what_was_pipelined(raw, connection, name):
    client, queues = raw().opened(), [name(), name()]
    client.send(
        1, spec.Queue.Declare(queue=queues[0], passive=True),
        spec.Queue.Declare(queue=queues[0]), spec.Queue.Declare(queue=queues[1]))
    client.write(message(1, "", queues[0], b"discarded"))
    assert client.expect(spec.Channel.Close, 1).reply_code == 404
    client.send(1, spec.Queue.Declare(queue=queues[1]), spec.Channel.CloseOk())
    client.call(1, spec.Channel.Open(), spec.Channel.OpenOk)
    assert [exists(connection, queue) for queue in queues] == [False, False]


@pytest.mark.row("Errors", "Before the error")
def test_what_came_before_the_error_is_done(raw, channel, queue):
    client = raw().opened()
    client.write(message(1, "", queue, b"kept"))
    client.send(1, spec.Basic.Ack(99))
    assert client.expect(spec.Channel.Close, 1).reply_code == 406
    eventually(lambda: count(channel, queue) == 1)
    assert drain(channel, queue) == [b"kept"]


@pytest.mark.row("Errors", "Closes of both sides cross")
def test_crossing_closes(raw):
    client = raw().opened()
    client.send(1, spec.Basic.Ack(99), spec.Channel.Close(200, "bye", 0, 0))
    kinds = {type(client.next().method), type(client.next().method)}
    assert kinds == {spec.Channel.Close, spec.Channel.CloseOk}
    client.send(1, spec.Channel.CloseOk())
    client.call(1, spec.Channel.Open(), spec.Channel.OpenOk)


@pytest.mark.row("Requeue", "Channel or connection ends")
@pytest.mark.row("Requeue", "redelivered")
def test_a_closed_channel_requeues(raw, channel, shared):
    publish(channel, shared, b"1", b"2")
    client = raw().opened()
    client.call(1, spec.Basic.Consume(queue=shared), spec.Basic.ConsumeOk)
    for _ in range(2):
        client.expect(spec.Basic.Deliver, 1)
        client.content()
    client.call(1, spec.Channel.Close(200, "", 0, 0), spec.Channel.CloseOk)
    assert count(channel, shared) == 2
    method, _, body = channel.basic_get(shared)
    assert (method.redelivered, body) == (True, b"1")


@pytest.mark.row("Channels", "Numbers")
def test_channel_numbers_are_used_again(raw):
    client = raw().opened(channels=0)
    for _ in range(50):
        for channel in (1, 7, 2047):
            client.call(channel, spec.Channel.Open(), spec.Channel.OpenOk)
        for channel in (7, 2047, 1):
            client.call(channel, spec.Channel.Close(200, "", 0, 0), spec.Channel.CloseOk)


def test_many_channels(connection, queue_of):
    queue = queue_of(connection)
    channels = [connection.channel() for _ in range(300)]
    for number, channel in enumerate(channels):
        channel.basic_publish("", queue, b"%d" % number)
        assert channel.basic_get(queue, auto_ack=True)[2] == b"%d" % number
    inboxes = [Inbox(channel, queue) for channel in channels[:100]]
    publish(channels[0], queue, *[b"x"] * 100)
    for inbox in inboxes:
        inbox.wait(1)[0].ack()


@pytest.mark.row("Channels", "Second open")
def test_a_second_open(raw):
    client = raw().opened()
    client.send(1, spec.Channel.Open())
    client.refused(504, "CHANNEL_ERROR - second 'channel.open' seen")


@pytest.mark.row("Channels", "close-ok that answers nothing")
def test_a_close_ok_that_answers_nothing(broker, raw):
    client = raw().opened()
    client.send(7, spec.Channel.CloseOk())
    if expect(
            broker, why="RabbitMQ takes it for a first method that is not open; a close-ok that "
            "comes too late harms nobody, and Ringtail ignores it",
            ringtail=True, rabbitmq=False):
        client.call(1, spec.Basic.Qos(), spec.Basic.QosOk)
    else:
        client.refused(504, "CHANNEL_ERROR - expected 'channel.open'")


@pytest.mark.row("Channels", "More than channel_max")
def test_channels_above_the_negotiated_maximum(raw):
    client = raw().opened(channels=2, channel_max=2)
    client.send(3, spec.Channel.Open())
    client.refused(
        530, "NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max "
        "(2)")


@pytest.mark.row("Channels", "Number above channel_max")
@pytest.mark.row("Channels", "More than channel_max")
def test_the_number_of_a_channel_is_free(raw, shared):
    client, numbers = raw().opened(channels=0, channel_max=4), (65535, 3000, 1, 256)
    for number in numbers:
        client.call(number, spec.Channel.Open(), spec.Channel.OpenOk)
        client.write(message(number, "", shared, b"body"))
        client.reached(number, shared)
        client.call(number, spec.Basic.Get(queue=shared), spec.Basic.GetOk)
        assert client.content()[1] == b"body"
    # One that is being closed counts until both sides have closed it.
    client.send(3000, spec.Queue.Declare(queue="nosuch", passive=True))
    assert client.expect(spec.Channel.Close, 3000).reply_code == 404
    client.send(3000, spec.Channel.CloseOk())
    client.call(1, spec.Channel.Close(200, "", 0, 0), spec.Channel.CloseOk)
    for number in (40000, 3000):
        client.call(number, spec.Channel.Open(), spec.Channel.OpenOk)
    client.send(2, spec.Channel.Open())
    client.refused(
        530, "NOT_ALLOWED - number of channels opened (4) has reached the negotiated channel_max "
        "(4)")


@pytest.mark.row("Channels", "channel.flow(true)")
@pytest.mark.row("Channels", "channel.flow(false)")
def test_flow(raw):
    client = raw().opened()
    assert client.call(1, spec.Channel.Flow(True), spec.Channel.FlowOk).active is True
    client.send(1, spec.Channel.Flow(False))
    client.refused(540, "NOT_IMPLEMENTED - active=false")


@pytest.mark.row("Requeue", "Channel or connection ends")
def test_closing_a_connection_with_busy_channels(connect, channel, shared):
    publish(channel, shared, *(b"%d" % i for i in range(30)))
    busy = connect()
    for _ in range(3):
        working = busy.channel()
        working.basic_qos(prefetch_count=10)
        Inbox(working, shared).wait(10)
    assert count(channel, shared) == 0
    busy.close()
    assert drain(channel, shared) == [b"%d" % i for i in range(30)]
