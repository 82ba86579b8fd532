"""What every tutorial begins and ends with."""

import os
import sys

import pika


def connect():
    login = pika.PlainCredentials(os.environ["AMQP_USER"], os.environ["AMQP_PASSWORD"])
    return pika.BlockingConnection(pika.ConnectionParameters(
        os.environ["AMQP_HOST"], int(os.environ["AMQP_PORT"]), credentials=login))


def name(suffix):
    """A name of this run: two runs may share a broker."""
    return os.environ["AMQP_PREFIX"] + suffix


def receive(channel, queue, handle):
    """Prints and handles what comes until a message says that it was the last."""

    def on_message(channel, method, properties, body):
        if body == b"over":
            channel.stop_consuming()
        else:
            handle(method, properties, body)

    channel.basic_consume(queue, on_message, auto_ack=True)
    print("waiting", flush=True)
    channel.start_consuming()


def main(**roles):
    """The first argument is the role; the others are the role's own."""
    connection = connect()
    roles[sys.argv[1]](connection.channel(), *sys.argv[2:])
    connection.close()
