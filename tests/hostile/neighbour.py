"""An honest publisher and an honest consumer beside those who are not."""

import itertools
import threading
import time

from pika import spec

from support import eventually
from wire import Wire, message

NUMBERS = itertools.count(1)
TOGETHER = 10


class Neighbour(threading.Thread):
    """Publishes with confirms and consumes, round after round, until the end of the `with`; loses
    nothing, and gets everything in order."""

    def __init__(self, broker, seconds=30):
        super().__init__(daemon=True)
        self.queue = f"neighbour.{next(NUMBERS)}"
        self.publisher = Wire(broker, seconds=seconds).opened()
        self.consumer = Wire(broker, seconds=seconds).opened()
        declare = spec.Queue.Declare(queue=self.queue)
        self.publisher.call(1, declare, spec.Queue.DeclareOk)
        self.publisher.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
        self.consumer.call(1, spec.Basic.Consume(queue=self.queue), spec.Basic.ConsumeOk)
        self.rounds, self.longest = 0, 0.0
        self.over, self.error = False, None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, *_):
        self.over = True
        self.join()
        if self.error and kind is None:
            raise self.error
        if not self.error:
            self.publisher.call(1, spec.Queue.Delete(queue=self.queue), spec.Queue.DeleteOk)
        for wire in (self.publisher, self.consumer):
            wire.socket.close()

    def goes_on(self, rounds=20):
        """Waits until so many more rounds are through; they are not if the broker is stuck."""
        until = self.rounds + rounds
        eventually(lambda: self.error or self.rounds >= until, seconds=30)
        if self.error:
            raise self.error

    def run(self):
        try:
            while not self.over:
                begin = time.monotonic()
                self._round()
                self.longest = max(self.longest, time.monotonic() - begin)
                self.rounds += 1
        except BaseException as error:
            self.error = error

    def _round(self):
        first = self.rounds * TOGETHER + 1
        last = first + TOGETHER - 1
        self.publisher.write(b"".join(
            message(1, "", self.queue, b"%d" % number) for number in range(first, last + 1)))
        self._confirmed(first, last)
        for number in range(first, last + 1):
            delivery = self.consumer.expect(spec.Basic.Deliver, 1)
            assert delivery.delivery_tag == number
            assert self.consumer.content()[1] == b"%d" % number
        self.consumer.send(1, spec.Basic.Ack(last, multiple=True))

    def _confirmed(self, first, last):
        missing = set(range(first, last + 1))
        while missing:
            ack = self.publisher.expect(spec.Basic.Ack, 1)
            if ack.multiple:
                missing = {tag for tag in missing if tag > ack.delivery_tag}
            else:
                missing.remove(ack.delivery_tag)
