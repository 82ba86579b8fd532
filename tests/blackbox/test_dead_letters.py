"""Dead letters of rejected messages: where they go, what they tell, and what is refused."""

import time

import pytest
from pika import BasicProperties

from support import (
    Inbox, closes_channel, count, drain, eventually, expect, publish, settle)


@pytest.fixture
def declare(channel, name):
    """Declares exclusive queues with a dead-letter exchange."""

    def make(exchange="", key=None, **more):
        queue = name()
        arguments = {"x-dead-letter-exchange": exchange} | more
        if key is not None:
            arguments["x-dead-letter-routing-key"] = key
        channel.queue_declare(queue, exclusive=True, arguments=arguments)
        return queue

    return make


def reject(channel, queue, **how):
    """Takes a message of the queue and rejects it."""
    method, _, _ = eventually(lambda: taken(channel, queue))
    channel.basic_nack(method.delivery_tag, requeue=False, **how)


def taken(channel, queue):
    """A message with its method and properties, if there is one."""
    found = channel.basic_get(queue)
    return found if found[0] else None


def letter(channel, queue):
    """The next message of the queue, which is acknowledged."""
    found = eventually(lambda: taken(channel, queue))
    channel.basic_ack(found[0].delivery_tag)
    return found


def deaths(properties):
    """Queue, reason and count of each event in x-death."""
    events = properties.headers["x-death"]
    return [(event["queue"], event["reason"], event["count"]) for event in events]


@pytest.mark.row("Dead letters", "Rejected messages")
@pytest.mark.parametrize("method", ["basic_nack", "basic_reject"])
def test_a_rejected_message_goes_to_the_exchange(channel, declare, queue, method):
    work = declare(key=queue)
    publish(channel, work, b"x")
    taken_method, _, _ = eventually(lambda: taken(channel, work))
    getattr(channel, method)(taken_method.delivery_tag, requeue=False)
    method, _, body = letter(channel, queue)
    assert (method.exchange, method.routing_key, method.redelivered, body) == (
        "", queue, False, b"x")
    assert count(channel, work) == 0


@pytest.mark.row("Dead letters", "Rejected messages")
def test_several_are_rejected_in_order(channel, declare, queue):
    work = declare(key=queue)
    bodies = [b"%d" % n for n in range(500)]
    publish(channel, work, *bodies)
    Inbox(channel, work).wait(500)
    channel.basic_nack(0, multiple=True, requeue=False)
    eventually(lambda: count(channel, queue) == 500)
    assert drain(channel, queue) == bodies


@pytest.mark.row("Dead letters", "x-death")
def test_what_a_first_death_tells(broker, channel, declare, queue):
    work = declare(key=queue)
    before = int(time.time())
    properties = BasicProperties(
        headers={"own": 5, "CC": ["other"]}, delivery_mode=2, priority=7, message_id="id",
        correlation_id="correlation", content_type="text/plain", app_id="app", timestamp=12)
    channel.basic_publish("", work, b"body", properties)
    reject(channel, work)
    _, told, body = letter(channel, queue)
    headers = told.headers
    [event] = headers.pop("x-death")
    assert before <= event.pop("time").timestamp() <= time.time()
    assert event == {
        "count": 1, "reason": "rejected", "queue": work, "exchange": "",
        "routing-keys": [work, "other"]}
    last = {
        "x-last-death-reason": "rejected", "x-last-death-queue": work,
        "x-last-death-exchange": ""}
    last = expect(
        broker, why="x-last-death-… came with RabbitMQ 3.13", ringtail=last, rabbitmq={})
    assert headers == last | {
        "own": 5, "x-first-death-reason": "rejected", "x-first-death-queue": work,
        "x-first-death-exchange": ""}
    told.headers = properties.headers = None
    assert (told, body) == (properties, b"body")


