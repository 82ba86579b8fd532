"""Exchanges: declaring, binding, deleting, and what is refused."""

import pika
import pytest
from pika import spec

from support import (
    Inbox, closes_channel, closes_connection, count, drain, expect, publish, settle)

STANDARD = {
    "amq.direct": "direct", "amq.fanout": "fanout", "amq.topic": "topic", "amq.headers": "headers",
    "amq.match": "headers"}


def exchange_exists(connection, exchange):
    """Whether an exchange of this name is there, asked on a channel of its own."""
    channel = connection.channel()
    try:
        channel.exchange_declare(exchange, passive=True)
    except pika.exceptions.ChannelClosedByBroker as closed:
        assert closed.reply_code == 404
        return False
    channel.close()
    return True


@pytest.mark.row("Exchanges", "Default set")
@pytest.mark.parametrize(("exchange", "kind"), STANDARD.items())
def test_standard_exchanges_are_there_and_durable(channel, exchange, kind):
    channel.exchange_declare(exchange, kind, durable=True)
    channel.exchange_declare(exchange, passive=True)


@pytest.mark.row("Exchanges", "Default set")
def test_the_exchange_of_the_tracer(channel):
    channel.exchange_declare("amq.rabbitmq.trace", "topic", durable=True, internal=True)
    closes_channel(
        channel, lambda: channel.basic_publish("amq.rabbitmq.trace", "key", b"no"), 403,
        "ACCESS_REFUSED - cannot publish to internal exchange 'amq.rabbitmq.trace' in vhost '/'")


@pytest.mark.row("Exchanges", "Default exchange")
def test_default_exchange_routes_by_queue_name(channel, name):
    queues = [name(), name()]
    for queue in queues:
        channel.queue_declare(queue, exclusive=True)
        publish(channel, queue, queue.encode())
    for queue in queues:
        assert drain(channel, queue) == [queue.encode()]


@pytest.mark.row("Exchanges", "Declared again")
def test_redeclaring_the_same_is_fine(channel, exchange, name):
    logs = exchange("topic", durable=True, arguments={"unknown": 1})
    channel.exchange_declare(logs, "topic", durable=True, arguments={"other": 2})


@pytest.mark.row("Exchanges", "Declared otherwise")
@pytest.mark.parametrize(("changed", "explanation"), [
    ({"exchange_type": "fanout"}, "'type' {of}: received 'fanout' but current is 'direct'"),
    ({"durable": True}, "'durable' {of}: received 'true' but current is 'false'"),
    ({"auto_delete": True}, "'auto_delete' {of}: received 'true' but current is 'false'"),
    ({"internal": True}, "'internal' {of}: received 'true' but current is 'false'"),
])
def test_redeclaring_another_is_refused(channel, exchange, changed, explanation):
    logs = exchange("direct")
    arguments = {"exchange_type": "direct"} | changed
    explanation = explanation.format(of=f"for exchange '{logs}' in vhost '/'")
    closes_channel(
        channel, lambda: channel.exchange_declare(logs, **arguments),
        406, f"PRECONDITION_FAILED - inequivalent arg {explanation}")


@pytest.mark.row("Exchanges", "Passive, missing")
def test_passive_declare_of_a_missing_exchange(channel, name):
    missing = name()
    closes_channel(
        channel, lambda: channel.exchange_declare(missing, passive=True),
        404, f"NOT_FOUND - no exchange '{missing}' in vhost '/'")


@pytest.mark.row("Exchanges", "Passive")
def test_passive_declare_compares_nothing(channel, exchange):
    channel.exchange_declare(exchange("direct"), "fanout", passive=True, durable=True)


@pytest.mark.row("Exchanges", "Reserved name")
def test_reserved_names(channel, name):
    reserved = "amq." + name()
    closes_channel(
        channel, lambda: channel.exchange_declare(reserved, "direct"), 403,
        f"ACCESS_REFUSED - exchange name '{reserved}' contains reserved prefix 'amq.*'")


@pytest.mark.row("Exchanges", "Line ends in names")
def test_line_ends_in_names_are_dropped(raw, channel, name):
    client, exchange = raw().opened(), name()
    declare = spec.Exchange.Declare(exchange=f"a\r\n{exchange}\n")
    client.call(1, declare, spec.Exchange.DeclareOk)
    channel.exchange_declare(f"a{exchange}", passive=True)
    channel.exchange_delete(f"\na{exchange}\r")
    assert not exchange_exists(channel.connection, f"a{exchange}")


