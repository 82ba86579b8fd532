"""x-max-priority of queues: which message comes first."""

import pika
import pytest

from support import Inbox, closes_channel, count, drain, eventually, settle

MAX = {"x-max-priority": 5}


@pytest.fixture
def prioritised(channel, name):
    """Declares a queue with priorities, which goes with the connection."""

    def declare(**arguments):
        queue = name()
        more = {"x-" + key.replace("_", "-"): value for key, value in arguments.items()}
        channel.queue_declare(queue, exclusive=True, arguments={**MAX, **more})
        return queue

    return declare


def send(channel, queue, *priorities, start=0, **properties):
    """Publishes a message for each priority, with its number in its body, and awaits confirms."""
    confirming = channel.connection.channel()
    confirming.confirm_delivery()
    for number, priority in enumerate(priorities, start):
        body = "%s:%d" % (priority, number)
        confirming.basic_publish(
            "", queue, body.encode(), pika.BasicProperties(priority=priority, **properties))
    confirming.close()


def bodies(*texts):
    return [text.encode() for text in texts]


@pytest.mark.row("Priorities", "Order")
def test_the_highest_leaves_first_and_each_in_order(channel, prioritised):
    queue = prioritised()
    send(channel, queue, 1, 3, None, 0, 3, 5, 1)
    assert count(channel, queue) == 7
    assert drain(channel, queue) == bodies("5:5", "3:1", "3:4", "1:0", "1:6", "None:2", "0:3")


@pytest.mark.row("Priorities", "Order")
def test_a_consumer_gets_what_is_highest_when_it_has_room(channel, prioritised):
    queue = prioritised()
    channel.basic_qos(prefetch_count=2)
    send(channel, queue, 1, 2, 1)
    inbox = Inbox(channel, queue)
    inbox.exactly(2)
    send(channel, queue, 0, 4, start=3)
    for delivery in inbox.deliveries[:2]:
        delivery.ack()
    inbox.exactly(4)
    for delivery in inbox.deliveries[2:4]:
        delivery.ack()
    inbox.exactly(5)
    assert inbox.bodies == bodies("2:1", "1:0", "4:4", "1:2", "0:3")


@pytest.mark.row("Priorities", "A priority above the highest")
def test_a_higher_priority_than_the_highest_counts_as_that(channel, prioritised):
    queue = prioritised()
    send(channel, queue, 5, 255, 4, 6)
    assert drain(channel, queue) == bodies("5:0", "255:1", "6:3", "4:2")


@pytest.mark.row("Priorities", "Requeued messages")
def test_a_requeued_message_returns_to_its_place(channel, prioritised):
    queue = prioritised()
    send(channel, queue, 2, 1, 2, 1)
    first = [channel.basic_get(queue) for _ in range(3)]
    assert [body for *_, body in first] == bodies("2:0", "2:2", "1:1")
    send(channel, queue, 2, 5, start=4)
    channel.basic_nack(first[-1][0].delivery_tag, multiple=True)
    settle(channel.connection)
    got = [channel.basic_get(queue, auto_ack=True) for _ in range(6)]
    assert [body for *_, body in got] == bodies("5:5", "2:0", "2:2", "2:4", "1:1", "1:3")
    assert [method.redelivered for method, *_ in got] == [False, True, True, False, True, False]


@pytest.mark.row("Priorities", "Requeued messages")
def test_what_a_closed_channel_held_returns_to_its_place(channel, prioritised):
    queue = prioritised()
    send(channel, queue, *[n % 4 for n in range(40)])
    other = channel.connection.channel()
    Inbox(other, queue).exactly(40)
    other.close()
    eventually(lambda: count(channel, queue) == 40)
    expected = sorted(range(40), key=lambda n: (-(n % 4), n))
    assert drain(channel, queue) == [b"%d:%d" % (n % 4, n) for n in expected]


