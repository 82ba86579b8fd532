"""The client programs, how each is started, and which scenarios each has."""

import os
import pathlib
import shutil
import sys

HERE = pathlib.Path(__file__).resolve().parent
BUILT = HERE.parents[1] / "target/clients"

# What every client shows, unless its library has no such thing.
SCENARIOS = (
    "topology", "confirms", "returns", "acks", "prefetch", "global_prefetch", "get", "large",
    "headers", "errors", "tx", "cancel_notify", "reply_to", "expiration", "heartbeat",
    "blocked", "reconnect")

COMMANDS = {
    "pika": [sys.executable, HERE / "python/pika_client.py"],
    "aio_pika": [sys.executable, HERE / "python/aio_pika_client.py"],
    "kombu": [sys.executable, HERE / "python/kombu_client.py"],
    "amqplib": ["node", HERE / "node/client.js"],
    "amqp091_go": [BUILT / "go/client"],
    "lapin": [BUILT / "lapin/debug/lapin-client"],
    "php_amqplib": ["php", HERE / "php/client.php"],
    "bunny": ["ruby", HERE / "ruby/client.rb"],
    "amqp_tools": ["bash", HERE / "tools/client.sh"],
}

# Scenario by client, with the reason: what the library does not let its user do.
LEFT_OUT = {
    "aio_pika": {
        "blocked": "it logs connection.blocked and offers no callback",
    },
    "amqplib": {
        "tx": "no method for it",
    },
    "amqp_tools": {
        scenario: "the tools have no option for it"
        for scenario in (
            "confirms", "returns", "global_prefetch", "tx", "cancel_notify", "reply_to",
            "expiration", "heartbeat", "blocked", "reconnect")
    },
}

# These libraries do not tell their user why a connection is blocked.
WITHOUT_REASON = ("kombu", "php_amqplib")

# Ringtail has not built these yet: when one passes, it leaves this list.
NOT_BUILT = ("expiration",)


def command(client, scenario):
    """The command line of a scenario."""
    line = [*map(str, COMMANDS[client]), scenario]
    assert shutil.which(line[0]), f"no {line[0]}: tests/run clients installs and builds it"
    return line


def environment(broker, prefix):
    """What a client program is told: where the broker is, and how its names begin."""
    return os.environ | {
        "AMQP_HOST": broker.host, "AMQP_PORT": str(broker.port), "AMQP_USER": broker.user,
        "AMQP_PASSWORD": broker.password, "AMQP_PREFIX": prefix, "PYTHONUNBUFFERED": "1",
        "NODE_PATH": str(BUILT / "node/node_modules")}


def having(scenario):
    """The clients that show this scenario."""
    return [client for client in COMMANDS if scenario not in LEFT_OUT.get(client, {})]


def pairs(*scenarios):
    """Every client with each of these scenarios that it shows."""
    return [(client, scenario) for scenario in scenarios for client in having(scenario)]
