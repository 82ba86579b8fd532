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
    "blocked", "reconnect", "dead_letters")

# Quick to start, since each program is short.
JAVA = [
    "java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-cp", f"{BUILT}/java/classes:{BUILT}/java/lib/*"]

COMMANDS = {
    "pika": [sys.executable, HERE / "python/pika_client.py"],
    "aio_pika": [sys.executable, HERE / "python/aio_pika_client.py"],
    "kombu": [sys.executable, HERE / "python/kombu_client.py"],
    "amqplib": ["node", HERE / "node/client.js"],
    "amqp091_go": [BUILT / "go/client"],
    "lapin": [BUILT / "lapin/debug/lapin-client"],
    "php_amqplib": ["php", HERE / "php/client.php"],
    "bunny": ["ruby", HERE / "ruby/client.rb"],
    "java": [*JAVA, "plain.Main"],
    "amqp_tools": ["bash", HERE / "tools/client.sh"],
    "spring_simple": [*JAVA, "-Dcontainer=simple", "spring.Shop"],
    "spring_direct": [*JAVA, "-Dcontainer=direct", "spring.Shop"],
    "masstransit": ["node", HERE / "node/masstransit.js"],
    "nservicebus": ["node", HERE / "node/nservicebus.js"],
}

_SPRING = (
    "retries", "ack_modes", "manual_acks", "publisher", "broadcast", "request_reply", "reconnect")

# Frameworks have topologies of their own: each shows these scenarios instead. Those for .NET are
# imitated by programs that declare and send what the framework would.
FRAMEWORKS = {
    "spring_simple": _SPRING,
    "spring_direct": _SPRING,
    "masstransit": ("publish_subscribe", "faults", "requests", "direct_reply", "temporary_bus"),
    "nservicebus": ("publish_subscribe", "delays", "delayed_retries"),
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
            "expiration", "heartbeat", "blocked", "reconnect", "dead_letters")
    },
}

# Scenarios of single clients: a fault that the others hide, or another layer beneath.
ONLY = {
    "orderly_close": ("amqp091_go",), "netty": ("java",), "delayed_delivery": ("kombu",)}

# These libraries do not tell their user why a connection is blocked.
WITHOUT_REASON = ("kombu", "php_amqplib")

# What scenarios need beyond the plain protocol.
TTL, EXPIRES, DEAD_LETTERS = "message TTL", "expiring queues", "dead letters"
OVERFLOW = "x-overflow"
NEEDS = {
    "expiration": (TTL,),
    "dead_letters": (TTL, DEAD_LETTERS),
    "delayed_delivery": (TTL, DEAD_LETTERS, OVERFLOW),
    "retries": (TTL, DEAD_LETTERS),
    "manual_acks": (DEAD_LETTERS,),
    "broadcast": (EXPIRES,),
    "requests": (TTL, EXPIRES),
    "direct_reply": (TTL,),
    "temporary_bus": (EXPIRES,),
    "delays": (TTL, DEAD_LETTERS),
    "delayed_retries": (TTL, DEAD_LETTERS),
}

# Of these, what Ringtail has not built: a scenario that needs it must fail there.
NOT_BUILT = ()


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
    if scenario in ONLY:
        return list(ONLY[scenario])
    return [client for client in COMMANDS if scenario in _shown_by(client)]


def _shown_by(client):
    if client in FRAMEWORKS:
        return FRAMEWORKS[client]
    return [each for each in SCENARIOS if each not in LEFT_OUT.get(client, {})]


def of_frameworks():
    """Every framework with each of its scenarios that are its own."""
    return [
        (client, scenario) for client, shown in FRAMEWORKS.items() for scenario in shown
        if scenario not in SCENARIOS]


def pairs(*scenarios):
    """Every client with each of these scenarios that it shows."""
    return [(client, scenario) for scenario in scenarios for client in having(scenario)]


def ends_well(program, scenario):
    """It came to its end, which is also the end of this scenario."""
    assert program.finish().splitlines()[-1] == f"ok {scenario}", program.text()
