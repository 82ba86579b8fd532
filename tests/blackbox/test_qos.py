"""basic.qos with global=true: one limit for all consumers of a channel."""

import pytest
from pika import spec

from support import (
    Inbox, closes_connection, count, drain, eventually, expect, publish, pump, settle)


@pytest.fixture
def queues(channel, name):
    """Five queues that every connection can use; over several shards where there are some."""
    made = [name() for _ in range(5)]
    for queue in made:
        channel.queue_declare(queue)
    yield made
    fresh = channel.connection.channel()
    for queue in made:
        fresh.queue_delete(queue)


class Shared:
    """A channel whose consumers share a limit."""

    def __init__(self, connection, limit, queues=(), **consume):
        self.channel = connection.channel()
        if limit is not None:
            self.limit(limit)
        self.inboxes = [Inbox(self.channel, queue, **consume) for queue in queues]

    def limit(self, most):
        self.channel.basic_qos(prefetch_count=most, global_qos=True)

    def add(self, queue, **consume):
        self.inboxes.append(Inbox(self.channel, queue, **consume))
        return self.inboxes[-1]

    @property
    def deliveries(self):
        """All deliveries in the order of their tags."""
        all_of_them = [each for inbox in self.inboxes for each in inbox.deliveries]
        return sorted(all_of_them, key=lambda each: each.tag)

    def wait(self, total):
        pump(self.channel.connection, lambda: len(self.deliveries) >= total)
        return self.deliveries

    def exactly(self, total, queues):
        """So many came in all; every queue was asked, and asked again, before nothing more came."""
        self.wait(total)
        for queue in (*queues, *queues):
            count(self.channel, queue)
        settle(self.channel.connection)
        assert len(self.deliveries) == total, [inbox.bodies for inbox in self.inboxes]
        return self.deliveries


def fill(channel, queues, each):
    for queue in queues:
        publish(channel, queue, *(b"%d" % i for i in range(each)))


def ready(channel, queues):
    return sum(count(channel, queue) for queue in queues)


@pytest.mark.row("Qos", "global=true")
@pytest.mark.parametrize("limit", [1, 3, 10])
def test_consumers_of_a_channel_share_the_limit(connect, channel, queues, limit):
    fill(channel, queues, 10)
    client = Shared(connect(), limit, queues)
    client.exactly(limit, queues)
    assert ready(channel, queues) == 50 - limit


def test_messages_that_come_later_share_the_limit(connect, channel, queues):
    client = Shared(connect(), 4, queues)
    fill(channel, queues, 3)
    client.exactly(4, queues)
    assert ready(channel, queues) == 11


@pytest.mark.row("Qos", "global=true")
def test_another_channel_has_a_limit_of_its_own(connect, channel, queues):
    fill(channel, queues, 4)
    connection = connect()
    one, two = Shared(connection, 3, queues), Shared(connection, 5, queues)
    one.exactly(3, queues)
    two.exactly(5, queues)
    three = Shared(connection, None, queues)
    three.exactly(12, queues)


@pytest.mark.parametrize("multiple", [False, True])
def test_every_message_comes_in_the_order_of_its_queue(connect, channel, queues, multiple):
    fill(channel, queues, 40)
    client = Shared(connect(), 7, queues)
    settled = 0
    while settled < 200:
        client.wait(settled + 1)
        held = client.deliveries[settled:]
        assert len(held) <= 7
        for delivery in held[-1:] if multiple else held:
            delivery.ack(multiple)
        settled += len(held)
    for inbox in client.inboxes:
        assert inbox.bodies == [b"%d" % i for i in range(40)]
        assert not any(each.method.redelivered for each in inbox.deliveries)
    client.exactly(200, queues)
    assert ready(channel, queues) == 0


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_queues_take_turns(connect, channel, queues, limit):
    client = Shared(connect(), limit, queues)
    fill(channel, queues, 200)
    for settled in range(500):
        client.wait(settled + 1)[settled].ack()
    # An even share is 100. A core that had no time for a while does not take part meanwhile.
    assert min(len(inbox.deliveries) for inbox in client.inboxes) >= 10
    for settled in range(500, 1000):
        client.wait(settled + 1)[settled].ack()
    assert ready(channel, queues) == 0


