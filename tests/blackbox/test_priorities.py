"""x-priority of basic.consume: who is served first; and consumers that are alone."""

from decimal import Decimal

import pytest
from pika import spec

from support import Inbox, closes_channel, consumers, count, publish, pump, settle


def prioritised(connect, queue, priority, prefetch=0, **consume):
    channel = connect().channel()
    channel.basic_qos(prefetch_count=prefetch)
    arguments = None if priority is None else {"x-priority": priority}
    return Inbox(channel, queue, arguments=arguments, **consume)


def pump_all(inboxes, condition):
    while not condition():
        for inbox in inboxes:
            inbox.channel.connection.process_data_events(time_limit=0.01)


def test_the_broker_announces_priorities(connection):
    assert connection._impl.server_capabilities["consumer_priorities"] is True


@pytest.mark.row("Consume, get, ack", "x-priority")
def test_the_highest_comes_first(connect, channel, shared):
    low, high, middle = (
        prioritised(connect, shared, priority) for priority in (-5, 10, None))
    publish(channel, shared, *[b"x"] * 30)
    high.exactly(30)
    low.exactly(0)
    middle.exactly(0)


@pytest.mark.row("Consume, get, ack", "x-priority")
def test_lower_ones_get_what_higher_ones_have_no_room_for(connect, channel, shared):
    low, high, middle = (
        prioritised(connect, shared, priority, prefetch=4) for priority in (1, 3, 2))
    publish(channel, shared, *(b"%d" % i for i in range(10)))
    assert [each.body for each in high.exactly(4)] == [b"%d" % i for i in range(4)]
    assert [each.body for each in middle.exactly(4)] == [b"%d" % i for i in range(4, 8)]
    assert [each.body for each in low.exactly(2)] == [b"8", b"9"]
    high.deliveries[0].ack()
    settle(high.channel.connection)
    count(high.channel, shared)
    publish(channel, shared, b"10", b"11")
    assert high.exactly(5)[4].body == b"10"
    assert low.exactly(3)[2].body == b"11"


@pytest.mark.row("Consume, get, ack", "x-priority")
@pytest.mark.row("Consume, get, ack", "Dispatch")
def test_equals_take_turns(connect, channel, shared):
    inboxes = [prioritised(connect, shared, priority) for priority in (7, 7, 7, 6)]
    publish(channel, shared, *[b"x"] * 30)
    pump_all(inboxes, lambda: sum(len(inbox.deliveries) for inbox in inboxes) == 30)
    assert [len(inbox.deliveries) for inbox in inboxes] == [10, 10, 10, 0]


def test_a_higher_one_that_comes_later_is_served_from_then_on(connect, channel, shared):
    low = prioritised(connect, shared, 0)
    publish(channel, shared, b"1")
    low.exactly(1)
    high = prioritised(connect, shared, 1)
    publish(channel, shared, b"2", b"3")
    assert high.exactly(2)[0].body == b"2"
    high.channel.basic_cancel(high.tag)
    publish(channel, shared, b"4")
    assert low.exactly(2)[1].body == b"4"


def test_automatic_acknowledgement_has_priorities_too(connect, channel, shared):
    low = prioritised(connect, shared, 0, auto_ack=True)
    high = prioritised(connect, shared, 1, auto_ack=True)
    publish(channel, shared, *[b"x"] * 50)
    high.exactly(50)
    low.exactly(0)


def test_what_a_channels_limit_blocks_goes_to_lower_ones(connect, channel, shared):
    low = prioritised(connect, shared, 0)
    limited = connect().channel()
    limited.basic_qos(prefetch_count=3, global_qos=True)
    high = Inbox(limited, shared, arguments={"x-priority": 5})
    publish(channel, shared, *(b"%d" % i for i in range(10)))
    assert [each.body for each in high.exactly(3)] == [b"0", b"1", b"2"]
    assert [each.body for each in low.exactly(7)] == [b"%d" % i for i in range(3, 10)]


def test_of_two_limited_channels_the_higher_comes_first(connect, channel, shared):
    inboxes = []
    for priority in (0, 5):
        limited = connect().channel()
        limited.basic_qos(prefetch_count=20, global_qos=True)
        inboxes.append(Inbox(limited, shared, arguments={"x-priority": priority}))
    low, high = inboxes
    for i in range(20):
        publish(channel, shared, b"%d" % i)
    assert [each.body for each in high.exactly(20)] == [b"%d" % i for i in range(20)]
    low.exactly(0)


