"""Exchange types beyond AMQP's that give each message to one of their bindings."""

import collections

import pika
import pytest

from support import closes_channel, closes_connection, count, drain, expect, publish

PLUGINS = [
    "rabbitmq_consistent_hash_exchange", "rabbitmq_random_exchange", "rabbitmq_sharding"]
HASHES = ["x-consistent-hash", "x-modulus-hash"]
NOT_IN_3_10 = "the type exists since RabbitMQ 4.0"


@pytest.fixture(scope="module")
def broker(make_broker):
    """A broker with the types of this file."""
    broker = make_broker(plugins=PLUGINS).start()
    yield broker
    broker.discard()


@pytest.fixture
def queues(channel, name):
    """Declares queues that go with the connection."""

    def declare(number):
        names = [name() for _ in range(number)]
        for queue in names:
            channel.queue_declare(queue, exclusive=True)
        return names

    return declare


def bind(channel, exchange, queues, key="1"):
    for queue in queues:
        channel.queue_bind(queue, exchange, key)


def counts(channel, queues):
    return [count(channel, queue) for queue in queues]


def placed(channel, queues):
    """The queue of each body; all queues are emptied."""
    return {body: queue for queue in queues for body in drain(channel, queue)}


def publish_keys(channel, exchange, keys, properties=None):
    """Publishes a message of each key, which is its body too."""
    confirming = channel.connection.channel()
    confirming.confirm_delivery()
    for key in keys:
        confirming.basic_publish(exchange, key, key.encode(), properties)
    confirming.close()


def keys(number):
    return [f"key-{n}" for n in range(number)]


@pytest.mark.row("Exchange types", "Hash exchanges")
@pytest.mark.parametrize("kind", HASHES)
def test_a_message_goes_to_one_queue_by_its_key(channel, exchange, queues, kind):
    name, own = exchange(kind), queues(4)
    bind(channel, name, own)
    publish_keys(channel, name, keys(400))
    shares = counts(channel, own)
    assert sum(shares) == 400 and all(50 <= share <= 150 for share in shares), shares
    first = placed(channel, own)
    publish_keys(channel, name, keys(400))
    assert placed(channel, own) == first


@pytest.mark.row("Exchange types", "Hash exchanges")
@pytest.mark.parametrize("kind", HASHES)
def test_without_a_binding_a_message_is_unroutable(channel, exchange, kind):
    name = exchange(kind)
    channel.confirm_delivery()
    with pytest.raises(pika.exceptions.UnroutableError):
        channel.basic_publish(name, "key", b"m", mandatory=True)


@pytest.mark.row("Exchange types", "Weights")
def test_shares_follow_the_weights(channel, exchange, queues):
    name, own = exchange("x-consistent-hash"), queues(3)
    for queue, weight in zip(own, ["1", "3", "6"]):
        channel.queue_bind(queue, name, weight)
    publish_keys(channel, name, keys(2000))
    for share, mean in zip(counts(channel, own), [200, 600, 1200]):
        assert abs(share - mean) <= 130


@pytest.mark.row("Exchange types", "A queue joins or leaves")
def test_a_queue_that_joins_takes_its_share_and_nothing_else_moves(channel, exchange, queues):
    name, own = exchange("x-consistent-hash"), queues(5)
    bind(channel, name, own[:4])
    publish_keys(channel, name, keys(1000))
    before = placed(channel, own)
    bind(channel, name, own[4:])
    publish_keys(channel, name, keys(1000))
    after = placed(channel, own)
    moved = [body for body in before if before[body] != after[body]]
    assert 100 <= len(moved) <= 300
    assert {after[body] for body in moved} == {own[4]}


@pytest.mark.row("Exchange types", "A queue joins or leaves")
def test_a_queue_that_leaves_gives_up_only_its_own(broker, channel, exchange, queues):
    name, own = exchange("x-consistent-hash"), queues(5)
    bind(channel, name, own)
    publish_keys(channel, name, keys(1000))
    before = placed(channel, own)
    channel.queue_unbind(own[0], name, "1")
    publish_keys(channel, name, keys(1000))
    after = placed(channel, own)
    moved = collections.Counter(
        before[body] for body in before if before[body] != after[body])
    assert moved.pop(own[0]) == sum(queue == own[0] for queue in before.values())
    others = expect(
        broker, why="RabbitMQ numbers the others anew, so that most keys move",
        ringtail=range(1), rabbitmq=range(1, 1001))
    assert sum(moved.values()) in others


