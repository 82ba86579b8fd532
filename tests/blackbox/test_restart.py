"""What is declared outlives the process, however it ends, and nothing else does."""

import threading

import pika
import pytest

from support import closes_channel, drain, eventually, exists, tells


@pytest.fixture(params=["stop", "kill"])
def restart(request, connect):
    """Ends a broker one way or the other, starts it again; a channel."""

    def again(broker, connection):
        if request.param == "stop":
            connection.close()
            broker.stop()
        else:
            kill(broker, connection)
        return connect(to=broker.start()).channel()

    return again


def kill(broker, connection):
    """Ends the broker with SIGKILL; the connection has heard of it."""
    broker.kill()
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        while True:
            connection.process_data_events(time_limit=1)


@pytest.mark.row("Exchanges", "After a restart")
def test_durable_exchanges_and_their_bindings(own_broker, connect, restart):
    broker = own_broker()
    channel = connect(to=broker).channel()
    channel.exchange_declare("logs", "topic", durable=True)
    channel.exchange_declare("all", "fanout", durable=True)
    lost = {"alternate-exchange": "all"}
    channel.exchange_declare("orders", "headers", durable=True, arguments=lost)
    for queue in ("errors", "everything", "rush"):
        channel.queue_declare(queue, durable=True)
    channel.queue_bind("errors", "logs", "*.error")
    channel.queue_bind("errors", "logs", "*.gone")
    channel.queue_unbind("errors", "logs", "*.gone")
    channel.exchange_bind("all", "logs", "#")
    channel.queue_bind("everything", "all")
    channel.queue_bind("rush", "orders", arguments={"x-match": "any", "rush": True})
    channel = restart(broker, channel.connection)
    for key in ("a.error", "a.gone"):
        channel.basic_publish("logs", key, key.encode())
    for rush in (True, False):
        properties = pika.BasicProperties(headers={"rush": rush})
        channel.basic_publish("orders", "", b"rush" if rush else b"slow", properties)
    assert drain(channel, "errors") == [b"a.error"]
    assert drain(channel, "everything") == [b"a.error", b"a.gone", b"slow"]
    assert drain(channel, "rush") == [b"rush"]


@pytest.mark.row("Exchanges", "After a restart")
def test_what_is_not_durable_is_gone(own_broker, connect, restart):
    broker = own_broker()
    channel = connect(to=broker).channel()
    channel.exchange_declare("transient", "fanout")
    channel.exchange_declare("durable", "fanout", durable=True)
    channel.queue_declare("kept", durable=True)
    channel.queue_declare("transient")
    channel.queue_declare("exclusive", durable=True, exclusive=True)
    channel.queue_bind("kept", "transient")
    channel.queue_bind("transient", "durable")
    channel.queue_bind("exclusive", "durable")
    channel.exchange_bind("transient", "durable")
    channel = restart(broker, channel.connection)
    assert exists(channel.connection, "kept")
    assert not exists(channel.connection, "transient")
    assert not exists(channel.connection, "exclusive")
    fresh = channel.connection.channel()
    closes_channel(
        fresh, lambda: fresh.exchange_declare("transient", passive=True), 404,
        "NOT_FOUND - no exchange 'transient' in vhost '/'")
    # None of the bindings is there: the exchange can be deleted while it has none.
    channel.exchange_delete("durable", if_unused=True)
    channel.exchange_declare("transient", "fanout")
    channel.basic_publish("transient", "", b"not bound any more")
    assert drain(channel, "kept") == []


@pytest.mark.row("Queues", "After a restart")
def test_what_was_deleted_does_not_come_back(own_broker, connect, restart):
    broker = own_broker()
    channel = connect(to=broker).channel()
    channel.exchange_declare("auto", "fanout", durable=True, auto_delete=True)
    channel.exchange_declare("deleted", "fanout", durable=True)
    channel.exchange_delete("deleted")
    for queue in ("deleted", "left"):
        channel.queue_declare(queue, durable=True, auto_delete=queue == "left")
    channel.queue_bind("deleted", "auto")
    channel.queue_delete("deleted")
    channel.basic_cancel(channel.basic_consume("left", lambda *_: None))
    eventually(lambda: not exists(channel.connection, "left"))
    channel.queue_declare("unused", durable=True, auto_delete=True)
    channel = restart(broker, channel.connection)
    for queue in ("deleted", "left"):
        assert not exists(channel.connection, queue)
    # It had no consumer that could have been the last.
    assert exists(channel.connection, "unused")
    for exchange in ("auto", "deleted"):
        fresh = channel.connection.channel()
        closes_channel(
            fresh, lambda: fresh.exchange_declare(exchange, passive=True), 404,
            f"NOT_FOUND - no exchange '{exchange}' in vhost '/'")


