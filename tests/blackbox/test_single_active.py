"""x-single-active-consumer: one consumer is served, the others wait to take its place."""

import pytest

from support import (
    Inbox, closes_channel, consumers, count, drain, eventually, expect, pump, publish, settle)

ARGUMENTS = {"x-single-active-consumer": True}


@pytest.fixture
def single(channel, name):
    """A queue of which one consumer is active at a time."""
    queue = name()
    channel.queue_declare(queue, arguments=ARGUMENTS)
    yield queue
    if channel.connection.is_open:
        channel.connection.channel().queue_delete(queue)


@pytest.fixture
def consumer(connect, single):
    """Adds consumers, each on a connection of its own unless another channel is given."""

    def add(prefetch=0, channel=None, **consume):
        channel = channel or connect().channel()
        channel.basic_qos(prefetch_count=prefetch)
        return Inbox(channel, single, **consume)

    return add


@pytest.mark.row("Single active consumer", "Several consumers")
def test_only_the_first_consumer_is_served(channel, single, consumer):
    first, second, third = consumer(), consumer(), consumer(auto_ack=True)
    publish(channel, single, *[b"x"] * 20)
    first.exactly(20)
    second.exactly(0)
    third.exactly(0)
    assert consumers(channel, single) == 3


@pytest.mark.row("Single active consumer", "The active one is cancelled")
def test_the_next_in_order_takes_the_place_of_a_cancelled_one(channel, single, consumer):
    inboxes = [consumer() for _ in range(4)]
    for number, inbox in enumerate(inboxes):
        publish(channel, single, b"%d" % number)
        assert inbox.exactly(1)[0].body == b"%d" % number
        assert all(not other.deliveries for other in inboxes[number + 1:])
        inbox.channel.basic_cancel(inbox.tag)
    publish(channel, single, b"nobody is left")
    assert count(channel, single) == 1


@pytest.mark.row("Single active consumer", "The active one is cancelled")
def test_what_a_cancelled_one_holds_stays_with_it(channel, single, consumer):
    first, second = consumer(), consumer()
    publish(channel, single, b"1")
    held = first.exactly(1)
    first.channel.basic_cancel(first.tag)
    publish(channel, single, b"2")
    assert second.exactly(1)[0].body == b"2"
    first.channel.basic_nack(held[0].tag, requeue=True)
    settle(first.channel.connection)
    assert [(each.body, each.method.redelivered) for each in second.wait(2)] == [
        (b"2", False), (b"1", True)]


@pytest.mark.row("Single active consumer", "The active one is cancelled")
def test_what_waits_in_the_queue_goes_to_the_next_at_once(broker, channel, single, consumer):
    first, second = consumer(prefetch=1), consumer()
    publish(channel, single, b"1", b"2")
    first.exactly(1)
    first.channel.basic_cancel(first.tag)
    if not expect(
            broker, why="RabbitMQ 3.10 serves the next one when another consumer comes or a message "
            "is settled; a publish before that crashes the queue",
            ringtail=True, rabbitmq=False):
        consumer()
    assert second.wait(1)[0].body == b"2"


@pytest.mark.row("Single active consumer", "Its channel or connection ends")
@pytest.mark.parametrize("end", ["channel", "connection"])
def test_what_the_active_one_held_goes_to_the_next(channel, single, consumer, end):
    first, second, third = consumer(), consumer(), consumer()
    publish(channel, single, *(b"%d" % i for i in range(5)))
    first.exactly(5)[1].ack()
    settle(first.channel.connection)
    if end == "channel":
        first.channel.close()
    else:
        first.channel.connection.close()
    got = second.exactly(4)
    assert [(each.body, each.method.redelivered) for each in got] == [
        (b"%d" % i, True) for i in (0, 2, 3, 4)]
    third.exactly(0)


@pytest.mark.row("Single active consumer", "Its channel or connection ends")
def test_consumers_of_one_channel_end_together(channel, connection, single, consumer):
    shared = connection.channel()
    first, second = consumer(channel=shared), consumer(channel=shared)
    third = consumer()
    publish(channel, single, b"1")
    first.exactly(1)
    shared.close()
    assert third.exactly(1)[0].method.redelivered
    assert second.deliveries == []


