"""From the protocol header to connection.open-ok, heartbeats, and what is refused on the way."""

import socket
import time

import pika
import pytest
from pika import frame, spec

from support import Inbox, expect, publish
from wire import HEADER, Wire

CAPABILITIES = {
    "publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify",
    "connection.blocked", "consumer_priorities", "authentication_failure_close",
    "per_consumer_qos", "direct_reply_to"}
LOGIN_REFUSED = (
    "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. "
    "For details see the broker logfile.")


@pytest.mark.row("Handshake", "connection.start")
def test_start(raw):
    start = raw().started()
    assert (start.version_major, start.version_minor) == (0, 9)
    assert {b"PLAIN", b"AMQPLAIN"} <= set(start.mechanisms.split())
    assert start.locales == b"en_US"


@pytest.mark.row("Handshake", "server-properties")
def test_server_properties(broker, raw):
    properties = raw().started().server_properties
    assert properties["product"] == expect(
        broker, why="every server names its own product", ringtail="Ringtail", rabbitmq="RabbitMQ")
    offered = properties["capabilities"]
    assert {key for key, value in offered.items() if value is True} == set(offered)
    assert set(offered) == CAPABILITIES


@pytest.mark.row("Handshake", "connection.tune")
def test_tune(raw):
    tune = raw().tuned()
    assert (tune.channel_max, tune.frame_max, tune.heartbeat) == (2047, 131072, 60)


@pytest.mark.row("Handshake", "Another protocol header")
@pytest.mark.row("Not built yet", "AMQP 1.0")
@pytest.mark.parametrize("header", [
    b"AMQP\x00\x00\x09\x02", b"AMQP\x01\x01\x00\x0a", b"AMQP\x00\x00\x0a\x00",
    b"AMQP\x00\x00\x08\x00", b"AMQP\x03\x01\x00\x00", b"AMQP\x00\x01\x00\x00", b"HELO there",
    b"GET / HTTP/1.1\r\n\r\n"])
def test_a_wrong_protocol_header(raw, header):
    client = raw()
    client.write(header)
    answer = b""
    try:
        while data := client.socket.recv(100):
            answer += data
    except ConnectionResetError:
        pass
    assert answer == HEADER


@pytest.mark.row("Handshake", "Protocol header")
def test_the_older_header_of_0_9_1(raw):
    client = raw()
    client.write(b"AMQP\x01\x01\x00\x09")
    client.expect(spec.Connection.Start, 0)


@pytest.mark.row("Handshake", "Protocol header")
def test_a_header_in_pieces(raw):
    client = raw()
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in HEADER:
        client.write(bytes([byte]))
    client.expect(spec.Connection.Start, 0)


@pytest.mark.row("Handshake", "Refused login")
@pytest.mark.row("Errors", "Soft code on channel 0")
@pytest.mark.parametrize(("user", "password"), [("guest", "wrong"), ("nobody", "guest")])
def test_a_refused_login(raw, user, password):
    client = raw()
    client.started(user, password)
    client.refused(403, LOGIN_REFUSED)


@pytest.mark.row("Handshake", "Refused login, older client")
def test_a_refused_login_is_silent_without_the_capability(raw):
    client = raw(capabilities={})
    client.started("guest", "wrong")
    assert 2 < client.seconds_until_closed() < 8


@pytest.mark.row("Handshake", "Refused login")
def test_a_refused_login_as_pika_sees_it(connect):
    with pytest.raises(pika.exceptions.ProbableAuthenticationError, match="403"):
        connect(credentials=pika.PlainCredentials("guest", "wrong"))


@pytest.mark.row("Handshake", "Refused login")
def test_a_client_that_does_not_end_its_refused_connection(raw):
    client = raw()
    client.started("guest", "wrong")
    assert client.expect(spec.Connection.Close, 0).reply_code == 403
    assert 2 < client.seconds_until_closed() < 9


@pytest.mark.row("Handshake", "Guessed passwords")
def test_guesses_of_one_source_are_slow_and_others_do_not_wait(own_broker, connect):
    to = own_broker()
    working = connect(to)
    begin, refused = time.monotonic(), 0
    # After a second of them each takes a second.
    while time.monotonic() < begin + 3:
        with Wire(to) as client:
            client.started("guest", "wrong")
            client.refused(403, LOGIN_REFUSED)
        refused += 1
        working.process_data_events()
        working.channel().close()
    slow = refused <= 11
    assert slow == expect(
        to, why="RabbitMQ answers each at once",
        ringtail=True, rabbitmq=False)
    # A right password is answered at once, since no more than a second is due.
    assert connect(to).is_open


@pytest.mark.row("Handshake", "PLAIN and AMQPLAIN")
def test_amqplain(raw):
    client = raw()
    login = b"\x05LOGINS\x00\x00\x00\x05guest\x08PASSWORDS\x00\x00\x00\x05guest"
    client.started(mechanism="AMQPLAIN", response=login.decode("latin-1"))
    client.expect(spec.Connection.Tune, 0)


def refused_before_open(broker, client, code, text):
    """The refusal of a handshake, for which 3.10 has no words."""
    if expect(
            broker, why="3.10 writes the reason to its log, waits 3 s and drops the socket; "
            "Ringtail tells the client",
            ringtail=True, rabbitmq=False):
        client.refused(code, text)
    else:
        assert client.until_closed() == []