@pytest.mark.row("Consume, get, ack", "x-priority")
@pytest.mark.parametrize("priority", [0, 1, -1, 2**31, -(2**63), 2**63 - 1])
def test_any_integer_is_a_priority(connect, channel, shared, priority):
    inbox = prioritised(connect, shared, priority)
    publish(channel, shared, b"x")
    inbox.exactly(1)


@pytest.mark.row("Consume, get, ack", "x-priority that is no integer")
@pytest.mark.parametrize(
    ("value", "kind"),
    [("high", "longstr"), (True, "bool"), (None, "void"), ({}, "table"), ([], "array"),
     (b"1", "binary"), (Decimal("1.5"), "decimal")])
def test_anything_else_is_not(channel, shared, value, kind):
    text = (f"PRECONDITION_FAILED - invalid arg 'x-priority' for queue '{shared}' in vhost '/': "
            f'"expected integer, got {kind}"')
    closes_channel(
        channel,
        lambda: channel.basic_consume(shared, lambda *_: None, arguments={"x-priority": value}),
        406, text)


@pytest.mark.row("Consume, get, ack", "Exclusive consumer")
def test_an_exclusive_consumer_keeps_others_out(connect, channel, shared):
    alone = Inbox(channel, shared, exclusive=True)
    text = f"ACCESS_REFUSED - queue '{shared}' in vhost '/' in exclusive use"
    for exclusive in (False, True):
        for connection in (connect(), channel.connection):
            other = connection.channel()
            closes_channel(
                other,
                lambda: other.basic_consume(shared, lambda *_: None, exclusive=exclusive),
                403, text)
    publish(channel, shared, b"x", b"y")
    alone.exactly(2)
    # Everything but consuming stays possible.
    publish(channel, shared, *[b"z"] * 3)
    alone.exactly(5)
    assert connect().channel().basic_get(shared) == (None, None, None)


@pytest.mark.row("Consume, get, ack", "Exclusive consumer")
def test_who_wants_to_be_alone_must_be_the_first(connect, channel, shared):
    others = [Inbox(connect().channel(), shared) for _ in range(2)]
    text = f"ACCESS_REFUSED - queue '{shared}' in vhost '/' in exclusive use"
    refused = connect().channel()
    closes_channel(
        refused, lambda: refused.basic_consume(shared, lambda *_: None, exclusive=True), 403, text)
    assert consumers(channel, shared) == 2
    for other in others:
        other.channel.connection.close()
    pumped = connect().channel()
    Inbox(pumped, shared, exclusive=True)
    assert consumers(channel, shared) == 1


def test_a_lost_exclusive_consumer_makes_room(connect, channel, shared):
    alone = Inbox(connect().channel(), shared, exclusive=True)
    publish(channel, shared, b"x")
    alone.exactly(1)
    alone.channel.connection.close()
    next_one = Inbox(channel, shared, exclusive=True)
    assert next_one.exactly(1)[0].method.redelivered


def test_a_refused_consumer_leaves_its_tag(connect, channel, shared):
    Inbox(channel, shared, exclusive=True)
    connection = connect()
    for _ in range(2):
        refused = connection.channel()
        closes_channel(
            refused,
            lambda: refused.basic_consume(shared, lambda *_: None, consumer_tag="mine"),
            403, f"ACCESS_REFUSED - queue '{shared}' in vhost '/' in exclusive use")


def test_consume_ok_comes_before_what_a_higher_one_gets(raw, channel, shared):
    publish(channel, shared, b"x")
    client = raw().opened()
    consume = spec.Basic.Consume(queue=shared, consumer_tag="c", arguments={"x-priority": 3})
    client.call(1, consume, spec.Basic.ConsumeOk)
    assert client.expect(spec.Basic.Deliver, 1).consumer_tag == "c"
    client.content()


def test_a_higher_one_without_credit_stops_nobody(raw, connect, channel, shared):
    stuck = raw().opened()
    consume = spec.Basic.Consume(queue=shared, no_ack=True, arguments={"x-priority": 9})
    stuck.call(1, consume, spec.Basic.ConsumeOk)
    free = Inbox(connect().channel(), shared, auto_ack=True)
    body = bytes(50_000)
    publisher = connect().channel()
    sent = 0
    while not free.deliveries:
        # Somewhere between the broker and the first consumer there is no room at last.
        assert sent < 2000
        publisher.basic_publish("", shared, body)
        sent += 1
        pump(free.channel.connection, lambda: True)
        free.channel.connection.process_data_events(time_limit=0)
