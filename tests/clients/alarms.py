"""Brokers whose memory alarm a test can raise and lift."""

import re
import subprocess

import wire
from support import eventually

WATERMARK_BYTES = 8 << 20


def of_target(target, make_broker):
    """The alarm of a new broker of the target."""
    return {"ringtail": Ringtail, "rabbitmq": RabbitMQ}[target](make_broker)


class Ringtail:
    """Raised by a large message that is half sent, which cannot go to disk; lifted by its end."""

    def __init__(self, make_broker):
        config = f"vm_memory_high_watermark.absolute = {WATERMARK_BYTES}\n"
        self.broker = make_broker(config=config).start()
        self.filler = None

    def __enter__(self):
        self.filler = wire.Wire(self.broker).opened()
        message = wire.message(1, "", "nowhere", bytes(4 * WATERMARK_BYTES))
        self.filler.write(message[:2 * WATERMARK_BYTES])
        eventually(lambda: self._log().endswith("set"))
        return self

    def lift(self):
        self.filler.socket.close()
        eventually(lambda: self._log().endswith("cleared"))

    def _log(self):
        found = re.findall("memory resource limit alarm (?:set|cleared)", self.broker.log())
        return found[-1] if found else ""

    def __exit__(self, *_):
        self.lift()


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
