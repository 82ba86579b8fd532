"""The end of a connection: what the client still gets, whatever it goes on sending."""

import socket
import threading
import time

import pika
import pytest
from pika import frame, spec

import wire
from support import eventually, expect
from wire import HEADER, Wire, header, message, raw_frame

MEBIBYTE = bytes(1 << 20)
CLOSE = spec.Connection.Close(200, "bye", 0, 0)
SECOND_OPEN = frame.Method(1, spec.Channel.Open()).marshal()
BAD_END = raw_frame(1, 1, b"\x00\x3c\x00\x0a\x00\x00\x00\x00\x00\x01\x00", end=0)
TOO_LARGE = raw_frame(3, 1, bytes(200_000))
UNKNOWN_TYPE = raw_frame(9, 1, b"")
OFFENCES = {
    "second open": (SECOND_OPEN, 504), "bad end": (BAD_END, 501), "too large": (TOO_LARGE, 501),
    "unknown type": (UNKNOWN_TYPE, 501), "body first": (frame.Body(1, b"x").marshal(), 505)}


def write_on(client, megabytes):
    """Sends in another thread whatever the broker does; returns the thread and what ended it."""
    ended = []

    def write():
        try:
            for _ in range(megabytes):
                client.socket.sendall(MEBIBYTE)
        except OSError as error:
            ended.append(error)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return thread, ended


@pytest.mark.row("Framing", "Close while the client writes")
@pytest.mark.parametrize("offence", OFFENCES)
def test_the_reason_is_read_behind_much_that_was_sent(broker, raw, offence):
    client = raw().opened()
    sent_bytes, code = OFFENCES[offence]
    client.write(sent_bytes)
    more = expect(
        broker, why="3.10 does not read on when it has lost step, and resets the connection",
        ringtail=16, rabbitmq=0 if code == 501 else 16)
    client.write(message(1, "", "nobody", MEBIBYTE) * more)
    close = client.expect(spec.Connection.Close, 0)
    assert close.reply_code == code
    client.send(0, spec.Connection.CloseOk())
    assert client.until_closed() == []


@pytest.mark.row("Framing", "Close while the client writes")
@pytest.mark.parametrize("offence", ["bad end", "too large"])
def test_a_client_that_never_stops_writing_reads_the_reason(raw, offence):
    client = raw().opened()
    sent_bytes, code = OFFENCES[offence]
    client.write(sent_bytes)
    thread, _ = write_on(client, 64)
    assert client.expect(spec.Connection.Close, 0).reply_code == code
    client.socket.shutdown(socket.SHUT_RDWR)
    thread.join(10)
    assert not thread.is_alive()


def test_a_refused_login_is_read_behind_much_that_was_sent(broker, raw):
    client = raw()
    client.started("guest", "wrong")
    more = expect(
        broker, why="3.10 takes what no client may send yet for another offence and resets",
        ringtail=4, rabbitmq=0)
    client.write(message(1, "", "nobody", MEBIBYTE) * more)
    assert client.expect(spec.Connection.Close, 0).reply_code == 403


def test_a_wrong_header_is_answered_before_much_that_was_sent(broker, raw):
    client = raw()
    client.write(b"GET / HTTP/1.1\r\n\r\n" + MEBIBYTE)
    if expect(
            broker, why="3.10 closes without reading on, so its answer may be lost",
            ringtail=True, rabbitmq=False):
        assert client.socket.recv(8, socket.MSG_WAITALL) == HEADER


@pytest.mark.row("Errors", "close-ok that never comes")
def test_a_client_that_does_not_answer_is_closed(raw, connect, name):
    queue, client = name(), raw().opened()
    client.call(1, spec.Queue.Declare(queue=queue, exclusive=True), spec.Queue.DeclareOk)
    client.send(1, spec.Channel.Open())
    assert client.expect(spec.Connection.Close, 0).reply_code == 504
    # It says nothing more; all the same its exclusive queue goes at once.

    def is_free():
        channel = connect().channel()
        try:
            channel.queue_declare(queue, exclusive=True)
        except pika.exceptions.ChannelClosedByBroker:
            return False
        return True

    eventually(is_free)


@pytest.mark.row("Errors", "Closes of both sides cross")
def test_close_and_close_cross(raw):
    client = raw().opened()
    client.write(SECOND_OPEN)
    client.send(0, CLOSE)
    assert client.expect(spec.Connection.Close, 0).reply_code == 504
    client.expect(spec.Connection.CloseOk, 0)
    # The broker waits for its close-ok and answers until then.
    client.call(0, CLOSE, spec.Connection.CloseOk)
    client.send(0, spec.Connection.CloseOk())
    assert client.until_closed() == []