@pytest.mark.row("Single active consumer", "A waiting one is cancelled")
def test_a_waiting_one_that_is_cancelled_is_never_active(channel, single, consumer):
    first, second, third = consumer(), consumer(), consumer()
    second.channel.basic_cancel(second.tag)
    assert consumers(channel, single) == 2
    first.channel.close()
    publish(channel, single, b"1")
    third.exactly(1)
    assert second.deliveries == []


@pytest.mark.row("Single active consumer", "x-priority")
def test_the_highest_of_those_that_wait_comes_first(channel, single, consumer):
    first = consumer(arguments={"x-priority": 1})
    rest = [consumer(arguments={"x-priority": priority}) for priority in (2, 9, 9)]
    publish(channel, single, b"0")
    first.exactly(1)
    first.channel.close()
    for place, number in enumerate((1, 2, 0)):
        inbox = rest[number]
        inbox.exactly(1)
        assert sum(len(each.deliveries) for each in rest) == place + 1
        inbox.channel.close()
    eventually(lambda: count(channel, single) == 1)


@pytest.mark.row("Single active consumer", "Prefetch")
@pytest.mark.parametrize("shared", [False, True], ids=["own", "global"])
def test_a_full_active_one_stops_the_queue(channel, connect, single, consumer, shared):
    fresh = connect().channel()
    fresh.basic_qos(prefetch_count=2, global_qos=shared)
    first = Inbox(fresh, single)
    second = consumer()
    publish(channel, single, *(b"%d" % i for i in range(5)))
    held = first.exactly(2)
    second.exactly(0)
    assert count(channel, single) == 3
    held[1].ack(multiple=True)
    first.exactly(4)
    second.exactly(0)


@pytest.mark.row("Single active consumer", "Exclusive consumer")
def test_no_consumer_is_exclusive(channel, connection, single, consumer):
    text = f"ACCESS_REFUSED - queue '{single}' in vhost '/' in exclusive use"
    for _ in range(2):
        fresh = connection.channel()
        closes_channel(
            fresh, lambda fresh=fresh: fresh.basic_consume(
                single, lambda *_: None, exclusive=True), 403, text)
        consumer()


@pytest.mark.row("Single active consumer", "basic.get")
def test_a_get_takes_messages_although_a_consumer_is_active(channel, single, consumer):
    first = consumer(prefetch=1)
    publish(channel, single, b"1", b"2", b"3")
    first.exactly(1)
    assert drain(channel, single) == [b"2", b"3"]


@pytest.mark.row("Single active consumer", "The queue is deleted")
def test_all_consumers_hear_of_the_end_of_the_queue(channel, single, consumer):
    inboxes = [consumer() for _ in range(3)]
    channel.queue_delete(single)
    for inbox in inboxes:
        pump(inbox.channel.connection, lambda inbox=inbox: inbox.cancelled)


@pytest.mark.row("Single active consumer", "Type of the argument")
@pytest.mark.parametrize(
    "value, kind", [("true", "longstr"), (1, "signedint"), (None, "void")],
    ids=["string", "number", "nothing"])
def test_the_argument_is_a_boolean(channel, name, value, kind):
    queue = name()
    closes_channel(
        channel, lambda: channel.queue_declare(
            queue, arguments={"x-single-active-consumer": value}), 406,
        f"PRECONDITION_FAILED - invalid arg 'x-single-active-consumer' for queue '{queue}' in "
        f"vhost '/': {{unacceptable_type,{kind}}}")


@pytest.mark.row("Single active consumer", "Declared again")
def test_the_argument_is_compared(channel, connection, single):
    channel.queue_declare(single, arguments=ARGUMENTS)
    for received, told in (
            (None, "none but current is the value 'true' of type 'bool'"),
            ({"x-single-active-consumer": False}, "'false' but current is 'true'")):
        fresh = connection.channel()
        closes_channel(
            fresh, lambda fresh=fresh, received=received: fresh.queue_declare(
                single, arguments=received), 406,
            "PRECONDITION_FAILED - inequivalent arg 'x-single-active-consumer' for queue "
            f"'{single}' in vhost '/': received {told}")


@pytest.mark.row("Single active consumer", "The argument is false")
def test_false_is_as_without_it(connect, channel, name):
    queue = name()
    channel.queue_declare(
        queue, auto_delete=True, arguments={"x-single-active-consumer": False})
    inboxes = [Inbox(connect().channel(), queue) for _ in range(2)]
    publish(channel, queue, *[b"x"] * 4)
    for inbox in inboxes:
        inbox.exactly(2)
