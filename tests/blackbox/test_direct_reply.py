"""Direct reply-to: answers without a queue of one's own."""

import asyncio
import uuid

import aio_pika
import pika
import pytest
from pika import spec

from support import (
    Inbox, closes_channel, closes_connection, eventually, expect, publish, pump, settle)
from wire import message

REPLIES = "amq.rabbitmq.reply-to"
MADE_UP = [
    REPLIES + ".", REPLIES + "." + "A" * 32, REPLIES + ".." * 30, REPLIES + "x"]


def ask(channel, queue, body=b"?", **properties):
    """Publishes a request."""
    properties = pika.BasicProperties(reply_to=REPLIES, **properties)
    channel.basic_publish("", queue, body, properties)


def asked(channel, queue):
    """The next request's reply-to."""
    found = eventually(lambda: got if (got := channel.basic_get(queue, auto_ack=True))[0] else None)
    return found[1].reply_to


@pytest.fixture
def address(channel, shared):
    """Starts a reply consumer on a channel; gives it and the name it can be reached by."""

    def start(on):
        inbox = Inbox(on, REPLIES, auto_ack=True)
        ask(on, shared)
        return inbox, asked(channel, shared)

    return start


def is_there(connection, reply_to):
    """Whether a passive declare finds the reply consumer."""
    channel = connection.channel()
    try:
        found = channel.queue_declare(reply_to, passive=True).method
    except pika.exceptions.ChannelClosedByBroker as closed:
        text = f"NOT_FOUND - no queue '{reply_to}' in vhost '/'"
        assert (closed.reply_code, closed.reply_text) == (404, text)
        return False
    assert (found.queue, found.message_count, found.consumer_count) == (reply_to, 0, 1)
    channel.close()
    return True


@pytest.mark.row("Direct reply-to", "Request and reply")
def test_a_request_and_its_answer(broker, connect, channel, shared):
    counted = expect(
        broker, why="until 4.1 every direct reply had the delivery tag 1",
        ringtail=True, rabbitmq=False)
    client = connect().channel()
    inbox = Inbox(client, REPLIES, auto_ack=True)
    for number in (1, 2):
        ask(client, shared, b"question", correlation_id=str(number))
        _, properties, body = eventually(
            lambda: got if (got := channel.basic_get(shared, auto_ack=True))[0] else None)
        assert (body, properties.correlation_id) == (b"question", str(number))
        assert properties.reply_to.startswith(REPLIES + ".") and len(properties.reply_to) < 256
        answer = pika.BasicProperties(correlation_id=str(number), headers={"a": 1})
        channel.basic_publish("", properties.reply_to, b"answer", answer)
        got = inbox.wait(number)[-1]
        assert (got.method.exchange, got.method.routing_key) == ("", properties.reply_to)
        assert (got.method.consumer_tag, got.method.redelivered) == (inbox.tag, False)
        assert (got.tag, got.body) == (number if counted else 1, b"answer")
        assert vars(got.properties) == vars(answer)
    inbox.exactly(2)


@pytest.mark.row("Direct reply-to", "Request and reply")
def test_every_channel_has_a_name_of_its_own(connection, address):
    first, second = connection.channel(), connection.channel()
    (one, to_one), (two, to_two) = address(first), address(second)
    assert to_one != to_two
    publish(connection.channel(), to_two, b"for two")
    publish(connection.channel(), to_one, b"for one")
    assert [one.exactly(1)[0].body, two.exactly(1)[0].body] == [b"for one", b"for two"]


@pytest.mark.row("Direct reply-to", "Consumer that would acknowledge")
def test_a_reply_consumer_cannot_acknowledge(channel):
    closes_channel(
        channel, lambda: channel.basic_consume(REPLIES, lambda *_: None), 406,
        "PRECONDITION_FAILED - reply consumer cannot acknowledge")


@pytest.mark.row("Direct reply-to", "Second consumer")
def test_a_second_reply_consumer(channel):
    Inbox(channel, REPLIES, auto_ack=True)
    closes_channel(
        channel, lambda: Inbox(channel, REPLIES, auto_ack=True), 406,
        "PRECONDITION_FAILED - reply consumer already set")


