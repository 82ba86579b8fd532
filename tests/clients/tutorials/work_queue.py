"""Tutorial two: tasks are shared among workers, and none is lost with a worker."""

import time

import pika
from common import main, name


def new_task(channel, *tasks):
    channel.queue_declare(queue=name("tasks"), durable=True)
    properties = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent)
    for task in tasks:
        channel.basic_publish("", name("tasks"), task, properties)


def worker(channel):
    """A task "hang" is never done; "over" ends the worker."""
    channel.queue_declare(queue=name("tasks"), durable=True)
    channel.basic_qos(prefetch_count=1)
    channel.basic_consume(name("tasks"), work)
    print("waiting", flush=True)
    channel.start_consuming()


def work(channel, method, _, body):
    print("received", body.decode(), "again" if method.redelivered else "", flush=True)
    if body == b"hang" and not method.redelivered:
        time.sleep(3600)
    channel.basic_ack(delivery_tag=method.delivery_tag)
    print("done", body.decode(), flush=True)
    if body == b"over":
        channel.stop_consuming()


main(new_task=new_task, worker=worker)
