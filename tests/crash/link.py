"""A connection that never blocks, its frames packed by hand where they are many, and bodies."""

import pathlib
import random
import socket
import struct
import sys
import zlib

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "blackbox"), str(HERE.parent / "differential")]

import encoding
import wire

CHANNEL = 1
FRAME_MAX = 131072
SMALLEST = 16
TRANSIENT = 1 << 31
FILLER = random.Random(1).randbytes(1 << 19)
READ = 1 << 18
DELIVER, RETURN, ACK, NACK = (60, 60), (60, 50), (60, 80), (60, 120)


def body(publisher, number, size, persistent):
    """A body that tells who it is and shows whether it is whole."""
    size = max(size, SMALLEST)
    start = (publisher * 7919 + number * 31) % (1 << 17)
    filler = FILLER[start:start + size - SMALLEST]
    head = struct.pack(">III", publisher, number, size | (0 if persistent else TRANSIENT))
    return head + struct.pack(">I", zlib.crc32(filler, zlib.crc32(head))) + filler


def ident(data):
    """The ident of a body; None if it is not exactly one that `body` made."""
    if len(data) < SMALLEST:
        return None
    publisher, number, size, crc = struct.unpack_from(">IIII", data)
    whole = zlib.crc32(data[SMALLEST:], zlib.crc32(data[:12])) == crc
    if not whole or size & ~TRANSIENT != len(data):
        return None
    return publisher << 32 | number


def take(books, holder, tag, redelivered, data):
    """Enters a delivery into the books."""
    which = ident(data)
    if which is None:
        books.complain(f"{holder.queue} gave {len(data)} bytes that nobody published: "
                       f"{data[:64].hex()}")
    else:
        books.deliver(holder, tag, which, redelivered)


def short(text):
    """A short string."""
    return bytes([len(text)]) + text.encode()


def publish(exchange, key, data, persistent):
    """The frames of a publish."""
    method = b"\x00\x3c\x00\x28\x00\x00" + short(exchange) + short(key) + b"\x00"
    header = struct.pack(">HHQHB", 60, 0, len(data), 0x1000, 2 if persistent else 1)
    parts = [encoding.raw_frame(1, CHANNEL, method), encoding.raw_frame(2, CHANNEL, header)]
    for start in range(0, len(data), FRAME_MAX - 8):
        parts.append(encoding.raw_frame(3, CHANNEL, data[start:start + FRAME_MAX - 8]))
    return b"".join(parts)


def ack(tag, multiple=False):
    """The frame of an ack."""
    return encoding.raw_frame(1, CHANNEL, struct.pack(">HHQB", 60, 80, tag, multiple))


def nack(tag, multiple=False, requeue=True):
    """The frame of a nack."""
    bits = multiple | requeue << 1
    return encoding.raw_frame(1, CHANNEL, struct.pack(">HHQB", 60, 120, tag, bits))


def method(name, **arguments):
    """The frame of any other method."""
    return encoding.method(CHANNEL, name, arguments)


class Link:
    """A connection with one channel. `at_end` when the broker's side has ended; `ended` says how
    the broker closed it, if it did so in words."""

    def __init__(self, broker):
        opened = wire.Wire(broker, seconds=30).opened(channels=1, frame_max=FRAME_MAX)
        self.socket = opened.socket
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.splitter = encoding.Splitter()
        self.splitter.rest = opened.pending
        self.content = None
        self.out = bytearray()
        self.at_end, self.ended = False, None

    def send(self, data):
        """Puts bytes behind those that wait."""
        self.out += data

    def flush(self):
        """Writes what the socket takes."""
        try:
            while self.out:
                del self.out[:self.socket.send(memoryview(self.out)[:READ])]
        except BlockingIOError:
            pass
        except OSError:
            # What the broker said before is still read.
            self.out.clear()

    def close(self):
        """Closes the socket without a word."""
        self.at_end = True
        self.socket.close()

    def read(self):
        """What came: `(name, fields)` or, with a content, `("deliver", tag, redelivered, body)`,
        `("return", body)`, `("ack", tag, multiple)` and `("nack", tag, multiple)`."""
        try:
            data = self.socket.recv(READ)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self.at_end = True
            return []
        return list(self._events(data))

    def _events(self, data):
        for kind, channel, payload in self.splitter.frames(data):
            if kind == encoding.METHOD:
                event = self._method(channel, payload)
            else:
                event = self._content(kind, payload)
            if event:
                yield event

    def _method(self, channel, payload):
        index = struct.unpack_from(">HH", payload)
        if index in (ACK, NACK):
            tag, bits = struct.unpack_from(">QB", payload, 4)
            return ("ack" if index == ACK else "nack", tag, bool(bits & 1))
        if index == DELIVER:
            tag, redelivered = struct.unpack_from(">QB", payload, 5 + payload[4])
            self.content = [("deliver", tag, bool(redelivered)), None, []]
            return None
        if index == RETURN:
            self.content = [("return",), None, []]
            return None
        name, fields = encoding.decoded(payload)
        if name == "connection.close":
            self.ended = f"{fields['reply_code']} {fields['reply_text']}"
            self.send(encoding.method(0, "connection.close-ok", {}))
            self.flush()
        elif name == "channel.close":
            self.send(method("channel.close-ok"))
        return (name, fields)

    def _content(self, kind, payload):
        if kind == encoding.HEARTBEAT:
            return None
        if kind == encoding.HEADER:
            self.content[1] = struct.unpack_from(">Q", payload, 4)[0]
        else:
            self.content[2].append(payload)
        what, size, parts = self.content
        if sum(map(len, parts)) < size:
            return None
        return (*what, b"".join(parts))
