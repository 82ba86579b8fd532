"""Queues: declaring, names, exclusiveness, counts, deletion, and what is refused."""

import re

import pika
import pytest
from pika import spec
from pika.compat import long

from support import (
    Inbox, closes_channel, consumers, count, drain, eventually, exists, expect, publish)

LOCKED = (
    "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{}' in vhost '/'. It could "
    "be originally declared on another connection or the exclusive property value does not match "
    "that of the original declaration.")


@pytest.mark.row("Queues", "Declared otherwise")
def test_a_redeclared_durability_is_refused(channel, name):
    queue = name()
    channel.queue_declare(queue, durable=True)
    refused = channel.connection.channel()
    closes_channel(
        refused, lambda: refused.queue_declare(queue, durable=False), 406,
        f"PRECONDITION_FAILED - inequivalent arg 'durable' for queue '{queue}' in vhost '/': "
        "received 'false' but current is 'true'")
    channel.queue_delete(queue)


@pytest.mark.row("Queues", "Declared otherwise")
@pytest.mark.parametrize(("changed", "explanation"), [
    ({"durable": True}, "'durable' {of}: received 'true' but current is 'false'"),
    ({"auto_delete": True}, "'auto_delete' {of}: received 'true' but current is 'false'"),
    ({"arguments": {"x-max-length": 10}},
     "'x-max-length' {of}: received the value '10' of type 'signedint' but current is none"),
])
def test_redeclaring_another_is_refused(channel, shared, changed, explanation):
    explanation = explanation.format(of=f"for queue '{shared}' in vhost '/'")
    refused = channel.connection.channel()
    closes_channel(
        refused, lambda: refused.queue_declare(shared, **changed),
        406, f"PRECONDITION_FAILED - inequivalent arg {explanation}")


@pytest.mark.row("Queues", "Compared properties")
@pytest.mark.parametrize(("first", "then"), [
    ({}, {"x-queue-type": "classic"}),
    ({"x-queue-type": "classic"}, {}),
    ({"nonsense": 1}, {"nonsense": "other", "more": True}),
    ({"x-queue-version": 2}, {"x-queue-version": long(2)}),
], ids=str)
def test_equivalent_arguments(channel, name, first, then):
    queue = name()
    channel.queue_declare(queue, exclusive=True, arguments=first)
    channel.queue_declare(queue, exclusive=True, arguments=then)


@pytest.mark.row("Queues", "Declared otherwise")
@pytest.mark.parametrize(("first", "then", "received", "current"), [
    ({}, {"x-queue-mode": "lazy"}, "the value 'lazy' of type 'longstr'", "none"),
    ({"x-queue-mode": "lazy"}, {}, "none", "the value 'lazy' of type 'longstr'"),
    ({"x-queue-mode": "lazy"}, {"x-queue-mode": "default"},
     "'default'", "'lazy'"),
], ids=str)
def test_arguments_that_differ(channel, name, first, then, received, current):
    queue = name()
    channel.queue_declare(queue, exclusive=True, arguments=first)
    refused = channel.connection.channel()
    closes_channel(
        refused, lambda: refused.queue_declare(queue, exclusive=True, arguments=then), 406,
        f"PRECONDITION_FAILED - inequivalent arg 'x-queue-mode' for queue '{queue}' in vhost '/': "
        f"received {received} but current is {current}")


@pytest.mark.row("Queues", "Exclusive, declared otherwise by its owner")
def test_an_exclusive_queue_redeclared_as_shared(channel, queue):
    closes_channel(channel, lambda: channel.queue_declare(queue), 405, LOCKED.format(queue))


