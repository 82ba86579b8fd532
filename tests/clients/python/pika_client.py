"""Scenarios through pika's blocking connection."""

import datetime
import decimal
import time

import pika
from pika.exceptions import (
    AMQPConnectionError, ChannelClosedByBroker, ConnectionClosedByBroker,
    StreamLostError, UnroutableError)

import place
from place import name

LIMIT_SECONDS = 30
LARGE = bytes(range(256)) * 6000


def connect(**settings):
    login = pika.PlainCredentials(place.USER, place.PASSWORD)
    return pika.BlockingConnection(
        pika.ConnectionParameters(place.HOST, place.PORT, credentials=login, **settings))


def pump(connection, condition):
    """Handles what arrives until the condition holds."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        connection.process_data_events(time_limit=0.1)


def ready(channel, queue):
    return channel.queue_declare(queue, passive=True).method.message_count


def filled(channel, count):
    """A queue of this connection that holds messages 0, 1, 2 ..."""
    queue = channel.queue_declare("", exclusive=True).method.queue
    with_confirms = channel.connection.channel()
    with_confirms.confirm_delivery()
    for number in range(count):
        with_confirms.basic_publish("", queue, b"%d" % number)
    with_confirms.close()
    return queue


def collect(channel, queue, **settings):
    """A consumer that keeps what it gets."""
    got = []
    tag = channel.basic_consume(
        queue, lambda _, method, properties, body: got.append((method, properties, body)),
        **settings)
    return got, tag


def topology(connection):
    channel = connection.channel()
    exchange, further, queue = name("logs"), name("further"), name("queue")
    channel.exchange_declare(exchange, "topic", durable=True)
    channel.exchange_declare(further, "fanout", auto_delete=True)
    channel.exchange_declare(exchange, passive=True)
    declared = channel.queue_declare(queue, durable=True).method
    assert (declared.queue, declared.message_count, declared.consumer_count) == (queue, 0, 0)
    channel.queue_bind(queue, further)
    channel.exchange_bind(further, exchange, "kern.*")
    got, _ = collect(channel, queue, auto_ack=True)
    for key in ("kern.info", "cron.info", "kern.crit"):
        channel.basic_publish(exchange, key, key)
    pump(connection, lambda: len(got) == 2)
    assert [body for _, _, body in got] == [b"kern.info", b"kern.crit"]
    assert (got[0][0].exchange, got[0][0].routing_key) == (exchange, "kern.info")
    channel.exchange_unbind(further, exchange, "kern.*")
    channel.queue_unbind(queue, further)
    channel.queue_delete(queue)
    channel.exchange_delete(exchange)


def confirms(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    queue = channel.queue_declare("", exclusive=True).method.queue
    for number in range(100):
        channel.basic_publish("", queue, b"%d" % number)
    assert ready(channel, queue) == 100
    assert channel.queue_purge(queue).method.message_count == 100


def returns(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    try:
        channel.basic_publish("", name("nowhere"), b"lost", mandatory=True)
    except UnroutableError as refused:
        method = refused.messages[0].method
        assert (method.reply_code, method.reply_text) == (312, "NO_ROUTE")
        assert refused.messages[0].body == b"lost"
    else:
        raise AssertionError("not returned")
    unconfirmed, returned = connection.channel(), []
    unconfirmed.add_on_return_callback(lambda *all: returned.append(all))
    unconfirmed.basic_publish("amq.direct", name("nowhere"), b"again", mandatory=True)
    pump(connection, lambda: returned)
    assert returned[0][3] == b"again"


def acks(connection):
    channel = connection.channel()
    queue = filled(channel, 5)
    got, tag = collect(channel, queue)
    pump(connection, lambda: len(got) == 5)
    tags = [method.delivery_tag for method, _, _ in got]
    channel.basic_ack(tags[1], multiple=True)
    channel.basic_reject(tags[2], requeue=False)
    channel.basic_nack(tags[4], requeue=True, multiple=True)
    pump(connection, lambda: len(got) == 7)
    assert [(method.redelivered, body) for method, _, body in got[5:]] == [
        (True, b"3"), (True, b"4")]
    channel.basic_recover(requeue=True)
    pump(connection, lambda: len(got) == 9)
    channel.basic_ack(0, multiple=True)
    channel.basic_cancel(tag)
    assert ready(channel, queue) == 0


def prefetch(connection):
    channel = connection.channel()
    queue = filled(channel, 10)
    channel.basic_qos(prefetch_count=3)
    got, _ = collect(channel, queue)
    pump(connection, lambda: len(got) == 3)
    assert ready(channel, queue) == 7
    channel.basic_ack(got[0][0].delivery_tag)
    pump(connection, lambda: len(got) == 4)
    assert ready(channel, queue) == 6


def global_prefetch(connection):
    channel = connection.channel()
    queue = filled(channel, 10)
    channel.basic_qos(prefetch_count=3, global_qos=True)
    first, _ = collect(channel, queue)
    second, _ = collect(channel, queue)
    pump(connection, lambda: len(first) + len(second) == 3)
    assert ready(channel, queue) == 7
    channel.basic_ack(0, multiple=True)
    pump(connection, lambda: len(first) + len(second) == 6)
    assert ready(channel, queue) == 4


def get(connection):
    channel = connection.channel()
    queue = filled(channel, 2)
    method, _, body = channel.basic_get(queue)
    assert (method.message_count, method.redelivered, body) == (1, False, b"0")
    channel.basic_nack(method.delivery_tag)
    method, _, body = channel.basic_get(queue)
    assert (method.redelivered, body) == (True, b"0")
    channel.basic_ack(method.delivery_tag)
    assert channel.basic_get(queue, auto_ack=True)[2] == b"1"
    assert channel.basic_get(queue) == (None, None, None)


def large(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    queue = channel.queue_declare("", exclusive=True).method.queue
    for body in (LARGE, b"", LARGE[:131064], LARGE[:131065]):
        channel.basic_publish("", queue, body)
        assert channel.basic_get(queue, auto_ack=True)[2] == body


def headers(connection):
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    table = {
        "text": "grün", "bytes": b"\x00\xff", "true": True, "false": False, "small": -7,
        "large": 1 << 60, "decimal": decimal.Decimal("3.14"), "none": None,
        "time": datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc),
        "list": [1, "two", None, [3]], "table": {"inner": {"deep": 1}}}
    properties = pika.BasicProperties(
        content_type="text/plain", content_encoding="utf-8", headers=table, delivery_mode=2,
        priority=3, correlation_id="c", reply_to="r", message_id="m",
        timestamp=1577934245, type="t", user_id=place.USER, app_id="a", cluster_id="k")
    channel.basic_publish("", queue, b"x", properties)
    _, back, _ = channel.basic_get(queue, auto_ack=True)
    assert vars(back) == vars(properties), back


def errors(connection):
    queue = name("owned")
    connection.channel().queue_declare(queue, exclusive=True)
    closes(connection, 404, lambda channel: channel.queue_declare(name("no"), passive=True))
    closes(connection, 406, lambda channel: channel.queue_declare(
        queue, exclusive=True, auto_delete=True))
    closes(connection, 406, lambda channel: channel.basic_ack(99))
    closes(connection, 404, lambda channel: channel.basic_publish(name("no"), "", b""))
    closes(connection, 403, lambda channel: channel.exchange_delete("amq.topic"))
    with connect() as other:
        closes(other, 405, lambda channel: channel.basic_get(queue))
    try:
        pika.BlockingConnection(pika.ConnectionParameters(
            place.HOST, place.PORT, credentials=pika.PlainCredentials("no", "body")))
    except pika.exceptions.ProbableAuthenticationError as refused:
        assert "403" in str(refused)
    else:
        raise AssertionError("logged in")


def closes(connection, code, action):
    """The channel is closed with this code; the connection goes on."""
    channel = connection.channel()
    try:
        action(channel)
        channel.exchange_declare("amq.direct", passive=True)
    except ChannelClosedByBroker as closed:
        assert closed.reply_code == code, closed
    else:
        raise AssertionError(f"not refused with {code}")
    connection.channel().close()


def tx(connection):
    channel, outside = connection.channel(), connection.channel()
    queue = filled(outside, 1)
    channel.tx_select()
    method, _, _ = channel.basic_get(queue)
    channel.basic_publish("", queue, b"committed")
    channel.basic_ack(method.delivery_tag)
    assert ready(outside, queue) == 0
    channel.tx_commit()
    assert outside.basic_get(queue, auto_ack=True)[2] == b"committed"
    channel.basic_publish("", queue, b"rolled back")
    channel.tx_rollback()
    channel.tx_commit()
    assert ready(outside, queue) == 0


def cancel_notify(connection):
    channel, cancelled = connection.channel(), []
    queue = channel.queue_declare(name("doomed")).method.queue
    channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
    _, tag = collect(channel, queue)
    connection.channel().queue_delete(queue)
    pump(connection, lambda: cancelled)
    assert cancelled == [tag]
    assert channel.is_open


def reply_to(connection):
    channel, answers = connection.channel(), []
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.basic_consume(
        "amq.rabbitmq.reply-to", lambda *all: answers.append(all[3]), auto_ack=True)
    channel.basic_publish(
        "", queue, b"question", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to"))
    server = connect()
    asked = connection.channel()
    _, properties, body = asked.basic_get(queue, auto_ack=True)
    assert properties.reply_to.startswith("amq.rabbitmq.reply-to.")
    server.channel().basic_publish("", properties.reply_to, b"answer to " + body)
    pump(connection, lambda: answers)
    assert answers == [b"answer to question"]
    server.close()


def expiration(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.basic_publish("", queue, b"kept", pika.BasicProperties(expiration="60000"))
    assert channel.basic_get(queue, auto_ack=True)[1].expiration == "60000"
    channel.basic_publish("", queue, b"gone", pika.BasicProperties(expiration="0"))
    assert ready(channel, queue) == 0


def dead_letters(connection):
    channel, waiting = connection.channel(), name("waiting")
    dead = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_declare(waiting, exclusive=True, arguments={
        "x-message-ttl": 60_000, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
    got, _ = collect(channel, dead, auto_ack=True)
    channel.basic_publish("", waiting, b"rejected")
    channel.basic_reject(channel.basic_get(waiting)[0].delivery_tag, requeue=False)
    pump(connection, lambda: len(got) == 1)
    channel.basic_publish("", waiting, b"expired", pika.BasicProperties(expiration="20"))
    pump(connection, lambda: len(got) == 2)
    for (_, properties, body), further in zip(got, ({}, {"original-expiration": "20"})):
        reason = body.decode()
        [death] = properties.headers["x-death"]
        assert isinstance(death.pop("time"), datetime.datetime)
        assert death == {
            "count": 1, "reason": reason, "queue": waiting, "exchange": "",
            "routing-keys": [waiting], **further}, death
        assert properties.headers["x-first-death-reason"] == reason
        assert properties.expiration is None


def heartbeat(connection):
    assert connection._impl.params.heartbeat == 1
    end = time.monotonic() + 5
    while (left := end - time.monotonic()) > 0:
        connection.process_data_events(time_limit=left)
    connection.channel().exchange_declare("amq.direct", passive=True)


def blocked(connection):
    heard = []
    connection.add_on_connection_blocked_callback(
        lambda _, frame: heard.append(f"blocked: {frame.method.reason}"))
    connection.add_on_connection_unblocked_callback(lambda *_: heard.append("unblocked"))
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.basic_publish("", queue, b"held up")
    pump(connection, lambda: heard)
    print(heard[0])
    pump(connection, lambda: heard[-1] == "unblocked")
    other = connection.channel()
    pump(connection, lambda: other.basic_get(queue, auto_ack=True)[2] == b"held up")


def reconnect(connection):
    """As pika's own example of recovery: consume again whenever the connection was closed."""
    while True:
        try:
            channel = connection.channel()
            channel.queue_declare(name("queue"))
            channel.basic_consume(name("queue"), told)
            print("ready")
            channel.start_consuming()
            connection.close()
            return
        except ConnectionClosedByBroker as closed:
            assert closed.reply_code == 320, closed
            connection = again()
        except StreamLostError:
            connection = again()


def again():
    deadline = time.monotonic() + LIMIT_SECONDS
    while True:
        try:
            return connect()
        except AMQPConnectionError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def told(channel, method, _, body):
    print("got", body.decode())
    channel.basic_ack(method.delivery_tag)
    if body == b"after":
        channel.stop_consuming()


def run(scenario):
    connection = connect(heartbeat=1 if scenario is heartbeat else 30)
    scenario(connection)
    if connection.is_open:
        connection.close()


place.main(run, {
    each.__name__: each
    for each in (
        topology, confirms, returns, acks, prefetch, global_prefetch, get, large, headers,
        errors, tx, cancel_notify, reply_to, expiration, dead_letters, heartbeat, blocked,
        reconnect)})
