"""Shapes of definitions files that both brokers load: written by hand, or by older versions."""

import base64
import hashlib
import json
import re

import pika
import pytest

from support import closes_channel, expect
from test_access import hashed, permission

PART = "3.10 starts without what it could not take, and without what comes behind it"
NEWER = "3.10 does not know these settings yet"
ADMIN = {"users": [hashed("admin", "sha256")], "vhosts": [{"name": "/"}],
         "permissions": [permission("admin", ".*", ".*", ".*")]}
TOO_SHORT = """
credential_validator.validation_backend = rabbit_credential_validator_min_password_length
credential_validator.min_length = 12
"""


@pytest.fixture
def loads(own_broker, tmp_path):
    """Starts a broker that loads a text, or sections beside those of an administrator."""

    def start(content, config=""):
        file = tmp_path / "definitions.json"
        file.write_text(content if isinstance(content, str) else json.dumps(ADMIN | content))
        return own_broker(
            user="admin", password="admin-password", config=f"load_definitions = {file}\n{config}")

    return start


@pytest.fixture
def refused(broker, loads):
    """Checks that a broker does not start, and with what text."""

    def check(text, content, config=""):
        if expect(broker, why=PART, ringtail=True, rabbitmq=False):
            with pytest.raises(AssertionError, match=re.escape(text)):
                loads(content, config)
        else:
            loads(content, config)

    return check


def md5(password, salt=b"salt"):
    return base64.b64encode(salt + hashlib.md5(salt + password.encode()).digest()).decode()


def logs_in(connect, to, user, password):
    try:
        connect(to, credentials=pika.PlainCredentials(user, password)).close()
        return True
    except pika.exceptions.ProbableAuthenticationError:
        return False


@pytest.mark.row("Definitions", "Passwords in clear")
def test_a_password_in_clear(loads, connect):
    users = [{"name": "clear", "password": "clear-password", "tags": ""},
             {"name": "blank", "password": "", "tags": ""}]
    to = loads({"users": ADMIN["users"] + users, "permissions": ADMIN["permissions"] + [
        permission(user["name"], ".*", ".*", ".*") for user in users]})
    assert logs_in(connect, to, "clear", "clear-password")
    assert not logs_in(connect, to, "clear", "other")
    assert not logs_in(connect, to, "blank", "")


@pytest.mark.row("Definitions", "Passwords in clear")
def test_a_password_and_a_hash_exclude_each_other(refused):
    both = hashed("admin", "sha256", "both") | {"password": "both-password"}
    refused("user 'both': both 'password' and 'password_hash' are there",
            {"users": ADMIN["users"] + [both]})


@pytest.mark.row("Definitions", "Hashes without an algorithm")
@pytest.mark.parametrize("version, fits", [("3.5.7", True), ("3.6.0", False), ("3.10.8", False)])
def test_a_hash_without_an_algorithm(loads, connect, version, fits):
    user = {"name": "old", "password_hash": md5("old-password"), "tags": ""}
    to = loads({"rabbit_version": version, "users": ADMIN["users"] + [user],
                "permissions": ADMIN["permissions"] + [permission("old", ".*", ".*", ".*")]})
    assert logs_in(connect, to, "old", "old-password") is fits


@pytest.mark.row("Definitions", "Global parameters")
def test_the_name_of_the_cluster(loads, connect):
    parameters = [{"name": "cluster_name", "value": "tests@blackbox"},
                  {"name": "mqtt_port_to_vhost_mapping", "value": {"1883": "/"}}]
    to = loads({"global_parameters": parameters})

    def name():
        connection = connect(to)
        name = connection._impl.server_properties["cluster_name"]
        connection.close()
        return name

    assert name() == "tests@blackbox"
    to.stop()
    (to.folder / "empty.json").write_text("{}")
    to.config = f"load_definitions = {to.folder}/empty.json\n"
    to.start()
    assert name() == "tests@blackbox"


@pytest.mark.row("Definitions", "Names of the broker")
def test_names_of_the_broker_are_left_out(loads, connect):
    def queue(name):
        return {"vhost": "/", "name": name, "durable": True, "auto_delete": False, "arguments": {}}

    def binding(source, destination):
        return {"vhost": "/", "source": source, "destination": destination,
                "destination_type": "queue", "routing_key": "k", "arguments": {}}

    exchange = {"vhost": "/", "name": "amq.mine", "type": "topic", "durable": True,
                "auto_delete": False, "internal": False, "arguments": {}}
    to = loads({"queues": [queue("amq.gen-mine"), queue("q")], "exchanges": [exchange],
                "bindings": [binding("amq.mine", "q"), binding("amq.direct", "amq.gen-mine"),
                             binding("amq.direct", "q")]})
    channel = connect(to).channel()
    channel.confirm_delivery()
    channel.basic_publish("amq.direct", "k", b"", mandatory=True)
    assert channel.queue_declare("q", passive=True).method.message_count == 1
    closes_channel(channel, lambda: channel.queue_declare("amq.gen-mine", passive=True), 404,
                   "NOT_FOUND - no queue 'amq.gen-mine' in vhost '/'")
    channel = connect(to).channel()
    closes_channel(channel, lambda: channel.exchange_declare("amq.mine", passive=True), 404,
                   "NOT_FOUND - no exchange 'amq.mine' in vhost '/'")


