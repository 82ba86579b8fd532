"""What a newcomer does first: the six tutorials of RabbitMQ."""

import pytest

from support import Inbox, eventually, exists, publish, pump, settle
from wire import message
from pika import BasicProperties, spec


def test_hello_world(connect, name):
    queue = name()
    receiver = connect().channel()
    receiver.queue_declare(queue)
    inbox = Inbox(receiver, queue, auto_ack=True)
    sender = connect().channel()
    sender.queue_declare(queue)
    sender.basic_publish("", queue, b"Hello World!")
    assert inbox.exactly(1)[0].body == b"Hello World!"
    assert inbox.deliveries[0].method.exchange == ""
    assert inbox.deliveries[0].method.routing_key == queue
    assert inbox.deliveries[0].method.redelivered is False
    receiver.queue_delete(queue)


@pytest.mark.parametrize("workers", [2, 3])
def test_work_is_spread_round_robin(connect, channel, shared, workers):
    inboxes = [Inbox(connect().channel(), shared, auto_ack=True) for _ in range(workers)]
    publish(channel, shared, *(str(i).encode() for i in range(4 * workers)))
    for inbox in inboxes:
        got = [int(body) for body in inbox.wait(4) and inbox.bodies]
        assert got == list(range(got[0], 4 * workers, workers))
    assert sorted(inbox.bodies[0] for inbox in inboxes) == [b"%d" % i for i in range(workers)]


def test_a_busy_worker_gets_nothing_more_while_an_idle_one_does(connect, channel, shared):
    busy, idle = connect().channel(), connect().channel()
    for worker in (busy, idle):
        worker.basic_qos(prefetch_count=1)
    holding = Inbox(busy, shared)
    publish(channel, shared, b"long")
    holding.exactly(1)
    quick = Inbox(idle, shared)
    for task in (b"1", b"2", b"3"):
        publish(channel, shared, task)
        pump(idle.connection, lambda task=task: quick.bodies[-1:] == [task])
        quick.deliveries[-1].ack()
    settle(busy.connection)
    assert holding.bodies == [b"long"]
    publish(channel, shared, b"4")
    holding.deliveries[0].ack()
    quick.wait(4)


def test_a_killed_workers_message_goes_to_another(raw, connect, channel, shared):
    doomed = raw().opened()
    doomed.call(1, spec.Basic.Consume(queue=shared), spec.Basic.ConsumeOk)
    publish(channel, shared, b"task")
    assert doomed.expect(spec.Basic.Deliver, 1).redelivered is False
    assert doomed.content()[1] == b"task"
    rescuer = Inbox(connect().channel(), shared)
    doomed.socket.close()
    delivery = rescuer.exactly(1)[0]
    assert delivery.body == b"task"
    assert delivery.method.redelivered is True


def test_fanout_reaches_every_receiver(connect, channel, exchange):
    logs = exchange("fanout")
    inboxes = []
    for _ in range(5):
        receiver = connect().channel()
        queue = receiver.queue_declare("", exclusive=True).method.queue
        receiver.queue_bind(queue, logs)
        inboxes.append(Inbox(receiver, queue, auto_ack=True))
    for body in (b"first", b"second"):
        channel.basic_publish(logs, "ignored", body)
    for inbox in inboxes:
        inbox.exactly(2)
        assert inbox.bodies == [b"first", b"second"]


def bound(connect, exchange, *keys, **arguments):
    """A receiver with a queue of its own, bound with these keys."""
    receiver = connect().channel()
    queue = receiver.queue_declare("", exclusive=True).method.queue
    for key in keys:
        receiver.queue_bind(queue, exchange, key, **arguments)
    return Inbox(receiver, queue, auto_ack=True)


def test_direct_by_severity(connect, channel, exchange):
    logs = exchange("direct")
    errors = bound(connect, logs, "error")
    everything = bound(connect, logs, "info", "warning", "error")
    for severity in ("info", "warning", "error", "debug"):
        channel.basic_publish(logs, severity, severity.encode())
    settle(channel.connection)
    everything.exactly(3)
    assert everything.bodies == [b"info", b"warning", b"error"]
    errors.exactly(1)
    assert errors.bodies == [b"error"]


def test_topics_of_the_tutorial(connect, channel, exchange):
    logs = exchange("topic")
    kernel = bound(connect, logs, "kern.*")
    critical = bound(connect, logs, "*.critical")
    both = bound(connect, logs, "kern.*", "*.critical")
    everything = bound(connect, logs, "#")
    for key in ("kern.critical", "kern.info", "cron.critical", "cron.info", "kern"):
        channel.basic_publish(logs, key, key.encode())
    everything.exactly(5)
    kernel.exactly(2)
    assert kernel.bodies == [b"kern.critical", b"kern.info"]
    critical.exactly(2)
    assert critical.bodies == [b"kern.critical", b"cron.critical"]
    both.exactly(3)
    assert both.bodies == [b"kern.critical", b"kern.info", b"cron.critical"]


