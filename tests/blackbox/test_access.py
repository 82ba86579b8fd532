"""Users, vhosts, permissions and topic permissions, from a definitions file that both brokers
load."""

import base64
import hashlib
import json

import pika
import pytest
from pika import exceptions

from support import expect

SALT = bytes([1, 2, 3, 4])
LIMITED, TOPICS, NOBODY = "limited", "topics", "nobody"
PASSWORDS = {user: f"{user}-password" for user in ["admin", LIMITED, TOPICS, NOBODY, "md5", "sha512"]}


def hashed(user, algorithm, name=None):
    """A user whose password is that of `user`."""
    digest = hashlib.new(algorithm, SALT + PASSWORDS[user].encode()).digest()
    return {
        "name": name or user, "password_hash": base64.b64encode(SALT + digest).decode(),
        "hashing_algorithm": f"rabbit_password_hashing_{algorithm}", "tags": ""}


def permission(user, configure, write, read, vhost="/"):
    return {
        "user": user, "vhost": vhost, "configure": configure, "write": write, "read": read}


def queue(name):
    return {"name": name, "vhost": "/", "durable": True, "auto_delete": False, "arguments": {}}


def exchange(name, kind, **more):
    return {
        "name": name, "vhost": "/", "type": kind, "durable": True, "auto_delete": False,
        "internal": False, "arguments": {}} | more


DEFINITIONS = {
    "users": [hashed(user, "sha256") for user in ["admin", LIMITED, TOPICS, NOBODY]] + [
        hashed("md5", "md5"), hashed("sha512", "sha512"),
        {"name": "passwordless", "password_hash": "",
         "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": "monitoring"}],
    "vhosts": [{"name": "/"}, {"name": "other"}],
    "permissions": [
        permission("admin", ".*", ".*", ".*"),
        permission("admin", ".*", ".*", ".*", vhost="other"),
        permission("passwordless", ".*", ".*", ".*"),
        permission("md5", ".*", ".*", ".*"),
        permission("sha512", ".*", ".*", ".*"),
        # Each name says which rights to it there are.
        permission(LIMITED, "^c", r"^(?!amq\.)c?w", "^(cw)?r"),
        permission(TOPICS, "", ".*", ".*"),
        permission(NOBODY, "", "", "", vhost="other"),
    ],
    "topic_permissions": [
        {"user": TOPICS, "vhost": "/", "exchange": "amq.topic", "write": "^{username}\\.",
         "read": "^{vhost}\\."}],
    "policies": [
        {"vhost": "/", "name": "short", "pattern": "^short", "apply-to": "queues", "priority": 0,
         "definition": {"max-length": 2}},
        {"vhost": "/", "name": "higher", "pattern": "^short-high$", "apply-to": "queues",
         "priority": 1, "definition": {"max-length": 4, "ha-mode": "all"}}],
    "parameters": [
        {"vhost": "/", "component": "operator_policy", "name": "lower", "value":
         {"pattern": "^short-low$", "apply-to": "queues", "priority": 0,
          "definition": {"max-length": 1}}}],
    "queues": [queue(name) for name in ["q", "w", "r", "cwr"]],
    "exchanges": [
        exchange("x", "direct"), exchange("wx", "direct"), exchange("rx", "topic"),
        exchange("internal", "direct", internal=True)],
    "bindings": [
        {"source": "wx", "vhost": "/", "destination": "q", "destination_type": "queue",
         "routing_key": "to-q", "arguments": {}}],
}


@pytest.fixture(scope="module")
def restricted(make_broker, tmp_path_factory):
    """A broker that loaded the definitions."""
    file = tmp_path_factory.mktemp("definitions") / "definitions.json"
    file.write_text(json.dumps(DEFINITIONS))
    broker = make_broker(
        user="admin", password=PASSWORDS["admin"], config=f"load_definitions = {file}\n")
    broker.start()
    yield broker
    log = broker.log()
    broker.discard()
    hashes = [user["password_hash"] for user in DEFINITIONS["users"] if user["password_hash"]]
    assert not [secret for secret in [*PASSWORDS.values(), *hashes] if secret in log]


@pytest.fixture
def as_user(connect, restricted):
    """Opens a channel as a user of the definitions."""

    def channel(user, vhost="/"):
        login = pika.PlainCredentials(user, PASSWORDS.get(user, ""))
        return connect(restricted, credentials=login, virtual_host=vhost).channel()

    return channel