@pytest.mark.row("Priorities", "Limits")
def test_a_limit_drops_the_highest_priority_first(channel, prioritised):
    queue = prioritised(max_length=3)
    send(channel, queue, 1, 2, 1, 0)
    assert drain(channel, queue) == bodies("1:0", "1:2", "0:3")
    send(channel, queue, 1, 1, 1, 4)
    assert drain(channel, queue) == bodies("1:0", "1:1", "1:2")


@pytest.mark.row("Priorities", "Limits")
def test_a_queue_may_refuse_what_is_too_much_whatever_its_priority(channel, prioritised):
    queue = prioritised(max_length=2, overflow="reject-publish")
    send(channel, queue, 1, 1)
    with pytest.raises(pika.exceptions.NackError):
        send(channel, queue, 5)
    assert drain(channel, queue) == bodies("1:0", "1:1")


@pytest.mark.row("Priorities", "Expired messages")
def test_messages_expire_at_the_head_of_the_whole_queue(channel, prioritised):
    queue = prioritised()
    send(channel, queue, 1, expiration="50")
    send(channel, queue, 3, start=1)
    send(channel, queue, 4, expiration="50", start=2)
    # The one of priority 1 stays behind that of 3, which does not expire.
    eventually(lambda: count(channel, queue) == 2)
    method, _, body = channel.basic_get(queue)
    assert body == b"3:1"
    eventually(lambda: count(channel, queue) == 0)
    channel.basic_nack(method.delivery_tag)
    settle(channel.connection)
    assert drain(channel, queue) == [b"3:1"]


@pytest.mark.row("Priorities", "Dead letters")
def test_what_dies_leaves_a_dead_letter_with_its_priority(channel, queue, prioritised):
    work = prioritised(dead_letter_exchange="", dead_letter_routing_key=queue, max_length=2)
    send(channel, work, 1, 3, 2)
    eventually(lambda: count(channel, queue) == 1)
    method, *_ = channel.basic_get(work)
    channel.basic_reject(method.delivery_tag, requeue=False)
    eventually(lambda: count(channel, queue) == 2)
    letters = [channel.basic_get(queue, auto_ack=True) for _ in range(2)]
    assert [(body, properties.priority) for _, properties, body in letters] == [
        (b"3:1", 3), (b"2:2", 2)]


@pytest.mark.row("Priorities", "Purge")
def test_a_purge_empties_all_priorities(channel, prioritised):
    queue = prioritised()
    send(channel, queue, 0, 5, 3)
    assert channel.queue_purge(queue).method.message_count == 3
    send(channel, queue, 1)
    assert drain(channel, queue) == bodies("1:0")


@pytest.mark.row("Priorities", "Consumers")
def test_consumers_with_priorities_and_prefetch(connect, channel, name):
    queue = name()
    channel.queue_declare(queue, arguments=MAX)
    low, high = [connect().channel() for _ in range(2)]
    for each in (low, high):
        each.basic_qos(prefetch_count=2)
    send(channel, queue, 0, 1, 2, 3)
    second = Inbox(high, queue, arguments={"x-priority": 9})
    second.exactly(2)
    first = Inbox(low, queue)
    first.exactly(2)
    assert (second.bodies, first.bodies) == (bodies("3:3", "2:2"), bodies("1:1", "0:0"))
    send(channel, queue, 1, 4, start=4)
    second.deliveries[0].ack()
    second.exactly(3)
    assert second.bodies[2:] == bodies("4:5")
    channel.queue_delete(queue)


@pytest.mark.row("Priorities", "Consumers")
def test_a_single_active_consumer(connect, channel, name):
    queue = name()
    channel.queue_declare(queue, arguments={**MAX, "x-single-active-consumer": True})
    active, waiting = [Inbox(connect().channel(), queue) for _ in range(2)]
    send(channel, queue, 1)
    active.exactly(1)
    send(channel, queue, 2, 3, start=1)
    active.exactly(3)
    active.channel.close()
    waiting.exactly(3)
    assert waiting.bodies == bodies("3:2", "2:1", "1:0")
    channel.queue_delete(queue)


