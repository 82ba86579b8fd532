"""Tutorials three, four and five: an exchange of a type copies messages to many receivers."""

from common import main, name, receive


def declare(channel, kind):
    exchange = name(f"logs.{kind}")
    channel.exchange_declare(exchange=exchange, exchange_type=kind)
    return exchange


def emit(channel, kind, key, *words):
    channel.basic_publish(declare(channel, kind), key, " ".join(words))


def listen(channel, kind, *keys):
    exchange = declare(channel, kind)
    queue = channel.queue_declare(queue="", exclusive=True).method.queue
    for key in (*keys, "over"):
        channel.queue_bind(exchange=exchange, queue=queue, routing_key=key)
    receive(channel, queue, lambda method, properties, body: print(
        f"[{method.routing_key}]", body.decode(), flush=True))


main(emit=emit, receive=listen)
