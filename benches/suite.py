#!/usr/bin/env python3
"""Ringtail and RabbitMQ through the standard set of scenarios, in turn; writes the report.

    benches/suite.py [--html FILE] [--svg FILE] [--json FILE] [any flag of loadgen suite]

Starts both brokers on ports of their own, all threads of each on one CPU (one shard for Ringtail), and
`loadgen suite` on another. Needs the release build of both binaries, two CPUs that do nothing else,
Debian's package rabbitmq-server, and pika (`tests/run` makes a .venv with it). Ctrl-C ends it with a
report of the rounds finished until then.
"""

import argparse
import pathlib
import signal
import subprocess
import sys

from compare import BROKER_CPU, GENERATOR_CPU, LOADGEN, RabbitMQ, Ringtail


def target(name, broker):
    """The broker as loadgen takes it."""
    uri = f"amqp://guest:guest@{broker.host}:{broker.port}/%2f"
    return ["--target", f"{name}={uri},pid={broker.process.pid}"]


def passing_signals_on(command):
    """Runs a command and hands it the signals that come, so that it can end in order. It has a session
    of its own: from a terminal it would get them twice."""
    process = subprocess.Popen(command, start_new_session=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: process.send_signal(number))
    return process.wait()


def main():
    """Runs the suite; loadgen's exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--html", type=pathlib.Path, default=pathlib.Path("suite.html"))
    parser.add_argument("--svg", type=pathlib.Path, default=pathlib.Path("suite.svg"))
    parser.add_argument("--json", type=pathlib.Path, default=pathlib.Path("suite.json"))
    options, rest = parser.parse_known_args()
    ringtail, rabbitmq = Ringtail(), RabbitMQ()
    try:
        command = [
            LOADGEN, "suite", *target("Ringtail", ringtail.start()),
            *target("RabbitMQ", rabbitmq.start()), "--cpus", GENERATOR_CPU,
            "--relay-cpus", BROKER_CPU, "--html", str(options.html), "--svg", str(options.svg),
            "--json", str(options.json), *rest]
        return passing_signals_on(command)
    finally:
        ringtail.discard()
        rabbitmq.discard()


if __name__ == "__main__":
    sys.exit(main())
