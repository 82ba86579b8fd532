#!/usr/bin/env python3
"""What a large backlog costs: rates, memory, disk and the time of a restart.

    benches/backlog.py one                20 million persistent messages of 100 bytes in one queue
    benches/backlog.py many               the same in 1,000 queues
    benches/backlog.py large              messages of 1 MiB in one queue
    benches/backlog.py one --messages 2e6 --json backlog.json

The broker has one CPU and may use 256 MiB (`--memory`), loadgen has another CPU. First a broker that
may use so much memory that nothing has to leave it is filled and drained, several times: the medians
are the rates that the large backlog is held against. Then the backlog is filled, the broker is
stopped and started, killed and started, and the backlog is drained. Publishes wait for confirms, so
each rate is that of messages on stable storage. There are never more messages than half of the free
disk has room for. Needs the release build of both binaries, two CPUs that do nothing else, and pika
(`tests/run` makes a .venv with it). Prints a table, and JSON for `--json`.
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import threading
import time

from compare import GENERATOR_CPU, LOADGEN, RabbitMQ, Ringtail, machine
from pika import spec
import wire  # beside the brokers, whose folder compare has put on the path

MIB = 1 << 20
SAMPLE_SECONDS = 0.1
# What a message costs on the disk beside its body, at most, and how often it is there.
OVERHEAD, COPIES = 200, 2
SHAPES = {
    # Queues, bytes, messages, confirm window, prefetch, messages an ack.
    "one": (1, 100, 20_000_000, 2_000, 2_000, 500),
    "many": (1_000, 100, 20_000_000, 100, 200, 50),
    "large": (1, MIB, 20_000, 20, 20, 1),
}
BACK_SECONDS = 120
# Where everything stays in memory: what the broker may use, and what the messages take of it. That
# is less than its log may have, and takes a second or so each time: a shorter run is noise.
HOT_MEMORY, HOT_BYTES, HOT_ROUNDS = 4096 * MIB, 384 * MIB, 3


class Shape:
    """How many messages there are, where, and how they are moved."""

    def __init__(self, name, messages, folder):
        self.queues, self.size, default, self.window, self.prefetch, self.batch = SHAPES[name]
        room = shutil.disk_usage(folder).free // 2 // (COPIES * (self.size + OVERHEAD))
        self.messages = min(int(messages or default), room)
        self.each = max(self.messages // self.queues, 1)
        self.messages = self.each * self.queues

    def hot(self):
        """The messages a queue has when all of them stay in memory."""
        return max(min(self.each, HOT_BYTES // (self.size + OVERHEAD) // self.queues), 1)

    def queue_flags(self):
        """The queues, for loadgen."""
        if self.queues == 1:
            return ["-u", "backlog"]
        return ["--queue-pattern", "backlog%d", "--queue-pattern-to", str(self.queues)]

    def fill(self, each):
        """Publishes so many messages into each queue."""
        return ["-x", str(self.queues), "-y", "0", "-C", str(each), "-c", str(self.window)]

    def drain(self, each):
        """Takes so many messages out of each."""
        return ["-x", "0", "-y", str(self.queues), "-D", str(each), "-q", str(self.prefetch),
                "-A", str(self.batch)]


class Sampler(threading.Thread):
    """Memory of the process and bytes in its data folder, while something runs."""

    def __init__(self, broker, folder):
        super().__init__(daemon=True)
        self.processes = group(broker.process.pid)
        self.folder, self.ended = folder, threading.Event()
        self.rss_max = self.disk_max = 0

    def run(self):
        while not self.ended.wait(SAMPLE_SECONDS):
            self.rss_max = max(self.rss_max, sum(map(resident, self.processes)))
            self.disk_max = max(self.disk_max, used(self.folder))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.join()


def group(leader):
    """The folders of /proc of a process group: RabbitMQ's node is the child of a script."""
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(folder.name)) == leader:
                found.append(folder)
        except ProcessLookupError:
            pass  # gone since /proc was read
    return found


def resident(process):
    """Resident bytes of a process, 0 if it is gone."""
    try:
        lines = (process / "status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS")), 0)


def used(folder):
    """Bytes of the disk that a folder's files occupy."""
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.stat().st_blocks * 512
        except FileNotFoundError:
            pass  # gone since the folder was read
    return total


