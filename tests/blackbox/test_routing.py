"""What routes beside bindings: alternate exchanges, and the headers CC and BCC."""

import struct

import pika
import pytest
from pika import frame, spec

from support import closes_channel, count, drain, expect, publish
from wire import message


def publish_with(channel, exchange, key, body, **headers):
    """One confirmed publish with headers."""
    confirming = channel.connection.channel()
    confirming.confirm_delivery()
    properties = pika.BasicProperties(headers=headers, message_id="m")
    confirming.basic_publish(exchange, key, body, properties, mandatory=True)
    confirming.close()


@pytest.fixture
def queues(channel, name):
    """Declares queues of the test's connection."""

    def declare(number):
        made = [name() for _ in range(number)]
        for queue in made:
            channel.queue_declare(queue, exclusive=True)
        return made

    return declare


@pytest.fixture
def with_alternate(exchange):
    """Declares exchanges with an alternate exchange."""
    return lambda kind, alternate, **settings: exchange(
        kind, arguments={"alternate-exchange": alternate}, **settings)


# Alternate exchanges.


@pytest.mark.row("Exchanges", "Alternate exchange")
@pytest.mark.parametrize("kind", ["direct", "fanout", "topic", "headers"])
def test_what_no_binding_takes_goes_to_the_alternate(channel, exchange, with_alternate, queues, kind):
    rest, (taken, left) = exchange("fanout"), queues(2)
    channel.queue_bind(left, rest)
    first = with_alternate(kind, rest)
    publish(channel, "a.b", b"before the binding", exchange=first)
    channel.queue_bind(taken, first, "a.b", {"x-match": "all"})
    publish(channel, "a.b", b"after it", exchange=first)
    assert drain(channel, left) == [b"before the binding"]
    assert drain(channel, taken) == [b"after it"]


@pytest.mark.row("Exchanges", "Alternate exchange")
def test_a_chain_of_alternates(channel, exchange, with_alternate, queues):
    last, (queue,) = exchange("fanout"), queues(1)
    channel.queue_bind(queue, last)
    first = with_alternate("direct", with_alternate("topic", with_alternate("headers", last)))
    publish(channel, "nowhere", b"through four", exchange=first)
    assert drain(channel, queue) == [b"through four"]


@pytest.mark.row("Exchanges", "Alternate exchange")
def test_a_cycle_of_alternates_ends(channel, with_alternate, name, queues):
    (queue,) = queues(1)
    first = name()
    second = with_alternate("direct", first)
    channel.exchange_declare(first, "direct", arguments={"alternate-exchange": second})
    itself = name()
    channel.exchange_declare(itself, "direct", arguments={"alternate-exchange": itself})
    channel.queue_bind(queue, second, "known")
    for exchange in (first, second, itself):
        publish(channel, "unknown", b"nowhere", exchange=exchange)
        publish(channel, "known", exchange.encode(), exchange=exchange)
    assert drain(channel, queue) == [first.encode(), second.encode()]
    channel.exchange_delete(first)
    channel.exchange_delete(itself)


@pytest.mark.row("Exchanges", "Alternate exchange, missing")
def test_an_alternate_that_is_missing_is_ignored_until_it_is_there(
        channel, with_alternate, name, queues):
    missing, (queue,) = name(), queues(1)
    first = with_alternate("direct", missing)
    publish(channel, "key", b"lost", exchange=first)
    for body in (b"1", b"2"):
        channel.exchange_declare(missing, "fanout")
        channel.queue_bind(queue, missing)
        publish(channel, "key", body, exchange=first)
        channel.exchange_delete(missing)
        publish(channel, "key", b"lost again", exchange=first)
    assert drain(channel, queue) == [b"1", b"2"]


def test_the_default_exchange_is_no_use_as_alternate(channel, with_alternate, queues):
    (queue,) = queues(1)
    publish(channel, queue, b"nothing is bound to it", exchange=with_alternate("direct", ""))
    assert count(channel, queue) == 0