@pytest.mark.row("Exchanges", "Line ends in names")
def test_line_ends_in_the_name_of_an_alternate_exchange(broker, channel, queue, exchange):
    channel.queue_bind(queue, other := exchange("fanout"))
    arguments = {"alternate-exchange": f"{other}\r\n"}
    publish(channel, "key", b"body", exchange=exchange("direct", arguments=arguments))
    assert drain(channel, queue) == expect(
        broker, why="3.10 finds no alternate exchange by a name with line ends",
        ringtail=[b"body"], rabbitmq=[])


@pytest.mark.row("Exchanges", "Unknown type")
def test_unknown_type(broker, channel, name):
    wrong = expect(
        broker, why="3.10 closes the connection with 503; newer series answer 406 on the "
        "channel, and Ringtail does as they do",
        ringtail=(closes_channel, channel, 406, "PRECONDITION_FAILED"),
        rabbitmq=(closes_connection, channel.connection, 503, "COMMAND_INVALID"))
    closes, what, code, text = wrong
    exchange = name()
    closes(
        what, lambda: channel.exchange_declare(exchange, "nosuch"),
        code, f"{text} - unknown exchange type 'nosuch'")


@pytest.mark.row("Exchanges", "Default exchange declared, deleted, bound")
@pytest.mark.parametrize("action", [
    lambda channel, queue: channel.exchange_declare("", "direct"),
    lambda channel, queue: channel.exchange_delete(""),
    lambda channel, queue: channel.queue_bind(queue, "", "key"),
    lambda channel, queue: channel.queue_unbind(queue, "", "key"),
], ids=["declare", "delete", "bind", "unbind"])
def test_default_exchange_is_left_alone(channel, queue, action):
    closes_channel(
        channel, lambda: action(channel, queue), 403,
        "ACCESS_REFUSED - operation not permitted on the default exchange")


@pytest.mark.row("Exchanges", "Standard exchange deleted")
def test_standard_exchanges_cannot_be_deleted(channel):
    closes_channel(
        channel, lambda: channel.exchange_delete("amq.topic"), 403,
        "ACCESS_REFUSED - deletion of system exchange 'amq.topic' in vhost '/' not allowed")


@pytest.mark.row("Exchanges", "Delete of a missing object")
def test_deleting_a_missing_exchange_is_fine(channel, name):
    channel.exchange_delete(name())
    channel.exchange_delete(name(), if_unused=True)


@pytest.mark.row("Exchanges", "Delete if-unused")
def test_delete_if_unused(channel, exchange, queue):
    logs = exchange("fanout")
    channel.queue_bind(queue, logs)
    refused = channel.connection.channel()
    closes_channel(
        refused, lambda: refused.exchange_delete(logs, if_unused=True), 406,
        f"PRECONDITION_FAILED - exchange '{logs}' in vhost '/' in use")
    channel.queue_unbind(queue, logs)
    channel.exchange_delete(logs, if_unused=True)
    assert not exchange_exists(channel.connection, logs)


@pytest.mark.row("Exchanges", "Delete")
def test_deleting_an_exchange_takes_its_bindings(channel, exchange, queue):
    logs = exchange("fanout")
    channel.queue_bind(queue, logs)
    channel.exchange_delete(logs)
    channel.exchange_declare(logs, "fanout")
    publish(channel, "", b"nowhere", exchange=logs)
    assert count(channel, queue) == 0


@pytest.mark.row("Queues", "Delete")
def test_deleting_a_queue_takes_its_bindings(channel, exchange, name):
    logs, queue = exchange("fanout"), name()
    for _ in range(2):
        channel.queue_declare(queue, exclusive=True)
        publish(channel, "", b"not bound again", exchange=logs)
        assert count(channel, queue) == 0
        channel.queue_bind(queue, logs)
        publish(channel, "", b"bound", exchange=logs)
        assert channel.queue_delete(queue).method.message_count == 1


@pytest.mark.row("Exchanges", "Bind to a missing object")
def test_bind_to_what_is_missing(channel, exchange, queue, name):
    missing = name()
    channel.queue_unbind(queue, exchange("direct"), "never bound")
    opened = channel.connection.channel()
    closes_channel(
        opened, lambda: opened.queue_bind(queue, missing, "key"),
        404, f"NOT_FOUND - no exchange '{missing}' in vhost '/'")
    opened = channel.connection.channel()
    direct = exchange("direct")
    closes_channel(
        opened, lambda: opened.queue_bind(missing, direct, "key"),
        404, f"NOT_FOUND - no queue '{missing}' in vhost '/'")


@pytest.mark.row("Exchanges", "Unbind of a missing binding")
def test_unbind_of_what_is_missing(broker, connection, exchange, queue, name):
    logs = exchange("fanout")
    for arguments in ((queue, logs, "never bound"), (queue, name(), "key"), (name(), logs, "key")):
        channel = connection.channel()
        channel.queue_unbind(*arguments)
        channel.close()


