"""Limits of vhosts and of users, from a definitions file that both brokers load."""

import json

import pika
import pika.spec as spec
import pytest

from support import closes_channel, eventually, expect
from test_access import hashed, permission
from wire import Wire

NEWER = "3.10 does not know these settings yet"
LATE = "3.10 counts what is opened and closed a moment later"
USERS = {"admin": {}, "two": {"max-connections": 2, "max-channels": -1},
         "none": {"max-connections": 0}, "three": {"max-channels": 3}}
VHOSTS = {"/": {}, "narrow": {"max-connections": 2, "max-queues": 2},
          "queues": {"max-queues": 2}, "shut": {"max-connections": 0}, "empty": {"max-queues": 0},
          "open": {"max-connections": -1, "max-queues": -1}}
# Each test has vhosts and users of its own, since what others leave counts a moment longer.


def definitions():
    parameters = [
        {"vhost": vhost, "component": "vhost-limits", "name": "limits", "value": limits}
        for vhost, limits in VHOSTS.items() if limits]
    return {
        "users": [hashed("admin", "sha256", name) | {"limits": limits}
                  for name, limits in USERS.items()],
        "vhosts": [{"name": vhost, "limits": limits} for vhost, limits in VHOSTS.items()],
        "permissions": [permission(user, ".*", ".*", ".*", vhost)
                        for user in USERS for vhost in VHOSTS],
        "parameters": parameters,
    }


@pytest.fixture(scope="module")
def limited(make_broker, tmp_path_factory):
    """A broker that loaded the definitions."""
    file = tmp_path_factory.mktemp("definitions") / "definitions.json"
    file.write_text(json.dumps(definitions()))
    broker = make_broker(
        user="admin", password="admin-password", config=f"load_definitions = {file}\n")
    broker.start()
    yield broker
    broker.discard()


@pytest.fixture
def as_user(connect, limited):
    """Opens a connection as a user of the definitions."""

    def connection(user, vhost="/"):
        login = pika.PlainCredentials(user, "admin-password")
        return connect(limited, credentials=login, virtual_host=vhost)

    return connection


def opens(client, user, vhost):
    """What a client is answered that opens a vhost."""
    client.started(user)
    client.expect(spec.Connection.Tune, 0)
    client.send(0, spec.Connection.TuneOk(2047, 131072, 0))
    client.send(0, spec.Connection.Open(vhost))
    return client.next().method


def refusal(broker, user, vhost, channels=0):
    """What a client is told that opens a connection and so many channels; `None`: nothing."""
    with Wire(broker) as client:
        answer = opens(client, user, vhost)
        for channel in range(1, channels + 1):
            if isinstance(answer, spec.Connection.Close):
                break
            client.send(channel, spec.Channel.Open())
            answer = client.next().method
        if isinstance(answer, spec.Connection.Close):
            assert answer.reply_code == 530
            text = answer.reply_text.removeprefix("NOT_ALLOWED - ")
            return text, (answer.class_id, answer.method_id)
        client.call(0, spec.Connection.Close(200, "", 0, 0), spec.Connection.CloseOk)
        return None


def told(broker, user, vhost, text, method=(10, 40), channels=0):
    """The client is refused with this text."""
    if expect(broker, why=LATE, ringtail=True, rabbitmq=False):
        answer = refusal(broker, user, vhost, channels)
    else:
        answer = eventually(lambda: refusal(broker, user, vhost, channels))
    assert answer == (text, method)


@pytest.mark.row("Handshake", "Limit of a vhost's connections")
def test_the_connections_of_a_vhost(limited, as_user):
    text = "access to vhost '{}' refused for user '{}': connection limit ({}) is reached"
    told(limited, "admin", "shut", text.format("shut", "admin", 0))
    # The vhost's limit comes before the user's.
    told(limited, "none", "shut", text.format("shut", "none", 0))
    clients = [as_user("admin", "narrow") for _ in range(2)]
    told(limited, "admin", "narrow", text.format("narrow", "admin", 2))
    clients.pop().close()
    eventually(lambda: refusal(limited, "admin", "narrow") is None)
    as_user("admin", "open")


@pytest.mark.row("Handshake", "Limit of a user's connections")
def test_the_connections_of_a_user(limited, as_user):
    text = "connection refused for user '{}': user connection limit ({}) is reached"
    told(limited, "none", "/", text.format("none", 0))
    as_user("two")
    with Wire(limited) as client:
        assert isinstance(opens(client, "two", "open"), spec.Connection.OpenOk)
        told(limited, "two", "open", text.format("two", 2))
    as_user("admin", "open")
    # One that vanishes counts no longer either.
    eventually(lambda: refusal(limited, "two", "open") is None)
    told(limited, "none", "nosuch", "vhost nosuch not found")