@pytest.mark.parametrize(("pattern", "matching", "other"), [
    ("#", ["", "a", "a.b.c"], []),
    ("a.#", ["a", "a.b", "a.b.c", "a."], ["", "b", "ab"]),
    ("#.a", ["a", "b.a", "c.b.a"], ["a.b", "ba"]),
    ("a.#.b", ["a.b", "a.c.b", "a.b.b", "a.c.d.b"], ["a", "b", "a.b.c"]),
    ("*", ["a", "a-b"], ["a.b"]),
    ("*.*", ["a.b", "."], ["a", "a.b.c"]),
    ("#.#", ["", "a", "a.b"], []),
    ("*.#.*", ["a.b", "a.b.c"], ["a"]),
])
def test_topic_patterns(channel, queue, exchange, pattern, matching, other):
    topics = exchange("topic")
    channel.queue_bind(queue, topics, pattern)
    inbox = Inbox(channel, queue, auto_ack=True)
    for key in [*matching, *other]:
        channel.basic_publish(topics, key, key.encode())
    inbox.exactly(len(matching))
    assert inbox.bodies == [key.encode() for key in matching]


@pytest.mark.parametrize(("match", "expected"), [("all", [b"both"]), ("any", [b"both", b"one"])])
def test_headers_all_and_any(channel, queue, exchange, match, expected):
    headers = exchange("headers")
    channel.queue_bind(queue, headers, arguments={"x-match": match, "type": "report", "pages": 2})
    inbox = Inbox(channel, queue, auto_ack=True)
    for body, table in (
            (b"both", {"type": "report", "pages": 2, "more": True}),
            (b"one", {"type": "report", "pages": 3}),
            (b"none", {"type": "log"}), (b"empty", {})):
        channel.basic_publish(headers, "", body, BasicProperties(headers=table))
    channel.basic_publish(headers, "", b"no table")
    inbox.exactly(len(expected))
    assert inbox.bodies == expected


def test_headers_match_all_without_x_match_and_by_presence(channel, name, exchange):
    headers = exchange("headers")
    plain, present = name(), name()
    for queue, arguments in ((plain, {"a": 1}), (present, {"x-match": "all", "a": None})):
        channel.queue_declare(queue, exclusive=True)
        channel.queue_bind(queue, headers, arguments=arguments)
    inboxes = [Inbox(channel, queue, auto_ack=True) for queue in (plain, present)]
    for body, table in ((b"1", {"a": 1}), (b"2", {"a": 2}), (b"3", {"b": 1})):
        channel.basic_publish(headers, "", body, BasicProperties(headers=table))
    inboxes[1].exactly(2)
    assert inboxes[0].bodies == [b"1"]
    assert inboxes[1].bodies == [b"1", b"2"]


def test_rpc(connect, channel, shared):
    server = connect().channel()

    def answer(ch, method, properties, body):
        reply = BasicProperties(correlation_id=properties.correlation_id)
        ch.basic_publish("", properties.reply_to, body[::-1], reply)
        ch.basic_ack(method.delivery_tag)

    server.basic_qos(prefetch_count=1)
    server.basic_consume(shared, answer)
    replies = channel.queue_declare("", exclusive=True).method.queue
    inbox = Inbox(channel, replies, auto_ack=True)
    ask = BasicProperties(reply_to=replies, correlation_id="42")
    channel.basic_publish("", shared, b"abc", ask)

    def answered():
        server.connection.process_data_events(time_limit=0.01)
        channel.connection.process_data_events(time_limit=0.01)
        return inbox.deliveries

    delivery = eventually(answered)[0]
    assert (delivery.body, delivery.properties.correlation_id) == (b"cba", "42")


def test_an_exclusive_queue_is_gone_with_its_connection(connect, connection, name):
    owner = connect()
    queue = name()
    owner.channel().queue_declare(queue, exclusive=True)
    owner.close()
    assert not exists(connection, queue)


def test_an_exclusive_queue_is_gone_with_its_socket(raw, connection, name):
    owner, queue = raw().opened(), name()
    declare = spec.Queue.Declare(queue=queue, exclusive=True)
    owner.call(1, declare, spec.Queue.DeclareOk)
    owner.write(message(1, "", queue, b"lost with it"))
    owner.socket.close()
    eventually(lambda: not _locked_or_there(connection, queue))


def _locked_or_there(connection, queue):
    channel = connection.channel()
    try:
        channel.queue_declare(queue, passive=True)
    except Exception as closed:
        if closed.args[0] == 404:
            return False
        if closed.args[0] == 405:
            return True
        raise
    return True