UNNAMED = "3.10 does not name the right"


def words(broker, right, what, user):
    """The text for a right to an object that a user lacks."""
    access = expect(broker, why=UNNAMED, ringtail=f"{right} access", rabbitmq="access")
    return f"ACCESS_REFUSED - {access} to {what} in vhost '/' refused for user '{user}'"


def refused(channel, action, text):
    """The action closes the channel with 403 and this text."""
    with pytest.raises(exceptions.ChannelClosedByBroker) as closed:
        action(channel)
    assert (closed.value.reply_code, closed.value.reply_text) == (403, text)


def publish(exchange, key=""):
    def action(channel):
        channel.confirm_delivery()
        channel.basic_publish(exchange, key, b"")

    return action


def dead_letter(name, exchange):
    return lambda channel: channel.queue_declare(
        name, arguments={"x-dead-letter-exchange": exchange})


def alternate(name, exchange):
    return lambda channel: channel.exchange_declare(
        name, arguments={"alternate-exchange": exchange})


# What a user without the right is refused: what it does, the right, the object.
REFUSED = {
    "declare a queue": (lambda c: c.queue_declare("w-new"), "configure", "queue 'w-new'"),
    "declare a queue that is there": (
        lambda c: c.queue_declare("w", durable=True), "configure", "queue 'w'"),
    "delete a queue": (lambda c: c.queue_delete("w"), "configure", "queue 'w'"),
    "delete a queue that is not there": (
        lambda c: c.queue_delete("w-none"), "configure", "queue 'w-none'"),
    "declare an exchange": (lambda c: c.exchange_declare("x-new"), "configure", "exchange 'x-new'"),
    "delete an exchange": (lambda c: c.exchange_delete("x"), "configure", "exchange 'x'"),
    "declare with an alternate exchange": (
        alternate("cwr-new", "amq.direct"), "write", "exchange 'amq.direct'"),
    "declare an unreadable exchange with an alternate": (
        alternate("cw-new", "wx"), "read", "exchange 'cw-new'"),
    "declare with a dead letter exchange": (
        dead_letter("cwr-new", "x"), "write", "exchange 'x'"),
    "declare an unreadable queue with dead letters": (
        dead_letter("cw-new", "wx"), "read", "queue 'cw-new'"),
    "publish": (publish("rx"), "write", "exchange 'rx'"),
    "publish to an exchange that is not there": (publish("none"), "write", "exchange 'none'"),
    "publish to the default exchange": (
        publish("", "q"), "write", "exchange 'amq.default'"),
    "publish to an internal exchange": (publish("internal"), "write", "exchange 'internal'"),
    "bind a queue": (lambda c: c.queue_bind("r", "rx", "k"), "write", "queue 'r'"),
    "bind from an exchange": (lambda c: c.queue_bind("w", "x", "k"), "read", "exchange 'x'"),
    "bind from an exchange that is not there": (
        lambda c: c.queue_bind("w", "none", "k"), "read", "exchange 'none'"),
    "unbind": (lambda c: c.queue_unbind("w", "x", "k"), "read", "exchange 'x'"),
    "bind to an exchange": (lambda c: c.exchange_bind("x", "rx"), "write", "exchange 'x'"),
    "unbind from an exchange": (lambda c: c.exchange_unbind("wx", "x"), "read", "exchange 'x'"),
    "consume": (lambda c: c.basic_consume("w", print), "read", "queue 'w'"),
    "get": (lambda c: c.basic_get("w"), "read", "queue 'w'"),
    "purge": (lambda c: c.queue_purge("w"), "read", "queue 'w'"),
}


@pytest.mark.row("Permissions", "Rights of each method")
@pytest.mark.parametrize("case", REFUSED)
def test_what_needs_a_right_is_refused_without_it(restricted, as_user, case):
    action, right, what = REFUSED[case]
    refused(as_user(LIMITED), action, words(restricted, right, what, LIMITED))


