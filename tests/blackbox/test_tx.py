"""Transactions: what a commit makes visible, what a rollback forgets; and connection.update-secret."""

import pika
import pytest
from pika import spec

from support import Inbox, closes_channel, count, drain, eventually, publish, settle
from wire import message

NOT_TRANSACTIONAL = "PRECONDITION_FAILED - channel is not transactional"


@pytest.fixture
def tx(connection):
    """A channel in tx mode."""
    channel = connection.channel()
    channel.tx_select()
    return channel


@pytest.fixture
def queues(channel, name):
    """Queues that live on all the shards there are."""
    names = [name() for _ in range(8)]
    for queue in names:
        channel.queue_declare(queue)
    yield names
    for queue in names:
        channel.queue_delete(queue)


@pytest.mark.row("Transactions", "Publish")
def test_publishes_are_seen_at_commit(channel, shared, tx):
    tx.basic_publish("", shared, b"1")
    tx.basic_publish("", shared, b"2")
    assert count(tx, shared) == 0
    tx.tx_commit()
    assert drain(channel, shared) == [b"1", b"2"]
    tx.tx_commit()
    assert drain(channel, shared) == []


@pytest.mark.row("Transactions", "Publish")
def test_a_commit_over_many_queues_is_seen_whole(connect, queues, tx):
    other = connect().channel()
    for turn in range(10):
        for queue in queues:
            tx.basic_publish("", queue, b"%d" % turn)
            tx.basic_publish("", queue, b"again", pika.BasicProperties(delivery_mode=2))
        assert [count(tx, queue) for queue in queues] == [0] * 8
        tx.tx_commit()
        assert [drain(other, queue) for queue in queues] == [[b"%d" % turn, b"again"]] * 8


@pytest.mark.row("Transactions", "Publish")
def test_a_fanout_in_a_transaction(channel, exchange, queues, tx):
    fanout = exchange("fanout")
    for queue in queues:
        channel.queue_bind(queue, fanout)
    tx.basic_publish(fanout, "", b"1")
    tx.tx_commit()
    assert [drain(channel, queue) for queue in queues] == [[b"1"]] * 8


@pytest.mark.row("Transactions", "Rollback")
def test_a_rollback_forgets_publishes(channel, shared, tx):
    tx.basic_publish("", shared, b"1")
    tx.tx_rollback()
    tx.tx_commit()
    tx.basic_publish("", shared, b"2")
    tx.tx_commit()
    assert drain(channel, shared) == [b"2"]


def test_many_messages_of_every_size(channel, shared, tx):
    bodies = [b"%d" % n * (n % 700) for n in range(2000)] + [b"x" * 300_000] * 20
    for body in bodies:
        tx.basic_publish("", shared, body)
    tx.tx_commit()
    inbox = Inbox(channel, shared, auto_ack=True)
    assert [each.body for each in inbox.exactly(len(bodies))] == bodies


@pytest.mark.row("Transactions", "Acknowledge")
def test_acks_count_at_commit(connect, shared, tx):
    publish(tx, shared, b"1", b"2", b"3")
    tags = [tx.basic_get(shared)[0].delivery_tag for _ in range(3)]
    tx.basic_ack(tags[0])
    tx.basic_nack(tags[1], requeue=True)
    tx.basic_reject(tags[2], requeue=False)
    assert count(tx, shared) == 0
    tx.tx_commit()
    method, _, body = connect().channel().basic_get(shared)
    assert (body, method.redelivered, method.message_count) == (b"2", True, 0)


@pytest.mark.row("Transactions", "Acknowledge")
def test_acks_of_many_queues(connect, queues, tx):
    for queue in queues:
        publish(tx, queue, b"1", b"2")
    tags = [tx.basic_get(queue)[0].delivery_tag for queue in queues * 2]
    tx.basic_nack(tags[7], multiple=True, requeue=True)
    tx.basic_ack(tags[-1], multiple=True)
    tx.tx_commit()
    other = connect().channel()
    assert [drain(other, queue) for queue in queues] == [[b"1"]] * 8


