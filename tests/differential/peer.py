"""One connection of a script to one target: what it waits for, and the transcript of what came."""

import socket
import struct
import sys
import pathlib
import time
from dataclasses import dataclass

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "blackbox"))

import encoding
import wire

# The runner's own channel on each connection. No script uses it.
FENCE = 90
# The answer of this method comes from the channel itself, behind all it answered before.
PING = "access.request"
WAIT_SECONDS = 20
REPLY_TO = "amq.rabbitmq.reply-to."


class Stuck(Exception):
    """A target does not answer what it must."""


@dataclass(frozen=True)
class Wish:
    """What a consumer was made with."""

    queue: str = ""
    no_ack: bool = False
    prefetch: int = 0
    priority: int = 0


class Channel:
    """What the client knows of a channel."""

    def __init__(self):
        self.open = True
        self.last_tag, self.replies = 0, 0
        # Of methods under way: what their answers do not say.
        self.consuming, self.getting, self.declaring = {}, [], []
        # Consumers by tag, those that have ended too; and the limit of the next one.
        self.consumers, self.past = {}, {}
        self.prefetch, self.limit = 0, 0
        # Whether the consumers ever shared a limit.
        self.shared = False
        self.counts = {}
        # What was delivered and not settled: (consumer, how manieth) to delivery tag.
        self.unacked = {}
        self.settled = []
        self.transactional, self.in_tx = False, {}
        self.confirming, self.published = False, 0
        self.unconfirmed = set()
        self.content = None

    def end_consumer(self, tag):
        """The consumer gets nothing any more."""
        if tag in self.consumers:
            self.past[tag] = self.consumers.pop(tag)

    def held(self):
        """How much the consumers hold together, what was got apart."""
        return sum(name != "get" for name, _ in self.unacked)

    def wish(self, tag):
        """What a consumer was made with, the latest of this tag."""
        return self.consumers.get(tag) or self.past.get(tag) or Wish()


