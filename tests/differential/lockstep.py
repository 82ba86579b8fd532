"""Runs a script on all targets step by step and compares what each step brought."""

import collections
import itertools
import time
from dataclasses import dataclass, field

import compare
import peer
import timed
from session import Session

REFERENCE = "rabbitmq"
RUNS = itertools.count(1)


@dataclass
class Outcome:
    """How a script went. `differences` is empty if all targets agreed."""

    steps: int = 0
    differences: list = field(default_factory=list)
    fired: collections.Counter = field(default_factory=collections.Counter)
    transcripts: dict = field(default_factory=dict)


class Bench:
    """The targets, started once, each with a connection of the runner's own."""

    def __init__(self, brokers, patience=8):
        self.brokers = brokers
        self.patience = patience
        self.controls = {}

    def control(self, name):
        """The runner's own connection to a target, made anew if it was lost."""
        found = self.controls.get(name)
        if found is None or found.eof:
            found = peer.Peer(self.brokers[name], unexpected, channels=0)
            self.controls[name] = found
        return found

    def write(self, writer):
        """Runs a script while it is written; returns the script and how it went."""
        script = {"seed": writer.seed, "connections": writer.settings, "paced": writer.paced,
                  "steps": []}
        return script, self.run(script, written=writer.steps)

    def run(self, script, names=None, patience=None, written=None):
        """Runs a script on the reference and these targets (all, if none are given)."""
        names = [REFERENCE, *(names or (name for name in self.brokers if name != REFERENCE))]
        prefix = f"s{script['seed']}.{next(RUNS)}."
        sessions = {
            name: Session(self.brokers[name], self.control(name), prefix,
                          script.get("connections", {}))
            for name in names}
        run = Run(script, sessions, patience or self.patience, written)
        try:
            run.steps()
            run.tidy()
        except peer.Stuck as stuck:
            run.stuck(str(stuck))
        finally:
            if run.outcome.differences:
                self.start_afresh(sessions)
        return run.outcome

    def start_afresh(self, sessions):
        for session in sessions.values():
            session.abandon()
        for control in self.controls.values():
            control.socket.close()
        self.controls.clear()


def unexpected(channel, kind, text):
    """The runner's own connections never fail."""
    raise AssertionError(f"on the runner's connection: {channel} {kind} {text}")