@pytest.mark.row("Queues", "After a restart")
def test_declared_otherwise_after_a_restart(own_broker, connect, restart):
    broker = own_broker()
    channel = connect(to=broker).channel()
    arguments = {"x-queue-mode": "lazy"}
    channel.queue_declare("q", durable=True, arguments=arguments)
    channel.exchange_declare("x", "topic", durable=True, internal=True)
    channel = restart(broker, channel.connection)
    assert channel.queue_declare("q", durable=True, arguments=arguments).method.message_count == 0
    channel.exchange_declare("x", "topic", durable=True, internal=True)
    fresh = channel.connection.channel()
    closes_channel(
        fresh, lambda: fresh.queue_declare("q", arguments=arguments), 406,
        "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': received "
        "'false' but current is 'true'")
    fresh = channel.connection.channel()
    closes_channel(
        fresh, lambda: fresh.exchange_declare("x", "fanout", durable=True, internal=True), 406,
        "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'x' in vhost '/': received "
        "'fanout' but current is 'topic'")


@pytest.mark.row("Handshake", "First user and vhost")
def test_the_first_user_is_made_once(own_broker, connect, restart):
    broker = own_broker(user="admin", password="1111")
    connection = connect(to=broker)
    # What the environment says now comes too late.
    broker.user, broker.password = "other", "2222"
    login = pika.PlainCredentials("admin", "1111")
    with pytest.raises(pika.exceptions.ProbableAuthenticationError, match="403"):
        restart(broker, connection)
    channel = connect(to=broker, credentials=login).channel()
    channel.queue_declare("mine", exclusive=True)


@pytest.mark.row("Queues", "After a restart")
def test_a_declared_queue_survives_any_end(own_broker, connect):
    broker = own_broker()
    told = []
    enough = threading.Event()

    def declare(client):
        channel = connect(to=broker).channel()
        try:
            for number in range(100_000):
                channel.queue_declare(f"{client}.{number}", durable=True)
                told.append(f"{client}.{number}")
                if len(told) > 60:
                    enough.set()
        except pika.exceptions.AMQPError:
            pass

    clients = [threading.Thread(target=declare, args=(client,)) for client in range(3)]
    for client in clients:
        client.start()
    assert enough.wait(30)
    broker.kill()
    for client in clients:
        client.join()
    channel = connect(to=broker.start()).channel()
    for queue in told:
        channel.queue_declare(queue, passive=True)


@pytest.mark.row("Queues", "After a restart")
def test_queues_find_a_home_on_other_shards(own_broker, connect):
    broker = own_broker()
    channel = connect(to=broker).channel()
    queues = [f"q{number}" for number in range(8)]
    for queue in queues:
        channel.queue_declare(queue, durable=True)
    # RabbitMQ has none: there it is the same again.
    for shards in (3, 1):
        channel.connection.close()
        broker.stop()
        broker.shards = shards
        channel = connect(to=broker.start()).channel()
        for queue in queues:
            channel.basic_publish("", queue, queue.encode())
        assert [drain(channel, queue) for queue in queues] == [[q.encode()] for q in queues]
    channel.queue_delete("q0")
    kill(broker, channel.connection)
    channel = connect(to=broker.start()).channel()
    assert [exists(channel.connection, queue) for queue in queues] == [False] + [True] * 7


@pytest.fixture
def file(own_broker, connect):
    """A broker that was killed, and its one file of metadata, where a queue was declared last."""
    broker = own_broker()
    if broker.target != "ringtail":
        pytest.skip("the files of RabbitMQ are its own")
    channel = connect(to=broker).channel()
    for queue in ("first", "last"):
        channel.queue_declare(queue, durable=True)
    kill(broker, channel.connection)
    [file] = (broker.folder / "data/meta").iterdir()
    return broker, file


def test_a_torn_end_is_cut_and_told(file, connect):
    broker, path = file
    path.write_bytes(path.read_bytes()[:-1])
    connection = connect(to=broker.start())
    assert exists(connection, "first") and not exists(connection, "last")
    tells(broker, "cut off")
    [line] = [line for line in broker.log().splitlines() if "cut off" in line]
    assert "WARN" in line and str(path) in line


@pytest.mark.parametrize("version", [False, True])
def test_files_that_cannot_be_read_are_refused(file, version):
    broker, path = file
    data = bytearray(path.read_bytes())
    data[11 if version else 30] ^= 1
    path.write_bytes(data)
    words = "version of Ringtail that wrote it" if version else "is damaged from byte 24 on"
    with pytest.raises(AssertionError, match=rf"(?s)exited 1.*{path}.*{words}"):
        broker.start()
