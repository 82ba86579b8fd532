"""All clients of a round, moved by one thread, so that there is one order of everything."""

import selectors
import time

from admin import Admin
from clients import AutoConsumer, Consumer, Publisher, TxConsumer, TxPublisher

PATIENCE_SECONDS = 60


class Stuck(Exception):
    """A broker does not do what it must."""


class Crowd:
    """Clients of a running broker."""

    def __init__(self, broker, books, dice):
        self.broker, self.books, self.dice = broker, books, dice
        self.clients = []
        self.selector = selectors.DefaultSelector()
        self.stopping = False

    # Who takes part ----------------------------------------------------------------------------

    def add(self, client):
        """A client takes part from now on."""
        self.clients.append(client)
        self.selector.register(client.link.socket, selectors.EVENT_READ, client)

    def gather(self):
        """A random lot of clients."""
        for _ in range(self.dice.randint(2, 5)):
            self.add(Publisher(self, *self.target()))
        for _ in range(self.dice.randint(0, 2)):
            self.add(TxPublisher(self, *self.target()))
        for _ in range(self.dice.randint(1, 6)):
            self.add(self.consumer())
        self.add(Admin(self))

    def target(self):
        """An exchange and a key to publish with."""
        fans = [each for each in self.books.exchanges.values() if each.sure]
        if self.dice.random() < 0.4:
            return self.dice.choice(fans), self.dice.choice(("red", "green"))
        return self.books.default, self.queue().name

    def queue(self):
        """A queue to use."""
        return self.dice.choice([each for each in self.books.queues.values() if each.sure])

    def consumer(self):
        """A consumer of some kind."""
        queue = self.queue()
        if queue.name == "auto":
            return AutoConsumer(self, queue)
        return self.dice.choice((Consumer, TxConsumer))(self, queue)

    # How they move -----------------------------------------------------------------------------

    def run(self, seconds):
        """Everybody does what he does, for so long. Consumers that end are replaced."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.move(0.005)
            for client in self.clients:
                client.step()
                client.link.flush()
            gone = self.sweep()
            for _ in range(sum(isinstance(each, Consumer) for each in gone)):
                self.add(self.consumer())

    def settle_down(self, seconds=8):
        """Everybody comes to an end in good order, or is cut off when it takes too long."""
        for client in self.clients:
            client.leave()
        deadline = time.monotonic() + seconds
        while self.clients and time.monotonic() < deadline:
            self.move(0.005)
            for client in self.clients:
                client.step()
                client.link.flush()
            self.sweep()
        for client in self.clients:
            client.drop()
        self.sweep()

    def move(self, seconds):
        """Takes what came, or waits so long for it."""
        for key, _ in self.selector.select(seconds):
            client = key.data
            for event in client.link.read():
                if not client.done:
                    client.on_event(event)
            if client.link.at_end and not client.done:
                client.on_end()

    def read_to_the_end(self):
        """The broker has stopped or will: takes everything it still said."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.sweep() or self.clients:
            if time.monotonic() > deadline:
                raise Stuck("connections stay open after the broker was stopped")
            self.move(0.05)
            for client in self.clients:
                client.link.flush()

    def sweep(self):
        """Forgets those that are done; who they were."""
        gone = [client for client in self.clients if client.done]
        for client in gone:
            self.selector.unregister(client.link.socket)
            client.link.close()
        self.clients = [client for client in self.clients if not client.done]
        return gone


def set_up(broker, books, dice):
    """Declares what every round uses."""
    crowd = Crowd(broker, books, dice)
    admin = Admin(crowd, set_up=True)
    crowd.add(admin)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not admin.done:
        if time.monotonic() > deadline:
            raise Stuck("declarations are not answered")
        crowd.move(0.05)
        admin.step()
        admin.link.flush()
    crowd.sweep()
