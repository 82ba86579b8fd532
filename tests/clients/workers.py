"""A Celery application, and a worker of it as a process of its own."""

import contextlib
import importlib
import json
import os
import sys

import catalogue
from programs import Program

PYTHON = catalogue.HERE / "python"
SECONDS = 20

# With these nothing asks for x-message-ttl or x-expires.
PLAIN = {
    "result_expires": None,
    "control_queue_ttl": None, "control_queue_expires": None,
    "event_queue_ttl": None, "event_queue_expires": None}
WITHOUT_GOSSIP = ("--without-gossip",)


def told(broker, prefix, settings, **further):
    """The environment that the application reads its settings from."""
    return catalogue.environment(broker, prefix) | {
        "SHOP_SETTINGS": json.dumps(settings), "PYTHONPATH": str(PYTHON), **further}


def client(environ):
    """The application's module, read anew: each one has an application of its own."""
    before = dict(os.environ)
    os.environ.update(environ)
    sys.path.insert(0, str(PYTHON))
    try:
        for each in ("shop", "place"):
            sys.modules.pop(each, None)
        return importlib.import_module("shop")
    finally:
        sys.path.remove(str(PYTHON))
        os.environ.clear()
        os.environ.update(before)


class Shop:
    """A worker, and an application that sends it tasks."""

    def __init__(self, broker, folder, prefix, settings, options=(), **further):
        self.broker = broker
        environ = told(broker, prefix, settings, **further)
        self.module = client(environ)
        command = [
            sys.executable, "-m", "celery", "-A", "shop", "worker", "--loglevel", "INFO",
            "--concurrency", "2", "--hostname", f"{prefix}@shop", *options]
        self.worker = Program(command, folder, environ)

    def opened(self):
        self.worker.says("shop is open")
        return self

    def close(self):
        """A warm shutdown: the worker closes its connections in order."""
        if self.worker.process.poll() is None:
            self.worker.process.terminate()
            self.worker.finish()

    def __getattr__(self, name):
        return getattr(self.module, name)


@contextlib.contextmanager
def opened(*arguments, **further):
    shop = Shop(*arguments, **further)
    try:
        yield shop
        shop.close()
    finally:
        shop.app.close()
        shop.worker.kill()