def test_a_tag_that_is_taken(channel, queue):
    Inbox(channel, queue, auto_ack=True, consumer_tag="mine")
    client = channel.connection
    # Pika refuses to use a tag twice, so the method is sent by hand.
    consume = spec.Basic.Consume(queue=REPLIES, consumer_tag="mine", no_ack=True)
    closes_connection(
        client, lambda: channel._impl._send_method(consume), 530,
        "NOT_ALLOWED - attempt to reuse consumer tag 'mine'")


@pytest.mark.row("Direct reply-to", "Request without a consumer")
def test_asking_without_a_reply_consumer(channel, queue):
    closes_channel(
        channel, lambda: ask(channel, queue), 406,
        "PRECONDITION_FAILED - fast reply consumer does not exist")


@pytest.mark.row("Direct reply-to", "Request without a consumer")
def test_the_consumer_must_be_on_the_same_channel(connection, queue):
    Inbox(connection.channel(), REPLIES, auto_ack=True)
    other = connection.channel()
    closes_channel(
        other, lambda: ask(other, queue), 406,
        "PRECONDITION_FAILED - fast reply consumer does not exist")


def test_cancel(connection, channel, address, queue):
    client = connection.channel()
    inbox, before = address(client)
    client.basic_cancel(inbox.tag)
    assert not is_there(connection, before)
    publish(channel, before, b"too late")
    again, after = address(client)
    assert after != before
    publish(channel, before, b"too late")
    publish(channel, after, b"in time")
    assert [got.body for got in again.exactly(1)] == [b"in time"]
    assert inbox.deliveries == []
    client.basic_cancel(again.tag)
    closes_channel(
        client, lambda: ask(client, queue), 406,
        "PRECONDITION_FAILED - fast reply consumer does not exist")


def test_without_waiting(raw, shared):
    client = raw().opened()
    consume = spec.Basic.Consume(queue=REPLIES, consumer_tag="t", no_ack=True, nowait=True)
    client.send(1, consume)
    client.write(message(1, "", shared, b"?", reply_to=REPLIES))
    client.reached(1, shared)
    client.send(1, spec.Basic.Get(queue=shared, no_ack=True))
    client.expect(spec.Basic.GetOk, 1)
    reply_to = client.content()[0].reply_to
    client.write(message(1, "", reply_to, b"to myself"))
    assert client.expect(spec.Basic.Deliver, 1).consumer_tag == "t"
    assert client.content()[1] == b"to myself"
    client.send(1, spec.Basic.Cancel(consumer_tag="t", nowait=True))
    client.write(message(1, "", reply_to, b"gone"))
    client.call(1, spec.Channel.Close(200, "", 0, 0), spec.Channel.CloseOk)


@pytest.mark.row("Direct reply-to", "Declared")
def test_declaring_tells_whether_it_is_there(connect, address):
    owner, other = connect(), connect()
    client = owner.channel()
    _, reply_to = address(client)
    for connection in (owner, other):
        assert is_there(connection, reply_to)
        # Whatever is asked for, nothing is created.
        found = connection.channel().queue_declare(reply_to, durable=True, exclusive=True).method
        assert (found.queue, found.message_count, found.consumer_count) == (reply_to, 0, 1)
    client.close()
    for connection in (owner, other):
        assert not is_there(connection, reply_to)


def test_declaring_the_name_that_stands_for_all(channel):
    for passive in (True, False):
        found = channel.queue_declare(REPLIES, passive=passive).method
        assert (found.queue, found.message_count, found.consumer_count) == (REPLIES, 0, 1)


@pytest.mark.parametrize("reply_to", MADE_UP)
def test_names_that_nobody_gave_out(connection, channel, reply_to):
    assert not is_there(connection, reply_to)
    channel.confirm_delivery()
    channel.basic_publish("", reply_to, b"dropped")
    with pytest.raises(pika.exceptions.UnroutableError):
        channel.basic_publish("", reply_to, b"returned", mandatory=True)


