"""When what a step brought from two targets is the same.

What AMQP and RabbitMQ leave undefined is left out here, each with its reason; what differs on
purpose is a rule.
"""

import collections
import re
from dataclasses import dataclass

import rules

# Scripts that end because RabbitMQ may give a dying connection's messages to that connection.
DIVIDED = "scripts cut where a dying connection could give messages to another of its channels"
# Scripts that end because the next consumer in turn is another one. RabbitMQ leaves a consumer at
# its limit in its turn until a message finds it there; Ringtail takes it out at once.
ROUND = "scripts cut where another consumer of the same rank had its turn"
# Scripts that end because one settle freed consumers of several priorities. RabbitMQ tells the
# queue of each tag apart, in the order of tags (rabbit_channel, settle_acks and internal_reject
# by foreach_per_queue), so the first one freed has room alone. Ringtail frees all, then looks for
# the highest priority. Or a commit freed one of them: RabbitMQ's queues take its settles before
# those of its publishes that wait (rabbit_amqqueue_process, prioritise_cast).
FREED = "scripts cut where one settle freed consumers of several priorities"
# Scripts that end because consumers share a limit. RabbitMQ's limiter is a process beside queue and
# channel; Ringtail's queues ask for permits. Which message a permit meets is undefined in both.
LIMITED = "scripts cut where a message met a shared limit at another time"
# Scripts that end because a step took too long for the times of its messages.
LATE = "scripts cut where a step took too long for a time that ends"
# Scripts that end because messages that died in several queues came to one in another order. Queues
# are processes in RabbitMQ; what two of them send to a third has no order.
MET = "scripts cut where dead letters of several queues met in another order"
# Scripts that end because a message of the step was sent to a channel ahead of its end, or was not:
# it is lost with the channel, or stays.
ENDED = "scripts cut where a channel that ends was sent a message of the same step, or was not"
# Scripts that end because a consumer has the tag of an earlier one. RabbitMQ gives room by tag, so
# what the earlier one acknowledges gives room to the later one (rabbit_limiter, ack_from_queue).
AGAIN = "scripts cut where a settle of an earlier consumer gave room to one of the same tag"
# Scripts that end because a message went ahead of others by its priority and has expired. RabbitMQ
# looks for what has expired when a message enters an empty queue, or one that drops something
# (rabbit_amqqueue_process, deliver_or_enqueue), so this one is counted.
AHEAD = "scripts cut where an expired message was ahead by its priority"
CUTS = (DIVIDED, ROUND, FREED, LIMITED, LATE, MET, ENDED, AGAIN, AHEAD)
# What tells how many messages a queue has, or which comes next.
COUNTING = ("basic.get", "queue.purge", "queue.delete")
COUNTS = re.compile(r"^(queue\.declare-ok) consumer_count=\d+ message_count=\d+")
PRIORITY = re.compile(r", priority -?\d+: ")
IDENT = re.compile(r" message_id='(m\d+)'")
MESSAGE = re.compile(r" size=.*", re.DOTALL)
SOURCE = re.compile(r"from (.*), priority -?\d+: .*", re.DOTALL)
BEYOND = re.compile(r"!\d+ of \d+: ")
READY = re.compile(r"(.*): (\d+) ready, .*")
FLAG = re.compile(r" redelivered=\w+")


@dataclass(frozen=True)
class Leeway:
    """What a step leaves undefined: queues whose consumers share a limit, consumers that are freed
    together, each as the key of its deliveries, whether dead letters come from several queues, and
    whether any queue has priorities.
    """

    limited: frozenset = frozenset()
    freed: frozenset = frozenset()
    meeting: bool = False
    ranked: bool = False


