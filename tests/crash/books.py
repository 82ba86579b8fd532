"""The books of a crash run: what the clients saw, and what the broker may not do after that.

Everything a client does is entered before its bytes leave, and everything a broker says when it is
read, in one order. The books know nothing of sockets or time, so their tests are faked histories.
What is wrong is a line in `complaints`, with all that was entered about its message.

What a client can know of a message in a queue:

- confirmed, or committed: it is there until it is settled.
- settled, on its way: it does not come back as long as channel and broker live.
- settled and the queue has answered something later: it may come back only after a kill.
- settled by an answered commit: it never comes back.
- neither confirmed nor refused: it may be there.

A client that takes without settling and vanishes may be sent messages, which then are gone, until
the broker has noticed. A count of the queue's consumers tells when it has; what was sent to the
broker before that count came may be gone.
"""

import collections
import enum
import itertools

from topology import Exchange, Queue, State

TRAIL_MAX = 500_000
GONE_MAX = 200_000
DRAINED = "was not in the queue when it was emptied"
COMMITTED = "was settled by a commit that was answered"
STOPPED = "was settled before a clean stop"
TRANSIENT = "is transient and from before a restart"
ROLLED_BACK = "was rolled back"
NOT_ROUTED = "had no way there"


class Settled(enum.Enum):
    """How sure it is that a message is out of its queue."""

    NO = 0
    SENT = 1
    SURE = 2
    PERHAPS = 3


class Entry:
    """A message in a queue."""

    __slots__ = ("ident", "queue", "persistent", "sent_at", "life", "sure", "seen", "settled",
                 "holder")

    def __init__(self, ident, queue, persistent, sent_at, life):
        self.ident, self.queue, self.persistent = ident, queue, persistent
        self.sent_at, self.life = sent_at, life
        self.sure = self.seen = False
        self.settled, self.holder = Settled.NO, None

    @property
    def required(self):
        """Whether the queue must have it, if nobody holds it."""
        return self.sure and self.settled is Settled.NO

    @property
    def possible(self):
        """Whether the queue may have it, if nobody holds it."""
        return self.settled in (Settled.NO, Settled.PERHAPS)


class Holder:
    """A channel with one consumer."""

    def __init__(self, queue, auto_ack):
        self.queue, self.auto_ack = queue, auto_ack
        # The broker has answered that it consumes; it was asked to end.
        self.answered = self.ending = False
        self.held = {}
        self.unsynced, self.syncing = [], []
        self.uncommitted, self.committing = [], []
        self.last, self.last_fresh = {}, {}


class Pending:
    """A publish that is not answered."""

    __slots__ = ("exchange", "key", "persistent", "sent_at", "sure", "queues")

    def __init__(self, exchange, key, persistent, sent_at):
        self.exchange, self.key = exchange, key
        self.persistent, self.sent_at = persistent, sent_at
        self.sure, self.queues = [], []


def spelt(ident):
    """A message's ident for people."""
    return f"{ident >> 32}/{ident & 0xFFFFFFFF}"