def test_no_consumer_is_left_out(connect, channel, shared):
    client = Shared(connect(), 1, [shared] * 4)
    publish(channel, shared, *[b"x"] * 40)
    for settled in range(40):
        client.wait(settled + 1)[settled].ack()
    assert min(len(inbox.deliveries) for inbox in client.inboxes) >= 5


@pytest.mark.row("Qos", "global=true")
def test_the_limit_holds_for_consumers_that_were_there_before(connect, channel, queues):
    client = Shared(connect(), None, queues)
    fill(channel, queues, 2)
    client.exactly(10, queues)
    client.limit(3)
    fill(channel, queues, 2)
    client.exactly(10, queues)
    for delivery in client.deliveries[:7]:
        delivery.ack()
    client.exactly(10, queues)
    client.deliveries[7].ack()
    client.exactly(11, queues)


def test_the_limit_counts_what_was_sent_before_it(connect, channel, queues):
    client = Shared(connect(), None, queues[:1])
    fill(channel, queues[:1], 3)
    client.exactly(3, queues[:1])
    client.limit(5)
    fill(channel, queues, 10)
    for queue in queues[1:]:
        client.add(queue)
    client.exactly(5, queues)


@pytest.mark.row("Qos", "global=true, lowered or lifted")
def test_a_raised_limit_lets_consumers_go_on(connect, channel, queues):
    fill(channel, queues, 10)
    client = Shared(connect(), 2, queues)
    client.exactly(2, queues)
    client.limit(9)
    client.exactly(9, queues)
    client.limit(0)
    client.exactly(50, queues)


def test_a_lifted_limit_can_be_set_again(connect, channel, queues):
    client = Shared(connect(), 1, queues)
    for _ in range(3):
        client.limit(0)
        client.limit(2)
    fill(channel, queues, 2)
    client.exactly(2, queues)


@pytest.mark.row("Qos", "global=true, lowered or lifted")
def test_a_lowered_limit_waits_for_settles(connect, channel, queues):
    fill(channel, queues, 10)
    client = Shared(connect(), 8, queues)
    client.exactly(8, queues)
    client.limit(2)
    for delivery in client.deliveries[:6]:
        delivery.ack()
    client.exactly(8, queues)
    client.deliveries[6].ack()
    client.exactly(9, queues)


@pytest.mark.row("Qos", "global=true and no-ack")
def test_automatic_acknowledgement_does_not_count(connect, channel, queues):
    fill(channel, queues, 10)
    client = Shared(connect(), 2, queues[:4], auto_ack=True)
    client.exactly(40, queues)
    client.add(queues[4])
    client.exactly(42, queues)


@pytest.mark.row("Qos", "global=true and no-ack")
def test_automatic_acknowledgement_and_a_limit_that_is_reached(broker, connect, channel, queues):
    fill(channel, queues, 10)
    client = Shared(connect(), 1, queues[:1])
    client.exactly(1, queues)
    for queue in queues[1:]:
        client.add(queue, auto_ack=True)
    total = expect(
        broker, ringtail=41, rabbitmq=1,
        why="AMQP ignores the limit where nothing is acknowledged; RabbitMQ does not count such "
            "messages, but holds them back while the limit is reached")
    client.exactly(total, queues)
    client.limit(0)
    client.exactly(50, queues)


@pytest.mark.row("Qos", "Both limits")
def test_both_limits_together(connect, channel, queues):
    fill(channel, queues, 10)
    client = Shared(connect(), None)
    client.channel.basic_qos(prefetch_count=2)
    client.limit(6)
    for queue in queues:
        client.add(queue)
    client.exactly(6, queues)
    assert max(len(inbox.deliveries) for inbox in client.inboxes) <= 2
    client.limit(100)
    client.exactly(10, queues)
    assert [len(inbox.deliveries) for inbox in client.inboxes] == [2] * 5
    client.inboxes[0].deliveries[0].ack()
    client.exactly(11, queues)
    assert len(client.inboxes[0].deliveries) == 3


