"""Policies for exchanges, from a definitions file that both brokers load."""

import json

import pika
import pytest

from test_access import exchange, hashed, permission, queue


def policy(name, pattern, definition, **more):
    return {"vhost": "/", "name": name, "pattern": pattern, "apply-to": "exchanges",
            "priority": 0, "definition": definition} | more


DEFINITIONS = {
    "users": [hashed("admin", "sha256"), hashed("admin", "sha256", "writer")],
    "vhosts": [{"name": "/"}],
    "permissions": [
        permission("admin", ".*", ".*", ".*"), permission("writer", "^alt", "^alt", "")],
    "policies": [
        policy("one", "^alt", {"alternate-exchange": "one"}),
        policy("two", "^alt-high", {"alternate-exchange": "two"}, priority=1),
        policy("all", "^all", {"alternate-exchange": "one", "max-length": 1}, **{
            "apply-to": "all"}),
        policy("queues", "^only-queues", {"alternate-exchange": "one"}, **{
            "apply-to": "queues"}),
        policy("standard", "^amq\\.topic$", {"alternate-exchange": "one"}),
        policy("missing", "^missing", {"alternate-exchange": "nosuch"})],
    "exchanges": [
        exchange("one", "fanout"), exchange("two", "fanout"), exchange("alt-first", "direct"),
        exchange("alt-own", "direct", arguments={"alternate-exchange": "two"})],
    "queues": [queue("one"), queue("two")],
    "bindings": [
        {"source": name, "vhost": "/", "destination": name, "destination_type": "queue",
         "routing_key": "", "arguments": {}} for name in ("one", "two")],
}


@pytest.fixture(scope="module")
def governed(make_broker, tmp_path_factory):
    """A broker that loaded the definitions."""
    file = tmp_path_factory.mktemp("definitions") / "definitions.json"
    file.write_text(json.dumps(DEFINITIONS))
    broker = make_broker(
        user="admin", password="admin-password", config=f"load_definitions = {file}\n")
    broker.start()
    yield broker
    broker.discard()


@pytest.fixture
def as_user(connect, governed):
    """Opens a channel as a user of the definitions."""
    return lambda user: connect(
        governed, credentials=pika.PlainCredentials(user, "admin-password")).channel()


def way(channel, name):
    """The queues that a message without a binding goes to."""
    channel.confirm_delivery()
    channel.basic_publish(name, "no-such-key", b"")
    return [queue for queue in ("one", "two") if channel.basic_get(queue, auto_ack=True)[0]]


@pytest.mark.row("Policies", "Alternate exchanges")
@pytest.mark.parametrize(("name", "arguments", "queues"), [
    ("alt", {}, ["one"]), ("alt-high", {}, ["two"]), ("all-of-them", {}, ["one"]),
    ("alt-argument", {"alternate-exchange": "two"}, ["two"]), ("only-queues", {}, []),
    ("missing", {}, []), ("other", {}, [])])
def test_a_policy_gives_exchanges_an_alternate(as_user, name, arguments, queues):
    channel = as_user("admin")
    channel.exchange_declare(name, "topic", auto_delete=True, arguments=arguments)
    assert way(channel, name) == queues


@pytest.mark.row("Policies", "Alternate exchanges")
@pytest.mark.parametrize(("name", "queues"), [
    ("alt-first", ["one"]), ("alt-own", ["two"]), ("amq.topic", ["one"]), ("amq.direct", []),
    ("", [])])
def test_a_policy_counts_for_exchanges_that_exist(as_user, name, queues):
    assert way(as_user("admin"), name) == queues


@pytest.mark.row("Policies", "Alternate exchanges")
def test_the_alternate_of_a_policy_needs_no_right(as_user):
    writer = as_user("writer")
    writer.exchange_declare("alt-of-writer", "direct", auto_delete=True)
    writer.confirm_delivery()
    writer.basic_publish("alt-of-writer", "k", b"")
    assert as_user("admin").basic_get("one", auto_ack=True)[0]