@pytest.mark.row("Queues", "Invalid argument")
@pytest.mark.parametrize(("argument", "value", "why"), [
    ("x-queue-type", "nosuch", "\"unsupported queue type 'nosuch'\""),
    ("x-queue-type", 1, "{unacceptable_type,signedint}"),
    ("x-queue-mode", "nosuch", "\"unsupported queue mode 'nosuch'\""),
    ("x-queue-mode", 1, "{unacceptable_type,signedint}"),
    ("x-queue-version", "2", '"expected integer, got longstr"'),
    ("x-queue-version", 3, "\"unsupported queue version '3'\""),
    ("x-queue-version", -1, "{value_negative,-1}"),
])
def test_an_invalid_argument(channel, name, argument, value, why):
    queue = name()
    closes_channel(
        channel, lambda: channel.queue_declare(queue, arguments={argument: value}), 406,
        f"PRECONDITION_FAILED - invalid arg '{argument}' for queue '{queue}' in vhost '/': {why}")


@pytest.mark.row("Queues", "Neither durable nor exclusive")
def test_a_transient_queue_that_is_not_exclusive(channel, connect, name):
    queue = name()
    channel.queue_declare(queue, durable=False, exclusive=False)
    publish(connect().channel(), queue, b"1")
    assert drain(channel, queue) == [b"1"]
    channel.queue_delete(queue)


@pytest.mark.row("Queues", "Reserved name, passive")
def test_a_reserved_name_passively(channel):
    closes_channel(
        channel, lambda: channel.queue_declare("amq.nosuch", passive=True), 404,
        "NOT_FOUND - no queue 'amq.nosuch' in vhost '/'")


@pytest.mark.row("Queues", "Reserved name")
def test_a_server_made_name_cannot_be_declared_again(channel):
    queue = channel.queue_declare("", exclusive=True).method.queue
    closes_channel(
        channel, lambda: channel.queue_declare(queue, exclusive=True), 403,
        f"ACCESS_REFUSED - queue name '{queue}' contains reserved prefix 'amq.*'")


@pytest.mark.row("Queues", "declare-ok")
@pytest.mark.row("Queues", "Compared properties")
def test_redeclaring_the_same_tells_the_counts(channel, shared):
    publish(channel, shared, b"1", b"2", b"3")
    Inbox(channel, shared, auto_ack=False)
    channel.basic_qos(prefetch_count=1)
    answer = channel.queue_declare(shared, arguments={"unknown": "ignored"}).method
    assert (answer.queue, answer.consumer_count) == (shared, 1)
    assert answer.message_count == 0


@pytest.mark.row("Queues", "declare-ok")
def test_declare_ok_counts_ready_messages_only(channel, shared):
    publish(channel, shared, b"1", b"2", b"3")
    channel.basic_get(shared)
    assert count(channel, shared) == 2
    assert consumers(channel, shared) == 0


@pytest.mark.row("Queues", "Passive, missing")
def test_passive_declare_of_a_missing_queue(channel, name):
    missing = name()
    closes_channel(
        channel, lambda: channel.queue_declare(missing, passive=True),
        404, f"NOT_FOUND - no queue '{missing}' in vhost '/'")


@pytest.mark.row("Queues", "Reserved name")
def test_reserved_names(channel, name):
    reserved = "amq." + name()
    closes_channel(
        channel, lambda: channel.queue_declare(reserved), 403,
        f"ACCESS_REFUSED - queue name '{reserved}' contains reserved prefix 'amq.*'")


@pytest.mark.row("Queues", "Empty name")
def test_server_named_queues(channel):
    names = [channel.queue_declare("", exclusive=True).method.queue for _ in range(20)]
    assert len(set(names)) == len(names)
    for each in names:
        assert re.fullmatch(r"amq\.gen-[A-Za-z0-9_-]{22}", each), each


@pytest.mark.row("Queues", "Empty name later")
@pytest.mark.row("Queues", "Reserved name, passive")
def test_an_empty_name_means_the_last_declared_queue(channel, exchange):
    logs = exchange("fanout")
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind("", logs)
    publish(channel, "", b"1", b"2", exchange=logs)
    assert channel.basic_get("")[2] == b"1"
    assert channel.queue_declare(queue, passive=True).method.message_count == 1
    assert channel.queue_purge("").method.message_count == 1
    inbox = Inbox(channel, "")
    publish(channel, queue, b"3")
    inbox.exactly(1)
    assert channel.queue_delete("").method.message_count == 0