@pytest.mark.row("Qos", "Both limits")
def test_a_limit_for_each_consumer_lifts_the_shared_one(connect, channel, queues):
    fill(channel, queues, 10)
    client = Shared(connect(), 1, queues)
    client.exactly(1, queues)
    client.channel.basic_qos(prefetch_count=3)
    client.exactly(50, queues)
    client.add(queues[0])
    fill(channel, queues[:1], 20)
    client.exactly(70, queues)
    assert len(client.inboxes[-1].deliveries) == 3


@pytest.mark.row("Qos", "global=true and basic.get")
def test_get_is_never_held_back(connect, channel, queues):
    fill(channel, queues, 5)
    client = Shared(connect(), 2, queues[:2])
    client.exactly(2, queues)
    for queue in queues:
        assert client.channel.basic_get(queue)[0].message_count > 0


@pytest.mark.row("Qos", "global=true and basic.get")
def test_what_get_took_before_the_limit_counts(connect, channel, queues):
    fill(channel, queues, 5)
    client = Shared(connect(), None)
    taken = [client.channel.basic_get(queue)[0] for queue in queues[:3]]
    client.limit(5)
    for queue in queues:
        client.add(queue)
    client.exactly(2, queues)
    assert all(method.delivery_tag for method in taken)


@pytest.mark.parametrize("requeue", [False, True])
def test_what_is_given_back_makes_room(connect, channel, queues, requeue):
    fill(channel, queues[:1], 6)
    client = Shared(connect(), 2, queues[:1])
    client.exactly(2, queues)
    client.channel.basic_nack(client.deliveries[1].tag, multiple=True, requeue=requeue)
    client.exactly(4, queues)
    bodies = [each.body for each in client.deliveries[2:]]
    assert bodies == ([b"0", b"1"] if requeue else [b"2", b"3"])
    assert [each.method.redelivered for each in client.deliveries[2:]] == [requeue] * 2


def test_recover_makes_room(connect, channel, queues):
    fill(channel, queues[:1], 6)
    client = Shared(connect(), 3, queues[:1])
    client.exactly(3, queues)
    client.channel.basic_recover(requeue=True)
    client.exactly(6, queues)
    assert [each.body for each in client.deliveries[3:]] == [b"0", b"1", b"2"]


def test_a_message_that_waits_can_be_taken_by_others(connect, channel, queues):
    fill(channel, queues, 2)
    client = Shared(connect(), 1, queues)
    client.exactly(1, queues)
    taken = [body for queue in queues for body in drain(channel, queue)]
    assert len(taken) == 9
    client.deliveries[0].ack()
    client.exactly(1, queues)
    # What was offered to empty queues is not lost.
    for round_ in range(2, 12):
        publish(channel, queues[round_ % 5], b"new")
        client.exactly(round_, queues)[-1].ack()


def test_cancelled_consumers_leave_their_share(connect, channel, queues):
    fill(channel, queues, 10)
    client = Shared(connect(), 2, queues)
    client.exactly(2, queues)
    for inbox in client.inboxes[1:]:
        client.channel.basic_cancel(inbox.tag)
    for settled in range(8):
        client.wait(settled + 1)[settled].ack()
    client.exactly(10, queues)
    assert ready(channel, queues) == 40


def test_deleted_queues_leave_their_share(connect, channel, queues):
    fill(channel, queues, 10)
    client = Shared(connect(), 2, queues)
    client.exactly(2, queues)
    for queue in queues[:4]:
        channel.queue_delete(queue)
    pump(client.channel.connection, lambda: all(each.cancelled for each in client.inboxes[:4]))
    settled, left = 0, client.inboxes[4]
    while len(left.deliveries) < 10:
        client.wait(settled + 1)[settled].ack()
        settled += 1
    for queue in queues[:4]:
        channel.queue_declare(queue)