@pytest.mark.row("Channels", "Limit of a user's channels")
def test_the_channels_of_a_user(limited, as_user):
    text = ("number of channels opened for user 'three' has reached the maximum allowed user "
            "limit of (3)")
    first, second = as_user("three"), as_user("three")
    channels = [connection.channel() for connection in (first, first, second)]
    told(limited, "three", "/", text, (0, 0), channels=1)
    # What is open goes on, and what is closed makes room.
    channels.pop().queue_declare("", exclusive=True)
    second.close()
    eventually(lambda: refusal(limited, "three", "/", channels=1) is None)
    channels.pop().close()
    eventually(lambda: refusal(limited, "three", "/", channels=2) is None)


@pytest.mark.row("Queues", "Limit of a vhost's queues")
def test_the_queues_of_a_vhost(as_user):
    def full(channel, vhost, limit):
        closes_channel(
            channel, lambda: channel.queue_declare("c"), 406,
            f"PRECONDITION_FAILED - cannot declare queue 'c': queue limit in vhost '{vhost}' "
            f"({limit}) is reached")

    full(as_user("admin", "empty").channel(), "empty", 0)
    connection = as_user("admin", "queues")
    channel = connection.channel()
    channel.queue_declare("a", durable=True)
    channel.queue_declare("b", exclusive=True)
    channel.queue_declare("a", durable=True)
    full(channel, "queues", 2)
    channel = connection.channel()
    channel.queue_delete("a")
    channel.queue_declare("c")
    as_user("admin", "open").channel().queue_declare("d", exclusive=True)


def loads(own_broker, tmp_path, **files):
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return own_broker(
        user="admin", password="admin-password", config=f"load_definitions = {tmp_path}\n")


@pytest.mark.row("Definitions", "Limits")
def test_a_file_keeps_the_limits_that_were_there_before_it(own_broker, tmp_path, connect):
    queues = [{"name": name, "vhost": "queues", "durable": True, "auto_delete": False,
               "arguments": {}} for name in "abcd"]
    # A lowered limit and what is beyond it come together, as they are exported.
    to = loads(own_broker, tmp_path, a=definitions() | {"queues": queues[:3]})
    login = pika.PlainCredentials("admin", "admin-password")
    channel = connect(to, credentials=login, virtual_host="queues").channel()
    assert channel.queue_declare("c", passive=True).method.queue == "c"
    closes_channel(
        channel, lambda: channel.queue_declare("d"), 406,
        "PRECONDITION_FAILED - cannot declare queue 'd': queue limit in vhost 'queues' (2) is "
        "reached")


@pytest.mark.row("Definitions", "Limits")
def test_limits_outlive_a_restart(own_broker, tmp_path):
    to = loads(own_broker, tmp_path, a=definitions())
    text = "connection refused for user 'none': user connection limit (0) is reached"
    assert refusal(to, "none", "/") == (text, (10, 40))
    to.stop()
    (tmp_path / "a.json").write_text("{}")
    to.start()
    assert refusal(to, "none", "/") == (text, (10, 40))
    text = "access to vhost 'shut' refused for user 'admin': connection limit (0) is reached"
    assert refusal(to, "admin", "shut") == (text, (10, 40))


DEFAULTS = """
default_limits.vhosts.1.pattern = ^nar
default_limits.vhosts.1.max_queues = 3
default_limits.vhosts.2.max_connections = 1
default_policies.operator.short.queue_pattern = ^short
default_policies.operator.short.vhost_pattern = ^nar
default_policies.operator.short.max_length = 2
"""


@pytest.mark.row("Policies", "Defaults of new vhosts")
def test_what_new_vhosts_get(broker, own_broker, tmp_path, connect):
    if not expect(broker, why=NEWER, ringtail=True, rabbitmq=False):
        pytest.skip(NEWER)
    vhosts = [{"name": "/"}, {"name": "narrow"}]
    (tmp_path / "a.json").write_text(json.dumps(definitions() | {
        "vhosts": vhosts, "parameters": [],
        "permissions": [permission("admin", ".*", ".*", ".*", each["name"]) for each in vhosts]}))
    to = own_broker(user="admin", password="admin-password",
                    config=f"load_definitions = {tmp_path}\n{DEFAULTS}")
    login = pika.PlainCredentials("admin", "admin-password")
    channel = connect(to, credentials=login, virtual_host="narrow").channel()
    channel.confirm_delivery()
    for name, kept in (("short", 2), ("long", 4)):
        channel.queue_declare(name)
        for _ in range(4):
            channel.basic_publish("", name, b"")
        assert channel.queue_declare(name, passive=True).method.message_count == kept
    channel.queue_declare("third")
    closes_channel(
        channel, lambda: channel.queue_declare("fourth"), 406,
        "PRECONDITION_FAILED - cannot declare queue 'fourth': queue limit in vhost 'narrow' (3) "
        "is reached")
    connect(to, credentials=login)
    text = "access to vhost '/' refused for user 'admin': connection limit (1) is reached"
    assert refusal(to, "admin", "/") == (text, (10, 40))
