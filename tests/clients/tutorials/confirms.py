"""Tutorial seven: three ways to wait for publisher confirms."""

import asyncio
import os

import aio_pika
from common import main, name

MESSAGES = 50


def one_by_one(channel):
    channel.confirm_delivery()
    queue = channel.queue_declare(queue=name("confirmed")).method.queue
    for number in range(MESSAGES):
        channel.basic_publish("", queue, str(number), mandatory=True)
    told(channel, queue)


def in_batches(channel):
    asyncio.run(publish(batch=10))
    told(channel, name("confirmed"))


def all_at_once(channel):
    asyncio.run(publish(batch=MESSAGES))
    told(channel, name("confirmed"))


async def publish(batch):
    host, port, user, password = (
        os.environ[f"AMQP_{key}"] for key in ("HOST", "PORT", "USER", "PASSWORD"))
    connection = await aio_pika.connect(
        host=host, port=int(port), login=user, password=password)
    async with connection, await connection.channel() as channel:
        queue = await channel.declare_queue(name("confirmed"))
        for first in range(0, MESSAGES, batch):
            await asyncio.gather(*(
                channel.default_exchange.publish(
                    aio_pika.Message(str(number).encode()), queue.name)
                for number in range(first, first + batch)))


def told(channel, queue):
    print("confirmed", channel.queue_delete(queue).method.message_count, flush=True)


main(one_by_one=one_by_one, in_batches=in_batches, all_at_once=all_at_once)
