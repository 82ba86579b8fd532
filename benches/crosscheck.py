#!/usr/bin/env python3
"""Whether loadgen's rates are those that another client sees.

    benches/crosscheck.py [--seconds N] [--loadgen FILE] [--ringtail FILE]

Ringtail and RabbitMQ in turn, at fixed rates: 2,000 and 20,000 messages a second and 60 % of what amqplib
(Node.js, `paced.js`) can do with that broker. At each rate

    amqplib publishes, loadgen consumes,
    loadgen publishes, amqplib consumes,
    each of them does both, one after the other,

and what each of them says must agree within 2 %, in one of three tries: a process that did not run for a
while catches up later, and that is no fault of how it counts. The clients have one CPU, the broker another. Needs the
release build of both binaries, two CPUs that do nothing else, Debian's packages rabbitmq-server and
nodejs, amqplib (`tests/clients/build`) and pika (`tests/run` makes a .venv with it). Prints a table; exit
code 1 if two rates differ by more.
"""

import argparse
import json
import os
import pathlib
import secrets
import shutil
import subprocess
import sys
import time

from compare import GENERATOR_CPU, LOADGEN, ROOT, RabbitMQ, Ringtail

RATES = (2_000, 20_000)
SHARE = 0.6
# Of what amqplib can do, it keeps so much steadily.
STEADY = 0.8
TRIES = 3
AGREE = 0.02
WARMUP = 1
MODULES = ROOT / "target/clients/node/node_modules"
# The exit code of loadgen if another consumer took its messages.
MISSING = 3


class Paced:
    """amqplib at a rate, as a process that is told when to end."""

    def __init__(self, mode, uri, queue, rate):
        script = pathlib.Path(__file__).with_name("paced.js")
        self.process = subprocess.Popen(
            ["taskset", "-c", GENERATOR_CPU, "node", str(script), mode, uri, queue, str(rate),
             str(WARMUP)],
            env=os.environ | {"NODE_PATH": str(MODULES)}, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            sys.exit(f"paced.js {mode} did not begin, exit code {self.process.wait()}")

    def end(self):
        """What it sent and received a second, as it says itself."""
        self.process.terminate()
        text, _ = self.process.communicate()
        if self.process.returncode:
            sys.exit(f"paced.js failed, exit code {self.process.returncode}")
        return json.loads(text)


class Check:
    """One broker: all loads, and a line of the table for each."""

    def __init__(self, name, broker, options):
        self.name = name
        self.uri = f"amqp://{broker.user}:{broker.password}@{broker.host}:{broker.port}"
        self.options = options
        self.differ = 0

    def run(self):
        """All rates. Says how many lines differ."""
        top = self.amqplib("both", 0)["received"]
        print(f"{self.name}: amqplib alone carries {top:,.0f} messages/s")
        for rate in (*RATES, round(SHARE * top)):
            if rate > STEADY * top:
                print(f"{self.name:10} {rate:>8,}  left out: amqplib does not keep it")
                continue
            self.line(rate, "amqplib to loadgen", self.to_loadgen)
            self.line(rate, "loadgen to amqplib", self.to_amqplib)
            self.line(rate, "each alone", self.each_alone)
        return self.differ

    def line(self, rate, what, measure):
        """A line of the table: the rate that was asked for and the two that were seen."""
        for number in range(1, TRIES + 1):
            loadgen, amqplib = measure(rate)
            off = loadgen / amqplib - 1 if amqplib else float("inf")
            if abs(off) <= AGREE:
                break
        else:
            self.differ += 1
        word = "  DIFFER" if abs(off) > AGREE else f"  (try {number})" if number > 1 else ""
        print(f"{self.name:10} {rate:>8,}  {what:20} loadgen {loadgen:>9,.0f}  "
              f"amqplib {amqplib:>9,.0f}  {100 * off:+6.2f} %{word}", flush=True)

    def to_loadgen(self, rate):
        """amqplib publishes all the while; loadgen's figure is of the middle of that."""
        queue = self.queue()
        publisher = Paced("publish", self.uri, queue, rate)
        report = self.loadgen("-x", "0", "-p", "-u", queue)
        return report["received"]["rate"], publisher.end()["sent"]

    def to_amqplib(self, rate):
        """loadgen publishes, and amqplib consumes until nothing comes any more."""
        queue = self.queue()
        consumer = Paced("consume", self.uri, queue, 0)
        report = self.loadgen("-y", "0", "-p", "-u", queue, "-r", str(rate))
        seen = consumer.end()
        if seen["count"] != report["account"]["sent"]:
            print(f"{self.name}: of {report['account']['sent']} messages amqplib got {seen['count']}")
            self.differ += 1
        return report["sent"]["rate"], seen["received"]

    def each_alone(self, rate):
        """The whole load by one, then by the other."""
        report = self.loadgen("-r", str(rate))
        return report["received"]["rate"], self.amqplib("both", rate)["received"]

    def amqplib(self, mode, rate):
        """amqplib for as long as a run of loadgen."""
        client = Paced(mode, self.uri, self.queue(), rate)
        time.sleep(self.options.seconds + WARMUP)  # what is measured is what happens in this time
        return client.end()

    def loadgen(self, *flags):
        """The report of a run."""
        command = [
            str(self.options.loadgen), "run", "--uri", f"{self.uri}/%2f", "-a", "-z",
            str(self.options.seconds + WARMUP), "--warmup", str(WARMUP), "--cpus", GENERATOR_CPU,
            "--json", "--quiet", *flags]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode not in (0, MISSING if "-y" in flags else 0):
            sys.exit(f"{' '.join(command)}\n{done.stderr}")
        return json.loads(done.stdout)

    @staticmethod
    def queue():
        """A name that nobody has."""
        return f"crosscheck.{secrets.token_hex(4)}"


def main():
    """Checks both brokers; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--loadgen", type=pathlib.Path, default=LOADGEN)
    parser.add_argument("--ringtail", type=pathlib.Path)
    options = parser.parse_args()
    if not shutil.which("node") or not MODULES.is_dir():
        sys.exit("needs node and amqplib: apt install nodejs npm, then tests/clients/build")
    differ = 0
    for name, make in (("Ringtail", lambda: Ringtail(binary=options.ringtail)),
                       ("RabbitMQ", RabbitMQ)):
        broker = make()
        try:
            differ += Check(name, broker.start(), options).run()
        finally:
            broker.discard()
    print("all agree" if not differ else f"{differ} lines differ by more than {100 * AGREE:.0f} %")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