@pytest.mark.row("Handshake", "Close by the client")
@pytest.mark.row("Queues", "Exclusive and durable")
def test_exclusive_queues_are_gone_at_close_ok(raw, channel, name):
    for durable in (False, True) * 5:
        client, queues = raw().opened(), [name() for _ in range(8)]
        for queue in queues:
            declare = spec.Queue.Declare(queue=queue, exclusive=True, durable=durable)
            client.call(1, declare, spec.Queue.DeclareOk)
        client.call(0, spec.Connection.Close(200, "", 0, 0), spec.Connection.CloseOk)
        for queue in queues:
            channel.queue_declare(queue, exclusive=True)


@pytest.mark.row("Handshake", "Missing vhost")
def test_a_missing_vhost(raw):
    client = raw()
    client.tuned()
    client.send(0, spec.Connection.Open("nosuch"))
    client.refused(530, "NOT_ALLOWED - vhost nosuch not found")


HIGH = "{} is higher than the maximum allowed value ({})"
LOW = "{} is lower than the minimum allowed value ({})"
REFUSALS = [
    ({"frame_max": 0}, HIGH.format("frame_max = 0 (no limit)", 131072)),
    ({"frame_max": 131073}, HIGH.format("frame_max = 131073", 131072)),
    ({"frame_max": 4095}, LOW.format("frame_max = 4095", 4096)),
    ({"channel_max": 0}, HIGH.format("channel_max = 0 (no limit)", 2047)),
    ({"channel_max": 2048}, HIGH.format("channel_max = 2048", 2047)),
]


@pytest.mark.row("Handshake", "tune-ok out of bounds")
@pytest.mark.parametrize(("tune", "explanation"), REFUSALS, ids=lambda value: str(value)[:20])
def test_refused_tuning(broker, raw, tune, explanation):
    client = raw()
    client.tuned(**tune)
    refused_before_open(broker, client, 530, f"NOT_ALLOWED - negotiated {explanation}")


@pytest.mark.row("Handshake", "tune-ok")
@pytest.mark.parametrize("tune", [
    {"frame_max": 4096}, {"frame_max": 8192}, {"channel_max": 1}, {"heartbeat": 0}, {"heartbeat": 600}], ids=str)
def test_accepted_tuning(raw, tune):
    raw().opened(**tune)


@pytest.mark.row("Handshake", "Pipelined handshake")
def test_everything_in_one_write(raw):
    client = raw()
    start_ok = spec.Connection.StartOk({}, "PLAIN", "\0guest\0guest", "en_US")
    client.write(HEADER)
    client.expect(spec.Connection.Start)
    client.send(0, start_ok, spec.Connection.TuneOk(10, 8192, 0), spec.Connection.Open("/"))
    client.send(1, spec.Channel.Open())
    client.expect(spec.Connection.Tune)
    client.expect(spec.Connection.OpenOk)
    client.expect(spec.Channel.OpenOk, 1)


@pytest.mark.row("Handshake", "Close by the client")
def test_a_close_is_answered(raw):
    client = raw().opened(channels=3)
    client.call(0, spec.Connection.Close(200, "bye", 0, 0), spec.Connection.CloseOk)
    # The client ends the socket; nothing else may come before it does.
    client.socket.shutdown(socket.SHUT_WR)
    assert client.until_closed() == []


@pytest.mark.row("Handshake", "Handshake not finished")
def test_an_unfinished_handshake_is_dropped(raw):
    silent, started = raw(seconds=20), raw(seconds=20)
    started.write(HEADER)
    started.expect(spec.Connection.Start, 0)
    began = time.monotonic()
    for client in (silent, started):
        client.until_closed()
        assert 7 < time.monotonic() - began < 15


@pytest.mark.row("Handshake", "Heartbeats sent")
def test_an_idle_client_with_heartbeats_is_kept(connect, name):
    connection = connect(heartbeat=1)
    channel, queue = connection.channel(), name()
    channel.queue_declare(queue, exclusive=True)
    inbox = Inbox(channel, queue)
    connection.sleep(4)
    publish(channel, queue, b"still here")
    inbox.exactly(1)


@pytest.mark.row("Handshake", "Heartbeats expected")
def test_a_silent_client_is_dropped(raw):
    client = raw().opened(heartbeat=1)
    assert 1.5 < client.seconds_until_closed() < 4


@pytest.mark.row("Handshake", "Heartbeats sent")
def test_the_broker_sends_heartbeats(raw):
    client = raw().opened(heartbeat=1)
    began = time.monotonic()
    for _ in range(3):
        assert isinstance(client.read(), frame.Heartbeat)
        client.write(frame.Heartbeat().marshal())
    assert time.monotonic() - began < 4


@pytest.mark.row("Handshake", "Heartbeats expected")
def test_other_traffic_counts_as_a_heartbeat(raw):
    client = raw().opened(heartbeat=1)
    began = time.monotonic()
    while time.monotonic() - began < 3.5:
        assert isinstance(client.read(), frame.Heartbeat)
        client.call(1, spec.Basic.Qos(prefetch_count=1), spec.Basic.QosOk)


@pytest.mark.row("Handshake", "Heartbeat 0")
def test_without_heartbeats_none_are_sent_and_none_expected(raw):
    client = raw().opened(heartbeat=0)
    client.socket.settimeout(3)
    with pytest.raises(TimeoutError):
        client.read()
    client.call(1, spec.Basic.Qos(prefetch_count=1), spec.Basic.QosOk)