@pytest.mark.row("Handshake", "End of the socket after close-ok")
@pytest.mark.parametrize("exclusive", [False, True])
def test_the_client_ends_the_socket_after_close_ok(raw, name, exclusive):
    client = raw().opened(channels=3)
    declare = spec.Queue.Declare(queue=name(), exclusive=exclusive, auto_delete=True)
    client.call(2, declare, spec.Queue.DeclareOk)
    client.send(0, CLOSE, CLOSE)
    for _ in range(2):
        client.expect(spec.Connection.CloseOk, 0)
    client.write(message(1, "", "nobody", b"too late"))
    client.send(1, spec.Channel.Open(), spec.Channel.Close(200, "", 0, 0))
    client.call(0, CLOSE, spec.Connection.CloseOk)


@pytest.mark.row("Handshake", "End of the socket after close-ok")
def test_a_client_that_keeps_its_socket_after_close_ok_is_closed(raw):
    client = raw().opened(heartbeat=2)
    client.call(0, CLOSE, spec.Connection.CloseOk)
    # The broker of the 3.10 series goes on sending heartbeats.
    assert 1 < client.seconds_until_closed() < 8


def test_a_stop_does_not_wait_for_clients_that_closed(own_broker):
    broker = own_broker()
    with Wire(broker) as client:
        client.opened()
        client.call(0, CLOSE, spec.Connection.CloseOk)
        begin = time.monotonic()
        broker.stop()
        assert time.monotonic() - begin < 15


def test_a_partial_message_ends_with_its_connection(raw, channel, shared):
    client = raw().opened()
    client.send(1, spec.Basic.Publish(exchange="", routing_key=shared))
    client.write(header(1, 100) + frame.Body(1, bytes(50)).marshal())
    client.call(0, spec.Connection.Close(200, "", 0, 0), spec.Connection.CloseOk)
    assert channel.queue_declare(shared, passive=True).method.message_count == 0


@pytest.mark.row("Handshake", "Close by the client")
def test_everything_of_a_client_is_gone_at_close_ok(raw, connect, name, shared):
    other = connect().channel()
    client, queues = raw().opened(channels=3), [name() for _ in range(20)]
    for number, queue in enumerate(queues):
        client.call(
            1 + number % 3, spec.Queue.Declare(queue=queue, exclusive=True), spec.Queue.DeclareOk)
    for number in (1, 2, 3):
        client.call(number, spec.Basic.Consume(queue=shared), spec.Basic.ConsumeOk)
    client.write(message(1, "", shared, b"body") * 3)
    for _ in range(3):
        client.expect(spec.Basic.Deliver)
        client.content()
    client.call(0, spec.Connection.Close(200, "", 0, 0), spec.Connection.CloseOk)
    for queue in queues:
        other.queue_declare(queue, exclusive=True)
    eventually(lambda: other.queue_declare(shared, passive=True).method.message_count == 3)
    assert other.queue_declare(shared, passive=True).method.consumer_count == 0


LOGGED = {
    "login": (lambda client: client.started("an'na", "wrong"), r"login refused: user 'an\'na' - "),
    "silent": (lambda client: client.started("guest", "wrong"),
               "PLAIN login refused: user 'guest' - invalid credentials"),
    "http": (lambda client: client.write(b"GET / HTTP/1.1\r\n"), "an HTTP request"),
    "tls": (lambda client: client.write(b"\x16\x03\x01\x02\x00\x01\x00\x01"), "a TLS client"),
    "offence": (lambda client: client.opened().write(UNKNOWN_TYPE), "unknown_frame"),
}


@pytest.mark.parametrize("what", LOGGED)
def test_the_log_says_why(broker, raw, what):
    client = raw(capabilities={} if what == "silent" else wire.CAPABILITIES)
    port = client.socket.getsockname()[1]
    act, words = LOGGED[what]
    act(client)
    client.next()
    client.socket.close()
    if expect(broker, why="RabbitMQ's log has other words", ringtail=True, rabbitmq=False):
        start = f"closing AMQP connection {broker.host}:{port} -> "
        eventually(lambda: any(
            start in line and words in line for line in broker.log().splitlines()))
