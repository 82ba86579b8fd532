#!/usr/bin/env python3
"""Shows that the generator is no bottleneck: what one core of it publishes and consumes at most.

    benches/generator.py [--rounds N] [--seconds N] [--least MESSAGES] [--loadgen FILE]

16-byte messages into a reader that discards them (`loadgen ceiling --sink`), and deliveries from a writer
that generates them (`--source`); loadgen has one CPU, the other end another. Needs the release build and
two CPUs that do nothing else. Prints medians; exit code 1 if one is below --least a second.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

from compare import BROKER_CPU, GENERATOR_CPU, LOADGEN

SIZE = 16
LEAST = 4_000_000


def rate(loadgen, end, flow, seconds):
    """Messages a second of one run, after a second of warm-up."""
    command = [
        loadgen, "ceiling", f"--{end}", "-s", str(SIZE), "-z", str(seconds + 1), "--warmup", "1",
        "--cpus", GENERATOR_CPU, "--relay-cpus", BROKER_CPU, "--json", "--quiet"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout)[flow]["rate"]


def main():
    """Measures both directions in turn; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--least", type=float, default=LEAST)
    parser.add_argument("--loadgen", type=pathlib.Path, default=LOADGEN)
    options = parser.parse_args()
    flows = {"sink": "sent", "source": "received"}
    rates = {end: [] for end in flows}
    for _ in range(options.rounds):
        for end, flow in flows.items():
            rates[end].append(rate(str(options.loadgen), end, flow, options.seconds))
    enough = True
    for end, does in (("sink", "publishes"), ("source", "consumes")):
        median = statistics.median(rates[end])
        enough &= median >= options.least
        print(f"one core {does} {median:,.0f} messages/s of {SIZE} bytes "
              f"({min(rates[end]):,.0f} to {max(rates[end]):,.0f}; least wanted {options.least:,.0f})")
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main())