def normal(view, step):
    """A view without what is undefined. Keys are (connection, channel, kind)."""
    view = {key: lines for key, lines in view.items()}
    if (step["c"], 0, "end") in view:
        # Other channels' answers may or may not have been written before the connection's end.
        view = {key: lines for key, lines in view.items()
                if key[0] != step["c"] or key[1] in (0, step.get("ch"))}
        drop(view, step["c"], step.get("ch"))
        view.pop((step["c"], 0, "queues"), None)
    for connection, channel, kind in list(view):
        if kind == "closed":
            drop(view, connection, channel)
    if any(kind in ("closed", "end") for _, _, kind in view):
        # What the channel that ends was to get may have been on its way there and back.
        for key, lines in view.items():
            view[key] = [FLAG.sub("", line) for line in lines]
    if len(step.get("ops", [])) > 1:
        # A queue tells its counts ahead of messages that wait to be handled
        # (rabbit_amqqueue_process, prioritise_call of stat).
        for key, lines in view.items():
            view[key] = [COUNTS.sub(r"\1", line) for line in lines]
    for key in view:
        # Confirms are coalesced as the broker likes; cancels of several consumers and states of
        # several queues come in no order.
        if key[2] in ("confirmed", "cancelled", "queues"):
            view[key].sort()
    return view


def drop(view, connection, channel):
    """Leaves out what may or may not get ahead of the channel's end: what queues send to it."""
    for key in list(view):
        if key[:2] == (connection, channel) and (
                key[2] in ("confirmed", "cancelled")
                or key[2].startswith(("deliver ", "consumer "))):
            del view[key]


def differences(reference, other, step, fired, leeway):
    """Lists (key, lines of the reference, lines of the other) that no rule covers.

    `fired` counts the rules that were needed. The second value tells whether one of them ends the
    script, since the targets are not in the same state after it.
    """
    left, right = normal(reference, step), normal(other, step)
    found, over = [], False
    for rule in rules.CLOSES:
        mine, theirs = last(left, step), last(right, step)
        if mine != theirs and rule.covers(mine, theirs):
            fired[rule.name] += 1
            return [], rule.ends
    for key in sorted(left.keys() | right.keys(), key=str):
        mine, theirs = left.get(key, []), right.get(key, [])
        if mine != theirs:
            matched = covered(mine, theirs, step)
            if matched is None:
                found.append((key, mine, theirs))
                continue
            for rule in matched:
                fired[rule.name] += 1
                over |= rule.ends
    if found and alternated(found):
        fired[ROUND] += 1
        return [], True
    if found and outran(found, leeway.freed):
        fired[FREED] += 1
        return [], True
    if found and leeway.limited and permitted(found, step, leeway.limited):
        fired[LIMITED] += 1
        return [], True
    if found and leeway.meeting and met(found):
        fired[MET] += 1
        return [], True
    if found and parted(found, reference, other, left):
        fired[ENDED] += 1
        return [], True
    if found and exceeded(found):
        fired[AGAIN] += 1
        return [], True
    if found and leeway.ranked and overlooked(found):
        fired[AHEAD] += 1
        return [], True
    if not found and unlike_in_the_end(reference, other, left, leeway.limited):
        fired[LIMITED] += 1
        return [], True
    return found, over


def unlike_in_the_end(reference, other, compared, limited):
    """Whether a channel that ended had been sent other messages of limited queues. They are not
    compared, but what came back from it is marked as redelivered from now on."""
    for key in reference.keys() | other.keys():
        mine, theirs = reference.get(key, []), other.get(key, [])
        if key[2].startswith("deliver ") and key not in compared and mine != theirs:
            if any(SOURCE.fullmatch(line)[1] in limited for line in apart(mine, theirs)):
                return True
    return False


def parted(found, reference, other, compared):
    """Whether only what queues have differs, and what channels that ended were sent before."""
    return all(key[2] == "queues" for key, *_ in found) and any(
        reference.get(key, []) != other.get(key, [])
        for key in reference.keys() | other.keys()
        if key[2].startswith("deliver ") and key not in compared)


def exceeded(found):
    """Whether consumers of the reference, and only they, have more than their prefetch."""
    delivered = [(mine, theirs) for key, mine, theirs in found if key[2].startswith("deliver ")]
    return len(delivered) > 0 and all(
        key[2] == "queues" or key[2].startswith("deliver ") for key, *_ in found) and all(
        line in mine and BEYOND.search(line)
        for mine, theirs in delivered for line in apart(mine, theirs))


