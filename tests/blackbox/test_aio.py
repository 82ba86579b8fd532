"""The same broker through aio-pika: many operations under way at once."""

import asyncio

import aio_pika
import pytest


def url(broker):
    """Where aio-pika connects to."""
    return f"amqp://{broker.user}:{broker.password}@{broker.host}:{broker.port}/"


async def with_channel(broker, work):
    """Runs `work(channel)` on a connection of its own."""
    async with await aio_pika.connect(url(broker)) as connection:
        async with await connection.channel(on_return_raises=True) as channel:
            return await work(channel)


def test_concurrent_publishes_with_confirms(broker, name):
    async def work(channel):
        queue = await channel.declare_queue(name(), exclusive=True)
        bodies = [b"%d" % number for number in range(500)]
        await asyncio.gather(*(
            channel.default_exchange.publish(aio_pika.Message(body), queue.name)
            for body in bodies))
        got = []
        async with queue.iterator() as messages:
            async for message in messages:
                async with message.process():
                    got.append(message.body)
                if len(got) == len(bodies):
                    break
        return got == bodies

    assert asyncio.run(with_channel(broker, work))


def test_an_unroutable_mandatory_publish(broker, name):
    async def work(channel):
        with pytest.raises(aio_pika.exceptions.DeliveryError):
            await channel.default_exchange.publish(aio_pika.Message(b"x"), name())

    asyncio.run(with_channel(broker, work))


def test_concurrent_declarations_on_many_channels(broker, name):
    names = [name() for _ in range(40)]

    async def declare(connection, queue):
        async with await connection.channel() as channel:
            declared = await channel.declare_queue(queue, exclusive=True)
            await channel.default_exchange.publish(aio_pika.Message(queue.encode()), queue)
            message = await declared.get(no_ack=True)
            return message.body.decode()

    async def run():
        async with await aio_pika.connect(url(broker)) as connection:
            return await asyncio.gather(*(declare(connection, queue) for queue in names))

    assert asyncio.run(run()) == names


def test_rpc_with_many_calls_under_way(broker):
    async def run():
        async with await aio_pika.connect(url(broker)) as connection:
            channel = await connection.channel()
            rpc = await aio_pika.patterns.RPC.create(channel)
            await rpc.register("double", double, auto_delete=True)
            answers = await asyncio.gather(*(
                rpc.call("double", kwargs={"number": number}) for number in range(50)))
            await rpc.close()
            return answers

    async def double(*, number):
        return 2 * number

    assert asyncio.run(run()) == [2 * number for number in range(50)]
