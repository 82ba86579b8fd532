"""Limits that the configuration file sets: what is offered, and what is refused beyond them."""

import socket
import struct
import subprocess

import pika
import pytest
from pika import frame, spec

from support import closes_channel, eventually, expect, tells
from wire import HEADER, Wire, header, raw_frame

NEWER = "3.10 does not know this setting yet"


def only_ringtail(broker, why):
    """Leaves a test of what the other target does not have."""
    if not expect(broker, why=why, ringtail=True, rabbitmq=False):
        pytest.skip(why)


@pytest.mark.row("Handshake", "tune-ok out of bounds")
def test_what_is_offered(own_broker):
    to = own_broker(config="channel_max = 7\nframe_max = 65536\nheartbeat = 11\n")
    with Wire(to) as client:
        tune = client.tuned(7, 65536, 11)
        assert (tune.channel_max, tune.frame_max, tune.heartbeat) == (7, 65536, 11)
        client.call(0, spec.Connection.Open("/"), spec.Connection.OpenOk)
        client.call(7, spec.Channel.Open(), spec.Channel.OpenOk)
    for refused in ((8, 65536), (7, 0)):
        with Wire(to) as client:
            client.tuned(*refused)
            if expect(
                    to, why="3.10 waits 3 s and drops the socket without a word",
                    ringtail=True, rabbitmq=False):
                assert client.expect(spec.Connection.Close, 0).reply_code == 530
            else:
                assert client.until_closed() == []


@pytest.mark.row("Handshake", "No limit")
@pytest.mark.parametrize("tune", [(0, 0), (65535, 0), (0, 1 << 20)], ids=str)
def test_no_limit_takes_everything(own_broker, tune):
    to = own_broker(config="channel_max = 0\nframe_max = 0\n")
    body = bytes(300_000)
    with Wire(to) as client:
        offered = client.tuned(*tune)
        assert (offered.channel_max, offered.frame_max) == (0, 0)
        client.call(0, spec.Connection.Open("/"), spec.Connection.OpenOk)
        client.call(65535, spec.Channel.Open(), spec.Channel.OpenOk)
        client.call(
            65535, spec.Queue.Declare(queue="q", exclusive=True), spec.Queue.DeclareOk)
        client.call(65535, spec.Basic.Consume(queue="q"), spec.Basic.ConsumeOk)
        client.send(65535, spec.Basic.Publish(exchange="", routing_key="q"))
        client.write(header(65535, len(body)) + raw_frame(3, 65535, body))
        client.expect(spec.Basic.Deliver, 65535)
        assert client.content()[1] == body


@pytest.mark.row("Handshake", "Handshake not finished")
def test_the_handshake_timeout(own_broker):
    to = own_broker(config="handshake_timeout = 700\n")
    for said in (b"", HEADER):
        with Wire(to) as client:
            client.write(said)
            assert client.seconds_until_closed() < 7


@pytest.mark.row("Framing", "Frame too large before tuning")
def test_frames_before_tuning(own_broker):
    to = own_broker(config="initial_frame_max = 20000\n")
    start_ok = lambda size: spec.Connection.StartOk(
        {"padding": "x" * size, "capabilities": {"authentication_failure_close": True}},
        "PLAIN", "\0guest\0guest", "en_US")
    with Wire(to) as client:
        client.write(HEADER)
        client.expect(spec.Connection.Start)
        client.call(0, start_ok(18000), spec.Connection.Tune)
    with Wire(to) as client:
        client.write(HEADER)
        client.expect(spec.Connection.Start)
        client.send(0, start_ok(21000))
        if expect(
                to, why="3.10 waits 3 s and drops the socket without a word",
                ringtail=True, rabbitmq=False):
            assert client.expect(spec.Connection.Close).reply_code == 501
        else:
            assert client.until_closed() == []


@pytest.mark.row("Publish, return, confirm", "Larger than max_message_size")
def test_the_size_of_messages(own_broker, connect):
    channel = connect(own_broker(config="max_message_size = 1000\n")).channel()
    channel.confirm_delivery()
    channel.basic_publish("", "nobody", bytes(1000))
    closes_channel(
        channel, lambda: channel.basic_publish("", "nobody", bytes(1001)),
        406, "PRECONDITION_FAILED - message size 1001 is larger than configured max size 1000")


def refused_open(to, text):
    with Wire(to) as client:
        client.tuned()
        client.send(0, spec.Connection.Open("/"))
        client.refused(530, f"NOT_ALLOWED - {text}")