@pytest.mark.row("Dead letters", "x-death")
def test_deaths_of_one_queue_are_one_event(channel, declare, name):
    retry = name()
    work = declare(key=retry)
    channel.queue_declare(retry, exclusive=True, arguments={
        "x-dead-letter-exchange": "", "x-dead-letter-routing-key": work})
    publish(channel, work, b"x")
    times = []
    for turn in range(1, 4):
        for queue, other in ((work, retry), (retry, work)):
            reject(channel, queue)
            eventually(lambda other=other: count(channel, other) == 1)
        _, properties, _ = eventually(lambda: taken(channel, work))
        channel.basic_recover(requeue=True)
        assert deaths(properties) == [(retry, "rejected", turn), (work, "rejected", turn)]
        times.append([event["time"] for event in properties.headers["x-death"]])
        newest = list(properties.headers["x-death"][0])
        assert newest == sorted(newest)
        first = {name: properties.headers[f"x-first-death-{name}"]
                 for name in ("queue", "reason", "exchange")}
        assert first == {"queue": work, "reason": "rejected", "exchange": ""}
    assert times[0] == times[1] == times[2]


@pytest.mark.row("Dead letters", "Order of x-death")
def test_the_newest_event_comes_first(broker, channel, declare, name):
    names = [name() for _ in range(4)]
    for queue, then in zip(names, names[1:], strict=False):
        channel.queue_declare(queue, exclusive=True, arguments={
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": then})
    channel.queue_declare(names[-1], exclusive=True)
    publish(channel, names[0], b"x")
    for queue in names[:-1]:
        reject(channel, queue)
    _, properties, _ = letter(channel, names[-1])
    order = [names.index(queue) for queue, _, _ in deaths(properties)]
    assert order == expect(
        broker, why="3.10 turns the older events around with each new one",
        ringtail=[2, 1, 0], rabbitmq=[2, 0, 1])


@pytest.mark.row("Dead letters", "Routing keys")
def test_without_a_key_all_keys_of_the_publish_count(channel, declare, exchange, name):
    dead = exchange("direct")
    work, one, other = declare(dead), name(), name()
    for queue, key in ((one, work), (other, "more")):
        channel.queue_declare(queue, exclusive=True)
        channel.queue_bind(queue, dead, key)
    channel.basic_publish("", work, b"x", BasicProperties(headers={"CC": ["more"]}))
    reject(channel, work)
    for queue in (one, other):
        method, properties, _ = letter(channel, queue)
        assert (method.exchange, method.routing_key) == (dead, work)
        assert properties.headers["CC"] == ["more"]


@pytest.mark.row("Dead letters", "Routing keys")
def test_a_key_replaces_all_others(channel, declare, exchange, name):
    dead = exchange("direct")
    work, one, other = declare(dead, "dead"), name(), name()
    for queue, key in ((one, "dead"), (other, "more")):
        channel.queue_declare(queue, exclusive=True)
        channel.queue_bind(queue, dead, key)
    channel.basic_publish("", work, b"x", BasicProperties(headers={"CC": ["more"]}))
    reject(channel, work)
    method, properties, _ = letter(channel, one)
    assert (method.routing_key, "CC" in properties.headers) == ("dead", False)
    assert count(channel, other) == 0


@pytest.mark.row("Dead letters", "Exchanges")
def test_alternate_exchanges_and_bindings_of_exchanges_apply(channel, declare, exchange, queue):
    last = exchange("fanout")
    channel.queue_bind(queue, last, "")
    middle = exchange("topic", arguments={"alternate-exchange": last})
    first = exchange("fanout", internal=True)
    channel.exchange_bind(middle, first, "")
    work = declare(first)
    publish(channel, work, b"x")
    reject(channel, work)
    method, _, body = letter(channel, queue)
    assert (method.exchange, body) == (first, b"x")


@pytest.mark.row("Dead letters", "Exchange that does not exist")
def test_without_the_exchange_the_message_is_dropped(channel, declare, name, queue):
    missing = name()
    work = declare(missing, queue)
    publish(channel, work, b"lost", b"kept")
    reject(channel, work)
    settle(channel.connection)
    channel.exchange_declare(missing, "fanout", auto_delete=True)
    channel.queue_bind(queue, missing, "")
    reject(channel, work)
    assert letter(channel, queue)[2] == b"kept"
    assert (count(channel, work), count(channel, queue)) == (0, 0)


@pytest.mark.row("Dead letters", "Deleted and purged queues")
def test_purge_and_delete_make_no_dead_letters(channel, declare, queue):
    work = declare(key=queue)
    publish(channel, work, b"1", b"2")
    channel.queue_purge(work)
    publish(channel, work, b"3")
    channel.queue_delete(work)
    settle(channel.connection)
    assert count(channel, queue) == 0


@pytest.mark.row("Dead letters", "Deleted and purged queues")
def test_what_was_rejected_before_the_deletion_arrives(channel, declare, queue):
    work = declare(key=queue)
    for n in range(3000):
        channel.basic_publish("", work, b"%d" % n)
    Inbox(channel, work).wait(3000)
    channel.basic_nack(0, multiple=True, requeue=False)
    channel.queue_delete(work)
    eventually(lambda: count(channel, queue) == 3000)


@pytest.mark.row("Dead letters", "Target that is the queue itself")
def test_a_rejected_message_may_come_back(channel, declare, exchange):
    dead = exchange("fanout")
    work = declare(dead)
    channel.queue_bind(work, dead, "")
    publish(channel, work, b"x")
    for turn in range(1, 4):
        reject(channel, work)
        _, properties, _ = eventually(lambda: taken(channel, work))
        assert deaths(properties) == [(work, "rejected", turn)]
        channel.basic_recover(requeue=True)


@pytest.mark.row("Dead letters", "x-death of a publisher")
def test_a_history_that_a_publisher_made_up_is_taken_over(channel, declare, queue):
    work = declare(key=queue)
    history = [{"queue": work, "reason": "rejected", "count": 41, "exchange": "made-up"}]
    channel.basic_publish("", work, b"x", BasicProperties(headers={"x-death": history}))
    reject(channel, work)
    _, properties, _ = letter(channel, queue)
    assert properties.headers["x-death"] == [history[0] | {"count": 42}]
    assert "x-first-death-queue" not in properties.headers


@pytest.mark.row("Dead letters", "x-death of a publisher")
def test_a_history_of_another_type_is_replaced(channel, declare, queue):
    work = declare(key=queue)
    channel.basic_publish("", work, b"x", BasicProperties(headers={"x-death": "[{...}]"}))
    reject(channel, work)
    _, properties, _ = letter(channel, queue)
    assert deaths(properties) == [(work, "rejected", 1)]


@pytest.mark.row("Dead letters", "x-death of a publisher")
def test_a_malformed_history_does_no_harm(broker, channel, declare, queue):
    if expect(
            broker, why="values that are no tables end a queue of RabbitMQ", ringtail=False,
            rabbitmq=True):
        pytest.skip("it would end the queue")
    work = declare(key=queue)
    history = [1, "x", None, [[]], {"queue": 5}, {"queue": "q"}, {"count": "x"}, {}]
    channel.basic_publish("", work, b"x", BasicProperties(headers={"x-death": history}))
    reject(channel, work)
    _, properties, _ = letter(channel, queue)
    assert deaths(properties) == [(work, "rejected", 1)]


@pytest.mark.row("Dead letters", "Direct reply-to")
def test_a_reply_that_dies_on_the_way(channel, declare, name):
    inbox = Inbox(channel, "amq.rabbitmq.reply-to", auto_ack=True)
    work = name()
    channel.queue_declare(work, exclusive=True)
    channel.basic_publish(
        "", work, b"question", BasicProperties(reply_to="amq.rabbitmq.reply-to"))
    _, properties, _ = letter(channel, work)
    dying = declare(key=properties.reply_to)
    publish(channel, dying, b"answer")
    reject(channel, dying)
    assert inbox.wait(1)[0].body == b"answer"


@pytest.mark.row("Dead letters", "Arguments")
@pytest.mark.parametrize("value, kind", [(5, "signedint"), (True, "bool"), ([], "array")])
def test_arguments_of_a_wrong_type(channel, connection, name, value, kind):
    queue = name()
    arguments = {"x-dead-letter-exchange": value}
    closes_channel(
        channel, lambda: channel.queue_declare(queue, arguments=arguments), 406,
        f"PRECONDITION_FAILED - invalid type '{kind}' for arg 'x-dead-letter-exchange' in queue "
        f"'{queue}' in vhost '/'")
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": value}
    fresh = connection.channel()
    closes_channel(
        fresh, lambda: fresh.queue_declare(queue, arguments=arguments), 406,
        f"PRECONDITION_FAILED - invalid arg 'x-dead-letter-routing-key' for queue '{queue}' in "
        f"vhost '/': {{unacceptable_type,{kind}}}")


@pytest.mark.row("Dead letters", "Arguments")
def test_a_routing_key_without_an_exchange(channel, name):
    queue = name()
    closes_channel(
        channel,
        lambda: channel.queue_declare(queue, arguments={"x-dead-letter-routing-key": "key"}), 406,
        f"PRECONDITION_FAILED - invalid arg 'x-dead-letter-routing-key' for queue '{queue}' in "
        "vhost '/': routing_key_but_no_dlx_defined")


@pytest.mark.row("Dead letters", "Arguments")
def test_a_strategy_is_for_other_queues(channel, name):
    queue = name()
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-strategy": "at-most-once"}
    closes_channel(
        channel, lambda: channel.queue_declare(queue, arguments=arguments), 406,
        "PRECONDITION_FAILED - invalid arg 'x-dead-letter-strategy' for queue "
        f"'{queue}' in vhost '/' of queue type rabbit_classic_queue")


@pytest.mark.row("Dead letters", "Arguments")
def test_declared_again_with_others(channel, connection, declare):
    work = declare("amq.fanout", "key")
    for changed, received, current in (
            ({"x-dead-letter-exchange": "amq.direct", "x-dead-letter-routing-key": "key"},
             "'amq.direct'", "'amq.fanout'"),
            ({}, "none", "the value 'amq.fanout' of type 'longstr'")):
        fresh = connection.channel()
        closes_channel(
            fresh, lambda fresh=fresh, changed=changed: fresh.queue_declare(
                work, exclusive=True, arguments=changed), 406,
            "PRECONDITION_FAILED - inequivalent arg 'x-dead-letter-exchange' for queue "
            f"'{work}' in vhost '/': received {received} but current is {current}")


@pytest.mark.row("Dead letters", "Prefetch")
def test_a_rejected_message_frees_its_place(channel, declare, queue):
    work = declare(key=queue)
    publish(channel, work, *[b"%d" % n for n in range(20)])
    channel.basic_qos(prefetch_count=1)
    channel.basic_consume(
        work, lambda _, method, *__: channel.basic_reject(method.delivery_tag, requeue=False))
    eventually(lambda: (settle(channel.connection), count(channel, queue) == 20)[1])


@pytest.mark.row("Dead letters", "Transactions")
def test_a_reject_counts_with_its_commit(channel, declare, queue):
    work = declare(key=queue)
    publish(channel, work, b"x")
    channel.tx_select()
    reject(channel, work)
    settle(channel.connection)
    assert count(channel, queue) == 0
    channel.tx_commit()
    eventually(lambda: count(channel, queue) == 1)


@pytest.mark.row("Dead letters", "Restart")
def test_dead_letters_and_their_arguments_survive_a_restart(own_broker, connect, name):
    broker, work, dead = own_broker(), name(), name()
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
    channel = connect(broker).channel()
    channel.queue_declare(work, durable=True, arguments=arguments)
    channel.queue_declare(dead, durable=True)
    channel.confirm_delivery()
    for body in (b"1", b"2"):
        channel.basic_publish("", work, body, BasicProperties(delivery_mode=2))
    reject(channel, work)
    eventually(lambda: count(channel, dead) == 1)
    channel.connection.close()
    broker.stop()
    broker.start()
    channel = connect(broker).channel()
    channel.queue_declare(work, durable=True, arguments=arguments)
    assert (count(channel, work), count(channel, dead)) == (1, 1)
    reject(channel, work)
    eventually(lambda: count(channel, dead) == 2)
    assert drain(channel, dead) == [b"1", b"2"]


@pytest.mark.row("Dead letters", "Expired messages")
def test_an_expired_message_tells_its_expiration(channel, declare, queue):
    work = declare(key=queue)
    channel.basic_publish("", work, b"x", BasicProperties(expiration="30"))
    _, properties, _ = letter(channel, queue)
    [event] = properties.headers["x-death"]
    assert (event["reason"], event["original-expiration"]) == ("expired", "30")
    assert (properties.expiration, properties.headers["x-first-death-reason"]) == (
        None, "expired")


@pytest.mark.row("Dead letters", "Expired messages")
def test_messages_of_a_queue_expire_in_order(channel, declare, queue):
    work = declare(key=queue, **{"x-message-ttl": 100})
    bodies = [b"%d" % n for n in range(300)]
    publish(channel, work, *bodies)
    eventually(lambda: count(channel, queue) == 300)
    assert (drain(channel, queue), count(channel, work)) == (bodies, 0)


@pytest.mark.row("Dead letters", "Messages beyond a limit")
def test_the_first_messages_beyond_a_limit_die(channel, declare, queue):
    work = declare(key=queue, **{"x-max-length": 2})
    publish(channel, work, *[b"%d" % n for n in range(5)])
    eventually(lambda: count(channel, queue) == 3)
    _, properties, body = letter(channel, queue)
    assert (deaths(properties), body) == ([(work, "maxlen", 1)], b"0")
    assert drain(channel, queue) == [b"1", b"2"]
    assert drain(channel, work) == [b"3", b"4"]


@pytest.mark.row("Dead letters", "Messages beyond a limit")
def test_refused_messages_die_too_if_the_queue_says_so(channel, declare, queue):
    for overflow, dead in (("reject-publish", 0), ("reject-publish-dlx", 1)):
        work = declare(key=queue, **{"x-max-length": 1, "x-overflow": overflow})
        for body in (b"kept", b"refused"):
            channel.basic_publish("", work, body)
        eventually(lambda work=work: count(channel, work) == 1)
        eventually(lambda dead=dead: count(channel, queue) == dead)
        assert drain(channel, work) == [b"kept"]
    _, properties, body = letter(channel, queue)
    assert (deaths(properties), body) == ([(work, "maxlen", 1)], b"refused")


@pytest.mark.row("Dead letters", "Circles")
def test_a_circle_without_a_rejection_ends(channel, declare, name, queue):
    back = name()
    work = declare(key=back, **{"x-message-ttl": 20})
    channel.queue_declare(back, exclusive=True, arguments={
        "x-message-ttl": 20, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": work})
    publish(channel, work, b"x")
    time.sleep(0.5)
    assert (count(channel, work), count(channel, back)) == (0, 0)


@pytest.mark.row("Dead letters", "Circles")
def test_a_circle_with_a_rejection_goes_on(channel, declare, name):
    wait = name()
    work = declare(key=wait)
    channel.queue_declare(wait, exclusive=True, arguments={
        "x-message-ttl": 20, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": work})
    publish(channel, work, b"x")
    for turn in range(1, 4):
        reject(channel, work)
        _, properties, _ = eventually(lambda: taken(channel, work))
        assert deaths(properties) == [(wait, "expired", turn), (work, "rejected", turn)]
        channel.basic_recover(requeue=True)
