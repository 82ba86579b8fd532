"""What a run has done so far, told to people: a line for each round, now and then the sum of all."""

import collections
import time

TOLD_EVERY_SECONDS = 60
ROUND = ("published", "confirmed", "delivered", "settled", "given back", "emptied queues")
ALL = ("published", "confirmed", "confirmed after a taker vanished", "delivered", "settled",
       "given back", "redelivered", "survived", "lost")
# What the books call it.
ENTERED = {"publish": "published", "confirm": "confirmed", "deliver": "delivered",
           "ack": "settled", "commit-ok": "settled", "taken": "settled", "requeue": "given back",
           "drained": "emptied queues"}


class Tally:
    """Rounds, how they ended, and what the books counted in them."""

    def __init__(self):
        self.begin = self.told = time.monotonic()
        self.rounds = 0
        self.ends, self.counts = collections.Counter(), collections.Counter()

    def take(self, counts):
        """Empties what the books have counted since the last time; the line of a round."""
        taken = collections.Counter()
        for what, count in counts.items():
            taken[ENTERED.get(what, what)] += count
        counts.clear()
        self.counts += taken
        return ", ".join(f"{taken[what]} {what}" for what in ROUND)

    def ended(self, end):
        """A round is over, or a start that was cut short."""
        self.ends[end] += 1

    def minutes(self):
        """Since the run began."""
        return (time.monotonic() - self.begin) / 60

    def is_due(self):
        """Whether the sum is to be told again."""
        due = time.monotonic() - self.told >= TOLD_EVERY_SECONDS
        if due:
            self.told = time.monotonic()
        return due

    def summary(self):
        """The sum of all, in some lines.

        Messages count once for each queue and time where something became of them: settled by an
        acknowledgement, a commit or an automatic consumer; given back by a client that refused them
        or vanished; redelivered with the flag; survived, if they came from a broker that was
        started after they were published. Lost are those that were confirmed and not there."""
        kills, stops = self.ends["kill"], self.ends["stop"] + self.ends["stop at rest"]
        short = self.ends["cut short"]
        lines = [f"{self.rounds} rounds in {self.minutes():.0f} min: {kills} kills under load, "
                 f"{stops} stops, {short} more kills while it started"]
        lines += [f"{self.counts[what]:>14,} {what}" for what in ALL]
        return "\n".join(lines)

    def __str__(self):
        told = ", ".join(f"{self.counts[what]:,} {what}" for what in ALL)
        return f"-- {self.minutes():.0f} min, {self.ends['kill']} kills: {told}"