class Books:
    """`answers_are_final`: whether the broker promises that a commit, and a change of the topology,
    outlives a kill as soon as it is answered."""

    def __init__(self, answers_are_final=True):
        self.answers_are_final = answers_are_final
        self.clock = self.life = self.publishers = 0
        self.stopping = False
        self.queues, self.exchanges = {}, {}
        self.default = Exchange("", "direct")
        self.default.state = State.THERE
        self.pending = {}
        self.complaints = []
        self.trail = collections.deque(maxlen=TRAIL_MAX)
        self.counts = collections.Counter()

    # Complaints --------------------------------------------------------------------------------

    def note(self, what, queue=None, ident=0, more=""):
        """Enters a line into the trail."""
        self.clock += 1
        self.counts[what] += 1
        self.trail.append((self.clock, what, queue, ident, more))

    def complain(self, text, queue=None, ident=0):
        """Something is wrong; tells what was entered about it."""
        lines = [text]
        if ident:
            lines += [f"    {line}" for line in self.story(queue, ident)]
        self.complaints.append("\n".join(lines))

    def story(self, queue, ident):
        """What was entered about a message, as far as it concerns the queue, and about restarts."""
        for clock, what, where, whose, more in self.trail:
            if (whose == ident and where in (None, queue)) or what == "stop":
                where = f" {where.name}" if where else ""
                yield f"{clock}: {what}{where} {spelt(whose) if whose else ''} {more}".rstrip()

    # Topology ----------------------------------------------------------------------------------

    def queue_asked(self, name, durable=True):
        """A queue is being declared that was not there."""
        queue = self.queues[name] = Queue(name, durable)
        self._bound(self.default.bind(queue, name))
        self.note("declare", queue)
        return queue

    def exchange_asked(self, name, kind, durable=True):
        """An exchange is being declared that was not there."""
        exchange = self.exchanges[name] = Exchange(name, kind, durable)
        self.note("declare exchange", more=name)
        return exchange

    def bind_asked(self, exchange, queue, key=""):
        """A binding is being made that was not there."""
        binding = exchange.bind(queue, key)
        self._bound(binding)
        self.note("bind", queue, more=exchange.name)
        return binding

    def _bound(self, binding):
        # What is under way may come behind the binding.
        for ident, pending in self.pending.items():
            if pending.exchange is binding.exchange and binding in pending.exchange.routes(
                    pending.key):
                self._enter(ident, pending, binding.queue)

    def there(self, thing):
        """Its declaration was answered."""
        thing.state, thing.answered_in = State.THERE, self.life
        if isinstance(thing, Queue):
            for binding in self.default.routes(thing.name):
                if binding.queue is thing:
                    binding.state = State.THERE
        self.note("there", more=str(thing))

    def end_asked(self, thing):
        """A delete or unbind is on its way; what depends on the thing goes with it."""
        thing.state = State.GOING
        for binding in self._bindings_of(thing):
            binding.state = State.GOING
        self.note("delete", thing if isinstance(thing, Queue) else None, more=str(thing))

    def ended(self, thing):
        """Its end was answered."""
        thing.state, thing.answered_in = State.ABSENT, self.life
        for binding in self._bindings_of(thing):
            binding.exchange.unbind(binding)
        self.note("deleted", thing if isinstance(thing, Queue) else None, more=str(thing))

    def bindings(self):
        """All bindings that may be there."""
        every = [self.default, *self.exchanges.values()]
        return [binding for exchange in every for binding in exchange.bindings]

    def _bindings_of(self, thing):
        return [each for each in self.bindings() if thing in (each, each.queue, each.exchange)]

    def found(self, thing, exists):
        """A broker at rest said whether the thing is there."""
        doubtful = thing.state is State.GOING
        recent = thing.answered_in >= self.life - 2 and not self.answers_are_final
        complaint = thing.found(exists)
        if complaint and not recent:
            self.complain(complaint)
        if not exists:
            self.ended(thing)
        elif isinstance(thing, Queue):
            self.there(thing)
            if doubtful:
                # The client wanted them gone and cannot complain if some are.
                for entry in thing.entries.values():
                    entry.sure = False

    # Publishing --------------------------------------------------------------------------------

    def publisher(self):
        """A new publisher; its messages are numbered from 1 in order."""
        self.publishers += 1
        return self.publishers

    def publish(self, publisher, number, exchange, key, persistent=True):
        """A message is on its way."""
        ident = publisher << 32 | number
        self.note("publish", ident=ident, more="" if persistent else "transient")
        pending = self.pending[ident] = Pending(exchange, key, persistent, self.clock)
        for binding in exchange.routes(key):
            if binding.sure:
                pending.sure.append(binding)
            self._enter(ident, pending, binding.queue)

    def _enter(self, ident, pending, queue):
        if ident not in queue.entries:
            queue.entries[ident] = Entry(
                ident, queue, pending.persistent, pending.sent_at, self.life)
            pending.queues.append(queue)

    def confirm(self, publisher, first, last):
        """A confirm, or an answered commit, for all of these that wait."""
        for number in range(first, last + 1):
            ident = publisher << 32 | number
            pending = self.pending.pop(ident, None)
            if pending is None:
                continue
            self.note("confirm", ident=ident)
            for binding in pending.sure:
                entry = binding.queue.entries.get(ident)
                # It may have been delivered and settled for good by now.
                if entry and binding.sure and not binding.queue.may_have_lost(entry):
                    entry.sure = True
                    self.counts["confirmed after a taker vanished"] += binding.queue.leaked_until >= 0

    def refused(self, publisher, number):
        """The broker does not answer for this message; it may be there."""
        self.pending.pop(publisher << 32 | number, None)
        self.note("refused", ident=publisher << 32 | number)

    def rolled_back(self, publisher, first, last):
        """These were never published."""
        for number in range(first, last + 1):
            ident = publisher << 32 | number
            for queue in self.pending.pop(ident).queues:
                self._gone(queue.entries[ident], ROLLED_BACK)
            self.note("rollback", ident=ident)

    def not_routed(self, publisher, number, queue):
        """A message was published at rest and is not in this queue."""
        if entry := queue.entries.get(publisher << 32 | number):
            self._gone(entry, NOT_ROUTED)

    # Consuming ---------------------------------------------------------------------------------

    def holder(self, queue, auto_ack=False):
        """A channel that consumes from this queue and nothing else."""
        holder = Holder(queue, auto_ack)
        queue.holders.add(holder)
        return holder

    def consumes(self, holder):
        """Its consume was answered."""
        holder.answered = True

    def cancel_asked(self, holder):
        """The end of its consumer is on its way."""
        holder.ending = True

    def count_asked(self, queue):
        """The queue will be asked how many consumers it has; what to compare the answer with."""
        return self._consuming(queue), set(queue.vanished)

    @staticmethod
    def _consuming(queue):
        return {each for each in queue.holders if each.answered and not each.ending}

    def consumers_counted(self, queue, asked, count):
        """The answer came. If it counts those alone that are there for sure, the queue sends nothing
        any more to those that had vanished before."""
        sure, vanished = asked
        sure &= self._consuming(queue)
        if count < len(sure) and not self.stopping:
            self.complain(f"{queue} counts {count} consumers, {len(sure)} were answered")
        elif count == len(sure) and vanished:
            self.note("noticed", queue)
            queue.vanished -= vanished
            queue.leaked_until = self.clock

    def deliver(self, holder, tag, ident, redelivered):
        """A message came."""
        queue = holder.queue
        self.note("deliver", queue, ident, "redelivered" if redelivered else "")
        entry = queue.entries.get(ident)
        if entry is None:
            self._stray(queue, ident)
            return
        if not self._judge_state(entry, queue):
            return
        self._judge_flag(entry, queue, redelivered)
        self._judge_order(holder, ident, redelivered)
        self.counts["redelivered"] += redelivered
        self.counts["survived"] += entry.life < self.life
        entry.seen = True
        # What was recovered once is on the disk.
        entry.sure = entry.sure or entry.life < self.life
        entry.settled, entry.holder = Settled.NO, holder
        if holder.auto_ack:
            entry.settled, entry.holder = Settled.SURE, None
            self.counts["taken"] += 1
        else:
            holder.held[tag] = entry

    def _stray(self, queue, ident):
        if reason := queue.gone.get(ident):
            text = f"message {spelt(ident)} came from {queue} again although it {reason}"
        elif (ident >> 32) <= self.publishers:
            text = (f"message {spelt(ident)} came from {queue}, where it was never sent or is gone "
                    "for long")
        else:
            text = f"message {spelt(ident)} from {queue} was never published"
        self.complain(text, queue, ident)

    def _judge_state(self, entry, queue):
        name = f"message {spelt(entry.ident)} of {queue}"
        held = entry.holder is not None and not self.stopping
        back = entry.settled is Settled.SENT and not self.stopping
        if held:
            self.complain(f"{name} was delivered twice at once", queue, entry.ident)
        elif back or entry.settled is Settled.SURE:
            self.complain(f"{name} came back after it was settled", queue, entry.ident)
        return not held

    def _judge_flag(self, entry, queue, redelivered):
        name = f"message {spelt(entry.ident)} of {queue}"
        if entry.seen and not redelivered:
            self.complain(f"{name} came again without the flag redelivered", queue, entry.ident)
        if redelivered and not entry.seen and entry.sent_at > queue.haze:
            self.complain(f"{name} is flagged redelivered at its first delivery", queue,
                          entry.ident)

    def _judge_order(self, holder, ident, redelivered):
        publisher, number = ident >> 32, ident & 0xFFFFFFFF
        last = holder.last.get(publisher, 0)
        fresh = holder.last_fresh.get(publisher, 0)
        if (number <= last and not holder.queue.disturbed) or (number <= fresh and not redelivered):
            after = max(last, fresh)
            self.complain(
                f"message {spelt(ident)} of {holder.queue} came behind {publisher}/{after}",
                holder.queue, ident)
        holder.last[publisher] = max(last, number)
        if not redelivered:
            holder.last_fresh[publisher] = max(fresh, number)

    def settle(self, holder, tag, multiple=False, requeue=False, tx=False):
        """An ack, or a nack, is on its way; with `tx` it waits for the commit."""
        tags = [each for each in holder.held if each <= tag] if multiple else [tag]
        for each in tags:
            entry = holder.held.pop(each)
            if tx:
                holder.uncommitted.append((entry, requeue))
            elif requeue:
                self._release(entry)
            else:
                self.note("ack", holder.queue, entry.ident)
                entry.settled, entry.holder = Settled.SENT, None
                holder.unsynced.append(entry)

    def _release(self, entry):
        self.note("requeue", entry.queue, entry.ident)
        entry.holder = None
        entry.queue.disturbed = True

    def sync_asked(self, holder):
        """Something is asked that the queue itself answers, behind all settles so far."""
        holder.syncing += holder.unsynced
        holder.unsynced = []

    def synced(self, holder):
        """The answer came."""
        for entry in holder.syncing:
            if entry.settled is Settled.SENT:
                entry.settled = Settled.SURE
        holder.syncing = []

    def commit_asked(self, holder):
        """tx.commit is on its way."""
        holder.committing, holder.uncommitted = holder.uncommitted, []
        for entry, requeue in holder.committing:
            if requeue:
                self._release(entry)

    def committed(self, holder):
        """tx.commit-ok came."""
        for entry, requeue in holder.committing:
            if requeue:
                continue
            self.note("commit-ok", holder.queue, entry.ident)
            if self.answers_are_final:
                self._gone(entry, COMMITTED)
            else:
                entry.settled, entry.holder = Settled.SURE, None
        holder.committing = []

    def close_asked(self, holder):
        """The channel is being closed: what it holds goes back to the queue."""
        for entry in [*holder.held.values(), *(entry for entry, _ in holder.uncommitted)]:
            if entry.holder is holder:
                self._release(entry)

    def closed(self, holder, clean=False):
        """The channel is at its end. `clean`: its consumer was cancelled before, and the broker has
        answered, so that it can have sent nothing that did not arrive and missed no settle."""
        queue = holder.queue
        queue.holders.discard(holder)
        self.note("close" if clean else "drop", queue)
        for entry in [*holder.held.values(), *(entry for entry, _ in holder.uncommitted)]:
            if entry.holder is holder:
                self._release(entry)
        for entry in [*holder.unsynced, *holder.syncing]:
            if entry.settled is Settled.SENT:
                entry.settled = Settled.SURE if clean else Settled.PERHAPS
        for entry, requeue in holder.committing:
            if entry.holder is holder and not requeue:
                entry.settled, entry.holder = Settled.PERHAPS, None
        if not clean:
            queue.disturbed, queue.haze = True, self.clock
            if holder.auto_ack:
                self.leaked(queue, holder)

    def leaked(self, queue, holder):
        """Messages may have been sent to nobody and counted as settled, and more may be: the broker
        does not know yet that nobody is there."""
        queue.vanished.add(holder)
        if not holder.answered:
            # The broker may read its consume some time: no count says that it is over.
            queue.leaks = True
        for entry in queue.entries.values():
            entry.sure = False

    def purge_asked(self, queue):
        """A purge is on its way; what it takes for sure, for `purged`. A client that vanished may
        still hold messages for a while, which a purge leaves."""
        self.note("purge", queue)
        taken, alone = [], not (queue.holders or queue.disturbed)
        for entry in queue.entries.values():
            if entry.settled is Settled.NO and entry.holder is None:
                if entry.sure and alone:
                    taken.append(entry)
                entry.settled = Settled.PERHAPS
        return taken

    def purged(self, queue, taken):
        """purge-ok came. What was published meanwhile may have been there before the purge."""
        self.note("purge-ok", queue)
        for entry in queue.entries.values():
            if entry.settled is Settled.NO and entry.holder is None:
                entry.settled = Settled.PERHAPS
        if not (queue.holders or queue.disturbed):
            for entry in taken:
                if entry.settled is Settled.PERHAPS and entry.holder is None:
                    entry.settled = Settled.SURE

    # The broker --------------------------------------------------------------------------------

    def stop_asked(self):
        """The broker is told to stop: it ends one connection after the other, and what one held
        goes to the next."""
        self.stopping = True
        for queue in self.queues.values():
            queue.disturbed = True

    def stopped(self, clean):
        """The process has ended, by itself (`clean`) or killed, and all it said was read."""
        self.note("stop", more="cleanly" if clean else "killed")
        self.stopping = False
        self.life += 1
        self.pending.clear()
        for queue in self.queues.values():
            for holder in list(queue.holders):
                self.closed(holder)
            for entry in list(queue.entries.values()):
                self._survives(entry, clean)
            queue.disturbed = queue.leaks = False
            queue.vanished.clear()
            queue.leaked_until = -1
            if not clean:
                queue.haze = self.clock
        for thing in [*self.queues.values(), *self.exchanges.values(), *self.bindings()]:
            if not thing.durable and thing.possible:
                self.ended(thing)

    def _survives(self, entry, clean):
        if not entry.persistent:
            self._gone(entry, TRANSIENT)
        elif entry.settled is Settled.SURE and clean:
            self._gone(entry, STOPPED)
        elif entry.settled is not Settled.NO:
            entry.settled = Settled.PERHAPS
        entry.holder = None

    def _gone(self, entry, reason):
        queue = entry.queue
        queue.entries.pop(entry.ident, None)
        queue.gone[entry.ident] = reason
        if len(queue.gone) > 2 * GONE_MAX:
            # A long run is not to need more and more memory; and who is not known is wrong as well.
            for ident in list(itertools.islice(queue.gone, GONE_MAX)):
                del queue.gone[ident]

    # Looking -----------------------------------------------------------------------------------

    def counted(self, queue, count):
        """A broker at rest said how many messages are ready in the queue."""
        low, high = queue.bounds()
        if not low <= count <= high:
            expected = f"{low}" if low == high else f"{low} to {high}"
            self.complain(f"{queue} has {count} messages, expected {expected}")

    def drained(self, queue):
        """The queue was emptied while nobody else used it, and says that it is empty."""
        self.note("drained", queue)
        for entry in list(queue.entries.values()):
            if entry.settled is Settled.SENT or entry.settled is Settled.SURE or entry.holder:
                continue
            if entry.required:
                self.counts["lost"] += 1
                self.complain(f"message {spelt(entry.ident)} of {queue} was confirmed and is lost",
                              queue, entry.ident)
            self._gone(entry, DRAINED)