@pytest.mark.row("Handshake", "Limit of connections")
def test_the_number_of_connections(broker, own_broker, connect):
    only_ringtail(broker, "3.10 counts the connections that are being refused as well")
    to = own_broker(config="connection_max = 3\n")
    clients = [connect(to) for _ in range(3)]
    text = "connection refused: node connection limit (3) is reached"
    refused_open(to, text)
    refused_open(to, text)
    clients.pop().close()

    def another():
        try:
            return connect(to)
        except pika.exceptions.AMQPError:
            return None

    eventually(another).close()

    def vanishing():
        with Wire(to) as client:
            client.tuned()
            client.send(0, spec.Connection.Open("/"))
            return isinstance(client.next().method, spec.Connection.OpenOk)

    # A client that vanishes counts no longer either.
    eventually(vanishing)
    eventually(another)
    refused_open(to, text)


@pytest.mark.row("Handshake", "connection.update-secret")
def test_a_new_secret_needs_no_room_for_another_connection(own_broker):
    with Wire(own_broker(config="connection_max = 1\n")) as client:
        client.opened()
        update = spec.Connection.UpdateSecret(new_secret=b"guest", reason="it expired")
        client.call(0, update, spec.Connection.UpdateSecretOk)


@pytest.mark.row("Channels", "Limit of channels")
def test_the_number_of_channels_of_all_connections(broker, own_broker, connect):
    only_ringtail(broker, NEWER)
    to = own_broker(config="channel_max_per_node = 3\n")
    first = connect(to)
    channels = [first.channel() for _ in range(2)]
    second = connect(to)
    second.channel()
    with Wire(to) as client:
        client.opened(channels=0)
        client.send(1, spec.Channel.Open())
        close = client.expect(spec.Connection.Close, 0)
        assert close.reply_code == 530
        begin, end = close.reply_text.split("'")[::2]
        assert begin == "NOT_ALLOWED - number of channels opened on node "
        assert end == " has reached the maximum allowed limit of 3"
    channels.pop().close()

    def another():
        try:
            return connect(to).channel()
        except pika.exceptions.AMQPError:
            return None

    assert eventually(another).is_open


@pytest.mark.row("Consume, get, ack", "Limit of consumers")
def test_the_number_of_consumers(broker, own_broker):
    only_ringtail(broker, NEWER)
    with Wire(own_broker(config="consumer_max_per_channel = 2\n")) as client:
        client.opened(channels=2)
        client.call(1, spec.Queue.Declare(queue="q", exclusive=True), spec.Queue.DeclareOk)
        for channel in (1, 2, 1):
            client.call(channel, spec.Basic.Consume(queue="q"), spec.Basic.ConsumeOk)
        client.send(1, spec.Basic.Consume(queue="q", consumer_tag="x"))
        client.refused(530, "NOT_ALLOWED - reached maximum (2) of consumers per channel")


@pytest.mark.row("Queues", "Limit of queues")
def test_the_number_of_queues(broker, own_broker, connect):
    only_ringtail(broker, NEWER)
    connection = connect(own_broker(config="cluster_queue_limit = 2\n"))
    channel = connection.channel()
    channel.queue_declare("a")
    channel.queue_declare("b", exclusive=True)
    channel.queue_declare("a")
    closes_channel(
        channel, lambda: channel.queue_declare("c"), 406,
        "PRECONDITION_FAILED - cannot declare queue 'c': queue limit in cluster (2) is reached")
    channel = connection.channel()
    channel.queue_delete("a")
    channel.queue_declare("c")


@pytest.mark.row("Exchanges", "Limit of exchanges")
def test_the_number_of_exchanges(broker, own_broker, connect):
    only_ringtail(broker, NEWER)
    connection = connect(own_broker(config="cluster_exchange_limit = 8\n"))
    channel = connection.channel()
    channel.exchange_declare("a")
    channel.exchange_declare("a")
    closes_channel(
        channel, lambda: channel.exchange_declare("b"), 406,
        "PRECONDITION_FAILED - cannot declare exchange 'b' in vhost '/': "
        "exchange limit of 8 is reached")
    channel = connection.channel()
    channel.exchange_delete("a")
    channel.exchange_declare("b")


@pytest.mark.row("Handshake", "Unknown mechanism")
def test_mechanisms(own_broker):
    to = own_broker(config="auth_mechanisms.1 = AMQPLAIN\n")
    with Wire(to) as client:
        login = "\x05LOGINS\x00\x00\x00\x05guest\x08PASSWORDS\x00\x00\x00\x05guest"
        start = client.started(mechanism="AMQPLAIN", response=login)
        assert start.mechanisms == b"AMQPLAIN"
        client.expect(spec.Connection.Tune, 0)
    with Wire(to) as client:
        client.started()
        if expect(
                to, why="3.10 waits 3 s and drops the socket without a word",
                ringtail=True, rabbitmq=False):
            client.refused(503, "COMMAND_INVALID - invalid authentication mechanism 'PLAIN'")
        else:
            assert client.until_closed() == []


