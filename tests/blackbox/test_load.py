"""Under load every message is accounted for and in its publisher's order."""

import threading

from pika import frame, spec

from support import Inbox, drain, publish, pump, settle
from wire import message

MESSAGES = 50_000
PUBLISHERS = 5


class Side(threading.Thread):
    """Work on a raw connection of its own; `finish` raises what went wrong in it."""

    def __init__(self, work, *arguments):
        super().__init__(daemon=True)
        self.work, self.arguments, self.error = work, arguments, None
        self.start()

    def run(self):
        try:
            self.work(*self.arguments)
        except BaseException as error:
            self.error = error

    def finish(self):
        self.join()
        if self.error:
            raise self.error


def publish_all(client, queue, publisher, total, window=2000):
    """Publishes `total` numbered messages with at most `window` unconfirmed."""
    client.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    confirmed, singles = 0, set()
    for start in range(0, total, 100):
        client.write(b"".join(
            message(1, "", queue, b"%d %d" % (publisher, number))
            for number in range(start, start + 100)))
        while start + 100 - confirmed - len(singles) > (window if start + 100 < total else 0):
            ack = client.expect(spec.Basic.Ack, 1)
            if ack.multiple:
                confirmed = max(confirmed, ack.delivery_tag)
                singles = {tag for tag in singles if tag > confirmed}
            else:
                singles.add(ack.delivery_tag)


def consume_all(client, queue, total, seen, multiple=50):
    """Takes `total` messages, acknowledging every `multiple` of them at once."""
    client.call(1, spec.Basic.Qos(prefetch_count=500), spec.Basic.QosOk)
    client.call(1, spec.Basic.Consume(queue=queue), spec.Basic.ConsumeOk)
    for number in range(1, total + 1):
        delivery = client.expect(spec.Basic.Deliver, 1)
        assert delivery.delivery_tag == number
        seen.append(client.content()[1])
        if number % multiple == 0 or number == total:
            client.send(1, spec.Basic.Ack(number, multiple=True))


def in_order(bodies):
    """Asserts that every publisher's messages are complete and in order."""
    numbers = {}
    for body in bodies:
        publisher, number = map(int, body.split())
        assert number == numbers.get(publisher, 0), f"publisher {publisher}"
        numbers[publisher] = number + 1
    return numbers


def test_50_000_messages(raw, channel, shared):
    each, seen = MESSAGES // PUBLISHERS, []
    sides = [Side(consume_all, raw(seconds=30).opened(), shared, MESSAGES, seen)]
    for number in range(PUBLISHERS):
        sides.append(Side(publish_all, raw(seconds=30).opened(), shared, number, each))
    for side in sides:
        side.finish()
    assert in_order(seen) == {number: each for number in range(PUBLISHERS)}
    assert channel.queue_delete(shared).method.message_count == 0


def test_several_queues_with_several_consumers(raw, connect, channel, name):
    total, sides, seen = 5000, [], {}
    for number in range(4):
        queue = name()
        channel.queue_declare(queue)
        seen[queue] = []
        sides.append(Side(consume_all, raw(seconds=30).opened(), queue, total, seen[queue]))
        sides.append(Side(publish_all, raw(seconds=30).opened(), queue, number, total))
    for side in sides:
        side.finish()
    for number, (queue, bodies) in enumerate(seen.items()):
        assert in_order(bodies) == {number: total}
        assert channel.queue_delete(queue).method.message_count == 0


def test_a_backlog_is_kept_in_order(raw, channel, shared):
    total, seen = 20_000, []
    publish_all(raw(seconds=30).opened(), shared, 0, total)
    assert channel.queue_declare(shared, passive=True).method.message_count == total
    consume_all(raw(seconds=30).opened(), shared, total, seen)
    assert in_order(seen) == {0: total}


def test_200_connections_at_once(raw, shared):
    clients = [raw().opened() for _ in range(200)]
    for number, client in enumerate(clients):
        client.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
        client.write(message(1, "", shared, b"%d" % number))
    for client in clients:
        client.expect(spec.Basic.Ack, 1)
    bodies = set()
    for client in clients:
        client.call(1, spec.Basic.Get(queue=shared, no_ack=True), spec.Basic.GetOk)
        bodies.add(int(client.content()[1]))
    assert bodies == set(range(200))


def test_connections_come_and_go(raw, name):
    for _ in range(100):
        client, queue = raw().opened(), name()
        declare = spec.Queue.Declare(queue=queue, exclusive=True)
        client.call(1, declare, spec.Queue.DeclareOk)
        client.write(message(1, "", queue, b"x"))
        client.call(1, spec.Basic.Get(queue=queue), spec.Basic.GetOk)
        client.content()
        client.socket.close()


def test_every_hop_crosses(connect, name):
    """Publisher, home and consumer differ: each of 8 connections publishes to 8 queues, each of
    them declared by another connection and consumed by a third and a fourth."""
    size, each = 8, 25
    channels = [connect().channel() for _ in range(size)]
    queues = [name() for _ in range(size)]
    for number, queue in enumerate(queues):
        channels[number].queue_declare(queue)
    inboxes = []
    for number, queue in enumerate(queues):
        pair = [channels[(number + shift) % size] for shift in (1, 2)]
        inboxes.append([Inbox(channel, queue) for channel in pair])
    for number, channel in enumerate(channels):
        for queue in queues:
            publish(channel, queue, *(b"%d %d" % (number, i) for i in range(each)))
    for queue, pair in zip(queues, inboxes):
        for inbox in pair:
            pump(inbox.channel.connection, lambda inbox=inbox: len(inbox.deliveries) >= 100)
            inbox.exactly(size * each // 2)
            per_publisher = {}
            for delivery in inbox.deliveries:
                publisher, number = map(int, delivery.body.split())
                assert number > per_publisher.get(publisher, -1)
                per_publisher[publisher] = number
        both = [body for inbox in pair for body in inbox.bodies]
        assert len(set(both)) == size * each
        for inbox in pair:
            inbox.channel.basic_ack(0, multiple=True)
            settle(inbox.channel.connection)
    for queue, channel in zip(queues, channels):
        assert channel.queue_delete(queue).method.message_count == 0


def test_frames_of_many_channels_in_one_write(raw, shared):
    client = raw().opened(channels=50)
    client.write(b"".join(
        message(number, "", shared, b"%d" % number) + frame.Method(
            number, spec.Basic.Get(queue=shared, no_ack=True)).marshal()
        for number in range(1, 51)))
    bodies = set()
    for _ in range(50):
        client.expect(spec.Basic.GetOk)
        bodies.add(client.content()[1])
    assert len(bodies) == 50


def test_requeueing_under_load_loses_nothing(connect, channel, shared):
    publish(channel, shared, *(b"%d" % i for i in range(500)))
    kept = []
    for round_number in range(10):
        worker = connect()
        working = worker.channel()
        working.basic_qos(prefetch_count=50)
        inbox = Inbox(working, shared)
        inbox.wait(50)
        for delivery in inbox.deliveries[:50:2]:
            delivery.ack()
            kept.append(delivery.body)
        if round_number % 2:
            worker.close()
        else:
            working.close()
    kept += drain(channel, shared)
    assert len(kept) == len(set(kept)) == 500
