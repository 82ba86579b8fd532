"""Where Ringtail differs from RabbitMQ 3.10 on purpose: it announces 4.2.0 and has 4.3's texts.

A rule names one method and one field, what each of both says there, and why. Everything else of
the two lines must be equal. Each run prints how often each rule was needed.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """A line that may differ in one field. `ends`: the targets' states differ from there on."""

    name: str
    method: str
    rabbitmq: str
    ringtail: str
    why: str
    ends: bool = False

    def covers(self, one, other):
        """Whether the rule explains why these lines differ."""
        if not (one.startswith(self.method) and other.startswith(self.method)):
            return False
        mine = re.fullmatch(f"(.*?){self.rabbitmq}(.*)", one, re.S)
        theirs = re.fullmatch(f"(.*?){self.ringtail}(.*)", other, re.S)
        return bool(mine and theirs and mine.groups() == theirs.groups())


@dataclass(frozen=True)
class Close:
    """A refusal that ends the connection there and the channel here, or has another code."""

    name: str
    rabbitmq: str
    ringtail: str
    why: str

    def covers_ends(self, left, right, step):
        """Whether the step ended in these two closes. Each group names the same thing in both."""
        mine, theirs = last(left, step), last(right, step)
        mine, theirs = re.fullmatch(self.rabbitmq, mine), re.fullmatch(self.ringtail, theirs)
        return bool(mine and theirs and mine.groups() == theirs.groups())


def last(view, step):
    """How the step closed the channel or the connection."""
    lines = view.get((step["c"], step.get("ch"), "closed"), [])
    lines = view.get((step["c"], 0, "end"), lines)
    return next((line for line in lines if ".close " in line), "")


LINES = []

CLOSES = [
    Close(
        "unknown exchange type",
        r"connection\.close 503 COMMAND_INVALID - (unknown exchange type '.*' \(40, 10\))",
        r"channel\.close 406 PRECONDITION_FAILED - (unknown exchange type '.*' \(40, 10\))",
        "406 since 3.13: rabbit_exchange.erl, check_type"),
]

ALL = [*LINES, *CLOSES]
