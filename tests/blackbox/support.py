"""What every test uses: waiting, expectations per target, a client that collects."""

import time

import pika
import pika.exceptions

DEADLINE_SECONDS = 15


def eventually(condition, seconds=DEADLINE_SECONDS, why=None, pause=0.02):
    """Polls until `condition()` is true and returns its value; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(why() if why else f"not within {seconds} s")
        time.sleep(pause)


def tells(broker, *texts):
    """Awaits that the broker has logged each of the texts: it does so behind its work."""
    for text in texts:
        eventually(lambda: text in broker.log(), why=lambda: f"not logged: {text}")


def expect(broker, *, why, **by_target):
    """The expectation of the broker under test where targets differ, and the reason why they do."""
    assert why, "a difference between targets needs its reason"
    return by_target[broker.target]


def pump(connection, condition, seconds=DEADLINE_SECONDS):
    """Handles what arrives on a pika connection until `condition()` is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        left = deadline - time.monotonic()
        assert left > 0, f"not within {seconds} s"
        connection.process_data_events(time_limit=min(left, 0.05))


def settle(connection):
    """One round trip: whatever the broker had sent before its answer has been handled after it."""
    channel = connection.channel()
    channel.close()
    connection.process_data_events(time_limit=0)


class Delivery:
    """One delivered message."""

    def __init__(self, channel, method, properties, body):
        self.channel = channel
        self.method = method
        self.properties = properties
        self.body = body
        self.tag = method.delivery_tag

    def ack(self, multiple=False):
        self.channel.basic_ack(self.tag, multiple)


class Inbox:
    """A consumer that keeps what it gets."""

    def __init__(self, channel, queue, **consume):
        self.channel = channel
        self.deliveries = []
        self.cancelled = False
        channel.add_on_cancel_callback(self._on_cancel)
        self.tag = channel.basic_consume(queue, self._on_message, **consume)

    def _on_cancel(self, frame):
        if frame.method.consumer_tag == self.tag:
            self.cancelled = True

    def _on_message(self, channel, method, properties, body):
        self.deliveries.append(Delivery(channel, method, properties, body))

    @property
    def bodies(self):
        return [delivery.body for delivery in self.deliveries]

    def wait(self, count, seconds=DEADLINE_SECONDS):
        """Waits for `count` messages in all and returns them."""
        pump(self.channel.connection, lambda: len(self.deliveries) >= count, seconds)
        return self.deliveries

    def exactly(self, count):
        """As `wait`, and nothing more was on its way when the broker answered a round trip."""
        self.wait(count)
        settle(self.channel.connection)
        assert len(self.deliveries) == count, self.bodies
        return self.deliveries


def closes_channel(channel, action, code, text):
    """`action` makes the broker close this channel, and only this one, with this code and text."""

    def act():
        action()
        channel.exchange_declare("amq.direct", passive=True)

    _closes(pika.exceptions.ChannelClosedByBroker, act, code, text)
    assert channel.is_closed
    channel.connection.channel().close()


def closes_connection(connection, action, code, text):
    """`action` makes the broker close the connection with this code and text."""

    def act():
        action()
        settle(connection)

    _closes(pika.exceptions.ConnectionClosedByBroker, act, code, text)
    assert connection.is_closed


def _closes(kind, action, code, text):
    try:
        action()
    except kind as closed:
        assert (closed.reply_code, closed.reply_text) == (code, text)
    else:
        raise AssertionError(f"not refused with {code} {text}")


def count(channel, queue):
    """Ready messages, by passive declaration."""
    return channel.queue_declare(queue, passive=True).method.message_count


def consumers(channel, queue):
    """Consumers, by passive declaration."""
    return channel.queue_declare(queue, passive=True).method.consumer_count


def publish(channel, queue, *bodies, exchange=""):
    """Publishes bodies in order and waits until the broker has confirmed them all."""
    confirming = channel.connection.channel()
    confirming.confirm_delivery()
    for body in bodies:
        confirming.basic_publish(exchange, queue, body)
    confirming.close()


def drain(channel, queue):
    """Takes every ready message with basic.get and returns the bodies."""
    bodies = []
    while True:
        method, _, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return bodies
        bodies.append(body)


def exists(connection, queue):
    """Whether a queue of this name is there, asked on a channel of its own."""
    channel = connection.channel()
    try:
        channel.queue_declare(queue, passive=True)
    except pika.exceptions.ChannelClosedByBroker as closed:
        assert closed.reply_code in (404, 405), closed
        # 405: there, but another connection's.
        return closed.reply_code == 405
    channel.close()
    return True
