"""Scenarios through kombu, on py-amqp."""

import datetime
import time

import amqp.exceptions
import kombu
from kombu.mixins import ConsumerMixin
from kombu.transport import native_delayed_delivery as delays

import place
from place import name

LIMIT_SECONDS = 30
LARGE = bytes(range(256)) * 6000
DIRECT = "amq.rabbitmq.reply-to"


def connect(heartbeat=30, user=place.USER, **options):
    return kombu.Connection(
        hostname=place.HOST, port=place.PORT, userid=user, password=place.PASSWORD,
        heartbeat=heartbeat, transport_options={"confirm_publish": True, **options})


def pump(connection, condition):
    """Handles what arrives until the condition holds."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        try:
            connection.drain_events(timeout=0.1)
        except TimeoutError:
            continue


def own(channel):
    queue = kombu.Queue(name("queue"), exclusive=True, durable=False)(channel)
    queue.declare()
    return queue


def filled(connection, count):
    """A queue of this connection that holds messages 0, 1, 2 ..."""
    channel = connection.channel()
    queue = own(channel)
    for number in range(count):
        kombu.Producer(channel).publish(number, routing_key=queue.name)
    return queue


def ready(queue):
    return queue.queue_declare(passive=True).message_count


def collect(channel, queue, **settings):
    """A consumer that keeps what it gets."""
    got = []
    consumer = kombu.Consumer(
        channel, [queue], on_message=got.append, auto_declare=False, **settings)
    consumer.consume()
    return got, consumer


def topology(connection):
    channel = connection.channel()
    logs = kombu.Exchange(name("logs"), "topic")
    further = kombu.Exchange(name("further"), "fanout", durable=False, auto_delete=True)
    logs, further = logs(channel), further(channel)
    logs.declare()
    further.declare()
    logs.declare(passive=True)
    queue = kombu.Queue(name("queue"), further)(channel)
    queue.declare()
    further.bind_to(logs, "kern.*")
    got, consumer = collect(channel, queue, no_ack=True)
    producer = kombu.Producer(connection.channel(), logs)
    for key in ("kern.info", "cron.info", "kern.crit"):
        producer.publish(key, routing_key=key)
    pump(connection, lambda: len(got) == 2)
    assert [message.payload for message in got] == ["kern.info", "kern.crit"]
    assert got[0].delivery_info["exchange"] == logs.name
    consumer.cancel()
    further.unbind_from(logs, "kern.*")
    queue.unbind_from(further)
    queue.delete()
    logs.delete()


def confirms(connection):
    queue = filled(connection, 100)
    assert ready(queue) == 100
    assert queue.purge() == 100


def returns(connection):
    heard = []
    producer = kombu.Producer(connection.channel(), on_return=lambda *all: heard.append(all))
    producer.publish({"lost": 1}, routing_key=name("nowhere"), mandatory=True)
    pump(connection, lambda: heard)
    error, exchange, key, message = heard[0]
    assert (error.reply_code, error.reply_text) == (312, "NO_ROUTE")
    assert (exchange, key, message.body) == ("", name("nowhere"), '{"lost": 1}')


def acks(connection):
    queue, channel = filled(connection, 5), connection.channel()
    got, consumer = collect(channel, queue)
    pump(connection, lambda: len(got) == 5)
    got[1].ack(multiple=True)
    got[2].reject()
    got[3].requeue()
    got[4].ack()
    pump(connection, lambda: len(got) == 6)
    assert (got[5].payload, got[5].delivery_info["redelivered"]) == (3, True)
    consumer.recover(requeue=True)
    pump(connection, lambda: len(got) == 7)
    got[6].ack()
    assert ready(queue) == 0
    consumer.cancel()


def prefetch(connection):
    queue, channel = filled(connection, 10), connection.channel()
    channel.basic_qos(0, 3, False)
    got, _ = collect(channel, queue)
    pump(connection, lambda: len(got) == 3)
    assert ready(queue) == 7
    got[0].ack()
    pump(connection, lambda: len(got) == 4)
    assert ready(queue) == 6


def global_prefetch(connection):
    queue, channel = filled(connection, 10), connection.channel()
    channel.basic_qos(0, 3, True)
    first, _ = collect(channel, queue)
    second, _ = collect(channel, queue)
    pump(connection, lambda: len(first) + len(second) == 3)
    assert ready(queue) == 7
    for message in first + second:
        message.ack()
    pump(connection, lambda: len(first) + len(second) == 6)
    assert ready(queue) == 4


def get(connection):
    queue = filled(connection, 2)
    message = queue.get()
    assert (message.payload, message.delivery_info["redelivered"]) == (0, False)
    message.requeue()
    message = queue.get()
    assert (message.payload, message.delivery_info["redelivered"]) == (0, True)
    message.ack()
    assert queue.get(no_ack=True).payload == 1
    assert queue.get() is None
    with connection.SimpleQueue(name("simple")) as simple:
        simple.put({"to": "be"})
        message = simple.get(timeout=LIMIT_SECONDS)
        message.ack()
        assert message.payload == {"to": "be"}


def large(connection):
    queue = own(connection.channel())
    producer = kombu.Producer(connection.channel())
    for body in (LARGE, b"", LARGE[:131064], LARGE[:131065]):
        producer.publish(
            body, routing_key=queue.name, content_type="application/data",
            content_encoding="binary")
        # An empty body comes back as an empty text.
        assert (queue.get(no_ack=True).body or b"") == body
    producer.publish("x" * (1 << 20), routing_key=queue.name, compression="zlib")
    assert queue.get(no_ack=True).payload == "x" * (1 << 20)


def headers(connection):
    queue = own(connection.channel())
    table = {
        "text": "grün", "true": True, "false": False, "small": -7, "large": 1 << 60,
        "double": 2.5, "none": None, "time": datetime.datetime(2020, 1, 2, 3, 4, 5),
        "list": [1, "two", None, [3]], "table": {"inner": {"deep": 1}}}
    properties = {
        "delivery_mode": 2, "priority": 3, "correlation_id": "c", "reply_to": "r",
        "message_id": "m", "timestamp": 1577934245, "type": "t", "user_id": place.USER,
        "app_id": "a"}
    kombu.Producer(connection.channel()).publish(
        {"k": 1}, routing_key=queue.name, headers=table, **properties)
    back = queue.get(no_ack=True)
    assert back.headers == table, back.headers
    assert {key: back.properties[key] for key in properties} == {
        **properties, "timestamp": back.properties["timestamp"]}, back.properties
    assert back.payload == {"k": 1}


def errors(connection):
    queue = own(connection.channel())
    closes(connection, amqp.exceptions.NotFound, lambda channel: channel.queue_declare(
        name("no"), passive=True))
    closes(connection, amqp.exceptions.PreconditionFailed, lambda channel: channel.queue_declare(
        queue.name, exclusive=True, auto_delete=False))
    closes(connection, amqp.exceptions.AccessRefused, lambda channel: channel.exchange_delete(
        "amq.topic"))
    with connect() as other:
        closes(other, amqp.exceptions.ResourceLocked, lambda channel: channel.basic_get(
            queue.name))
    try:
        connect(user="no").connect()
    except amqp.exceptions.AccessRefused as refused:
        assert refused.reply_code == 403
    else:
        raise AssertionError("logged in")


def closes(connection, kind, action):
    """The channel is closed with this error; the connection goes on."""
    channel = connection.channel()
    try:
        action(channel)
    except kind as closed:
        assert isinstance(closed, connection.channel_errors)
    else:
        raise AssertionError(f"not refused with {kind}")
    connection.channel().close()


def tx(connection):
    with kombu.Connection(place.URL) as plain:
        channel, queue = plain.channel(), filled(plain, 1)
        channel.tx_select()
        message = channel.basic_get(queue.name)
        channel.basic_publish(amqp.Message("committed"), "", queue.name)
        channel.basic_ack(message.delivery_tag)
        assert ready(queue) == 0
        channel.tx_commit()
        assert queue.get(no_ack=True).body == "committed"
        channel.basic_publish(amqp.Message("rolled back"), "", queue.name)
        channel.tx_rollback()
        channel.tx_commit()
        assert ready(queue) == 0


def cancel_notify(connection):
    channel = connection.channel()
    queue = kombu.Queue(name("doomed"), durable=False)(channel)
    queue.declare()
    _, consumer = collect(channel, queue)
    try:
        connection.channel().queue_delete(queue.name)
        pump(connection, lambda: False)
    except amqp.exceptions.ConsumerCancelled as cancelled:
        assert isinstance(cancelled, connection.connection_errors)
    connection.channel().close()


def reply_to(connection):
    queue, channel = own(connection.channel()), connection.channel()
    answers, _ = collect(channel, kombu.Queue(DIRECT, no_declare=True), no_ack=True)
    kombu.Producer(channel).publish("question", routing_key=queue.name, reply_to=DIRECT)
    asked = queue.get(no_ack=True)
    with connect() as server:
        kombu.Producer(server.channel()).publish(
            "answer to " + asked.payload, routing_key=asked.properties["reply_to"])
    pump(connection, lambda: answers)
    assert answers[0].payload == "answer to question"


def expiration(connection):
    queue = own(connection.channel())
    producer = kombu.Producer(connection.channel())
    producer.publish("kept", routing_key=queue.name, expiration=60)
    assert queue.get(no_ack=True).properties["expiration"] == "60000"
    producer.publish("gone", routing_key=queue.name, expiration=0)
    assert ready(queue) == 0


def dead_letters(connection):
    channel = connection.channel()
    dead = own(channel)
    waiting = kombu.Queue(
        name("waiting"), exclusive=True, durable=False, message_ttl=60, queue_arguments={
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead.name})(channel)
    waiting.declare()
    got, _ = collect(channel, dead, no_ack=True)
    producer = kombu.Producer(channel)
    producer.publish("rejected", routing_key=waiting.name)
    waiting.get().reject()
    pump(connection, lambda: len(got) == 1)
    producer.publish("expired", routing_key=waiting.name, expiration=0.02)
    pump(connection, lambda: len(got) == 2)
    for message, further in zip(got, ({}, {"original-expiration": "20"})):
        [death] = message.headers["x-death"]
        assert isinstance(death.pop("time"), datetime.datetime)
        assert death == {
            "count": 1, "reason": message.payload, "queue": waiting.name, "exchange": "",
            "routing-keys": [waiting.name], **further}, death
        assert message.headers["x-first-death-reason"] == message.payload
        assert "expiration" not in message.properties


def delayed_delivery(connection):
    """Delays by kombu's own chain of 28 queues, one for each bit of the seconds."""
    channel, prefix = connection.channel(), name("kombu")
    queue = kombu.Queue(name("tasks"), kombu.Exchange(name("tasks"), "topic"), "task.#")(channel)
    queue.declare()
    delays.declare_native_delayed_delivery_exchanges_and_queues(connection, "classic", prefix)
    delays.bind_queue_to_native_delayed_delivery_exchange(connection, queue, prefix)
    got, _ = collect(channel, queue, no_ack=True)
    begin = time.monotonic()
    for seconds in (3, 1, 2):
        level = delays.level_name(seconds.bit_length() - 1, prefix)
        kombu.Producer(channel).publish(
            seconds, exchange=level, routing_key=delays.calculate_routing_key(seconds, "task.a"))
    for count in (1, 2, 3):
        pump(connection, lambda: len(got) == count)
        assert got[-1].payload == count
        assert time.monotonic() - begin >= count
    assert [(death["queue"], death["count"]) for death in got[2].headers["x-death"]] == [
        (delays.level_name(level, prefix), 1) for level in (0, 1)]