@pytest.mark.row("Definitions", "Form of the file")
def test_comments_and_a_last_comma(loads, connect):
    text = json.dumps(ADMIN)
    text = "// by hand\n" + text[:-1] + ', "queues": [/* none, yet */], "no_section": 7, }'
    assert logs_in(connect, loads(text), "admin", "admin-password")


@pytest.mark.row("Definitions", "Settings of vhosts")
def test_settings_of_a_vhost(loads, connect):
    metadata = {"description": "a text", "tags": ["one"], "default_queue_type": "classic"}
    to = loads({"vhosts": [
        {"name": "/", "description": "a text", "tags": [], "tracing": False},
        {"name": "v", "limits": [], "metadata": metadata}],
        "permissions": ADMIN["permissions"] + [permission("admin", ".*", ".*", ".*", "v")]})
    login = pika.PlainCredentials("admin", "admin-password")
    channel = connect(to, credentials=login, virtual_host="v").channel()
    channel.queue_declare("q", durable=True, arguments={"x-queue-type": "classic"})
    channel.queue_declare("q", durable=True)


@pytest.mark.row("Definitions", "Components that are not built")
@pytest.mark.parametrize("component, why", [
    ("shovel", "component 'shovel' is not built"),
    ("federation-upstream", "component 'federation-upstream' is not built"),
    ("unheard-of", "component unheard-of not found")])
def test_a_component_that_there_is_not(refused, component, why):
    parameter = {"vhost": "/", "component": component, "name": "p",
                 "value": {"src-uri": "amqp://", "uri": "amqp://"}}
    refused(why, {"parameters": [parameter]})


@pytest.mark.row("Users", "Passwords that are allowed")
def test_a_password_that_is_too_short(refused):
    user = {"name": "short", "password": "ten-bytes!", "tags": ""}
    refused("user 'short': minimum required password length is 12",
            {"users": ADMIN["users"] + [user]}, TOO_SHORT)


@pytest.mark.row("Users", "Passwords that are allowed")
def test_a_hash_is_not_checked(loads, connect):
    users = [{"name": "long", "password": "twelve-bytes", "tags": ""},
             hashed("admin", "sha256", "old") | {"password_hash": sha256("short")}]
    to = loads({"users": ADMIN["users"] + users, "permissions": ADMIN["permissions"] + [
        permission(user["name"], ".*", ".*", ".*") for user in users]}, TOO_SHORT)
    assert logs_in(connect, to, "long", "twelve-bytes")
    assert logs_in(connect, to, "old", "short")


@pytest.mark.row("Users", "Passwords that are allowed")
@pytest.mark.parametrize("password, fits", [("abc-1", True), ("abcdef", False)])
def test_a_password_that_has_to_match(loads, refused, connect, password, fits):
    user = {"name": "u", "password": password, "tags": ""}
    content = {"users": ADMIN["users"] + [user],
               "permissions": ADMIN["permissions"] + [permission("u", ".*", ".*", ".*")]}
    config = ("credential_validator.validation_backend = "
              "rabbit_credential_validator_password_regexp\n"
              "credential_validator.regexp = ^[a-z]+-[0-9]$\n")
    if fits:
        assert logs_in(connect, loads(content, config), "u", password)
    else:
        refused("provided password does not match the validator regular expression", content,
                config)


def sha256(password, salt=b"salt"):
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


@pytest.mark.row("Users", "Passwords that are allowed")
def test_the_first_users_password_is_checked(own_broker):
    with pytest.raises(AssertionError, match="exited"):
        own_broker(config=TOO_SHORT)


@pytest.mark.row("Users", "Users of new vhosts")
def test_users_of_new_vhosts(broker, loads, connect):
    if not expect(broker, why=NEWER, ringtail=True, rabbitmq=False):
        pytest.skip(NEWER)
    to = loads({"vhosts": [{"name": "/"}, {"name": "qa-1"}]}, """
default_users.qa.vhost_pattern = ^qa
default_users.qa.password = qa-password
default_users.qa.tags = management, monitoring
default_users.qa.configure = ^qa
""")
    login = pika.PlainCredentials("qa", "qa-password")
    channel = connect(to, credentials=login, virtual_host="qa-1").channel()
    channel.queue_declare("qa-queue")
    closes_channel(
        channel, lambda: channel.queue_declare("other"), 403,
        "ACCESS_REFUSED - configure access to queue 'other' in vhost 'qa-1' refused for user 'qa'")
    with pytest.raises(pika.exceptions.ProbableAccessDeniedError):
        connect(to, credentials=login)