class Peer:
    """A connection. Everything that arrives is told to `record(channel, kind, text)`; `plain` takes
    what a server made up out of a name."""

    def __init__(self, broker, record, plain=str, frame_max=131072, **handshake):
        self.record, self.plain = record, plain
        self.channels = {}
        self.asked, self.states = [], {}
        self.pings = {}
        # Channels (0: the connection) the client closes; those it opens again in the same breath.
        self.closing, self.reopening, self.committing = set(), set(), set()
        self.ended = None
        self.eof = False
        self.frame_max = frame_max
        opened = wire.Wire(broker, seconds=WAIT_SECONDS).opened(frame_max=frame_max, **handshake)
        opened.call(FENCE, encoding.CLASSES["channel.open"](), encoding.CLASSES["channel.open-ok"])
        self.socket, self.splitter = opened.socket, encoding.Splitter()
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        assert not opened.pending

    # Sending -----------------------------------------------------------------------------------

    def write(self, data):
        """Sends bytes. What a closed socket refuses is lost, as it would be a moment later; what
        the broker said before is read on."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            self.ended = self.ended or "broken"
            self.forget()

    def open(self, number):
        """Opens a channel the script uses without saying so."""
        self.write(encoding.method(number, "channel.open", {}))
        self.wait(lambda: self.eof or self.ended or self.is_open(number))

    def is_open(self, number):
        """Whether a script may use this channel."""
        return number in self.channels and self.channels[number].open

    def ping(self, *numbers):
        """Bytes that make each channel answer."""
        for number in numbers:
            self.pings[number] = self.pings.get(number, 0) + 1
        return b"".join(encoding.method(number, PING, {}) for number in numbers)

    def ask(self, queues):
        """Bytes that make these queues answer."""
        self.asked = [*self.asked, *queues]
        return b"".join(map(passive, queues))

    def drop(self, reset):
        """Closes the socket without a word."""
        if reset:
            linger = struct.pack("ii", 1, 0)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.finish()

    def close(self):
        """Closes the connection in good order."""
        if not self.eof:
            self.write(encoding.method(0, "connection.close", {
                "reply_code": 200, "reply_text": "", "class_id": 0, "method_id": 0}))
            self.wait(lambda: self.eof)
        self.socket.close()

    def finish(self):
        """Nothing more comes."""
        self.eof = True
        self.socket.close()
        self.forget()

    def forget(self):
        """Nothing is waited for any more, except the end."""
        self.pings.clear()
        self.asked.clear()
        self.closing.clear()
        self.committing.clear()
        for channel in self.channels.values():
            channel.open = False
            channel.unconfirmed.clear()

    # Receiving ---------------------------------------------------------------------------------

    def idle(self):
        """Whether everything asked for has come."""
        waits = self.pings or self.asked or self.closing or self.committing
        return self.eof or not (self.ended or waits)

    def confirmed(self):
        """Whether every publish is confirmed."""
        return self.eof or not any(channel.unconfirmed for channel in self.channels.values())

    def wait(self, condition):
        """Reads until `condition()`."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                data = self.socket.recv(1 << 18)
            except (ConnectionResetError, BrokenPipeError):
                data = b""
            except TimeoutError:
                raise Stuck(self.missing()) from None
            self.feed(data)

    def feed(self, data):
        """Handles what the socket brought; nothing is its end."""
        if not data:
            if self.ended in (None, "broken"):
                self.record(0, "end", "eof")
            self.finish()
            return
        for kind, number, payload in self.splitter.frames(data):
            if number == FENCE:
                self.fence(payload)
            elif kind == encoding.METHOD:
                self.method(number, payload)
            elif kind != encoding.HEARTBEAT:
                self.content(kind, number, payload)

    def missing(self):
        """What did not come, for people."""
        unconfirmed = {n: sorted(c.unconfirmed) for n, c in self.channels.items()}
        return (f"no answer within {WAIT_SECONDS} s: pings {self.pings}, asked {self.asked}, "
                f"closing {self.closing}, ended {self.ended}, unconfirmed {unconfirmed}")

    def fence(self, payload):
        name, fields = encoding.decoded(payload)
        if name == "queue.declare-ok":
            queue = self.asked.pop(0)
            self.states[queue] = f"{fields['message_count']} ready, {fields['consumer_count']} c"
        elif name == "access.request-ok":
            self.pong(FENCE)
        elif name == "channel.close":
            # The first that was asked is not there, or not ours; the rest is asked again.
            gone = self.asked.pop(0)
            self.states[gone] = "gone" if fields["reply_code"] == 404 else "locked"
            again = encoding.method(FENCE, "channel.close-ok", {})
            again += encoding.method(FENCE, "channel.open", {})
            again += b"".join(map(passive, self.asked))
            pings = self.pings.pop(FENCE, 0)
            self.write(again + b"".join(self.ping(FENCE) for _ in range(pings)))

    def pong(self, number):
        left = self.pings.get(number, 0) - 1
        if left > 0:
            self.pings[number] = left
        else:
            self.pings.pop(number, None)

    def method(self, number, payload):
        name, fields = encoding.decoded(payload)
        if number == 0:
            self.connection_method(name, fields)
            return
        handler = HANDLERS.get(name)
        channel = self.channels.get(number)
        if name == "channel.open-ok":
            self.channels[number] = Channel()
            self.reopening.discard(number)
        elif channel is None:
            self.record(number, "reply", f"!{name} on a channel that was never open")
        if handler:
            handler(self, number, channel, fields)
        else:
            self.record(number, "reply", encoding.line(name, fields))

    def connection_method(self, name, fields):
        if name == "connection.close":
            self.record(0, "end", closed(name, fields))
            self.ended = name
            self.forget()
            self.write(encoding.method(0, "connection.close-ok", {}))
        elif name == "connection.close-ok":
            # Who asked for the close closes the socket; brokers wait for that.
            self.record(0, "end", name)
            self.finish()
        else:
            self.record(0, "reply", encoding.line(name, fields))

    # Methods on channels -----------------------------------------------------------------------

    def on_pong(self, number, channel, fields):
        self.record(number, "pong", encoding.line("access.request-ok", fields))
        self.pong(number)

    def on_close(self, number, channel, fields):
        text = closed("channel.close", fields)
        # RabbitMQ looks for a channel's last queue before it looks whether it ignores the method:
        # so it may close a channel again that it has closed already.
        if not channel.open and "NOT_FOUND - no previously declared queue" in text:
            return
        self.record(number, "closed", text)
        self.write(encoding.method(number, "channel.close-ok", {}))
        self.gone(number)
        self.pings.pop(number, None)

    def on_close_ok(self, number, channel, fields):
        self.record(number, "closed", "channel.close-ok")
        self.gone(number)
        if number not in self.reopening:
            self.pings.pop(number, None)

    def gone(self, number):
        channel = self.channels[number]
        channel.open = False
        channel.unconfirmed.clear()
        channel.unacked.clear()
        channel.consumers.clear()
        self.closing.discard(number)
        self.committing.discard(number)

    def on_consume_ok(self, number, channel, fields):
        tag = fields["consumer_tag"]
        channel.consumers[tag] = channel.consuming.pop(tag if tag in channel.consuming else "")
        self.record(number, f"consumer {tag}", "basic.consume-ok")

    def on_cancel_ok(self, number, channel, fields):
        tag = fields["consumer_tag"]
        channel.end_consumer(tag)
        self.record(number, f"consumer {tag}", "basic.cancel-ok")

    def on_cancel(self, number, channel, fields):
        channel.end_consumer(fields["consumer_tag"])
        self.record(number, "cancelled", encoding.line("basic.cancel", fields))

    def on_declare_ok(self, number, channel, fields):
        exclusive = channel.declaring.pop(0) if channel.declaring else False
        self.record(number, "declared", (fields["queue"], exclusive))
        self.record(number, "reply", encoding.line("queue.declare-ok", fields))

    def on_get_empty(self, number, channel, fields):
        channel.getting[:1] = []
        self.record(number, "reply", encoding.line("basic.get-empty", fields))

    def on_commit_ok(self, number, channel, fields):
        self.committing.discard(number)
        self.record(number, "reply", "tx.commit-ok")

    def on_recover_ok(self, number, channel, fields):
        self.record(number, "reply", "basic.recover-ok")

    def on_ack(self, number, channel, fields, name="basic.ack"):
        tag, multiple = fields["delivery_tag"], fields["multiple"]
        told = {each for each in channel.unconfirmed if each == tag or multiple and each <= tag}
        channel.unconfirmed -= told
        if not told:
            self.record(number, "confirmed", f"!{name} of {tag}, which is not due")
        for each in sorted(told):
            self.record(number, "confirmed", f"{name} {each}")

    def on_nack(self, number, channel, fields):
        self.on_ack(number, channel, fields, "basic.nack")

    def on_content(self, number, channel, fields, name):
        channel.content = [name, fields, None, []]

    # Contents ----------------------------------------------------------------------------------

    def content(self, kind, number, payload):
        channel = self.channels[number]
        if len(payload) + 8 > self.frame_max:
            self.record(number, "reply", f"!a frame of {len(payload) + 8} bytes")
        if kind == encoding.HEADER:
            channel.content[2] = payload
        else:
            channel.content[3].append(payload)
        (size,) = struct.unpack_from(">Q", channel.content[2], 4)
        data = b"".join(channel.content[3])
        if len(data) >= size:
            name, fields, header, _ = channel.content
            channel.content = None
            self.whole(number, channel, name, fields, encoding.content_line(header, data))

    def whole(self, number, channel, name, fields, content):
        if name == "basic.return":
            self.record(number, "reply", f"{encoding.line(name, fields)} {content}")
            return
        tag = fields["delivery_tag"]
        # Direct replies count as deliveries since 4.2; before, the next delivery has their tag.
        if not channel.last_tag < tag <= channel.last_tag + channel.replies + 1:
            self.record(number, "reply", f"!delivery tag {tag} after {channel.last_tag}")
        if fields.get("routing_key", "").startswith(REPLY_TO):
            channel.replies += 1
        else:
            channel.last_tag, channel.replies = tag, 0
        text = f"{encoding.line(name, fields, ('delivery_tag', 'consumer_tag'))} {content}"
        if name == "basic.get-ok":
            self.delivered(channel, "get", tag, channel.getting.pop(0))
            self.record(number, "reply", text)
            return
        consumer = fields["consumer_tag"]
        if consumer not in channel.consumers:
            text = f"!not consuming: {text}"
        wish = channel.wish(consumer)
        held = self.delivered(channel, consumer, tag, wish.no_ack)
        if wish.prefetch and held > wish.prefetch:
            text = f"!{held} of {wish.prefetch}: {text}"
        if channel.limit and not wish.no_ack and channel.limit < channel.held():
            text = f"!{channel.held()} of {channel.limit} for all: {text}"
        text = f"from {wish.queue}, priority {wish.priority}: {text}"
        self.record(number, f"deliver {consumer}", text)

    def delivered(self, channel, consumer, tag, no_ack):
        """Counts a delivery; how many its consumer holds now."""
        consumer = self.plain(consumer)
        count = channel.counts[consumer] = channel.counts.get(consumer, 0) + 1
        if not no_ack:
            channel.unacked[consumer, count] = tag
        return sum(name == consumer for name, _ in channel.unacked)