@pytest.mark.row("Exchange types", "Several bindings of a queue")
def test_the_weights_of_a_queue_add_up(broker, channel, exchange, queues):
    name, own = exchange("x-consistent-hash"), queues(2)
    for weight in ["1", "4"]:
        channel.queue_bind(own[0], name, weight)
    channel.queue_bind(own[1], name, "5")
    publish_keys(channel, name, keys(1000))
    mean = expect(
        broker, why="RabbitMQ counts only the first binding of a queue",
        ringtail=500, rabbitmq=167)
    assert abs(count(channel, own[0]) - mean) <= 90


@pytest.mark.row("Exchange types", "hash-header")
def test_a_header_is_hashed_instead_of_the_key(channel, exchange, queues):
    name, own = exchange("x-consistent-hash", arguments={"hash-header": "h"}), queues(4)
    bind(channel, name, own)
    for n in range(200):
        header = pika.BasicProperties(headers={"h": f"header-{n}"})
        channel.basic_publish(name, "same", b"%d" % n, header)
    shares = counts(channel, own)
    assert sum(shares) == 200 and min(shares) >= 20, shares
    drained = placed(channel, own)
    assert len(drained) == 200
    publish_keys(channel, name, keys(50), pika.BasicProperties(headers={"h": "same"}))
    assert sorted(counts(channel, own)) == [0, 0, 0, 50]


@pytest.mark.row("Exchange types", "hash-header")
@pytest.mark.parametrize("headers", [None, {}, {"other": "h"}])
def test_messages_without_the_header_go_to_one_queue(channel, exchange, queues, headers):
    name, own = exchange("x-consistent-hash", arguments={"hash-header": "h"}), queues(4)
    bind(channel, name, own)
    publish_keys(channel, name, keys(20), pika.BasicProperties(headers=headers))
    assert sorted(counts(channel, own)) == [0, 0, 0, 20]


@pytest.mark.row("Exchange types", "hash-property")
@pytest.mark.parametrize("hashed", ["correlation_id", "message_id", "timestamp"])
def test_a_property_is_hashed_instead_of_the_key(channel, exchange, queues, hashed):
    name, own = exchange("x-consistent-hash", arguments={"hash-property": hashed}), queues(4)
    bind(channel, name, own)
    for n in range(200):
        value = 1_700_000_000 + n if hashed == "timestamp" else f"value-{n}"
        channel.basic_publish(name, "same", b"%d" % n, pika.BasicProperties(**{hashed: value}))
    shares = counts(channel, own)
    assert sum(shares) == 200 and min(shares) >= 20, shares


@pytest.mark.row("Exchange types", "hash-property")
@pytest.mark.parametrize(("arguments", "text"), [
    ({"hash-property": "app_id"}, "Unsupported property: app_id"),
    ({"hash-property": "message_id", "hash-header": "h"},
     "hash-header and hash-property are mutually exclusive"),
])
def test_arguments_of_a_hash_exchange_are_checked(channel, name, arguments, text):
    declare = lambda: channel.exchange_declare(  # noqa: E731
        name(), "x-consistent-hash", arguments=arguments)
    closes_channel(channel, declare, 406, f"PRECONDITION_FAILED - {text}")


@pytest.mark.row("Exchange types", "Weights")
@pytest.mark.parametrize(("key", "text"), [
    ("", "The binding key must be an integer: <<>>"),
    ("five", "The binding key must be an integer: <<\"five\">>"),
    ("1.5", "The binding key must be an integer: <<\"1.5\">>"),
    ("0", "The binding key must be greater than 0"),
    ("-2", "The binding key must be greater than 0"),
])
def test_a_binding_key_is_a_weight(channel, exchange, queue, key, text):
    name = exchange("x-consistent-hash")
    # With an empty name of the queue, an empty key would be its name.
    closes_channel(
        channel, lambda: channel.queue_bind(queue, name, key), 406,
        f"PRECONDITION_FAILED - {text}")


@pytest.mark.row("Exchange types", "Weights")
def test_a_weight_may_have_a_sign(channel, exchange, queue):
    name = exchange("x-consistent-hash")
    channel.queue_bind(queue, name, "+2")
    publish(channel, "key", b"m", exchange=name)
    assert drain(channel, queue) == [b"m"]


@pytest.mark.row("Exchange types", "x-modulus-hash, x-random")
@pytest.mark.parametrize("kind", ["x-modulus-hash", "x-random"])
def test_binding_keys_mean_nothing(channel, exchange, queues, kind):
    name, own = exchange(kind), queues(2)
    for queue in own:
        channel.queue_bind(queue, name, queue)
    publish_keys(channel, name, keys(100))
    shares = counts(channel, own)
    assert sum(shares) == 100 and min(shares) >= 15, shares