def test_a_closed_channel_leaves_its_messages(connect, channel, queues):
    fill(channel, queues, 4)
    connection = connect()
    client = Shared(connection, 5, queues)
    client.exactly(5, queues)
    client.channel.close()
    assert ready(channel, queues) == 20
    # The first on a queue are those that were out, in their places.
    assert [drain(channel, queue) for queue in queues] == [[b"0", b"1", b"2", b"3"]] * 5


def test_a_limited_consumer_does_not_stop_another(connect, channel, shared):
    stuck = Shared(connect(), 1, [shared])
    publish(channel, shared, b"0")
    stuck.exactly(1, [shared])
    free = Inbox(connect().channel(), shared, auto_ack=True)
    publish(channel, shared, *(b"%d" % i for i in range(1, 30)))
    assert [each.body for each in free.exactly(29)] == [b"%d" % i for i in range(1, 30)]


def test_two_limited_channels_share_a_queue(connect, channel, shared):
    one, two = Shared(connect(), 1, [shared]), Shared(connect(), 1, [shared])
    publish(channel, shared, *[b"x"] * 30)
    settled = {one: 0, two: 0}
    while sum(settled.values()) < 30:
        for client in (one, two):
            client.channel.connection.process_data_events(time_limit=0.01)
            held = client.deliveries[settled[client]:]
            assert len(held) <= 1
            for delivery in held:
                delivery.ack()
                settled[client] += 1
    assert min(settled.values()) >= 5, settled.values()


def test_large_messages_under_a_limit(connect, channel, queues):
    body = bytes(100_000)
    for queue in queues:
        publish(channel, queue, *[body] * 4)
    client = Shared(connect(), 3, queues)
    for settled in range(20):
        client.wait(settled + 1)[settled].ack()
        assert len(client.deliveries) <= settled + 4
    assert all(each.body == body for each in client.deliveries)


@pytest.mark.row("Qos", "qos-ok")
def test_qos_ok_means_that_the_limit_holds(broker, raw, connect, channel, queues):
    client = raw().opened()
    for queue in queues:
        client.call(1, spec.Basic.Consume(queue=queue), spec.Basic.ConsumeOk)
    publisher = connect().channel()
    for i in range(200):
        publisher.basic_publish("", queues[i % 5], b"%d" % i)
    client.send(1, spec.Basic.Qos(prefetch_count=1, global_qos=True))
    while not isinstance((answer := client.next().method), spec.Basic.QosOk):
        assert isinstance(answer, spec.Basic.Deliver)
        client.content()
    fill(channel, queues, 10)
    for queue in queues:
        client.send(1, spec.Queue.Declare(queue=queue, passive=True))
    answers, late = 0, 0
    while answers < 5:
        answer = client.next().method
        if isinstance(answer, spec.Basic.Deliver):
            client.content()
            late += 1
        else:
            answers += 1
    most = expect(
        broker, ringtail=1, rabbitmq=50,
        why="RabbitMQ's queues hear of the limit some time after it has been answered")
    assert late <= most


def test_a_prefetch_size_is_not_implemented(connection):
    channel = connection.channel()
    closes_connection(
        connection, lambda: channel.basic_qos(prefetch_size=1, global_qos=True),
        540, "NOT_IMPLEMENTED - prefetch_size!=0 (1)")


def test_a_connection_lost_gives_everything_back(raw, channel, queues):
    fill(channel, queues, 4)
    client = raw().opened()
    client.call(1, spec.Basic.Qos(prefetch_count=6, global_qos=True), spec.Basic.QosOk)
    for queue in queues:
        client.send(1, spec.Basic.Consume(queue=queue, nowait=True, consumer_tag=queue))
    for _ in range(6):
        client.expect(spec.Basic.Deliver, 1)
        client.content()
    assert ready(channel, queues) == 14
    client.socket.close()
    eventually(lambda: ready(channel, queues) == 20)