@pytest.mark.row("Direct reply-to", "Bound")
def test_binding_a_reply_consumer(broker, connection, address, channel):
    _, reply_to = address(connection.channel())
    code, text = expect(
        broker, why="4.3 has a text of its own for this, 3.10 finds no queue",
        ringtail=(403, "ACCESS_REFUSED - cannot bind or unbind to a volatile (direct reply-to) "
                  "queue"),
        rabbitmq=(404, f"NOT_FOUND - no queue '{reply_to}' in vhost '/'"))
    closes_channel(channel, lambda: channel.queue_bind(reply_to, "amq.fanout"), code, text)


@pytest.mark.row("Direct reply-to", "Reply to a consumer that is gone")
@pytest.mark.parametrize("gone", ["consumer", "channel", "connection"])
def test_replies_to_what_is_gone(connect, channel, address, gone):
    owner = connect()
    client = owner.channel()
    inbox, reply_to = address(client)
    channel.confirm_delivery()
    channel.basic_publish("", reply_to, b"in time")
    inbox.exactly(1)
    {"consumer": lambda: client.basic_cancel(inbox.tag), "channel": client.close,
     "connection": owner.close}[gone]()
    channel.basic_publish("", reply_to, b"dropped")
    with pytest.raises(pika.exceptions.UnroutableError) as returned:
        channel.basic_publish("", reply_to, b"returned", mandatory=True)
    [back] = returned.value.messages
    assert (back.method.reply_code, back.method.reply_text) == (312, "NO_ROUTE")
    assert (back.method.exchange, back.method.routing_key) == ("", reply_to)
    assert back.body == b"returned"
    channel.basic_publish("", reply_to, b"dropped again")


def test_a_return_comes_before_its_ack(connect, raw, address):
    owner = connect()
    _, reply_to = address(owner.channel())
    owner.close()
    client = raw().opened()
    client.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    for tag in range(1, 4):
        client.write(message(1, "", reply_to, b"x" * 5000, mandatory=True, delivery_mode=2))
        assert client.expect(spec.Basic.Return, 1).reply_code == 312
        assert client.content()[1] == b"x" * 5000
        assert client.expect(spec.Basic.Ack, 1).delivery_tag == tag


@pytest.mark.row("Direct reply-to", "Reply, mandatory")
def test_mandatory_and_there(broker, connect, channel, address):
    inbox, reply_to = address(connect().channel())
    returned = []
    channel.add_on_return_callback(lambda *back: returned.append(back))
    for mandatory in (True, False, True):
        channel.basic_publish("", reply_to, b"delivered", mandatory=mandatory)
    inbox.exactly(3)
    back = expect(
        broker, why="until 4.1 a reply consumer was no queue, so that what was delivered to it "
        "counted as unroutable", ringtail=0, rabbitmq=2)
    pump(channel.connection, lambda: len(returned) >= back)
    settle(channel.connection)
    assert len(returned) == back


def test_the_order_of_answers(connect, channel, address):
    inbox, reply_to = address(connect().channel())
    for number in range(500):
        channel.basic_publish("", reply_to, b"%d" % number)
    inbox.exactly(500)
    assert inbox.bodies == [b"%d" % number for number in range(500)]


def test_a_large_answer(connect, channel, address):
    inbox, reply_to = address(connect().channel())
    body = bytes(range(256)) * 4096
    publish(channel, reply_to, body, b"", body)
    inbox.exactly(3)
    assert inbox.bodies == [body, b"", body]


def test_a_reply_consumer_among_cc(connect, channel, address, shared):
    (one, to_one), (two, to_two) = address(connect().channel()), address(connect().channel())
    properties = pika.BasicProperties(headers={"CC": [to_one, to_one], "BCC": [to_two]})
    channel.basic_publish("", shared, b"to all three", properties)
    assert [one.exactly(1)[0].body, two.exactly(1)[0].body] == [b"to all three"] * 2
    assert eventually(lambda: channel.basic_get(shared, auto_ack=True)[2]) == b"to all three"


