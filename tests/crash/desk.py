"""The look at a broker that has just started, while nobody else uses it."""

import selectors
import time

import link
from crowd import PATIENCE_SECONDS, Stuck

# All that it holds at once fits into the smallest share of memory that the broker leaves consumers.
ACK_EVERY = 20
KEYS = {"direct": ("red", "green"), "fanout": ("",)}
ANSWERS = ("ack", "nack", "deliver", "return")


class Desk:
    """One connection that asks, and enters the answers into the books."""

    def __init__(self, broker, books):
        self.broker, self.books = broker, books
        self.link = link.Link(broker)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.link.socket, selectors.EVENT_READ)
        self.contents = []
        self.ask("confirm.select")
        self.publisher, self.number = books.publisher(), 0

    def close(self):
        """Ends the connection."""
        self.selector.close()
        self.link.close()

    def events(self):
        """What comes, without an end."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            self.link.flush()
            if not self.selector.select(0.05) and time.monotonic() > deadline:
                raise Stuck(f"no answer within {PATIENCE_SECONDS} s")
            yield from self.link.read()
            if self.link.at_end:
                raise Stuck(f"the broker closed the connection: {self.link.ended}")

    def ask(self, name, **fields):
        """The answer to a method, or None if the channel was closed with 404."""
        self.link.send(link.method(name, **fields))
        for event in self.events():
            if event[0] == "channel.close":
                self.refused(name, event[1])
                return None
            if event[0] in ANSWERS:
                self.contents.append(event)
            elif event[0] not in ("connection.blocked", "connection.unblocked"):
                return event[1]
        return None

    def refused(self, name, fields):
        """The channel was closed; opens it again."""
        if fields["reply_code"] != 404:
            self.books.complain(f"{name} was refused: {fields['reply_text']}")
        self.ask("channel.open")
        self.ask("confirm.select")
        self.publisher, self.number = self.books.publisher(), 0

    def count(self, queue):
        """How many messages are ready in the queue, None if there is no such queue."""
        answer = self.ask("queue.declare", queue=queue.name, passive=True)
        return answer and answer["message_count"]

    # What is looked at -------------------------------------------------------------------------

    def look(self):
        """Everything that should or should not be there, except the messages themselves."""
        for exchange in list(self.books.exchanges.values()):
            answer = self.ask("exchange.declare", exchange=exchange.name, passive=True)
            self.books.found(exchange, answer is not None)
        for queue in list(self.books.queues.values()):
            count = self.count(queue)
            self.books.found(queue, count is not None)
            if count is not None:
                self.books.counted(queue, count)
        self.probe()

    def probe(self):
        """One message on every way there may be: exactly the queues that are bound get it."""
        for exchange in self.books.exchanges.values():
            if exchange.possible:
                for key in KEYS[exchange.type]:
                    self.probe_way(exchange, key)

    def probe_way(self, exchange, key):
        """One message through this exchange."""
        queues = [queue for queue in self.books.queues.values() if queue.possible]
        before = [self.count(queue) for queue in queues]
        routes = {binding.queue: binding for binding in exchange.routes(key)}
        self.publish(exchange, key)
        for queue, count in zip(queues, before):
            came = self.count(queue) > count
            if queue in routes:
                self.books.found(routes[queue], came)
            elif came:
                self.books.complain(f"'{exchange.name}' routes '{key}' to {queue}, not bound so")
            if not came:
                self.books.not_routed(self.publisher, self.number, queue)

    def publish(self, exchange, key):
        """One message and its confirm."""
        self.number += 1
        self.books.publish(self.publisher, self.number, exchange, key)
        data = link.body(self.publisher, self.number, 100, True)
        self.link.send(link.publish(exchange.name, key, data, True))
        for event in self.events():
            if event[0] == "ack":
                self.books.confirm(self.publisher, self.number, self.number)
                return
            if event[0] in ("nack", "channel.close"):
                self.books.complain(f"a publish to '{exchange.name}' at rest got {event[0]}")
                return

    def drain(self, queue):
        """Takes everything out of the queue."""
        holder = self.books.holder(queue)
        self.link.send(link.method("basic.consume", queue=queue.name, consumer_tag=queue.name))
        last = self.take_all(queue, holder)
        if holder.held:
            self.acknowledge(holder, last)
        self.ask("basic.cancel", consumer_tag=queue.name)
        for event in self.contents:
            # After the queue said that it was empty.
            link.take(self.books, holder, *event[1:])
        self.contents.clear()
        self.books.sync_asked(holder)
        self.books.drained(queue)
        if self.count(queue) != 0:
            self.books.complain(f"{queue} is not empty after it was emptied")
        self.books.synced(holder)
        self.books.closed(holder, clean=True)

    def take_all(self, queue, holder):
        """Takes messages until there are none; the last delivery tag. The queue's answer may
        overtake what it sent before, so it is asked again after each that comes behind it."""
        ask = link.method("queue.declare", queue=queue.name, passive=True)
        self.link.send(ask)
        last, empty = 0, False
        for event in self.events():
            if event[0] == "deliver":
                link.take(self.books, holder, *event[1:])
                last, empty = event[1], False
                if last % ACK_EVERY == 0:
                    self.acknowledge(holder, last)
            elif event[0] == "queue.declare-ok":
                if empty:
                    break
                empty = event[1]["message_count"] == 0
                self.link.send(ask)
        return last

    def acknowledge(self, holder, tag):
        """Everything so far."""
        if holder.held:
            self.books.settle(holder, max(holder.held), multiple=True)
        self.link.send(link.ack(tag, multiple=True))