@pytest.mark.row("Permissions", "Rights of each method")
def test_what_the_user_has_rights_for_is_done(as_user):
    channel = as_user(LIMITED)
    channel.queue_declare("cwr-mine")
    channel.exchange_declare("cwr-x", "topic", arguments={"alternate-exchange": "wx"})
    channel.queue_bind("cwr-mine", "cwr-x", "k")
    channel.exchange_bind("wx", "rx", "k")
    publish("cwr-x", "k")(channel)
    assert channel.basic_get("cwr-mine", auto_ack=True)[2] == b""
    tag = channel.basic_consume("cwr-mine", print)
    channel.basic_cancel(tag)
    channel.queue_purge("r")
    channel.queue_unbind("cwr-mine", "cwr-x", "k")
    channel.exchange_unbind("wx", "rx", "k")
    channel.queue_delete("cwr-mine")
    channel.exchange_delete("cwr-x")


@pytest.mark.row("Permissions", "Passive declare")
def test_a_passive_declare_needs_no_right(as_user):
    channel = as_user(LIMITED)
    channel.queue_declare("w", passive=True)
    channel.exchange_declare("x", passive=True)


@pytest.mark.row("Permissions", "Server-named queue")
def test_a_name_that_the_server_makes_needs_the_right_too(restricted, as_user):
    with pytest.raises(exceptions.ChannelClosedByBroker) as closed:
        as_user(LIMITED).queue_declare("", exclusive=True)
    text = closed.value.reply_text
    start, end = words(restricted, "configure", "queue 'amq.gen-'", LIMITED).split("amq.gen-")
    assert text.startswith(start + "amq.gen-") and text.endswith(end)
    assert as_user("admin").queue_declare("", exclusive=True).method.queue.startswith("amq.gen-")


@pytest.mark.row("Permissions", "Vhost")
def test_a_vhost_opens_for_who_has_any_permission_there(as_user):
    as_user(NOBODY, "other")
    for user, vhost in [(NOBODY, "/"), (LIMITED, "other")]:
        with pytest.raises(exceptions.ProbableAccessDeniedError) as closed:
            as_user(user, vhost)
        assert f"access to vhost '{vhost}' refused for user '{user}'" in str(closed.value)


@pytest.mark.row("Permissions", "Topic")
def test_a_key_that_topic_permissions_forbid_is_refused(restricted, as_user):
    publish("amq.topic", f"{TOPICS}.a")(as_user(TOPICS))
    publish("amq.direct", "a")(as_user(TOPICS))
    what = "topic 'a' in exchange 'amq.topic'"
    refused(as_user(TOPICS), publish("amq.topic", "a"), words(restricted, "write", what, TOPICS))
    as_user(TOPICS).queue_bind("q", "amq.topic", "/.a")
    refused(as_user(TOPICS), lambda c: c.queue_bind("q", "amq.topic", "a"),
            words(restricted, "read", what, TOPICS))


@pytest.mark.row("Users", "Password hashes")
@pytest.mark.parametrize("user", ["admin", "md5", "sha512"])
def test_every_hash_of_rabbitmq_logs_in(as_user, user):
    as_user(user).queue_declare("q", durable=True)


@pytest.mark.row("Users", "No password")
def test_who_has_no_password_cannot_log_in(as_user):
    with pytest.raises(exceptions.ProbableAuthenticationError):
        as_user("passwordless")


@pytest.mark.row("Definitions", "First start")
def test_a_broker_that_loads_definitions_makes_no_user_of_its_own(connect, restricted):
    guest = pika.PlainCredentials("guest", "guest")
    with pytest.raises(exceptions.ProbableAuthenticationError):
        connect(restricted, credentials=guest)


@pytest.mark.row("Definitions", "Objects")
def test_what_the_file_defines_is_there(as_user):
    channel = as_user("admin")
    channel.queue_purge("q")
    publish("wx", "to-q")(channel)
    assert channel.basic_get("q", auto_ack=True)[2] == b""


@pytest.mark.row("Policies", "In force")
@pytest.mark.parametrize(("name", "own", "kept"), [
    ("short", None, 2), ("short-high", None, 4), ("short-low", None, 1), ("short-own", 1, 1),
    ("short-more", 9, 2), ("not-short", None, 5)])
def test_the_policy_of_the_highest_priority_and_the_lowest_limit_are_in_force(
        as_user, name, own, kept):
    channel = as_user("admin")
    arguments = {"x-max-length": own} if own else {}
    channel.queue_declare(name, exclusive=True, arguments=arguments)
    channel.confirm_delivery()
    for _ in range(5):
        channel.basic_publish("", name, b"")
    assert channel.queue_declare(name, passive=True).method.message_count == kept