class Run:
    """One script under way."""

    def __init__(self, script, sessions, patience, written):
        self.script, self.sessions, self.patience = script, sessions, patience
        self.written = written
        self.reference = sessions[REFERENCE]
        self.others = {name: s for name, s in sessions.items() if name != REFERENCE}
        self.outcome = Outcome(transcripts={name: [] for name in sessions})
        # Consumers of which several are freed by one settle of the step.
        self.freed = set()
        self.paces = Paces() if script.get("paced") else None
        if self.paces:
            self.patience = timed.PATIENCE_SECONDS
        # How many queues have been given a dead letter exchange.
        self.dead_lettering = 0
        # Whether any queue has priorities.
        self.ranked = False

    def steps(self):
        """All steps, until one differs."""
        for step in self.source():
            self.outcome.steps += 1
            over = self.step(step)
            if self.paces and self.paces.late():
                # What differs may only have met the end of a time.
                self.outcome.differences.clear()
                self.outcome.fired[compare.LATE] += 1
                return
            if over or self.outcome.differences:
                return

    def source(self):
        """The script's steps. One that is being written is kept as it comes."""
        if not self.written:
            yield from self.script["steps"]
            return
        for step in self.written(self.reference):
            self.script["steps"].append(step)
            yield step

    def step(self, step):
        """One step on all targets; whether the script ends with it."""
        if self.paces:
            self.paces.wait(step.get("ticks", 0))
        for session in self.sessions.values():
            if "ops" in step:
                session.prepare(step)
            else:
                session.forget()
                session.ensure(step["c"])
        dies_divided = self.reference.holds_both_ends(step["c"])
        self.freed.clear()
        for name, arguments in step.get("ops", []):
            self.freed |= self.frees(step, name, arguments)
            self.dead_lettering += "x-dead-letter-exchange" in arguments.get("arguments", {})
            self.ranked |= "x-max-priority" in arguments.get("arguments", {})
            self.operation(step, name, arguments)
        leeway = compare.Leeway(
            self.reference.limited(), frozenset(self.freed), self.dead_lettering > 1, self.ranked)
        together(session.perform(step) for session in self.sessions.values())
        if dies_divided and self.reference.peers[step["c"]].eof:
            # RabbitMQ's channels end one after the other: what the first gives back may go to the
            # next, which is about to end. If that one does not acknowledge, it is lost.
            self.outcome.fired[compare.DIVIDED] += 1
            return True
        over = self.agree(step, leeway)
        self.align()
        return over

    def align(self):
        """Lets the next invented name have the same symbol everywhere, also if a name was lost
        with the channel that was to be told it."""
        for letter in self.reference.invented:
            most = max(session.invented[letter] for session in self.sessions.values())
            for session in self.sessions.values():
                session.invented[letter] = most

    def operation(self, step, name, arguments):
        """Puts an operation into the group of each target."""
        if name != "settle":
            for session in self.sessions.values():
                session.add(step, name, dict(arguments))
            return
        choice = self.choose(step, arguments)
        if choice:
            flags = {key: arguments[key] for key in ("multiple", "requeue") if key in arguments}
            for session in self.sessions.values():
                session.settle(step, arguments["how"], flags, *choice)

    def frees(self, step, name, arguments):
        """Consumers that an operation frees together, as views name their deliveries."""
        channel = self.reference.channel(step)
        if channel is None:
            return set()
        if name.startswith("basic.recover") or arguments.get("literal") == 0:
            keys = channel.unacked
        elif name == "tx.commit":
            return self.reference.beside(channel)
        elif name == "settle" and arguments.get("multiple"):
            keys = (self.choose(step, arguments) or [[]])[0]
        else:
            keys = []
        consumers = {consumer for consumer, _ in keys}
        return {(step["c"], step["ch"], f"deliver {consumer}") for consumer in consumers
                if len(consumers) > 1}

    def choose(self, step, arguments):
        """Which deliveries an operation means, by what the reference has delivered."""
        channel = self.reference.channel(step)
        if "literal" in arguments:
            return [], None, arguments["literal"]
        if channel is None:
            return None
        if "done" in arguments:
            known = len(channel.settled)
            return ([], arguments["done"] % known, None) if known else None
        keys = sorted(channel.unacked, key=channel.unacked.get)
        if not keys:
            return None
        chosen = keys[arguments["which"] % len(keys)]
        if arguments.get("multiple"):
            return keys[:keys.index(chosen) + 1], None, None
        return [chosen], None, None

    def agree(self, step, leeway):
        """Compares; what is late is waited for. Whether the script ends here."""
        deadline = time.monotonic() + self.patience
        pause = 0.0005
        while True:
            views = {name: session.view() for name, session in self.sessions.items()}
            fired, found, over = collections.Counter(), {}, False
            for name in self.others:
                found[name], ends = compare.differences(
                    views[REFERENCE], views[name], step, fired, leeway)
                over |= ends
            differing = [lines for lines in found.values() if lines]
            heals = all(compare.may_heal(lines) for lines in differing)
            if not differing or not heals or time.monotonic() > deadline:
                break
            time.sleep(pause)
            pause = min(pause * 2, 0.05)
            together(session.again() for session in self.sessions.values())
        self.outcome.fired.update(fired)
        for name, view in views.items():
            self.outcome.transcripts[name].append(view)
        self.outcome.differences += [
            (name, *difference) for name, lines in found.items() for difference in lines]
        return over

    def stuck(self, why):
        """A target that does not answer is a difference, told with what all had said till then."""
        for name, session in self.sessions.items():
            self.outcome.transcripts[name].append(session.view())
        self.outcome.differences.append(("all", ("?", 0, "stuck"), [], [why]))

    def tidy(self):
        if self.outcome.differences:
            return
        names = {
            arguments["exchange"] for step in self.script["steps"]
            for name, arguments in step.get("ops", [])
            if name == "exchange.declare" and arguments.get("exchange", "").startswith("@")}
        for session in self.sessions.values():
            session.tidy(sorted(names))


class Paces:
    """The grid of time on which the steps of a script begin."""

    def __init__(self):
        self.begin, self.number = time.monotonic(), 0

    def wait(self, ticks):
        """Waits for the beginning of a step, so many left out before it."""
        self.number += 1 + ticks
        time.sleep(max(self.begin + self.number * timed.GRID_SECONDS - time.monotonic(), 0))

    def late(self):
        """Whether the step has taken too long, or began late."""
        end = self.begin + self.number * timed.GRID_SECONDS + timed.STEP_SECONDS
        return time.monotonic() > end


def together(performances):
    """Goes on with each up to its next wait in turn, until all have ended."""
    left = list(performances)
    while left:
        left = [each for each in left if next(each, left) is not left]
