"""A Celery application: its settings come from the environment, its tasks stand for a user's."""

import json
import os
import pathlib
import signal
import time

import celery
import kombu
from celery import signals

import place

settings = json.loads(os.environ.get("SHOP_SETTINGS", "{}"))
app = celery.Celery("shop", broker=place.URL, backend="rpc://", set_as_current=True)
app.conf.update(
    broker_connection_retry_on_startup=True, broker_connection_max_retries=None,
    task_default_queue=place.name("celery"), result_persistent=False,
    broker_connection_timeout=2, worker_cancel_long_running_tasks_on_connection_loss=False,
    **settings)

# The tasks that this shop refuses, if it is told so, go to a queue of their own.
REFUSED = place.name("refused")
if os.environ.get("SHOP_KEEPS_REFUSED"):
    app.conf.task_queues = [kombu.Queue(place.name("celery"), queue_arguments={
        "x-dead-letter-exchange": "", "x-dead-letter-routing-key": REFUSED})]


@signals.worker_ready.connect
def ready(**_):
    print("shop is open", flush=True)


@app.task
def add(x, y):
    return x + y


@app.task
def broken(what):
    raise KeyError(what)


@app.task(bind=True, max_retries=5)
def third_time_lucky(self, factor):
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return factor * self.request.retries


@app.task(bind=True, acks_late=True, reject_on_worker_lost=True)
def dies_once(self, marker):
    """The process that runs it is killed the first time, before it acknowledged."""
    if self.request.delivery_info["redelivered"] or pathlib.Path(marker).exists():
        return "survived"
    pathlib.Path(marker).touch()
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(bind=True)
def patient(self, marker):
    """Runs until the marker is there."""
    while not pathlib.Path(marker).exists():
        time.sleep(0.02)
    return "seen"


@app.task
def noted(path, text):
    """Adds a line to a file."""
    with open(path, "a") as notes:
        notes.write(f"{text}\n")


@app.task(bind=True, max_retries=3)
def retried_later(self, countdown):
    if self.request.retries < 2:
        raise self.retry(countdown=countdown)
    return self.request.retries


@app.task(acks_late=True)
def refused(why):
    raise celery.exceptions.Reject(why, requeue=False)
