"""Publishing: returns, confirms, what is refused."""

import pika
import pytest
from pika import frame, spec

from support import Inbox, closes_channel, closes_connection, count, drain
from wire import header, message


def confirming(raw, channels=1):
    """A raw connection whose channels are in confirm mode."""
    client = raw().opened(channels=channels)
    for channel in range(1, channels + 1):
        client.call(channel, spec.Confirm.Select(), spec.Confirm.SelectOk)
    return client


def confirmed(client, last):
    """Reads acks up to this tag; returns the tags in the order they were confirmed."""
    order, open_tags = [], set(range(1, last + 1))
    while open_tags:
        ack = client.expect(spec.Basic.Ack, 1)
        tags = sorted(tag for tag in open_tags if tag <= ack.delivery_tag) if ack.multiple else [
            ack.delivery_tag]
        assert tags, f"ack of {ack.delivery_tag} confirms nothing"
        open_tags.difference_update(tags)
        order.extend(tags)
    return order


@pytest.mark.row("Publish, return, confirm", "Missing exchange")
def test_publish_to_a_missing_exchange(channel, name):
    missing = name()
    closes_channel(
        channel, lambda: channel.basic_publish(missing, "key", b"lost"),
        404, f"NOT_FOUND - no exchange '{missing}' in vhost '/'")


@pytest.mark.row("Publish, return, confirm", "Missing exchange")
def test_the_404_comes_after_the_body_was_read(raw, name):
    client, missing = raw().opened(), name()
    client.write(message(1, missing, "key", b"x" * 300_000))
    close = client.expect(spec.Channel.Close, 1)
    assert (close.reply_code, close.class_id, close.method_id) == (404, 60, 40)
    client.send(1, spec.Channel.CloseOk())
    client.call(1, spec.Channel.Open(), spec.Channel.OpenOk)


@pytest.mark.row("Publish, return, confirm", "Unroutable and mandatory")
def test_mandatory_is_returned_before_the_ack(raw, name):
    client, key = confirming(raw), name()
    for tag in (1, 2):
        client.write(message(1, "", key, b"back", mandatory=True, message_id="m"))
        returned = client.expect(spec.Basic.Return, 1)
        assert (returned.reply_code, returned.reply_text) == (312, "NO_ROUTE")
        assert (returned.exchange, returned.routing_key) == ("", key)
        properties, body = client.content()
        assert (properties.message_id, body) == ("m", b"back")
        ack = client.expect(spec.Basic.Ack, 1)
        assert (ack.delivery_tag, ack.multiple) == (tag, False)


@pytest.mark.row("Publish, return, confirm", "Unroutable and mandatory")
def test_mandatory_and_routed_is_not_returned(channel, queue):
    channel.confirm_delivery()
    channel.basic_publish("", queue, b"1", mandatory=True)
    assert drain(channel, queue) == [b"1"]
    with pytest.raises(pika.exceptions.UnroutableError):
        channel.basic_publish("", queue + ".missing", b"2", mandatory=True)


@pytest.mark.row("Publish, return, confirm", "Unroutable")
def test_unroutable_is_acked_and_dropped(raw, exchange):
    client, unbound = confirming(raw), exchange("direct")
    client.write(message(1, unbound, "nobody", b"dropped"))
    assert client.expect(spec.Basic.Ack, 1).delivery_tag == 1


@pytest.mark.row("Publish, return, confirm", "Confirm")
@pytest.mark.parametrize("persistent", [False, True])
def test_many_confirms(raw, channel, name, persistent):
    queue = name()
    channel.queue_declare(queue, durable=persistent)
    client, total = confirming(raw), 2000
    mode = 2 if persistent else 1
    client.write(b"".join(
        message(1, "", queue, b"%d" % i, delivery_mode=mode) for i in range(total)))
    order = confirmed(client, total)
    assert sorted(order) == list(range(1, total + 1))
    assert count(channel, queue) == total
    assert drain(channel, queue) == [b"%d" % i for i in range(total)]
    channel.queue_delete(queue)


@pytest.mark.row("Publish, return, confirm", "Confirm")
def test_confirms_of_one_queue_come_in_order(raw, shared):
    client = confirming(raw)
    client.write(b"".join(message(1, "", shared, b"x") for _ in range(500)))
    assert confirmed(client, 500) == list(range(1, 501))


@pytest.mark.row("Publish, return, confirm", "Confirm")
def test_confirms_over_many_queues_are_complete(raw, channel, name):
    queues = [name() for _ in range(20)]
    for queue in queues:
        channel.queue_declare(queue, exclusive=True)
    client = confirming(raw)
    client.write(b"".join(message(1, "", queues[i % 20], b"x") for i in range(1000)))
    assert sorted(confirmed(client, 1000)) == list(range(1, 1001))
    assert [count(channel, queue) for queue in queues] == [50] * 20


@pytest.mark.row("Publish, return, confirm", "Confirm")
def test_a_fanouts_confirm_means_every_queue_has_it(raw, channel, exchange, name):
    client, logs = confirming(raw), exchange("fanout")
    queues = [name() for _ in range(8)]
    for queue in queues:
        channel.queue_declare(queue, exclusive=True)
        channel.queue_bind(queue, logs)
    client.write(message(1, logs, "", b"to all"))
    client.expect(spec.Basic.Ack, 1)
    for queue in queues:
        assert drain(channel, queue) == [b"to all"]


@pytest.mark.row("Publish, return, confirm", "Confirm tags")
def test_tags_count_from_select_and_per_channel(raw, shared):
    client = raw().opened(channels=2)
    client.write(message(1, "", shared, b"before"))
    client.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    client.call(2, spec.Confirm.Select(), spec.Confirm.SelectOk)
    for channel in (1, 2, 1):
        client.write(message(channel, "", shared, b"after"))
        ack = client.next()
        assert isinstance(ack.method, spec.Basic.Ack) and ack.channel_number == channel
    assert ack.method.delivery_tag == 2
    client.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    client.write(message(1, "", shared, b"select twice changes nothing"))
    assert client.expect(spec.Basic.Ack, 1).delivery_tag == 3