def test_an_alternate_may_be_internal(channel, exchange, with_alternate, queues):
    inner, (queue,) = exchange("fanout", internal=True), queues(1)
    channel.queue_bind(queue, inner)
    publish(channel, "key", b"by the back door", exchange=with_alternate("direct", inner))
    assert drain(channel, queue) == [b"by the back door"]


@pytest.mark.row("Publish, return, confirm", "Mandatory, with an alternate exchange")
def test_mandatory_and_an_alternate(channel, exchange, with_alternate, queues):
    rest, (queue,) = exchange("direct"), queues(1)
    channel.queue_bind(queue, rest, "taken")
    first = with_alternate("direct", rest)
    channel.confirm_delivery()
    channel.basic_publish(first, "taken", b"x", mandatory=True)
    with pytest.raises(pika.exceptions.UnroutableError) as returned:
        channel.basic_publish(first, "by nobody", b"y", mandatory=True)
    [back] = returned.value.messages
    assert (back.method.exchange, back.method.routing_key) == (first, "by nobody")
    got = channel.basic_get(queue, auto_ack=True)[0]
    assert (got.exchange, got.routing_key) == (first, "taken")


def test_every_exchange_on_the_way_has_its_own_alternate(channel, exchange, with_alternate, queues):
    start, rest, (taken, left) = exchange("fanout"), exchange("fanout"), queues(2)
    channel.queue_bind(left, rest)
    for number in (1, 2):
        middle = with_alternate("direct", rest)
        channel.exchange_bind(middle, start)
        channel.queue_bind(taken, middle, "both")
        channel.queue_bind(taken, middle, f"only {number}")
    publish(channel, "both", b"both", exchange=start)
    publish(channel, "only 1", b"one of them", exchange=start)
    publish(channel, "none", b"none", exchange=start)
    # The second finds the queue that the first has found, and that is not nowhere.
    assert drain(channel, taken) == [b"both", b"one of them"]
    assert drain(channel, left) == [b"one of them", b"none"]


def test_an_exchange_bound_to_another_leads_somewhere(channel, exchange, with_alternate, queues):
    rest, (left,) = exchange("fanout"), queues(1)
    channel.queue_bind(left, rest)
    first = with_alternate("fanout", rest)
    channel.exchange_bind(exchange("fanout"), first)
    publish(channel, "key", b"into an exchange without bindings", exchange=first)
    assert count(channel, left) == 0


@pytest.mark.row("Exchanges", "Alternate exchange, no name")
def test_the_alternate_must_be_a_name(channel, name):
    wrong = name()
    closes_channel(
        channel, lambda: channel.exchange_declare(
            wrong, "direct", arguments={"alternate-exchange": 7}), 406,
        "PRECONDITION_FAILED - invalid type 'signedint' for arg 'alternate-exchange' in exchange "
        f"'{wrong}' in vhost '/'")
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.connection.channel().exchange_declare(wrong, passive=True)
    assert closed.value.reply_code == 404


@pytest.mark.row("Exchanges", "Alternate exchange, declared otherwise")
@pytest.mark.parametrize(("current", "received", "explanation"), [
    ("a", None, "received none but current is the value 'a' of type 'longstr'"),
    (None, "b", "received the value 'b' of type 'longstr' but current is none"),
    ("a", "b", "received 'b' but current is 'a'"),
    ("a", 7, "received '7' but current is 'a'"),
])
def test_redeclaring_another_alternate_is_refused(channel, exchange, current, received, explanation):
    def arguments(value):
        return {"unknown": id(value)} | ({} if value is None else {"alternate-exchange": value})

    logs = exchange("direct", arguments=arguments(current))
    channel.exchange_declare(logs, "direct", arguments=arguments(current))
    channel.exchange_declare(logs, "direct", passive=True, arguments=arguments(received))
    closes_channel(
        channel, lambda: channel.exchange_declare(logs, "direct", arguments=arguments(received)),
        406, "PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for exchange "
        f"'{logs}' in vhost '/': {explanation}")


