"""Queues, exchanges and bindings as far as a client can know whether they are there."""

import enum


class State(enum.Enum):
    """What the answers so far say of a thing."""

    ABSENT = "not there"
    ASKED = "asked for, not answered"
    THERE = "there"
    GOING = "asked to go, not answered"


class Thing:
    """What is declared and deleted. A thing that went is never this object again."""

    def __init__(self, kind, name, durable=True):
        self.kind = kind
        self.name = name
        self.durable = durable
        self.state = State.ASKED
        # In which life of the broker the last answer came.
        self.answered_in = 0

    def __str__(self):
        return f"{self.kind} {self.name}"

    @property
    def sure(self):
        """Whether it is certainly there."""
        return self.state is State.THERE

    @property
    def possible(self):
        """Whether it may be there."""
        return self.state is not State.ABSENT

    def found(self, exists):
        """A broker was asked while nobody changed anything; what is wrong with its answer."""
        before, self.state = self.state, State.THERE if exists else State.ABSENT
        if before is State.THERE and not exists:
            return f"{self} is not there although its declaration was answered"
        if before is State.ABSENT and exists:
            return f"{self} is there although its end was answered or it was not durable"
        return None


class Queue(Thing):
    """A queue from its declaration to its end, and what may be in it."""

    def __init__(self, name, durable=True):
        super().__init__("queue", name, durable)
        # Messages that are or may be in it, by their ident; and why others may not come any more.
        self.entries = {}
        self.gone = {}
        # Messages sent until then may have been delivered without a client's knowledge.
        self.haze = -1
        # Whether a message was given back since the broker started: then order says less.
        self.disturbed = False
        # Clients that vanished, that take without settling, and of which the broker may not know
        # it; whether it will not be known when it does.
        self.vanished, self.leaks = set(), False
        # Messages sent until then may have gone to such clients.
        self.leaked_until = -1
        self.holders = set()

    def may_have_lost(self, entry):
        """Whether the message may have been sent to nobody and count as settled."""
        return bool(self.leaks or self.vanished) or entry.sent_at <= self.leaked_until

    def bounds(self):
        """How many messages a queue that nobody uses must and may have."""
        low = high = 0
        for entry in self.entries.values():
            low += entry.required
            high += entry.possible
        return low, high


class Binding(Thing):
    """A way from an exchange to a queue."""

    def __init__(self, exchange, queue, key):
        name = f"from '{exchange.name}' to {queue.name} by '{key}'"
        super().__init__("binding", name, exchange.durable and queue.durable)
        self.exchange, self.queue, self.key = exchange, queue, key


class Exchange(Thing):
    """An exchange, direct or fanout, and the bindings that may be there."""

    def __init__(self, name, kind, durable=True):
        super().__init__("exchange", name, durable)
        self.type = kind
        self.bindings = []
        self._routes = {}

    def bind(self, queue, key):
        """A binding that is being asked for."""
        binding = Binding(self, queue, key)
        self.bindings.append(binding)
        self._routes.clear()
        return binding

    def unbind(self, binding):
        """The binding is not there any more."""
        binding.state = State.ABSENT
        if binding in self.bindings:
            self.bindings.remove(binding)
        self._routes.clear()

    def routes(self, key):
        """The bindings a message with this key may take."""
        found = self._routes.get(key)
        if found is None:
            found = self._routes[key] = tuple(
                each for each in self.bindings if self.type == "fanout" or each.key == key)
        return found