def overlooked(found):
    """Whether queues of the reference, and only they, have more messages."""
    def more(mine, theirs):
        pairs = [(READY.match(one), READY.match(other)) for one, other in zip(mine, theirs)]
        return len(mine) == len(theirs) and all(
            one == other or one and other and one[1] == other[1] and int(one[2]) >= int(other[2])
            for one, other in pairs)
    return all(key[2] == "queues" and more(mine, theirs) for key, mine, theirs in found)


def permitted(found, step, limited):
    """Whether messages of limited queues were delivered, got or kept otherwise, each within its
    limits."""
    counted = any(arguments["queue"] in limited or not arguments["queue"]
                  for name, arguments in step.get("ops", []) if name in COUNTING)
    return all(
        key[2] == "queues" and not any("gone" in line for line in mine + theirs)
        and all(line.rsplit(": ", 1)[0] in limited for line in apart(mine, theirs))
        or key[2].startswith("deliver ") and "!" not in "".join(theirs)
        and all(SOURCE.fullmatch(line)[1] in limited for line in apart(mine, theirs))
        or key[2] == "reply" and counted and untold(mine) == untold(theirs)
        for key, mine, theirs in found)


def apart(mine, theirs):
    """Lines that only one of both has; all, if it is their order that differs."""
    one, other = collections.Counter(mine), collections.Counter(theirs)
    return [*(one - other), *(other - one)] or mine


def untold(lines):
    """Answers without what was got and how much was there."""
    counts = ("basic.get-", "queue.purge-ok", "queue.delete-ok")
    return ["counted" if line.startswith(counts) else line for line in lines]


def alternated(found):
    """Whether the same messages came from the same queues to consumers of the same priority, only
    to others of them. That each has room for what it gets is looked at where it arrives."""
    if not all(key[2].startswith("deliver ") for key, *_ in found):
        return False
    mine = sorted(line for _, lines, _ in found for line in lines)
    return mine == sorted(line for _, _, lines in found for line in lines)


def outran(found, freed):
    """Whether the same messages came from the same queues to others of the consumers that one
    settle freed."""
    if not all(key in freed for key, *_ in found):
        return False
    mine = sorted(PRIORITY.sub(": ", line) for _, lines, _ in found for line in lines)
    return mine == sorted(PRIORITY.sub(": ", line) for _, _, lines in found for line in lines)


def met(found):
    """Whether other messages came, each told in the same words wherever it came."""
    told = {}
    return all(
        (key[2].startswith("deliver ") or key[2] == "reply")
        and [IDENT.findall(line) for line in mine] != [IDENT.findall(line) for line in theirs]
        and all(told.setdefault(tuple(IDENT.findall(line)), untagged(line)) == untagged(line)
                for line in mine + theirs if IDENT.search(line))
        for key, mine, theirs in found)


def untagged(line):
    """What a delivery says of its message alone."""
    return MESSAGE.search(line)[0]


def last(view, step):
    """How the step closed its channel or connection."""
    lines = view.get((step["c"], step.get("ch"), "closed"), [])
    lines = view.get((step["c"], 0, "end"), lines)
    return next((line for line in lines if ".close " in line), "")


def covered(mine, theirs, step):
    """The rules that explain every difference of two lists of lines, or None."""
    names = {name for name, _ in step.get("ops", [])}
    extras = [rule for rule in rules.EXTRAS if not rule.when or rule.when in names]
    matched, left = [], list(theirs)
    for line in mine:
        if left and left[0] == line:
            left.pop(0)
            continue
        rule = next((rule for rule in rules.LINES if left and rule.covers(line, left[0])), None)
        if rule:
            left.pop(0)
        rule = rule or next((rule for rule in extras if rule.covers(line, "")), None)
        if rule is None:
            return None
        matched.append(rule)
    return None if left else matched


def may_heal(found):
    """Whether waiting can make these differences vanish: something is late, nothing contrary."""
    return all(key[2] in ("queues", "confirmed", "cancelled", "end") or late(mine, theirs)
               for key, mine, theirs in found)


def late(mine, theirs):
    short = min(len(mine), len(theirs))
    return mine[:short] == theirs[:short]