@pytest.mark.row("Priorities", "Consumers")
def test_a_limit_of_the_channel(channel, prioritised):
    queue = prioritised()
    channel.basic_qos(prefetch_count=2, global_qos=True)
    send(channel, queue, 1, 2, 1, 5)
    inbox = Inbox(channel, queue)
    inbox.exactly(2)
    send(channel, queue, 4, start=4)
    inbox.deliveries[1].ack(multiple=True)
    inbox.exactly(4)
    assert inbox.bodies == bodies("5:3", "2:1", "4:4", "1:0")


@pytest.mark.row("Priorities", "Arguments")
@pytest.mark.parametrize("value, why", [
    (-1, "{value_negative,-1}"),
    (256, "{max_value_exceeded,256}"),
    (2 ** 40, "{max_value_exceeded,1099511627776}"),
    ("5", '"expected integer, got longstr"'),
    (True, '"expected integer, got bool"'),
], ids=str)
def test_what_is_no_priority_is_refused(channel, name, value, why):
    queue = name()
    closes_channel(
        channel,
        lambda: channel.queue_declare(queue, arguments={"x-max-priority": value}), 406,
        f"PRECONDITION_FAILED - invalid arg 'x-max-priority' for queue '{queue}' in vhost '/': "
        f"{why}")


@pytest.mark.row("Priorities", "Arguments")
@pytest.mark.parametrize("value", [0, 1, 255])
def test_what_is_a_priority_is_taken(channel, name, value):
    queue = name()
    for _ in range(2):
        channel.queue_declare(queue, exclusive=True, arguments={"x-max-priority": value})
    send(channel, queue, 0, 200)
    highest = bodies("0:0", "200:1") if value == 0 else bodies("200:1", "0:0")
    assert drain(channel, queue) == highest


@pytest.mark.row("Priorities", "Arguments")
@pytest.mark.parametrize("arguments, received", [
    ({"x-max-priority": 6}, "received '6' but current is '5'"),
    ({}, "received none but current is the value '5' of type 'signedint'"),
], ids=["other", "none"])
def test_it_is_compared_when_a_queue_is_declared_again(channel, prioritised, arguments, received):
    queue = prioritised()
    closes_channel(
        channel,
        lambda: channel.queue_declare(queue, exclusive=True, arguments=arguments), 406,
        f"PRECONDITION_FAILED - inequivalent arg 'x-max-priority' for queue '{queue}' in vhost "
        f"'/': {received}")


@pytest.mark.row("Priorities", "No x-max-priority")
def test_other_queues_ignore_priorities(channel, queue):
    send(channel, queue, 1, 9, 3)
    assert drain(channel, queue) == bodies("1:0", "9:1", "3:2")


def kill(broker, connection):
    """Ends the broker with SIGKILL; the connection has heard of it."""
    broker.kill()
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        while True:
            connection.process_data_events(time_limit=1)


@pytest.mark.row("Priorities", "After a restart")
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_persistent_messages_come_back_in_their_order(own_broker, connect, name, end):
    broker, queue = own_broker(), name()
    for start in (0, 60):
        channel = connect(broker).channel()
        channel.queue_declare(queue, durable=True, arguments=MAX)
        order = range(start, start + 60)
        send(channel, queue, *[n % 7 for n in order], start=start, delivery_mode=2)
        send(channel, queue, 5, delivery_mode=1)
        channel.basic_get(queue)
        if end == "stop":
            channel.connection.close()
            broker.stop()
        else:
            kill(broker, channel.connection)
        broker.start()
    channel = connect(broker).channel()
    expected = sorted(range(120), key=lambda n: (-min(n % 7, 5), n))
    assert drain(channel, queue) == [b"%d:%d" % (n % 7, n) for n in expected]