@pytest.mark.row("Transactions", "Channel or connection ends")
@pytest.mark.parametrize("end", ["channel", "connection", "socket"])
def test_what_is_not_committed_ends_with_its_channel(raw, channel, shared, end):
    publish(channel, shared, b"1", b"2")
    client = raw().opened()
    client.call(1, spec.Tx.Select(), spec.Tx.SelectOk)
    for _ in range(2):
        client.call(1, spec.Basic.Get(queue=shared), spec.Basic.GetOk)
        client.content()
    client.send(1, spec.Basic.Ack(2, multiple=True))
    client.write(message(1, "", shared, b"3"))
    client.reached(1, shared)
    if end == "channel":
        client.call(1, spec.Channel.Close(200, "", 0, 0), spec.Channel.CloseOk)
    elif end == "connection":
        client.call(0, spec.Connection.Close(200, "", 0, 0), spec.Connection.CloseOk)
    else:
        client.socket.close()
    eventually(lambda: count(channel, shared) == 2)
    assert drain(channel, shared) == [b"1", b"2"]


def test_a_commit_whose_client_does_not_wait(raw, channel, queues):
    client = raw().opened()
    client.call(1, spec.Tx.Select(), spec.Tx.SelectOk)
    for queue in queues:
        client.write(message(1, "", queue, b"1"))
    client.send(1, spec.Tx.Commit())
    client.expect(spec.Tx.CommitOk, 1)
    for queue in queues:
        client.write(message(1, "", queue, b"2"))
    client.reached(1, queues[0])
    client.socket.close()
    assert [drain(channel, queue) for queue in queues] == [[b"1"]] * 8


@pytest.mark.row("Transactions", "Rollback")
def test_after_a_rollback_an_ack_can_be_sent_again(channel, shared, tx):
    publish(tx, shared, b"1", b"2", b"3")
    tags = [tx.basic_get(shared)[0].delivery_tag for _ in range(3)]
    tx.basic_ack(tags[1])
    tx.basic_nack(tags[2], requeue=True)
    tx.tx_rollback()
    # Nothing comes again: the deliveries are outstanding as before.
    assert count(tx, shared) == 0
    tx.basic_ack(tags[1])
    tx.basic_ack(tags[2])
    tx.tx_commit()
    tx.close()
    assert drain(channel, shared) == [b"1"]


def test_a_recover_leaves_what_is_acknowledged_in_the_transaction(channel, shared, tx):
    publish(tx, shared, b"1", b"2", b"3")
    tags = [tx.basic_get(shared)[0].delivery_tag for _ in range(3)]
    tx.basic_ack(tags[1])
    tx.basic_recover(requeue=True)
    assert drain(tx, shared) == [b"1", b"3"]
    tx.tx_commit()
    tx.close()
    assert drain(channel, shared) == []


@pytest.mark.row("Transactions", "Acknowledge")
def test_an_ack_frees_prefetch_at_commit(queue, channel):
    channel.tx_select()
    channel.basic_qos(prefetch_count=1)
    publish(channel, queue, b"1", b"2")
    inbox = Inbox(channel, queue)
    inbox.exactly(1)[0].ack()
    settle(channel.connection)
    assert count(channel, queue) == 1
    channel.tx_rollback()
    settle(channel.connection)
    first = inbox.exactly(1)[0]
    first.ack()
    channel.tx_commit()
    assert [each.body for each in inbox.exactly(2)] == [b"1", b"2"]


@pytest.mark.row("Transactions", "Unroutable and mandatory")
def test_mandatory_messages_come_back_in_order_before_commit_ok(raw, name, shared):
    client = raw().opened()
    client.call(1, spec.Tx.Select(), spec.Tx.SelectOk)
    nowhere = name()
    for body in (b"1", b"2"):
        client.write(message(1, "", nowhere, body, mandatory=True))
        client.write(message(1, "", shared, body, mandatory=True))
    client.write(message(1, "", nowhere, b"dropped"))
    client.reached(1, shared)
    client.send(1, spec.Tx.Commit())
    for body in (b"1", b"2"):
        returned = client.expect(spec.Basic.Return, 1)
        assert (returned.reply_code, returned.reply_text) == (312, "NO_ROUTE")
        assert (returned.exchange, returned.routing_key) == ("", nowhere)
        assert client.content()[1] == body
    client.expect(spec.Tx.CommitOk, 1)


@pytest.mark.row("Transactions", "Rollback")
def test_a_rollback_forgets_what_would_come_back(raw, name):
    client = raw().opened()
    client.call(1, spec.Tx.Select(), spec.Tx.SelectOk)
    client.write(message(1, "", name(), b"1", mandatory=True))
    client.call(1, spec.Tx.Rollback(), spec.Tx.RollbackOk)
    client.call(1, spec.Tx.Commit(), spec.Tx.CommitOk)