def test_who_does_not_read_costs_nobody(connect, raw, channel, shared):
    sleeper = raw().opened()
    consume = spec.Basic.Consume(queue=REPLIES, no_ack=True)
    sleeper.call(1, consume, spec.Basic.ConsumeOk)
    sleeper.write(message(1, "", shared, b"?", reply_to=REPLIES))
    reply_to = asked(channel, shared)
    inbox = Inbox(connect().channel(), shared, auto_ack=True)
    body = bytes(1 << 16)
    # 40 MiB, more than sockets, credit and the bound on what waits take together.
    for number in range(10):
        publish(channel, reply_to, *[b"%06d" % (number * 64 + i) + body for i in range(64)])
        publish(channel, shared, b"%d" % number)
    inbox.exactly(10)
    sleeper.send(1, spec.Basic.Cancel(consumer_tag="nobody"))
    numbers = []
    while isinstance(sleeper.next().method, spec.Basic.Deliver):
        numbers.append(int(sleeper.content()[1][:6]))
    # What came is in order and without a hole, as far as it came.
    assert numbers == list(range(len(numbers))) and numbers


def test_many_clients_of_one_server(broker, connect, channel, name):
    queue, clients, calls = name(), 8, 25
    channel.queue_declare(queue)
    serving, served = connect().channel(), clients * calls

    def serve(on, method, properties, body):
        reply = pika.BasicProperties(correlation_id=properties.correlation_id)
        on.basic_publish("", properties.reply_to, body.upper(), reply)

    answers = {}
    asking = []
    for _ in range(clients):
        on = connect().channel()
        asking.append((on, Inbox(on, REPLIES, auto_ack=True)))
    serving.basic_consume(queue, serve, auto_ack=True)
    for number in range(calls):
        for at, (on, _) in enumerate(asking):
            ask(on, queue, b"call %d of %d" % (number, at), correlation_id=f"{at}.{number}")
    for at, (_, inbox) in enumerate(asking):
        while len(inbox.deliveries) < calls:
            serving.connection.process_data_events(time_limit=0)
            inbox.channel.connection.process_data_events(time_limit=0.01)
        for got in inbox.deliveries:
            answers[got.properties.correlation_id] = got.body
    assert len(answers) == served
    assert all(
        body == b"CALL %s OF %s" % tuple(reversed(key.encode().split(b".")))
        for key, body in answers.items())
    channel.queue_delete(queue)


def test_rpc_through_aio_pika(broker, name):
    url = f"amqp://{broker.user}:{broker.password}@{broker.host}:{broker.port}/"
    queue_name = name()

    async def serve(connection):
        channel = await connection.channel()
        queue = await channel.declare_queue(queue_name, exclusive=True)

        async def answer(request):
            async with request.process():
                reply = aio_pika.Message(
                    request.body[::-1], correlation_id=request.correlation_id)
                await channel.default_exchange.publish(
                    reply, request.reply_to, mandatory=False)

        await queue.consume(answer)

    async def run():
        async with await aio_pika.connect(url) as server, await aio_pika.connect(url) as client:
            await serve(server)
            channel = await client.channel()
            waiting = {}
            replies = await channel.get_queue(REPLIES, ensure=False)

            async def answered(message):
                waiting.pop(message.correlation_id).set_result(message.body)

            await replies.consume(answered, no_ack=True)

            async def call(body):
                key = str(uuid.uuid4())
                answer = waiting[key] = asyncio.get_running_loop().create_future()
                request = aio_pika.Message(body, correlation_id=key, reply_to=REPLIES)
                await channel.default_exchange.publish(request, queue_name)
                return await asyncio.wait_for(answer, 20)

            return await asyncio.gather(*(call(b"abc%03d" % number) for number in range(100)))

    assert asyncio.run(run()) == [(b"abc%03d" % number)[::-1] for number in range(100)]
