#!/usr/bin/env python3
"""How long a neighbour waits while another client asks for as much work as it can.

    benches/attacks.py [ATTACK ...] [--scale N] [--binary FILE]

A broker of one shard has one CPU; the attacker and its neighbour have the other. The neighbour
publishes a message and gets it back every few milliseconds. Its longest wait is taken twice: before
the attack, and from its first byte until the broker has answered the attacker's last one. A second
neighbour logs in again and again. Without a name all attacks run; `tests/hostile/catalogue` says what
they do, and the tests there judge them. Needs the release build, two CPUs that do nothing else, and
pika (`tests/run` makes a .venv with it).
"""

import argparse
import os
import pathlib
import sys
import time

from compare import GENERATOR_CPU, ROOT, Pinned, machine

sys.path.insert(0, str(ROOT / "tests/hostile"))
from catalogue import ATTACKS, MB, Attacker  # noqa: E402
from process import Measured  # noqa: E402
from watch import Watch  # noqa: E402

BEFORE_SECONDS = 2


class Attacked(Pinned, Measured):
    """A broker with a CPU of its own, whose memory is looked at."""


def run(name, options):
    """One attack on a broker of its own; the line of the table."""
    attack = ATTACKS[name]
    config = f"vm_memory_high_watermark.absolute = {attack.limit}\n"
    broker = Attacked(1, None, options.binary, config=config)
    try:
        broker.start()
        with Attacker(broker) as client:
            under_way = attack.steps(client, lambda many: int(many * options.scale))
            next(under_way)
            watches = [Watch(broker, what) for what in (attack.neighbour, "logins")]
            time.sleep(BEFORE_SECONDS)  # the twin that is not attacked
            before = [watch.longest() for watch in watches]
            begin = time.monotonic()
            next(under_way, None)
            took = time.monotonic() - begin
            during = [watch.longest() for watch in watches]
            for watch in watches:
                watch.stop()
        waits = " ".join(f"{a:7.1f} -> {b:7.1f}" for a, b in zip(before, during))
        print(f"{name:35} {took:7.2f} s  {waits}  {broker.peak() / MB:6.0f} MB", flush=True)
    finally:
        broker.discard()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help=", ".join(ATTACKS))
    parser.add_argument("--scale", type=float, default=1, help="so many times as much (default 1)")
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/ringtail",
                        help="ringtail executable (default target/release/ringtail)")
    options = parser.parse_args()
    unknown = [name for name in options.attacks if name not in ATTACKS]
    if unknown:
        parser.error(f"no attack {unknown[0]}; there are {', '.join(ATTACKS)}")
    os.sched_setaffinity(0, {int(GENERATOR_CPU)})
    print(machine())
    print(f"{'attack':35} {'took':>9}  {'message, ms: before, under attack; a login the same':44}"
          "  memory")
    for name in options.attacks or ATTACKS:
        run(name, options)


if __name__ == "__main__":
    main()
