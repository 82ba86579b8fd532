#!/usr/bin/env python3
"""What durability costs: persistent messages with confirms, Ringtail and RabbitMQ in turn.

    benches/durable.py [--rounds N] [--seconds N] [--json FILE]

A durable queue, bodies of 16 bytes, 1 KiB and 16 KiB, at most 1, 100 and 1,000 publishes without
their confirm; once with a consumer that acknowledges, once with messages left in the queue. The
broker has one CPU, its disk threads included, loadgen another. Beside them the bare disk: as many
bytes in batches as large as Ringtail's were, written and synced by one thread that does nothing
else. A single publisher that waits for each confirm (a window of 1, messages left) is held against
the bare sync and the bare relay's ping-pong together, and 80 microseconds: the median of at least
five rounds. Prints a table, and JSON for `--json`. Needs the release build of both binaries, two
CPUs that do nothing else, Debian's package rabbitmq-server, and pika (`tests/run` makes a .venv
with it).
"""

import argparse
import json
import pathlib
import statistics
import struct
import subprocess
import sys

from compare import BROKER_CPU, GENERATOR_CPU, LOADGEN, RabbitMQ, Ringtail, machine

SIZES = (16, 1024, 16 * 1024)
WINDOWS = (1, 100, 1000)
QUEUE = "durable"
# What a confirm may take beside a sync and a ping-pong, and the rounds that are judged.
ALLOWED_US, ALONE_ROUNDS = 80, 5


def loadgen(arguments, size):
    """What loadgen says of one run."""
    command = [LOADGEN, *arguments, "-s", str(size), "--json", "--cpus", GENERATOR_CPU]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout)


def written(process):
    """Bytes that the process had written to the disk so far."""
    lines = pathlib.Path(f"/proc/{process.pid}/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["write_bytes"])


def batches(folder):
    """The number of the last batch in any log: so often a log was written and synced."""
    last = 0
    for file in (folder / "log").glob("*.log"):
        data = file.read_bytes()
        at = data.rfind(b"RTLB")
        if at >= 0:
            last = max(last, *struct.unpack_from("<Q", data, at + 16))
    return last


def run(broker, size, window, consumers, seconds):
    """One run: the rate of confirms, their latency, and what the broker wrote for it."""
    uri = f"amqp://guest:guest@127.0.0.1:{broker.port}/%2f"
    before = written(broker.process)
    report = loadgen([
        "run", "--uri", uri, "-u", QUEUE, "--durable", "true", "--flag", "persistent",
        "-c", str(window), "-y", str(consumers), "-z", str(seconds)], size)
    confirms = report["confirm_latency_us"]
    return {
        "confirms_per_second": round(report["sent"]["rate"]),
        "messages": report["account"]["confirmed"],
        "p50_us": round(confirms["p50"], 1),
        "p99_us": round(confirms["p99"], 1),
        "written_per_byte": round(
            (written(broker.process) - before) / (report["account"]["confirmed"] * size), 2),
    }


def bare(size, batch, seconds):
    """The bare disk with so many messages a sync: messages a second, and the latency of a sync."""
    folder = str(pathlib.Path(LOADGEN).parent)
    count = str(max(round(batch), 1))
    synced = loadgen(["ceiling", "--sync", folder, "--batch", count, "-z", str(seconds)], size)
    return {"per_second": round(synced["synced"]["messages"]),
            "p50_us": round(synced["latency_us"]["p50"], 1)}


def ping_pong(size, seconds):
    """The median of one message at a time through the bare relay, on the same CPUs (us)."""
    report = loadgen(["ceiling", "-c", "1", "--relay-cpus", BROKER_CPU, "-z", str(seconds)], size)
    return {"p50_us": round(report["latency_us"]["p50"], 1)}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--windows", type=int, nargs="+", default=WINDOWS, help="only these")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="only these (bytes)")
    options = parser.parse_args()
    results = []
    for consumers in (1, 0):
        for window in options.windows:
            for size in options.sizes:
                row = measure(size, window, consumers, options)
                results.append(row)
                show(row)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "runs": results}, indent=1) + "\n")


def measure(size, window, consumers, options):
    """All rounds of one case, the brokers in turn, each on a data folder of its own."""
    runs = {"Ringtail": [], "RabbitMQ": [], "disk": [], "relay": []}
    alone = window == 1 and not consumers
    for _ in range(max(options.rounds, ALONE_ROUNDS) if alone else options.rounds):
        for kind in (Ringtail, RabbitMQ):
            broker = kind().start()
            try:
                one = run(broker, size, window, consumers, options.seconds)
                if kind is Ringtail:
                    broker.stop()
                    synced = batches(broker.data)
                    one["messages_per_sync"] = round(one["messages"] / max(synced, 1), 1)
                runs[kind.__name__].append(one)
            finally:
                broker.discard()
        batch = runs["Ringtail"][-1]["messages_per_sync"]
        runs["disk"].append(bare(size, batch, 1))
        if alone:
            runs["relay"].append(ping_pong(size, 1))
    return {"bytes": size, "window": window, "consumers": consumers, "runs": runs}


def median(row, broker, key):
    return statistics.median(one[key] for one in row["runs"][broker])


def show(row):
    ours, theirs = (median(row, name, "confirms_per_second") for name in ("Ringtail", "RabbitMQ"))
    print(
        f"{row['bytes']:>6} bytes, window {row['window']:>4}, "
        f"{'consumed' if row['consumers'] else 'left':<8}: {ours:>9,.0f}/s, RabbitMQ {theirs:>7,.0f}/s "
        f"({ours / theirs:.1f} times); p50 {median(row, 'Ringtail', 'p50_us'):,.0f} us against "
        f"{median(row, 'RabbitMQ', 'p50_us'):,.0f} us; "
        f"{median(row, 'Ringtail', 'messages_per_sync'):,.1f} messages a sync, "
        f"{median(row, 'Ringtail', 'written_per_byte'):.2f} bytes written per byte; "
        f"bare disk {median(row, 'disk', 'per_second'):,.0f}/s, p50 "
        f"{median(row, 'disk', 'p50_us'):,.0f} us", flush=True)
    if row["runs"]["relay"]:
        parts = [median(row, name, "p50_us") for name in ("disk", "relay")]
        ours, most = median(row, "Ringtail", "p50_us"), sum(parts) + ALLOWED_US
        print(f"    p50 {ours:,.0f} us, at most {parts[0]:,.0f} (sync) + {parts[1]:,.0f} (relay) + "
              f"{ALLOWED_US} = {most:,.0f} us: {'met' if ours <= most else 'NOT met'}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
