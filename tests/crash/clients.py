"""The clients of a crash run. None of them blocks: `step` goes on a little, `on` takes what came.

What a client does is entered into the books before its bytes are sent."""

import link

OUT_MAX = 1 << 18
BURST = 40
SIZES = (16, 100, 100, 1000, 4000, 20_000, 200_000)


class Client:
    """A connection and what it is for. `done` when it has nothing more to do."""

    def __init__(self, crowd):
        self.crowd, self.books, self.dice = crowd, crowd.books, crowd.dice
        self.link = link.Link(crowd.broker)
        self.done = self.leaving = False

    def on_event(self, event):
        """Takes an event of the link; an end in words is wrong unless it was asked for."""
        if event[0] in ("connection.close", "channel.close"):
            if not self.crowd.stopping and not self.excused():
                text = f"{event[1]['reply_code']} {event[1]['reply_text']}"
                self.books.complain(f"{self} was closed by the broker: {text}")
            if not self.crowd.stopping:
                self.drop()
        elif event[0] not in ("connection.blocked", "connection.unblocked"):
            self.on(event)

    def on_end(self):
        """The broker's side of the connection has ended."""
        if not self.crowd.stopping:
            self.books.complain(f"{self} lost its connection")
        self.drop()

    def drop(self):
        """Ends without a word."""
        if not self.done:
            self.forget()
        self.done = True
        self.link.close()

    def excused(self):
        """Whether what it uses may be gone."""
        return False

    def leave(self):
        """Comes to an end in good order, soon."""
        self.leaving = True

    def __str__(self):
        return type(self).__name__.lower()

    def on(self, event):
        """Takes an event."""

    def step(self):
        """Makes some progress."""

    def forget(self):
        """Enters a sudden end into the books."""


class Publisher(Client):
    """Publishes with confirms, so many unanswered at a time."""

    def __init__(self, crowd, exchange, key):
        super().__init__(crowd)
        self.exchange, self.key = exchange, key
        self.ident = self.books.publisher()
        self.window = self.dice.choice((1, 5, 50, 500))
        self.sizes = self.dice.choice((SIZES[:3], SIZES[:5], SIZES[:5], SIZES))
        self.transient = self.dice.choice((0, 0, 0.2))
        self.pace = self.dice.choice((0.1, 0.5, 1))
        self.number = self.confirmed = 0
        self.early = set()
        self.mode("confirm.select")

    def __str__(self):
        return f"publisher {self.ident}"

    def excused(self):
        return not self.exchange.sure

    def mode(self, name):
        """What kind of channel it is."""
        self.link.send(link.method(name))

    def publish(self):
        """One message."""
        self.number += 1
        persistent = self.dice.random() >= self.transient
        self.books.publish(self.ident, self.number, self.exchange, self.key, persistent)
        data = link.body(self.ident, self.number, self.dice.choice(self.sizes), persistent)
        self.link.send(link.publish(self.exchange.name, self.key, data, persistent))

    def step(self):
        if self.leaving:
            self.done = self.confirmed >= self.number
            return
        if self.dice.random() > self.pace:
            return
        for _ in range(BURST):
            if self.number - self.confirmed >= self.window or len(self.link.out) > OUT_MAX:
                break
            self.publish()

    def on(self, event):
        if event[0] not in ("ack", "nack"):
            return
        what, tag, multiple = event
        first = self.confirmed + 1 if multiple else tag
        if what == "ack":
            self.books.confirm(self.ident, first, tag)
        else:
            for number in range(first, tag + 1):
                self.books.refused(self.ident, number)
        self.early.update(range(first, tag + 1))
        while self.confirmed + 1 in self.early:
            self.confirmed += 1
            self.early.discard(self.confirmed)


class TxPublisher(Publisher):
    """Publishes in transactions, some of which are rolled back."""

    def __init__(self, crowd, exchange, key):
        self.waits = ""
        super().__init__(crowd, exchange, key)
        self.sizes = self.sizes[:4]

    def mode(self, name):
        super().mode("tx.select")

    def step(self):
        if self.waits:
            return
        if self.leaving:
            self.done = True
            return
        for _ in range(self.dice.randint(1, 50)):
            self.publish()
        if self.dice.random() < 0.1:
            self.books.rolled_back(self.ident, self.confirmed + 1, self.number)
            self.waits = "tx.rollback"
        else:
            self.waits = "tx.commit"
        self.link.send(link.method(self.waits))

    def on(self, event):
        if event[0] == "tx.commit-ok":
            self.books.confirm(self.ident, self.confirmed + 1, self.number)
        if event[0] in ("tx.commit-ok", "tx.rollback-ok"):
            self.confirmed, self.waits = self.number, ""