def test_socket_options_are_taken(own_broker, connect):
    options = {
        "backlog": 16, "nodelay": "true", "linger.on": "true", "linger.timeout": 3,
        "exit_on_close": "false", "sndbuf": 65536, "recbuf": 65536, "keepalive": "true"}
    lines = [f"tcp_listen_options.{key} = {value}\n" for key, value in options.items()]
    to = own_broker(config="".join(lines) + "num_acceptors.tcp = 2\n")
    connect(to).channel()
    assert "unknown key" not in to.log()


# How Ringtail reads its settings; RabbitMQ's own reading is not under test.


def test_an_unknown_key_is_named(broker, own_broker):
    only_ringtail(broker, "RabbitMQ refuses to start")
    to = own_broker(config="heartbeat = 5\n\nheartbaet = 5\nmanagement.tcp.port = 1\n")
    tells(to, "line 3: unknown key 'heartbaet' is ignored; is 'heartbeat' meant?")
    tells(to, "line 4: unknown key 'management.tcp.port' is ignored")


def run(broker, tmp_path, config, **variables):
    file = tmp_path / "ringtail.conf"
    file.write_text(config)
    return subprocess.run(
        [broker.binary, "--config", file], env=variables, capture_output=True, text=True,
        timeout=20, check=False)


def test_a_wrong_value_is_explained(broker, tmp_path):
    only_ringtail(broker, "RabbitMQ has words of its own")
    ended = run(broker, tmp_path, "# limits\nchannel_max = many\n")
    assert ended.returncode == 2
    assert ended.stderr.endswith(
        "ringtail.conf, line 2: invalid value 'many' for 'channel_max': "
        "allowed is a whole number from 0 (no limit) to 65535\n")
    ended = run(broker, tmp_path, "default_user = $(NOBODY)\n")
    assert "line 1: the value of 'default_user' needs the environment variable NOBODY" \
        in ended.stderr


def test_an_empty_variable_counts_as_none(broker, tmp_path):
    only_ringtail(broker, "these are variables of Ringtail")
    empty = {"RINGTAIL_SHARDS": "", "RINGTAIL_LOG_FORMAT": "", "RABBITMQ_DEFAULT_USER": ""}
    # The file is wrong, so that the broker gets as far as reading it and no further.
    ended = run(broker, tmp_path, "channel_max = many\n", **empty)
    assert "invalid value 'many'" in ended.stderr
    ended = run(broker, tmp_path, "channel_max = many\n", RINGTAIL_SHARDS="0")
    assert "RINGTAIL_SHARDS" in ended.stderr or "--shards" in ended.stderr


def test_the_help_names_everything(broker):
    only_ringtail(broker, "this is the help of Ringtail")
    ended = subprocess.run(
        [broker.binary, "--help"], capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 0
    for word in ("--listen", "RINGTAIL_SHARDS", "handshake_timeout", "tcp_listen_options.backlog"):
        assert word in ended.stdout


def reset(client):
    """The client is gone without a word: its socket is reset."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.socket.close()


def test_what_crashed_does_not_count(broker, own_broker):
    only_ringtail(broker, NEWER)
    to = own_broker(config="channel_max_per_node = 40\nconnection_max = 4\n")
    for round_ in range(10):
        clients = [Wire(to) for _ in range(3)]
        for client in clients:
            client.tuned()
            client.send(0, spec.Connection.Open("/"))
            # More than there may be, some closed again, and nobody waits for an answer.
            client.send(0, *[spec.Connection.UpdateSecret(b"x", "")] * (round_ % 2))
            for channel in range(1, 60):
                client.send(channel, spec.Channel.Open())
                if channel % 3 == 0:
                    client.send(channel, spec.Channel.Close(200, "", 0, 0))
            reset(client)

    def all_there():
        with Wire(to) as client:
            client.tuned()
            client.send(0, spec.Connection.Open("/"))
            for channel in range(1, 41):
                client.send(channel, spec.Channel.Open())
            answers = [client.next() for _ in range(2)]
            # As long as a crashed one still counts, a refusal is the last answer there is.
            while isinstance(answers[-1], frame.Method) and len(answers) < 41 and not isinstance(
                    answers[-1].method, spec.Connection.Close):
                answers.append(client.next())
        return [type(answer.method) for answer in answers if answer] == (
            [spec.Connection.OpenOk] + [spec.Channel.OpenOk] * 40)

    eventually(all_there)
    eventually(all_there)

    def one_too_many():
        clients = [Wire(to) for _ in range(5)]
        for client in clients:
            client.tuned()
            client.send(0, spec.Connection.Open("/"))
        answers = [type(client.next().method) for client in clients]
        for client in clients:
            reset(client)
        return answers == [spec.Connection.OpenOk] * 4 + [spec.Connection.Close]

    eventually(one_too_many)
