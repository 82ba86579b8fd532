"""How an error becomes a close: which one, with what text, and what the broker still hears."""

import pytest
from pika import frame, spec

from support import closes_channel, count, drain, eventually, exists, publish
from wire import message


@pytest.mark.row("Errors", "Reply text")
def test_a_reply_text_is_cut_to_255_bytes(channel, name):
    missing = name().ljust(255, "x")
    whole = f"NOT_FOUND - no queue '{missing}' in vhost '/'"
    closes_channel(
        channel, lambda: channel.queue_declare(missing, passive=True), 404, whole[:252] + "...")


SOFT = {
    403: spec.Queue.Declare(queue="amq.reserved"),
    404: spec.Queue.Declare(queue="nosuch", passive=True),
    406: spec.Basic.Ack(99)}


@pytest.mark.row("Errors", "Soft code")
@pytest.mark.parametrize("code", SOFT)
def test_a_soft_error_closes_its_channel_alone(raw, code):
    client = raw().opened(channels=2)
    client.send(1, SOFT[code])
    assert client.expect(spec.Channel.Close, 1).reply_code == code
    client.call(2, spec.Basic.Qos(), spec.Basic.QosOk)
    client.send(1, spec.Channel.CloseOk())
    client.call(1, spec.Channel.Open(), spec.Channel.OpenOk)


HARD = {
    503: spec.Basic.QosOk(),
    504: spec.Channel.Open(),
    540: spec.Basic.Recover(requeue=False)}


@pytest.mark.row("Errors", "Hard code")
@pytest.mark.row("Errors", "Class and method id")
@pytest.mark.parametrize("code", HARD)
def test_a_hard_error_closes_the_connection(raw, code):
    client = raw().opened(channels=2)
    client.send(2, HARD[code])
    close = client.expect(spec.Connection.Close, 0)
    assert (close.reply_code, close.class_id, close.method_id) == (
        code, *divmod(HARD[code].INDEX, 1 << 16))
    client.send(0, spec.Connection.CloseOk())
    assert client.until_closed() == []


@pytest.mark.row("Errors", "Class and method id")
def test_the_close_of_no_method_names_none(raw):
    client = raw().opened()
    client.write(frame.Body(1, b"x").marshal())
    close = client.expect(spec.Connection.Close, 0)
    assert (close.class_id, close.method_id) == (0, 0)


@pytest.mark.row("Errors", "After connection.close")
def test_what_follows_an_error_of_the_connection_is_ignored(raw, connection, queue, name):
    client, missing = raw().opened(channels=2), name()
    client.send(1, spec.Channel.Open(), spec.Queue.Declare(queue=missing))
    client.send(2, spec.Queue.Declare(queue=missing))
    client.write(message(2, "", queue, b"ignored"))
    close = client.expect(spec.Connection.Close, 0)
    assert close.reply_code == 504
    client.write(message(2, "", queue, b"ignored"))
    client.send(2, spec.Queue.Declare(queue=missing), spec.Basic.Get(queue=queue))
    client.send(0, spec.Connection.CloseOk())
    assert client.until_closed() == []
    assert not exists(connection, missing)
    assert count(connection.channel(), queue) == 0


@pytest.mark.row("Errors", "Unacknowledged messages")
@pytest.mark.parametrize("error", [spec.Basic.Ack(99), spec.Channel.Open()], ids=["soft", "hard"])
def test_an_error_requeues_what_was_unacknowledged(raw, channel, shared, error):
    publish(channel, shared, b"1", b"2")
    client = raw().opened()
    client.call(1, spec.Basic.Consume(queue=shared), spec.Basic.ConsumeOk)
    for _ in range(2):
        client.expect(spec.Basic.Deliver, 1)
        client.content()
    client.send(1, error)
    assert client.next().method.NAME in ("Channel.Close", "Connection.Close")
    eventually(lambda: count(channel, shared) == 2)
    assert drain(channel, shared) == [b"1", b"2"]
