"""Brokers whose memory alarm a test can raise and lift."""

import subprocess

import pika

from support import eventually

WATERMARK_OCTETS = 8 << 20
BODY = bytes(1 << 20)


def of_target(target, make_broker):
    """The alarm of a new broker of the target."""
    return {"ringtail": Ringtail, "rabbitmq": RabbitMQ}[target](make_broker)


class Ringtail:
    """Raised by messages that fill a small memory, lifted by taking them away."""

    def __init__(self, make_broker):
        config = f"vm_memory_high_watermark.absolute = {WATERMARK_OCTETS}\n"
        self.broker = make_broker(config=config).start()
        self.filler = None

    def __enter__(self):
        self.filler = _open(self.broker)
        seen = []
        self.filler.add_on_connection_blocked_callback(lambda *_: seen.append("blocked"))
        channel = self.filler.channel()
        channel.queue_declare("filler")

        def blocked():
            if not seen:
                channel.basic_publish("", "filler", BODY)
            self.filler.process_data_events(time_limit=0.05)
            return seen

        eventually(blocked)
        return self

    def lift(self):
        taker = _open(self.broker)

        def empty():
            channel = taker.channel()
            channel.queue_purge("filler")
            left = channel.queue_declare("filler", passive=True).method.message_count
            channel.close()
            return left == 0

        eventually(empty)
        taker.close()

    def __exit__(self, *_):
        self.lift()
        self.filler.close()


class RabbitMQ:
    """Raised and lifted by its command-line tool."""

    def __init__(self, make_broker):
        self.broker = make_broker().start()

    def __enter__(self):
        self._watermark("0.00001")
        return self

    def lift(self):
        self._watermark("0.9")

    def __exit__(self, *_):
        self.lift()

    def _watermark(self, share):
        tool = self.broker._scripts() / "rabbitmqctl"
        subprocess.run(
            [tool, "-n", self.broker.node, "set_vm_memory_high_watermark", share], check=True,
            env=self.broker.environment(), stdout=subprocess.DEVNULL)


def _open(broker):
    login = pika.PlainCredentials(broker.user, broker.password)
    return pika.BlockingConnection(
        pika.ConnectionParameters(broker.host, broker.port, credentials=login))
