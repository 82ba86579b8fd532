"""Where Ringtail differs from RabbitMQ 3.10 on purpose: it announces 4.2.0 and has 4.3's texts.

A rule names one method and one field, what each of both says there, and why. Its patterns cover the
whole line, and what their groups match must be equal on both sides. Each run prints how often each
rule was needed.
"""

import re
from dataclasses import dataclass

LINE, CLOSE, EXTRA = "line", "close", "extra"


@dataclass(frozen=True)
class Rule:
    """Two lines of a transcript that may stand for each other.

    Those of `CLOSE` are how a step ended its channel or connection; nothing else of that step is
    compared then. Those of `EXTRA` are lines only RabbitMQ has; with `when`, only in a step with
    this operation. `ends`: both are not in the same state afterwards, so the script ends there.
    """

    method: str
    field: str
    scope: str
    rabbitmq: str
    ringtail: str
    why: str
    ends: bool = False
    when: str = ""

    @property
    def name(self):
        """The rule in the listing of a run."""
        return f"{self.method}, {self.field}: {self.why}"

    def covers(self, one, other):
        """Whether the rule explains why these lines differ."""
        mine, theirs = re.fullmatch(self.rabbitmq, one), re.fullmatch(self.ringtail, other)
        return bool(mine and theirs and mine.groups() == theirs.groups())


ALL = [
    Rule("exchange.declare", "type", CLOSE,
         r"connection\.close 503 COMMAND_INVALID - (unknown exchange type '.*' \(40, 10\))",
         r"channel\.close 406 PRECONDITION_FAILED - (unknown exchange type '.*' \(40, 10\))",
         "an unknown type is a channel error since 3.13 (rabbit_exchange, check_type)", ends=True),
    Rule("basic.publish", "mandatory", EXTRA,
         r"basic\.return exchange= reply_code=312 reply_text=NO_ROUTE routing_key=\^\d+ .*",
         r"",
         "a direct reply has no queue before 4.2, so a mandatory one comes back though it arrived"),
    Rule("basic.publish", "user_id", CLOSE,
         r"channel\.close 406 PRECONDITION_FAILED - user_id property set to '.*' but authenticated "
         r"user was '.*' (\(60, 40\))",
         r"channel\.close 406 PRECONDITION_FAILED - invalid (?:message: \{.*\}|expiration .*) "
         r"(\(60, 40\))",
         "3.10 looks at user_id first, 4.x after expiration, CC and BCC (rabbit_channel)"),
    Rule("tx.commit", "mandatory", EXTRA,
         r"basic\.return .*reply_code=312 reply_text=NO_ROUTE .*",
         r"",
         "3.10 looks for the queues again at the commit: one deleted since is no route any more",
         when="tx.commit"),
    Rule("connection.tune-ok", "frame_max, channel_max", LINE,
         r"eof",
         r"connection\.close class_id=10 method_id=31 reply_code=530 reply_text=NOT_ALLOWED - "
         r"negotiated (?:frame|channel)_max = \d+.* is higher than the maximum allowed value "
         r"\(\d+\)",
         "3.10 waits 3 s and drops the socket; 4.x says why (rabbit_reader, handle_exception)"),
    Rule("connection.start-ok", "mechanism", LINE,
         r"eof",
         r"connection\.close class_id=10 method_id=11 reply_code=503 reply_text=COMMAND_INVALID - "
         r"unknown authentication mechanism '.*'",
         "3.10 waits 3 s and drops the socket; Ringtail says why"),
    Rule("any", "class and method id", LINE,
         r"eof",
         r"connection\.close 540 NOT_IMPLEMENTED - unknown method \d+\.\d+ \(0, 0\)",
         "RabbitMQ's connection process crashes on an id it does not know (rabbit_framing)",
         ends=True),
    Rule("basic.publish", "body frame", LINE,
         r"connection\.close 505 UNEXPECTED_FRAME - expected content body, got non content body "
         r"frame instead (\(60, 40\))",
         r"connection\.close 501 FRAME_ERROR - content body frame exceeds remaining content size "
         r"(\(60, 40\))",
         "a body longer than announced has a text of its own since 4.0 (rabbit_command_assembler)"),
    Rule("basic.cancel-ok", "any", CLOSE,
         r"connection\.close 503 COMMAND_INVALID - unimplemented method \(60, 31\)",
         r"",
         "4.x takes it for a cancel without an answer (rabbit_channel, cancel_consumer)",
         ends=True),
    Rule("channel.close-ok", "channel number", CLOSE,
         r"connection\.close 504 CHANNEL_ERROR - expected 'channel\.open' \(20, 41\)",
         r"",
         "RabbitMQ makes a channel process only to find it was not opened; Ringtail ignores it",
         ends=True),
]
EXTRAS = [rule for rule in ALL if rule.scope == EXTRA]
CLOSES = [rule for rule in ALL if rule.scope == CLOSE]
LINES = [rule for rule in ALL if rule.scope == LINE]
