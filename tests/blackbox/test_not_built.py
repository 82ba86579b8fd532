"""What is not built yet is refused by name, never ignored."""

import pytest

from support import closes_channel, expect

CLASSIC = {
    "x-message-ttl": 1000, "x-expires": 60000, "x-dead-letter-exchange": "amq.fanout",
    "x-max-length": 10, "x-max-length-bytes": 1000, "x-overflow": "reject-publish",
    "x-max-priority": 5, "x-single-active-consumer": True}
QUORUM = {
    "x-delivery-limit": 5, "x-dead-letter-strategy": "at-least-once", "x-consumer-timeout": 60000}


@pytest.mark.row("Not there yet", "Arguments of queues")
@pytest.mark.parametrize("argument", CLASSIC)
def test_arguments_of_classic_queues(broker, channel, name, argument):
    queue, arguments = name(), {argument: CLASSIC[argument]}
    if expect(
            broker, why="not built yet in Ringtail: 406 `invalid arg '…': not supported yet`",
            ringtail=True, rabbitmq=False):
        refused(channel, queue, arguments, argument)
    else:
        channel.queue_declare(queue, exclusive=True, arguments=arguments)


def refused(channel, queue, arguments, argument, why="not supported yet"):
    """The channel is closed for this argument, and no queue is made."""
    closes_channel(
        channel, lambda: channel.queue_declare(queue, durable=True, arguments=arguments), 406,
        f"PRECONDITION_FAILED - invalid arg '{argument}' for queue '{queue}' in vhost '/': {why}")
    fresh = channel.connection.channel()
    closes_channel(
        fresh, lambda: fresh.queue_declare(queue, passive=True),
        404, f"NOT_FOUND - no queue '{queue}' in vhost '/'")


@pytest.mark.row("Not there yet", "Arguments of queues")
def test_a_dead_letter_routing_key(broker, channel, name):
    key = {"x-dead-letter-routing-key": "key"}
    why = expect(
        broker, why="not built yet in Ringtail: 406 `invalid arg '…': not supported yet`",
        ringtail="not supported yet", rabbitmq="routing_key_but_no_dlx_defined")
    refused(channel, name(), key, "x-dead-letter-routing-key", why)


@pytest.mark.row("Not there yet", "Arguments of queues")
@pytest.mark.parametrize("argument", QUORUM)
def test_arguments_of_other_queues(broker, channel, name, argument):
    queue, arguments = name(), {argument: QUORUM[argument]}
    if argument == "x-consumer-timeout" and expect(
            broker, why="3.10 does not know x-consumer-timeout yet and ignores it",
            ringtail=False, rabbitmq=True):
        channel.queue_declare(queue, exclusive=True, arguments=arguments)
        return
    why = expect(
        broker, why="RabbitMQ refuses arguments of quorum queues on classic ones in other words",
        ringtail=": not supported yet", rabbitmq=" of queue type rabbit_classic_queue")
    closes_channel(
        channel, lambda: channel.queue_declare(queue, durable=True, arguments=arguments), 406,
        f"PRECONDITION_FAILED - invalid arg '{argument}' for queue '{queue}' in vhost '/'{why}")


@pytest.mark.row("Not there yet", "Quorum queues and streams")
@pytest.mark.parametrize("kind", ["quorum", "stream"])
def test_types_of_queues(broker, channel, name, kind):
    queue, arguments = name(), {"x-queue-type": kind}
    if expect(
            broker, why="not built yet in Ringtail: 406 `invalid arg 'x-queue-type' …: queue "
            "type 'quorum' is not supported yet`",
            ringtail=True, rabbitmq=False):
        refused(
            channel, queue, arguments, "x-queue-type", f"queue type '{kind}' is not supported yet")
    else:
        channel.queue_declare(queue, durable=True, arguments=arguments)
        channel.queue_delete(queue)


@pytest.mark.row("Not there yet", "x-consumer-timeout")
def test_a_timeout_of_a_consumer(broker, channel, shared):
    arguments = {"x-consumer-timeout": 60000}
    if expect(
            broker, why="3.10 does not know x-consumer-timeout yet and ignores it",
            ringtail=False, rabbitmq=True):
        channel.basic_consume(shared, lambda *_: None, arguments=arguments)
        return
    closes_channel(
        channel, lambda: channel.basic_consume(shared, lambda *_: None, arguments=arguments), 406,
        f"PRECONDITION_FAILED - invalid arg 'x-consumer-timeout' for queue '{shared}' in vhost "
        "'/': not supported yet")
