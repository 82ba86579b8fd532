#!/usr/bin/env python3
"""What lifetimes, limits and priorities cost, beside a plain queue.

    benches/topologies.py ttl            10 million messages on disk that expire at the same moment
    benches/topologies.py priorities     ten priorities in one queue
    benches/topologies.py drop-head      publishing into a full queue
    benches/topologies.py expires        100,000 queues with x-expires that nobody uses
    benches/topologies.py all

Rates are taken in turns with those of a plain queue, and the medians compared. The broker has one CPU,
loadgen another. Needs the release build of both binaries, two CPUs that do nothing else, and pika
(`tests/run` makes a .venv with it).
"""

import argparse
import contextlib
import json
import pathlib
import signal
import statistics
import subprocess
import sys
import time

from backlog import MIB, Sampler, used
from compare import GENERATOR_CPU, LOADGEN, Ringtail, cpu_seconds, machine
from pika import spec
import wire  # beside the brokers, whose folder compare has put on the path

ROUNDS, SECONDS = 5, 3
EXPIRING, TTL_SECONDS, MEMORY = 10_000_000, 60, 256 * MIB
UNUSED, IDLE_SECONDS, DECLARED_AT_ONCE = 100_000, 10, 1_000
POLL_SECONDS = 0.05
FULL = 10_000


@contextlib.contextmanager
def running(options, config=""):
    """A broker while it is needed."""
    broker = Ringtail(binary=options.binary, config=config)
    try:
        yield broker.start()
    finally:
        broker.discard()


def loadgen(broker, *arguments):
    """The report of a run of the generator."""
    uri = f"amqp://guest:guest@127.0.0.1:{broker.port}/%2f"
    command = [LOADGEN, "run", "--uri", uri, "--json", "--quiet", "--cpus", GENERATOR_CPU, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-2000:]}\n{broker.log()[-2000:]}")
    return json.loads(done.stdout)


def ready(broker, queue):
    """The messages of a queue that are ready."""
    with wire.Wire(broker, seconds=120).opened() as client:
        declare = spec.Queue.Declare(queue=queue, passive=True)
        return client.call(1, declare, spec.Queue.DeclareOk).message_count


def ttl(options):
    """The process sleeps until all messages have expired, so that none can go before the others."""
    with running(options, f"vm_memory_high_watermark.absolute = {MEMORY // MIB}MiB\n") as broker:
        before = used(broker.data)
        loadgen(broker, "-u", "dying", "--keep-queue", "-f", "persistent", "-s", "100", "-x", "1",
                "-y", "0", "-C", str(EXPIRING), "-c", "2000",
                "--queue-args", f"x-message-ttl={TTL_SECONDS * 1000}")
        filled, full = ready(broker, "dying"), used(broker.data)
        broker.process.send_signal(signal.SIGSTOP)
        time.sleep(TTL_SECONDS)  # what is measured begins when the last message has expired
        with Sampler(broker, broker.data) as sampler:
            broker.process.send_signal(signal.SIGCONT)
            begin = time.monotonic()
            while ready(broker, "dying"):
                time.sleep(POLL_SECONDS)  # a poll that the result is rounded to
            gone = time.monotonic() - begin
            while used(broker.data) > before + 64 * MIB and time.monotonic() - begin < 120:
                time.sleep(POLL_SECONDS)
            back = time.monotonic() - begin
        print(f"ttl: {filled:,} messages gone in {gone:.2f} s; resident {sampler.rss_max / MIB:,.0f} "
              f"MiB at most; disk {full / MIB:,.0f} MiB, {used(broker.data) / MIB:,.0f} MiB after "
              f"{back:.1f} s, {before / MIB:,.0f} MiB before")


def ratio(options, title, what, common, plain, other):
    """Rates of two queues in turns, and their ratio."""
    rates = {"plain": [], title: []}
    with running(options) as broker:
        for _ in range(ROUNDS):
            for name, arguments in (("plain", plain), (title, other)):
                report = loadgen(broker, "-z", str(SECONDS), "--warmup", "1", *common, *arguments)
                rates[name].append(report[what]["rate"])
    medians = {name: statistics.median(values) for name, values in rates.items()}
    print(f"{title}: {medians[title]:,.0f}/s, a plain queue {medians['plain']:,.0f}/s: "
          f"{medians[title] / medians['plain']:.0%}")


def priorities(options):
    """The same messages with ten priorities, into a queue that heeds them and one that does not."""
    ratio(options, "priorities", "received", ["-q", "1000", "-A", "100", "--priorities", "10"],
          [], ["--queue-args", "x-max-priority=9"])


def drop_head(options):
    """Publishing with confirms; each message that enters the full queue pushes one out."""
    ratio(options, "drop-head", "sent", ["-y", "0", "-c", "1000", "--drain-timeout", "0.1"],
          [], ["--queue-args", f"x-max-length={FULL}"])


def expires(options):
    """The CPU time of a broker that only waits for the end of its queues."""
    with running(options) as broker:
        with wire.Wire(broker, seconds=120).opened() as client:
            for first in range(0, UNUSED, DECLARED_AT_ONCE):
                client.send(1, *(
                    spec.Queue.Declare(queue=f"unused{number}", nowait=True,
                                       arguments={"x-expires": 3_600_000})
                    for number in range(first, first + DECLARED_AT_ONCE)))
            last = spec.Queue.Declare(queue=f"unused{UNUSED - 1}", passive=True)
            client.call(1, last, spec.Queue.DeclareOk)
        before = cpu_seconds(broker.process)
        time.sleep(IDLE_SECONDS)  # what is measured is that nothing happens in this time
        busy = (cpu_seconds(broker.process) - before) / IDLE_SECONDS
        print(f"expires: {UNUSED:,} queues, {busy:.2%} of a CPU while nothing happens")


SHAPES = {"ttl": ttl, "priorities": priorities, "drop-head": drop_head, "expires": expires}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=[*SHAPES, "all"])
    parser.add_argument("--binary", type=pathlib.Path,
                        help="ringtail executable (default target/release/ringtail)")
    options = parser.parse_args()
    print(machine())
    for name, shape in SHAPES.items():
        if options.shape in (name, "all"):
            shape(options)


if __name__ == "__main__":
    main()