@pytest.mark.row("Exchange types", "x-modulus-hash, x-random")
def test_a_random_exchange_ignores_the_key(channel, exchange, queues):
    name, own = exchange("x-random"), queues(4)
    bind(channel, name, own)
    publish_keys(channel, name, ["same"] * 400)
    shares = counts(channel, own)
    assert sum(shares) == 400 and all(50 <= share <= 150 for share in shares), shares


@pytest.mark.row("Exchange types", "Between exchanges")
@pytest.mark.parametrize("kind", [*HASHES, "x-random"])
def test_exchanges_can_be_bound(channel, exchange, queues, kind):
    name, own, fanouts = exchange(kind), queues(2), [exchange("fanout") for _ in range(2)]
    for queue, fanout in zip(own, fanouts):
        channel.exchange_bind(fanout, name, "1")
        channel.queue_bind(queue, fanout)
    publish_keys(channel, name, keys(100))
    shares = counts(channel, own)
    assert sum(shares) == 100 and min(shares) >= 15, shares


@pytest.mark.row("Exchange types", "Between exchanges")
@pytest.mark.parametrize("kind", [*HASHES, "x-random"])
def test_an_alternate_exchange_gets_what_no_binding_takes(channel, exchange, queue, kind):
    fanout = exchange("fanout")
    name = exchange(kind, arguments={"alternate-exchange": fanout})
    channel.queue_bind(queue, fanout)
    publish(channel, "key", b"m", exchange=name)
    assert drain(channel, queue) == [b"m"]


def local_random(broker, channel, name):
    """Declares an exchange of the type; None where there is no such type."""
    exchange = name()
    if expect(broker, why=NOT_IN_3_10, ringtail=True, rabbitmq=False):
        channel.exchange_declare(exchange, "x-local-random")
        return exchange
    closes_connection(
        channel.connection, lambda: channel.exchange_declare(exchange, "x-local-random"), 503,
        "COMMAND_INVALID - unknown exchange type 'x-local-random'")
    return None


@pytest.mark.row("Exchange types", "x-local-random")
def test_a_local_random_exchange_chooses_among_the_queues_of_the_node(
        broker, channel, name, queues):
    own = queues(2)
    if exchange := local_random(broker, channel, name):
        bind(channel, exchange, own, "")
        publish_keys(channel, exchange, ["same"] * 100)
        shares = counts(channel, own)
        assert sum(shares) == 100 and min(shares) >= 15, shares
        channel.exchange_delete(exchange)


@pytest.mark.row("Exchange types", "x-local-random")
def test_a_local_random_exchange_takes_only_queues_without_a_key(
        broker, connection, channel, name, queue, exchange):
    fanout = exchange("fanout")
    if local := local_random(broker, channel, name):
        closes_channel(
            channel, lambda: channel.queue_bind(queue, local, "k"), 406,
            "PRECONDITION_FAILED - Non empty binding 'k' key not permitted")
        fresh = connection.channel()
        closes_channel(
            fresh, lambda: fresh.exchange_bind(fanout, local, ""), 406,
            "PRECONDITION_FAILED - Destination not found")
        connection.channel().exchange_delete(local)


@pytest.mark.row("Exchange types", "After a restart")
def test_a_restart_moves_nothing(own_broker, connect):
    broker = own_broker(plugins=PLUGINS)
    channel = connect(broker).channel()
    own = [f"kept-{n}" for n in range(4)]
    channel.exchange_declare("kept", "x-consistent-hash", durable=True)
    for queue in own:
        channel.queue_declare(queue, durable=True)
    bind(channel, "kept", own, "2")
    publish_keys(channel, "kept", keys(200))
    before = placed(channel, own)
    channel.connection.close()
    broker.stop()
    broker.start()
    channel = connect(broker).channel()
    channel.exchange_declare("kept", "x-consistent-hash", durable=True)
    publish_keys(channel, "kept", keys(200))
    moved = [body for body, queue in placed(channel, own).items() if before[body] != queue]
    assert len(moved) in expect(
        broker, why="RabbitMQ may recover the bindings in another order, so that keys move",
        ringtail=range(1), rabbitmq=range(201))


@pytest.mark.row("Exchanges", "Declared otherwise")
def test_a_declare_with_another_type_names_both(channel, name):
    exchange = name()
    channel.exchange_declare(exchange, "x-random", auto_delete=True)
    closes_channel(
        channel, lambda: channel.exchange_declare(exchange, "fanout", auto_delete=True), 406,
        f"PRECONDITION_FAILED - inequivalent arg 'type' for exchange '{exchange}' in vhost '/': "
        "received 'fanout' but current is ''x-random''")