@pytest.mark.row("Exchanges", "Auto-delete")
def test_auto_delete_exchange_without_bindings_stays(channel, exchange, queue):
    logs, target = exchange("fanout", auto_delete=True), exchange("fanout", auto_delete=True)
    channel.exchange_bind(target, logs)
    channel.exchange_unbind(target, logs)
    # Its last source binding has gone; the other was only ever a destination.
    assert not exchange_exists(channel.connection, logs)
    assert exchange_exists(channel.connection, target)


@pytest.mark.row("Exchanges", "Several bindings match")
def test_a_queue_bound_twice_gets_a_message_once(channel, exchange, queue):
    logs = exchange("direct")
    for key in ("a", "a", "b"):
        channel.queue_bind(queue, logs, key)
    publish(channel, "a", b"once", exchange=logs)
    assert drain(channel, queue) == [b"once"]
    channel.queue_unbind(queue, logs, "a")
    publish(channel, "a", b"not", exchange=logs)
    publish(channel, "b", b"still", exchange=logs)
    assert drain(channel, queue) == [b"still"]


@pytest.mark.row("Exchanges", "Several bindings match")
def test_overlapping_topics_deliver_once(channel, exchange, queue):
    topics = exchange("topic")
    for key in ("kern.*", "*.critical", "#", "kern.critical"):
        channel.queue_bind(queue, topics, key)
    publish(channel, "kern.critical", b"once", exchange=topics)
    assert drain(channel, queue) == [b"once"]


@pytest.mark.row("Exchanges", "Bad x-match")
def test_bad_x_match(channel, exchange, queue):
    headers = exchange("headers")
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.queue_bind(queue, headers, arguments={"x-match": "some"})
    # The rest of the text prints the value as an Erlang term, differently in each series.
    assert closed.value.reply_code == 406
    assert closed.value.reply_text.startswith("PRECONDITION_FAILED - Invalid x-match field value")


@pytest.mark.row("Publish, return, confirm", "Internal exchange")
def test_publish_to_an_internal_exchange(channel, exchange):
    inner = exchange("fanout", internal=True)
    closes_channel(
        channel, lambda: channel.basic_publish(inner, "", b"no"), 403,
        f"ACCESS_REFUSED - cannot publish to internal exchange '{inner}' in vhost '/'")


@pytest.mark.row("Exchanges", "Exchange to exchange")
def test_exchange_to_exchange(channel, exchange, queue):
    source, middle = exchange("topic"), exchange("fanout", internal=True)
    channel.exchange_bind(middle, source, "stock.#")
    channel.queue_bind(queue, middle)
    publish(channel, "stock.nyse", b"through both", exchange=source)
    publish(channel, "other", b"not", exchange=source)
    assert drain(channel, queue) == [b"through both"]
    channel.exchange_unbind(middle, source, "stock.#")
    publish(channel, "stock.nyse", b"no more", exchange=source)
    assert drain(channel, queue) == []


@pytest.mark.row("Exchanges", "Exchange to exchange")
def test_exchange_cycles_end(channel, exchange, queue):
    first, second = exchange("fanout"), exchange("fanout")
    channel.exchange_bind(first, second)
    channel.exchange_bind(second, first)
    channel.queue_bind(queue, first)
    publish(channel, "", b"once", exchange=second)
    assert drain(channel, queue) == [b"once"]


@pytest.mark.row("Exchanges", "Auto-delete")
def test_auto_delete_exchange_goes_with_its_last_binding(channel, exchange, queue):
    logs = exchange("fanout", auto_delete=True)
    assert exchange_exists(channel.connection, logs)
    channel.queue_bind(queue, logs, "a")
    channel.queue_bind(queue, logs, "b")
    channel.queue_unbind(queue, logs, "a")
    assert exchange_exists(channel.connection, logs)
    channel.queue_unbind(queue, logs, "b")
    assert not exchange_exists(channel.connection, logs)


def test_declared_on_one_connection_used_on_all(connect, exchange, channel, queue):
    # As soon as declare-ok and bind-ok have come, every other connection must see the binding.
    others = [connect().channel() for _ in range(4)]
    for round_number in range(10):
        logs = exchange("fanout")
        channel.queue_bind(queue, logs)
        for other in others:
            publish(other, "", b"%d" % round_number, exchange=logs)
        assert drain(channel, queue) == [b"%d" % round_number] * len(others)
    settle(channel.connection)
    Inbox(channel, queue).exactly(0)
