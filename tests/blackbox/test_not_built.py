"""What is not built yet is refused by name, never ignored."""

import pytest

from support import closes_channel, expect

QUORUM = {"x-delivery-limit": 5, "x-dead-letter-strategy": "at-least-once"}


def refused(channel, queue, arguments, argument, why="not supported yet"):
    """The channel is closed for this argument, and no queue is made."""
    closes_channel(
        channel, lambda: channel.queue_declare(queue, durable=True, arguments=arguments), 406,
        f"PRECONDITION_FAILED - invalid arg '{argument}' for queue '{queue}' in vhost '/': {why}")
    fresh = channel.connection.channel()
    closes_channel(
        fresh, lambda: fresh.queue_declare(queue, passive=True),
        404, f"NOT_FOUND - no queue '{queue}' in vhost '/'")


@pytest.mark.row("Not built yet", "Arguments of queues")
@pytest.mark.parametrize("argument", QUORUM)
def test_arguments_of_other_queues(broker, channel, name, argument):
    queue, arguments = name(), {argument: QUORUM[argument]}
    why = " of queue type rabbit_classic_queue"
    closes_channel(
        channel, lambda: channel.queue_declare(queue, durable=True, arguments=arguments), 406,
        f"PRECONDITION_FAILED - invalid arg '{argument}' for queue '{queue}' in vhost '/'{why}")


@pytest.mark.row("Not built yet", "Quorum queues and streams")
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