class Consumer(Client):
    """Consumes and settles in its own manner; sometimes it vanishes."""

    tx = auto_ack = False

    def __init__(self, crowd, queue):
        super().__init__(crowd)
        self.queue = queue
        self.holder = self.books.holder(queue, self.auto_ack)
        self.held = []
        self.batch = self.dice.choice((1, 1, 10, 100))
        self.refusing = self.dice.choice((0, 0, 0.02))
        self.pace = self.dice.choice((0.02, 0.2, 0.5, 1))
        self.lifetime = self.dice.choice((500, 5_000, 1 << 40))
        prefetch = max(self.batch, self.dice.choice((1, 10, 200, 2_000)))
        self.waits = "consume"
        if self.tx:
            self.link.send(link.method("tx.select"))
        self.link.send(link.method("basic.qos", prefetch_count=prefetch))
        self.link.send(link.method(
            "basic.consume", queue=queue.name, consumer_tag="c", no_ack=self.auto_ack))

    def __str__(self):
        return f"consumer of {self.queue.name}"

    def excused(self):
        return not self.queue.sure

    def on(self, event):
        if event[0] == "deliver":
            self.deliver(*event[1:])
        elif event[0] == "queue.declare-ok":
            self.books.synced(self.holder)
            self.waits = ""
        elif event[0] == "basic.consume-ok":
            self.books.consumes(self.holder)
            self.waits = ""
        elif event[0] == "basic.cancel":
            # The queue was deleted.
            self.drop()
        elif event[0] == "basic.cancel-ok":
            self.finish()
        elif event[0] == "channel.close-ok":
            self.books.closed(self.holder, clean=True)
            self.done = True

    def deliver(self, tag, redelivered, data):
        """A message came."""
        link.take(self.books, self.holder, tag, redelivered, data)
        if tag in self.holder.held:
            self.held.append(tag)
        self.lifetime -= 1

    def step(self):
        if self.waits in ("consume", "cancel"):
            return
        if self.lifetime <= 0:
            self.end()
        elif self.leaving:
            self.cancel()
        elif len(self.held) >= self.batch and self.dice.random() < self.pace:
            self.settle()
        elif not self.waits and self.dice.random() < 0.02:
            self.sync()

    def end(self):
        """Its time is over: in one way or another."""
        if self.dice.random() < 0.5:
            self.drop()
        else:
            self.cancel()

    def cancel(self):
        """Ends its consumer; what it holds goes back."""
        self.waits = "cancel"
        self.books.cancel_asked(self.holder)
        self.link.send(link.method("basic.cancel", consumer_tag="c"))

    def finish(self):
        """The consumer has ended and everything that was sent is here."""
        if self.dice.random() < 0.7 and self.held:
            self.books.settle(self.holder, self.held[-1], multiple=True)
            self.link.send(link.ack(self.held[-1], multiple=True))
            self.held.clear()
        self.close_channel()

    def close_channel(self):
        """What it has not settled may come again to others before the answer is here."""
        self.books.close_asked(self.holder)
        self.link.send(link.method(
            "channel.close", reply_code=200, reply_text="", class_id=0, method_id=0))

    def sync(self):
        """Asks the queue something, so that what was settled is known to have arrived."""
        if self.queue.sure:
            self.waits = "sync"
            self.books.sync_asked(self.holder)
            self.link.send(link.method("queue.declare", queue=self.queue.name, passive=True))

    def settle(self):
        """Settles some of what it holds."""
        for _ in range(self.dice.randint(1, 20)):
            if len(self.held) < self.batch:
                return
            tag = self.held[self.batch - 1]
            multiple = self.batch > 1
            del self.held[:self.batch]
            refuse = self.dice.random() < self.refusing
            requeue = refuse and self.dice.random() < 0.8
            self.books.settle(self.holder, tag, multiple, requeue, self.tx)
            self.link.send(
                link.nack(tag, multiple, requeue) if refuse else link.ack(tag, multiple))

    def forget(self):
        self.books.closed(self.holder)


class AutoConsumer(Consumer):
    """Acknowledges by consuming."""

    auto_ack = True


class TxConsumer(Consumer):
    """Settles in transactions."""

    tx = True

    def step(self):
        if self.waits == "commit":
            return
        super().step()
        if self.holder.uncommitted and not self.waits and self.dice.random() < 0.5:
            self.commit()

    def commit(self):
        """Commits what was settled."""
        self.waits = "commit"
        self.books.commit_asked(self.holder)
        self.link.send(link.method("tx.commit"))

    def on(self, event):
        if event[0] == "tx.commit-ok":
            self.books.committed(self.holder)
            self.waits = ""
        else:
            super().on(event)

    def finish(self):
        # What is not committed goes back.
        self.close_channel()
