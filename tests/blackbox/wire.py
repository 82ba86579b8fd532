"""A client that says exactly the frames a test wants, right or wrong, over a plain socket."""

import socket
import time

import pika
from pika import frame, spec

HEADER = b"AMQP\x00\x00\x09\x01"
CAPABILITIES = {
    "publisher_confirms": True, "basic.nack": True, "consumer_cancel_notify": True,
    "authentication_failure_close": True, "connection.blocked": True}


class Wire:
    """One connection. `opened` goes through the handshake, `started` stops before tune-ok."""

    def __init__(self, broker, capabilities=CAPABILITIES, seconds=15):
        self.broker = broker
        self.capabilities = capabilities
        self.pending = b""
        self.socket = socket.create_connection((broker.host, broker.port), timeout=seconds)
        # A method that has no answer would keep the next one back for a delayed TCP ACK.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.largest = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def write(self, data):
        """Sends bytes as they are."""
        self.socket.sendall(data)

    def send(self, channel, *methods):
        """Sends methods on a channel in one write."""
        self.write(b"".join(frame.Method(channel, method).marshal() for method in methods))

    def read(self):
        """The next frame, or None when the broker has closed the socket."""
        while True:
            used, value = frame.decode_frame(self.pending)
            if value is not None:
                self.largest = max(self.largest, used)
                self.pending = self.pending[used:]
                return value
            if not self._fill():
                return None

    def _fill(self):
        try:
            data = self.socket.recv(1 << 18)
        except ConnectionResetError:
            return False
        self.pending += data
        return bool(data)

    def next(self):
        """The next frame that is not a heartbeat; None at the end."""
        while True:
            value = self.read()
            if not isinstance(value, frame.Heartbeat):
                return value

    def expect(self, kind, channel=None):
        """The next method, which must be of this kind."""
        value = self.next()
        assert isinstance(value, frame.Method), f"{kind.NAME} expected, got {value}"
        assert isinstance(value.method, kind), f"{kind.NAME} expected, got {value.method}"
        assert channel is None or value.channel_number == channel
        return value.method

    def call(self, channel, method, answer):
        """Sends a method and returns its answer."""
        self.send(channel, method)
        return self.expect(answer, channel)

    def reached(self, channel, queue):
        """Waits until the queue has everything this channel sent it: a broker may keep the two
        on different cores, and only an answer of the queue's own comes after them."""
        self.call(channel, spec.Queue.Declare(queue=queue, passive=True), spec.Queue.DeclareOk)

    def content(self):
        """The header's properties and the body that follow a deliver, get-ok or return."""
        header = self.next()
        assert isinstance(header, frame.Header), header
        parts, size = [], 0
        while size < header.body_size:
            part = self.next()
            assert isinstance(part, frame.Body), part
            parts.append(part.fragment)
            size += len(part.fragment)
        assert size == header.body_size
        return header.properties, b"".join(parts)

    def until_closed(self):
        """Everything else the broker sends before it closes the socket."""
        frames = []
        while (value := self.next()) is not None:
            frames.append(value)
        return frames

    def refused(self, code, text):
        """The broker closes the connection with this code and text, then the socket."""
        close = self.expect(spec.Connection.Close, 0)
        assert close.reply_code == code
        matches = text(close.reply_text) if callable(text) else close.reply_text == text
        assert matches, close.reply_text
        self.send(0, spec.Connection.CloseOk())
        assert self.until_closed() == []
        return close

    def seconds_until_closed(self):
        """How long the broker keeps this socket although it hears nothing."""
        begin = time.monotonic()
        self.until_closed()
        return time.monotonic() - begin

    def started(self, user=None, password=None, mechanism="PLAIN", response=None):
        """Protocol header and start-ok."""
        self.write(HEADER)
        start = self.expect(spec.Connection.Start, 0)
        user, password = user or self.broker.user, password or self.broker.password
        if response is None:
            response = f"\0{user}\0{password}"
        client = {"product": "wire", "capabilities": self.capabilities}
        self.send(0, spec.Connection.StartOk(client, mechanism, response, "en_US"))
        return start

    def tuned(self, channel_max=2047, frame_max=131072, heartbeat=0):
        """As far as tune-ok; returns the broker's tune."""
        self.started()
        tune = self.expect(spec.Connection.Tune, 0)
        self.send(0, spec.Connection.TuneOk(channel_max, frame_max, heartbeat))
        return tune

    def opened(self, vhost="/", channels=1, **tune):
        """The whole handshake, and this many open channels."""
        self.tuned(**tune)
        self.call(0, spec.Connection.Open(vhost), spec.Connection.OpenOk)
        for channel in range(1, channels + 1):
            self.call(channel, spec.Channel.Open(), spec.Channel.OpenOk)
        return self


def message(channel, exchange, key, body, frame_max=131072, mandatory=False, **properties):
    """The frames of one publish."""
    method = spec.Basic.Publish(exchange=exchange, routing_key=key, mandatory=mandatory)
    parts = [frame.Method(channel, method).marshal()]
    parts.append(header(channel, len(body), **properties))
    room = frame_max - 8
    for start in range(0, len(body), room):
        parts.append(frame.Body(channel, body[start:start + room]).marshal())
    return b"".join(parts)


def header(channel, size, **properties):
    """A content header that announces `size` bytes."""
    return frame.Header(channel, size, pika.BasicProperties(**properties)).marshal()


def raw_frame(kind, channel, payload, end=0xCE):
    """A frame of any type, payload and end byte."""
    head = bytes([kind]) + channel.to_bytes(2, "big") + len(payload).to_bytes(4, "big")
    return head + payload + bytes([end])
