"""What a broker must keep while it is attacked, and afterwards."""

import contextlib
import re

from catalogue import MB, Attacker
from neighbour import Neighbour
from support import eventually
from watch import Watch

MIB = 1 << 20
# What an idle process of one shard has, and does not count.
IDLE = 34 * MIB
# From there on the allocator's own share is small beside what is counted.
TELLING = 48 * MIB
# Looks at the memory, one each 20 ms, that show that nothing happens any more.
QUIET_LOOKS = 25


class Attacked:
    """An attack that is prepared, on a broker with strangers; the `with` ends them."""

    def __init__(self, broker, attack, scaled):
        self.broker, self.attack = broker, attack
        # It has what it needs before the attack: declares may be refused later.
        self.honest = Neighbour(broker)
        with contextlib.ExitStack() as stack:
            self.client = stack.enter_context(Attacker(broker))
            self.steps = attack.steps(self.client, scaled)
            stack.callback(self.steps.close)
            next(self.steps)
            self.strangers = [Watch(broker, what) for what in (attack.neighbour, "heartbeats")]
            for stranger in self.strangers:
                stack.callback(stranger.stop)
            self.before, self.logged = broker.rss(), len(broker.log())
            broker.forget_peak()
            self.stack = stack.pop_all()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stack.close()

    def waited(self, twins):
        """Attacks; how much longer the neighbour waited than the twin's, in milliseconds."""
        twin = twins[self.attack.neighbour]
        for each in (*self.strangers, twin):
            each.longest()
        next(self.steps, None)
        # A stranger that was closed fails here.
        waits = [each.longest() for each in (*self.strangers, twin)]
        return max(0.0, waits[0] - waits[-1])

    def held(self):
        """The memory stayed within its bound, and was counted."""
        if self.attack.on_memory:
            self._settled()
        most = self.broker.peak()
        assert most <= self.attack.limit * 1.25 + IDLE, f"{most / MB:.0f} MB"
        if self.attack.most:
            more = most - self.before
            assert more <= self.attack.most, f"{more / MB:.0f} MB more"
        # Now that nothing moves: a file is read into memory that counts once it has been read.
        counted, process = self.counts()[-1] if self.counts() else (0, 0)
        if process > TELLING:
            assert 0.75 * process <= counted <= 1.25 * process, (counted, process)
        return most, counted, process

    def counts(self):
        """What the broker counted, and what the process had beyond an idle one, at each look
        since the attack began."""
        found = re.findall(r"memory in bytes counted=(\d+) process=(\d+)", self.broker.log()[self.logged:])
        return [(int(counted), int(process)) for counted, process in found]

    def goes_on(self):
        """An honest publisher and an honest consumer are served."""
        with self.honest:
            self.honest.goes_on(5)

    def given_back(self):
        """The attacker takes back what was kept for it, and its memory goes back to the system."""
        next(self.steps, None)
        if self.attack.on_memory:
            eventually(
                lambda: self.broker.rss() < self.before + 32 * MIB, 30,
                lambda: f"{self.broker.rss() / MB:.0f} MB are left, {self.before / MB:.0f} before")

    def _settled(self):
        """Waits until the memory has not grown for a while."""
        seen = [self.broker.peak()]

        def still():
            """Whether the last looks saw the same."""
            seen.append(self.broker.peak())
            return len(seen) > QUIET_LOOKS and seen[-1] - seen[-QUIET_LOOKS] < MIB

        eventually(still, 30)