# CC and BCC.


@pytest.mark.row("Publish, return, confirm", "CC and BCC")
def test_cc_and_bcc_are_keys_too(channel, exchange, queues):
    direct, (to, cc, bcc, other) = exchange("direct"), queues(4)
    for queue in (to, cc, bcc, other):
        channel.queue_bind(queue, direct, queue)
    publish_with(channel, direct, to, b"x", CC=[cc, "nobody", to], BCC=[bcc, cc], own="kept")
    for queue in (to, cc, bcc):
        method, properties, body = channel.basic_get(queue, auto_ack=True)
        assert (method.exchange, method.routing_key, body) == (direct, to, b"x")
        assert (properties.headers, properties.message_id) == (
            {"CC": [cc, "nobody", to], "own": "kept"}, "m")
        assert method.message_count == 0, "each queue gets it once"
    assert count(channel, other) == 0


@pytest.mark.row("Publish, return, confirm", "CC and BCC")
def test_cc_on_the_default_exchange(channel, queues):
    to, cc = queues(2)
    publish_with(channel, "", "nowhere", b"x", CC=[to], BCC=[cc])
    assert (drain(channel, to), drain(channel, cc)) == ([b"x"], [b"x"])


@pytest.mark.row("Publish, return, confirm", "CC and BCC")
@pytest.mark.parametrize(("kind", "got"), [("topic", 1), ("fanout", 3), ("headers", 1)])
def test_cc_on_other_exchanges(channel, exchange, queues, kind, got):
    source, bound = exchange(kind), queues(3)
    for queue, key in zip(bound, ("one.*", "two.*", "three.*")):
        wanted = {"x-match": "all", "own": bound.index(queue)}
        channel.queue_bind(queue, source, key, wanted)
    publish_with(channel, source, "none", b"x", CC=["two.a", "two.b"], own=1)
    taken = [drain(channel, queue) for queue in bound]
    assert taken == ([[b"x"]] * 3 if got == 3 else [[], [b"x"], []])


def test_cc_goes_along_over_exchanges(channel, exchange, with_alternate, queues):
    start, rest, (taken, left) = exchange("fanout"), exchange("fanout"), queues(2)
    middle = with_alternate("direct", rest)
    channel.exchange_bind(middle, start)
    channel.queue_bind(taken, middle, "taken")
    channel.queue_bind(left, rest)
    publish_with(channel, start, "nobody", b"one key is enough", CC=["taken"])
    publish_with(channel, start, "nobody", b"none", CC=["nobody either"], BCC=["nor this"])
    assert drain(channel, taken) == [b"one key is enough"]
    assert drain(channel, left) == [b"none"]


@pytest.mark.row("Publish, return, confirm", "CC and BCC")
def test_an_unroutable_message_comes_back_without_bcc(raw, exchange):
    direct, client = exchange("direct"), raw().opened()
    client.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    headers = {"BCC": ["b"], "CC": ["c"], "own": 1}
    client.write(message(1, direct, "a", b"back", mandatory=True, headers=headers, priority=3))
    returned = client.expect(spec.Basic.Return, 1)
    assert (returned.reply_code, returned.exchange, returned.routing_key) == (312, direct, "a")
    properties, body = client.content()
    assert (properties.headers, properties.priority) == ({"CC": ["c"], "own": 1}, 3)
    assert body == b"back"
    assert client.expect(spec.Basic.Ack, 1).delivery_tag == 1


def test_only_strings_among_cc_count(channel, queues):
    to, cc = queues(2)
    publish_with(channel, "", to, b"x", CC=[7, cc, None, {"t": cc}, [cc]])
    assert (drain(channel, to), drain(channel, cc)) == ([b"x"], [b"x"])


