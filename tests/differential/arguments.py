"""Arguments of queues in random scripts: time to live, limits, dead letters, priorities, one active
consumer. Some are not as they must be."""

# Longer than any script runs.
LONG_MS = 60000
# Not allowed, each in a way of its own.
WRONG = [
    {"x-message-ttl": -1}, {"x-message-ttl": "x"}, {"x-message-ttl": 315360000001},
    {"x-expires": 0}, {"x-expires": "x"}, {"x-expires": -1}, {"x-expires": 315360000001},
    {"x-max-length": -1}, {"x-max-length": "x"}, {"x-max-length-bytes": -5},
    {"x-max-length-bytes": True}, {"x-overflow": "bad"}, {"x-overflow": 1},
    {"x-max-priority": -1}, {"x-max-priority": 256}, {"x-max-priority": "x"},
    {"x-dead-letter-exchange": 5}, {"x-dead-letter-routing-key": "a"},
    {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": 5},
    {"x-single-active-consumer": "x"}, {"x-single-active-consumer": 1}]
# Values of `expiration` that are refused.
WRONG_EXPIRATIONS = ["", "-1", "x", "1.5", "315360000001", " 5", "5 "]


def of_queue(writer, ttls=(0, LONG_MS), expires=(LONG_MS,)):
    """Arguments of a new queue; often none."""
    if not writer.features & set(FEATURE_OF.values()):
        return {}
    if writer.chance(0.04):
        wrong = writer.dice.choice(WRONG)
        return dict(wrong) if allowed(writer, wrong) else {}
    given = {}
    for feature, chance, chosen in (
            ("ttl", 0.15, lambda: message_ttl(writer, ttls)),
            ("ttl", 0.04, lambda: {"x-expires": writer.dice.choice(expires)}),
            ("limits", 0.2, lambda: limits(writer)),
            ("dead-letters", 0.3, lambda: dead_letters(writer)),
            ("priorities", 0.08, lambda: {"x-max-priority": writer.dice.choice([0, 1, 2, 5, 255])}),
            ("single-active", 0.08, lambda: {"x-single-active-consumer": not writer.chance(0.2)})):
        if feature in writer.features and writer.chance(chance):
            given |= chosen()
    return given


FEATURE_OF = {
    "x-message-ttl": "ttl", "x-expires": "ttl", "x-max-length": "limits",
    "x-max-length-bytes": "limits", "x-overflow": "limits", "x-max-priority": "priorities",
    "x-dead-letter-exchange": "dead-letters", "x-dead-letter-routing-key": "dead-letters",
    "x-single-active-consumer": "single-active"}


def allowed(writer, arguments):
    """Whether a script may have these arguments."""
    return all(FEATURE_OF[name] in writer.features for name in arguments)


def message_ttl(writer, ttls):
    """A time to live; few queues of a script have one, so that a message dies at most that often."""
    if writer.mortal >= 2:
        return {}
    writer.mortal += 1
    return {"x-message-ttl": writer.dice.choice(ttls)}


def limits(writer):
    given = {}
    if writer.chance(0.75):
        given["x-max-length"] = writer.dice.choice([0, 1, 1, 2, 3])
    if writer.chance(0.35):
        given["x-max-length-bytes"] = writer.dice.choice([0, 5, 100, 2049, 6000])
    if writer.chance(0.6):
        given["x-overflow"] = writer.dice.choice(
            ["drop-head", "reject-publish", "reject-publish-dlx"])
    return given


def dead_letters(writer):
    """A dead letter exchange, most often one that leads somewhere."""
    exchange = "" if writer.chance(0.5) else writer.some_exchange()
    if exchange in ("amq.fanout", "amq.headers"):
        exchange = ""
    given = {"x-dead-letter-exchange": exchange}
    if writer.chance(0.8 if exchange == "" else 0.4):
        key = writer.some_queue(0.2) if exchange == "" else writer.key_for(exchange)
        given["x-dead-letter-routing-key"] = key
    return given


def expiration(writer, ttls=(0, LONG_MS)):
    """The property of a message."""
    if writer.chance(0.06):
        return writer.dice.choice(WRONG_EXPIRATIONS)
    return str(writer.dice.choice(ttls))
