"""One method, or one moment, that concerns all messages of a queue, a channel or a transaction."""

import time

from pika import spec

import wire

from .attacker import attack


@attack()
def nack_requeue(client, scaled):
    """One nack puts a million messages back."""
    client.hold_new("q", scaled(1_000_000))
    client.send(1, spec.Basic.Cancel("holds-q", nowait=True))
    yield
    client.send(1, spec.Basic.Nack(0, multiple=True, requeue=True))
    client.reached(1, "q")


@attack()
def ack_multiple(client, scaled):
    """One ack settles a million messages."""
    client.hold_new("q", scaled(1_000_000))
    yield
    client.send(1, spec.Basic.Ack(0, multiple=True))
    client.reached(1, "q")


@attack()
def channel_end(client, scaled):
    """A channel ends that holds a million messages."""
    many = scaled(1_000_000)
    client.declare("q")
    client.send(2, spec.Channel.Open())
    client.expect(spec.Channel.OpenOk)
    client.fill("q", many)
    client.hold("q", many, channel=2)
    yield
    client.call(2, spec.Channel.Close(200, "", 0, 0), spec.Channel.CloseOk)


@attack()
def purge(client, scaled):
    """A purge of a million messages."""
    client.declare("q")
    client.fill("q", scaled(1_000_000))
    yield
    client.call(1, spec.Queue.Purge(queue="q"), spec.Queue.PurgeOk)


@attack()
def delete_full(client, scaled):
    """The end of a queue with a million messages."""
    client.declare("q")
    client.fill("q", scaled(1_000_000))
    yield
    client.call(1, spec.Queue.Delete(queue="q"), spec.Queue.DeleteOk)


def hold_publishes(client, scaled):
    """A transaction holds 100,000 publishes."""
    client.declare("q")
    client.call(1, spec.Tx.Select(), spec.Tx.SelectOk)
    client.write(wire.message(1, "", "q", b"") * scaled(100_000))
    client.over()


@attack()
def commit(client, scaled):
    """A commit of 100,000 publishes."""
    hold_publishes(client, scaled)
    yield
    client.call(1, spec.Tx.Commit(), spec.Tx.CommitOk)


@attack()
def rollback(client, scaled):
    """A rollback of 100,000 publishes."""
    hold_publishes(client, scaled)
    yield
    client.call(1, spec.Tx.Rollback(), spec.Tx.RollbackOk)


@attack()
def recover_in_a_transaction(client, scaled):
    """Settles of 200,000 messages that are put back one by one."""
    many = scaled(200_000)
    client.declare("q")
    client.fill("q", many)
    client.call(1, spec.Tx.Select(), spec.Tx.SelectOk)
    client.hold("q", many)
    client.send(1, spec.Basic.Cancel("holds-q", nowait=True), spec.Basic.Ack(1))
    yield
    client.call(1, spec.Basic.Recover(requeue=True), spec.Basic.RecoverOk)
    client.reached(1, "q")


@attack()
def dead_letters(client, scaled):
    """200,000 messages are rejected at once and go to another queue."""
    many = scaled(200_000)
    client.declare("dead")
    client.hold_new("q", many, arguments={
        "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
    yield
    client.send(1, spec.Basic.Nack(0, multiple=True, requeue=False))
    client.reached(1, "dead")
    client.until("dead", lambda there: there >= many)


@attack()
def expire_at_once(client, scaled):
    """300,000 messages expire at the same moment, and go to another queue."""
    many = scaled(300_000)
    client.declare("dead")
    client.declare("q", arguments={
        "x-message-ttl": scaled(15_000), "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "dead"})
    client.fill("q", many)
    yield
    client.until("dead", lambda there: there >= many)


@attack()
def expire_in_many_queues(client, scaled):
    """3,000 messages in each of 200 queues expire at the same moment."""
    names = client.fan_out(200)
    end = time.monotonic() + scaled(10_000) / 1000
    for _ in range(0, scaled(3000), 20):
        left = str(int((end - time.monotonic()) * 1000))
        client.write(wire.message(1, "amq.fanout", "", b"", expiration=left) * 20)
    client.over()
    yield
    for name in names:
        client.until(name, lambda there: there == 0)