@pytest.mark.row("Publish, return, confirm", "CC that is no array")
@pytest.mark.parametrize(("header", "value", "kind"), [
    ("CC", "key", "longstr"), ("BCC", "key", "longstr"), ("CC", 1, "signedint"),
    ("BCC", {"a": "b"}, "table"), ("CC", None, "void"), ("BCC", True, "bool")])
def test_cc_must_be_an_array(channel, queue, header, value, kind):
    properties = pika.BasicProperties(headers={header: value})
    closes_channel(
        channel, lambda: channel.basic_publish("", queue, b"x", properties), 406,
        "PRECONDITION_FAILED - invalid message: "
        f'{{unacceptable_type_in_header,"{header}",{kind}}}')


@pytest.mark.row("Publish, return, confirm", "Keys in CC and BCC")
@pytest.mark.parametrize("header", ["CC", "BCC"])
@pytest.mark.parametrize(("keys", "why"), [
    ([f"key-{number}" for number in range(1001)], "more than 1000 routing keys in CC and BCC"),
    (["k" * 256], "a routing key of more than 255 bytes in CC or BCC")])
def test_keys_in_cc_are_bounded(broker, channel, queues, header, keys, why):
    refusal = expect(
        broker, why="RabbitMQ routes by any number of keys of any length; Ringtail bounds what the "
        "routing of one message costs the others",
        ringtail=f"PRECONDITION_FAILED - invalid message: {why}", rabbitmq=None)
    (to,), publisher = queues(1), channel.connection.channel()
    properties = pika.BasicProperties(headers={header: keys})
    if refusal is None:
        publisher.confirm_delivery()
        publisher.basic_publish("", to, b"x", properties)
    else:
        closes_channel(
            publisher, lambda: publisher.basic_publish("", to, b"x", properties), 406, refusal)
    assert drain(channel, to) == ([] if refusal else [b"x"])


@pytest.mark.row("Publish, return, confirm", "Keys in CC and BCC")
def test_equal_keys_in_cc_count_once(channel, queues):
    (to,) = queues(1)
    keys = [f"key-{number}" for number in range(999)]
    publish_with(channel, "", "nowhere", b"x", CC=[*keys, to, *keys, to], BCC=[*keys, to])
    assert drain(channel, to) == [b"x"]


def test_an_empty_bcc_leaves_an_empty_table(channel, queues):
    (to,) = queues(1)
    publish_with(channel, "", to, b"x", BCC=[])
    assert channel.basic_get(to, auto_ack=True)[1].headers == {}


def test_what_is_no_text_outlives_the_removal_of_bcc(raw, shared):
    def entry(key, value):
        return bytes([len(key)]) + key + value

    def counted(data):
        return struct.pack(">I", len(data)) + data

    bcc = entry(b"BCC", b"A" + counted(b"S" + counted(shared.encode())))
    # A correlation id and a header's name that are not UTF-8.
    kept = entry(b"\xff", b"V") + entry(b"own", b"t\x01")
    flags = struct.pack(">H", 1 << 13 | 1 << 10)
    properties = flags + counted(kept[:3] + bcc + kept[3:]) + b"\x02\xc3\x28"
    client = raw().opened()
    publish = spec.Basic.Publish(exchange="", routing_key="nowhere")
    head = struct.pack(">HHQ", 60, 0, 1) + properties
    client.write(
        frame.Method(1, publish).marshal()
        + b"\x02\x00\x01" + counted(head) + b"\xce" + frame.Body(1, b"x").marshal())
    client.reached(1, shared)
    client.send(1, spec.Basic.Get(queue=shared, no_ack=True))
    client.expect(spec.Basic.GetOk, 1)
    while client.pending.count(b"\xce") < 2 and client._fill():
        pass
    assert flags + counted(kept) + b"\x02\xc3\x28" in client.pending