@pytest.mark.row("Publish, return, confirm", "Missing exchange")
def test_nothing_is_confirmed_of_a_publish_that_closes_the_channel(raw, name):
    client, missing = confirming(raw), name()
    client.write(message(1, missing, "key", b"lost", mandatory=True))
    assert client.expect(spec.Channel.Close, 1).reply_code == 404
    client.send(1, spec.Channel.CloseOk())
    client.call(1, spec.Channel.Open(), spec.Channel.OpenOk)


@pytest.mark.row("Publish, return, confirm", "Queue deleted meanwhile")
def test_publishing_to_a_queue_that_is_being_deleted_is_confirmed(raw, channel, name):
    client = confirming(raw)
    for _ in range(5):
        queue = name()
        channel.queue_declare(queue)
        client.write(b"".join(message(1, "", queue, b"x") for _ in range(100)))
        channel.queue_delete(queue)
    assert sorted(confirmed(client, 500)) == list(range(1, 501))


@pytest.mark.row("Publish, return, confirm", "Order")
def test_publish_order_is_kept_for_several_keys(channel, exchange, queue):
    direct = exchange("direct")
    for key in "abc":
        channel.queue_bind(queue, direct, key)
    inbox = Inbox(channel, queue, auto_ack=True)
    for i in range(300):
        channel.basic_publish(direct, "abc"[i % 3], b"%d" % i)
    inbox.exactly(300)
    assert inbox.bodies == [b"%d" % i for i in range(300)]


@pytest.mark.row("Publish, return, confirm", "immediate")
def test_immediate_is_not_implemented(raw, queue):
    client = raw().opened()
    publish = spec.Basic.Publish(exchange="", routing_key=queue, immediate=True)
    client.send(1, publish)
    client.write(header(1, 0))
    close = client.refused(540, "NOT_IMPLEMENTED - immediate=true")
    assert (close.class_id, close.method_id) == (60, 40)


@pytest.mark.row("Publish, return, confirm", "Bad expiration")
@pytest.mark.parametrize("expiration", ["soon", "-1", "1.5", "10 ", ""])
def test_a_bad_expiration(channel, queue, expiration):
    properties = pika.BasicProperties(expiration=expiration)
    channel.basic_publish("", queue, b"", properties)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.exchange_declare("amq.direct", passive=True)
    assert closed.value.reply_code == 406
    text = f"PRECONDITION_FAILED - invalid expiration '{expiration}'"
    assert closed.value.reply_text.startswith(text)


@pytest.mark.row("Publish, return, confirm", "Larger than max_message_size")
def test_a_message_that_is_too_large(raw):
    client, size = raw().opened(channels=2), (128 << 20) + 1
    client.send(1, spec.Basic.Publish(exchange="", routing_key="nobody"))
    client.write(header(1, size))
    part = frame.Body(1, bytes(131064)).marshal()
    for _ in range(size // 131064):
        client.write(part)
    client.write(frame.Body(1, bytes(size % 131064)).marshal())
    close = client.expect(spec.Channel.Close, 1)
    assert (close.reply_code, close.reply_text) == (
        406, "PRECONDITION_FAILED - message size 134217729 is larger than configured max size "
        "134217728")
    client.call(2, spec.Basic.Qos(), spec.Basic.QosOk)


@pytest.mark.row("Publish, return, confirm", "user-id of another")
def test_a_foreign_user_id(channel, queue):
    channel.basic_publish("", queue, b"", pika.BasicProperties(user_id="guest"))
    closes_channel(
        channel,
        lambda: channel.basic_publish("", queue, b"", pika.BasicProperties(user_id="other")), 406,
        "PRECONDITION_FAILED - user_id property set to 'other' but authenticated user was 'guest'")


@pytest.mark.row("Publish, return, confirm", "Unroutable and mandatory")
def test_a_return_is_a_whole_large_message(raw, name):
    client, body = raw().opened(), bytes(range(256)) * 2000
    client.write(message(1, "", name(), body, mandatory=True))
    client.expect(spec.Basic.Return, 1)
    assert client.content()[1] == body


@pytest.mark.row("Framing", "Channels interleave")
def test_two_channels_may_interleave_their_contents(raw, channel, queue):
    client = raw().opened(channels=2)
    for part in (0, 1, 2):
        for number in (1, 2):
            publish = spec.Basic.Publish(exchange="", routing_key=queue)
            frames = (
                frame.Method(number, publish), frame.Header(number, 2, pika.BasicProperties()),
                frame.Body(number, b"%d!" % number))
            client.write(frames[part].marshal())
    inbox = Inbox(channel, queue, auto_ack=True)
    inbox.wait(2)
    assert sorted(inbox.bodies) == [b"1!", b"2!"]


@pytest.mark.row("Qos", "prefetch_size")
def test_prefetch_size_is_not_implemented(connection):
    channel = connection.channel()
    closes_connection(
        connection, lambda: channel.basic_qos(prefetch_size=10), 540,
        "NOT_IMPLEMENTED - prefetch_size!=0 (10)")


def test_the_exchange_is_looked_for_before_the_properties_are_judged(channel, name):
    properties = pika.BasicProperties(user_id="other", headers={"CC": "no list"})
    exchange = name()
    closes_channel(
        channel, lambda: channel.basic_publish(exchange, "", b"1", properties),
        404, f"NOT_FOUND - no exchange '{exchange}' in vhost '/'")
