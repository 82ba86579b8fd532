"""Starting and stopping the process, and its first user."""

import pika
import pytest
from pika import spec

import brokers
import wire
from support import drain, eventually, exists, expect

STOPPED = "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"


@pytest.mark.row("Handshake", "Shutdown")
def test_sigterm_tells_every_client(own_broker):
    broker = own_broker()
    clients = [wire.Wire(broker).opened() for _ in range(5)]
    broker.process.terminate()
    for client in clients:
        with client:
            close = client.expect(spec.Connection.Close, 0)
            assert (close.reply_code, close.reply_text) == (320, STOPPED)
    assert broker.stopped() == 0
    eventually(lambda: brokers.port_is_free(broker.port))


def test_a_client_that_does_not_answer_does_not_stop_the_stop(own_broker):
    broker = own_broker()
    with wire.Wire(broker) as silent, wire.Wire(broker) as unborn:
        silent.opened()
        unborn.write(wire.HEADER)
        assert broker.stop() == 0


def test_the_first_user_comes_from_the_environment(own_broker, connect):
    broker = own_broker(user="admin", password="1111")
    channel = connect(to=broker).channel()
    channel.exchange_declare("cafe.topic", "topic", durable=True)
    for login in (("guest", "guest"), ("admin", "guest")):
        with pytest.raises(pika.exceptions.ProbableAuthenticationError, match="403"):
            connect(to=broker, credentials=pika.PlainCredentials(*login))
    url = f"amqp://admin:1111@{broker.host}:{broker.port}/"
    by_url = pika.BlockingConnection(pika.URLParameters(url))
    by_url.channel().exchange_declare("cafe.topic", passive=True)
    by_url.close()


def test_a_taken_port_is_refused(broker, own_broker):
    with pytest.raises(AssertionError, match="rabbitmq exited|ringtail exited [1-9]"):
        own_broker(port=broker.port)


@pytest.mark.row("Publish, return, confirm", "After a restart")
def test_what_outlives_a_restart(own_broker, connect):
    broker = own_broker()
    channel = connect(to=broker).channel()
    channel.queue_declare("durable", durable=True)
    channel.queue_declare("transient", durable=False)
    for mode in (1, 2):
        properties = pika.BasicProperties(delivery_mode=mode)
        channel.confirm_delivery()
        channel.basic_publish("", "durable", b"%d" % mode, properties)
    channel.connection.close()
    broker.stop()
    channel = connect(to=broker.start()).channel()
    assert drain(channel, "durable") == [b"2"]
    assert not exists(channel.connection, "transient")
    channel.connection.close()