class Bench:
    """A broker and the steps."""

    def __init__(self, broker, shape):
        self.broker, self.shape = broker, shape
        self.data = getattr(broker, "data", broker.folder)

    def loadgen(self, what, arguments):
        """A run of the generator, with what the broker used meanwhile."""
        uri = f"amqp://guest:guest@127.0.0.1:{self.broker.port}/%2f"
        command = [
            LOADGEN, "run", "--uri", uri, "-s", str(self.shape.size), "-f", "persistent",
            "--keep-queue", "--json", "--quiet", "--cpus", GENERATOR_CPU,
            "--drain-timeout", "600", *self.shape.queue_flags(), *arguments]
        print(f"{what} …", file=sys.stderr)
        with Sampler(self.broker, self.data) as sampler:
            done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)}\n{done.stderr[-2000:]}\n{self.broker.log()[-2000:]}")
        report = json.loads(done.stdout)
        return {"rss_max": sampler.rss_max, "disk_max": sampler.disk_max,
                **rates(report, "sent"), **rates(report, "received")}

    def restart(self, how):
        """Ends the broker in this way and starts it; seconds until it accepts and delivers."""
        self.broker.kill() if how == "kill" else self.broker.stop()
        begin = time.monotonic()
        self.broker.process = self.broker._spawn(
            self.broker.command(), self.broker.environment(), self.broker.output)
        while not self.broker._answers():
            time.sleep(0.001)  # a poll that the result is rounded to
        accepting = time.monotonic() - begin
        name = "backlog" if self.shape.queues == 1 else "backlog1"
        with wire.Wire(self.broker, seconds=600).opened() as client:
            client.call(1, spec.Basic.Consume(queue=name), spec.Basic.ConsumeOk)
            client.expect(spec.Basic.Deliver)
            return {"accepting": accepting, "first_delivery": time.monotonic() - begin}

    def until_back(self, before):
        """Seconds until the disk is used as before, within 64 MiB; what is used then."""
        begin = time.monotonic()
        while used(self.data) > before + 64 * MIB:
            if time.monotonic() - begin > BACK_SECONDS:
                return None, used(self.data)
            time.sleep(SAMPLE_SECONDS)  # a poll that the result is rounded to
        return time.monotonic() - begin, used(self.data)

    def hot(self):
        """A backlog in memory, several times: the run in the middle, and all rates."""
        each = self.shape.hot()
        fills, drains = [], []
        for _ in range(HOT_ROUNDS):
            fills.append(self.loadgen("fill, in memory", self.shape.fill(each)))
            drains.append(self.loadgen("drain, in memory", self.shape.drain(each)))
        return {"hot_messages": each * self.shape.queues,
                "hot_fill": middle(fills), "hot_drain": middle(drains)}

    def run(self):
        """The backlog; the figures."""
        shape = self.shape
        result = {"messages": shape.messages, "size": shape.size, "queues": shape.queues,
                  "machine": machine()}
        before = used(self.data)
        result["fill"] = self.loadgen("fill", shape.fill(shape.each))
        for how in ("stop", "kill"):
            print(f"restart after {how} …", file=sys.stderr)
            result[f"restart_after_{how}"] = self.restart(how)
        result["drain"] = self.loadgen("drain", shape.drain(shape.each))
        seconds, left = self.until_back(before)
        result |= {"disk_before": before, "disk_after": left, "disk_back_seconds": seconds}
        return result


def rates(report, what):
    """The rate of the whole, and of each second, its slowest tenth apart."""
    whole = report[what]["rate"]
    if not whole:
        return {}
    # The last entry may be the rest of a second.
    over_time = [round(second[what]) for second in report["seconds"]]
    slow = whole
    if len(over_time) > 1:
        slow = statistics.quantiles(over_time, n=10, method="inclusive")[0]
    return {"rate": round(whole), "slowest_tenth": round(slow), "per_second": over_time}


def middle(runs):
    """The run with the median rate, with the rates of all."""
    runs = sorted(runs, key=lambda run: run["rate"])
    return {**runs[len(runs) // 2], "rates": [run["rate"] for run in runs]}


def table(result):
    """The figures for people."""
    count = f"{result['messages']:,} messages of {result['size']:,} bytes"
    print(f"{count} in {result['queues']:,} queues; {result['machine']}")
    print(f"{'':8} {'msgs/s':>12} {'slowest 10 %':>13} {'of in memory':>13} {'peak RSS':>10} "
          f"{'peak disk':>11}")
    for what in ("hot_fill", "fill", "hot_drain", "drain"):
        figures = result[what]
        of_hot = figures["rate"] / result["hot_" + what.removeprefix("hot_")]["rate"]
        print(f"{what:9} {figures['rate']:>11,} {figures['slowest_tenth']:>13,} {of_hot:>12.0%} "
              f"{figures['rss_max'] / MIB:>7,.0f} MiB {figures['disk_max'] / MIB:>7,.0f} MiB")
    for how in ("stop", "kill"):
        figures = result[f"restart_after_{how}"]
        print(f"restart after {how}: accepts after {figures['accepting']:.3f} s, delivers after "
              f"{figures['first_delivery']:.3f} s")
    seconds = result["disk_back_seconds"]
    back = f"{seconds:.1f} s later" if seconds is not None else f"not back in {BACK_SECONDS} s"
    print(f"disk: {result['disk_before'] / MIB:,.0f} MiB before, "
          f"{result['disk_after'] / MIB:,.0f} MiB afterwards, {back}")


@contextlib.contextmanager
def running(options, memory):
    """A broker that may use so much memory, while it is needed."""
    if options.target == "rabbitmq":
        broker = RabbitMQ()
    else:
        config = f"vm_memory_high_watermark.absolute = {memory // MIB}MiB\n"
        broker = Ringtail(shards=options.shards, binary=options.binary, config=config)
    try:
        yield broker.start()
    finally:
        broker.discard()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--messages", type=float, help="in all queues together")
    parser.add_argument("--memory", type=int, default=256, help="MiB the broker may use")
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--target", choices=["ringtail", "rabbitmq"], default="ringtail",
                        help="RabbitMQ has its default memory limit")
    parser.add_argument("--binary", help="ringtail executable (default target/release/ringtail)")
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    memory = options.memory * MIB
    result = {"target": options.target, "memory": memory}
    with running(options, HOT_MEMORY) as broker:
        shape = Shape(options.shape, options.messages, broker.folder)
        result |= Bench(broker, shape).hot()
    with running(options, memory) as broker:
        result |= Bench(broker, shape).run()
    table(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