@pytest.mark.row("Queues", "Empty name, none declared")
@pytest.mark.parametrize("action", [
    lambda channel: channel.queue_purge(""),
    lambda channel: channel.queue_bind("", "amq.direct", "key"),
    lambda channel: channel.basic_get(""),
    lambda channel: channel.basic_consume("", lambda *_: None),
    lambda channel: channel.queue_delete(""),
], ids=["purge", "bind", "get", "consume", "delete"])
def test_an_empty_name_before_any_declaration(channel, action):
    closes_channel(
        channel, lambda: action(channel), 404, "NOT_FOUND - no previously declared queue")


@pytest.mark.row("Queues", "Exclusive, another connection")
@pytest.mark.parametrize("action", [
    lambda channel, queue: channel.queue_declare(queue, exclusive=True),
    lambda channel, queue: channel.queue_declare(queue),
    lambda channel, queue: channel.queue_declare(queue, passive=True),
    lambda channel, queue: channel.basic_consume(queue, lambda *_: None),
    lambda channel, queue: channel.basic_get(queue),
    lambda channel, queue: channel.queue_purge(queue),
    lambda channel, queue: channel.queue_delete(queue),
    lambda channel, queue: channel.queue_bind(queue, "amq.direct", "key"),
], ids=["exclusive", "declare", "passive", "consume", "get", "purge", "delete", "bind"])
def test_an_exclusive_queue_is_locked_to_others(connect, queue, action):
    other = connect().channel()
    closes_channel(other, lambda: action(other, queue), 405, LOCKED.format(queue))


@pytest.mark.row("Queues", "Exclusive, published to by others")
def test_an_exclusive_queue_takes_messages_from_all(connect, channel, queue):
    publish(connect().channel(), queue, b"from another")
    assert drain(channel, queue) == [b"from another"]


@pytest.mark.row("Queues", "Auto-delete")
def test_an_auto_delete_queue_goes_with_its_last_consumer(connect, connection, channel, name):
    queue = name()
    channel.queue_declare(queue, auto_delete=True)
    assert exists(connection, queue)
    first, second = Inbox(channel, queue), Inbox(connect().channel(), queue)
    channel.basic_cancel(first.tag)
    assert exists(connection, queue)
    second.channel.connection.close()
    eventually(lambda: not exists(connection, queue))


@pytest.mark.row("Queues", "Auto-delete")
def test_an_auto_delete_queue_goes_with_its_consumers_channel(connection, channel, name):
    queue = name()
    channel.queue_declare(queue, auto_delete=True)
    consuming = connection.channel()
    Inbox(consuming, queue)
    consuming.close()
    eventually(lambda: not exists(connection, queue))


@pytest.mark.row("Queues", "Auto-delete")
def test_an_auto_delete_queue_without_consumers_stays(channel, connection, name):
    queue = name()
    channel.queue_declare(queue, auto_delete=True)
    publish(channel, queue, b"1")
    assert channel.basic_get(queue, auto_ack=True)[2] == b"1"
    assert exists(connection, queue)
    channel.queue_delete(queue)


@pytest.mark.row("Queues", "Exclusive and durable")
@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("end", ["close", "socket"])
def test_an_exclusive_queue_goes_with_its_connection(raw, connection, name, durable, end):
    client, queue = raw().opened(), name()
    declare = spec.Queue.Declare(queue=queue, exclusive=True, durable=durable)
    client.call(1, declare, spec.Queue.DeclareOk)
    if end == "socket":
        client.socket.close()
    else:
        client.call(0, spec.Connection.Close(200, "", 0, 0), spec.Connection.CloseOk)
    eventually(lambda: not exists(connection, queue))


