#!/usr/bin/env python3
"""Ringtail, RabbitMQ and the bare relay side by side, interleaved in one run.

    benches/compare.py [--rounds N] [--seconds N] [--out FILE]

loadgen has one CPU and the broker the other: one shard for Ringtail, the whole node for RabbitMQ. One
publisher, one consumer, 16-byte transient bodies, consumed with automatic acknowledgement: as fast as
it goes, then latency at 10,000 messages a second (the generator spins, so that its own wakes do not
count). Needs the release build of both binaries, two CPUs that do nothing else, Debian's package
rabbitmq-server, and pika (`tests/run` makes a .venv with it). Prints a table, and JSON for `--out`.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/blackbox"))
import brokers  # noqa: E402

LOADGEN = str(ROOT / "target/release/loadgen")
GENERATOR_CPU, BROKER_CPU = "0", "1"
SIZE = 16
RATE = 10_000
IDLE_SECONDS = 10


class Pinned:
    """Mixed into a broker: its process and all threads stay on the broker's CPU."""

    def command(self):
        return ["taskset", "-c", BROKER_CPU, *super().command()]


class Ringtail(Pinned, brokers.Ringtail):
    pass


class RabbitMQ(Pinned, brokers.RabbitMQ):
    pass


def loadgen(arguments):
    command = [LOADGEN, *arguments, "-s", str(SIZE), "--json", "--cpus", GENERATOR_CPU]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout)


def arguments_for(target, seconds):
    if target is None:
        return ["ceiling", "--relay-cpus", BROKER_CPU, "-z", str(seconds)]
    uri = f"amqp://guest:guest@127.0.0.1:{target.port}/%2f"
    return ["run", "--uri", uri, "-a", "-z", str(seconds), "--warmup", "1"]


def cpu_seconds(process):
    """User and system time of a process, its threads included."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def idle_percent(target):
    before = cpu_seconds(target.process)
    time.sleep(IDLE_SECONDS)  # what is measured is that nothing happens in this time
    return 100 * (cpu_seconds(target.process) - before) / IDLE_SECONDS


def measure(targets, rounds, seconds):
    runs = {name: {"msgs_per_second": [], "p50_us": [], "p99_us": []} for name in targets}
    for number in range(rounds):
        for name, target in targets.items():
            flat_out = loadgen(arguments_for(target, seconds))
            paced = loadgen([*arguments_for(target, seconds), "-r", str(RATE), "--spin"])
            runs[name]["msgs_per_second"].append(round(flat_out["received"]["rate"]))
            for key in ("p50", "p99"):
                runs[name][f"{key}_us"].append(round(paced["latency_us"][key], 1))
            print(f"round {number + 1} {name}: "
                  + ", ".join(f"{values[-1]:,} {key}" for key, values in runs[name].items()),
                  file=sys.stderr)
    return runs


def summary(runs, extra):
    return {
        name: {"msgs_per_second_16B": statistics.median(run["msgs_per_second"]),
               "p50_us": statistics.median(run["p50_us"]),
               "p99_us": statistics.median(run["p99_us"]),
               "runs": run, **extra.get(name, {})}
        for name, run in runs.items()}


def instructions():
    """Instructions per message of the pure shard, from the committed count."""
    for line in (ROOT / "benches/instructions.txt").read_text().splitlines():
        if line.startswith("auto-16 "):
            return int(line.split()[1])
    return None


def versions():
    ringtail = subprocess.run([ROOT / "target/release/ringtail", "--version"],
                              stdout=subprocess.PIPE, text=True, check=True).stdout.split()[-1]
    rabbitmq = subprocess.run(["dpkg-query", "-W", "-f=${Version}", "rabbitmq-server"],
                              stdout=subprocess.PIPE, text=True, check=True).stdout
    return {"ringtail": ringtail, "rabbitmq": rabbitmq}


def machine():
    model = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo")
                 if line.startswith("model name"))
    return f"{os.cpu_count()} x {model}, Linux {platform.release().split('-')[0]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    ringtail, rabbitmq = Ringtail(), RabbitMQ()
    try:
        targets = {"ringtail": ringtail.start(), "rabbitmq": rabbitmq.start(), "relay": None}
        extra = {"ringtail": {"idle_cpu_percent": idle_percent(ringtail),
                              "instructions_per_message": instructions()},
                 "rabbitmq": {"idle_cpu_percent": idle_percent(rabbitmq)}}
        result = {"machine": machine(), "date": datetime.date.today().isoformat(),
                  "versions": versions(), "rate_for_latency": RATE,
                  **summary(measure(targets, options.rounds, options.seconds), extra)}
    finally:
        ringtail.discard()
        rabbitmq.discard()
    report(result)
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def report(result):
    rates = {name: result[name]["msgs_per_second_16B"] for name in ("ringtail", "rabbitmq", "relay")}
    print(f"{'':10} {'msgs/s':>12} {'p50 µs':>10} {'p99 µs':>10}")
    for name, rate in rates.items():
        print(f"{name:10} {rate:>12,.0f} {result[name]['p50_us']:>10,} {result[name]['p99_us']:>10,}")
    print(f"Ringtail is {rates['ringtail'] / rates['rabbitmq']:.1f} times RabbitMQ, "
          f"{100 * rates['ringtail'] / rates['relay']:.0f} % of the relay")


if __name__ == "__main__":
    main()
