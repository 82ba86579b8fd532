"""Where the broker is, as the environment tells it, and how a program ends."""

import os
import sys

HOST = os.environ["AMQP_HOST"]
PORT = int(os.environ["AMQP_PORT"])
USER = os.environ["AMQP_USER"]
PASSWORD = os.environ["AMQP_PASSWORD"]
PREFIX = os.environ["AMQP_PREFIX"]
URL = f"amqp://{USER}:{PASSWORD}@{HOST}:{PORT}/"


def name(suffix):
    """A name that only this run of this program uses."""
    return PREFIX + suffix


def main(run, scenarios):
    """Runs the scenario that the command line names."""
    scenario = sys.argv[1]
    run(scenarios[scenario])
    print(f"ok {scenario}")