def heartbeat(connection):
    """The library leaves it to its user to look after heartbeats."""
    assert connection.get_heartbeat_interval() == 1
    end = time.monotonic() + 5
    while time.monotonic() < end:
        connection.heartbeat_check()
        try:
            connection.drain_events(timeout=0.3)
        except TimeoutError:
            continue
    connection.channel().close()


def blocked(connection):
    heard = []
    with kombu.Connection(place.URL, transport_options={
            "on_blocked": lambda reason: heard.append(f"blocked: {reason}"),
            "on_unblocked": lambda: heard.append("unblocked")}) as unconfirmed:
        queue = own(unconfirmed.channel())
        kombu.Producer(unconfirmed.channel()).publish("held up", routing_key=queue.name)
        pump(unconfirmed, lambda: heard)
        print(heard[0])
        pump(unconfirmed, lambda: heard[-1] == "unblocked")
        pump(unconfirmed, lambda: queue.get(no_ack=True))


class Worker(ConsumerMixin):
    """Nothing but what the mixin does by itself: it connects, declares and consumes again."""

    connect_max_retries = 100

    def __init__(self, connection):
        self.connection = connection

    def get_consumers(self, Consumer, channel):
        return [Consumer([kombu.Queue(name("queue"), durable=False)], on_message=self.told,
                         accept=None)]

    def on_consume_ready(self, *_, **__):
        print("ready")

    def told(self, message):
        body = bytes(message.body, "ascii") if isinstance(message.body, str) else message.body
        print("got", bytes(body).decode())
        message.ack()
        self.should_stop = bytes(body) == b"after"


def reconnect(connection):
    Worker(connection).run()


def run(scenario):
    with connect(1 if scenario is heartbeat else 30) as connection:
        scenario(connection)


place.main(run, {
    each.__name__: each
    for each in (
        topology, confirms, returns, acks, prefetch, global_prefetch, get, large, headers,
        errors, tx, cancel_notify, reply_to, expiration, dead_letters, delayed_delivery,
        heartbeat, blocked, reconnect)})