@pytest.mark.row("Queues", "Purge")
def test_purge_counts_only_ready(channel, queue):
    publish(channel, queue, b"1", b"2", b"3")
    held, _, _ = channel.basic_get(queue)
    assert channel.queue_purge(queue).method.message_count == 2
    assert channel.queue_purge(queue).method.message_count == 0
    channel.basic_nack(held.delivery_tag)
    assert drain(channel, queue) == [b"1"]


@pytest.mark.row("Queues", "Delete")
@pytest.mark.row("Queues", "Delete of a missing object")
def test_delete_counts_and_ends_it(channel, connection, shared):
    publish(channel, shared, b"1", b"2")
    assert channel.queue_delete(shared).method.message_count == 2
    assert not exists(connection, shared)
    assert channel.queue_delete(shared).method.message_count == 0


@pytest.mark.row("Queues", "Delete if-unused")
def test_delete_if_unused(channel, shared):
    Inbox(channel, shared)
    refused = channel.connection.channel()
    closes_channel(
        refused, lambda: refused.queue_delete(shared, if_unused=True), 406,
        f"PRECONDITION_FAILED - queue '{shared}' in vhost '/' in use")


@pytest.mark.row("Queues", "Delete if-empty")
def test_delete_if_empty(channel, shared):
    publish(channel, shared, b"1")
    refused = channel.connection.channel()
    closes_channel(
        refused, lambda: refused.queue_delete(shared, if_empty=True), 406,
        f"PRECONDITION_FAILED - queue '{shared}' in vhost '/' not empty")
    channel.queue_purge(shared)
    channel.queue_delete(shared, if_empty=True, if_unused=True)


def test_a_new_queue_of_an_old_name_is_empty(channel, connect, name):
    queue = name()
    for connection in (connect(), connect(), connect()):
        declaring = connection.channel()
        assert declaring.queue_declare(queue).method.message_count == 0
        publish(declaring, queue, b"1", b"2")
        declaring.queue_delete(queue)


@pytest.mark.row("Queues", "no-wait")
def test_nowait_declarations_are_in_order(raw, exchange, name):
    client, logs, queue = raw().opened(), exchange("fanout"), name()
    client.send(
        1, spec.Queue.Declare(queue=queue, exclusive=True, nowait=True),
        spec.Queue.Bind(queue=queue, exchange=logs, nowait=True),
        spec.Queue.Purge(queue=queue, nowait=True))
    answer = client.call(1, spec.Queue.Declare(queue=queue, passive=True), spec.Queue.DeclareOk)
    assert answer.message_count == 0
    client.send(1, spec.Queue.Delete(queue=queue, nowait=True))
    client.send(1, spec.Queue.Declare(queue=queue, passive=True))
    assert client.expect(spec.Channel.Close, 1).reply_code == 404


@pytest.mark.row("Queues", "Line ends in names")
def test_line_ends_in_names_are_dropped(raw, name):
    client, queue = raw().opened(), name()
    dirty = spec.Queue.Declare(queue=f"a\r\n{queue}\n", exclusive=True)
    assert client.call(1, dirty, spec.Queue.DeclareOk).queue == f"a{queue}"


ONE_NAME = (
    "3.10 drops them where a name is declared, bound, unbound or deleted and finds nothing by such "
    "a name elsewhere; with Ringtail a name means the same everywhere")


@pytest.mark.row("Queues", "Line ends in names")
@pytest.mark.parametrize("use", [
    lambda channel, queue: channel.queue_purge(queue),
    lambda channel, queue: channel.basic_get(queue),
    lambda channel, queue: channel.basic_consume(queue, lambda *_: None)])
def test_line_ends_in_names_that_are_only_used(broker, channel, queue, use):
    publish(channel, queue, b"body")
    if expect(broker, why=ONE_NAME, ringtail=True, rabbitmq=False):
        use(channel, f"\r{queue}\n")
        eventually(lambda: count(channel, queue) == 0)
        return
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        use(channel, f"{queue}\n")
    assert closed.value.reply_text == f"NOT_FOUND - no queue '{queue}\n' in vhost '/'"


