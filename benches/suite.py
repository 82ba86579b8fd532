#!/usr/bin/env python3
"""Ringtail and RabbitMQ through the standard set of scenarios, in turn; writes the report.

    benches/suite.py [--html docs/suite.html] [--json docs/suite.json] [any flag of loadgen suite]

Starts both brokers on ports of their own, all threads of each on one CPU (one shard for Ringtail), and
`loadgen suite` on another. Needs the release build of both binaries, two CPUs that do nothing else,
Debian's package rabbitmq-server, and pika (`tests/run` makes a .venv with it).
"""

import argparse
import pathlib
import subprocess
import sys

from compare import BROKER_CPU, GENERATOR_CPU, LOADGEN, RabbitMQ, Ringtail


def target(name, broker):
    """The broker as loadgen takes it."""
    uri = f"amqp://guest:guest@{broker.host}:{broker.port}/%2f"
    return ["--target", f"{name}={uri},pid={broker.process.pid}"]


def main():
    """Runs the suite; loadgen's exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--html", type=pathlib.Path, default=pathlib.Path("suite.html"))
    parser.add_argument("--json", type=pathlib.Path, default=pathlib.Path("suite.json"))
    options, rest = parser.parse_known_args()
    ringtail, rabbitmq = Ringtail(), RabbitMQ()
    try:
        command = [
            LOADGEN, "suite", *target("Ringtail", ringtail.start()),
            *target("RabbitMQ", rabbitmq.start()), "--cpus", GENERATOR_CPU,
            "--relay-cpus", BROKER_CPU, "--html", str(options.html), "--json", str(options.json),
            *rest]
        return subprocess.run(command, check=False).returncode
    finally:
        ringtail.discard()
        rabbitmq.discard()


if __name__ == "__main__":
    sys.exit(main())