def passive(queue):
    """Asks a queue on the runner's channel."""
    return encoding.method(FENCE, "queue.declare", {"queue": queue, "passive": True})


def closed(name, fields):
    """A close as a line."""
    ids = f"({fields['class_id']}, {fields['method_id']})"
    return f"{name} {fields['reply_code']} {fields['reply_text']} {ids}"


def content_of(name):
    """The handler of a method that has a content."""
    return lambda peer, number, channel, fields: peer.on_content(number, channel, fields, name)


HANDLERS = {
    "access.request-ok": Peer.on_pong,
    "channel.close": Peer.on_close,
    "channel.close-ok": Peer.on_close_ok,
    "basic.consume-ok": Peer.on_consume_ok,
    "basic.cancel-ok": Peer.on_cancel_ok,
    "basic.cancel": Peer.on_cancel,
    "basic.get-empty": Peer.on_get_empty,
    "tx.commit-ok": Peer.on_commit_ok,
    "basic.recover-ok": Peer.on_recover_ok,
    "basic.ack": Peer.on_ack,
    "basic.nack": Peer.on_nack,
    "queue.declare-ok": Peer.on_declare_ok,
    "basic.deliver": content_of("basic.deliver"),
    "basic.get-ok": content_of("basic.get-ok"),
    "basic.return": content_of("basic.return"),
}