@pytest.mark.row("Queues", "Line ends in names")
def test_line_ends_in_names_that_are_bound_and_deleted(raw, channel, name, exchange):
    client, queue, source = raw().opened(), name(), exchange("direct")
    # pika would wait for an answer with the name as it was sent.
    client.call(1, spec.Queue.Declare(queue=f"\n{queue}"), spec.Queue.DeclareOk)
    channel.queue_bind(f"{queue}\r\n", f"{source}\n", "key\n")
    publish(channel, "key\n", b"body", exchange=source)
    publish(channel, "key", b"nobody", exchange=source)
    passive = spec.Queue.Declare(queue=f"{queue}\n", passive=True)
    assert client.call(1, passive, spec.Queue.DeclareOk).message_count == 1
    channel.queue_unbind(f"{queue}\r\n", f"{source}\n", "key\n")
    publish(channel, "key\n", b"nobody", exchange=source)
    assert channel.queue_delete(f"{queue}\r").method.message_count == 1
    assert not exists(channel.connection, queue)


@pytest.mark.row("Publish, return, confirm", "Line ends in names")
def test_line_ends_in_the_names_of_a_publish(broker, channel, queue, exchange):
    channel.queue_bind(queue, source := exchange("fanout"))
    channel.confirm_delivery()
    if not expect(broker, why=ONE_NAME, ringtail=True, rabbitmq=False):
        with pytest.raises(pika.exceptions.UnroutableError):
            channel.basic_publish("", f"{queue}\n", b"", mandatory=True)
        with pytest.raises(pika.exceptions.ChannelClosedByBroker):
            channel.basic_publish(f"{source}\n", "", b"")
        return
    keys = pika.BasicProperties(headers={"CC": [f"\n{queue}", "nobody"]})
    for _ in range(2):
        channel.basic_publish("", f"{queue}\n", b"1", mandatory=True)
        channel.basic_publish(f"\r{source}\n", "k\n", b"2", keys, mandatory=True)
        channel.basic_publish("\r", "nobody", b"3", keys, mandatory=True)
    got = [channel.basic_get(queue) for _ in range(6)]
    assert [body for _, _, body in got] == [b"1", b"2", b"3"] * 2
    assert [method.exchange for method, _, _ in got] == ["", source, ""] * 2
    assert got[1][0].routing_key == "k\n"
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.basic_publish("no\nsuch", "", b"")
    assert closed.value.reply_text == "NOT_FOUND - no exchange 'nosuch' in vhost '/'"


@pytest.mark.row("Queues", "Longest name")
def test_the_longest_name(channel, name):
    queue = name().ljust(255, "x")
    channel.queue_declare(queue, exclusive=True)
    publish(channel, queue, b"1")
    assert drain(channel, queue) == [b"1"]


def test_many_queues(connect, channel, name):
    queues = [name() for _ in range(200)]
    for queue in queues:
        channel.queue_declare(queue, exclusive=True)
    other = connect().channel()
    other.confirm_delivery()
    for queue in queues:
        other.basic_publish("", queue, queue.encode())
    for queue in queues:
        assert drain(channel, queue) == [queue.encode()]


def test_unbinding_what_is_not_bound_asks_for_no_ownership(connect, queue, name):
    # `queue` belongs to another connection.
    channel = connect().channel()
    channel.queue_unbind(queue, "amq.direct", name())


def test_a_passive_declaration_knows_no_last_queue(channel, queue):
    closes_channel(
        channel, lambda: channel.queue_declare("", passive=True),
        404, "NOT_FOUND - no queue '' in vhost '/'")


def test_a_queue_that_is_neither_empty_nor_unused_is_told_to_be_not_empty(channel, shared):
    channel.basic_qos(prefetch_count=1)
    publish(channel, shared, b"1", b"2")
    Inbox(channel, shared).wait(1)
    closes_channel(
        channel, lambda: channel.queue_delete(shared, if_unused=True, if_empty=True), 406,
        f"PRECONDITION_FAILED - queue '{shared}' in vhost '/' not empty")