@pytest.mark.row("Transactions", "Missing exchange, unknown tag")
def test_a_missing_exchange_is_refused_when_the_publish_is_read(name, shared, tx):
    missing = name()
    tx.basic_publish("", shared, b"1")
    text = f"NOT_FOUND - no exchange '{missing}' in vhost '/'"
    closes_channel(tx, lambda: tx.basic_publish(missing, "", b"1"), 404, text)
    assert drain(tx.connection.channel(), shared) == []


@pytest.mark.row("Transactions", "Missing exchange, unknown tag")
def test_an_unknown_tag_is_refused_at_once(tx):
    text = "PRECONDITION_FAILED - unknown delivery tag 7"
    closes_channel(tx, lambda: tx.basic_ack(7), 406, text)


@pytest.mark.row("Transactions", "Missing exchange, unknown tag")
def test_a_second_ack_in_one_transaction(shared, tx):
    publish(tx, shared, b"1")
    tag = tx.basic_get(shared)[0].delivery_tag
    tx.basic_ack(tag)
    text = f"PRECONDITION_FAILED - unknown delivery tag {tag}"
    closes_channel(tx, lambda: tx.basic_ack(tag), 406, text)
    assert drain(tx.connection.channel(), shared) == [b"1"]


def test_an_exchange_deleted_before_the_commit(channel, exchange, shared, tx):
    fanout = exchange("fanout")
    channel.queue_bind(shared, fanout)
    tx.basic_publish(fanout, "", b"1")
    assert count(tx, shared) == 0
    channel.exchange_delete(fanout)
    tx.tx_commit()
    assert drain(channel, shared) == [b"1"]


def test_a_queue_deleted_before_the_commit(channel, name, shared, tx):
    gone = name()
    channel.queue_declare(gone)
    tx.basic_publish("", gone, b"1")
    tx.basic_publish("", shared, b"2")
    assert count(tx, gone) == 0
    channel.queue_delete(gone)
    tx.tx_commit()
    assert drain(channel, shared) == [b"2"]


@pytest.mark.row("Transactions", "Without tx.select")
@pytest.mark.parametrize("method", ["tx_commit", "tx_rollback"])
def test_a_channel_that_is_not_transactional(channel, method):
    closes_channel(channel, getattr(channel, method), 406, NOT_TRANSACTIONAL)


@pytest.mark.row("Transactions", "tx.select again")
def test_tx_select_twice_keeps_the_transaction(channel, shared, tx):
    tx.basic_publish("", shared, b"1")
    tx.tx_select()
    tx.tx_commit()
    assert drain(channel, shared) == [b"1"]


@pytest.mark.row("Transactions", "confirm.select after tx.select")
def test_no_confirms_on_a_transactional_channel(raw):
    client = raw().opened()
    client.call(1, spec.Tx.Select(), spec.Tx.SelectOk)
    close = client.call(1, spec.Confirm.Select(), spec.Channel.Close)
    text = "PRECONDITION_FAILED - cannot switch from tx to confirm mode"
    assert (close.reply_code, close.reply_text) == (406, text)
    assert (close.class_id, close.method_id) == (85, 10)


@pytest.mark.row("Transactions", "tx.select after confirm.select")
def test_no_transactions_on_a_channel_with_confirms(raw):
    client = raw().opened()
    client.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    close = client.call(1, spec.Tx.Select(), spec.Channel.Close)
    text = "PRECONDITION_FAILED - cannot switch from confirm to tx mode"
    assert (close.reply_code, close.reply_text) == (406, text)
    assert (close.class_id, close.method_id) == (90, 10)


def test_other_channels_are_not_transactional(connection, channel, shared, tx):
    tx.basic_publish("", shared, b"1")
    publish(connection.channel(), shared, b"2")
    tx.tx_rollback()
    assert drain(channel, shared) == [b"2"]


@pytest.mark.row("Handshake", "connection.update-secret")
@pytest.mark.parametrize("secret", [b"guest", b"another", b""])
def test_a_new_secret_is_taken(raw, secret):
    client = raw().opened()
    update = spec.Connection.UpdateSecret(new_secret=secret, reason="it expired")
    client.call(0, update, spec.Connection.UpdateSecretOk)
    client.call(1, spec.Basic.Qos(), spec.Basic.QosOk)
