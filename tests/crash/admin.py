"""The client that changes the topology: declares, binds, unbinds, purges and deletes."""

import link
from clients import Client

PAUSE = None
QUEUES = [f"d{number}" for number in range(6)]
PASSING = [f"t{number}" for number in range(2)]
EXCHANGES = [f"x{number}" for number in range(3)]


class Admin(Client):
    """Does one thing after the other. Its life yields questions, and is sent their answers."""

    def __init__(self, crowd, set_up=False):
        super().__init__(crowd)
        self.life = self.set_up() if set_up else self.change_things()
        self.waits, self.rest = False, 0

    def step(self):
        if self.waits:
            return
        self.rest -= 1
        if self.leaving:
            self.done = True
        elif self.rest <= 0:
            self.advance()

    def on(self, event):
        self.waits = False
        self.advance(event[1])

    def advance(self, answer=None):
        """Goes on to the next question or pause."""
        try:
            question = self.life.send(answer)
        except StopIteration:
            self.done = True
            return
        if question is PAUSE:
            self.rest = self.dice.randint(0, 40)
        else:
            name, fields = question
            self.waits = True
            self.link.send(link.method(name, **fields))

    # Lives -------------------------------------------------------------------------------------

    def set_up(self):
        """What every round uses."""
        for name in [*(f"q{number}" for number in range(8)), "auto"]:
            yield from self.declare(name)
        for number in range(2):
            fan = yield from self.declare_exchange(f"fan{number}", "fanout")
            for queue in range(number * 2, number * 2 + 3):
                yield from self.bind(fan, self.books.queues[f"q{queue}"])

    def change_things(self):
        """Random changes without an end."""
        actions = (self.make_queue, self.make_queue, self.make_exchange, self.bind_some,
                   self.bind_some, self.unbind_some, self.purge_some, self.delete_queue,
                   self.delete_exchange)
        while True:
            yield from self.count_consumers()
            yield from self.dice.choice(actions)()
            yield PAUSE

    # Actions -----------------------------------------------------------------------------------

    def count_consumers(self):
        """Asks queues whether clients that vanished are still among their consumers."""
        for queue in [each for each in self.books.queues.values() if each.sure and each.vanished]:
            asked = self.books.count_asked(queue)
            answer = yield "queue.declare", {"queue": queue.name, "passive": True}
            self.books.consumers_counted(queue, asked, answer["consumer_count"])

    def make_queue(self):
        """A queue that was not there."""
        if name := self.free([*QUEUES, *PASSING], self.books.queues):
            yield from self.declare(name)

    def make_exchange(self):
        """An exchange that was not there."""
        if name := self.free(EXCHANGES, self.books.exchanges):
            yield from self.declare_exchange(name, self.dice.choice(("direct", "fanout")))

    def bind_some(self):
        """A binding that was not there."""
        queue, exchange = self.some(self.books.queues), self.some(self.books.exchanges)
        key = self.dice.choice(("red", "green")) if exchange.type == "direct" else ""
        if not any(each.queue is queue and each.key == key for each in exchange.bindings):
            yield from self.bind(exchange, queue, key)

    def unbind_some(self):
        """A binding that may go."""
        coming = [each for each in self.books.bindings()
                  if each.sure and each.exchange is not self.books.default
                  and "d" in each.queue.name + each.exchange.name]
        if coming:
            binding = self.dice.choice(coming)
            self.books.end_asked(binding)
            yield "queue.unbind", {
                "queue": binding.queue.name, "exchange": binding.exchange.name,
                "routing_key": binding.key}
            self.books.ended(binding)

    def purge_some(self):
        """Empties a queue."""
        queue = self.some(self.books.queues)
        if queue.name in (*QUEUES, "q6"):
            taken = self.books.purge_asked(queue)
            yield "queue.purge", {"queue": queue.name}
            self.books.purged(queue, taken)

    def delete_queue(self):
        """Deletes a queue, its messages and consumers."""
        if queue := self.own(self.books.queues):
            self.books.end_asked(queue)
            yield "queue.delete", {"queue": queue.name}
            self.books.ended(queue)

    def delete_exchange(self):
        """Deletes an exchange and its bindings."""
        if exchange := self.own(self.books.exchanges):
            self.books.end_asked(exchange)
            yield "exchange.delete", {"exchange": exchange.name}
            self.books.ended(exchange)

    # Steps -------------------------------------------------------------------------------------

    def declare(self, name):
        """Declares a queue; one that begins with t is not durable."""
        durable = name not in PASSING
        queue = self.books.queue_asked(name, durable)
        yield "queue.declare", {"queue": name, "durable": durable}
        self.books.there(queue)
        return queue

    def declare_exchange(self, name, kind):
        """Declares a durable exchange."""
        exchange = self.books.exchange_asked(name, kind)
        yield "exchange.declare", {"exchange": name, "type": kind, "durable": True}
        self.books.there(exchange)
        return exchange

    def bind(self, exchange, queue, key=""):
        """Binds a queue to an exchange."""
        binding = self.books.bind_asked(exchange, queue, key)
        yield "queue.bind", {
            "queue": queue.name, "exchange": exchange.name, "routing_key": key}
        self.books.there(binding)

    def free(self, names, things):
        """One of the names that nothing has; perhaps none."""
        free = [name for name in names if name not in things or not things[name].possible]
        return self.dice.choice(free) if free else None

    def some(self, things):
        """One of the things that are there."""
        return self.dice.choice([each for each in things.values() if each.sure])

    def own(self, things):
        """One of the things that come and go; perhaps none."""
        names = {*QUEUES, *PASSING, *EXCHANGES}
        mine = [each for each in things.values() if each.sure and each.name in names]
        return self.dice.choice(mine) if mine else None
