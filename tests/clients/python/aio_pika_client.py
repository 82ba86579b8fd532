"""Scenarios through aio-pika, with its robust connection."""

import asyncio
import contextlib
import datetime
import decimal

import aio_pika
from aio_pika.exceptions import (
    ChannelNotFoundEntity, ChannelPreconditionFailed, DeliveryError, ProbableAuthenticationError,
    QueueEmpty)
from aiormq.exceptions import ChannelAccessRefused, ChannelLockedResource

import place
from place import name

LIMIT_SECONDS = 30
LARGE = bytes(range(256)) * 6000


async def put(channel, queue, *bodies):
    for body in bodies:
        await channel.default_exchange.publish(aio_pika.Message(body), queue.name)


async def filled(channel, count):
    """A queue of this connection that holds messages 0, 1, 2 ..."""
    queue = await channel.declare_queue(exclusive=True)
    await put(channel, queue, *(b"%d" % number for number in range(count)))
    return queue


async def ready(channel, queue):
    # A robust channel answers a passive declaration from its own memory.
    plain = await channel.get_underlay_channel()
    return (await plain.queue_declare(queue.name, passive=True)).message_count


async def until(condition):
    async with asyncio.timeout(LIMIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


async def collect(queue, **settings):
    """A consumer that keeps what it gets."""
    got = []

    async def keep(message):
        got.append(message)

    return got, await queue.consume(keep, **settings)


async def topology(connection):
    channel = await connection.channel()
    logs = await channel.declare_exchange(name("logs"), "topic", durable=True)
    further = await channel.declare_exchange(name("further"), "fanout", auto_delete=True)
    queue = await channel.declare_queue(name("queue"), durable=True)
    await queue.bind(further)
    await further.bind(logs, "kern.*")
    got, tag = await collect(queue, no_ack=True)
    for key in ("kern.info", "cron.info", "kern.crit"):
        await logs.publish(aio_pika.Message(key.encode()), key, mandatory=False)
    await until(lambda: len(got) == 2)
    assert [message.routing_key for message in got] == ["kern.info", "kern.crit"]
    assert got[0].exchange == logs.name
    await queue.cancel(tag)
    await further.unbind(logs, "kern.*")
    await queue.unbind(further)
    await queue.delete()
    await logs.delete()


async def confirms(connection):
    channel = await connection.channel()
    queue = await channel.declare_queue(exclusive=True)
    await asyncio.gather(*(put(channel, queue, b"%d" % number) for number in range(100)))
    assert await ready(channel, queue) == 100
    assert (await queue.purge()).message_count == 100


async def returns(connection):
    async with await connection.channel(on_return_raises=True) as channel:
        try:
            await channel.default_exchange.publish(aio_pika.Message(b"lost"), name("nowhere"))
        except DeliveryError as refused:
            assert refused.message.delivery.reply_code == 312
            assert refused.message.body == b"lost"
        else:
            raise AssertionError("not returned")


async def acks(connection):
    channel = await connection.channel()
    queue = await filled(channel, 5)
    got, tag = await collect(queue)
    await until(lambda: len(got) == 5)
    await got[1].ack(multiple=True)
    await got[2].reject(requeue=False)
    await got[4].nack(requeue=True, multiple=True)
    await until(lambda: len(got) == 7)
    assert [(each.redelivered, each.body) for each in got[5:]] == [(True, b"3"), (True, b"4")]
    await got[5].ack()
    async with got[6].process():
        pass
    await queue.cancel(tag)
    assert await ready(channel, queue) == 0


async def prefetch(connection):
    channel = await connection.channel()
    queue = await filled(channel, 10)
    await channel.set_qos(prefetch_count=3)
    got, _ = await collect(queue)
    await until(lambda: len(got) == 3)
    assert await ready(channel, queue) == 7
    await got[0].ack()
    await until(lambda: len(got) == 4)
    assert await ready(channel, queue) == 6


async def global_prefetch(connection):
    channel = await connection.channel()
    queue = await filled(channel, 10)
    await channel.set_qos(prefetch_count=3, global_=True)
    first, _ = await collect(queue)
    second, _ = await collect(queue)
    await until(lambda: len(first) + len(second) == 3)
    assert await ready(channel, queue) == 7
    for message in first + second:
        await message.ack()
    await until(lambda: len(first) + len(second) == 6)
    assert await ready(channel, queue) == 4


async def get(connection):
    channel = await connection.channel()
    queue = await filled(channel, 2)
    message = await queue.get()
    assert (message.message_count, message.redelivered, message.body) == (1, False, b"0")
    await message.nack()
    message = await queue.get()
    assert (message.redelivered, message.body) == (True, b"0")
    await message.ack()
    assert (await queue.get(no_ack=True)).body == b"1"
    with contextlib.suppress(QueueEmpty):
        await queue.get()
        raise AssertionError("not empty")


async def large(connection):
    channel = await connection.channel()
    queue = await channel.declare_queue(exclusive=True)
    for body in (LARGE, b"", LARGE[:131064], LARGE[:131065]):
        await put(channel, queue, body)
        assert (await queue.get(no_ack=True)).body == body


async def headers(connection):
    channel = await connection.channel()
    queue = await channel.declare_queue(exclusive=True)
    when = datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    table = {
        "text": "grün", "true": True, "false": False, "small": -7, "large": 1 << 60,
        "double": 2.5, "decimal": decimal.Decimal("3.14"), "none": None, "time": when,
        "list": [1, "two", None, [3]], "table": {"inner": {"deep": 1}}}
    sent = aio_pika.Message(
        b"x", headers=table, content_type="text/plain", content_encoding="utf-8",
        delivery_mode=2, priority=3, correlation_id="c", reply_to="r",
        message_id="m", timestamp=when, type="t", user_id=place.USER, app_id="a")
    await channel.default_exchange.publish(sent, queue.name)
    back = await queue.get(no_ack=True)
    assert dict(back.headers) == table, back.headers
    for key in ("content_type", "content_encoding", "delivery_mode", "priority", "reply_to",
                "correlation_id", "message_id", "timestamp", "type", "user_id",
                "app_id"):
        assert getattr(back, key) == getattr(sent, key), key


async def errors(connection):
    owner = await connection.channel()
    queue = await owner.declare_queue(exclusive=True)
    await closes(connection, ChannelNotFoundEntity, lambda channel: channel.declare_queue(
        name("no"), passive=True))
    await closes(connection, ChannelPreconditionFailed, lambda channel: channel.declare_queue(
        queue.name, exclusive=True, auto_delete=True))
    await closes(connection, ChannelAccessRefused, lambda channel: channel.exchange_delete(
        "amq.topic"))
    async with await aio_pika.connect(place.URL) as other:
        await closes(other, ChannelLockedResource, lambda channel: channel.declare_queue(
            queue.name, passive=True))
    try:
        await aio_pika.connect(f"amqp://no:body@{place.HOST}:{place.PORT}/")
    except ProbableAuthenticationError:
        return
    raise AssertionError("logged in")


async def closes(connection, kind, action):
    """The channel is closed with this error; the connection goes on."""
    channel = await connection.channel()
    try:
        await action(channel)
    except kind:
        pass
    else:
        raise AssertionError(f"not refused with {kind}")
    await (await connection.channel()).close()


async def tx(connection):
    channel = await connection.channel(publisher_confirms=False)
    outside = await connection.channel()
    queue = await outside.declare_queue(exclusive=True)
    async with channel.transaction():
        await put(channel, queue, b"committed")
        assert await ready(outside, queue) == 0
    assert (await queue.get(no_ack=True)).body == b"committed"
    transaction = channel.transaction()
    await transaction.select()
    await put(channel, queue, b"rolled back")
    await transaction.rollback()
    assert await ready(outside, queue) == 0


async def cancel_notify(connection):
    """The robust channel takes basic.cancel as a reason to consume again."""
    channel, other = await connection.channel(), await connection.channel()
    queue = await channel.declare_queue(name("doomed"))
    got, _ = await collect(queue, no_ack=True)
    plain = await other.get_underlay_channel()
    await plain.queue_delete(queue.name)
    await plain.queue_declare(queue.name)
    await put(other, queue, b"to the new queue")
    await until(lambda: got)
    assert got[0].body == b"to the new queue"
    await queue.delete(if_unused=False)


async def expiration(connection):
    channel = await connection.channel()
    queue = await channel.declare_queue(exclusive=True)
    await channel.default_exchange.publish(aio_pika.Message(b"kept", expiration=60), queue.name)
    assert (await queue.get(no_ack=True)).expiration == 60
    await channel.default_exchange.publish(aio_pika.Message(b"gone", expiration=0), queue.name)
    assert await ready(channel, queue) == 0


async def dead_letters(connection):
    channel, waiting = await connection.channel(), name("waiting")
    dead = await channel.declare_queue(exclusive=True)
    queue = await channel.declare_queue(waiting, exclusive=True, arguments={
        "x-message-ttl": 60_000, "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": dead.name})
    got, _ = await collect(dead, no_ack=True)
    await put(channel, queue, b"rejected")
    await (await queue.get()).reject()
    await until(lambda: len(got) == 1)
    await channel.default_exchange.publish(
        aio_pika.Message(b"expired", expiration=0.02), waiting)
    await until(lambda: len(got) == 2)
    for message, further in zip(got, ({}, {"original-expiration": "20"})):
        reason = message.body.decode()
        [death] = message.headers["x-death"]
        assert isinstance(death.pop("time"), datetime.datetime)
        assert death == {
            "count": 1, "reason": reason, "queue": waiting, "exchange": "",
            "routing-keys": [waiting], **further}, death
        assert message.headers["x-first-death-reason"] == reason
        assert message.expiration is None


async def reply_to(connection):
    channel = await connection.channel()
    queue = await channel.declare_queue(exclusive=True)
    answers = asyncio.Queue()
    replies = await channel.get_queue("amq.rabbitmq.reply-to", ensure=False)
    await replies.consume(answers.put, no_ack=True)
    question = aio_pika.Message(b"question", reply_to="amq.rabbitmq.reply-to")
    await channel.default_exchange.publish(question, queue.name)
    asked = await queue.get(no_ack=True)
    server = await connection.channel()
    await server.default_exchange.publish(
        aio_pika.Message(b"answer to " + asked.body), asked.reply_to)
    async with asyncio.timeout(LIMIT_SECONDS):
        assert (await answers.get()).body == b"answer to question"


async def heartbeat(connection):
    await asyncio.sleep(5)
    assert connection.connected.is_set() and not connection.reconnecting
    await (await connection.channel()).close()


async def reconnect(connection):
    """Nothing but what the robust connection does by itself."""
    channel = await connection.channel()
    queue = await channel.declare_queue(name("queue"))
    over = asyncio.Event()

    async def told(message):
        async with message.process():
            print("got", message.body.decode())
        if message.body == b"after":
            over.set()

    await queue.consume(told)
    print("ready")
    await over.wait()


async def with_connection(scenario):
    seconds = 1 if scenario is heartbeat else 30
    url = f"{place.URL}?heartbeat={seconds}&reconnect_interval=0.2"
    async with await aio_pika.connect_robust(url) as connection:
        await scenario(connection)


place.main(lambda scenario: asyncio.run(with_connection(scenario)), {
    each.__name__: each
    for each in (
        topology, confirms, returns, acks, prefetch, global_prefetch, get, large, headers,
        errors, tx, cancel_notify, reply_to, expiration, dead_letters, heartbeat, reconnect)})
